//! Arithmetic of rows, in loops that the compiler turns into the processor's widest vectors.

use std::f32::consts::{FRAC_2_SQRT_PI, LOG2_E, SQRT_2};

/// Added to a float of less than 2^22 it leaves the nearest integer (ties to even) in the lower bits.
const ROUND: f32 = 12_582_912.0;
/// The integer that stands for zero.
const ZERO: u32 = 128;
/// The largest magnitude of an integer.
const LARGEST: f32 = 127.0;
/// Sums are taken side by side in as many lanes, which do not depend on the processor.
const LANES: usize = 16;

const GELU_SLOPE: f32 = FRAC_2_SQRT_PI * SQRT_2;
const GELU_CUBIC: f32 = 0.044_715;

vectorized! {
    /// Integers of a row; returns their scale.
    fn quantize(x: &[f32], integers: &mut [u8]) -> f32 {
        // the bits of positive floats are in the order of the floats
        let largest = x.iter().fold(0, |largest: u32, x| largest.max(x.abs().to_bits()));
        let largest = f32::from_bits(largest);
        if largest == 0.0 {
            integers.fill(ZERO as u8);
            return 1.0;
        }
        let inverse = LARGEST / largest;
        for (integer, x) in integers.iter_mut().zip(x) {
            let rounded = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits());
            *integer = rounded.wrapping_add(ZERO) as u8;
        }
        largest / LARGEST
    }

    /// x / sqrt(mean(x^2) + epsilon) * weight.
    fn norm(x: &[f32], weight: &[f32], epsilon: f32, scaled: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                lanes[lane] += block[lane] * block[lane];
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane += x * x;
        }
        let squares: f32 = lanes.iter().sum();
        let inverse = 1.0 / (squares / x.len() as f32 + epsilon).sqrt();
        for ((scaled, x), weight) in scaled.iter_mut().zip(x).zip(weight) {
            *scaled = x * inverse * weight;
        }
    }

    /// x + y.
    fn add(x: &[f32], y: &[f32], sum: &mut [f32]) {
        for ((sum, x), y) in sum.iter_mut().zip(x).zip(y) {
            *sum = x + y;
        }
    }

    /// integers * scale.
    fn to_floats(integers: &[i8], scale: f32, floats: &mut [f32]) {
        for (float, &integer) in floats.iter_mut().zip(integers) {
            *float = f32::from(integer) * scale;
        }
    }

    /// Floats of numbers in bf16.
    fn from_bf16(bits: &[u16], floats: &mut [f32]) {
        for (float, bits) in floats.iter_mut().zip(bits) {
            *float = f32::from_bits(u32::from(*bits) << 16);
        }
    }

    /// The nearest numbers of bf16, ties to even, in their place.
    fn round_to_bf16(x: &mut [f32]) {
        for x in x {
            *x = f32::from_bits(bf16_bits(*x) << 16);
        }
    }

    /// The same as bits of 16.
    fn to_bf16(x: &[f32], bits: &mut [u16]) {
        for (bits, x) in bits.iter_mut().zip(x) {
            *bits = bf16_bits(*x) as u16;
        }
    }

    /// Those of x in the lower halves, and those of y in the upper ones.
    fn pair_in_bf16(x: &[f32], y: &[f32], pairs: &mut [u32]) {
        for ((pair, x), y) in pairs.iter_mut().zip(x).zip(y) {
            *pair = bf16_bits(*x) | (bf16_bits(*y) << 16);
        }
    }

    /// gelu(gate) * wide, in the place of the gate.
    fn gated_gelu(gate: &mut [f32], wide: &[f32]) {
        for (gate, wide) in gate.iter_mut().zip(wide) {
            *gate = gelu(*gate) * wide;
        }
    }

    /// Softmax of a row, in its place.
    fn plain_softmax(p: &mut [f32]) {
        softmax_of(p);
    }

    /// Softmax of scores + position, in the place of the scores.
    fn softmax_in_place(p: &mut [f32], position: &[f32]) {
        let inverse = biased_exponentials(p, position);
        for p in p {
            *p *= inverse;
        }
    }

    /// The same in bf16, in another place.
    fn softmax_to_bf16(scores: &mut [f32], position: &[f32], bits: &mut [u16]) {
        let inverse = biased_exponentials(scores, position);
        for (bits, p) in bits.iter_mut().zip(scores) {
            *bits = bf16_bits(*p * inverse) as u16;
        }
    }

    /// The product of x with each row of as many elements.
    fn dot_each(x: &[f32], rows: &[f32], products: &mut [f32]) {
        for (product, row) in products.iter_mut().zip(rows.chunks(x.len())) {
            let mut lanes = [0.0; LANES];
            let ((x_blocks, x_rest), (blocks, rest)) = (x.as_chunks::<LANES>(), row.as_chunks::<LANES>());
            for (x, y) in x_blocks.iter().zip(blocks) {
                for lane in 0..LANES {
                    lanes[lane] += x[lane] * y[lane];
                }
            }
            for (lane, (x, y)) in lanes.iter_mut().zip(x_rest.iter().zip(rest)) {
                *lane += x * y;
            }
            *product = lanes.iter().sum();
        }
    }

    /// Adds each row, as wide as the sum, times its factor.
    fn add_each(factors: &[f32], rows: &[f32], sum: &mut [f32]) {
        for (factor, row) in factors.iter().zip(rows.chunks(sum.len())) {
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += factor * x;
            }
        }
    }

    /// The index of the largest number, the first of equal ones.
    fn largest(x: &[f32]) -> usize {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
            }
        }
        let highest = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        x.iter().position(|&x| x == highest).unwrap_or(0)
    }

    /// Softmax of scores + position + hidden, where `hidden` may be empty.
    fn softmax(scores: &[f32], position: &[f32], hidden: &[f32], p: &mut [f32]) {
        for ((p, score), position) in p.iter_mut().zip(scores).zip(position) {
            *p = score + position;
        }
        for (p, hidden) in p.iter_mut().zip(hidden) {
            *p += hidden;
        }
        softmax_of(p);
    }
}

/// Softmax of a row, in its place.
#[inline(always)]
fn softmax_of(p: &mut [f32]) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = p.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    let highest = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    let inverse = 1.0 / exponentials(p, highest);
    for p in p {
        *p *= inverse;
    }
}

/// e^(p + position - the highest of them) in the place of p; returns 1 / their sum.
#[inline(always)]
fn biased_exponentials(p: &mut [f32], position: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let ((blocks, rest), (positions, of_rest)) = (p.as_chunks_mut::<LANES>(), position.as_chunks::<LANES>());
    for (block, position) in blocks.iter_mut().zip(positions) {
        for lane in 0..LANES {
            block[lane] += position[lane];
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    for (p, position) in rest.iter_mut().zip(of_rest) {
        *p += position;
    }
    let highest = lanes.iter().chain(&*rest).copied().fold(f32::NEG_INFINITY, f32::max);
    1.0 / exponentials(p, highest)
}

/// e^(p - highest) in the place of p; returns their sum.
#[inline(always)]
fn exponentials(p: &mut [f32], highest: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = p.as_chunks_mut::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            block[lane] = exp(block[lane] - highest);
            lanes[lane] += block[lane];
        }
    }
    for (lane, p) in lanes.iter_mut().zip(rest) {
        *p = exp(*p - highest);
        *lane += *p;
    }
    lanes.iter().sum()
}

/// The bits of the nearest number of bf16, ties to even.
#[inline(always)]
fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16
}

/// x times the logistic function of its cubic: the tanh form of GELU.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    x / (1.0 + exp(-GELU_SLOPE * x * (1.0 + GELU_CUBIC * x * x)))
}

/// e^x to two units in the last place, after Cephes; 0 and infinity are not reached. What is divided by a sum of some
/// thousand exponentials is no subnormal number either, with which processors are slow.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // ln 2 in two parts, of which the first has few digits
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const TERMS: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let x = if x < -75.0 { -75.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let f = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let mut y = TERMS[0];
    for term in &TERMS[1..] {
        y = y * f + term;
    }
    let y = y * f * f + f + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all sizes, some of them at the edges.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + 11) % 101) as f32 / 7.0 - 7.0).collect()
    }

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for x in (-7500..=8800).map(|x| x as f32 / 100.0) {
            let apart = f64::from(exp(x)) / f64::from(x).exp() - 1.0;
            assert!(apart.abs() < 3e-7, "exp({x}) is {apart:e} away");
        }
    }

    #[test]
    fn every_integer_is_the_nearest_one_and_the_largest_magnitude_is_127() {
        for count in [1, 15, 16, 17, 100] {
            let x = numbers(count);
            let mut integers = vec![0; count];
            let scale = quantize(&x, &mut integers);
            assert!(integers.iter().any(|&integer| integer == 255 || integer == 1), "{integers:?}");
            for (x, &integer) in x.iter().zip(&integers) {
                let back = scale * (f32::from(integer) - 128.0);
                assert!((x - back).abs() <= 0.501 * scale, "{x} became {back}");
            }
        }
        let mut integers = [0; 3];
        assert_eq!(quantize(&[0.0; 3], &mut integers), 1.0);
        assert_eq!(integers, [128; 3]);
    }

    #[test]
    fn numbers_of_bf16_are_the_nearest_ones() {
        let ties = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -1.0 - 1.0 / 256.0];
        let x: Vec<f32> =
            [0.0, -0.0, 1.0, f32::INFINITY, 3e38, 1e-39].into_iter().chain(ties).chain(numbers(40)).collect();
        let mut rounded = x.clone();
        round_to_bf16(&mut rounded);
        assert_eq!(rounded[6..9], [1.0, 1.0 + 4.0 / 256.0, -1.0], "ties to even");
        for (x, rounded) in x.iter().zip(&rounded) {
            let both = (x.to_bits() & 0xffff_0000, (x.to_bits() & 0xffff_0000) + 0x1_0000);
            let [down, up] = [both.0, both.1].map(f32::from_bits);
            let nearest = if (x - down).abs() <= (up - x).abs() { (x - down).abs() } else { (up - x).abs() };
            assert!((x - rounded).abs() <= nearest || x == rounded, "{x} became {rounded}");
        }
        let (mut bits, mut pairs) = (vec![0; x.len()], vec![0; x.len()]);
        to_bf16(&x, &mut bits);
        pair_in_bf16(&x, &vec![1.0; x.len()], &mut pairs);
        for ((rounded, bits), pair) in rounded.iter().zip(bits).zip(pairs) {
            assert_eq!(rounded.to_bits(), u32::from(bits) << 16);
            assert_eq!(pair, u32::from(bits) | 1.0_f32.to_bits());
        }
        let mut not = [f32::NAN];
        round_to_bf16(&mut not);
        assert!(not[0].is_nan());
    }

    #[test]
    fn products_and_sums_of_rows_are_those_of_their_elements() {
        for width in [1, 8, 16, 19, 64] {
            let (x, rows) = (numbers(width), numbers(3 * width + 5));
            let rows = &rows[5..];
            let mut products = [0.0; 3];
            dot_each(&x, rows, &mut products);
            let mut sum = vec![1.0; width];
            add_each(&[0.5, -2.0, 3.0], rows, &mut sum);
            for (row, product) in products.iter().enumerate() {
                let exact: f64 = (0..width).map(|i| f64::from(x[i]) * f64::from(rows[row * width + i])).sum();
                assert!((f64::from(*product) - exact).abs() < 1e-3, "row {row} of {width}");
            }
            for (i, sum) in sum.iter().enumerate() {
                let exact = 1.0 + 0.5 * rows[i] - 2.0 * rows[width + i] + 3.0 * rows[2 * width + i];
                assert!((sum - exact).abs() < 1e-4, "column {i} of {width}");
            }
        }
    }

    #[test]
    fn the_largest_number_is_the_first_of_equal_ones() {
        for count in [1, 15, 16, 40, 300] {
            let mut x = numbers(count);
            let want = (0..count).fold(0, |best, i| if x[i] > x[best] { i } else { best });
            assert_eq!(largest(&x), want);
            x[count - 1] = 1e3;
            assert_eq!(largest(&x), count - 1);
            x[count / 2] = 1e3;
            assert_eq!(largest(&x), count / 2);
        }
        assert_eq!(largest(&[f32::NAN; 3]), 0);
    }

    #[test]
    fn a_softmax_adds_up_to_one_and_hides_what_is_hidden() {
        for count in [1, 5, 16, 33] {
            let x = numbers(count + 2);
            let hidden: Vec<f32> = (0..count).map(|i| if i % 3 == 1 { -1e9 } else { 0.0 }).collect();
            let mut p = vec![0.0; count];
            softmax(&x[..count], &x[2..], &hidden, &mut p);
            let z = |i: usize| f64::from(x[i] + x[i + 2]).exp() * f64::from(u8::from(i % 3 != 1));
            let total: f64 = (0..count).map(z).sum();
            for (i, &p) in p.iter().enumerate() {
                assert!((f64::from(p) - z(i) / total).abs() < 1e-6, "{i} of {count}");
            }
            softmax(&x[..count], &x[2..], &[], &mut p);
            assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn a_gelu_is_the_tanh_form() {
        for x in (-120..=120).map(|x| x as f32 / 10.0) {
            let wide = f64::from(x);
            let tanh = ((2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3))).tanh();
            let want = 0.5 * wide * (1.0 + tanh);
            assert!((f64::from(gelu(x)) - want).abs() < 1e-6 * (1.0 + want.abs()), "gelu({x})");
        }
    }
}

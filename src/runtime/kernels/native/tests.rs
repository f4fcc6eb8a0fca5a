//! Whole products and attention, against their definitions.

use std::sync::Mutex;

use super::attention::{self, Biased, Numbers, SelfAttention};
use super::cross::{self, Absorbed, Stored};
use super::products::{
    Bf16Input, Bf16Weight, Floats, Int8Input, Int8Weight, Integers, Pairs, Weight, gated, product,
};
use super::tiles::{COLUMNS, DEPTH};
use crate::runtime::kernels::rows;

/// Pieces in another order than they are numbered in.
fn each(pieces: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..pieces).rev().for_each(work);
}

/// Numbers of both signs, others for each seed.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + seed * 1009) * 7919 + 11) % 2003) as f32 / 1000.0 - 1.0).collect()
}

fn weight(w: &[f32], [outputs, inner]: [usize; 2]) -> Weight {
    assert_eq!(w.len(), outputs * inner);
    Weight { data: w.as_ptr(), outputs, inner }
}

fn naive([rows, outputs, inner]: [usize; 3], x: &[f32], w: &[f32]) -> Vec<f32> {
    let of = |i: usize| (0..inner).map(|k| x[i / outputs * inner + k] * w[i % outputs * inner + k]).sum();
    (0..rows * outputs).map(of).collect()
}

fn gelu(x: f32) -> f32 {
    let tanh = (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh();
    0.5 * x * (1.0 + tanh)
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 1e-3 * (1.0 + want.abs()), "{what}, {i}: {got} for {want}");
    }
}

/// The last ones are for tiles of the processor's own, where it has them.
const SIZES: [[usize; 3]; 9] = [
    [1, 7, 5],
    [13, 33, 40],
    [50, 70, 20],
    [130, 64, 48],
    [260, 45, 33],
    [3, 96, 64],
    [16, 70, 128],
    [79, 33, 192],
    [300, 64, 64],
];

#[test]
fn products_lie_side_by_side() {
    for [rows, outputs, inner] in SIZES {
        let x = numbers(rows * inner, 1);
        let weights = [2, 3, 4].map(|seed| numbers(outputs * inner, seed));
        let wants = weights.each_ref().map(|w| naive([rows, outputs, inner], &x, w));
        let mut y = vec![0.0; 3 * rows * outputs];
        let all = weights.each_ref().map(|w| Floats::new(&x, weight(w, [outputs, inner])));
        product(&each, rows, &all, &mut y);
        for (row, y) in y.chunks(3 * outputs).enumerate() {
            for (y, want) in y.chunks(outputs).zip(&wants) {
                assert_close(y, &want[row * outputs..][..outputs], &format!("{rows} {outputs} {inner}"));
            }
        }
    }
}

#[test]
fn a_gate_multiplies_what_it_gates() {
    for [rows, outputs, inner] in SIZES {
        let x = numbers(rows * inner, 1);
        let [gate, wide] = [2, 3].map(|seed| numbers(outputs * inner, seed));
        let both = [&gate, &wide].map(|w| naive([rows, outputs, inner], &x, w));
        let want: Vec<f32> = both[0].iter().zip(&both[1]).map(|(&gate, wide)| gelu(gate) * wide).collect();
        let mut y = vec![0.0; rows * outputs];
        let [gate, wide] = [&gate, &wide].map(|w| Floats::new(&x, weight(w, [outputs, inner])));
        gated(&each, rows, [&gate, &wide], &mut y);
        assert_close(&y, &want, &format!("{rows} {outputs} {inner}"));
    }
}

/// A weight's integers in panels, their scales and zeros, and what they stand for.
fn integers(outputs: usize, inner: usize, seed: usize) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
    let blocks = inner.div_ceil(DEPTH);
    let mut panels = vec![0; outputs.div_ceil(COLUMNS) * blocks * COLUMNS * DEPTH];
    let mut scales = vec![0.0; 2 * outputs];
    let mut floats = vec![0.0; outputs * inner];
    for output in 0..outputs {
        scales[output] = 0.001 * (output % 7 + 1) as f32;
        for k in 0..inner {
            let x = ((output * 31 + k * 17 + seed) % 255) as i32 - 127;
            let at = (output / COLUMNS * blocks + k / DEPTH) * COLUMNS * DEPTH;
            panels[at + output % COLUMNS * DEPTH + k % DEPTH] = x as i8;
            scales[outputs + output] -= 128.0 * x as f32;
            floats[output * inner + k] = x as f32 * scales[output];
        }
    }
    (panels, scales, floats)
}

#[test]
fn products_of_integers_are_those_of_what_they_stand_for() {
    for [rows, outputs, inner] in SIZES {
        let width = inner.next_multiple_of(DEPTH);
        // what lies behind a row's own integers does not matter
        let values: Vec<u8> = (0..rows * width).map(|i| (i * 13 % 255 + 1) as u8).collect();
        let scales: Vec<f32> = (0..rows).map(|row| 0.01 * (row % 5 + 1) as f32).collect();
        let of = |i: usize| (f32::from(values[i / inner * width + i % inner]) - 128.0) * scales[i / inner];
        let floats: Vec<f32> = (0..rows * inner).map(of).collect();
        let x = Int8Input { values: &values, scales: &scales, width };
        let weights = [1, 2].map(|seed| integers(outputs, inner, seed));
        let wants = weights.each_ref().map(|(_, _, w)| naive([rows, outputs, inner], &floats, w));
        let weights =
            weights.each_ref().map(|(panels, scales, _)| Integers::new(x, Int8Weight { panels, scales }));
        let mut y = vec![0.0; 2 * rows * outputs];
        product(&each, rows, &weights, &mut y);
        for (row, y) in y.chunks(2 * outputs).enumerate() {
            for (y, want) in y.chunks(outputs).zip(&wants) {
                assert_close(y, &want[row * outputs..][..outputs], &format!("{rows} {outputs} {inner}"));
            }
        }
        let mut y = vec![0.0; rows * outputs];
        gated(&each, rows, weights.each_ref(), &mut y);
        let want: Vec<f32> = wants[0].iter().zip(&wants[1]).map(|(&gate, wide)| gelu(gate) * wide).collect();
        assert_close(&y, &want, &format!("gated {rows} {outputs} {inner}"));
    }
}

/// A weight in panels of bf16, and what it stands for.
fn halves(outputs: usize, inner: usize, seed: usize) -> (Vec<u16>, Vec<f32>) {
    let floats: Vec<f32> = numbers(outputs * inner, seed).into_iter().map(nearest_bf16).collect();
    let width = inner.next_multiple_of(2);
    let mut panels = vec![0; outputs.next_multiple_of(COLUMNS) * width];
    for (i, x) in floats.iter().enumerate() {
        let (output, k) = (i / inner, i % inner);
        let at = output / COLUMNS * COLUMNS * width + (k / 2 * COLUMNS + output % COLUMNS) * 2 + k % 2;
        panels[at] = (x.to_bits() >> 16) as u16;
    }
    (panels, floats)
}

#[test]
fn products_of_bf16_are_those_of_what_they_stand_for() {
    if !super::have_bf16() {
        eprintln!("this processor has no products of bf16");
        return;
    }
    for [rows, outputs, inner] in SIZES {
        let width = inner.next_multiple_of(2);
        let floats: Vec<f32> = numbers(rows * inner, 9).into_iter().map(nearest_bf16).collect();
        let mut values = vec![0; rows * width];
        for (values, floats) in values.chunks_mut(width).zip(floats.chunks(inner)) {
            rows::to_bf16(floats, &mut values[..inner]);
        }
        let x = Bf16Input { values: &values, rows, width };
        let weights = [1, 2].map(|seed| halves(outputs, inner, seed));
        let wants = weights.each_ref().map(|(_, w)| naive([rows, outputs, inner], &floats, w));
        let weights = weights.each_ref().map(|(panels, _)| Pairs::new(x, Bf16Weight { panels, outputs }));
        let mut y = vec![0.0; 2 * rows * outputs];
        product(&each, rows, &weights, &mut y);
        for (row, y) in y.chunks(2 * outputs).enumerate() {
            for (y, want) in y.chunks(outputs).zip(&wants) {
                assert_close(y, &want[row * outputs..][..outputs], &format!("{rows} {outputs} {inner}"));
            }
        }
        let mut y = vec![0.0; rows * outputs];
        gated(&each, rows, weights.each_ref(), &mut y);
        let want: Vec<f32> = wants[0].iter().zip(&wants[1]).map(|(&gate, wide)| gelu(gate) * wide).collect();
        assert_close(&y, &want, &format!("gated {rows} {outputs} {inner}"));
    }
}

/// softmax(q k' + bias) v of a head, where a matrix is given by its rows.
fn attention_of(q: &[f32], keys: &[&[f32]], bias: impl Fn(usize) -> f32, values: &[&[f32]]) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let scores: Vec<f64> = (0..keys.len()).map(|k| f64::from(dot(q, keys[k]) + bias(k))).collect();
    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
    let p: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let total: f64 = p.iter().sum();
    let mean = |i: usize| p.iter().zip(values).map(|(p, v)| p / total * f64::from(v[i])).sum::<f64>() as f32;
    (0..values[0].len()).map(mean).collect()
}

const EXAMPLES: [(&[usize], usize, usize); 3] = [(&[5, 40, 1, 33], 3, 8), (&[70], 2, 64), (&[12, 13], 2, 20)];

fn starts(lengths: &[usize]) -> Vec<i64> {
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length as i64;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// The nearest number of bf16: seven binary digits behind the first.
fn nearest_bf16(x: f32) -> f32 {
    let digit = x.abs().log2().floor().max(-100.0).exp2() / 128.0;
    (x / digit).round_ties_even() * digit
}

#[test]
fn examples_of_a_packed_batch_attend_to_themselves_alone() {
    for ((lengths, heads, d), numbers_are) in EXAMPLES
        .into_iter()
        .flat_map(|example| [Numbers::F32, Numbers::Bf16].map(|numbers| (example, numbers)))
    {
        let (starts, inner, far) = (starts(lengths), heads * d, 7);
        let rows: usize = lengths.iter().sum();
        let (qkv, position) = (numbers(rows * 3 * inner, 1), numbers(heads * (2 * far + 1), 2));
        let mut y = vec![0.0; rows * inner];
        let of =
            SelfAttention { qkv: &qkv, starts: &starts, position: &position, heads, numbers: numbers_are };
        attention::attend(&each, of, &mut y);
        let (as_they_are, tolerance): (fn(f32) -> f32, f32) = match numbers_are {
            Numbers::F32 => (|x| x, 1e-3),
            // of the weights' own rounding
            Numbers::Bf16 => (nearest_bf16, 4e-3),
        };
        let qkv: Vec<f32> = qkv.into_iter().map(as_they_are).collect();
        for (&length, &first) in lengths.iter().zip(&starts) {
            for head in 0..heads {
                let part = |row: usize, part: usize| {
                    &qkv[(first as usize + row) * 3 * inner + part * inner + head * d..][..d]
                };
                let [keys, values] = [1, 2].map(|i| (0..length).map(|row| part(row, i)).collect::<Vec<_>>());
                for query in 0..length {
                    let bias = |key: usize| {
                        let distance = (key + far).saturating_sub(query).min(2 * far);
                        position[head * (2 * far + 1) + distance]
                    };
                    let want = attention_of(part(query, 0), &keys, bias, &values);
                    let at = (first as usize + query) * inner + head * d;
                    let what = format!("{numbers_are:?} {lengths:?} head {head}, {query}");
                    for (y, want) in y[at..at + d].iter().zip(want) {
                        assert!((y - want).abs() <= tolerance, "{what}: {y} for {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_bias_of_each_pair_is_added_to_its_score() {
    let (examples, length, heads, d) = (3, 5, 2, 12);
    let inner = heads * d;
    let qkv = numbers(examples * length * 3 * inner, 1);
    let bias: Vec<f32> = (0..examples * heads * length * length)
        .map(|i| if i % 4 == 1 { -1e9 } else { i as f32 / 50.0 })
        .collect();
    let mut y = vec![0.0; examples * length * inner];
    attention::attend_biased(&each, Biased { qkv: &qkv, bias: &bias, heads, length }, &mut y);
    for which in 0..examples * heads {
        let (example, head) = (which / heads, which % heads);
        let part = |row: usize, part: usize| {
            &qkv[(example * length + row) * 3 * inner + part * inner + head * d..][..d]
        };
        let [keys, values] = [1, 2].map(|i| (0..length).map(|row| part(row, i)).collect::<Vec<_>>());
        for query in 0..length {
            let bias = |key: usize| bias[(which * length + query) * length + key];
            let want = attention_of(part(query, 0), &keys, bias, &values);
            let at = (example * length + query) * inner + head * d;
            assert_close(&y[at..at + d], &want, &format!("{which}, {query}"));
        }
    }
}

#[test]
fn absorbed_attention_is_that_of_keys_and_values() {
    for (lengths, heads, d) in EXAMPLES {
        for (positions, width) in [(1, 40), (3, 64), (9, 33)] {
            // with a row between examples that is nobody's
            let starts = starts(lengths).into_iter().enumerate().map(|(i, start)| start as usize + i);
            let places: Vec<_> = starts.zip(lengths).map(|(start, own)| start..start + own).collect();
            let (inner, rows) = (heads * d, lengths.iter().sum::<usize>() + lengths.len());
            let q = numbers(lengths.len() * positions * inner, 1);
            let hidden = numbers(rows * width, 2);
            let scale = |x: Vec<f32>| x.into_iter().map(|x| x / 4.0).collect::<Vec<f32>>();
            let [w_k, w_v] = [3, 4].map(|seed| scale(numbers(inner * width, seed)));
            // in floats, and as integers that the floats are
            let integers =
                [&w_k, &w_v].map(|w| w.iter().map(|x| (x * 400.0).round() as i8).collect::<Vec<i8>>());
            let back = |w: &Vec<i8>| w.iter().map(|&x| f32::from(x) / 400.0).collect::<Vec<f32>>();
            let [w_k, w_v] = integers.each_ref().map(back);
            let scales = vec![1.0 / 400.0; inner];
            let [mut y, mut of_integers] = [(); 2].map(|()| vec![0.0; q.len()]);
            let [keys, values] = [&w_k, &w_v].map(|w| Stored::Floats(weight(w, [inner, width])));
            let absorbed = Absorbed { q: &q, hidden: &hidden, places: &places, keys, values, heads };
            cross::attend(&each, absorbed, &mut y);
            let [keys, values] = integers.each_ref().map(|values| Stored::Int8 { values, scales: &scales });
            cross::attend(&each, Absorbed { keys, values, ..absorbed }, &mut of_integers);
            assert_close(&of_integers, &y, "integers");
            let [k, v] = [&w_k, &w_v].map(|w| naive([rows, inner, width], &hidden, w));
            for (row, (q, y)) in q.chunks(d).zip(y.chunks(d)).enumerate() {
                let (example, head) = (row / heads / positions, row % heads);
                let part = |x: &'_ [f32]| -> Vec<Vec<f32>> {
                    places[example].clone().map(|row| x[row * inner + head * d..][..d].to_vec()).collect()
                };
                let [k, v] = [part(&k), part(&v)];
                let [k, v] = [&k, &v].map(|x| x.iter().map(Vec::as_slice).collect::<Vec<_>>());
                assert_close(y, &attention_of(q, &k, |_| 0.0, &v), &format!("{lengths:?} {positions} {row}"));
            }
        }
    }
}

#[test]
fn batches_of_nothing_are_nothing() {
    attention::attend(
        &each,
        SelfAttention { qkv: &[], starts: &[0, 0], position: &[0.0; 6], heads: 2, numbers: Numbers::F32 },
        &mut [],
    );
    product(&each, 0, &[Floats::new(&[], weight(&[0.0; 12], [3, 4]))], &mut []);
    let (w, mut y) = (numbers(8 * 45, 1), vec![9.0; 8]);
    let [keys, values] = [(); 2].map(|()| Stored::Floats(weight(&w, [8, 45])));
    let absorbed =
        Absorbed { q: &[1.0; 8], hidden: &[], places: std::slice::from_ref(&(0..0)), keys, values, heads: 2 };
    cross::attend(&each, absorbed, &mut y);
    assert_eq!(y, [0.0; 8], "who sees nothing gets nothing");
}

/// No row or column is left out or done twice, however the work is cut.
#[test]
fn pieces_of_work_cover_a_grid_once() {
    let sizes = [(1, 24, 24_576), (84, 64, 1_000), (700, 3, 24_576), (33, 1, 1), (4000, 24, 10)];
    for (rows, panels, bytes) in sizes {
        for grid in
            [super::Grid::new(rows, panels, bytes), super::Grid::for_hardware(rows, 768, panels, bytes)]
        {
            covers(grid, rows, panels);
        }
    }
}

fn covers(grid: super::Grid, rows: usize, panels: usize) {
    let seen = Mutex::new(vec![0; rows * panels]);
    each(grid.pieces(), &|piece| {
        let (own_rows, own_panels) = grid.piece(piece);
        for row in own_rows {
            for panel in own_panels.clone() {
                seen.lock().unwrap()[row * panels + panel] += 1;
            }
        }
    });
    assert!(seen.into_inner().unwrap().iter().all(|&times| times == 1), "{grid:?}");
}

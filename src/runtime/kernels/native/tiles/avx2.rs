//! Products of integers in vectors of 256 bits, for processors without instructions of their own for them.

use std::arch::x86_64::{
    __m256i, _mm256_abs_epi8, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_storeu_si256,
};

use super::{At, COLUMNS, DEPTH, Scales};

/// Columns of a vector of sums.
const LANES: usize = 8;
/// Rows whose sums stay in registers.
const ROWS: usize = 3;

pub(super) fn is_here() -> bool {
    is_x86_feature_detected!("avx2")
}

#[target_feature(enable = "avx2")]
pub(super) unsafe fn integers(
    [rows, inner, columns]: [usize; 3],
    a: At<*const u8>,
    panel: *const i8,
    scales: Scales,
    c: At<*mut f32>,
) {
    for first in (0..rows).step_by(ROWS) {
        let count = (rows - first).min(ROWS);
        // SAFETY: the caller's duty.
        unsafe {
            let sums = sums(inner, a, [first, count], panel);
            for (i, sums) in sums.into_iter().enumerate().take(count) {
                let row = first + i;
                for (j, sum) in sums.into_iter().enumerate().take(columns) {
                    let scale = *scales.columns.add(j) * *scales.rows.add(row);
                    *c.data.add(row * c.stride + j) = sum as f32 * scale;
                }
            }
        }
    }
}

/// Magnitudes are 127 at most, so that two products fit into 16 bits.
#[target_feature(enable = "avx2")]
#[expect(clippy::needless_range_loop, reason = "rows by columns of registers")]
unsafe fn sums(
    inner: usize,
    a: At<*const u8>,
    [first, count]: [usize; 2],
    panel: *const i8,
) -> [[i32; COLUMNS]; ROWS] {
    const VECTORS: usize = COLUMNS / LANES;
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); VECTORS]; ROWS];
    for k in 0..inner {
        let mut x = [_mm256_setzero_si256(); ROWS];
        for (i, x) in x.iter_mut().enumerate().take(count) {
            // SAFETY: the caller's duty.
            let four =
                unsafe { a.data.add((first + i) * a.stride + k * DEPTH).cast::<u32>().read_unaligned() };
            // from 128 for zero to a sign
            *x = _mm256_set1_epi32((four ^ 0x8080_8080).cast_signed());
        }
        for vector in 0..VECTORS {
            // SAFETY: the caller's duty.
            let y: __m256i =
                unsafe { _mm256_loadu_si256(panel.add((k * COLUMNS + vector * LANES) * DEPTH).cast()) };
            for i in 0..ROWS {
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x[i]), _mm256_sign_epi8(y, x[i]));
                let fours = _mm256_madd_epi16(pairs, ones);
                sums[i][vector] = _mm256_add_epi32(sums[i][vector], fours);
            }
        }
    }
    let mut numbers = [[0; COLUMNS]; ROWS];
    for (numbers, sums) in numbers.iter_mut().zip(sums) {
        for (numbers, sum) in numbers.chunks_mut(LANES).zip(sums) {
            // SAFETY: a vector has so many numbers.
            unsafe { _mm256_storeu_si256(numbers.as_mut_ptr().cast(), sum) };
        }
    }
    numbers
}

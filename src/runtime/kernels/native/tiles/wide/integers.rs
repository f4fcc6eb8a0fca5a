//! Products of integers, four of a byte at once (VNNI).

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512,
};

use super::super::{At, COLUMNS, DEPTH, ROWS, Scales};
use super::{LANES, by_rows, lanes};

pub(in super::super) fn are_here() -> bool {
    super::are_here() && is_x86_feature_detected!("avx512vnni")
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(in super::super) unsafe fn integers(
    [rows, inner, columns]: [usize; 3],
    a: At<*const u8>,
    panel: *const i8,
    scales: Scales,
    c: At<*mut f32>,
) {
    // SAFETY: the caller's duty.
    unsafe { by_rows!(rows, integers_of(inner, columns, a, panel, scales, c)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn integers_of<const R: usize>(
    inner: usize,
    columns: usize,
    a: At<*const u8>,
    panel: *const i8,
    scales: Scales,
    c: At<*mut f32>,
) {
    let here = [lanes(columns, 0), lanes(columns, 1)];
    let mut sums = [[_mm512_setzero_si512(); 2]; R];
    // SAFETY: the caller's duty.
    unsafe {
        let zeros: [__m512i; 2] = std::array::from_fn(|half| {
            _mm512_cvtps_epi32(_mm512_maskz_loadu_ps(here[half], scales.zeros.add(half * LANES)))
        });
        sums.fill(zeros);
        let mut block = panel;
        for k in 0..inner {
            let y = [_mm512_loadu_si512(block.cast()), _mm512_loadu_si512(block.add(64).cast())];
            block = block.add(COLUMNS * DEPTH);
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = a.data.add(i * a.stride + k * DEPTH).cast::<i32>().read_unaligned();
                let x = _mm512_set1_epi32(x);
                sums[0] = _mm512_dpbusd_epi32(sums[0], x, y[0]);
                sums[1] = _mm512_dpbusd_epi32(sums[1], x, y[1]);
            }
        }
        for half in 0..2 {
            let of_columns = _mm512_maskz_loadu_ps(here[half], scales.columns.add(half * LANES));
            for (i, sums) in sums.iter().enumerate() {
                let scale = _mm512_mul_ps(of_columns, _mm512_set1_ps(*scales.rows.add(i)));
                let y = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[half]), scale);
                _mm512_mask_storeu_ps(c.data.add(i * c.stride + half * LANES), here[half], y);
            }
        }
    }
}

/// What [`integers`] gives of sums `[rows, COLUMNS]` that were taken elsewhere, without zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn scale([rows, columns]: [usize; 2], sums: *const i32, scales: Scales, c: At<*mut f32>) {
    for half in 0..columns.div_ceil(LANES) {
        let here = lanes(columns, half);
        // SAFETY: the caller's duty.
        unsafe {
            let of_columns = _mm512_maskz_loadu_ps(here, scales.columns.add(half * LANES));
            let zeros = _mm512_cvtps_epi32(_mm512_maskz_loadu_ps(here, scales.zeros.add(half * LANES)));
            for i in 0..rows {
                let sum = _mm512_loadu_si512(sums.add(i * COLUMNS + half * LANES).cast());
                let sum = _mm512_add_epi32(sum, zeros);
                let scale = _mm512_mul_ps(of_columns, _mm512_set1_ps(*scales.rows.add(i)));
                let y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
                _mm512_mask_storeu_ps(c.data.add(i * c.stride + half * LANES), here, y);
            }
        }
    }
}

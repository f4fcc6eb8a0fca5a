//! Rows as columns.

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps,
    _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
    _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::super::{At, COLUMNS};
use super::LANES;

/// Floats that rows which are turned are fetched ahead by.
const AHEAD: usize = 8 * LANES;

/// 32 rows of b, of which each has `inner` floats, a multiple of 16, as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(in super::super) unsafe fn turn(inner: usize, b: At<*const f32>, panel: *mut f32) {
    for k in (0..inner).step_by(LANES) {
        for half in 0..COLUMNS / LANES {
            // SAFETY: the caller's duty.
            unsafe {
                let from = b.data.add(half * LANES * b.stride + k);
                let to = panel.add(k * COLUMNS + half * LANES);
                turn_square(At { data: from, ..b }, to);
            }
        }
    }
}

/// A square of 16 by 16, row i of it to `to[i * COLUMNS..]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn turn_square(from: At<*const f32>, to: *mut f32) {
    let mut x = [_mm512_setzero_ps(); LANES];
    for (i, x) in x.iter_mut().enumerate() {
        // SAFETY: the caller's duty.
        *x = unsafe {
            let row = from.data.add(i * from.stride);
            // rows are too many for the processor to foresee
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(AHEAD).cast());
            _mm512_loadu_ps(row)
        };
    }
    // pairs, fours, eights, sixteens
    let mut y = x;
    for i in (0..LANES).step_by(2) {
        y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    let pd = |low: bool, a: __m512, b: __m512| {
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        _mm512_castpd_ps(if low { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) })
    };
    for i in (0..LANES).step_by(4) {
        x[i] = pd(true, y[i], y[i + 2]);
        x[i + 1] = pd(false, y[i], y[i + 2]);
        x[i + 2] = pd(true, y[i + 1], y[i + 3]);
        x[i + 3] = pd(false, y[i + 1], y[i + 3]);
    }
    for i in 0..4 {
        y[i] = _mm512_shuffle_f32x4::<0x88>(x[i], x[i + 4]);
        y[i + 4] = _mm512_shuffle_f32x4::<0xdd>(x[i], x[i + 4]);
        y[i + 8] = _mm512_shuffle_f32x4::<0x88>(x[i + 8], x[i + 12]);
        y[i + 12] = _mm512_shuffle_f32x4::<0xdd>(x[i + 8], x[i + 12]);
    }
    for i in 0..4 {
        x[i] = _mm512_shuffle_f32x4::<0x88>(y[i], y[i + 8]);
        x[i + 8] = _mm512_shuffle_f32x4::<0xdd>(y[i], y[i + 8]);
        x[i + 4] = _mm512_shuffle_f32x4::<0x88>(y[i + 4], y[i + 12]);
        x[i + 12] = _mm512_shuffle_f32x4::<0xdd>(y[i + 4], y[i + 12]);
    }
    for (i, x) in x.into_iter().enumerate() {
        // SAFETY: the caller's duty.
        unsafe { _mm512_storeu_ps(to.add(i * COLUMNS), x) };
    }
}

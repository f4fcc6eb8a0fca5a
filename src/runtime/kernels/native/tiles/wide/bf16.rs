//! Products of numbers of 16 bits, two at once.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_set1_epi32,
    _mm512_setzero_ps,
};

use super::super::{At, ROWS};
use super::{LANES, by_rows, lanes};

pub(in super::super) fn is_here() -> bool {
    super::are_here() && is_x86_feature_detected!("avx512bf16")
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in super::super) unsafe fn pairs(
    [rows, inner, columns]: [usize; 3],
    a: At<*const u32>,
    b: At<*const u32>,
    c: At<*mut f32>,
) {
    // SAFETY: the caller's duty.
    unsafe { by_rows!(rows, pairs_of(inner, columns, a, b, c)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn pairs_of<const R: usize>(
    inner: usize,
    columns: usize,
    a: At<*const u32>,
    b: At<*const u32>,
    c: At<*mut f32>,
) {
    // SAFETY: both are 512 bits.
    let halves = |bits: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) };
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: the caller's duty.
    unsafe {
        let mut row = b.data;
        for k in 0..inner {
            let y = [0, LANES].map(|at| halves(_mm512_loadu_si512(row.add(at).cast())));
            row = row.add(b.stride);
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = a.data.add(i * a.stride + k).read_unaligned();
                let x = halves(_mm512_set1_epi32(x.cast_signed()));
                sums[0] = _mm512_dpbf16_ps(sums[0], x, y[0]);
                sums[1] = _mm512_dpbf16_ps(sums[1], x, y[1]);
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (half, sum) in sums.into_iter().enumerate() {
                let to = c.data.add(i * c.stride + half * LANES);
                _mm512_mask_storeu_ps(to, lanes(columns, half), sum);
            }
        }
    }
}

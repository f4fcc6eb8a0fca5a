//! Dot products of rows: each number of the weights is read once, in the order of memory.

use std::arch::x86_64::{
    __m128, __m512, _MM_HINT_T1, _mm_add_ps, _mm_prefetch, _mm_storeu_ps, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_extractf128_ps, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_castps512_ps256, _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps,
    _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};

use super::super::{At, DOT_COLUMNS, DOT_ROWS};
use super::{LANES, lanes};

/// Bytes that weights are fetched ahead by, into the second-level cache: the first has too few places for lines that
/// are on their way.
const FAR_AHEAD: usize = 32 * 1024;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(in super::super) unsafe fn dots(
    [rows, inner, columns]: [usize; 3],
    a: At<*const f32>,
    b: At<*const f32>,
    c: At<*mut f32>,
) {
    // SAFETY: the caller's duty.
    unsafe {
        if columns == DOT_COLUMNS {
            return match rows {
                1 => one_row(inner, a, b, c),
                2 => dots_of::<2, DOT_COLUMNS>(inner, a, b, c),
                3 => dots_of::<3, DOT_COLUMNS>(inner, a, b, c),
                4 => dots_of::<4, DOT_COLUMNS>(inner, a, b, c),
                5 => dots_of::<5, DOT_COLUMNS>(inner, a, b, c),
                _ => dots_of::<DOT_ROWS, DOT_COLUMNS>(inner, a, b, c),
            };
        }
        for j in 0..columns {
            for i in 0..rows {
                let to = At { data: c.data.add(i * c.stride + j), ..c };
                dots_of::<1, 1>(inner, a.row(i), b.row(j), to);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[expect(clippy::needless_range_loop, reason = "rows by columns of registers")]
unsafe fn dots_of<const R: usize, const C: usize>(
    inner: usize,
    a: At<*const f32>,
    b: At<*const f32>,
    c: At<*mut f32>,
) {
    let mut sums = [[_mm512_setzero_ps(); C]; R];
    let whole = inner / LANES * LANES;
    let mut ahead = b.data.cast::<i8>().wrapping_add(FAR_AHEAD);
    // SAFETY: the caller's duty.
    unsafe {
        for k in (0..inner).step_by(LANES) {
            for _ in 0..C {
                _mm_prefetch::<_MM_HINT_T1>(ahead);
                ahead = ahead.wrapping_add(size_of::<__m512>());
            }
            let here = if k < whole { !0 } else { lanes(inner - whole, 0) };
            let mut x = [_mm512_setzero_ps(); R];
            for (i, x) in x.iter_mut().enumerate() {
                *x = _mm512_maskz_loadu_ps(here, a.data.add(i * a.stride + k));
            }
            for j in 0..C {
                let y = _mm512_maskz_loadu_ps(here, b.data.add(j * b.stride + k));
                for i in 0..R {
                    sums[i][j] = _mm512_fmadd_ps(x[i], y, sums[i][j]);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let to = c.data.add(i * c.stride);
            if let [a, b, c, d] = sums[..] {
                _mm_storeu_ps(to, four_sums([a, b, c, d]));
            } else {
                for (j, sum) in sums.into_iter().enumerate() {
                    *to.add(j) = _mm512_reduce_add_ps(sum);
                }
            }
        }
    }
}

/// One row times [`DOT_COLUMNS`] columns, one behind the other: memory is read fastest in its order.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn one_row(inner: usize, a: At<*const f32>, b: At<*const f32>, c: At<*mut f32>) {
    const STEP: usize = 4 * LANES;
    let whole = inner / STEP * STEP;
    let mut sums = [_mm512_setzero_ps(); DOT_COLUMNS];
    // SAFETY: the caller's duty.
    unsafe {
        for (j, sum) in sums.iter_mut().enumerate() {
            let (x, y) = (a.data, b.data.add(j * b.stride));
            let mut parts = [_mm512_setzero_ps(); 4];
            for k in (0..whole).step_by(STEP) {
                for (i, part) in parts.iter_mut().enumerate() {
                    let at = k + i * LANES;
                    *part = _mm512_fmadd_ps(_mm512_loadu_ps(x.add(at)), _mm512_loadu_ps(y.add(at)), *part);
                }
            }
            for (i, part) in parts.iter_mut().enumerate() {
                let (here, at) = (lanes(inner - whole, i), whole + i * LANES);
                let x = _mm512_maskz_loadu_ps(here, x.wrapping_add(at));
                let y = _mm512_maskz_loadu_ps(here, y.wrapping_add(at));
                *part = _mm512_fmadd_ps(x, y, *part);
            }
            let [first, second, third, fourth] = parts;
            *sum = _mm512_add_ps(_mm512_add_ps(first, second), _mm512_add_ps(third, fourth));
        }
        _mm_storeu_ps(c.data, four_sums(sums));
    }
}

/// The sum of the lanes of each.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn four_sums([a, b, c, d]: [__m512; 4]) -> __m128 {
    // a0 b0 a1 b1 + a2 b2 a3 b3 of each quarter
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
    let high = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
    let quarters = _mm512_add_ps(low, high);
    let halves = _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps::<1>(quarters));
    _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves))
}

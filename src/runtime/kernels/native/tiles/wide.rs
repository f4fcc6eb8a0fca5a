//! The same in vectors of 512 bits.

use std::arch::x86_64::{
    __m128, __m512, __m512i, __mmask16, _MM_HINT_T0, _MM_HINT_T1, _mm_add_ps, _mm_prefetch, _mm_storeu_ps,
    _mm256_add_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm512_add_ps, _mm512_castpd_ps,
    _mm512_castps_pd, _mm512_castps512_ps256, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_dpbusd_epi32,
    _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::{At, COLUMNS, DEPTH, DOT_COLUMNS, DOT_ROWS, ROWS, Scales};

/// Floats that rows which are turned are fetched ahead by.
const AHEAD: usize = 8 * LANES;
/// Bytes that weights are fetched ahead by, into the second-level cache: the first has too few places for lines that
/// are on their way.
const FAR_AHEAD: usize = 32 * 1024;
/// Floats of a vector.
const LANES: usize = 16;

pub(super) fn are_here() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

pub(super) fn have_integers() -> bool {
    are_here() && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn fetch(float: *const f32) {
    // SAFETY: any address may be fetched, and any processor of this kind can.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(float.cast()) }
}

/// The lanes of a vector that are among the first `columns`, behind those of `before` vectors.
fn lanes(columns: usize, before: usize) -> __mmask16 {
    let own = columns.saturating_sub(before * LANES).min(LANES);
    ((1_u32 << own) - 1) as __mmask16
}

/// Calls a function that is made for each number of rows.
macro_rules! by_rows {
    ($rows:expr, $name:ident($($arg:expr),*)) => {
        match $rows {
            1 => $name::<1>($($arg),*),
            2 => $name::<2>($($arg),*),
            3 => $name::<3>($($arg),*),
            4 => $name::<4>($($arg),*),
            5 => $name::<5>($($arg),*),
            6 => $name::<6>($($arg),*),
            7 => $name::<7>($($arg),*),
            8 => $name::<8>($($arg),*),
            9 => $name::<9>($($arg),*),
            10 => $name::<10>($($arg),*),
            11 => $name::<11>($($arg),*),
            ROWS => $name::<ROWS>($($arg),*),
            rows => unreachable!("a tile has no {rows} rows"),
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn product(
    [rows, inner, columns]: [usize; 3],
    a: At<*const f32>,
    b: At<*const f32>,
    c: At<*mut f32>,
) {
    // SAFETY: the caller's duty.
    unsafe { by_rows!(rows, product_of(inner, columns, a, b, c)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn product_of<const R: usize>(
    inner: usize,
    columns: usize,
    a: At<*const f32>,
    b: At<*const f32>,
    c: At<*mut f32>,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: the caller's duty.
    unsafe {
        let mut row = b.data;
        for k in 0..inner {
            let y = [_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(LANES))];
            row = row.add(b.stride);
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(a.data.add(i * a.stride + k).read_unaligned());
                sums[0] = _mm512_fmadd_ps(x, y[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(x, y[1], sums[1]);
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn dots(
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

/// 32 rows of b, of which each has `inner` floats, a multiple of 16, as columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn turn(inner: usize, b: At<*const f32>, panel: *mut f32) {
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn integers(
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

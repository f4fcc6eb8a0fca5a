//! The same in vectors of 512 bits.

pub(in crate::runtime::kernels::native) mod amx;
pub(super) mod bf16;
pub(super) mod dots;
pub(super) mod integers;
pub(super) mod turn;

use std::arch::x86_64::{
    __mmask16, _MM_HINT_T1, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_set1_ps, _mm512_setzero_ps,
};

use super::{At, ROWS};

/// Floats of a vector.
const LANES: usize = 16;

pub(super) fn are_here() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
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

use by_rows;

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

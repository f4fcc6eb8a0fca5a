//! The same in loops for any processor. They define what the others compute.
//!
//! Callers keep the promises of the functions above.

use super::{At, COLUMNS, DEPTH, Scales};

/// Sums of a dot product that are taken side by side.
const LANES: usize = 16;

vectorized! {
    fn product(sizes: [usize; 3], a: At<*const f32>, b: At<*const f32>, c: At<*mut f32>) {
        let [rows, inner, columns] = sizes;
        for i in 0..rows {
            let mut sums = [0.0; COLUMNS];
            for k in 0..inner {
                // SAFETY: the caller's duty.
                let (x, row) = unsafe {
                    let row = b.data.add(k * b.stride).cast::<[f32; COLUMNS]>();
                    (a.data.add(i * a.stride + k).read_unaligned(), row.read_unaligned())
                };
                for (sum, y) in sums.iter_mut().zip(row) {
                    *sum += x * y;
                }
            }
            // SAFETY: the caller's duty.
            unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), c.data.add(i * c.stride), columns) };
        }
    }

    fn dots(sizes: [usize; 3], a: At<*const f32>, b: At<*const f32>, c: At<*mut f32>) {
        let [rows, inner, columns] = sizes;
        for i in 0..rows {
            for j in 0..columns {
                let mut sums = [0.0; LANES];
                // SAFETY: the caller's duty.
                let at = |k: usize| unsafe {
                    let x = a.data.add(i * a.stride + k).read_unaligned();
                    x * b.data.add(j * b.stride + k).read_unaligned()
                };
                let whole = inner / LANES * LANES;
                for k in (0..whole).step_by(LANES) {
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum += at(k + lane);
                    }
                }
                for k in whole..inner {
                    sums[0] += at(k);
                }
                // SAFETY: the caller's duty.
                unsafe { *c.data.add(i * c.stride + j) = sums.iter().sum() };
            }
        }
    }

    fn integers(sizes: [usize; 3], a: At<*const u8>, panel: *const i8, scales: Scales, c: At<*mut f32>) {
        let [rows, inner, columns] = sizes;
        for i in 0..rows {
            let mut sums = [0_i32; COLUMNS];
            for k in 0..inner {
                // SAFETY: the caller's duty.
                let (x, block) = unsafe {
                    let x = a.data.add(i * a.stride + k * DEPTH).cast::<[u8; DEPTH]>();
                    let block = panel.add(k * COLUMNS * DEPTH).cast::<[[i8; DEPTH]; COLUMNS]>();
                    (x.read_unaligned().map(|x| i32::from(x) - 128), &*block)
                };
                for (sum, y) in sums.iter_mut().zip(block) {
                    for depth in 0..DEPTH {
                        *sum += x[depth] * i32::from(y[depth]);
                    }
                }
            }
            for (j, sum) in sums.into_iter().enumerate().take(columns) {
                // SAFETY: the caller's duty.
                unsafe {
                    *c.data.add(i * c.stride + j) =
                        sum as f32 * (*scales.columns.add(j) * *scales.rows.add(i));
                }
            }
        }
    }
}

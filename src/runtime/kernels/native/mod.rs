//! Matrix products and attention on a CPU, in vectors of 512 bits where it has them.
//!
//! [`products`] multiplies rows by the weights of a checkpoint, as they lie in its file, or by narrow numbers
//! as [`NarrowWeights`](crate::t5::NarrowWeights) keeps them. [`attention`] works on packed batches: the rows of all examples
//! behind each other, without padding. What both are made of is in [`tiles`].
#![expect(unsafe_code, reason = "tiles read and write parts of matrices, which slices cannot say")]

pub(super) mod attention;
pub(super) mod cross;
pub(super) mod products;
#[cfg(test)]
mod tests;
mod tiles;

use std::ops::{Range, RangeInclusive};

pub(in crate::runtime) use tiles::{are_wide, have_pairs as have_bf16};

/// Calls work for each of so many pieces, on several threads.
pub(super) type Each<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync));

/// An output that pieces of work write different parts of.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: whoever makes one hands different parts to different threads.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

// === impl Shared ===

impl Shared {
    /// The place of the element at an offset.
    ///
    /// # Safety
    /// The offset is within what it was made of.
    unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's duty.
        unsafe { self.0.add(offset) }
    }

    /// Elements that no other thread uses.
    ///
    /// # Safety
    /// They are within what it was made of, and no other piece of work has them.
    #[expect(clippy::mut_from_ref, reason = "a pointer that many hold")]
    unsafe fn part(&self, range: Range<usize>) -> &mut [f32] {
        // SAFETY: the caller's duty.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}

/// Rows by panels of columns, cut into pieces of work: as many panels together as are worth a thread.
#[derive(Clone, Copy, Debug)]
struct Grid {
    rows: usize,
    row_block: usize,
    panels: usize,
    together: usize,
}

// === impl Grid ===

impl Grid {
    /// `row_block` rows at most, in passes of so many; `bytes` is the size of a panel of the weight.
    fn new(rows: usize, row_block: usize, pass: usize, panels: usize, bytes: usize) -> Self {
        /// Bytes of weights, times passes over them, that are worth a thread. Long pieces are read faster, but there
        /// must be some for each.
        const WORTH_A_THREAD: RangeInclusive<usize> = 48 * 1024..=256 * 1024;
        let blocks = rows.div_ceil(row_block).max(1);
        let row_block = rows.div_ceil(blocks).max(1).next_multiple_of(pass.min(tiles::hardware::ROWS));
        let passes = row_block.min(rows).div_ceil(pass).max(1);
        let worth = (bytes * panels / 16).clamp(*WORTH_A_THREAD.start(), *WORTH_A_THREAD.end());
        let together = (worth / (bytes * passes).max(1)).clamp(1, panels.max(1));
        Self { rows, row_block, panels, together }
    }

    fn groups(&self) -> usize {
        self.panels.div_ceil(self.together)
    }

    fn pieces(&self) -> usize {
        self.rows.div_ceil(self.row_block) * self.groups()
    }

    fn piece(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let (block, group) = (i / self.groups(), i % self.groups());
        let rows = block * self.row_block..((block + 1) * self.row_block).min(self.rows);
        (rows, group * self.together..((group + 1) * self.together).min(self.panels))
    }
}

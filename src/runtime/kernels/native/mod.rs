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
    /// Blocks of rows that take a group of panels one after the other.
    beside: usize,
    panels: usize,
    together: usize,
}

// === impl Grid ===

impl Grid {
    /// For vectors, which read panels again and again; `bytes` is the size of a panel of the weight.
    fn new(rows: usize, panels: usize, bytes: usize) -> Self {
        /// Rows that a piece of work takes at most: they stay in a core's cache while panels pass by.
        const ROW_BLOCK: usize = 20 * tiles::ROWS;
        /// Bytes of weights, times passes over them, that are worth a thread. Long pieces are read faster, but there
        /// must be some for each.
        const WORTH_A_THREAD: RangeInclusive<usize> = 48 * 1024..=256 * 1024;
        let blocks = rows.div_ceil(ROW_BLOCK).max(1);
        let row_block = rows.div_ceil(blocks).max(1).next_multiple_of(tiles::ROWS);
        let passes = row_block.min(rows).div_ceil(tiles::ROWS).max(1);
        let worth = (bytes * panels / 16).clamp(*WORTH_A_THREAD.start(), *WORTH_A_THREAD.end());
        let together = (worth / (bytes * passes).max(1)).clamp(1, panels.max(1));
        Self { rows, row_block, beside: 1, panels, together }
    }

    /// For the processor's own tiles, which read some rows again and again, while a group of panels and many rows stay in
    /// the second-level cache; a row is of `width` bytes.
    fn for_hardware(rows: usize, width: usize, panels: usize, bytes: usize) -> Self {
        const ROW_BLOCK: usize = 8 * tiles::hardware::ROWS;
        /// Pieces that there should be for many threads.
        const PIECES: usize = 24;
        const BYTES_TOGETHER: usize = 256 * 1024;
        const BYTES_BESIDE: usize = 1024 * 1024;
        let blocks = rows.div_ceil(ROW_BLOCK).max(1);
        let row_block = rows.div_ceil(blocks).max(1).next_multiple_of(tiles::hardware::ROWS);
        let together = (panels * blocks / PIECES).min(BYTES_TOGETHER / bytes.max(1)).max(1);
        let beside = (BYTES_BESIDE / (row_block * width).max(1)).clamp(1, blocks);
        Self { rows, row_block, beside, panels, together }
    }

    fn groups(&self) -> usize {
        self.panels.div_ceil(self.together)
    }

    fn blocks(&self) -> usize {
        self.rows.div_ceil(self.row_block)
    }

    fn pieces(&self) -> usize {
        self.blocks() * self.groups()
    }

    fn piece(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let first = i / (self.beside * self.groups()) * self.beside;
        let beside = (self.blocks() - first).min(self.beside);
        let within = i - first * self.groups();
        let (group, block) = (within / beside, first + within % beside);
        let rows = block * self.row_block..((block + 1) * self.row_block).min(self.rows);
        (rows, group * self.together..((group + 1) * self.together).min(self.panels))
    }
}

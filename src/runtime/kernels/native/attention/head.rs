//! The rows of a head, laid out for products with each other.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::super::tiles::hardware::{self, Tiles};
use super::super::tiles::{self, At, COLUMNS, ROWS};
use crate::runtime::kernels::rows;

/// Queries, keys and values `[length, d]`.
pub(super) trait Head {
    /// Queries that are scored at once.
    fn at_once(&self) -> usize;

    /// The scores of queries `first..first + count`, at most [`at_once`](Self::at_once), with a panel of keys.
    ///
    /// # Safety
    /// The head has these queries and keys; `to` has place for rows of [`COLUMNS`], as many as are scored at once.
    unsafe fn score(&self, first: usize, count: usize, panel: usize, to: At<*mut f32>);

    /// Makes a row of [`mix`](Self::mix)'s weights of a query's scores: softmax(scores + bias).
    fn weigh(&mut self, row: usize, scores: &mut [f32], bias: &[f32]);

    /// `columns`, at most [`COLUMNS`], of weights `[count, length]` times the values.
    ///
    /// # Safety
    /// The weights were got ready, one row after the other; `to` has place for the results.
    unsafe fn mix(&self, weights: At<*const f32>, count: usize, columns: Range<usize>, to: At<*mut f32>);
}

/// Of f32, or of f32 that were rounded to bf16.
pub(super) struct Floats {
    length: usize,
    d: usize,
    q: At<*const f32>,
    /// Behind each other, `[length, d]`; none if nothing is rounded.
    rounded_q: Option<Vec<f32>>,
    /// Keys as columns of panels, `[panels, d, 32]`.
    turned: Vec<f32>,
    /// `[length, whole panels]`.
    values: Vec<f32>,
}

/// Of bf16, two in 32 bits.
#[cfg(target_arch = "x86_64")]
pub(super) struct Pairs {
    /// Pairs of a query.
    depth: usize,
    /// Of the values.
    width: usize,
    /// `[length, d]`, with zeros behind each row, and behind the last.
    q: Vec<u16>,
    /// Keys as columns of panels, `[panels, d / 2, 32]`.
    turned: Vec<u32>,
    /// Pairs of the weights of a query.
    pairs: usize,
    /// `[pairs, whole panels]`.
    values: Vec<u32>,
    /// `[rows at once, pairs]`, with zeros behind each row.
    weights: Vec<u16>,
    /// What multiplies them, if the processor has it.
    tiles: Option<Tiles>,
}

// === impl Floats ===

impl Floats {
    /// # Safety
    /// Queries, keys and values have `length` rows of `d` floats.
    pub(super) unsafe fn new([length, d]: [usize; 2], [q, k, v]: [At<*const f32>; 3]) -> Self {
        let mut turned = vec![0.0; length.div_ceil(COLUMNS) * d * COLUMNS];
        for (panel, turned) in turned.chunks_mut(d * COLUMNS).enumerate() {
            let columns = (length - panel * COLUMNS).min(COLUMNS);
            // SAFETY: these keys are there.
            unsafe { tiles::turn([columns, d], k.row(panel * COLUMNS), turned) };
        }
        let mut values = vec![0.0; length * whole(d)];
        for (i, row) in values.chunks_mut(whole(d)).enumerate() {
            // SAFETY: this value is there.
            row[..d].copy_from_slice(unsafe { floats(v.row(i), d) });
        }
        Self { length, d, q, rounded_q: None, turned, values }
    }

    /// All numbers rounded to bf16.
    ///
    /// # Safety
    /// As of [`new`](Self::new).
    pub(super) unsafe fn rounded([length, d]: [usize; 2], [q, k, v]: [At<*const f32>; 3]) -> Self {
        // SAFETY: the caller's duty.
        let mut own = unsafe { Self::new([length, d], [q, k, v]) };
        // SAFETY: the caller's duty.
        let mut q: Vec<f32> = (0..length).flat_map(|i| unsafe { floats(q.row(i), d) }).copied().collect();
        for numbers in [&mut q, &mut own.turned, &mut own.values] {
            rows::round_to_bf16(numbers);
        }
        Self { rounded_q: Some(q), ..own }
    }
}

impl Head for Floats {
    fn at_once(&self) -> usize {
        ROWS
    }

    unsafe fn score(&self, first: usize, count: usize, panel: usize, to: At<*mut f32>) {
        let own = self.rounded_q.as_ref().map(|q| At { data: q.as_ptr(), stride: self.d });
        let b = At { data: self.turned[panel * self.d * COLUMNS..].as_ptr(), stride: COLUMNS };
        // SAFETY: the caller's duty; a panel is of as many rows as a query is wide.
        unsafe { tiles::product([count, self.d, COLUMNS], own.unwrap_or(self.q).row(first), b, to) }
    }

    fn weigh(&mut self, _: usize, weights: &mut [f32], bias: &[f32]) {
        rows::softmax_in_place(weights, bias);
        if self.rounded_q.is_some() {
            rows::round_to_bf16(weights);
        }
    }

    unsafe fn mix(&self, weights: At<*const f32>, count: usize, columns: Range<usize>, to: At<*mut f32>) {
        let b = At { data: self.values[columns.start..].as_ptr(), stride: whole(self.d) };
        // SAFETY: the caller's duty; values are as wide as whole panels.
        unsafe { tiles::product([count, self.length, columns.len()], weights, b, to) }
    }
}

// === impl Pairs ===

#[cfg(target_arch = "x86_64")]
impl Pairs {
    /// # Safety
    /// As of [`Floats::new`]; the processor [has](tiles::have_pairs) products of them.
    pub(super) unsafe fn new([length, d]: [usize; 2], [q, k, v]: [At<*const f32>; 3]) -> Self {
        // SAFETY: a thread works at one head at a time, and makes others only when it has let go of it.
        let tiles = unsafe { Tiles::of_rows(hardware::ROWS) };
        let step = if tiles.is_some() { hardware::STEP } else { 1 };
        let (depth, width) = (d.div_ceil(2).next_multiple_of(step), whole(d));
        let pairs = length.div_ceil(2).next_multiple_of(step);
        let at_once = if tiles.is_some() { hardware::ROWS } else { ROWS };
        let side_by_side = |x: At<*const f32>| {
            let mut halves = vec![0; length.next_multiple_of(at_once) * 2 * depth];
            for (i, row) in halves.chunks_mut(2 * depth).take(length).enumerate() {
                // SAFETY: this row is there.
                rows::to_bf16(unsafe { floats(x.row(i), d) }, row);
            }
            halves
        };
        let keys = side_by_side(k);
        let keys = At { data: keys.as_ptr().cast(), stride: depth };
        let mut turned = vec![0; length.div_ceil(COLUMNS) * depth * COLUMNS];
        for (panel, turned) in turned.chunks_mut(depth * COLUMNS).enumerate() {
            let columns = (length - panel * COLUMNS).min(COLUMNS);
            // SAFETY: these keys are there.
            unsafe { tiles::turn([columns, depth], keys.row(panel * COLUMNS), turned) };
        }
        let mut values = vec![0; pairs * width];
        let nothing = vec![0.0; d];
        for (i, row) in values.chunks_mut(width).take(length.div_ceil(2)).enumerate() {
            // SAFETY: these values are there.
            let [upper, lower] = [2 * i, 2 * i + 1]
                .map(|i| if i < length { unsafe { floats(v.row(i), d) } } else { nothing.as_slice() });
            rows::pair_in_bf16(upper, lower, row);
        }
        let weights = vec![0; at_once * 2 * pairs];
        Self { q: side_by_side(q), turned, pairs, values, weights, depth, width, tiles }
    }
}

#[cfg(target_arch = "x86_64")]
impl Head for Pairs {
    fn at_once(&self) -> usize {
        if self.tiles.is_some() { hardware::ROWS } else { ROWS }
    }

    unsafe fn score(&self, first: usize, count: usize, panel: usize, to: At<*mut f32>) {
        let a = At { data: self.q.as_ptr().cast::<u32>(), stride: self.depth };
        let b = At { data: self.turned[panel * self.depth * COLUMNS..].as_ptr(), stride: COLUMNS };
        // SAFETY: the caller's duty; a panel is as deep as a query, and zeros lie behind the queries.
        unsafe {
            match &self.tiles {
                Some(tiles) => tiles.pairs(self.depth, a.row(first), b, to),
                None => tiles::pairs([count, self.depth, COLUMNS], a.row(first), b, to),
            }
        }
    }

    fn weigh(&mut self, row: usize, scores: &mut [f32], bias: &[f32]) {
        rows::softmax_to_bf16(scores, bias, &mut self.weights[row * 2 * self.pairs..][..scores.len()]);
    }

    unsafe fn mix(&self, _: At<*const f32>, count: usize, columns: Range<usize>, to: At<*mut f32>) {
        let a = At { data: self.weights.as_ptr().cast(), stride: self.pairs };
        let b = At { data: self.values[columns.start..].as_ptr(), stride: self.width };
        let sizes = [count, self.pairs, columns.len()];
        // SAFETY: the caller's duty; values are as wide as whole panels.
        unsafe {
            match &self.tiles {
                Some(tiles) => tiles.pairs_of(sizes, a, b, to),
                None => tiles::pairs(sizes, a, b, to),
            }
        }
    }
}

/// The width of whole panels.
fn whole(d: usize) -> usize {
    d.next_multiple_of(COLUMNS)
}

/// The first row of so many floats.
///
/// # Safety
/// The matrix has it, and lives on.
unsafe fn floats<'m>(x: At<*const f32>, count: usize) -> &'m [f32] {
    // SAFETY: the caller's duty.
    unsafe { std::slice::from_raw_parts(x.data, count) }
}

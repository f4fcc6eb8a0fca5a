//! Rows times the weights of a checkpoint.

use super::tiles::{self, At, COLUMNS, DEPTH, DOT_COLUMNS, DOT_ROWS, ROWS, Scales};
use super::{Each, Grid, Shared};
use crate::runtime::kernels::rows;

/// Rows that a piece of work takes at most: they stay in a core's cache while panels pass by.
const ROW_BLOCK: usize = 20 * ROWS;
/// With fewer rows a weight is not turned into panels: each of its numbers is used too seldom.
const WORTH_TURNING: usize = 10 * ROWS;

/// A weight `[outputs, inner]` of floats, as a checkpoint's file has it; it may be aligned to bytes only.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Weight {
    pub(in super::super) data: *const f32,
    pub(in super::super) outputs: usize,
    pub(in super::super) inner: usize,
}

// SAFETY: weights are only read.
unsafe impl Sync for Weight {}

impl Weight {
    /// Where an element is.
    ///
    /// # Safety
    /// The weight has it.
    pub(super) unsafe fn at(&self, output: usize, column: usize) -> *const f32 {
        // SAFETY: the caller's duty.
        unsafe { self.data.add(output * self.inner + column) }
    }
}

/// A weight of integers: panels of 32 outputs, `[panels, inner / 4, 32, 4]`.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Int8Weight<'a> {
    pub(in super::super) panels: &'a [i8],
    /// Of each output; then what the zero of the rows adds to it.
    pub(in super::super) scales: &'a [f32],
}

/// Rows `[rows, width]` of integers, where 128 is zero, with the scale of each.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Int8Input<'a> {
    pub(in super::super) values: &'a [u8],
    pub(in super::super) scales: &'a [f32],
    pub(in super::super) width: usize,
}

/// What panels of 32 outputs are taken of.
trait Panels: Sync {
    /// Its outputs.
    fn outputs(&self) -> usize;
    /// Bytes that a panel is read from.
    fn panel_bytes(&self) -> usize;
    /// Makes a panel ready for products with so many rows.
    fn prepare(&self, panel: usize, rows: usize, spare: &mut Vec<f32>);
    /// Rows `first..first + rows`, at most [`ROWS`], times a panel that was made ready.
    ///
    /// # Safety
    /// `c` has place for the panel's columns of as many rows.
    unsafe fn tile(&self, panel: usize, first: usize, rows: usize, spare: &[f32], c: At<*mut f32>);

    fn panels(&self) -> usize {
        self.outputs().div_ceil(COLUMNS)
    }

    fn columns(&self, panel: usize) -> usize {
        (self.outputs() - panel * COLUMNS).min(COLUMNS)
    }
}

/// Rows of floats times a weight.
struct Floats<'a> {
    x: &'a [f32],
    weight: Weight,
}

/// Rows of integers times a weight of integers.
struct Integers<'a> {
    x: Int8Input<'a>,
    weight: Int8Weight<'a>,
}

/// Rows of floats times weights, side by side: `[rows, outputs of all]`.
pub(in super::super) fn product(each: Each<'_>, x: &[f32], weights: &[Weight], y: &mut [f32]) {
    let inner = weights[0].inner;
    assert!(weights.iter().all(|weight| weight.inner == inner), "weights of the same rows");
    let all: Vec<Floats<'_>> = weights.iter().map(|&weight| Floats { x, weight }).collect();
    side_by_side(each, x.len() / inner.max(1), &all, y);
}

/// gelu(x gate') * (x wide'), `[rows, outputs]`.
pub(in super::super) fn gated(each: Each<'_>, x: &[f32], [gate, wide]: [Weight; 2], y: &mut [f32]) {
    let rows = x.len() / gate.inner.max(1);
    gated_of(each, rows, [&Floats { x, weight: gate }, &Floats { x, weight: wide }], y);
}

/// Rows of integers times weights, side by side: `[rows, outputs of all]`.
pub(in super::super) fn int8_product(
    each: Each<'_>,
    x: Int8Input<'_>,
    weights: &[Int8Weight<'_>],
    y: &mut [f32],
) {
    let all: Vec<Integers<'_>> = weights.iter().map(|&weight| Integers { x, weight }.checked()).collect();
    side_by_side(each, x.scales.len(), &all, y);
}

/// gelu(x gate') * (x wide') of integers, `[rows, outputs]`.
pub(in super::super) fn int8_gated(
    each: Each<'_>,
    x: Int8Input<'_>,
    [gate, wide]: [Int8Weight<'_>; 2],
    y: &mut [f32],
) {
    let [gate, wide] = [gate, wide].map(|weight| Integers { x, weight }.checked());
    gated_of(each, x.scales.len(), [&gate, &wide], y);
}

fn side_by_side(each: Each<'_>, rows: usize, all: &[impl Panels], y: &mut [f32]) {
    let width: usize = all.iter().map(Panels::outputs).sum();
    assert_eq!(y.len(), rows * width, "the place of a product");
    let panels = all.iter().map(Panels::panels).sum();
    let grid = Grid::new(rows, ROW_BLOCK, panels, all[0].panel_bytes());
    let y = Shared(y.as_mut_ptr());
    each(grid.pieces(), &|piece| {
        let (rows, panels) = grid.piece(piece);
        let mut spare = Vec::new();
        for panel in panels {
            let (mut own, mut before, mut column) = (panel, 0, 0);
            while own >= all[before].panels() {
                own -= all[before].panels();
                column += all[before].outputs();
                before += 1;
            }
            let weight = &all[before];
            weight.prepare(own, rows.len(), &mut spare);
            for first in rows.clone().step_by(ROWS) {
                let count = (rows.end - first).min(ROWS);
                // SAFETY: no other piece has these rows of these columns.
                unsafe {
                    let to = y.at(first * width + column + own * COLUMNS);
                    weight.tile(own, first, count, &spare, At { data: to, stride: width });
                }
            }
        }
    });
}

fn gated_of<P: Panels>(each: Each<'_>, rows: usize, [gate, wide]: [&P; 2], y: &mut [f32]) {
    let width = gate.outputs();
    assert_eq!(wide.outputs(), width, "a gate is as wide as what it gates");
    assert_eq!(y.len(), rows * width, "the place of a product");
    let grid = Grid::new(rows, ROW_BLOCK, gate.panels(), 2 * gate.panel_bytes());
    let y = Shared(y.as_mut_ptr());
    each(grid.pieces(), &|piece| {
        let (rows, panels) = grid.piece(piece);
        let (mut of_gate, mut of_wide) = (Vec::new(), Vec::new());
        let mut tiles = [[0.0_f32; ROWS * COLUMNS]; 2];
        for panel in panels {
            gate.prepare(panel, rows.len(), &mut of_gate);
            wide.prepare(panel, rows.len(), &mut of_wide);
            let columns = gate.columns(panel);
            for first in rows.clone().step_by(ROWS) {
                let count = (rows.end - first).min(ROWS);
                for (side, spare, tile) in [(gate, &of_gate, 0), (wide, &of_wide, 1)] {
                    let to = At { data: tiles[tile].as_mut_ptr(), stride: COLUMNS };
                    // SAFETY: a tile has place for whole panels.
                    unsafe { side.tile(panel, first, count, spare, to) };
                }
                let [gate, wide] = &mut tiles;
                rows::gated_gelu(&mut gate[..count * COLUMNS], &wide[..count * COLUMNS]);
                for (i, row) in gate.chunks(COLUMNS).take(count).enumerate() {
                    let at = (first + i) * width + panel * COLUMNS;
                    // SAFETY: no other piece has these rows of these columns.
                    unsafe { y.part(at..at + columns) }.copy_from_slice(&row[..columns]);
                }
            }
        }
    });
}

// === impl Panels ===

impl Panels for Floats<'_> {
    fn outputs(&self) -> usize {
        self.weight.outputs
    }

    fn panel_bytes(&self) -> usize {
        COLUMNS * self.weight.inner * size_of::<f32>()
    }

    fn prepare(&self, panel: usize, rows: usize, spare: &mut Vec<f32>) {
        spare.clear();
        if rows < WORTH_TURNING {
            return;
        }
        let inner = self.weight.inner;
        spare.resize(inner * COLUMNS, 0.0);
        // SAFETY: the weight has these rows.
        unsafe {
            let from = self.weight.at(panel * COLUMNS, 0);
            tiles::turn([self.columns(panel), inner], At { data: from, stride: inner }, spare);
        }
    }

    unsafe fn tile(&self, panel: usize, first: usize, rows: usize, spare: &[f32], c: At<*mut f32>) {
        let (inner, columns) = (self.weight.inner, self.columns(panel));
        let x = &self.x[first * inner..(first + rows) * inner];
        let a = At { data: x.as_ptr(), stride: inner };
        if !spare.is_empty() {
            let b = At { data: spare.as_ptr(), stride: COLUMNS };
            // SAFETY: the rows were just counted, and the panel is as deep as they are wide.
            return unsafe { tiles::product([rows, inner, columns], a, b, c) };
        }
        for column in (0..columns).step_by(DOT_COLUMNS) {
            for row in (0..rows).step_by(DOT_ROWS) {
                let (count, wide) = ((rows - row).min(DOT_ROWS), (columns - column).min(DOT_COLUMNS));
                // SAFETY: as above; the weight has these rows.
                unsafe {
                    let b = self.weight.at(panel * COLUMNS + column, 0);
                    let c = At { data: c.data.add(row * c.stride + column), ..c };
                    tiles::dots([count, inner, wide], a.row(row), At { data: b, stride: inner }, c);
                }
            }
        }
    }
}

impl Integers<'_> {
    fn checked(self) -> Self {
        let (rows, width) = (self.x.scales.len(), self.x.width);
        assert!(width.is_multiple_of(DEPTH) && self.x.values.len() == rows * width, "rows of integers");
        assert_eq!(self.weight.panels.len(), self.panels() * width * COLUMNS, "a weight of integers");
        self
    }
}

impl Panels for Integers<'_> {
    fn outputs(&self) -> usize {
        self.weight.scales.len() / 2
    }

    fn panel_bytes(&self) -> usize {
        COLUMNS * self.x.width
    }

    fn prepare(&self, _: usize, _: usize, _: &mut Vec<f32>) {}

    unsafe fn tile(&self, panel: usize, first: usize, rows: usize, _: &[f32], c: At<*mut f32>) {
        let width = self.x.width;
        let (column, columns) = (panel * COLUMNS, self.columns(panel));
        let x = &self.x.values[first * width..(first + rows) * width];
        let (own, zeros) = self.weight.scales.split_at(self.outputs());
        let scales = Scales {
            rows: self.x.scales[first..first + rows].as_ptr(),
            columns: own[column..column + columns].as_ptr(),
            zeros: zeros[column..column + columns].as_ptr(),
        };
        let panel = &self.weight.panels[column * width..(column + COLUMNS) * width];
        let a = At { data: x.as_ptr(), stride: width };
        // SAFETY: all were just cut to what the tile takes.
        unsafe { tiles::integers([rows, width / DEPTH, columns], a, panel.as_ptr(), scales, c) }
    }
}

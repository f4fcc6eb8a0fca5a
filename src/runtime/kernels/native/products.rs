//! Rows times weights, panel by panel.

mod floats;
mod integers;
mod pairs;

use std::ops::Range;

use super::tiles::hardware::{ROWS as HARDWARE_ROWS, Tiles};
use super::tiles::{At, COLUMNS, ROWS};
use super::{Each, Grid, Shared};
use crate::runtime::kernels::rows;
pub(in super::super) use floats::{Floats, Weight};
pub(in super::super) use integers::{Int8Input, Int8Weight, Integers};
pub(in super::super) use pairs::{Bf16Input, Bf16Weight, Pairs};

/// What panels of 32 outputs are taken of.
pub(in super::super) trait Panels: Sync {
    /// Its outputs.
    fn outputs(&self) -> usize;
    /// Bytes that a panel is read from.
    fn panel_bytes(&self) -> usize;
    /// Whether tiles of the processor's own multiply them.
    fn are_for_hardware(&self) -> bool;
    /// Makes a panel ready for products with so many rows.
    fn prepare(&self, panel: usize, rows: usize, spare: &mut Vec<f32>);
    /// Rows `first..first + rows` times a panel that was made ready: at most [`ROWS`], or as many as the processor's tiles
    /// are set up for.
    ///
    /// # Safety
    /// `c` has place for the panel's columns of as many rows; the tiles are there if they are needed.
    unsafe fn tile(&self, of: Tile<'_>, spare: &[f32], c: At<*mut f32>);

    fn panels(&self) -> usize {
        self.outputs().div_ceil(COLUMNS)
    }

    fn columns(&self, panel: usize) -> usize {
        (self.outputs() - panel * COLUMNS).min(COLUMNS)
    }
}

/// Some rows times a panel.
#[derive(Clone, Copy)]
pub(in super::super) struct Tile<'t> {
    panel: usize,
    first: usize,
    rows: usize,
    hardware: Option<&'t Tiles>,
}

/// Rows times weights, side by side: `[rows, outputs of all]`.
pub(in super::super) fn product(each: Each<'_>, rows: usize, all: &[impl Panels], y: &mut [f32]) {
    let width: usize = all.iter().map(Panels::outputs).sum();
    assert_eq!(y.len(), rows * width, "the place of a product");
    let panels = all.iter().map(Panels::panels).sum();
    let grid = grid_of(&all[0], rows, panels, all[0].panel_bytes());
    let y = Shared(y.as_mut_ptr());
    each(grid.pieces(), &|piece| {
        let (rows, panels) = grid.piece(piece);
        let mut spare = Vec::new();
        visit(all[0].are_for_hardware(), rows.clone(), panels, |of| {
            let (mut own, mut before, mut column) = (of.panel, 0, 0);
            while own >= all[before].panels() {
                own -= all[before].panels();
                column += all[before].outputs();
                before += 1;
            }
            let weight = &all[before];
            if of.first == rows.start {
                weight.prepare(own, rows.len(), &mut spare);
            }
            // SAFETY: no other piece has these rows of these columns.
            unsafe {
                let to = y.at(of.first * width + column + own * COLUMNS);
                weight.tile(Tile { panel: own, ..of }, &spare, At { data: to, stride: width });
            }
        });
    });
}

/// gelu(x gate') * (x wide'), `[rows, outputs]`.
pub(in super::super) fn gated<P: Panels>(each: Each<'_>, rows: usize, [gate, wide]: [&P; 2], y: &mut [f32]) {
    let width = gate.outputs();
    assert_eq!(wide.outputs(), width, "a gate is as wide as what it gates");
    assert_eq!(y.len(), rows * width, "the place of a product");
    let grid = grid_of(gate, rows, gate.panels(), 2 * gate.panel_bytes());
    let y = Shared(y.as_mut_ptr());
    each(grid.pieces(), &|piece| {
        let (rows, panels) = grid.piece(piece);
        let (mut of_gate, mut of_wide) = (Vec::new(), Vec::new());
        let mut tiles = [[0.0_f32; HARDWARE_ROWS * COLUMNS]; 2];
        visit(gate.are_for_hardware(), rows.clone(), panels, |of| {
            if of.first == rows.start {
                gate.prepare(of.panel, rows.len(), &mut of_gate);
                wide.prepare(of.panel, rows.len(), &mut of_wide);
            }
            let columns = gate.columns(of.panel);
            for (side, spare, tile) in [(gate, &of_gate, 0), (wide, &of_wide, 1)] {
                let to = At { data: tiles[tile].as_mut_ptr(), stride: COLUMNS };
                // SAFETY: a tile has place for whole panels.
                unsafe { side.tile(of, spare, to) };
            }
            let [gate, wide] = &mut tiles;
            rows::gated_gelu(&mut gate[..of.rows * COLUMNS], &wide[..of.rows * COLUMNS]);
            for (i, row) in gate.chunks(COLUMNS).take(of.rows).enumerate() {
                let at = (of.first + i) * width + of.panel * COLUMNS;
                // SAFETY: no other piece has these rows of these columns.
                unsafe { y.part(at..at + columns) }.copy_from_slice(&row[..columns]);
            }
        });
    });
}

/// Work on rows and panels, of which each is read from so many bytes.
fn grid_of(of: &impl Panels, rows: usize, panels: usize, bytes: usize) -> Grid {
    if of.are_for_hardware() {
        Grid::for_hardware(rows, of.panel_bytes() / COLUMNS, panels, bytes)
    } else {
        Grid::new(rows, panels, bytes)
    }
}

/// Calls work for each tile. What is read again and again stays in the first-level cache: a panel in which vectors
/// multiply, some rows for the processor's own tiles, which are set up for as many.
fn visit(for_hardware: bool, rows: Range<usize>, panels: Range<usize>, mut work: impl FnMut(Tile<'_>)) {
    if !for_hardware {
        for panel in panels {
            for first in rows.clone().step_by(ROWS) {
                work(Tile { panel, first, rows: (rows.end - first).min(ROWS), hardware: None });
            }
        }
        return;
    }
    let rest = rows.len() % HARDWARE_ROWS;
    let whole = rows.end - rest;
    for (blocks, count) in [(rows.start..whole, HARDWARE_ROWS), (whole..rows.end, rest)] {
        if blocks.is_empty() {
            continue;
        }
        // SAFETY: this thread has no others.
        let hardware = unsafe { Tiles::of_rows(count) };
        for first in blocks.step_by(HARDWARE_ROWS) {
            for panel in panels.clone() {
                work(Tile { panel, first, rows: count, hardware: hardware.as_ref() });
            }
        }
    }
}

//! Rows of integers times weights of integers.

use super::super::tiles::{self, At, COLUMNS, DEPTH, Scales};
use super::{Panels, Tile};

/// A weight of integers: panels of 32 outputs, `[panels, inner / 4, 32, 4]`.
#[derive(Clone, Copy, Debug)]
pub(in super::super::super) struct Int8Weight<'a> {
    pub(in super::super::super) panels: &'a [i8],
    /// Of each output; then what the zero of the rows adds to it.
    pub(in super::super::super) scales: &'a [f32],
}

/// Rows `[rows, width]` of integers, where 128 is zero, with the scale of each.
#[derive(Clone, Copy, Debug)]
pub(in super::super::super) struct Int8Input<'a> {
    pub(in super::super::super) values: &'a [u8],
    pub(in super::super::super) scales: &'a [f32],
    pub(in super::super::super) width: usize,
}

/// Rows of integers times a weight of integers.
pub(in super::super::super) struct Integers<'a> {
    x: Int8Input<'a>,
    weight: Int8Weight<'a>,
}

// === impl Integers ===

impl<'a> Integers<'a> {
    pub(in super::super::super) fn new(x: Int8Input<'a>, weight: Int8Weight<'a>) -> Self {
        let own = Self { x, weight };
        assert!(
            x.width.is_multiple_of(DEPTH) && x.values.len() == x.scales.len() * x.width,
            "rows of integers"
        );
        assert_eq!(weight.panels.len(), own.panels() * x.width * COLUMNS, "a weight of integers");
        own
    }
}

impl Panels for Integers<'_> {
    fn outputs(&self) -> usize {
        self.weight.scales.len() / 2
    }

    fn panel_bytes(&self) -> usize {
        COLUMNS * self.x.width
    }

    fn are_for_hardware(&self) -> bool {
        tiles::are_for_hardware(self.x.scales.len(), self.x.width / DEPTH)
    }

    fn prepare(&self, _: usize, _: usize, _: &mut Vec<f32>) {}

    unsafe fn tile(&self, of: Tile<'_>, _: &[f32], c: At<*mut f32>) {
        let Tile { panel, first, rows, hardware } = of;
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
        let sizes = [rows, width / DEPTH, columns];
        // SAFETY: all were just cut to what the tile takes.
        unsafe {
            match hardware {
                Some(tiles) => tiles.integers(sizes, a, panel.as_ptr(), scales, c),
                None => tiles::integers(sizes, a, panel.as_ptr(), scales, c),
            }
        }
    }
}

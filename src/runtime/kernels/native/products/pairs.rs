//! Rows of bf16 times weights of bf16.

use super::super::tiles::{self, At, COLUMNS};
use super::{Panels, Tile};

/// A weight of bf16: panels of 32 outputs, `[panels, inner / 2, 32, 2]`.
#[derive(Clone, Copy, Debug)]
pub(in super::super::super) struct Bf16Weight<'a> {
    pub(in super::super::super) panels: &'a [u16],
    pub(in super::super::super) outputs: usize,
}

/// Rows `[rows, width]` of bf16.
#[derive(Clone, Copy, Debug)]
pub(in super::super::super) struct Bf16Input<'a> {
    pub(in super::super::super) values: &'a [u16],
    pub(in super::super::super) rows: usize,
    pub(in super::super::super) width: usize,
}

/// Rows of bf16 times a weight of bf16.
pub(in super::super::super) struct Pairs<'a> {
    x: Bf16Input<'a>,
    weight: Bf16Weight<'a>,
}

// === impl Pairs ===

impl<'a> Pairs<'a> {
    pub(in super::super::super) fn new(x: Bf16Input<'a>, weight: Bf16Weight<'a>) -> Self {
        let own = Self { x, weight };
        assert!(x.width.is_multiple_of(2) && x.values.len() == x.rows * x.width, "rows of bf16");
        assert_eq!(weight.panels.len(), own.panels() * x.width * COLUMNS, "a weight of bf16");
        own
    }
}

impl Panels for Pairs<'_> {
    fn outputs(&self) -> usize {
        self.weight.outputs
    }

    fn panel_bytes(&self) -> usize {
        COLUMNS * self.x.width * size_of::<u16>()
    }

    fn are_for_hardware(&self) -> bool {
        tiles::are_for_hardware(self.x.rows, self.x.width / 2)
    }

    fn prepare(&self, _: usize, _: usize, _: &mut Vec<f32>) {}

    unsafe fn tile(&self, of: Tile<'_>, _: &[f32], c: At<*mut f32>) {
        let Tile { panel, first, rows, hardware } = of;
        let width = self.x.width;
        let x = &self.x.values[first * width..(first + rows) * width];
        let b = &self.weight.panels[panel * COLUMNS * width..(panel + 1) * COLUMNS * width];
        let (a, b) = (
            At { data: x.as_ptr().cast(), stride: width / 2 },
            At { data: b.as_ptr().cast(), stride: COLUMNS },
        );
        let sizes = [rows, width / 2, self.columns(panel)];
        // SAFETY: both were just cut to what the tile takes.
        unsafe {
            match hardware {
                Some(tiles) => tiles.pairs_of(sizes, a, b, c),
                None => tiles::pairs(sizes, a, b, c),
            }
        }
    }
}

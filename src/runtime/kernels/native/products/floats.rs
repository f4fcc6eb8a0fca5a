//! Rows of floats times the weights of a checkpoint, as they lie in its file.

use super::super::tiles::{self, At, COLUMNS, DOT_COLUMNS, DOT_ROWS, ROWS};
use super::{Panels, Tile};

/// With fewer rows a weight is not turned into panels: each of its numbers is used too seldom.
const WORTH_TURNING: usize = 10 * ROWS;

/// A weight `[outputs, inner]` of floats, as a checkpoint's file has it; it may be aligned to bytes only.
#[derive(Clone, Copy, Debug)]
pub(in super::super::super) struct Weight {
    pub(in super::super::super) data: *const f32,
    pub(in super::super::super) outputs: usize,
    pub(in super::super::super) inner: usize,
}

// SAFETY: weights are only read.
unsafe impl Sync for Weight {}

impl Weight {
    /// Where an element is.
    ///
    /// # Safety
    /// The weight has it.
    pub(in super::super) unsafe fn at(&self, output: usize, column: usize) -> *const f32 {
        // SAFETY: the caller's duty.
        unsafe { self.data.add(output * self.inner + column) }
    }
}

/// Rows of floats times a weight.
pub(in super::super::super) struct Floats<'a> {
    x: &'a [f32],
    weight: Weight,
}

// === impl Floats ===

impl<'a> Floats<'a> {
    pub(in super::super::super) fn new(x: &'a [f32], weight: Weight) -> Self {
        Self { x, weight }
    }
}

impl Panels for Floats<'_> {
    fn outputs(&self) -> usize {
        self.weight.outputs
    }

    fn panel_bytes(&self) -> usize {
        COLUMNS * self.weight.inner * size_of::<f32>()
    }

    fn are_for_hardware(&self) -> bool {
        false
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

    unsafe fn tile(&self, of: Tile<'_>, spare: &[f32], c: At<*mut f32>) {
        let Tile { panel, first, rows, .. } = of;
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

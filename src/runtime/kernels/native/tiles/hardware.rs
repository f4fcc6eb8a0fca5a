//! A processor that has no tiles of its own.

use super::{At, Scales};

pub(in super::super) const ROWS: usize = 32;
pub(in super::super) const STEP: usize = 16;

/// There are none.
pub(in super::super) enum Tiles {}

pub(in super::super) fn is_here() -> bool {
    false
}

// === impl Tiles ===

impl Tiles {
    pub(in super::super) unsafe fn of_rows(_: usize) -> Option<Self> {
        None
    }

    pub(in super::super) unsafe fn integers(
        &self,
        _: [usize; 3],
        _: At<*const u8>,
        _: *const i8,
        _: Scales,
        _: At<*mut f32>,
    ) {
        match *self {}
    }

    pub(in super::super) unsafe fn pairs_of(
        &self,
        _: [usize; 3],
        _: At<*const u32>,
        _: At<*const u32>,
        _: At<*mut f32>,
    ) {
        match *self {}
    }
}

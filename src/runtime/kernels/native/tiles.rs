//! Small products that stay in the registers: tiles of 12 rows by 32 columns, or the [`hardware`]'s own where it has them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(not(target_arch = "x86_64"))]
pub(super) mod hardware;
mod plain;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide;

#[cfg(target_arch = "x86_64")]
pub(super) use wide::amx as hardware;

/// Rows of a tile.
pub(super) const ROWS: usize = 12;
/// Columns of a tile, and of the panels that weights are stored in.
pub(super) const COLUMNS: usize = 32;
/// Rows of integers that are multiplied at once.
pub(super) const DEPTH: usize = 4;
/// Fewer rows are multiplied faster in vectors than in the processor's own tiles.
const WORTH_TILES: usize = 3;
/// Rows of a tile of dot products.
pub(super) const DOT_ROWS: usize = 6;
/// Columns of a tile of dot products.
pub(super) const DOT_COLUMNS: usize = 4;

/// Whether the processor has vectors of 512 bits.
pub(in crate::runtime) fn are_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return wide::are_here();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether tiles of the processor's own (AMX) take a product of so many rows and blocks of 32 bits.
pub(super) fn are_for_hardware(rows: usize, inner: usize) -> bool {
    rows >= WORTH_TILES && inner > 0 && inner.is_multiple_of(hardware::STEP) && hardware::is_here()
}

/// A matrix in memory: where it begins, and how far apart its rows are.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct At<T> {
    pub(super) data: T,
    pub(super) stride: usize,
}

// === impl At ===

impl<T> At<*const T> {
    /// From a row on.
    ///
    /// # Safety
    /// The matrix has that row.
    pub(super) unsafe fn row(self, i: usize) -> Self {
        // SAFETY: the caller's duty.
        Self { data: unsafe { self.data.add(i * self.stride) }, ..self }
    }
}

/// c `[rows, columns]` = a `[rows, inner]` b `[inner, columns]`, of at most [`ROWS`] rows and [`COLUMNS`] columns.
///
/// # Safety
/// All three lie in memory as they say; of b whole rows of [`COLUMNS`] floats may be read.
pub(super) unsafe fn product(
    [rows, inner, columns]: [usize; 3],
    a: At<*const f32>,
    b: At<*const f32>,
    c: At<*mut f32>,
) {
    debug_assert!(rows <= ROWS && columns <= COLUMNS);
    #[cfg(target_arch = "x86_64")]
    if wide::are_here() {
        // SAFETY: the processor was just asked; memory is the caller's duty.
        return unsafe { wide::product([rows, inner, columns], a, b, c) };
    }
    plain::product([rows, inner, columns], a, b, c);
}

/// c `[rows, columns]` = a `[rows, inner]` b' `[columns, inner]`, of at most [`DOT_ROWS`] rows and [`DOT_COLUMNS`]
/// columns.
///
/// # Safety
/// All three lie in memory as they say.
pub(super) unsafe fn dots(
    [rows, inner, columns]: [usize; 3],
    a: At<*const f32>,
    b: At<*const f32>,
    c: At<*mut f32>,
) {
    debug_assert!(rows <= DOT_ROWS && columns <= DOT_COLUMNS);
    #[cfg(target_arch = "x86_64")]
    if wide::are_here() {
        // SAFETY: the processor was just asked; memory is the caller's duty.
        return unsafe { wide::dots::dots([rows, inner, columns], a, b, c) };
    }
    plain::dots([rows, inner, columns], a, b, c);
}

/// Has so many floats come nearer that will soon be read.
pub(super) fn fetch(floats: *const f32, count: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        const LINE: usize = 64 / size_of::<f32>();
        for at in (0..count).step_by(LINE) {
            wide::fetch(floats.wrapping_add(at));
        }
    }
}

/// The rows of b `[columns, inner]` as columns of a panel `[inner, COLUMNS]`, of numbers of 32 bits.
///
/// # Safety
/// b lies in memory as it says, and the panel has `inner` rows.
pub(super) unsafe fn turn<T: Copy>([columns, inner]: [usize; 2], b: At<*const T>, panel: &mut [T]) {
    const { assert!(size_of::<T>() == size_of::<f32>()) };
    debug_assert!(columns <= COLUMNS && panel.len() >= inner * COLUMNS);
    let mut first = 0;
    #[cfg(target_arch = "x86_64")]
    if wide::are_here() && columns == COLUMNS {
        first = inner / 16 * 16;
        let b = At { data: b.data.cast(), stride: b.stride };
        // SAFETY: the processor was just asked, and bits are moved alone; memory is the caller's duty.
        unsafe { wide::turn::turn(first, b, panel.as_mut_ptr().cast()) };
    }
    for j in 0..columns {
        for k in first..inner {
            // SAFETY: the caller's duty.
            panel[k * COLUMNS + j] = unsafe { b.data.add(j * b.stride + k).read_unaligned() };
        }
    }
}

/// Whether the processor has [`pairs`].
pub(in crate::runtime) fn have_pairs() -> bool {
    #[cfg(target_arch = "x86_64")]
    return wide::bf16::is_here();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// [`product`] of numbers in bf16, summed in f32: a `[rows, inner]` of pairs side by side, b `[inner, columns]` of pairs below
/// each other. The lower half of a pair's bits is its first number.
///
/// # Safety
/// As of [`product`].
///
/// # Panics
/// If the processor [has none](have_pairs).
pub(super) unsafe fn pairs(
    [rows, inner, columns]: [usize; 3],
    a: At<*const u32>,
    b: At<*const u32>,
    c: At<*mut f32>,
) {
    debug_assert!(rows <= ROWS && columns <= COLUMNS);
    #[cfg(target_arch = "x86_64")]
    if have_pairs() {
        // SAFETY: the processor was just asked; memory is the caller's duty.
        return unsafe { wide::bf16::pairs([rows, inner, columns], a, b, c) };
    }
    panic!("a processor without products of bf16 was given one: {rows} {inner} {columns} {a:?} {b:?} {c:?}");
}

/// What a product of integers is multiplied by, and what it begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    /// Of each row.
    pub(super) rows: *const f32,
    /// Of each column.
    pub(super) columns: *const f32,
    /// What the zero of the rows adds to each column.
    pub(super) zeros: *const f32,
}

/// c `[rows, columns]` = (a `[rows, 4 * inner]` - 128) b, of at most [`ROWS`] rows and a panel `[inner, 32, 4]`, times
/// scales.
///
/// # Safety
/// All lie in memory as they say.
pub(super) unsafe fn integers(
    [rows, inner, columns]: [usize; 3],
    a: At<*const u8>,
    panel: *const i8,
    scales: Scales,
    c: At<*mut f32>,
) {
    debug_assert!(rows <= ROWS && columns <= COLUMNS);
    #[cfg(target_arch = "x86_64")]
    if wide::integers::are_here() {
        // SAFETY: the processor was just asked; memory is the caller's duty.
        return unsafe { wide::integers::integers([rows, inner, columns], a, panel, scales, c) };
    }
    #[cfg(target_arch = "x86_64")]
    if avx2::is_here() {
        // SAFETY: as above.
        return unsafe { avx2::integers([rows, inner, columns], a, panel, scales, c) };
    }
    plain::integers([rows, inner, columns], a, panel, scales, c);
}

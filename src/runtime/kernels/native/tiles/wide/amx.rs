//! Products in the processor's own tiles (AMX): 16 rows of 64 bytes, of which one instruction multiplies two.

use std::arch::asm;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::super::{At, COLUMNS, DEPTH, Scales};
use super::integers;

/// Rows of a tile.
const TILE_ROWS: usize = 16;
/// Bytes of a row of a tile.
const TILE_BYTES: usize = 64;
/// Rows that are multiplied at once: two tiles of them by two of columns.
pub(in crate::runtime::kernels::native) const ROWS: usize = 2 * TILE_ROWS;
/// Blocks of numbers, of 32 bits, that a product is a multiple of deep.
pub(in crate::runtime::kernels::native) const STEP: usize = TILE_BYTES / size_of::<u32>();

/// Whether the processor has tiles for integers and bf16, and the system lets this process use them, which it asks for.
pub(in super::super) fn is_here() -> bool {
    static HERE: OnceLock<bool> = OnceLock::new();
    *HERE.get_or_init(|| super::bf16::is_here() && super::integers::are_here() && is_known() && is_allowed())
}

fn is_known() -> bool {
    const FEATURES: u32 = 7;
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    let last = std::arch::x86_64::__cpuid(0).eax;
    let has = |bits: u32| std::arch::x86_64::__cpuid_count(FEATURES, 0).edx & bits == bits;
    last >= FEATURES && has(BF16 | TILE | INT8)
}

#[cfg(target_os = "linux")]
fn is_allowed() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: it changes what the process may use, and no memory of it.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_allowed() -> bool {
    false
}

/// The tiles of this thread, set up for so many rows, until they are dropped.
pub(in crate::runtime::kernels::native) struct Tiles {
    rows: usize,
    /// Another thread has others.
    here: PhantomData<*const ()>,
}

/// Where tiles are left, in whole lines.
#[repr(align(64))]
struct Sums<T>([MaybeUninit<T>; ROWS * COLUMNS]);

/// What `ldtilecfg` reads.
#[repr(C)]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row of each tile.
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Fetches lines of the columns that the next step reads: the processor foresees too few of them.
macro_rules! fetch {
    ($($line:literal),*) => {
        concat!($("prefetcht0 [{b} + 2048 + 64*", $line, "]\n"),*)
    };
}

/// Sums in tiles 0 to 3, rows in 4 and 5, columns in 6 and 7: c = a b, of a block's whole depth.
macro_rules! multiply {
    ($instruction:literal, $tiles:expr, $steps:expr, $a:expr, $b:expr, $c:expr) => {
        // SAFETY: the caller's duty.
        unsafe {
            let (a, b, c): (At<*const u8>, At<*const u8>, At<*mut u8>) = ($a, $b, $c);
            let b_step = TILE_ROWS * b.stride;
            if $tiles.rows > TILE_ROWS {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm6, [{b} + {b_stride}*1]",
                    fetch!(0, 1, 2, 3),
                    "tileloadd tmm4, [{upper} + {a_stride}*1]",
                    fetch!(4, 5, 6, 7),
                    "tileloadd tmm7, [{b} + {b_stride}*1 + 64]",
                    fetch!(8, 9, 10, 11),
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    fetch!(12, 13, 14, 15),
                    "tileloadd tmm5, [{lower} + {a_stride}*1]",
                    fetch!(16, 17, 18, 19),
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    fetch!(20, 21, 22, 23),
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    fetch!(24, 25, 26, 27),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    fetch!(28, 29, 30, 31),
                    "add {upper}, 64",
                    "add {lower}, 64",
                    "add {b}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{c} + {c_stride}*1], tmm0",
                    "tilestored [{c} + {c_stride}*1 + 64], tmm1",
                    "tilestored [{c_lower} + {c_stride}*1], tmm2",
                    "tilestored [{c_lower} + {c_stride}*1 + 64], tmm3",
                    upper = inout(reg) a.data => _,
                    lower = inout(reg) a.data.wrapping_add(TILE_ROWS * a.stride) => _,
                    a_stride = in(reg) a.stride,
                    b = inout(reg) b.data => _,
                    b_stride = in(reg) b.stride,
                    b_step = in(reg) b_step,
                    c = in(reg) c.data,
                    c_lower = in(reg) c.data.wrapping_add(TILE_ROWS * c.stride),
                    c_stride = in(reg) c.stride,
                    steps = inout(reg) $steps => _,
                    options(nostack),
                );
            } else {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "2:",
                    "tileloadd tmm4, [{a} + {a_stride}*1]",
                    "tileloadd tmm6, [{b} + {b_stride}*1]",
                    fetch!(0, 1, 2, 3, 4, 5, 6, 7),
                    "tileloadd tmm7, [{b} + {b_stride}*1 + 64]",
                    fetch!(8, 9, 10, 11, 12, 13, 14, 15),
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    fetch!(16, 17, 18, 19, 20, 21, 22, 23),
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    fetch!(24, 25, 26, 27, 28, 29, 30, 31),
                    "add {a}, 64",
                    "add {b}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{c} + {c_stride}*1], tmm0",
                    "tilestored [{c} + {c_stride}*1 + 64], tmm1",
                    a = inout(reg) a.data => _,
                    a_stride = in(reg) a.stride,
                    b = inout(reg) b.data => _,
                    b_stride = in(reg) b.stride,
                    b_step = in(reg) b_step,
                    c = in(reg) c.data,
                    c_stride = in(reg) c.stride,
                    steps = inout(reg) $steps => _,
                    options(nostack),
                );
            }
        }
    };
}

// === impl Tiles ===

impl Tiles {
    /// Sets them up for so many rows, if the processor has them.
    ///
    /// # Safety
    /// This thread has no others.
    pub(in crate::runtime::kernels::native) unsafe fn of_rows(rows: usize) -> Option<Self> {
        // SAFETY: the processor was just asked.
        is_here().then(|| unsafe { Self::new(rows) })
    }

    /// Sets them up for so many rows.
    ///
    /// # Safety
    /// The processor [has them](is_here), and this thread has no others.
    unsafe fn new(rows: usize) -> Self {
        debug_assert!((1..=ROWS).contains(&rows));
        let (upper, lower) = (rows.min(TILE_ROWS), rows.saturating_sub(TILE_ROWS));
        let of = [upper, upper, lower, lower, upper, lower, TILE_ROWS, TILE_ROWS];
        let mut shapes =
            Shapes { palette: 1, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        for (tile, rows) in of.into_iter().enumerate().filter(|&(_, rows)| rows > 0) {
            shapes.bytes[tile] = TILE_BYTES as u16;
            shapes.rows[tile] = rows as u8;
        }
        // SAFETY: the processor has the instruction, which reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        Self { rows, here: PhantomData }
    }

    /// [`integers`](super::super::integers) of as many rows as the tiles are for; `inner` is a multiple of [`STEP`].
    ///
    /// # Safety
    /// All lie in memory as they say, and there is a step.
    pub(in crate::runtime::kernels::native) unsafe fn integers(
        &self,
        [rows, inner, columns]: [usize; 3],
        a: At<*const u8>,
        panel: *const i8,
        scales: Scales,
        c: At<*mut f32>,
    ) {
        debug_assert!(rows == self.rows && inner > 0 && inner.is_multiple_of(STEP));
        let mut sums = Sums([const { MaybeUninit::<i32>::uninit() }; ROWS * COLUMNS]);
        let to = At { data: sums.0.as_mut_ptr().cast::<i32>(), stride: COLUMNS };
        let panel = At { data: panel.cast(), stride: COLUMNS * DEPTH };
        multiply!("tdpbusd", self, inner / STEP, a, panel, in_bytes(to));
        // SAFETY: the caller's duty.
        unsafe { integers::scale([rows, columns], sums.0.as_ptr().cast(), scales, c) };
    }

    /// [`pairs`](super::super::pairs) of as many rows as the tiles are for, and [`COLUMNS`]; `inner` is a multiple of
    /// [`STEP`].
    ///
    /// # Safety
    /// All lie in memory as they say, and there is a step.
    pub(in crate::runtime::kernels::native) unsafe fn pairs(
        &self,
        inner: usize,
        a: At<*const u32>,
        b: At<*const u32>,
        c: At<*mut f32>,
    ) {
        debug_assert!(inner > 0 && inner.is_multiple_of(STEP));
        let of = |x: At<*const u32>| At { data: x.data.cast::<u8>(), stride: x.stride * size_of::<u32>() };
        multiply!("tdpbf16ps", self, inner / STEP, of(a), of(b), in_bytes(c));
    }

    /// The same of which only so many rows and columns are kept.
    ///
    /// # Safety
    /// As of [`pairs`](Self::pairs).
    pub(in crate::runtime::kernels::native) unsafe fn pairs_of(
        &self,
        [rows, inner, columns]: [usize; 3],
        a: At<*const u32>,
        b: At<*const u32>,
        c: At<*mut f32>,
    ) {
        // SAFETY: the caller's duty.
        unsafe {
            if [rows, columns] == [self.rows, COLUMNS] {
                return self.pairs(inner, a, b, c);
            }
            let mut sums = Sums([const { MaybeUninit::<f32>::uninit() }; ROWS * COLUMNS]);
            let from = sums.0.as_mut_ptr().cast::<f32>();
            self.pairs(inner, a, b, At { data: from, stride: COLUMNS });
            for i in 0..rows {
                std::ptr::copy_nonoverlapping(from.add(i * COLUMNS), c.data.add(i * c.stride), columns);
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: who made it has seen that the processor has tiles.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

fn in_bytes<T>(c: At<*mut T>) -> At<*mut u8> {
    At { data: c.data.cast(), stride: c.stride * size_of::<T>() }
}

//! Transparent huge pages of Linux.
#![expect(unsafe_code, reason = "calls of the system about pages")]

use std::ffi::c_void;
use std::io;
use std::mem;
use std::path::Path;
use std::ptr;

/// Bytes that are copied before they are put in place: so many are in memory twice at most.
const TOGETHER: usize = 64 << 20;

/// The size of a huge page, if programs that ask get some.
pub(super) fn page() -> Option<usize> {
    let of = |name: &str| {
        std::fs::read_to_string(Path::new("/sys/kernel/mm/transparent_hugepage").join(name)).ok()
    };
    // SAFETY: asks, and changes nothing.
    let are_disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } == 1;
    if are_disabled || of("enabled")?.contains("[never]") {
        return None;
    }
    let size: usize = of("hpage_pmd_size")?.trim().parse().ok()?;
    size.is_power_of_two().then_some(size)
}

/// Puts a copy of all whole huge pages of the bytes in their place; returns how many bytes these are.
pub(super) fn replace(bytes: &[u8], page: usize) -> io::Result<usize> {
    let skipped = bytes.as_ptr().align_offset(page).min(bytes.len());
    let whole = (bytes.len() - skipped) / page * page;
    let together = TOGETHER.next_multiple_of(page);
    bytes[skipped..skipped + whole].chunks(together).try_for_each(|part| replace_part(part, page))?;
    Ok(whole)
}

/// The same of whole huge pages.
fn replace_part(part: &[u8], page: usize) -> io::Result<()> {
    let new = Fresh::new(part.len(), page)?;
    // SAFETY: the new pages are ours alone until they take the place of those that they are a copy of. That is one call of
    // the system: who reads the place meanwhile waits for it, and finds the same bytes. Their owner gives the place
    // back as a whole, whatever lies there.
    unsafe {
        // a system that has none left gives small ones
        libc::madvise(new.at, new.length, libc::MADV_HUGEPAGE);
        ptr::copy_nonoverlapping(part.as_ptr(), new.at.cast(), new.length);
        succeed(libc::mprotect(new.at, new.length, libc::PROT_READ) == 0)?;
        let place: *mut c_void = part.as_ptr().cast_mut().cast();
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        succeed(libc::mremap(new.at, new.length, new.length, flags, place) == place)?;
    }
    // where it was is anybody's now
    mem::forget(new);
    Ok(())
}

fn succeed(is_well: bool) -> io::Result<()> {
    if is_well { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Pages that nobody else uses.
struct Fresh {
    at: *mut c_void,
    length: usize,
}

// === impl Fresh ===

impl Fresh {
    /// Whole pages, from a multiple of their size on.
    fn new(length: usize, page: usize) -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the system chooses a place that is free; of that the edges are given back.
        unsafe {
            let room = libc::mmap(ptr::null_mut(), length + page, protection, flags, -1, 0);
            succeed(room != libc::MAP_FAILED)?;
            let before = (room as usize).next_multiple_of(page) - room as usize;
            let at = room.byte_add(before);
            for (edge, length) in [(room, before), (at.byte_add(length), page - before)] {
                if length > 0 {
                    libc::munmap(edge, length);
                }
            }
            Ok(Self { at, length })
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // SAFETY: nobody else has seen them.
        unsafe { libc::munmap(self.at, self.length) };
    }
}

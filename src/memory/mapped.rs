//! Mapped bytes: of files, which may move into huge pages, and room that is in such pages from the start.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapMut};

/// Bytes that are only read, and stay where they are.
#[derive(Debug)]
pub struct Mapped {
    bytes: Mmap,
}

/// Why bytes stay in the pages that they are in.
#[derive(Debug, thiserror::Error)]
pub enum NotMoved {
    /// The system has no huge pages for this program, which asks.
    #[error(
        "the system gives this program no huge pages: /sys/kernel/mm/transparent_hugepage/enabled is neither always nor \
         madvise, or PR_SET_THP_DISABLE is set"
    )]
    NoHugePages,
    /// They would fill more than half of the memory that is free.
    #[error("a copy takes {needed} MiB, and {free} MiB are free, of which as many have to stay free")]
    Short {
        /// Of the copy, in MiB.
        needed: u64,
        /// In MiB: of the machine, or of the control group if that is less.
        free: u64,
    },
    /// The system refused a part.
    #[error(transparent)]
    System(#[from] io::Error),
}

// === impl Mapped ===

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read only. Whoever truncates a file while it is read ends the process, as with any mapped
        // file; the documentation says to replace files by renaming.
        #[expect(unsafe_code)]
        let bytes = unsafe { Mmap::map(file) }?;
        Ok(Self { bytes })
    }

    /// Bytes that no file has.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new(bytes: MmapMut) -> io::Result<Self> {
        Ok(Self { bytes: bytes.make_read_only()? })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Zeros, in huge pages if the system has some.
///
/// # Errors
/// If memory is short.
pub fn room(bytes: usize) -> io::Result<MmapMut> {
    let room = MmapMut::map_anon(bytes)?;
    #[cfg(target_os = "linux")]
    if let Err(error) = room.advise(memmap2::Advice::HugePage) {
        tracing::debug!(%error, "no huge pages");
    }
    Ok(room)
}

/// Copies what they hold into huge pages and puts these in the place of the file's. Whoever reads meanwhile notices nothing:
/// bytes keep their addresses and values. A processor reads through huge pages a third faster, because it has less
/// to look up. Returns how many bytes were moved: all but those at the edges, which fill no huge page.
///
/// # Errors
/// If the system has no huge pages, or too little memory is free for a copy. What was moved before stays so.
pub fn into_huge_pages(all: &[&Mapped]) -> Result<usize, NotMoved> {
    if all.is_empty() {
        return Ok(0);
    }
    #[cfg(target_os = "linux")]
    {
        let size = super::huge::page().ok_or(NotMoved::NoHugePages)?;
        let needed = all.iter().map(|mapped| mapped.len() as u64).sum();
        super::free::check(needed)?;
        all.iter().map(|mapped| Ok(super::huge::replace(mapped, size)?)).sum()
    }
    #[cfg(not(target_os = "linux"))]
    Err(NotMoved::NoHugePages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn file(bytes: &[u8]) -> Mapped {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Mapped::open(&file).unwrap()
    }

    #[test]
    fn bytes_that_move_keep_their_place_and_their_values_while_others_read_them() {
        let bytes: Vec<u8> =
            (0..100_u32 << 18).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        let mapped = file(&bytes);
        let at = mapped.as_ptr();
        let is_over = AtomicBool::new(false);
        let moved = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        assert!(*mapped == *bytes, "a reader saw other bytes");
                    }
                });
            }
            let moved = into_huge_pages(&[&mapped]);
            is_over.store(true, Ordering::Relaxed);
            moved
        });
        assert!(*mapped == *bytes && mapped.as_ptr() == at);
        match moved {
            Ok(moved) => assert!(moved > bytes.len() / 2, "{moved} of {}", bytes.len()),
            Err(reason) => eprintln!("not moved here: {reason}"),
        }
    }

    #[test]
    fn what_fills_no_huge_page_stays() {
        let mapped = file(b"a few bytes");
        if let Ok(moved) = into_huge_pages(&[&mapped]) {
            assert_eq!(moved, 0);
        }
        assert_eq!(&*mapped, b"a few bytes");
    }
}

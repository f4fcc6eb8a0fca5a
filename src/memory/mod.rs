//! Mapped files, and how they come into huge pages.

#[cfg(target_os = "linux")]
mod free;
#[cfg(target_os = "linux")]
mod huge;
mod mapped;

pub use mapped::{Mapped, NotMoved, into_huge_pages, room};

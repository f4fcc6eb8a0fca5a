//! Listing the prompts folder: names and stamps, no contents.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

const EXTENSION: &str = ".safetensors";
const LONGEST_NAME: usize = 128;
/// Files without a usable name that are told one by one; a folder may hold any number of them.
const MAX_REFUSED: usize = 100;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) modified: Option<SystemTime>,
    pub(super) length: u64,
    inode: u64,
}

/// A prompt file as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Its stamp, or why it cannot be read.
    pub(super) stamp: Result<Stamp, String>,
}

/// The folder at one moment.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) prompts: BTreeMap<Arc<str>, Found>,
    pub(super) refused: BTreeMap<String, String>,
}

/// Lists the prompt files of a folder, `limit` at most, those that are `known` before others. Links are
/// followed; names that start with a dot are passed over (files in the making, and the hidden folders of
/// Kubernetes mounts).
///
/// # Errors
/// If the folder cannot be read to its end: then nothing is known about any file.
pub(super) fn list(folder: &Path, limit: usize, known: impl Fn(&str) -> bool) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut names: Vec<(bool, String)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.file_name();
        let text = file.to_string_lossy();
        let Some(name) = text.strip_suffix(EXTENSION).filter(|_| !text.starts_with('.')) else { continue };
        if is_task_name(name) {
            names.push((!known(name), name.to_owned()));
        } else {
            listing.refuse(
                &text,
                format!(
                    "{name:?} cannot name a task; use 1 to {LONGEST_NAME} of A-Z a-z 0-9 . _ -, a letter or digit \
                     first"
                ),
            );
        }
    }
    names.sort_unstable();
    for (_, name) in names {
        let file = format!("{name}{EXTENSION}");
        if listing.prompts.len() == limit {
            listing.refuse(&file, format!("the folder has more than {limit} prompts; raise --max-prompts"));
            continue;
        }
        let path = folder.join(&file);
        let stamp = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Stamp::of(&metadata)),
            Ok(_) => Err("not a regular file".into()),
            // removed since it was listed, or a link to nothing
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        listing.prompts.insert(name.into(), Found { path, stamp });
    }
    Ok(listing)
}

fn is_task_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(plain)
}

// === impl Listing ===

impl Listing {
    fn refuse(&mut self, file: &str, reason: String) {
        if self.refused.len() < MAX_REFUSED {
            self.refused.insert(file.to_owned(), reason);
        }
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: metadata.modified().ok(), length: metadata.len(), inode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_takes_prompts_and_tells_what_it_refuses() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a.safetensors", "b-2.x_y.safetensors", ".writing-1.safetensors", "notes.txt"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        std::fs::write(folder.path().join("so not.safetensors"), "x").unwrap();
        std::fs::create_dir(folder.path().join("dir.safetensors")).unwrap();
        let listing = list(folder.path(), 10, |_| false).unwrap();
        let names: Vec<&str> = listing.prompts.keys().map(AsRef::as_ref).collect();
        assert_eq!(names, ["a", "b-2.x_y", "dir"]);
        assert!(listing.prompts["dir"].stamp.is_err());
        assert!(listing.refused["so not.safetensors"].contains("cannot name a task"));
        let full = list(folder.path(), 1, |name| name == "b-2.x_y").unwrap();
        assert!(full.prompts.contains_key("b-2.x_y"), "what is known is not pushed out");
        assert!(full.refused["a.safetensors"].contains("--max-prompts"));
        assert!(list(&folder.path().join("nowhere"), 10, |_| false).is_err());
    }

    #[test]
    fn names_are_what_fits_a_path_of_a_url() {
        for name in ["a", "A1", "x.y-z_1", &"n".repeat(128)] {
            assert!(is_task_name(name), "{name}");
        }
        for name in ["", ".a", "-a", "a b", "ä", "a/b", &"n".repeat(129)] {
            assert!(!is_task_name(name), "{name}");
        }
    }
}

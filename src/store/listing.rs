//! Where a task's objects are, and which objects are tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::storage::{Listed, Storage, StorageError, Tag};

pub(super) const PROMPT: &str = ".safetensors";
const STATE: &str = ".json";
const STATES: &str = ".xprompt/state";
const VERSIONS: &str = ".xprompt/versions";
const LONGEST_NAME: usize = 128;
/// Files without a usable name that are told one by one; a folder may hold any number of them.
const MAX_REFUSED: usize = 100;

/// A prompt as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its tag, or why it cannot be read.
    pub(super) tag: Result<Tag, String>,
    pub(super) settled: bool,
}

/// All objects at one moment.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) prompts: BTreeMap<Arc<str>, Found>,
    pub(super) refused: BTreeMap<String, String>,
    /// Tags of the tasks' states.
    pub(super) states: BTreeMap<Arc<str>, Tag>,
}

/// The key of the version that is active: what people copy files to.
pub(super) fn prompt_key(task: &str) -> String {
    format!("{task}{PROMPT}")
}

/// The key of a kept version.
pub(super) fn version_key(task: &str, version: &str) -> String {
    format!("{VERSIONS}/{task}/{version}{PROMPT}")
}

/// The key of a task's state.
pub(super) fn state_key(task: &str) -> String {
    format!("{STATES}/{task}{STATE}")
}

/// The kept versions that are stored.
pub(super) fn list_versions(storage: &dyn Storage, task: &str) -> Result<Vec<String>, StorageError> {
    let listed = storage.list(&format!("{VERSIONS}/{task}"), PROMPT)?;
    Ok(listed.iter().filter_map(|file| file.name.strip_suffix(PROMPT)).map(str::to_owned).collect())
}

/// Lists the prompts, `limit` at most, those that are `known` before others, and the states.
pub(super) fn list(
    storage: &dyn Storage,
    limit: usize,
    known: impl Fn(&str) -> bool,
) -> Result<Listing, StorageError> {
    let mut listing = Listing::default();
    let mut prompts: Vec<(bool, Arc<str>, Found)> = Vec::new();
    for Listed { name: file, tag, settled, .. } in storage.list("", PROMPT)? {
        let name = file.strip_suffix(PROMPT).unwrap_or(&file);
        if is_task_name(name) {
            prompts.push((!known(name), name.into(), Found { tag, settled }));
        } else {
            listing.refuse(&file, format!("{name:?} cannot name a task; {NAMES}"));
        }
    }
    prompts.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for (_, name, found) in prompts {
        if listing.prompts.len() == limit {
            let reason = format!("there are more than {limit} prompts; raise --max-prompts");
            listing.refuse(&prompt_key(&name), reason);
        } else {
            listing.prompts.insert(name, found);
        }
    }
    for Listed { name: file, tag, .. } in storage.list(STATES, STATE)? {
        if let (Some(name), Ok(tag)) = (file.strip_suffix(STATE), tag) {
            listing.states.insert(name.into(), tag);
        }
    }
    Ok(listing)
}

/// What names of tasks are made of, for people.
pub(super) const NAMES: &str = "use 1 to 128 of A-Z a-z 0-9 . _ -, a letter or digit first";

pub(super) fn is_task_name(name: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::storage::FolderStorage;

    #[test]
    fn a_listing_takes_prompts_and_tells_what_it_refuses() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(STATES)).unwrap();
        for file in ["a.safetensors", "b-2.x_y.safetensors", "so not.safetensors", ".xprompt/state/a.json"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        let storage = FolderStorage::new(folder.path());
        let listing = list(&storage, 10, |_| false).unwrap();
        let names: Vec<&str> = listing.prompts.keys().map(AsRef::as_ref).collect();
        assert_eq!(names, ["a", "b-2.x_y"]);
        assert!(listing.refused["so not.safetensors"].contains("cannot name a task"));
        assert_eq!(listing.states.keys().map(AsRef::as_ref).collect::<Vec<_>>(), ["a"]);
        let full = list(&storage, 1, |name| name == "b-2.x_y").unwrap();
        assert!(full.prompts.contains_key("b-2.x_y"), "what is known is not pushed out");
        assert!(full.refused["a.safetensors"].contains("--max-prompts"));
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

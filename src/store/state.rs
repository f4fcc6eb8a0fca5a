//! What the store remembers of a task beside its active file: which versions are kept, and who gets which.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The form of the file.
const FORMAT: u32 = 1;

/// A version whose file is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptVersion {
    /// The version.
    pub version: String,
    /// Size of its file.
    pub bytes: u64,
    /// When it last became active, or was uploaded; milliseconds since 1970.
    since: u64,
    /// Whether it was never active.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub candidate: bool,
}

/// The state of a task, as JSON beside the prompts. The active version is not decided here: it is what the task's
/// own file holds, and the first of `versions` follows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    /// Kept versions. The first was active last; behind it come candidates and earlier versions, the latest first.
    pub versions: Vec<KeptVersion>,
    /// Percent of the requests that other versions than the active one get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub traffic: BTreeMap<String, u8>,
    /// A version that is computed beside the one that answers, to compare them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// Whether the task's rows stay in memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

// === impl KeptVersion ===

impl KeptVersion {
    /// A version from a moment on.
    #[must_use]
    pub fn new(version: &str, bytes: u64, since: SystemTime) -> Self {
        let since = since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Self { version: version.to_owned(), bytes, since, candidate: false }
    }

    /// When it last became active, or was uploaded.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.since)).unwrap_or(UNIX_EPOCH)
    }
}

// === impl State ===

impl Default for State {
    fn default() -> Self {
        Self { format: FORMAT, versions: Vec::new(), traffic: BTreeMap::new(), shadow: None, pinned: false }
    }
}

impl State {
    /// A state of versions of which only the names are known.
    #[must_use]
    pub fn of_versions<'a>(versions: impl Iterator<Item = &'a str>) -> Self {
        let versions = versions.map(|version| KeptVersion::new(version, 0, UNIX_EPOCH)).collect();
        Self { versions, ..Self::default() }
    }

    /// Reads a stored state.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let state: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if state.format == FORMAT {
            Ok(state)
        } else {
            Err(format!("format {}, this program reads format {FORMAT}", state.format))
        }
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("invariant: names and numbers are JSON")
    }

    /// The version that was active last.
    #[must_use]
    pub fn latest(&self) -> Option<&KeptVersion> {
        self.versions.first()
    }

    /// The version that was active before the last one.
    #[must_use]
    pub fn before_latest(&self) -> Option<&KeptVersion> {
        self.versions.iter().skip(1).find(|kept| !kept.candidate)
    }

    /// A kept version.
    #[must_use]
    pub fn find(&self, version: &str) -> Option<&KeptVersion> {
        self.versions.iter().find(|kept| kept.version == version)
    }

    /// Notes that a version became active. It gets what no other version gets, so it leaves the table; of the others
    /// at most `keep` are kept.
    pub fn activate(&mut self, active: KeptVersion, keep: usize) {
        self.versions.retain(|kept| kept.version != active.version);
        self.traffic.remove(&active.version);
        self.shadow.take_if(|shadow| *shadow == active.version);
        self.versions.insert(0, active);
        self.prune(keep);
    }

    /// Notes a version that is kept and not active. It comes right behind the active one, so it is pruned last.
    pub fn add(&mut self, version: KeptVersion, keep: usize) {
        if self.find(&version.version).is_none() {
            let version = KeptVersion { candidate: true, ..version };
            self.versions.insert(self.versions.len().min(1), version);
            self.prune(keep);
        }
    }

    /// Forgets a version whose file is lost.
    pub fn forget(&mut self, version: &str) {
        self.versions.retain(|kept| kept.version != version);
        self.traffic.remove(version);
        self.shadow.take_if(|shadow| shadow == version);
    }

    /// Whether a version gets requests, or is compared.
    #[must_use]
    pub fn uses(&self, version: &str) -> bool {
        self.traffic.contains_key(version) || self.shadow.as_deref() == Some(version)
    }

    /// Drops the oldest versions over the limit, but none that is used.
    fn prune(&mut self, keep: usize) {
        let mut over = self.versions.len().saturating_sub(keep + 1);
        for i in (1..self.versions.len()).rev() {
            if over == 0 {
                break;
            }
            if !self.uses(&self.versions[i].version) {
                self.versions.remove(i);
                over -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(version: &str) -> KeptVersion {
        KeptVersion::new(version, 1, UNIX_EPOCH + Duration::from_millis(1234))
    }

    fn names(state: &State) -> Vec<&str> {
        state.versions.iter().map(|kept| kept.version.as_str()).collect()
    }

    #[test]
    fn versions_stand_in_the_order_of_their_activation_and_the_oldest_unused_go() {
        let mut state = State::default();
        for version in ["a", "b", "c"] {
            state.activate(kept(version), 2);
        }
        assert_eq!(names(&state), ["c", "b", "a"]);
        state.traffic.insert("a".into(), 10);
        assert_eq!(state.before_latest(), Some(&kept("b")));
        state.add(kept("d"), 2);
        assert_eq!(names(&state), ["c", "d", "a"], "what gets requests is kept");
        assert_eq!(state.before_latest(), Some(&kept("a")), "what was never active is not before");
        state.activate(kept("a"), 2);
        assert_eq!((names(&state), state.traffic.len()), (vec!["a", "c", "d"], 0));
        assert_eq!(State::from_json(&state.to_json()), Ok(state));
        assert!(State::from_json(b"{\"format\": 2, \"versions\": []}").unwrap_err().contains("format 2"));
    }
}

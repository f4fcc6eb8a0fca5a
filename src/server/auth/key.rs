//! A key, what it is for, and how it is made.

use std::fmt;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// What every key begins with, so that scanners for leaked secrets find it.
const PREFIX: &str = "xp_";

/// Random bytes of a key. Nobody guesses so many, so a plain hash keeps them as well as a slow one would.
const RANDOM_BYTES: usize = 32;

/// What a key is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Predictions on these tasks; `news-*` is every task whose name begins with `news-`, `*` is every task.
    pub predict: Vec<String>,
    /// Changes of what is served, and metrics.
    pub admin: bool,
    /// Metrics.
    pub metrics: bool,
}

/// A key of the file. What it hashes is not known.
#[derive(Debug)]
pub(super) struct Key {
    name: String,
    hash: [u8; 32],
    scopes: Scopes,
}

/// A key that was made now; it is shown once.
pub struct NewKey {
    text: String,
    line: String,
}

// === impl Key ===

impl Key {
    pub(super) fn new(name: String, hash: [u8; 32], scopes: Scopes) -> Self {
        Self { name, hash, scopes }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has this hash, found out in a time that says nothing about the hash.
    pub(super) fn has(&self, hash: &[u8; 32]) -> Choice {
        self.hash.ct_eq(hash)
    }

    pub(super) fn predicts(&self, task: &str) -> bool {
        self.scopes.predict.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => task.starts_with(prefix),
            None => pattern == task,
        })
    }

    /// Whether it may look at a task.
    pub(super) fn sees(&self, task: &str) -> bool {
        self.scopes.admin || self.predicts(task)
    }

    pub(super) fn administers(&self) -> bool {
        self.scopes.admin
    }

    pub(super) fn reads_metrics(&self) -> bool {
        self.scopes.admin || self.scopes.metrics
    }
}

// === impl NewKey ===

impl NewKey {
    /// Makes a key of this name.
    ///
    /// # Errors
    /// If the name or a task's pattern is none, or the system has no random numbers.
    pub fn make(name: &str, scopes: &Scopes) -> Result<Self, String> {
        check(name, scopes)?;
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| format!("the system has no random numbers: {error}"))?;
        let text = format!("{PREFIX}{}", hex(&random));
        let mut members = vec![format!("sha256 = \"{}\"", hex(&hash(&text)))];
        if !scopes.predict.is_empty() {
            members.push(format!("predict = {}", json!(scopes.predict)));
        }
        let switches = [("admin", scopes.admin), ("metrics", scopes.metrics)];
        members.extend(switches.iter().filter(|(_, set)| *set).map(|(member, _)| format!("{member} = true")));
        let line = format!("{name} = {{ {} }}", members.join(", "));
        Ok(Self { text, line })
    }

    /// The key, which is to be kept secret.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its line in the file of keys.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("line", &self.line).finish_non_exhaustive()
    }
}

/// Whether a key may be called so and be for this.
pub(super) fn check(name: &str, scopes: &Scopes) -> Result<(), String> {
    let plain = |text: &str| {
        text.len() <= 100 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if name.is_empty() || name.contains('.') || !plain(name) {
        return Err(format!("{name:?} is no name of a key; take letters, digits, - and _"));
    }
    for pattern in &scopes.predict {
        let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
        if pattern.is_empty() || !plain(prefix) {
            return Err(format!("{pattern:?} is no task; write a name, or the beginning of names with *"));
        }
    }
    if *scopes == Scopes::default() {
        return Err(format!("key {name} is for nothing; give it predict, admin or metrics"));
    }
    Ok(())
}

pub(super) fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Names of models on the hub.

use std::fmt;
use std::str::FromStr;

use super::HubError;

/// A model on the hub, in one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    name: String,
    revision: String,
}

const MAIN: &str = "main";

// === impl Repository ===

impl Repository {
    /// The model's name, such as `google/flan-t5-small`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A branch, a tag, a commit or a pull request's `refs/pr/N`.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The same model in another revision.
    ///
    /// # Errors
    /// If it is no revision's name.
    pub fn at(self, revision: &str) -> Result<Self, HubError> {
        format!("{}@{revision}", self.name).parse()
    }
}

impl FromStr for Repository {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = |reason| HubError::Name { text: text.to_owned(), reason };
        let (name, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let is_part = |part: &str| {
            let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.chars().all(inner)
                && !part.contains("..")
                && !part.contains("--")
        };
        if name.split('/').count() > 2 || !name.split('/').all(is_part) {
            return Err(wrong("a model is called NAME or OWNER/NAME, in letters, digits, '.', '_' and '-'"));
        }
        let is_step = |step: &str| {
            !step.is_empty()
                && !step.starts_with('.')
                && step.chars().all(|c| c.is_ascii_graphic() && c != '\\' && c != '@')
        };
        if !revision.split('/').all(is_step) {
            return Err(wrong("a revision is a branch, a tag, a commit or refs/pr/N"));
        }
        Ok(Self { name: name.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_cannot_leave_the_cache() {
        let read = |text: &str| text.parse::<Repository>();
        let flan = read("google/flan-t5-small").unwrap();
        assert_eq!((flan.name(), flan.revision()), ("google/flan-t5-small", "main"));
        assert_eq!(read("t5-small@v1.0").unwrap().to_string(), "t5-small@v1.0");
        assert_eq!(flan.at("refs/pr/3").unwrap().revision(), "refs/pr/3");
        for text in [
            "", "a/b/c", "/a", "a/", "../a", "a/..", "a b", "a@", "a@../b", "a@b/../c", "a@b@c", "a@/b",
            "a--b/c", "-a",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(&format!("hf:{text}")), "{error}");
        }
    }
}

//! What the store should do, said as simply as possible. Versions are numbers.

use std::collections::{BTreeMap, BTreeSet};

use xprompt::store::Precondition;

/// Earlier versions that are kept.
pub const KEEP: usize = 2;

/// What somebody asks for or does.
#[derive(Clone, Debug)]
pub enum Op {
    Put {
        version: usize,
        activate: bool,
        if_match: Option<Match>,
    },
    Delete {
        if_match: Option<Match>,
    },
    Rollback {
        version: Option<usize>,
    },
    Route {
        traffic: BTreeMap<usize, u8>,
        shadow: Option<usize>,
    },
    Pin(bool),
    /// A file is copied in by hand; `None` is one that is no prompt.
    Copy(Option<usize>),
    /// A file is taken away by hand.
    Take,
}

/// A precondition.
#[derive(Clone, Copy, Debug)]
pub enum Match {
    Absent,
    Present,
    Version(usize),
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Precondition,
    UnknownTask,
    UnknownVersion,
    BadRoutes,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// What its file holds: no file, no prompt, or a version.
    pub file: Option<Option<usize>>,
    /// What answers.
    pub active: Option<usize>,
    /// Whether the file is a bad one.
    pub failed: bool,
    /// Kept versions, the one that was active last first.
    pub versions: Vec<usize>,
    /// Those of them that were never active.
    pub candidates: BTreeSet<usize>,
    pub traffic: BTreeMap<usize, u8>,
    pub shadow: Option<usize>,
    pub pinned: bool,
}

impl Match {
    pub fn of(self, name: impl Fn(usize) -> String) -> Precondition {
        match self {
            Self::Absent => Precondition::Absent,
            Self::Present => Precondition::Present,
            Self::Version(version) => Precondition::OneOf(vec![name(version)]),
        }
    }

    fn holds(self, task: &Task) -> bool {
        match self {
            Self::Absent => task.file.is_none(),
            Self::Present => task.file.is_some(),
            Self::Version(version) => task.active == Some(version),
        }
    }
}

impl Task {
    /// The store looks at the task's file.
    pub fn look(&mut self) {
        match self.file {
            None => (self.active, self.failed) = (None, false),
            Some(Some(version)) => {
                (self.active, self.failed) = (Some(version), false);
                if self.versions.first() != Some(&version) {
                    self.become_active(version);
                }
            }
            Some(None) => {
                self.active = self.active.or(self.versions.first().copied());
                self.failed = true;
            }
        }
    }

    /// Does what is asked.
    pub fn apply(&mut self, op: &Op) -> Result<(), Refusal> {
        match op {
            Op::Copy(version) => {
                self.file = Some(*version);
                return Ok(());
            }
            Op::Take => {
                self.file = None;
                return Ok(());
            }
            _ => self.look(),
        }
        let refuse = |holds: bool, refusal| if holds { Ok(()) } else { Err(refusal) };
        if let Op::Put { if_match: Some(wanted), .. } | Op::Delete { if_match: Some(wanted) } = op {
            refuse(wanted.holds(self), Refusal::Precondition)?;
        }
        match op {
            Op::Put { version, activate: true, .. } => self.set(*version),
            Op::Put { version, activate: false, .. } => {
                refuse(self.active.is_some(), Refusal::UnknownTask)?;
                if !self.versions.contains(version) {
                    self.versions.insert(1, *version);
                    self.candidates.insert(*version);
                    self.prune();
                }
            }
            Op::Delete { .. } => {
                refuse(self.file.is_some() || !self.versions.is_empty(), Refusal::UnknownTask)?;
                *self = Self::default();
            }
            Op::Rollback { version } => {
                // a bad file alone leaves no history
                refuse(!self.versions.is_empty(), Refusal::UnknownTask)?;
                let in_order = self.file.is_some() && !self.failed;
                let before = if in_order {
                    self.versions[1..].iter().find(|version| !self.candidates.contains(version)).copied()
                } else {
                    self.versions.first().copied()
                };
                let target =
                    version.map_or(before, |version| self.versions.contains(&version).then_some(version));
                self.set(target.ok_or(Refusal::UnknownVersion)?);
            }
            Op::Route { traffic, shadow } => {
                refuse(self.active.is_some(), Refusal::UnknownTask)?;
                refuse(
                    traffic.values().map(|&percent| u32::from(percent)).sum::<u32>() <= 100,
                    Refusal::BadRoutes,
                )?;
                for version in traffic.keys().chain(shadow) {
                    refuse(self.active != Some(*version), Refusal::BadRoutes)?;
                    refuse(self.versions.contains(version), Refusal::UnknownVersion)?;
                }
                (self.traffic, self.shadow) = (traffic.clone(), *shadow);
            }
            Op::Pin(pinned) => {
                refuse(self.active.is_some(), Refusal::UnknownTask)?;
                self.pinned = *pinned;
            }
            Op::Copy(_) | Op::Take => {}
        }
        Ok(())
    }

    fn set(&mut self, version: usize) {
        self.file = Some(Some(version));
        self.look();
    }

    fn become_active(&mut self, version: usize) {
        self.versions.retain(|&kept| kept != version);
        self.versions.insert(0, version);
        self.candidates.remove(&version);
        self.traffic.remove(&version);
        self.shadow = self.shadow.filter(|&shadow| shadow != version);
        self.prune();
    }

    /// The oldest that get no requests go.
    fn prune(&mut self) {
        while self.versions.len() > KEEP + 1 {
            let unused =
                |version: &usize| !self.traffic.contains_key(version) && self.shadow != Some(*version);
            match self.versions[1..].iter().rposition(unused) {
                Some(i) => {
                    let dropped = self.versions.remove(i + 1);
                    self.candidates.remove(&dropped);
                }
                None => return,
            }
        }
    }
}

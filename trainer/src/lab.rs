//! What an experiment works with: the model's graphs, the run's folder, and what a person sees meanwhile.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::RunError;
use crate::evaluate::Evaluator;
use crate::folder::Folder;
use crate::progress::Progress;
use crate::race::{Finished, Group, race};
use crate::setup::Setup;
use crate::tuner::Tuner;

/// The tools of an experiment.
#[derive(Debug)]
pub struct Lab<'m> {
    /// The loaded model.
    pub setup: &'m Setup,
    /// Losses and gradients.
    pub tuner: Tuner<'m>,
    /// Answers.
    pub evaluator: Evaluator<'m>,
    /// Keeps what is finished and what is under way.
    pub folder: Folder,
    /// Shows how it goes.
    pub progress: Progress,
}

// === impl Lab ===

impl<'m> Lab<'m> {
    /// Tools over a loaded model.
    #[must_use]
    pub fn new(setup: &'m Setup, folder: Folder, progress: Progress) -> Self {
        Self { setup, tuner: setup.tuner(), evaluator: setup.evaluator(), folder, progress }
    }

    /// Does a part of the experiment, unless the run's folder holds its result.
    ///
    /// # Errors
    /// If the part fails or the folder is not usable.
    pub fn part<T: Serialize + DeserializeOwned>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Self) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        if let Some(done) = self.folder.begin(name)? {
            self.progress.line(&format!("{name:<22} done before"));
            return Ok(done);
        }
        let result = work(self)?;
        self.folder.finish(name, &result)?;
        Ok(result)
    }

    /// Tunes candidates side by side, as a part of the experiment.
    ///
    /// # Errors
    /// As [`race`].
    pub fn race(&mut self, name: &str, groups: &[Group<'_>]) -> Result<Vec<Vec<Finished>>, RunError> {
        self.part(name, |lab| race(lab, name, groups))
    }
}

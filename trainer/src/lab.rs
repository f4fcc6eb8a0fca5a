//! What an experiment works with: the model's graphs, the run's folder, and what a person sees meanwhile.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::RunError;
use crate::evaluate::Evaluator;
use crate::folder::Folder;
use crate::log::{Event, Log, Position};
use crate::progress::Progress;
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
    log: Option<Log>,
    /// Whether it was said that activations are computed again.
    said_again: bool,
    /// Shows how it goes.
    pub progress: Progress,
}

// === impl Lab ===

impl<'m> Lab<'m> {
    /// Tools over a loaded model; `log` takes what happens, if there is one.
    #[must_use]
    pub fn new(setup: &'m Setup, folder: Folder, log: Option<Log>, progress: Progress) -> Self {
        let (tuner, evaluator) = (setup.tuner(), setup.evaluator());
        Self { setup, tuner, evaluator, folder, log, said_again: false, progress }
    }

    /// Tools that keep nothing and log nothing.
    #[must_use]
    pub fn without_folder(setup: &'m Setup, progress: Progress) -> Self {
        Self::new(setup, Folder::none(), None, progress)
    }

    /// Notes an event in the log.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn log(&mut self, event: &Event) -> Result<(), RunError> {
        match &mut self.log {
            Some(log) => Ok(log.write(event)?),
            None => Ok(()),
        }
    }

    /// Says once, if it is so, that the memory does not hold what gradients read.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn note_what_is_computed_again(&mut self, part: &str, step: usize) -> Result<(), RunError> {
        if self.said_again || !self.tuner.computes_again() {
            return Ok(());
        }
        self.said_again = true;
        let mebibytes = self.setup.plan.mebibytes();
        self.progress.line(&format!(
            "{:<22} {mebibytes} MiB do not hold the activations of a step: they are computed again, with the same results",
            "memory"
        ));
        self.log(&Event::ComputedAgain { part: part.to_owned(), step, mebibytes })
    }

    /// Keeps where a part of the experiment stands.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn keep<T: Serialize>(&mut self, part: &str, state: &T) -> Result<(), RunError> {
        Ok(self.folder.put_under_way(part, state, self.log_position())?)
    }

    fn log_position(&self) -> Position {
        self.log.as_ref().map(Log::position).unwrap_or_default()
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
        let part = || name.to_owned();
        let under_way = self.folder.is_under_way(name);
        if !under_way {
            self.log(&Event::PartStarted { part: part() })?;
        }
        let result = work(self)?;
        let seconds = self.folder.seconds();
        self.log(&Event::PartFinished { part: part(), seconds })?;
        self.folder.finish(name, &result, self.log_position())?;
        Ok(result)
    }
}

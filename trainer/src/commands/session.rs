//! A task with its data and the loaded model: what the single stages work with.

use std::path::Path;

use xprompt_trainer::lab::Lab;
use xprompt_trainer::line::Line;
use xprompt_trainer::progress::Progress;
use xprompt_trainer::setup::Setup;
use xprompt_trainer::task_data::TaskData;

use super::options::ModelOptions;
use super::read_task;

/// A task with its data and the loaded model.
pub(super) struct Session {
    setup: Setup,
    task: TaskData,
}

// === impl Session ===

impl Session {
    pub(super) fn open(task: &Path, model: &ModelOptions) -> anyhow::Result<Self> {
        let (name, file) = read_task(task)?;
        let setup = model.load()?;
        let task = TaskData::read(&name, file, &setup)?;
        Ok(Self { setup, task })
    }

    /// Works on the task with a seed; progress goes to standard error.
    pub(super) fn with_line<T>(
        &self,
        seed: u64,
        work: impl FnOnce(&mut Lab<'_>, &Line<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut lab = Lab::without_folder(&self.setup, Progress::default());
        work(&mut lab, &Line { task: &self.task, seed })
    }
}

//! A task with its data and the loaded model: what the single stages work with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xprompt::prompt::PromptFile;
use xprompt_trainer::identity;
use xprompt_trainer::lab::Lab;
use xprompt_trainer::line::Line;
use xprompt_trainer::progress::Progress;
use xprompt_trainer::setup::Setup;
use xprompt_trainer::steps::StepError;
use xprompt_trainer::task_data::TaskData;

use super::options::ModelOptions;
use super::{read_task, write_prompt};

/// A task with its data and the loaded model.
pub(super) struct Session {
    pub(super) setup: Setup,
    pub(super) task: TaskData,
}

/// Where a prompt file's training is kept until the file is written.
fn underway(out: &Path) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(".underway");
    name.into()
}

// === impl Session ===

impl Session {
    pub(super) fn open(task: &Path, model: &ModelOptions) -> anyhow::Result<Self> {
        let (name, file) = read_task(task)?;
        let setup = model.load()?;
        let task = TaskData::read(&name, file, &setup)?;
        Ok(Self { setup, task })
    }

    /// Makes a prompt file by a training, which a folder beside it keeps until it is written: killed, the same command
    /// goes on. `what` tells it from other trainings that would make the file.
    pub(super) fn make(
        &mut self,
        out: &Path,
        seed: u64,
        what: Value,
        train: impl FnOnce(&mut Lab<'_>, &Line<'_>) -> Result<PromptFile, StepError>,
    ) -> anyhow::Result<()> {
        let progress = Progress::default();
        let mut description = identity::describe(&self.setup, std::slice::from_ref(&self.task), &[seed]);
        description["step"] = what;
        let folder = identity::open(&mut self.setup, &underway(out), &description, &progress)?;
        let mut lab = Lab::new(&self.setup, folder, None, progress);
        let file = train(&mut lab, &Line { task: &self.task, seed })
            .map_err(|error| error.under(self.setup.plan))?;
        write_prompt(&file, out)?;
        Ok(lab.folder.remove()?)
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

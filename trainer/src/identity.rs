//! What makes a run what it is: only the same run goes on in its folder.

use std::path::Path;

use serde_json::{Map, Value, json};
use xprompt::fingerprint;

use crate::PRODUCER;
use crate::folder::{Folder, FolderError};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::setup::Setup;
use crate::task_data::TaskData;
use crate::task_file::Initialization;

/// Everything that a run depends on, as its `run.json` holds it. What is planned from the machine stays as it was first
/// planned.
#[must_use]
pub fn describe(setup: &Setup, tasks: &[TaskData], seeds: &[u64]) -> Value {
    let task = |task: &TaskData| {
        let mut settings = json!(task.file);
        // files are known by their content, wherever they lie
        for files in ["train", "dev", "test"] {
            settings["data"][files].take();
        }
        if let Initialization::Prompt(path) = &task.file.tuning.initialization
            && let Ok(bytes) = std::fs::read(path)
        {
            settings["tuning"]["initialization"]["prompt"] = fingerprint::of_bytes(&bytes).into();
        }
        (task.name.clone(), json!({"settings": settings, "data": task.sources}))
    };
    json!({
        "producer": PRODUCER,
        "seeds": seeds,
        "tasks": tasks.iter().map(task).collect::<Map<_, _>>(),
        "base_model": setup.base.model,
        "tokenizer": setup.base.tokenizer,
        "device": setup.model.device().kind(),
        "precision": setup.model.precision().to_string(),
        "threads": setup.model.runtime().threads(),
        "plan": setup.plan,
    })
}

/// Opens the folder of the run that is described so. The plan for memory that the run began with is kept to, unless
/// another is asked for.
///
/// # Errors
/// As [`Folder::open`].
pub fn open(
    setup: &mut Setup,
    path: &Path,
    description: &Value,
    progress: &Progress,
) -> Result<Folder, FolderError> {
    let (folder, in_force) = Folder::open(path, description, &["plan"])?;
    if let Ok(plan) = serde_json::from_value(in_force["plan"].clone()) {
        go_on_as_planned(setup, plan, progress);
    }
    Ok(folder)
}

fn go_on_as_planned(setup: &mut Setup, first: Plan, progress: &Progress) {
    if !setup.plan_is_given {
        setup.plan = first;
    } else if setup.plan != first {
        progress.line(&format!(
            "{:<22} {} MiB from here on; the run began with {} MiB, and sums over other batches may round otherwise",
            "memory",
            setup.plan.mebibytes(),
            first.mebibytes(),
        ));
    }
}

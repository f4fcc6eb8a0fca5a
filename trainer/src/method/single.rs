//! The trainings of the method one at a time: those of [`run`](super::run), with nothing raced beside them.

use xprompt::prompt::Prompt;

use super::stages::announce;
use super::{ArmPrompt, Groups, candidate, trained};
use crate::error::RunError;
use crate::lab::Lab;
use crate::line::{Line, Stream};

/// Stage one: the tuned prompt.
///
/// # Errors
/// As [`run`](super::run).
pub fn tune(lab: &mut Lab<'_>, line: &Line<'_>) -> Result<ArmPrompt, RunError> {
    let (prompt, origin) = line.start(lab, Stream::Initial)?;
    lab.progress.line(&format!("{:<22} {origin}", "initial values"));
    let mut groups = Groups::default();
    groups.add(0, line.tuning("tuning", vec![candidate("tuned", &prompt)]));
    let tuned = groups.race(lab, "tuning")?.only(0, "tuning");
    announce(lab, line, "tuned", &tuned);
    Ok(trained("tuned", &tuned, 0))
}

/// The last stage: a pruned prompt that was rewound to the tuned values is retrained. The examples come in the order
/// of every retraining of the seed.
///
/// # Errors
/// As [`run`](super::run).
pub fn retrain(lab: &mut Lab<'_>, line: &Line<'_>, pruned: &Prompt) -> Result<ArmPrompt, RunError> {
    let mut groups = Groups::default();
    groups.add(0, line.retraining("retraining", vec![candidate("xprompt", pruned)]));
    let retrained = groups.race(lab, "retraining")?.only(0, "retraining");
    announce(lab, line, "xprompt", &retrained);
    Ok(trained("xprompt", &retrained, 0))
}

//! The whole method over lines of tasks and seeds, stage by stage: tune, score, prune tokens, prune pieces, rewind,
//! retrain; and the controls beside it.
//!
//! Pruning is hierarchical: first the share of tokens is chosen, then the share of pieces of the tokens that are left.
//! Every candidate starts from the values after tuning (rewinding), under its mask, and is retrained with its pruned
//! tokens absent from the sequence. All lines take a stage together: their candidates share batches.

mod controls;
mod masking;
mod single;
mod stages;

pub use single::{retrain, tune};

use xprompt::prompt::Prompt;

use crate::error::RunError;
use crate::importance::{Importance, Scores};
use crate::lab::Lab;
use crate::line::Line;
use crate::race::{Candidate, Finished, Group, race};
use crate::summary::{Masking, Training};

/// What the method and its controls made of one line.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Where the initial values come from, in words.
    pub origin: String,
    /// Stages, then controls, in the order of a table. `xprompt` is the result.
    pub arms: Vec<ArmPrompt>,
    /// Every ratio that was tried.
    pub trials: Vec<TrialPrompt>,
    /// Every token's score in the tuned prompt, and the scores of the pieces of those that survived, scored again.
    pub importance: Importance,
    /// The scores of all tokens and pieces of the tuned prompt.
    pub tuned_importance: Importance,
    /// The tuned prompt with tokens masked.
    pub masking: Vec<Masking>,
}

/// A prompt to be compared.
#[derive(Clone, Debug)]
pub struct ArmPrompt {
    /// Such as `tuned`.
    pub name: &'static str,
    /// The prompt.
    pub prompt: Prompt,
    /// The share that was pruned last, for a stage that prunes.
    pub ratio: Option<f64>,
    /// Optimizer steps from the initial values.
    pub steps: usize,
    /// Its last training; none if it was not trained after its mask was set.
    pub training: Option<Training>,
}

/// A ratio that was tried.
#[derive(Clone, Debug)]
pub struct TrialPrompt {
    /// `token`, `piece` or `piece_only`.
    pub level: &'static str,
    /// The share that was pruned.
    pub ratio: f64,
    /// The retrained prompt.
    pub finished: Finished,
    /// Whether it won its level.
    pub chosen: bool,
}

/// The best ratio of a level.
#[derive(Clone, Debug)]
struct Winner {
    ratio: f64,
    /// Masked and rewound.
    pruned: Prompt,
    retrained: Finished,
}

/// What is known of a line after each stage.
struct Known {
    initial: Prompt,
    tuned: Finished,
    scores: Scores,
    continued: Finished,
    tokens: Winner,
    /// Scores of the pieces of the tokens that were left.
    piece_scores: Importance,
    pieces: Winner,
    restarts: Option<Finished>,
    piece_only: Option<Winner>,
}

/// Runs the method and the controls that each task asks for.
///
/// # Errors
/// If ONNX Runtime fails, a training diverges, or the run's folder is not usable.
pub fn run(lab: &mut Lab<'_>, lines: &[Line<'_>]) -> Result<Vec<Record>, RunError> {
    let mut records: Vec<Record> = vec![Record::default(); lines.len()];
    let known = stages::run(lab, lines, &mut records)?;
    let controls = controls::run(lab, lines, &known)?;
    let masking = masking::run(lab, lines, &known)?;
    for (((record, known), controls), masking) in records.iter_mut().zip(known).zip(controls).zip(masking) {
        record.arms = known.arms();
        record.arms.extend(controls);
        let tuned = known.scores.absolute;
        record.importance = Importance { tokens: tuned.tokens.clone(), pieces: known.piece_scores.pieces };
        record.tuned_importance = tuned;
        record.masking = masking;
    }
    Ok(records)
}

fn candidate(name: &str, prompt: &Prompt) -> Candidate {
    Candidate { name: name.to_owned(), prompt: prompt.clone() }
}

/// The better on dev; of equal ones the smaller prompt, of equal sizes the first.
fn better(a: &Finished, b: &Finished) -> bool {
    let by_metric = a.metric.total_cmp(&b.metric);
    by_metric.then(b.prompt.parameters().cmp(&a.prompt.parameters())).is_gt()
}

fn best_of(finished: &[Finished]) -> usize {
    (0..finished.len()).fold(0, |best, i| if better(&finished[i], &finished[best]) { i } else { best })
}

/// Groups of a stage, each known by its line and purpose.
#[derive(Default)]
struct Groups<'t> {
    groups: Vec<Group<'t>>,
    lines: Vec<usize>,
}

/// What became of them.
struct Raced {
    groups: Vec<(usize, &'static str, Vec<Candidate>, Vec<Finished>)>,
}

// === impl Groups ===

impl<'t> Groups<'t> {
    fn add(&mut self, line: usize, group: Group<'t>) {
        self.lines.push(line);
        self.groups.push(group);
    }

    fn race(self, lab: &mut Lab<'_>, part: &str) -> Result<Raced, RunError> {
        let finished = race(lab, part, &self.groups)?;
        let groups = self.lines.into_iter().zip(self.groups).zip(finished);
        Ok(Raced {
            groups: groups
                .map(|((line, group), finished)| (line, group.purpose, group.candidates, finished))
                .collect(),
        })
    }
}

// === impl Raced ===

impl Raced {
    fn take(&mut self, line: usize, purpose: &str) -> (Vec<Candidate>, Vec<Finished>) {
        let at = self.groups.iter().position(|group| group.0 == line && group.1 == purpose);
        let (_, _, candidates, finished) =
            self.groups.swap_remove(at.expect("invariant: every group that was added was raced"));
        (candidates, finished)
    }

    fn best(&mut self, line: usize, purpose: &str) -> Finished {
        let (_, mut finished) = self.take(line, purpose);
        finished.swap_remove(best_of(&finished))
    }

    /// Of a group of one.
    fn only(&mut self, line: usize, purpose: &str) -> Finished {
        self.best(line, purpose)
    }

    /// The best of a group of ratios; all of them go on record.
    fn winner(
        &mut self,
        line: usize,
        purpose: &str,
        level: &'static str,
        ratios: &[f64],
        records: &mut [Record],
    ) -> Winner {
        let (mut candidates, finished) = self.take(line, purpose);
        let best = best_of(&finished);
        let winner = Winner {
            ratio: ratios[best],
            pruned: candidates.swap_remove(best).prompt,
            retrained: finished[best].clone(),
        };
        let trials = ratios.iter().zip(finished).enumerate();
        records[line].trials.extend(trials.map(|(i, (&ratio, finished))| TrialPrompt {
            level,
            ratio,
            finished,
            chosen: i == best,
        }));
        winner
    }
}

// === impl Record ===

impl Record {
    /// The arm of a name.
    #[must_use]
    pub fn arm(&self, name: &str) -> Option<&ArmPrompt> {
        self.arms.iter().find(|arm| arm.name == name)
    }
}

// === impl Known ===

impl Known {
    /// The stages of the method, and the controls that were raced beside them.
    fn arms(&self) -> Vec<ArmPrompt> {
        let tuned_steps = self.tuned.training.steps;
        let untrained = |name, prompt: &Prompt, steps, ratio| ArmPrompt {
            name,
            prompt: prompt.clone(),
            ratio,
            steps,
            training: None,
        };
        let mut arms = vec![
            untrained("initial", &self.initial, 0, None),
            trained("tuned", &self.tuned, 0),
            untrained("token_pruned", &self.tokens.pruned, tuned_steps, Some(self.tokens.ratio)),
            untrained("piece_pruned", &self.pieces.pruned, tuned_steps, Some(self.pieces.ratio)),
            trained("token_only", &self.tokens.retrained, tuned_steps),
            trained("xprompt", &self.pieces.retrained, tuned_steps),
            trained("continued", &self.continued, tuned_steps),
        ];
        arms.extend(self.restarts.iter().map(|best| trained("restarts", best, 0)));
        arms.extend(self.piece_only.iter().map(|best| trained("piece_only", &best.retrained, tuned_steps)));
        arms
    }
}

fn trained(name: &'static str, finished: &Finished, before: usize) -> ArmPrompt {
    ArmPrompt {
        name,
        prompt: finished.prompt.clone(),
        ratio: None,
        steps: before + finished.training.steps,
        training: Some(finished.training.clone()),
    }
}

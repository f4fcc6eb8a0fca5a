//! The method's stages one by one, from prompt file to prompt file: what [`method::run`] does
//! in one go. What is pruned, and by which share, is for the caller to choose.

use serde_json::Map;
use xprompt::prompt::{
    Base, Prompt, PromptError, PromptFile, Score, ScoredBy, Stage, TaskSpec, keep_top_pieces, keep_top_tokens,
};

use crate::error::RunError;
use crate::importance::Importance;
use crate::lab::Lab;
use crate::line::Line;
use crate::plan::Plan;
use crate::{PRODUCER, deliver, method};

/// Why a step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A training or an evaluation failed.
    #[error(transparent)]
    Run(Box<RunError>),
    /// The prompt does not belong to the loaded model.
    #[error(transparent)]
    Model(#[from] PromptError),
    /// There is nothing to prune by.
    #[error(
        "the file holds no importance of {0}; score it first: xprompt-trainer score PROMPT --task TASK.toml"
    )]
    NotScored(&'static str),
    /// The prompt is for another task than the task file's.
    #[error("the prompt was made for another task: its {field} is {got}, the task file's is {want}")]
    OtherTask {
        /// What differs.
        field: &'static str,
        /// The prompt's.
        got: String,
        /// The task file's.
        want: String,
    },
    /// The pruned prompt is not one of the tuned one.
    #[error("the mask does not fit the tuned prompt: its {field} is {got}, the tuned prompt's is {want}")]
    OtherPrompt {
        /// What differs.
        field: &'static str,
        /// The pruned prompt's.
        got: String,
        /// The tuned prompt's.
        want: String,
    },
    /// The pruned prompt keeps what the tuned one has no values for.
    #[error(
        "{0} of the pieces that are kept have no values in the tuned prompt; rewind to the prompt that was pruned, \
         as it was before"
    )]
    NoValues(usize),
}

/// A pruned prompt with the values that it had when it was tuned.
#[derive(Debug)]
pub struct Rewinding<'p> {
    pruned: &'p PromptFile,
    tuned: &'p PromptFile,
    rewound: Prompt,
}

// === impl StepError ===

impl From<RunError> for StepError {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}

impl StepError {
    /// The error as a run says it that is planned like this: with a remedy, if the memory did not suffice.
    #[must_use]
    pub fn under(self, plan: Plan) -> Self {
        match self {
            Self::Run(error) => error.under(plan).into(),
            other => other,
        }
    }
}

/// Stage one: tunes a prompt. What was under way in the lab's folder goes on.
///
/// # Errors
/// If the training fails.
pub fn tune(lab: &mut Lab<'_>, line: &Line<'_>) -> Result<PromptFile, StepError> {
    let tuned = method::tune(lab, line)?;
    let history = vec![deliver::measured_stage(lab, line.task, &tuned)?];
    let manifest = deliver::manifest(lab, line, &tuned.prompt, history, ScoredBy::default())?;
    Ok(PromptFile { manifest, prompt: tuned.prompt, token_importance: None, piece_importance: None })
}

/// Scores the tokens and pieces that are left, on the task's train rows; what is pruned scores 0. The stage that the
/// prompt is at is measured, if it was made without a model.
///
/// # Errors
/// If the prompt is of another model or task, or ONNX Runtime fails.
pub fn score(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    mut file: PromptFile,
    by: Score,
) -> Result<PromptFile, StepError> {
    file.verify(&lab.setup.base)?;
    of_task(&file, &line.task.spec)?;
    let prompt = &file.prompt;
    let importance = match by {
        Score::AbsoluteGradient => line.scores(lab, prompt)?.absolute,
        Score::SignedGradient => line.scores(lab, prompt)?.signed,
        Score::LeaveOneOut => Importance {
            tokens: line.tokens_left_out(lab, prompt)?,
            pieces: line.pieces_left_out(lab, prompt)?,
        },
    };
    if let Some(stage) = file.manifest.history.last_mut() {
        deliver::complete(lab, line.task, prompt, stage)?;
    }
    file.manifest.golden = deliver::golden(lab, line.task, prompt)?;
    file.manifest.producer = PRODUCER.into();
    file.manifest.scored_by = ScoredBy::both(by);
    file.token_importance = Some(importance.tokens);
    file.piece_importance = Some(importance.pieces);
    Ok(file)
}

/// Prunes a share of the tokens, then of each token's pieces, by the importance in the file. No model sees it: metrics
/// are not known and golden examples no longer hold.
///
/// # Errors
/// If the file holds no importance.
pub fn prune(
    mut file: PromptFile,
    tokens: Option<f64>,
    pieces: Option<f64>,
) -> Result<PromptFile, StepError> {
    if let Some(share) = tokens {
        let scores = file.token_importance.as_ref().ok_or(StepError::NotScored("tokens"))?;
        let mask = keep_top_tokens(&file.prompt, scores, share);
        let score = file.manifest.scored_by.tokens;
        keep(&mut file, &mask, "token_pruned", share, score);
    }
    if let Some(share) = pieces {
        let scores = file.piece_importance.as_ref().ok_or(StepError::NotScored("pieces"))?;
        let mask = keep_top_pieces(&file.prompt, scores, share);
        let score = file.manifest.scored_by.pieces;
        keep(&mut file, &mask, "piece_pruned", share, score);
    }
    file.manifest.golden.clear();
    file.manifest.producer = PRODUCER.into();
    Ok(file)
}

// === impl Rewinding ===

impl<'p> Rewinding<'p> {
    /// What is left of `pruned`, with the values of `tuned`.
    ///
    /// # Errors
    /// If the two are not of the same shape, base and task, or not of these.
    pub fn new(
        pruned: &'p PromptFile,
        tuned: &'p PromptFile,
        base: &Base,
        task: &TaskSpec,
    ) -> Result<Self, StepError> {
        fits(pruned, tuned)?;
        tuned.verify(base)?;
        of_task(tuned, task)?;
        let rewound = tuned.prompt.masked(pruned.prompt.piece_mask());
        match pruned.prompt.kept_piece_count() - rewound.kept_piece_count() {
            0 => Ok(Self { pruned, tuned, rewound }),
            missing => Err(StepError::NoValues(missing)),
        }
    }

    /// The last stage: retrains it. What was under way in the lab's folder goes on.
    ///
    /// # Errors
    /// If the training fails.
    pub fn retrain(&self, lab: &mut Lab<'_>, line: &Line<'_>) -> Result<PromptFile, StepError> {
        let Self { pruned, tuned, rewound } = self;
        let mut history = prunings(pruned, tuned, rewound);
        if let Some(stage) = history.last_mut() {
            deliver::complete(lab, line.task, rewound, stage)?;
        }
        let retrained = method::retrain(lab, line, rewound)?;
        history.push(deliver::measured_stage(lab, line.task, &retrained)?);
        // as a run gives it: tokens as they were scored before any was pruned, pieces as they were scored after
        let tokens = if tuned.token_importance.is_some() { tuned } else { pruned };
        let (token_importance, piece_importance) =
            (tokens.token_importance.clone(), pruned.piece_importance.clone());
        let scored_by =
            ScoredBy { tokens: tokens.manifest.scored_by.tokens, pieces: pruned.manifest.scored_by.pieces };
        let manifest = deliver::manifest(lab, line, &retrained.prompt, history, scored_by)?;
        Ok(PromptFile { manifest, prompt: retrained.prompt, token_importance, piece_importance })
    }
}

/// The history of `tuned` and the prunings after it. What they measured holds only for values that were not changed.
fn prunings(pruned: &PromptFile, tuned: &PromptFile, rewound: &Prompt) -> Vec<Stage> {
    let mut history = tuned.manifest.history.clone();
    let later = pruned.manifest.history.iter().filter(|stage| stage.ratio.is_some());
    let later: Vec<Stage> = later.filter(|stage| !tuned.manifest.history.contains(stage)).cloned().collect();
    let unchanged = *rewound == pruned.prompt;
    history.extend(
        later.into_iter().map(|stage| {
            if unchanged { stage } else { Stage { dev: Map::new(), test: Map::new(), ..stage } }
        }),
    );
    history
}

fn fits(pruned: &PromptFile, tuned: &PromptFile) -> Result<(), StepError> {
    let (p, t) = (&pruned.manifest, &tuned.manifest);
    let shown = |file: &PromptFile| {
        let m = &file.manifest;
        [
            ("base model", m.base_model.fingerprint.clone()),
            ("tokenizer", m.tokenizer.fingerprint.clone()),
            ("number of tokens", m.tokens.to_string()),
            ("number of pieces", m.pieces.to_string()),
            ("width", m.d_model.to_string()),
        ]
    };
    let shape = shown(pruned).into_iter().zip(shown(tuned)).find(|(got, want)| got != want);
    let shape = shape.map(|((field, got), (_, want))| (field, got, want));
    match shape.or_else(|| task_difference(&p.task, &t.task)) {
        Some((field, got, want)) => Err(StepError::OtherPrompt { field, got, want }),
        None => Ok(()),
    }
}

fn of_task(file: &PromptFile, spec: &TaskSpec) -> Result<(), StepError> {
    match task_difference(&file.manifest.task, spec) {
        Some((field, got, want)) => Err(StepError::OtherTask { field, got, want }),
        None => Ok(()),
    }
}

/// What two tasks differ in, and both in words.
fn task_difference(a: &TaskSpec, b: &TaskSpec) -> Option<(&'static str, String, String)> {
    let shown = |task: &TaskSpec| {
        [
            ("template", format!("{:?}", task.template)),
            ("output", serde_json::to_string(&task.output).unwrap_or_default()),
            ("max_input_tokens", task.max_input_tokens.to_string()),
            ("keep", format!("{:?}", task.keep)),
        ]
    };
    let difference = shown(a).into_iter().zip(shown(b)).find(|(a, b)| a != b);
    difference.map(|((field, a), (_, b))| (field, a, b))
}

/// Keeps what the mask marks, and says so in the history.
fn keep(file: &mut PromptFile, mask: &[bool], name: &str, share: f64, score: Option<Score>) {
    file.prompt = file.prompt.masked(mask);
    file.manifest.history.push(Stage {
        name: name.to_owned(),
        tokens: file.prompt.kept_token_count(),
        pieces: file.prompt.kept_piece_count(),
        parameters: file.prompt.parameters(),
        ratio: Some(share),
        score,
        steps: 0,
        dev: Map::new(),
        test: Map::new(),
    });
}

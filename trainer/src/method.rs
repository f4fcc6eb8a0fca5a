//! The whole method: tune, score, prune tokens, prune pieces, rewind, retrain.
//!
//! Pruning is hierarchical: first the share of tokens is chosen, then the share of pieces of the tokens that are
//! left. Every candidate starts from the values after tuning (rewinding), under its mask, and is retrained with
//! its pruned tokens absent from the sequence; the best on dev goes on.

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Map, Value};
use xprompt::engine::{Answers, TaskError};
use xprompt::prompt::{
    DataSource, FORMAT, Golden, Manifest, Prompt, PromptError, PromptFile, Stage as History, keep_top_pieces,
    keep_top_tokens,
};
use xprompt::runtime::RuntimeError;
use xprompt::task::{TemplateError, TokenizerError};

use crate::data::{DataError, Example, Sets};
use crate::evaluate::{EvaluateError, Evaluator, Metrics};
use crate::importance::{Importance, importance};
use crate::initialize::initialize;
use crate::progress::Progress;
use crate::setup::Setup;
use crate::task_file::TaskFile;
use crate::tuner::Tuner;
use crate::tuning::{Best, Stage};

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// The data is not usable.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The template is malformed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The labels cannot be told apart.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// ONNX Runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// An evaluation failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The prompt is not one that a server would load.
    #[error("the trained prompt is not valid: {0}")]
    Prompt(#[from] PromptError),
    /// The pieces do not divide the model's width.
    #[error("pruning.pieces is {pieces}, which does not divide d_model {d_model}")]
    Pieces {
        /// Pieces asked for.
        pieces: usize,
        /// The model's width.
        d_model: usize,
    },
    /// A level of the search had no ratio to try.
    #[error("no pruning ratio was tried; name at least one in pruning.token_ratios and pruning.piece_ratios")]
    NoCandidate,
}

/// What a run found, as `summary.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The frozen model.
    pub base_model: String,
    /// The seed.
    pub seed: u64,
    /// The metric that choices were made by.
    pub metric: &'static str,
    /// Accuracy of always answering the most frequent label, by split.
    pub majority: Map<String, Value>,
    /// The data used.
    pub data: Vec<DataSource>,
    /// Metrics after each stage and what was left.
    pub stages: Vec<StageSummary>,
    /// Every ratio that was tried.
    pub search: Search,
    /// Wall time of the whole run.
    pub seconds: f64,
}

/// A stage and how long it took. (The prompt file leaves the time out: a run that repeats gives the same file.)
#[derive(Clone, Debug, Serialize)]
pub struct StageSummary {
    /// What was left, and the metrics.
    #[serde(flatten)]
    pub stage: History,
    /// Wall time.
    pub seconds: f64,
}

/// One ratio that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// `token` or `piece`.
    pub level: &'static str,
    /// The share that was pruned.
    pub ratio: f64,
    /// Tokens left.
    pub tokens: usize,
    /// Pieces left.
    pub pieces: usize,
    /// The metric on dev before retraining.
    pub dev_pruned: f64,
    /// The metric on dev after rewinding and retraining.
    pub dev_rewound: f64,
    /// Optimizer steps that it took before it ended or was dropped.
    pub steps: usize,
}

/// The search of both levels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Search {
    /// Every ratio that was tried.
    pub trials: Vec<Trial>,
    /// Wall time of retraining all of them.
    pub seconds: f64,
}

/// A finished run.
#[derive(Debug)]
pub struct Outcome {
    /// The prompt with its manifest.
    pub file: PromptFile,
    /// What was found on the way.
    pub summary: Summary,
}

/// Golden examples that a prompt file carries.
const GOLDEN: usize = 8;

/// Runs the method on a task.
///
/// # Errors
/// If the data or the task is not usable, or ONNX Runtime fails.
pub fn run(
    setup: &mut Setup,
    task: &TaskFile,
    seed: u64,
    progress: &Progress,
) -> Result<Outcome, MethodError> {
    let start = Instant::now();
    let d_model = setup.base.d_model;
    if !d_model.is_multiple_of(task.pruning.pieces.max(1)) || task.pruning.pieces == 0 {
        return Err(MethodError::Pieces { pieces: task.pruning.pieces, d_model });
    }
    let spec = task.spec();
    let answers = Answers::new(&spec.output, &setup.tokenizer, setup.model.config())?;
    let eos = setup.model.config().eos_token_id;
    let sets = Sets::read(&task.data, &spec, &setup.tokenizer, eos)?;
    announce(&sets, &answers, progress);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows = initialize(
        task.tuning.initialization,
        task.tuning.prompt_tokens,
        &task.task.labels,
        setup.model.checkpoint(),
        &setup.tokenizer,
        &mut rng,
    )?;
    let initial = Prompt::dense(d_model, task.pruning.pieces, rows);
    let evaluator = Evaluator::new(&answers, &setup.model, &setup.tokenizer, &mut setup.scorer)?;
    let mut run = Run {
        task,
        sets: &sets,
        tuner: Tuner::new(&setup.model, &answers)?,
        evaluator,
        progress,
        seed,
        stages: Vec::new(),
        search: Search::default(),
    };
    let best = run.method(&initial)?;
    let golden = run.golden(&best.prompt)?;
    let Run { stages, search, .. } = run;
    let token_importance = Some(best.importance.tokens.clone());
    let piece_importance = Some(best.importance.pieces.clone());
    let manifest = Manifest {
        format: FORMAT,
        producer: concat!("xprompt-trainer ", env!("CARGO_PKG_VERSION")).into(),
        tokens: best.prompt.tokens(),
        pieces: best.prompt.pieces(),
        d_model,
        base_model: setup.base.model.clone(),
        tokenizer: setup.base.tokenizer.clone(),
        task: spec,
        history: stages.iter().map(|summary| summary.stage.clone()).collect(),
        seed,
        data: sets.sources(),
        golden,
    };
    let summary = Summary {
        base_model: setup.base.model.name.clone(),
        seed,
        metric: best.metric,
        majority: sets.majority(&answers),
        data: sets.sources(),
        stages,
        search,
        seconds: start.elapsed().as_secs_f64(),
    };
    let file = PromptFile { manifest, prompt: best.prompt, token_importance, piece_importance };
    Ok(Outcome { file, summary })
}

fn announce(sets: &Sets, answers: &Answers, progress: &Progress) {
    for (name, set) in sets.splits() {
        let majority = set.majority(answers).map_or(String::new(), |share| {
            format!(", always the most frequent label: {:.1} %", 100.0 * share)
        });
        let cut = match set.truncated {
            0 => String::new(),
            rows => format!(", {rows} cut to the longest length"),
        };
        progress.line(&format!("{name:<22} {:>6} rows{majority}{cut}", set.examples.len()));
    }
}

/// The state of a run.
struct Run<'a, 'm> {
    task: &'a TaskFile,
    sets: &'a Sets,
    tuner: Tuner<'m>,
    evaluator: Evaluator<'m>,
    progress: &'a Progress,
    seed: u64,
    stages: Vec<StageSummary>,
    search: Search,
}

/// What the method found.
struct Found {
    prompt: Prompt,
    importance: Importance,
    metric: &'static str,
}

/// The best candidate of a level.
struct Winner {
    ratio: f64,
    pruned: Prompt,
    retrained: Best,
}

// === impl Run ===

impl<'m> Run<'_, 'm> {
    fn method(&mut self, initial: &Prompt) -> Result<Found, MethodError> {
        let start = Instant::now();
        let (recipe, rng) = (&self.task.tuning, self.stream(1));
        let tuned = self.stage().tune("tuning", initial, recipe, rng)?;
        self.record("tuned", &tuned.prompt, None, tuned.steps, start)?;

        let start = Instant::now();
        let scores = self.score(&tuned.prompt)?;
        let by_token = |ratio| keep_top_tokens(&tuned.prompt, &scores.tokens, ratio);
        let tokens = self.search("token", &tuned.prompt, &self.task.pruning.token_ratios, by_token)?;
        self.record("token_pruned", &tokens.pruned, Some(tokens.ratio), 0, start)?;

        let start = Instant::now();
        let piece_scores = self.score(&tokens.pruned)?;
        let by_piece = |ratio| keep_top_pieces(&tokens.pruned, &piece_scores.pieces, ratio);
        let pieces = self.search("piece", &tokens.pruned, &self.task.pruning.piece_ratios, by_piece)?;
        self.record("piece_pruned", &pieces.pruned, Some(pieces.ratio), 0, start)?;

        let start = Instant::now();
        let Best { prompt, dev, steps, .. } = pieces.retrained;
        self.record("rewound", &prompt, None, steps, start)?;
        // every token's score is that of the tuned prompt; pieces of surviving tokens were scored again
        let importance = Importance { tokens: scores.tokens, pieces: piece_scores.pieces };
        Ok(Found { prompt, importance, metric: dev.primary_name() })
    }

    /// Tries every ratio: mask, rewind, retrain, all side by side. The best on dev wins, of equal ones the smaller
    /// prompt.
    fn search(
        &mut self,
        level: &'static str,
        from: &Prompt,
        ratios: &[f64],
        mask: impl Fn(f64) -> Vec<bool>,
    ) -> Result<Winner, MethodError> {
        let start = Instant::now();
        let recipe = self.task.retuning();
        let pruned: Vec<Prompt> = ratios.iter().map(|&ratio| from.masked(&mask(ratio))).collect();
        let before = pruned
            .iter()
            .map(|prompt| self.evaluator.metrics(prompt.rows(), &self.sets.dev.examples))
            .collect::<Result<Vec<_>, _>>()?;
        let rng = self.stream(if level == "token" { 2 } else { 3 });
        let halving = self.task.pruning.successive_halving;
        let name = format!("{level} pruning");
        let retrained = self.stage().race(&name, &pruned, &recipe, halving, rng)?;
        for ((&ratio, before), best) in ratios.iter().zip(&before).zip(&retrained) {
            let trial = Trial {
                level,
                ratio,
                tokens: best.prompt.kept_token_count(),
                pieces: best.prompt.kept_piece_count(),
                dev_pruned: before.primary(),
                dev_rewound: best.dev.primary(),
                steps: best.steps,
            };
            self.progress.line(&format!(
                "{:<22} {:>2} tokens, {:>3} pieces left; dev {:.1} %, rewound and retrained {:.1} % ({} steps)",
                format!("{level} pruning {:.0} %", 100.0 * ratio),
                trial.tokens,
                trial.pieces,
                100.0 * trial.dev_pruned,
                100.0 * trial.dev_rewound,
                trial.steps,
            ));
            self.search.trials.push(trial);
        }
        self.search.seconds += start.elapsed().as_secs_f64();
        let candidates = ratios.iter().zip(pruned).zip(retrained);
        candidates
            .map(|((&ratio, pruned), retrained)| Winner { ratio, pruned, retrained })
            .max_by(|a, b| {
                let by_metric = a.retrained.dev.primary().total_cmp(&b.retrained.dev.primary());
                by_metric.then(b.pruned.parameters().cmp(&a.pruned.parameters()))
            })
            .ok_or(MethodError::NoCandidate)
    }

    fn stage(&mut self) -> Stage<'_, 'm> {
        Stage {
            tuner: &mut self.tuner,
            evaluator: &mut self.evaluator,
            train: &self.sets.train.examples,
            dev: &self.sets.dev.examples,
            progress: self.progress,
        }
    }

    /// The random numbers of a stage: they do not depend on how many others were drawn.
    fn stream(&self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        rng
    }

    fn score(&mut self, prompt: &Prompt) -> Result<Importance, MethodError> {
        let train = &self.sets.train.examples;
        let rows = self.task.pruning.importance_rows.min(train.len());
        // evenly spread over the file, which may be sorted
        let chosen: Vec<&Example> = (0..rows).map(|i| &train[i * train.len() / rows]).collect();
        let bar = self.progress.bar("scoring importance", rows, "rows");
        let batch = self.task.tuning.batch_size;
        let scores = importance(prompt, &chosen, batch, &mut self.tuner, |rows| bar.inc(rows as u64))?;
        bar.finish_and_clear();
        Ok(scores)
    }

    fn record(
        &mut self,
        name: &str,
        prompt: &Prompt,
        ratio: Option<f64>,
        steps: usize,
        start: Instant,
    ) -> Result<(), MethodError> {
        let dev = self.evaluator.metrics(prompt.rows(), &self.sets.dev.examples)?;
        let test = match &self.sets.test {
            Some(test) => Some(self.evaluator.metrics(prompt.rows(), &test.examples)?),
            None => None,
        };
        let percent = |metrics: &Metrics| 100.0 * metrics.primary();
        let on_test = test.as_ref().map_or(String::new(), |test| format!(", test {:.1} %", percent(test)));
        self.progress.line(&format!(
            "{:<22} {} dev {:.1} %{on_test}; {} of {} tokens, {} of {} pieces, {} parameters",
            name.replace('_', " "),
            dev.primary_name(),
            percent(&dev),
            prompt.kept_token_count(),
            prompt.tokens(),
            prompt.kept_piece_count(),
            prompt.piece_mask().len(),
            prompt.parameters(),
        ));
        let stage = History {
            name: name.into(),
            tokens: prompt.kept_token_count(),
            pieces: prompt.kept_piece_count(),
            parameters: prompt.parameters(),
            ratio,
            steps,
            dev: dev.to_json(),
            test: test.map(|test| test.to_json()).unwrap_or_default(),
        };
        self.stages.push(StageSummary { stage, seconds: start.elapsed().as_secs_f64() });
        Ok(())
    }

    /// The first dev examples with the answers that a server has to repeat.
    fn golden(&mut self, prompt: &Prompt) -> Result<Vec<Golden>, MethodError> {
        let examples = &self.sets.dev.examples[..GOLDEN.min(self.sets.dev.examples.len())];
        let scores = self.evaluator.scores(prompt.rows(), examples)?;
        let texts = self.evaluator.texts(prompt.rows(), examples)?;
        let golden = examples.iter().enumerate().map(|(i, example)| Golden {
            input: Value::Object(example.input.clone()),
            scores: scores.get(i).cloned().unwrap_or_default(),
            text: texts.get(i).cloned(),
        });
        Ok(golden.collect())
    }
}

//! What prompts answer on examples, by the engine's own scoring and generation: what is measured is what is served.

use xprompt::engine::{Answers, Generator, Scorer, Source};
use xprompt::runtime::{Model, RuntimeError};
use xprompt::t5::Config;
use xprompt::task::{LabelTrie, Tokenizer, TokenizerError};

use crate::example::Example;
use crate::lanes::Lanes;
use crate::metric::Prediction;
use crate::plan::{Keeps, Plan};

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// ONNX Runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A generated text cannot be decoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Examples to be answered with one prompt.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Prompt rows `[tokens, d_model]`.
    pub rows: &'a [f32],
    /// What the prompt's task answers with.
    pub answers: &'a Answers,
    /// The examples.
    pub examples: &'a [Example],
}

/// What the model answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The probability of each label.
    Scores(Vec<f32>),
    /// A text.
    Text(String),
}

/// Answers jobs side by side, over all devices of a setup.
#[derive(Debug)]
pub struct Evaluator<'m> {
    config: &'m Config,
    tokenizer: &'m Tokenizer,
    plan: Plan,
    lanes: Lanes<Engines<'m>>,
}

/// What a device answers with; each is loaded when it is first needed.
#[derive(Debug)]
struct Engines<'m> {
    model: &'m Model,
    scorer: Option<Scorer>,
    generator: Option<Generator>,
}

/// One example of a job, by its place there.
#[derive(Clone, Copy)]
struct Entry<'a> {
    job: usize,
    place: usize,
    source: Source<'a>,
    answers: &'a Answers,
}

// === impl Answer ===

impl Answer {
    /// The most probable label (the first of equal ones), or the text.
    #[must_use]
    pub fn prediction(&self) -> Prediction {
        match self {
            Self::Scores(scores) => {
                let best =
                    (0..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
                Prediction::Label(best)
            }
            Self::Text(text) => Prediction::Text(text.clone()),
        }
    }
}

// === impl Evaluator ===

impl<'m> Evaluator<'m> {
    /// An evaluator of prompts for a model, given on each device that computes.
    ///
    /// # Panics
    /// If there is no device.
    #[must_use]
    pub fn new(devices: &'m [Model], tokenizer: &'m Tokenizer, plan: Plan) -> Self {
        let engines = |model: &'m Model| (model.device(), Engines { model, scorer: None, generator: None });
        let lanes = Lanes::new(devices.iter().map(engines));
        Self { config: devices[0].config(), tokenizer, plan, lanes }
    }

    /// The prediction for each example of each job, in order.
    ///
    /// # Errors
    /// As [`answers`](Self::answers).
    pub fn predictions(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Vec<Prediction>>, EvaluateError> {
        let answers = self.answers(jobs)?;
        Ok(answers.into_iter().map(|job| job.iter().map(Answer::prediction).collect()).collect())
    }

    /// The answer to each example of each job, in order. Examples of similar length run together, whatever their job.
    ///
    /// # Errors
    /// If ONNX Runtime fails, or a text cannot be decoded; with several devices the error names the one.
    pub fn answers(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Vec<Answer>>, EvaluateError> {
        let mut results: Vec<Vec<Option<Answer>>> =
            jobs.iter().map(|job| vec![None; job.examples.len()]).collect();
        let d_model = self.config.d_model;
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for (number, job) in jobs.iter().enumerate() {
            entries.extend(job.examples.iter().enumerate().map(|(place, example)| Entry {
                job: number,
                place,
                source: Source { prompt: job.rows, text: &example.source },
                answers: job.answers,
            }));
        }
        let (mut labels, mut texts): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| matches!(entry.answers, Answers::Labels { .. }));
        let length = |entry: &Entry<'_>| entry.source.length(d_model);
        let mut runs: Vec<&[Entry<'_>]> = Vec::new();
        for entries in [&mut labels, &mut texts] {
            entries.sort_by_key(length);
            let lengths: Vec<usize> = entries.iter().map(length).collect();
            let cut = self.plan.runs(self.config, Keeps::OneLayer, &lengths);
            runs.extend(cut.into_iter().map(|run| &entries[run]));
        }
        let (several, tokenizer) = (self.lanes.count() > 1, self.tokenizer);
        let size = |run: &&[Entry<'_>]| run.len() * run.last().map_or(0, length);
        let done = self.lanes.map(&runs, size, |engines, run| {
            engines.run(run, tokenizer).map_err(|error| match error {
                EvaluateError::Runtime(error) if several => error.on(engines.model.device()).into(),
                other => other,
            })
        })?;
        for (run, answers) in runs.iter().zip(done) {
            for (entry, answer) in run.iter().zip(answers) {
                results[entry.job][entry.place] = Some(answer);
            }
        }
        Ok(results.into_iter().map(|job| job.into_iter().flatten().collect()).collect())
    }
}

// === impl Engines ===

impl Engines<'_> {
    /// Runs entries that all answer with labels, or all with texts.
    fn run(&mut self, entries: &[Entry<'_>], tokenizer: &Tokenizer) -> Result<Vec<Answer>, EvaluateError> {
        let tries: Vec<(Source<'_>, &LabelTrie)> = entries
            .iter()
            .filter_map(|entry| match entry.answers {
                Answers::Labels { trie, .. } => Some((entry.source, trie)),
                Answers::Text { .. } => None,
            })
            .collect();
        if !tries.is_empty() {
            return Ok(self.scorer()?.score(&tries)?.into_iter().map(Answer::Scores).collect());
        }
        let limits: Vec<usize> = entries
            .iter()
            .filter_map(|entry| match entry.answers {
                Answers::Text { max_new_tokens } => Some(*max_new_tokens),
                Answers::Labels { .. } => None,
            })
            .collect();
        let sources: Vec<Source<'_>> = entries.iter().map(|entry| entry.source).collect();
        let texts = self.generator()?.generate(&sources, &limits)?;
        texts.iter().map(|text| Ok(Answer::Text(tokenizer.decode(&text.tokens)?))).collect()
    }

    fn scorer(&mut self) -> Result<&mut Scorer, RuntimeError> {
        if self.scorer.is_none() {
            self.scorer = Some(Scorer::new(self.model)?);
        }
        Ok(self.scorer.as_mut().expect("invariant: the scorer was loaded above"))
    }

    fn generator(&mut self) -> Result<&mut Generator, RuntimeError> {
        if self.generator.is_none() {
            self.generator = Some(Generator::new(self.model)?);
        }
        Ok(self.generator.as_mut().expect("invariant: the generator was loaded above"))
    }
}

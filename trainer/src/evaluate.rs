//! What prompts answer on examples, by the engine's own scoring and generation: what is measured is what is served.

use xprompt::engine::{Answers, Generator, Scorer, Source};
use xprompt::runtime::{Model, RuntimeError};
use xprompt::task::{LabelTrie, Tokenizer, TokenizerError};

use crate::example::Example;
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

/// Answers jobs side by side. Each graph is loaded when it is first needed.
#[derive(Debug)]
pub struct Evaluator<'m> {
    model: &'m Model,
    tokenizer: &'m Tokenizer,
    plan: Plan,
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
    /// An evaluator of prompts for `model`.
    #[must_use]
    pub fn new(model: &'m Model, tokenizer: &'m Tokenizer, plan: Plan) -> Self {
        Self { model, tokenizer, plan, scorer: None, generator: None }
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
    /// If ONNX Runtime fails or a text cannot be decoded.
    pub fn answers(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Vec<Answer>>, EvaluateError> {
        let mut results: Vec<Vec<Option<Answer>>> =
            jobs.iter().map(|job| vec![None; job.examples.len()]).collect();
        let d_model = self.model.config().d_model;
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
        for entries in [&mut labels, &mut texts] {
            entries.sort_by_key(|entry| entry.source.length(d_model));
            let lengths: Vec<usize> = entries.iter().map(|entry| entry.source.length(d_model)).collect();
            for run in self.plan.runs(self.model.config(), Keeps::OneLayer, &lengths) {
                let entries = &entries[run];
                for (entry, answer) in entries.iter().zip(self.run(entries)?) {
                    results[entry.job][entry.place] = Some(answer);
                }
            }
        }
        Ok(results.into_iter().map(|job| job.into_iter().flatten().collect()).collect())
    }

    /// Runs entries that all answer with labels, or all with texts.
    fn run(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Answer>, EvaluateError> {
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
        texts.iter().map(|text| Ok(Answer::Text(self.tokenizer.decode(&text.tokens)?))).collect()
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

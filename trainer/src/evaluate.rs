//! Metrics of a prompt on labelled examples, by the engine's own scoring: what is measured is what is served.

use serde_json::{Map, Value, json};
use xprompt::engine::{Answers, Generator, Scorer, Source};
use xprompt::runtime::{Model, RuntimeError};
use xprompt::task::{Tokenizer, TokenizerError};

use crate::data::Example;
use crate::metric::{Metric, Prediction};

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

/// Metrics by name, each in [0, 1]; the first is the one that choices are made by.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics(Vec<(&'static str, f64)>);

// === impl Metrics ===

impl Metrics {
    /// The metric that choices are made by.
    #[must_use]
    pub fn primary(&self) -> f64 {
        self.0[0].1
    }

    /// The name of that metric.
    #[must_use]
    pub fn primary_name(&self) -> &'static str {
        self.0[0].0
    }

    /// All of them as JSON.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        self.0.iter().map(|&(name, value)| (name.to_owned(), json!(value))).collect()
    }
}

/// Examples of a scoring batch.
const BATCH: usize = 32;

/// Scores examples with one prompt.
#[derive(Debug)]
pub struct Evaluator<'m> {
    answers: &'m Answers,
    tokenizer: &'m Tokenizer,
    how: How<'m>,
}

#[derive(Debug)]
enum How<'m> {
    Score(&'m mut Scorer),
    Generate(Box<Generator>),
}

// === impl Evaluator ===

impl<'m> Evaluator<'m> {
    /// An evaluator of a task that answers with `answers`.
    ///
    /// # Errors
    /// If ONNX Runtime refuses a graph.
    pub fn new(
        answers: &'m Answers,
        model: &Model,
        tokenizer: &'m Tokenizer,
        scorer: &'m mut Scorer,
    ) -> Result<Self, RuntimeError> {
        let how = match answers {
            Answers::Labels { .. } => How::Score(scorer),
            Answers::Text { .. } => How::Generate(Box::new(Generator::new(model)?)),
        };
        Ok(Self { answers, tokenizer, how })
    }

    /// Accuracy and macro F1 for labels, exact match for free text.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn metrics(&mut self, rows: &[f32], examples: &[Example]) -> Result<Metrics, EvaluateError> {
        let (predicted, metrics, classes): (Vec<Prediction>, &[Metric], usize) = match self.answers {
            Answers::Labels { names, .. } => {
                let scores = self.scores(rows, examples)?;
                let predicted = scores.iter().map(|scores| Prediction::Label(best(scores)));
                (predicted.collect(), &[Metric::Accuracy, Metric::MacroF1], names.len())
            }
            Answers::Text { .. } => {
                let predicted = self.texts(rows, examples)?.into_iter().map(Prediction::Text);
                (predicted.collect(), &[Metric::ExactMatch], 0)
            }
        };
        let value = |metric: &Metric| metric.judge(&predicted, examples, classes).value();
        Ok(Metrics(metrics.iter().map(|metric| (metric.name(), value(metric))).collect()))
    }

    /// Probability of each label for each example, in order; empty for free text.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn scores(&mut self, rows: &[f32], examples: &[Example]) -> Result<Vec<Vec<f32>>, EvaluateError> {
        let (Answers::Labels { trie, .. }, How::Score(scorer)) = (self.answers, &mut self.how) else {
            return Ok(Vec::new());
        };
        by_length(examples, |batch| {
            let sources: Vec<_> =
                batch.iter().map(|example| (Source { prompt: rows, text: &example.source }, trie)).collect();
            Ok(scorer.score(&sources)?)
        })
    }

    /// The generated text for each example, in order; empty for labels.
    ///
    /// # Errors
    /// If ONNX Runtime fails or a text cannot be decoded.
    pub fn texts(&mut self, rows: &[f32], examples: &[Example]) -> Result<Vec<String>, EvaluateError> {
        let (Answers::Text { max_new_tokens }, How::Generate(generator)) = (self.answers, &mut self.how)
        else {
            return Ok(Vec::new());
        };
        let tokenizer = self.tokenizer;
        by_length(examples, |batch| {
            let sources: Vec<Source<'_>> =
                batch.iter().map(|example| Source { prompt: rows, text: &example.source }).collect();
            let texts = generator.generate(&sources, &vec![*max_new_tokens; batch.len()])?;
            Ok(texts.iter().map(|text| tokenizer.decode(&text.tokens)).collect::<Result<_, _>>()?)
        })
    }
}

/// Runs batches of similar length and puts the results back in order.
fn by_length<T>(
    examples: &[Example],
    mut run: impl FnMut(&[&Example]) -> Result<Vec<T>, EvaluateError>,
) -> Result<Vec<T>, EvaluateError> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&i| examples[i].source.len());
    let mut results: Vec<(usize, T)> = Vec::with_capacity(examples.len());
    for batch in order.chunks(BATCH) {
        let chosen: Vec<&Example> = batch.iter().map(|&i| &examples[i]).collect();
        results.extend(batch.iter().copied().zip(run(&chosen)?));
    }
    results.sort_by_key(|&(i, _)| i);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// The most probable label, the first of equal ones.
fn best(scores: &[f32]) -> usize {
    (0..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

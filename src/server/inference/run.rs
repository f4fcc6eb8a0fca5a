//! Inputs through the tokenizer and the engine.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::answer::{Answered, FinishReason, Prediction};
use super::labels::{adjusted, scored};
use super::options::{Ask, LabelOptions, Options};
use crate::engine::{
    Answer, Decoding, EngineError, Finish, Method, Observer as _, ReadyTask, Reply, Request,
};
use crate::server::metrics::Stage;
use crate::server::{Code, Problem, Service, trace};
use crate::task::Tokenizer;

/// Bytes of text that are cut into tokens where the request is read: about a tenth of a millisecond. More would hold up
/// other requests.
const INLINE_BYTES: usize = 256;
/// The same of texts that the tokenizer is fast with.
const FAST_INLINE_BYTES: usize = 2048;

/// A call at work.
#[derive(Clone, Debug)]
pub(in crate::server) struct Run {
    pub(in crate::server) service: Arc<Service>,
    pub(in crate::server) name: String,
    pub(in crate::server) task: Arc<ReadyTask>,
    pub(in crate::server) ask: Ask,
    pub(in crate::server) truncate: bool,
    pub(in crate::server) deadline: Instant,
}

/// An input as the engine reads it.
#[derive(Clone, Debug)]
pub(in crate::server) struct Encoded {
    pub(in crate::server) text: Vec<u32>,
    pub(in crate::server) truncated: bool,
}

/// An input's way through the engine.
pub(super) type Waiting = oneshot::Receiver<Result<Reply, EngineError>>;

/// What the engine said to one input.
#[derive(Debug)]
pub(super) struct Said {
    reply: Reply,
    truncated: bool,
}

// === impl Run ===

impl Run {
    /// Cuts inputs of `bytes` in all into tokens; a bad one is an error in its own place.
    pub(in crate::server) async fn encode(
        &self,
        inputs: Vec<Value>,
        bytes: usize,
    ) -> Result<Vec<Result<Encoded, Problem>>, Problem> {
        let start = Instant::now();
        let run = self.clone();
        let fast = |input: &Value| is_fast(input, &self.service.tokenizer);
        let inline = bytes <= INLINE_BYTES || bytes <= FAST_INLINE_BYTES && inputs.iter().all(fast);
        let encode_all = move || inputs.iter().map(|input| run.encode_one(input)).collect();
        let encoded = if inline {
            encode_all()
        } else {
            tokio::task::spawn_blocking(encode_all).await.map_err(|error| {
                Problem::new(Code::Internal, format!("cutting the inputs into tokens failed: {error}"))
            })?
        };
        self.service.metrics.stage(Stage::Tokenize, start.elapsed());
        trace::tokenized(start);
        Ok(encoded)
    }

    fn encode_one(&self, input: &Value) -> Result<Encoded, Problem> {
        match self.task.encode(input, &self.service.tokenizer, self.truncate) {
            Ok((text, truncated)) => Ok(Encoded { text, truncated }),
            Err(error) => Err(Problem::new(Code::BadInput, error.to_string())),
        }
    }

    /// Answers inputs, each in its own place.
    pub(in crate::server) async fn answer(
        &self,
        encoded: Vec<Result<Encoded, Problem>>,
    ) -> Result<Answered, Problem> {
        let mut answered = Answered::new(self.name.clone(), &self.task, Options::seed_of(&self.ask));
        for (encoded, said) in self.say(encoded, 1).await? {
            let prediction = match said {
                Ok(said) => {
                    self.observe(&said.reply);
                    let output = match &said.reply.answer {
                        Answer::Text(generated) => generated.tokens.len(),
                        Answer::Labels(_) => 0,
                    };
                    answered.usage.count(encoded, output, &self.task);
                    self.prediction(said)?
                }
                Err(error) => Prediction::Failed { error },
            };
            self.service.metrics.predicted(&answered.task, &prediction);
            answered.predictions.push(prediction);
        }
        self.service.metrics.tokens(&answered.usage);
        Ok(answered)
    }

    /// What the engine says to each input, so many times, with the input's tokens.
    pub(super) async fn say(
        &self,
        encoded: Vec<Result<Encoded, Problem>>,
        samples: usize,
    ) -> Result<Vec<(usize, Result<Said, Problem>)>, Problem> {
        self.prepare().await?;
        self.admit(samples * encoded.iter().filter(|encoded| encoded.is_ok()).count())?;
        // all are queued before one is waited for, so that they can share batches
        let mut waiting = Vec::with_capacity(samples * encoded.len());
        for encoded in encoded {
            for sample in 0..samples {
                waiting.push(match &encoded {
                    Ok(encoded) => Ok((self.submit(encoded, sample as u64, None)?, encoded.clone())),
                    Err(problem) => Err(problem.clone()),
                });
            }
        }
        let mut said = Vec::with_capacity(waiting.len());
        for waiting in waiting {
            said.push(match waiting {
                Ok((waiting, Encoded { text, truncated })) => {
                    let reply = self.wait(waiting).await?;
                    (text.len(), Ok(Said { reply, truncated }))
                }
                Err(problem) => (0, Err(problem)),
            });
        }
        Ok(said)
    }

    pub(super) fn prediction(&self, said: Said) -> Result<Prediction, Problem> {
        let truncated = said.truncated;
        match (said.reply.answer, &self.ask) {
            (Answer::Labels(scores), Ask::Labels(options)) => {
                let scores = adjusted(scores, &self.task, options);
                Ok(Prediction::of_labels(scored(scores, &self.task, options), truncated))
            }
            (Answer::Text(generated), _) => {
                let text = self.decode(&generated.tokens)?;
                Ok(Prediction::Text { text, finish_reason: generated.finish.into(), truncated })
            }
            (Answer::Labels(_), Ask::Text(_)) => {
                Err(Problem::new(Code::Internal, "the engine scored labels of a free-text task"))
            }
        }
    }

    pub(super) fn decode(&self, tokens: &[u32]) -> Result<String, Problem> {
        let text = self.service.tokenizer.decode(tokens);
        text.map_err(|error| Problem::new(Code::Internal, error.to_string()))
    }

    /// Has what the answers need beyond the inputs: for calibration what the model says to content-free ones.
    async fn prepare(&self) -> Result<(), Problem> {
        let Ask::Labels(LabelOptions { calibrate: true, .. }) = self.ask else { return Ok(()) };
        if self.task.prior().is_some() {
            return Ok(());
        }
        let inputs = self.task.content_free();
        self.admit(inputs.len())?;
        let encoded = inputs.iter().map(|text| Encoded { text: text.clone(), truncated: false });
        let waiting: Vec<Waiting> =
            encoded.map(|encoded| self.submit(&encoded, 0, None)).collect::<Result<_, Problem>>()?;
        let mut scores = Vec::with_capacity(waiting.len());
        for waiting in waiting {
            if let Answer::Labels(of_input) = self.wait(waiting).await?.answer {
                scores.push(of_input);
            }
        }
        self.task.set_prior(&scores);
        Ok(())
    }

    /// Refuses a call that the queue does not take whole before a part of it is computed in vain.
    pub(super) fn admit(&self, inputs: usize) -> Result<(), Problem> {
        let texts = matches!(self.ask, Ask::Text(_));
        self.service.engine.admits(texts, inputs, self.deadline).map_err(|error| {
            self.service.metrics.dropped("overloaded");
            Problem::new(Code::Overloaded, format!("{error}; the call has {inputs} inputs"))
        })
    }

    /// Queues an input; `sample` tells apart texts that are drawn for the same one.
    pub(super) fn submit(
        &self,
        encoded: &Encoded,
        sample: u64,
        tokens: Option<mpsc::UnboundedSender<u32>>,
    ) -> Result<Waiting, Problem> {
        let request = Request {
            task: Arc::clone(&self.task),
            text: encoded.text.clone(),
            deadline: Some(self.deadline),
        };
        let submitted = match self.ask {
            Ask::Labels(_) => self.service.engine.submit(request),
            Ask::Text(decoding) => {
                let decoding = of_sample(decoding, sample);
                self.service.engine.submit_text(request, decoding, tokens)
            }
        };
        let waiting = submitted.inspect_err(|error| {
            if matches!(error, EngineError::Overloaded { .. }) {
                self.service.metrics.dropped("overloaded");
            }
        })?;
        Ok(waiting)
    }

    pub(super) async fn wait(&self, waiting: Waiting) -> Result<Reply, Problem> {
        let reply = match timeout_at(self.deadline.into(), waiting).await {
            Ok(Ok(reply)) => reply?,
            Ok(Err(_)) => {
                let detail = "the engine ended without an answer; the server's log says more";
                return Err(Problem::new(Code::Internal, detail));
            }
            Err(_) => return Err(EngineError::Deadline.into()),
        };
        Ok(reply)
    }

    /// Counts what an answered input waited and took.
    pub(super) fn observe(&self, reply: &Reply) {
        self.service.metrics.stage(Stage::Queue, reply.queued);
        self.service.metrics.stage(Stage::Run, reply.ran);
        trace::computed(reply);
    }
}

/// Whether the tokenizer is fast with all texts of an input.
fn is_fast(input: &Value, tokenizer: &Tokenizer) -> bool {
    match input {
        Value::String(text) => tokenizer.is_fast(text),
        Value::Array(parts) => parts.iter().all(|part| is_fast(part, tokenizer)),
        Value::Object(fields) => fields.values().all(|field| is_fast(field, tokenizer)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

impl From<Finish> for FinishReason {
    fn from(finish: Finish) -> Self {
        match finish {
            Finish::Stop => Self::Stop,
            Finish::Length => Self::Length,
        }
    }
}

fn of_sample(decoding: Decoding, stream: u64) -> Decoding {
    match decoding.method {
        Method::Sample(sampling) => {
            let method = Method::Sample(crate::engine::Sampling { stream, ..sampling });
            Decoding { method, ..decoding }
        }
        Method::Greedy | Method::Beams(_) => decoding,
    }
}

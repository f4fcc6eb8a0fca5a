//! Completions as OpenAI's clients read them, whole or piece by piece.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::CompletionError;
use crate::server::Problem;
use crate::server::inference::{Encoded, Event, FinishReason, Followed, Following, Run, Shadow, Usage};
use crate::server::traffic::Call;

/// The texts of a call.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct Completion {
    id: String,
    #[schema(example = "text_completion")]
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The task.
    model: String,
    /// The version that answered.
    system_fingerprint: String,
    /// The texts of the prompts in their order, those of one prompt side by side.
    choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<CompletionUsage>,
}

/// A text, or a piece of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct Choice {
    index: usize,
    text: String,
    /// Not computed.
    #[schema(value_type = Option<Object>, required)]
    logprobs: Value,
    /// None while the text grows.
    #[schema(required)]
    finish_reason: Option<FinishReason>,
}

/// Tokens that a call took.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(in crate::server) struct CompletionUsage {
    /// Of the prompts, end tokens included; the soft prompt is not counted.
    prompt_tokens: usize,
    /// Generated.
    completion_tokens: usize,
    total_tokens: usize,
}

/// Writes the answers of one call.
#[derive(Debug)]
pub(super) struct Writer {
    run: Run,
    id: String,
    created: u64,
    /// Tokens of each prompt.
    inputs: Vec<usize>,
    samples: usize,
    output: usize,
    shadow: Option<Shadow>,
    /// The texts that have ended, for the shadow.
    said: Vec<Option<String>>,
}

struct Stream {
    writer: Writer,
    following: Following,
    /// What happened before the answer's head was sent.
    first: VecDeque<(usize, Event)>,
    /// What is sent when all texts have ended.
    last: VecDeque<String>,
    open: usize,
    include_usage: bool,
    _entered: Call,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(run: &Run, prompts: &[Encoded], samples: usize, shadow: Option<Shadow>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            run: run.clone(),
            id: format!("cmpl-{:032x}", now.as_nanos()),
            created: now.as_secs(),
            inputs: prompts.iter().map(|prompt| prompt.text.len()).collect(),
            samples,
            output: 0,
            shadow,
            said: vec![None; prompts.len() * samples],
        }
    }

    /// The answer to a call that does not stream.
    pub(super) fn whole(mut self, texts: Vec<Followed>) -> Result<Response, CompletionError> {
        let mut choices = Vec::with_capacity(texts.len());
        for (index, followed) in texts.into_iter().enumerate() {
            self.count(index, &followed);
            let Followed { text, finish_reason, .. } = followed;
            choices.push(Choice { index, text, logprobs: Value::Null, finish_reason: Some(finish_reason) });
        }
        self.compare();
        Ok(Json(self.completion(choices, Some(self.usage()))).into_response())
    }

    /// The answer to a call that streams.
    pub(super) async fn stream(
        self,
        mut following: Following,
        include_usage: bool,
        entered: Call,
    ) -> Result<Response, CompletionError> {
        // a call that fails before its first piece has the status of its error
        let first = match following.next().await {
            Some((_, Event::End(Err(problem)))) => return Err(problem.into()),
            Some(event) => VecDeque::from([event]),
            None => VecDeque::new(),
        };
        let open = self.inputs.len() * self.samples;
        let last = VecDeque::new();
        let state = Stream { writer: self, following, first, last, open, include_usage, _entered: entered };
        let events = stream::unfold(state, |mut state| async move {
            let data = state.next().await?;
            Some((Ok::<_, Infallible>(Sent::default().data(data)), state))
        });
        Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
    }

    fn count(&mut self, index: usize, followed: &Followed) {
        self.output += followed.tokens;
        if self.shadow.is_some() {
            self.said[index] = Some(followed.text.clone());
        }
        let metrics = &self.run.service.metrics;
        let mut usage = Usage::default();
        usage.count(self.inputs[index / self.samples], followed.tokens, &self.run.task);
        metrics.generated(&self.run.name);
        metrics.tokens(&usage);
    }

    /// All texts have ended: what does the shadow say?
    fn compare(&mut self) {
        if let Some(shadow) = self.shadow.take() {
            shadow.compare(std::mem::take(&mut self.said));
        }
    }

    fn usage(&self) -> CompletionUsage {
        let prompt_tokens = self.inputs.iter().sum();
        let completion_tokens = self.output;
        CompletionUsage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }

    fn completion(&self, choices: Vec<Choice>, usage: Option<CompletionUsage>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.run.name.clone(),
            system_fingerprint: self.run.task.version().to_owned(),
            choices,
            usage,
        }
    }

    fn chunk(&self, index: usize, text: String, finish_reason: Option<FinishReason>) -> String {
        let choice = Choice { index, text, logprobs: Value::Null, finish_reason };
        json!(self.completion(vec![choice], None)).to_string()
    }
}

// === impl Stream ===

impl Stream {
    async fn next(&mut self) -> Option<String> {
        if let Some(last) = self.last.pop_front() {
            return Some(last);
        }
        if self.open == 0 {
            return None;
        }
        let (index, event) = match self.first.pop_front() {
            Some(event) => event,
            None => self.following.next().await?,
        };
        match event {
            Event::Piece(text) => Some(self.writer.chunk(index, text, None)),
            Event::End(Ok(followed)) => {
                self.writer.count(index, &followed);
                self.open -= 1;
                if self.open == 0 {
                    self.finish();
                }
                Some(self.writer.chunk(index, String::new(), Some(followed.finish_reason)))
            }
            Event::End(Err(problem)) => Some(self.fail(problem)),
        }
    }

    fn finish(&mut self) {
        self.writer.compare();
        if self.include_usage {
            let usage = self.writer.completion(Vec::new(), Some(self.writer.usage()));
            self.last.push_back(json!(usage).to_string());
        }
        self.last.push_back("[DONE]".into());
    }

    /// An error ends the stream.
    fn fail(&mut self, problem: Problem) -> String {
        self.open = 0;
        CompletionError::from(problem).body().to_string()
    }
}

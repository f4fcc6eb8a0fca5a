//! A text sent piece by piece, as server-sent events.
//!
//! `piece` events bring `{"text": …}` as it grows, and one `answer` event what a call without `stream` gets. An error
//! after the first piece is an `error` event with its problem document; before, it is the call's answer.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde_json::json;

use crate::server::Problem;
use crate::server::inference::{
    Answered, Ask, Encoded, Event, Followed, Following, Options, Prediction, Run, Shadow,
};
use crate::server::traffic::Call;
use crate::server::{Code, Service};

/// A stream in the making; the call counts as in flight until it is dropped.
struct Stream {
    run: Run,
    input_tokens: usize,
    truncated: bool,
    following: Following,
    shadow: Option<Shadow>,
    /// What happened before the answer's head was sent.
    first: VecDeque<Event>,
    _entered: Call,
}

/// Answers a call by a stream.
pub(super) async fn stream(
    run: Run,
    encoded: Encoded,
    shadow: Option<Shadow>,
    entered: Call,
) -> Result<Response, Problem> {
    let Ask::Text(_) = run.ask else {
        let detail =
            format!("stream is for tasks that answer with free text; task {:?} has labels", run.name);
        return Err(Problem::new(Code::BadRequest, detail));
    };
    let mut following = Following::start(&run, std::slice::from_ref(&encoded), 1, &[])?;
    // a call that fails before its first piece has the status of its error
    let first = match following.next().await {
        Some((_, Event::End(Err(problem)))) => return Err(problem),
        Some((_, event)) => VecDeque::from([event]),
        None => VecDeque::new(),
    };
    let (input_tokens, truncated) = (encoded.text.len(), encoded.truncated);
    let state = Stream { run, input_tokens, truncated, following, shadow, first, _entered: entered };
    let events = stream::unfold(state, |mut state| async move {
        let event = match state.first.pop_front() {
            Some(event) => event,
            None => state.following.next().await?.1,
        };
        Some((Ok::<_, Infallible>(state.sent(event)), state))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

// === impl Stream ===

impl Stream {
    fn sent(&mut self, event: Event) -> Sent {
        let (name, data) = match event {
            Event::Piece(text) => ("piece", json!({"text": text})),
            Event::End(Ok(followed)) => ("answer", json!(self.answered(followed))),
            Event::End(Err(problem)) => ("error", json!(problem)),
        };
        Sent::default().event(name).data(data.to_string())
    }

    fn answered(&mut self, followed: Followed) -> Answered {
        let Run { name, task, ask, service, .. } = &self.run;
        let service: &Service = service;
        let mut answered = Answered::new(name.clone(), task, Options::seed_of(ask));
        answered.usage.count(self.input_tokens, followed.tokens, task);
        let Followed { text, finish_reason, .. } = followed;
        answered.predictions.push(Prediction::Text { text, finish_reason, truncated: self.truncated });
        service.metrics.generated(name);
        service.metrics.tokens(&answered.usage);
        if let Some(shadow) = self.shadow.take() {
            shadow.compare_predictions(&answered.predictions);
        }
        answered
    }
}

//! Texts as they are generated: pieces as soon as they are certain, and an end at a stop text.

use opentelemetry::Context;
use opentelemetry::trace::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use tracing::Instrument as _;

use super::answer::FinishReason;
use super::run::{Encoded, Run, Waiting};
use crate::engine::{Answer, EngineError};
use crate::server::{Code, Problem};

/// Texts that are being generated. Dropping it ends the work on them.
#[derive(Debug)]
pub(in crate::server) struct Following {
    events: mpsc::UnboundedReceiver<(usize, Event)>,
    /// Aborted when dropped: the engine sees that nobody waits.
    _tasks: JoinSet<()>,
}

/// What happens to a text.
#[derive(Debug)]
pub(in crate::server) enum Event {
    /// It grew by this.
    Piece(String),
    /// It ended, or failed.
    End(Result<Followed, Problem>),
}

/// A text that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Followed {
    pub(in crate::server) text: String,
    pub(in crate::server) finish_reason: FinishReason,
    pub(in crate::server) tokens: usize,
}

/// A text in the making.
struct Text {
    run: Run,
    stop: Vec<String>,
    ids: Vec<u32>,
    /// Bytes of the text that were told.
    told: usize,
}

// === impl Following ===

impl Following {
    /// Starts to generate `samples` texts for each input. The events name a text by its number, the samples of an
    /// input side by side.
    pub(in crate::server) fn start(
        run: &Run,
        inputs: &[Encoded],
        samples: usize,
        stop: &[String],
    ) -> Result<Self, Problem> {
        run.admit(inputs.len() * samples)?;
        let (sender, events) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for (i, input) in inputs.iter().enumerate() {
            for sample in 0..samples {
                let (tell, tokens) = mpsc::unbounded_channel();
                let waiting = run.submit(input, sample as u64, Some(tell))?;
                let text = Text { run: run.clone(), stop: stop.to_vec(), ids: Vec::new(), told: 0 };
                let (number, sender) = (i * samples + sample, sender.clone());
                let following = async move {
                    let tell = |event| drop(sender.send((number, event)));
                    let end = text.follow(tokens, waiting, tell).await;
                    tell(Event::End(end));
                };
                // what is traced and logged on the way belongs to the call
                tasks.spawn(following.with_context(Context::current()).in_current_span());
            }
        }
        Ok(Self { events, _tasks: tasks })
    }

    /// What happens next; none when all texts have ended.
    pub(in crate::server) async fn next(&mut self) -> Option<(usize, Event)> {
        self.events.recv().await
    }

    /// Waits for all texts, in the order of their numbers.
    pub(in crate::server) async fn finish(mut self) -> Result<Vec<Followed>, Problem> {
        let mut ended = Vec::new();
        while let Some((number, event)) = self.next().await {
            if let Event::End(end) = event {
                ended.push((number, end?));
            }
        }
        ended.sort_by_key(|&(number, _)| number);
        Ok(ended.into_iter().map(|(_, followed)| followed).collect())
    }
}

// === impl Text ===

impl Text {
    async fn follow(
        mut self,
        mut tokens: mpsc::UnboundedReceiver<u32>,
        waiting: Waiting,
        tell: impl Fn(Event),
    ) -> Result<Followed, Problem> {
        loop {
            let token = timeout_at(self.run.deadline.into(), tokens.recv()).await;
            match token.map_err(|_| EngineError::Deadline)? {
                None => break,
                Some(token) => self.ids.push(token),
            }
            let text = self.run.decode(&self.ids)?;
            if let Some(end) = first_stop(&text, &self.stop) {
                // the engine sees by the dropped `waiting` that the rest is not wanted
                return Ok(self.ended(text[..end].to_owned(), FinishReason::Stop, &tell));
            }
            let certain = certain(&text, &self.stop);
            self.tell(&text[..certain], &tell);
        }
        let reply = self.run.wait(waiting).await?;
        self.run.observe(&reply);
        let Answer::Text(generated) = reply.answer else {
            return Err(Problem::new(Code::Internal, "the engine scored labels of a free-text task"));
        };
        self.ids = generated.tokens;
        let text = self.run.decode(&self.ids)?;
        Ok(match first_stop(&text, &self.stop) {
            Some(end) => self.ended(text[..end].to_owned(), FinishReason::Stop, &tell),
            None => self.ended(text, generated.finish.into(), &tell),
        })
    }

    fn ended(&mut self, text: String, finish_reason: FinishReason, tell: &impl Fn(Event)) -> Followed {
        self.tell(&text, tell);
        Followed { text, finish_reason, tokens: self.ids.len() }
    }

    /// Tells what is new of a text.
    fn tell(&mut self, text: &str, tell: &impl Fn(Event)) {
        if let Some(piece) = text.get(self.told..).filter(|piece| !piece.is_empty()) {
            tell(Event::Piece(piece.to_owned()));
            self.told = text.len();
        }
    }
}

/// Where the first stop text begins.
pub(super) fn first_stop(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// How much of a text can be told: not what may be the beginning of a stop text, nor a character in the making.
fn certain(text: &str, stop: &[String]) -> usize {
    let whole = text.trim_end_matches('\u{fffd}').len();
    let is_beginning = |&at: &usize| stop.iter().any(|stop| stop.starts_with(&text[at..whole]));
    text[..whole].char_indices().map(|(at, _)| at).find(is_beginning).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_begin_a_stop_text_waits_for_what_follows() {
        let stop = ["END".to_owned(), "\n\n".to_owned()];
        for (text, told) in [
            ("some text", 9),
            ("some E", 5),
            ("some EN", 5),
            ("some ENT", 8),
            ("a\n", 1),
            ("é\u{fffd}", 2),
            ("", 0),
        ] {
            assert_eq!(certain(text, &stop), told, "{text:?}");
        }
        assert_eq!(first_stop("some END\n\n", &stop), Some(5));
        assert_eq!(first_stop("some", &stop), None);
    }
}

//! How a call wants its inputs answered, by the kind of the task.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::engine::{Answers, BeamSettings, Decoding, MAX_BEAMS, Method, Sampling, TaskCard};
use crate::server::{Code, Problem};

/// Highest temperature.
const MAX_TEMPERATURE: f32 = 2.0;
/// Largest length penalty, and smallest as its negative.
const MAX_LENGTH_PENALTY: f32 = 10.0;

/// The options of every route that predicts, all by their names in `predict`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::server) struct Options {
    /// Cut inputs that are longer than the task takes, instead of refusing them.
    pub(in crate::server) truncate: bool,
    /// Show only this many labels in `scores`.
    pub(in crate::server) top_k: Option<usize>,
    /// Even out the lengths of labels of several tokens.
    pub(in crate::server) normalize: Option<bool>,
    /// Divide out what the model says to the prompt's content-free inputs.
    pub(in crate::server) calibrate: Option<bool>,
    /// Abstain where the best label's score is below this.
    pub(in crate::server) abstain_below: Option<f32>,
    /// Longest text in tokens, at most what the task allows.
    pub(in crate::server) max_new_tokens: Option<usize>,
    /// Draw tokens at this temperature; 0 takes the most likely.
    pub(in crate::server) temperature: Option<f32>,
    /// Draw only from the most likely tokens that together reach this probability.
    pub(in crate::server) top_p: Option<f32>,
    /// Draw only from this many of the most likely tokens.
    pub(in crate::server) sample_top_k: Option<usize>,
    /// What is drawn follows from this number.
    pub(in crate::server) seed: Option<u64>,
    /// Search for the best text with this many beams.
    pub(in crate::server) num_beams: Option<usize>,
    /// How beam search weighs lengths; 1 where nothing is said.
    pub(in crate::server) length_penalty: Option<f32>,
}

/// Options that fit the task.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) enum Ask {
    Labels(LabelOptions),
    Text(Decoding),
}

#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct LabelOptions {
    pub(in crate::server) top_k: Option<usize>,
    pub(in crate::server) normalize: bool,
    pub(in crate::server) calibrate: bool,
    pub(in crate::server) abstain_below: Option<f32>,
}

// === impl Options ===

impl Options {
    /// Reads options by their names; an unknown one is named.
    pub(in crate::server) fn read(members: Map<String, Value>) -> Result<Self, Problem> {
        serde_path_to_error::deserialize(Value::Object(members)).map_err(|error| bad(error.to_string()))
    }

    /// Checks the options against each other and the task that will answer.
    pub(in crate::server) fn ask(&self, name: &str, task: &TaskCard) -> Result<Ask, Problem> {
        match task.answers() {
            Answers::Labels { .. } => {
                if let Some(option) = self.first_of_text() {
                    return Err(bad(format!(
                        "{option} is for tasks that answer with free text; task {name:?} answers with labels"
                    )));
                }
                self.labels(name, task).map(Ask::Labels)
            }
            Answers::Text { max_new_tokens } => {
                if let Some(option) = self.first_of_labels() {
                    return Err(bad(format!(
                        "{option} is for tasks with labels; task {name:?} answers with free text"
                    )));
                }
                self.decoding(*max_new_tokens).map(Ask::Text)
            }
        }
    }

    /// As [`ask`](Self::ask), for another version of the task: texts are drawn by the same seed.
    pub(in crate::server) fn ask_again(
        &self,
        first: &Ask,
        name: &str,
        task: &TaskCard,
    ) -> Result<Ask, Problem> {
        let seed = self.seed.or_else(|| Self::seed_of(first));
        Self { seed, ..self.clone() }.ask(name, task)
    }

    /// With no more tokens than the task allows.
    pub(in crate::server) fn within(mut self, task: &TaskCard) -> Self {
        if let Answers::Text { max_new_tokens: most } = *task.answers() {
            self.max_new_tokens = Some(self.max_new_tokens.unwrap_or(most).min(most));
        }
        self
    }

    /// The seed that texts are drawn by, if they are drawn.
    pub(in crate::server) fn seed_of(ask: &Ask) -> Option<u64> {
        match ask {
            Ask::Text(Decoding { method: Method::Sample(sampling), .. }) => Some(sampling.seed),
            Ask::Text(_) | Ask::Labels(_) => None,
        }
    }

    fn first_of_text(&self) -> Option<&'static str> {
        let given = [
            ("max_new_tokens", self.max_new_tokens.is_some()),
            ("temperature", self.temperature.is_some()),
            ("top_p", self.top_p.is_some()),
            ("sample_top_k", self.sample_top_k.is_some()),
            ("seed", self.seed.is_some()),
            ("num_beams", self.num_beams.is_some()),
            ("length_penalty", self.length_penalty.is_some()),
        ];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    fn first_of_labels(&self) -> Option<&'static str> {
        let given = [
            ("top_k", self.top_k.is_some()),
            ("normalize", self.normalize.is_some()),
            ("calibrate", self.calibrate.is_some()),
            ("abstain_below", self.abstain_below.is_some()),
        ];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    fn labels(&self, name: &str, task: &TaskCard) -> Result<LabelOptions, Problem> {
        if self.top_k == Some(0) {
            return Err(bad("top_k is 0; ask for at least 1 label"));
        }
        if let Some(threshold) = self.abstain_below.filter(|threshold| !(0.0..=1.0).contains(threshold)) {
            return Err(bad(format!("abstain_below is {threshold}; a probability is from 0 to 1")));
        }
        let calibrate = self.calibrate == Some(true);
        if calibrate && task.content_free().is_empty() {
            return Err(bad(format!(
                "calibrate needs content-free inputs, and the prompt of task {name:?} has none; leave it out, or \
                 train with task.content_free"
            )));
        }
        let normalize = self.normalize == Some(true);
        Ok(LabelOptions { top_k: self.top_k, normalize, calibrate, abstain_below: self.abstain_below })
    }

    fn decoding(&self, most: usize) -> Result<Decoding, Problem> {
        let max_new_tokens = self.max_new_tokens.unwrap_or(most);
        if !(1..=most).contains(&max_new_tokens) {
            return Err(bad(format!("max_new_tokens is {max_new_tokens}; the task allows 1 to {most}")));
        }
        let beams = self.num_beams.unwrap_or(1);
        if !(1..=MAX_BEAMS).contains(&beams) {
            return Err(bad(format!("num_beams is {beams}; ask for 1 to {MAX_BEAMS}")));
        }
        let sampling = self.sampling()?;
        let method = match (sampling, self.length_penalty) {
            (Some(_), _) if beams > 1 => {
                return Err(bad(
                    "num_beams searches and temperature, top_p, sample_top_k and seed draw; ask for one",
                ));
            }
            (_, Some(_)) if beams == 1 => {
                return Err(bad("length_penalty is for beam search; say num_beams, or leave it out"));
            }
            (_, Some(penalty)) if penalty.abs() > MAX_LENGTH_PENALTY => {
                return Err(bad(format!(
                    "length_penalty is {penalty}; it is from -{MAX_LENGTH_PENALTY} to {MAX_LENGTH_PENALTY}"
                )));
            }
            (Some(sampling), _) => Method::Sample(sampling),
            (None, _) if beams == 1 => Method::Greedy,
            (None, penalty) => {
                Method::Beams(BeamSettings { count: beams, length_penalty: penalty.unwrap_or(1.0) })
            }
        };
        Ok(Decoding { max_new_tokens, method })
    }

    /// How tokens are drawn, if they are: when a temperature above 0 is given, or another option of drawing without
    /// a temperature.
    fn sampling(&self) -> Result<Option<Sampling>, Problem> {
        let drawn = self.top_p.is_some() || self.sample_top_k.is_some() || self.seed.is_some();
        let temperature = self.temperature.unwrap_or(if drawn { 1.0 } else { 0.0 });
        if !(0.0..=MAX_TEMPERATURE).contains(&temperature) {
            return Err(bad(format!("temperature is {temperature}; it is from 0 to {MAX_TEMPERATURE}")));
        }
        let top_p = self.top_p.unwrap_or(1.0);
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(bad(format!("top_p is {top_p}; it is above 0 and at most 1")));
        }
        if self.sample_top_k == Some(0) {
            return Err(bad("sample_top_k is 0; draw from at least 1 token"));
        }
        if temperature == 0.0 {
            return Ok(None);
        }
        let seed = self.seed.unwrap_or_else(fresh_seed);
        Ok(Some(Sampling { temperature, top_k: self.sample_top_k, top_p, seed, stream: 0 }))
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

/// A seed that no call gave: 32 bits, so that every JSON reader keeps it exactly.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // each RandomState has keys of its own, from the system's chance
    RandomState::new().hash_one(()) & 0xffff_ffff
}

//! From prompts and token ids to answers: scoring and generation over batches, and the scheduler that fills
//! the batches from one queue for all tasks. The trainer evaluates with the same code.

mod base;
mod batch;
mod beams;
mod cache;
mod choose;
mod decoding;
mod generation;
mod generator;
mod outflow;
mod queue;
mod ready;
mod sampler;
mod scheduler;
mod scorer;
mod sizes;
mod worker;

pub use base::base;
pub use batch::{DecoderBatch, Source, SourceBatch};
pub use decoding::{BeamSettings, Decoding, MAX_BEAMS, Method, Sampling};
pub use generation::{Finish, Generated, Generation};
pub use generator::Generator;
pub use ready::{Answers, InputError, MAX_CONTENT_FREE, ReadyTask, TaskCard, TaskError};
pub use scheduler::{Answer, BatchKind, BatchReport, Engine, EngineError, Observer, Options, Reply, Request};
pub use scorer::{Scorer, competing_tokens};
pub use sizes::Sizes;

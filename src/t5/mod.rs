//! The frozen model: a Hugging Face T5 folder, read in place, and its computation as graphs.
//!
//! [`Config`] is what `config.json` says, [`Checkpoint`] where each weight lies in the mapped files, and
//! [`graphs`] the forward pass, written once for scoring and tuning; [`step`] is a step of generation, which [`picking`] and
//! [`joining`] serve too. Nothing here runs a graph.

mod buckets;
mod checkpoint;
mod config;
pub mod graphs;
pub mod joining;
mod narrow;
pub mod picking;
mod rows;
pub mod step;
mod weights;

pub use buckets::{Buckets, Direction};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use config::{Activation, Config, ConfigError, Family, Function};
pub use narrow::{Kept, NarrowWeights};

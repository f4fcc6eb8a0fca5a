//! A graph that picks rows of a batch: what beam search and texts that end change of a running generation.

use super::Config;
use super::graphs::ENCODER_HIDDEN;
use crate::graph::{Arithmetic, DType, Graph};

/// Input `[picked]` i64: the row that each row of the next batch is a copy of.
pub const PICK: &str = "pick";
/// Output `[picked, length, d_model]` of the graph's floats.
pub const PICKED_HIDDEN: &str = "picked_hidden";

/// Picks of the encoder's output: ([`ENCODER_HIDDEN`], [`PICK`]) to [`PICKED_HIDDEN`].
#[must_use]
pub fn hidden(config: &Config, arithmetic: Arithmetic) -> Graph {
    let mut graph = Graph::new(arithmetic);
    let shape = ["batch".into(), "length".into(), config.d_model.into()];
    let hidden = graph.input(ENCODER_HIDDEN, arithmetic.floats, &shape);
    let pick = graph.input(PICK, DType::I64, &["picked".into()]);
    let picked = graph.gather(hidden, pick);
    graph.output(PICKED_HIDDEN, picked);
    graph
}

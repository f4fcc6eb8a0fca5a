//! Graphs that pick rows of a batch: what beam search and texts that end change of a running generation.

use super::Config;
use super::graphs::{ENCODER_HIDDEN, cache_name};
use crate::graph::{Arithmetic, DType, Dim, Graph};

/// Input `[picked]` i64: the row that each row of the next batch is a copy of.
pub const PICK: &str = "pick";
/// Output `[picked, length, d_model]` of the graph's floats.
pub const PICKED_HIDDEN: &str = "picked_hidden";

const BATCH: Dim = Dim::Named("batch");

/// Picks of the encoder's output: ([`ENCODER_HIDDEN`], [`PICK`]) to [`PICKED_HIDDEN`].
#[must_use]
pub fn hidden(config: &Config, arithmetic: Arithmetic) -> Graph {
    let mut graph = Graph::new(arithmetic);
    let shape = [BATCH, "length".into(), config.d_model.into()];
    let hidden = graph.input(ENCODER_HIDDEN, arithmetic.floats, &shape);
    let pick = graph.input(PICK, DType::I64, &["picked".into()]);
    let picked = graph.gather(hidden, pick);
    graph.output(PICKED_HIDDEN, picked);
    graph
}

/// Picks of the decoder's cache: (`past.*`, [`PICK`]) to `present.*`.
#[must_use]
pub fn cache(config: &Config, arithmetic: Arithmetic) -> Graph {
    let mut graph = Graph::new(arithmetic);
    let pick = graph.input(PICK, DType::I64, &["picked".into()]);
    for layer in 0..config.num_decoder_layers {
        for kind in ["key", "value"] {
            let shape = [BATCH, config.num_heads.into(), "past".into(), config.d_kv.into()];
            let past = graph.input(&cache_name("past", layer, kind), arithmetic.floats, &shape);
            let picked = graph.gather(past, pick);
            graph.output(&cache_name("present", layer, kind), picked);
        }
    }
    graph
}

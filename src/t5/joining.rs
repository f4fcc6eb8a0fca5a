//! Graphs that make one batch of two running generations, whatever their lengths and ages.
//!
//! Both batches are flattened to rows of the last axis, those of the other behind one's own, and an index says which
//! row each position of the joined batch is a copy of. Positions that are masked may be a copy of any.

use super::Config;
use super::graphs::{ENCODER_HIDDEN, cache_name};
use crate::graph::{Arithmetic, DType, Dim, Graph, Value};

/// Input: the other batch's [`ENCODER_HIDDEN`].
pub const OTHER_HIDDEN: &str = "other_hidden";
/// Input of i64, in the shape of the joined values without their last axis: the flattened row of each position.
pub const ROWS: &str = "rows";
/// Output `[joined, joined_length, d_model]` of the graph's floats.
pub const JOINED_HIDDEN: &str = "joined_hidden";

const JOINED: Dim = Dim::Named("joined");

/// Joins two outputs of the encoder: ([`ENCODER_HIDDEN`], [`OTHER_HIDDEN`], [`ROWS`]) to [`JOINED_HIDDEN`].
#[must_use]
pub fn hidden(config: &Config, arithmetic: Arithmetic) -> Graph {
    let mut graph = Graph::new(arithmetic);
    let last = config.d_model.into();
    let mine = graph.input(ENCODER_HIDDEN, arithmetic.floats, &["batch".into(), "length".into(), last]);
    let theirs =
        graph.input(OTHER_HIDDEN, arithmetic.floats, &["other_batch".into(), "other_length".into(), last]);
    let rows = graph.input(ROWS, DType::I64, &[JOINED, "joined_length".into()]);
    let joined = pick(&mut graph, [mine, theirs], last, rows);
    graph.output(JOINED_HIDDEN, joined);
    graph
}

/// Joins two caches of the decoder: (`past.*`, `other.*`, [`ROWS`]) to `present.*`.
#[must_use]
pub fn cache(config: &Config, arithmetic: Arithmetic) -> Graph {
    let mut graph = Graph::new(arithmetic);
    let (heads, last) = (config.num_heads.into(), config.d_kv.into());
    let rows = graph.input(ROWS, DType::I64, &[JOINED, heads, "joined_past".into()]);
    for layer in 0..config.num_decoder_layers {
        for kind in ["key", "value"] {
            let mut input = |when, batch: &'static str, past: &'static str| {
                let shape = [batch.into(), heads, past.into(), last];
                graph.input(&cache_name(when, layer, kind), arithmetic.floats, &shape)
            };
            let both = [input("past", "batch", "past"), input("other", "other_batch", "other_past")];
            let joined = pick(&mut graph, both, last, rows);
            graph.output(&cache_name("present", layer, kind), joined);
        }
    }
    graph
}

fn pick(graph: &mut Graph, [mine, theirs]: [Value; 2], last: Dim, rows: Value) -> Value {
    let mine = graph.reshape(mine, &["mine".into(), last]);
    let theirs = graph.reshape(theirs, &["theirs".into(), last]);
    let both = graph.concat(&[mine, theirs], 0);
    graph.gather(both, rows)
}

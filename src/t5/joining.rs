//! A graph that makes one batch of two running generations, whatever their lengths.
//!
//! Both batches are flattened to rows of the last axis, those of the other behind one's own, and an index says which
//! row each position of the joined batch is a copy of. Positions that are masked may be a copy of any.

use super::Config;
use super::graphs::ENCODER_HIDDEN;
use crate::graph::{Arithmetic, DType, Graph};

/// Input: the other batch's [`ENCODER_HIDDEN`].
pub const OTHER_HIDDEN: &str = "other_hidden";
/// Input `[joined, joined_length]` i64: the flattened row of each position.
pub const ROWS: &str = "rows";
/// Output `[joined, joined_length, d_model]` of the graph's floats.
pub const JOINED_HIDDEN: &str = "joined_hidden";

/// Joins two outputs of the encoder: ([`ENCODER_HIDDEN`], [`OTHER_HIDDEN`], [`ROWS`]) to [`JOINED_HIDDEN`].
#[must_use]
pub fn hidden(config: &Config, arithmetic: Arithmetic) -> Graph {
    let mut graph = Graph::new(arithmetic);
    let last = config.d_model.into();
    let mine = graph.input(ENCODER_HIDDEN, arithmetic.floats, &["batch".into(), "length".into(), last]);
    let theirs =
        graph.input(OTHER_HIDDEN, arithmetic.floats, &["other_batch".into(), "other_length".into(), last]);
    let rows = graph.input(ROWS, DType::I64, &["joined".into(), "joined_length".into()]);
    let mine = graph.reshape(mine, &["mine".into(), last]);
    let theirs = graph.reshape(theirs, &["theirs".into(), last]);
    let both = graph.concat(&[mine, theirs], 0);
    let joined = graph.gather(both, rows);
    graph.output(JOINED_HIDDEN, joined);
    graph
}

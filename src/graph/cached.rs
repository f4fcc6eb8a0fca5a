//! A step of self-attention over positions that came before, whose keys and values lie in a cache.
//!
//! The cache is memory that stays where it is. Positions lie there in blocks, `[blocks, layers, 2, heads,`
//! [`CACHE_BLOCK`]`, d]`, keys before values; a table says which blocks a row has. So rows of a batch may have come at
//! different times, blocks may be those of several rows, and nothing is moved when a row comes, grows or goes.

use super::builder::{Graph, Value};
use super::op::{DType, Op};
use super::shape::Dim;

/// Positions of a block.
pub const CACHE_BLOCK: usize = 16;

/// What all layers of a step read.
#[derive(Clone, Copy, Debug)]
pub struct Cached {
    /// `[blocks, layers, 2, heads,` [`CACHE_BLOCK`]`, d]`: written in place, at each row's own position.
    pub cache: Value,
    /// `[rows, n]` i64: the blocks of each row.
    pub table: Value,
    /// `[rows]` i64: how many positions each row has before this one.
    pub ages: Value,
    /// `[distances, heads]`: what is added to the score of a key so many positions before the query; the last is that of
    /// all farther ones.
    pub positions: Value,
}

impl Graph {
    /// softmax(q k' + positions) v `[rows, h * d]` of each row's query, over the keys and values of its positions in the
    /// cache and its own, which are written there. A row of qkv `[rows, 3 * h * d]` has query, key and value of all
    /// heads.
    ///
    /// The cache is the one tensor that an operator changes. No other operator of the graph may read the layer's part.
    pub fn cached_attention(&mut self, layer: usize, qkv: Value, cached: Cached) -> Value {
        let Cached { cache, table, ages, positions } = cached;
        let &[rows, Dim::Fixed(width)] = self.shape(qkv) else {
            panic!("cached attention over {:?}", self.shape(qkv));
        };
        let &[_, Dim::Fixed(layers), _, Dim::Fixed(heads), _, Dim::Fixed(d)] = self.shape(cache) else {
            panic!("a cache of the shape {:?}", self.shape(cache));
        };
        assert!(layer < layers, "layer {layer} of a cache of {layers}");
        assert_eq!(width, 3 * heads * d, "queries, keys and values of {heads} heads of {d}");
        let inputs = [qkv, cache, table, ages, positions];
        let (op, dtype) = (Op::CachedAttention { layer }, self.dtype(qkv));
        let [mixed] = self.node(op, &inputs, dtype, [vec![rows, (heads * d).into()]]);
        mixed
    }

    /// `[rows]` f32: the index of the largest of each row of logits `[rows, n]` in f32, the first of equal ones. A float
    /// holds any index below 2^24.
    pub fn most_likely(&mut self, logits: Value) -> Value {
        let &[rows, _] = self.shape(logits) else { panic!("logits of the shape {:?}", self.shape(logits)) };
        let [best] = self.node(Op::MostLikely, &[logits], DType::F32, [vec![rows]]);
        best
    }
}

//! One step of generation as a graph: a token of every text, over a cache of the positions before it.

use super::graphs::{DECODER_IDS, ENCODER_HIDDEN, Forward, LOGITS, MASK};
use super::rows::{Rows, Stream};
use super::weights::bias_name;
use super::{Checkpoint, Config, Direction};
use crate::graph::{Arithmetic, CACHE_BLOCK, Cached, DType, Dim, Graph, Value};

/// Input `[blocks, layers, 2, heads, `[`CACHE_BLOCK`]`, d_kv]` in the graph's float type: keys and values of positions that
/// came before. The step writes those of its own position there.
pub const CACHE: &str = "cache";
/// Input `[batch, n]` i64: the blocks of each row, in the order of its positions.
pub const CACHE_TABLE: &str = "cache_table";
/// Input `[batch]` i64: how many positions each row has in the cache, and so where it writes.
pub const AGES: &str = "ages";
/// Output `[batch]` f32: the token with the largest logit.
pub const MOST_LIKELY: &str = "most_likely";

const BATCH: Dim = Dim::Named("batch");
const LENGTH: Dim = Dim::Named("length");

/// One step of generation: ([`ENCODER_HIDDEN`], [`MASK`], [`DECODER_IDS`] `[batch, 1]`, [`CACHE`], [`CACHE_TABLE`],
/// [`AGES`]) to [`LOGITS`] `[batch, vocab_size]` and [`MOST_LIKELY`].
#[must_use]
pub fn decoder_step(checkpoint: &Checkpoint, arithmetic: Arithmetic) -> Graph {
    let mut t5 = Forward::new(checkpoint, arithmetic);
    let c = t5.config;
    let g = &mut t5.graph;
    let hidden = g.input(ENCODER_HIDDEN, g.floats(), &[BATCH, LENGTH, c.d_model.into()]);
    let mask = g.input(MASK, DType::F32, &[BATCH, LENGTH]);
    let ids = g.input(DECODER_IDS, DType::I64, &[BATCH, 1.into()]);
    let [_, layers, parts, heads, positions, d] = cache_shape(c, 0).map(Dim::Fixed);
    let shape = ["blocks".into(), layers, parts, heads, positions, d];
    let cache = g.input(CACHE, g.floats(), &shape);
    let table = g.input(CACHE_TABLE, DType::I64, &[BATCH, "row_blocks".into()]);
    let ages = g.input(AGES, DType::I64, &[BATCH]);
    let positions = t5.position_table(0);
    let of_text = if t5.graph.is_packed() {
        let count = t5.graph.reduce_sum(mask, &[1]);
        let count = t5.graph.reshape(count, &[BATCH]);
        t5.graph.cast(count, DType::I64)
    } else {
        let hidden_keys = t5.hidden_keys(mask);
        t5.graph.reshape(hidden_keys, &[BATCH, 1.into(), LENGTH])
    };

    let embedding = t5.embedding();
    let x = t5.graph.gather(embedding, ids);
    let mut stream = Stream::new(t5.graph.reshape(x, &[BATCH, c.d_model.into()]));
    let mut cached = Cached { cache, table, ages, positions };
    for block in 0..c.num_decoder_layers {
        if block > 0 && c.bias_in_every_layer() {
            cached.positions = t5.position_table(block);
        }
        let at = |layer: usize| format!("decoder.block.{block}.layer.{layer}");
        t5.cached_self_attention(&mut stream, block, cached, &at(0));
        if t5.graph.is_packed() {
            t5.packed_cross_attention(&mut stream, hidden, of_text, &at(1));
        } else {
            t5.next_cross_attention(&mut stream, hidden, of_text, &at(1));
        }
        t5.feed_forward(&mut stream, &at(2));
    }
    let decoded = t5.decoded(stream);
    let logits = t5.vocabulary_logits(decoded);
    let best = t5.graph.most_likely(logits);
    t5.graph.output(LOGITS, logits);
    t5.graph.output(MOST_LIKELY, best);
    t5.graph
}

/// The shape of a cache of so many blocks.
#[must_use]
pub fn cache_shape(config: &Config, blocks: usize) -> [usize; 6] {
    [blocks, config.num_decoder_layers, 2, config.num_heads, CACHE_BLOCK, config.d_kv]
}

// === impl Forward ===

impl Forward<'_> {
    /// `[distances, heads]`: a layer's position bias of each distance back; beyond the last all are equal.
    fn position_table(&mut self, block: usize) -> Value {
        let (buckets, heads) = (self.buckets, self.config.num_heads);
        let of_distance = |back: usize| buckets.of(-(back as i64), Direction::Backward) as i64;
        let table: Vec<i64> = (0..=buckets.max_distance()).map(of_distance).collect();
        let index = self.graph.vector_i64(&table);
        let bias = self.graph.weight(&bias_name("decoder", block), &[buckets.count(), heads]);
        self.graph.gather(bias, index)
    }

    fn cached_self_attention(&mut self, stream: &mut Stream, layer: usize, cached: Cached, at: &str) {
        let (inner, d) = (self.config.num_heads * self.config.d_kv, self.config.d_model);
        let h = self.norm(stream, &format!("{at}.layer_norm.weight"));
        let [q, k, v, o] = ["q", "k", "v", "o"].map(|name| format!("{at}.SelfAttention.{name}.weight"));
        let g = &mut self.graph;
        let qkv = match h {
            Rows::Floats(h) if !g.is_packed() => {
                let weights = [q, k, v].map(|name| g.weight(&name, &[inner, d]));
                if g.kernels().are_fused() {
                    let weight = g.join_weights(&weights);
                    g.gemm(h, weight, true, None)
                } else {
                    let products = weights.map(|weight| g.gemm(h, weight, true, None));
                    g.concat(&products, 1)
                }
            }
            h => self.project_three(h, [&q, &k, &v], inner, d),
        };
        let mixed = self.graph.cached_attention(layer, qkv, cached);
        let mixed = self.rows(mixed);
        self.add_product(stream, mixed, &o, d, inner);
    }

    /// Attention to the encoder's output, absorbed as in scoring. There is one query a row, so products with the weights
    /// of a head are of all rows at once.
    fn next_cross_attention(&mut self, stream: &mut Stream, hidden: Value, hidden_keys: Value, at: &str) {
        let (heads, d_kv, d) = (self.config.num_heads, self.config.d_kv, self.config.d_model);
        let h = self.norm(stream, &format!("{at}.layer_norm.weight"));
        let q = self.project(h, &format!("{at}.EncDecAttention.q.weight"), heads * d_kv, d);
        let g = &mut self.graph;
        let [w_k, w_v] = ["k", "v"]
            .map(|name| g.weight(&format!("{at}.EncDecAttention.{name}.weight"), &[1, heads, d_kv, d]));
        let q = g.reshape(q, &[BATCH, 1.into(), heads.into(), d_kv.into()]);
        let q = g.matmul_by_batch(q, w_k, false);
        let q = g.reshape(q, &[heads.into(), BATCH, d.into()]);
        let scores = g.matmul_by_batch(q, hidden, true);
        let scores = g.add(scores, hidden_keys);
        let p = g.softmax(scores);
        let mixed = g.matmul(p, false, hidden, false);
        let mixed = g.reshape(mixed, &[BATCH, 1.into(), heads.into(), d.into()]);
        let mixed = g.matmul_by_batch(mixed, w_v, true);
        let mixed = g.transpose(mixed, &[0, 2, 1, 3]);
        let mixed = g.reshape(mixed, &[BATCH, (heads * d_kv).into()]);
        let mixed = self.rows(mixed);
        self.add_product(stream, mixed, &format!("{at}.EncDecAttention.o.weight"), d, heads * d_kv);
    }
}

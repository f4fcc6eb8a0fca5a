//! T5's computation (Raffel et al. 2020) as graphs: scoring, generation and tuning from one forward pass.
//!
//! A soft prompt is extra vocabulary: ids of `vocab_size` and above index the rows of [`PROMPT_ROWS`], so one
//! batch mixes prompts of any length. The decoder's positions form a tree: which positions a position sees,
//! and how far away they are, comes in as [`BIAS_INDEX`], so a chain of tokens (teacher forcing, generation)
//! and a trie of label words are the same computation.

use super::buckets::{Buckets, Direction};
use super::rows::{Rows, Stream};
use super::weights::bias_name;
use super::{Activation, Checkpoint, Config, Function};
use crate::graph::{Activations, Arithmetic, DType, Dim, Graph, Kernels, Value};

/// Input `[batch, length]` i64: token ids, and prompt rows as `vocab_size + row`.
pub const IDS: &str = "ids";
/// Input `[batch, length]` f32: 1 for a token, 0 for padding.
pub const MASK: &str = "attention_mask";
/// Input `[positions]` i64: the ids of all examples behind each other, without padding. What a packed graph reads instead
/// of [`IDS`].
pub const PACKED_IDS: &str = "packed_ids";
/// Input `[batch + 1]` i64: where each example begins in [`PACKED_IDS`], and where the last ends.
pub const STARTS: &str = "starts";
/// Input `[rows, d_model]` f32: the rows of all prompts in the batch.
pub const PROMPT_ROWS: &str = "prompt_rows";
/// Input `[batch, target]` i64: tokens that go into the decoder.
pub const DECODER_IDS: &str = "decoder_ids";
/// Input `[batch, target, target]` i64: the relative position bucket of each pair of decoder positions, or the number of
/// buckets where the first does not see the second.
pub const BIAS_INDEX: &str = "decoder_bias_index";
/// Input `[candidates]` i64: the tokens whose logits are wanted.
pub const CANDIDATES: &str = "candidates";
/// Input `[batch, target, candidates]` f32: 0 where a candidate competes, a large negative number where not.
pub const COMPETES: &str = "competes";
/// Input `[batch, target]` i64: the index of the right answer, or -1 where there is none.
pub const TARGETS: &str = "targets";
/// Output and input `[batch, length, d_model]` in the graph's float type: the encoder's last hidden state.
pub const ENCODER_HIDDEN: &str = "encoder_hidden";
/// Output `[batch, target, candidates]` (or `vocab_size`) f32.
pub const LOGITS: &str = "logits";
/// Output `[batch]` f32: negative log likelihood of an example's targets, in nats, summed over positions.
pub const LOSS: &str = "loss";
/// Input `[prompt_length]` i64: 0, 1, ... up to the largest number of prompt rows that an example of the batch has.
pub const PROMPT_POSITIONS: &str = "prompt_positions";
/// Output `[batch, prompt_length, d_model]` f32: dL_i/dx of each example's own loss at its prompt positions, which
/// come first, and 0 where an example has fewer of them.
pub const PROMPT_GRADIENT: &str = "prompt_gradient";

/// Added to the attention score of a pair that must not see each other; f16 has a smaller one, which it holds twice.
const HIDDEN_SCORE: f32 = -1e9;
const HIDDEN_SCORE_F16: f32 = -3e4;

/// How many times the loss is derived in f16. A power of two: what is not too small then is the same but for the exponent.
pub const F16_SCALE: f32 = 1024.0;

const BATCH: Dim = Dim::Named("batch");
const LENGTH: Dim = Dim::Named("length");
/// Of all examples of a packed batch.
const POSITIONS: Dim = Dim::Named("positions");
const TARGET: Dim = Dim::Named("target");

/// The answers that a loss chooses among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answers {
    /// The candidate tokens of the task's label trie, as scoring does.
    Candidates,
    /// The whole vocabulary, for free text.
    Vocabulary,
}

/// Encoder and one teacher-forced decoder pass over a tree of label tokens:
/// ([`IDS`], [`MASK`], [`PROMPT_ROWS`], [`DECODER_IDS`], [`BIAS_INDEX`], [`CANDIDATES`]) to [`LOGITS`]. A graph of packed
/// kernels reads [`PACKED_IDS`] and [`STARTS`] instead of the first two.
#[must_use]
pub fn scoring(checkpoint: &Checkpoint, arithmetic: Arithmetic) -> Graph {
    let mut t5 = Forward::new(checkpoint, arithmetic);
    let source = t5.embed_source();
    let logits = t5.label_logits(source);
    t5.graph.output(LOGITS, logits);
    t5.graph
}

/// The encoder alone: ([`IDS`], [`MASK`], [`PROMPT_ROWS`]), or ([`PACKED_IDS`], [`STARTS`], [`PROMPT_ROWS`]), to
/// [`ENCODER_HIDDEN`].
#[must_use]
pub fn encoder(checkpoint: &Checkpoint, arithmetic: Arithmetic) -> Graph {
    let mut t5 = Forward::new(checkpoint, arithmetic);
    let source = t5.embed_source();
    let hidden = t5.encode(source);
    let shape = [BATCH, LENGTH, t5.config.d_model.into()];
    let hidden = match source.places {
        Places::Padded { .. } => t5.graph.reshape(hidden, &shape),
        Places::Packed { starts } => t5.graph.unpack(hidden, starts, &shape),
    };
    t5.graph.output(ENCODER_HIDDEN, hidden);
    t5.graph
}

/// A tuning step: the loss of every example and its derivative at the example's own prompt rows.
///
/// Inputs are those of [`scoring`] plus [`PROMPT_POSITIONS`], [`TARGETS`] and, for [`Answers::Candidates`], [`COMPETES`]; outputs are
/// [`LOSS`] and [`PROMPT_GRADIENT`]. Examples do not touch each other, so the gradient of the summed loss holds
/// each example's own: what the importance scores need (XPrompt, section 3.2).
///
/// In f16, whose smallest number is 6e-8, what is derived is [`F16_SCALE`] times the loss.
#[must_use]
pub fn tuning(
    checkpoint: &Checkpoint,
    answers: Answers,
    arithmetic: Arithmetic,
    activations: Activations,
) -> Graph {
    let mut t5 = Forward::new(checkpoint, arithmetic.differentiable());
    let (loss, source) = t5.loss(answers);
    let g = &mut t5.graph;
    let scale = (g.floats() == DType::F16).then_some(F16_SCALE);
    let derived = scale.map_or(loss, |scale| {
        let scale = g.scalar(scale);
        g.mul(loss, scale)
    });
    let gradient = g.gradient(derived, source.prompt, activations);
    let positions = g.input(PROMPT_POSITIONS, DType::I64, &[Dim::Named("prompt_length")]);
    let gradient = g.take(gradient, 1, positions);
    let gradient = g.cast(gradient, DType::F32);
    let gradient = scale.map_or(gradient, |scale| {
        let back = g.scalar(1.0 / scale);
        g.mul(gradient, back)
    });
    g.output(LOSS, loss);
    g.output(PROMPT_GRADIENT, gradient);
    t5.graph
}

/// The forward half of [`tuning`]: its inputs but for [`PROMPT_POSITIONS`], to [`LOSS`].
#[must_use]
pub fn loss(checkpoint: &Checkpoint, answers: Answers, arithmetic: Arithmetic) -> Graph {
    let mut t5 = Forward::new(checkpoint, arithmetic.differentiable());
    let (loss, _) = t5.loss(answers);
    t5.graph.output(LOSS, loss);
    t5.graph
}

/// The encoder's input.
#[derive(Clone, Copy)]
struct SourceText {
    /// `[batch * length, d_model]`, or `[positions, d_model]` of a packed batch.
    embedded: Value,
    /// Which of them are whose.
    places: Places,
    /// `[batch, length, d_model]`, or `[positions, d_model]`: the prompt row of each position, before text takes the other
    /// positions.
    prompt: Value,
}

/// Which rows of the encoder belong to which example.
#[derive(Clone, Copy)]
enum Places {
    /// As many rows for each; `mask` `[batch, length]` says which are no padding.
    Padded { mask: Value },
    /// `starts` `[batch + 1]` says where each begins.
    Packed { starts: Value },
}

/// The forward pass under construction. Hidden states are kept flat, `[batch * positions, d_model]`, because
/// a 2-D product with a weight reads it in place.
pub(super) struct Forward<'a> {
    pub(super) graph: Graph,
    checkpoint: &'a Checkpoint,
    pub(super) config: &'a Config,
    pub(super) buckets: Buckets,
}

// === impl Forward ===

impl<'a> Forward<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, arithmetic: Arithmetic) -> Self {
        let config = checkpoint.config();
        Self { graph: Graph::new(arithmetic), checkpoint, config, buckets: Buckets::new(config) }
    }

    pub(super) fn embedding(&mut self) -> Value {
        let (v, d) = (self.config.vocab_size, self.config.d_model);
        self.graph.weight(self.checkpoint.embedding(), &[v, d])
    }

    fn embed_source(&mut self) -> SourceText {
        let table = self.embedding();
        let (v, d) = (self.config.vocab_size as i64, self.config.d_model);
        let g = &mut self.graph;
        let (ids, places, each, flat) = if g.is_packed() {
            let ids = g.input(PACKED_IDS, DType::I64, &[POSITIONS]);
            let starts = g.input(STARTS, DType::I64, &["starts".into()]);
            (ids, Places::Packed { starts }, vec![POSITIONS, 1.into()], POSITIONS)
        } else {
            let ids = g.input(IDS, DType::I64, &[BATCH, LENGTH]);
            let mask = g.input(MASK, DType::F32, &[BATCH, LENGTH]);
            let each = vec![BATCH, LENGTH, 1.into()];
            (ids, Places::Padded { mask }, each, Dim::Product("batch", "length"))
        };
        let rows = g.input(PROMPT_ROWS, DType::F32, &[Dim::Named("rows"), d.into()]);
        let rows = g.cast(rows, g.floats());
        let (first, last, zero) = (g.scalar_i64(v), g.scalar_i64(v - 1), g.scalar_i64(0));
        let is_prompt = g.greater_or_equal(ids, first);
        let is_prompt = g.reshape(is_prompt, &each);
        let text_ids = g.min(ids, last);
        let row_ids = g.sub(ids, first);
        let row_ids = g.max(row_ids, zero);
        let text = g.gather(table, text_ids);
        let prompt = g.gather(rows, row_ids);
        let embedded = g.where_(is_prompt, prompt, text);
        let embedded = g.reshape(embedded, &[flat, d.into()]);
        SourceText { embedded, places, prompt }
    }

    /// The encoder's last hidden state, flat.
    fn encode(&mut self, source: SourceText) -> Value {
        match source.places {
            Places::Padded { mask } => self.encode_padded(source.embedded, mask),
            Places::Packed { starts } => self.encode_packed(source.embedded, starts),
        }
    }

    fn encode_packed(&mut self, embedded: Value, starts: Value) -> Value {
        let bias_of = |t5: &mut Self, block| {
            let bias = t5.encoder_bias_by_distance(block);
            t5.graph.transpose(bias, &[1, 0])
        };
        let mut bias = bias_of(self, 0);
        let mut stream = Stream::new(embedded);
        for block in 0..self.config.num_layers {
            if block > 0 && self.config.bias_in_every_layer() {
                bias = bias_of(self, block);
            }
            let at = |layer: usize| format!("encoder.block.{block}.layer.{layer}");
            let attend = |g: &mut Graph, qkv| {
                if g.narrow().is_some() {
                    g.narrow_self_attention(qkv, starts, bias)
                } else {
                    g.packed_self_attention(qkv, starts, bias)
                }
            };
            self.packed_attention(&mut stream, &at(0), attend);
            self.feed_forward(&mut stream, &at(1));
        }
        self.last_norm(stream, "encoder.final_layer_norm.weight")
    }

    fn encode_padded(&mut self, embedded: Value, mask: Value) -> Value {
        let distances = self.encoder_distances();
        let hidden_keys = self.hidden_keys(mask);
        let hidden_keys = self.graph.reshape(hidden_keys, &[BATCH, 1.into(), 1.into(), LENGTH]);
        let mut bias = self.encoder_bias(0, distances, hidden_keys);
        let mut stream = Stream::new(embedded);
        for block in 0..self.config.num_layers {
            if block > 0 && self.config.bias_in_every_layer() {
                bias = self.encoder_bias(block, distances, hidden_keys);
            }
            let at = |layer: usize| format!("encoder.block.{block}.layer.{layer}");
            self.self_attention(&mut stream, LENGTH, bias, &at(0));
            self.feed_forward(&mut stream, &at(1));
        }
        self.last_norm(stream, "encoder.final_layer_norm.weight")
    }

    /// The decoder's last hidden state, flat.
    fn decode(&mut self, hidden: Value, places: Places, ids: Value, bias_index: Value) -> Value {
        let mut bias = self.decoder_bias(0, bias_index);
        let hidden_keys = match places {
            Places::Padded { mask } => {
                let hidden_keys = self.hidden_keys(mask);
                Some(self.graph.reshape(hidden_keys, &[BATCH, 1.into(), LENGTH]))
            }
            Places::Packed { .. } => None,
        };
        let table = self.embedding();
        let x = self.graph.gather(table, ids);
        let flat = [Dim::Product("batch", "target"), self.config.d_model.into()];
        let mut stream = Stream::new(self.graph.reshape(x, &flat));
        for block in 0..self.config.num_decoder_layers {
            if block > 0 && self.config.bias_in_every_layer() {
                bias = self.decoder_bias(block, bias_index);
            }
            let at = |layer: usize| format!("decoder.block.{block}.layer.{layer}");
            match (places, hidden_keys) {
                (Places::Padded { .. }, Some(hidden_keys)) => {
                    self.self_attention(&mut stream, TARGET, (bias, None), &at(0));
                    self.cross_attention(&mut stream, hidden, hidden_keys, &at(1));
                }
                (Places::Packed { starts }, _) => {
                    self.packed_attention(&mut stream, &at(0), |g, qkv| g.packed_biased_attention(qkv, bias));
                    self.packed_cross_attention(&mut stream, hidden, starts, &at(1));
                }
                (Places::Padded { .. }, None) => unreachable!("padded batches have hidden keys"),
            }
            self.feed_forward(&mut stream, &at(2));
        }
        self.decoded(stream)
    }

    /// What the vocabulary's rows are multiplied by, from what has run through the decoder.
    pub(super) fn decoded(&mut self, stream: Stream) -> Value {
        let x = self.last_norm(stream, "decoder.final_layer_norm.weight");
        if !self.config.scale_decoder_outputs {
            return x;
        }
        let scale = self.graph.scalar_like((self.config.d_model as f32).powf(-0.5), x);
        self.graph.mul(x, scale)
    }

    fn decode_source(&mut self, source: SourceText) -> Value {
        let encoded = self.encode(source);
        let hidden = match source.places {
            Places::Padded { .. } => {
                self.graph.reshape(encoded, &[BATCH, LENGTH, self.config.d_model.into()])
            }
            Places::Packed { .. } => encoded,
        };
        let ids = self.graph.input(DECODER_IDS, DType::I64, &[BATCH, TARGET]);
        let bias_index = self.graph.input(BIAS_INDEX, DType::I64, &[BATCH, TARGET, TARGET]);
        self.decode(hidden, source.places, ids, bias_index)
    }

    /// The loss of each example, and what the encoder reads.
    fn loss(&mut self, answers: Answers) -> (Value, SourceText) {
        let source = self.embed_source();
        let (logits, size) = match answers {
            Answers::Candidates => {
                let logits = self.label_logits(source);
                let size = Dim::Named("candidates");
                let competes = self.graph.input(COMPETES, DType::F32, &[BATCH, TARGET, size]);
                (self.graph.add(logits, competes), size)
            }
            Answers::Vocabulary => {
                let decoded = self.decode_source(source);
                let (logits, size) = (self.vocabulary_logits(decoded), self.config.vocab_size.into());
                (self.graph.reshape(logits, &[BATCH, TARGET, size]), size)
            }
        };
        let g = &mut self.graph;
        let targets = g.input(TARGETS, DType::I64, &[BATCH, TARGET]);
        let targets = g.reshape(targets, &[BATCH, TARGET, 1.into()]);
        let hit = g.one_hot(targets, size);
        let log_p = g.log_softmax(logits);
        let picked = g.mul(log_p, hit);
        let total = g.reduce_sum(picked, &[1, 2]);
        let total = g.reshape(total, &[BATCH]);
        let minus = g.scalar(-1.0);
        (g.mul(total, minus), source)
    }

    /// Logits of the candidate tokens only: their rows of the output projection are gathered first.
    fn label_logits(&mut self, source: SourceText) -> Value {
        let decoded = self.decode_source(source);
        let candidates = self.graph.input(CANDIDATES, DType::I64, &[Dim::Named("candidates")]);
        let head = self.head();
        let rows = self.graph.gather(head, candidates);
        let logits = self.graph.gemm(decoded, rows, true, None);
        let logits = self.graph.cast(logits, DType::F32);
        self.graph.reshape(logits, &[BATCH, TARGET, Dim::Named("candidates")])
    }

    /// `[rows, vocab_size]` f32.
    pub(super) fn vocabulary_logits(&mut self, decoded: Value) -> Value {
        let (v, d) = (self.config.vocab_size, self.config.d_model);
        let rows = self.rows(decoded);
        let logits = self.project(rows, self.checkpoint.head(), v, d);
        self.graph.cast(logits, DType::F32)
    }

    fn head(&mut self) -> Value {
        let (v, d) = (self.config.vocab_size, self.config.d_model);
        self.graph.weight(self.checkpoint.head(), &[v, d])
    }

    // --- layers ---

    /// x + wo(f(wi norm(x))), or x + wo(f(wi_0 norm(x)) * wi_1 norm(x)).
    pub(super) fn feed_forward(&mut self, stream: &mut Stream, at: &str) {
        let (d, f) = (self.config.d_model, self.config.d_ff);
        let h = self.norm(stream, &format!("{at}.layer_norm.weight"));
        let [wi, gate, wide, wo] =
            ["wi", "wi_0", "wi_1", "wo"].map(|name| format!("{at}.DenseReluDense.{name}.weight"));
        let inner = match self.config.activation {
            Activation { function: Function::GeluTanh, gated: true } => {
                self.gated_gelu(h, [&gate, &wide], f, d)
            }
            Activation { function: Function::Relu, gated: false } => {
                let wide = self.project(h, &wi, f, d);
                let wide = self.graph.relu(wide);
                self.rows(wide)
            }
            Activation { function, gated: false } => {
                let wide = self.project(h, &wi, f, d);
                self.apply(function, wide, None)
            }
            Activation { function, gated: true } => {
                let [gate, wide] = [gate, wide].map(|weight| self.project(h, &weight, f, d));
                self.apply(function, gate, Some(wide))
            }
        };
        self.add_product(stream, inner, &wo, d, f);
    }

    /// x + wo(softmax(q k + bias) v) over the `positions` of x. The bias is of positions, and of keys that are hidden.
    /// T5 does not scale the scores by d_kv^-0.5.
    fn self_attention(
        &mut self,
        stream: &mut Stream,
        positions: Dim,
        bias: (Value, Option<Value>),
        at: &str,
    ) {
        let h = self.norm(stream, &format!("{at}.layer_norm.weight"));
        let [q, k, v, o] = ["q", "k", "v", "o"].map(|name| format!("{at}.SelfAttention.{name}.weight"));
        if let Rows::Floats(h) = h
            && self.graph.kernels() == Kernels::FusedAttention
        {
            let (inner, d) = (self.config.num_heads * self.config.d_kv, self.config.d_model);
            let weights = [q, k, v].map(|name| self.graph.weight(&name, &[inner, d]));
            let g = &mut self.graph;
            let weight = g.join_weights(&weights);
            let qkv = g.gemm(h, weight, true, None);
            let mixed = g.attention(qkv, BATCH, bias.0, bias.1);
            self.add_product(stream, Rows::Floats(mixed), &o, d, inner);
            return;
        }
        let [q, k, v] = [q, k, v].map(|weight| self.heads(h, positions, &weight));
        let g = &mut self.graph;
        let scores = g.matmul(q, false, k, true);
        let p = g.biased_softmax(scores, bias.0, bias.1);
        let mixed = g.matmul(p, false, v, false);
        self.merge(stream, mixed, &o);
    }

    /// Attention from the decoder to the encoder's output, *absorbed*: with q W_k against the raw encoder
    /// output and W_v after the softmax, the encoder's keys and values are never computed. Exact by
    /// associativity, and cheaper while there are fewer decoder positions than `d_kv`.
    fn cross_attention(&mut self, stream: &mut Stream, hidden: Value, hidden_keys: Value, at: &str) {
        let (heads, d_kv, d) = (self.config.num_heads, self.config.d_kv, self.config.d_model);
        let h = self.norm(stream, &format!("{at}.layer_norm.weight"));
        let q = self.heads(h, TARGET, &format!("{at}.EncDecAttention.q.weight"));
        let g = &mut self.graph;
        let [w_k, w_v] = ["k", "v"]
            .map(|name| g.weight(&format!("{at}.EncDecAttention.{name}.weight"), &[1, heads, d_kv, d]));
        let per_head = [BATCH, heads.into(), TARGET];
        let q = g.matmul(q, false, w_k, false);
        // all heads of an example attend to the same encoder output: one product, not one per head
        let (stacked_q, unstack) = stack(g, q, &per_head, d.into());
        let scores = g.matmul(stacked_q, false, hidden, true);
        let scores = g.add(scores, hidden_keys);
        let p = g.softmax(scores);
        let mixed = g.matmul(p, false, hidden, false);
        let mixed = g.reshape(mixed, &unstack);
        let mixed = g.matmul(mixed, false, w_v, true);
        self.merge(stream, mixed, &format!("{at}.EncDecAttention.o.weight"));
    }

    /// x + wo(attend(q, k and v of x, side by side)) of a packed graph.
    fn packed_attention(
        &mut self,
        stream: &mut Stream,
        at: &str,
        attend: impl FnOnce(&mut Graph, Value) -> Value,
    ) {
        let (inner, d) = (self.config.num_heads * self.config.d_kv, self.config.d_model);
        let h = self.norm(stream, &format!("{at}.layer_norm.weight"));
        let [q, k, v, o] = ["q", "k", "v", "o"].map(|name| format!("{at}.SelfAttention.{name}.weight"));
        let qkv = self.project_three(h, [&q, &k, &v], inner, d);
        let mixed = attend(&mut self.graph, qkv);
        let mixed = self.rows(mixed);
        self.add_product(stream, mixed, &o, d, inner);
    }

    /// [`cross_attention`](Self::cross_attention) of a packed graph. `places` says which of the rows of `hidden` are whose
    /// ([`Packed::CrossAttention`](crate::graph::Packed::CrossAttention)).
    pub(super) fn packed_cross_attention(
        &mut self,
        stream: &mut Stream,
        hidden: Value,
        places: Value,
        at: &str,
    ) {
        let (inner, d) = (self.config.num_heads * self.config.d_kv, self.config.d_model);
        let h = self.norm(stream, &format!("{at}.layer_norm.weight"));
        let [q, k, v, o] = ["q", "k", "v", "o"].map(|name| format!("{at}.EncDecAttention.{name}.weight"));
        let q = self.project(h, &q, inner, d);
        // in the shape that a step of generation has them in: sessions share them
        let shape = [1, self.config.num_heads, self.config.d_kv, d];
        let g = &mut self.graph;
        let mixed = if g.narrow().is_some() {
            g.narrow_cross_attention(q, hidden, places, [&k, &v], &shape)
        } else {
            let weights = [k, v].map(|name| g.weight(&name, &shape));
            g.packed_cross_attention(q, hidden, places, weights)
        };
        let mixed = self.rows(mixed);
        self.add_product(stream, mixed, &o, d, inner);
    }

    /// Projects rows and splits them into heads, `[batch, heads, positions, d_kv]`.
    fn heads(&mut self, h: Rows, positions: Dim, weight: &str) -> Value {
        let (heads, d_kv) = (self.config.num_heads, self.config.d_kv);
        let y = self.project(h, weight, heads * d_kv, self.config.d_model);
        self.split_heads(y, &[BATCH, heads.into(), positions, d_kv.into()])
    }

    /// Joins heads, and adds their projection to the stream.
    fn merge(&mut self, stream: &mut Stream, mixed: Value, weight: &str) {
        let inner = self.config.num_heads * self.config.d_kv;
        let rows = self.merge_heads(mixed, *stream);
        self.add_product(stream, rows, weight, self.config.d_model, inner);
    }

    // --- biases ---

    /// `[batch, length]`: 0 for a token, a large negative number for padding.
    pub(super) fn hidden_keys(&mut self, mask: Value) -> Value {
        let g = &mut self.graph;
        let (one, far) = (g.scalar(1.0), g.scalar(-hidden_score(g.floats())));
        let shifted = g.sub(mask, one);
        let hidden = g.mul(shifted, far);
        g.cast(hidden, g.floats())
    }

    /// `[2 * far + 1, heads]`: a layer's bias of each distance of a key from its query, from -far to far. Beyond the maximal
    /// distance all pairs share a bucket.
    fn encoder_bias_by_distance(&mut self, block: usize) -> Value {
        let far = self.buckets.max_distance() as i64;
        let table: Vec<i64> =
            (-far..=far).map(|relative| self.buckets.of(relative, Direction::Both) as i64).collect();
        let (count, heads) = (self.buckets.count(), self.config.num_heads);
        let g = &mut self.graph;
        let table = g.vector_i64(&table);
        let bias = g.weight(&bias_name("encoder", block), &[count, heads]);
        g.gather(bias, table)
    }

    /// `[length, length]`: the distance of each pair as a row of [`encoder_bias_by_distance`](Self::encoder_bias_by_distance),
    /// so that a small table gives any length its biases.
    fn encoder_distances(&mut self) -> Value {
        let far = self.buckets.max_distance() as i64;
        let g = &mut self.graph;
        let positions = g.positions(LENGTH);
        let key = g.reshape(positions, &[1.into(), LENGTH]);
        let query = g.reshape(positions, &[LENGTH, 1.into()]);
        let relative = g.sub(key, query);
        let (low, high) = (g.scalar_i64(-far), g.scalar_i64(far));
        let relative = g.max(relative, low);
        let relative = g.min(relative, high);
        g.add(relative, high)
    }

    /// A layer's bias of positions `[1, heads, length, length]`, and of keys that are hidden `[batch, 1, 1, length]`.
    /// Standard operators get the sum, fused ones read the two small ones instead.
    fn encoder_bias(&mut self, block: usize, distances: Value, hidden_keys: Value) -> (Value, Option<Value>) {
        let table = self.encoder_bias_by_distance(block);
        let heads = self.config.num_heads;
        let g = &mut self.graph;
        let bias = g.gather(table, distances);
        let bias = g.transpose(bias, &[2, 0, 1]);
        let position = g.reshape(bias, &[1.into(), heads.into(), LENGTH, LENGTH]);
        if g.kernels().are_fused() {
            (position, Some(hidden_keys))
        } else {
            (g.add(position, hidden_keys), None)
        }
    }

    /// A layer's bias `[batch, heads, target, keys]` from bucket indices; the index after the last bucket hides the pair.
    fn decoder_bias(&mut self, block: usize, index: Value) -> Value {
        let (count, heads) = (self.buckets.count(), self.config.num_heads);
        let g = &mut self.graph;
        let bias = g.weight(&bias_name("decoder", block), &[count, heads]);
        let hidden = g.tensor(&[1, heads], &vec![hidden_score(g.floats()); heads]);
        let table = g.concat(&[bias, hidden], 0);
        let bias = g.gather(table, index);
        g.transpose(bias, &[0, 3, 1, 2])
    }
}

fn hidden_score(floats: DType) -> f32 {
    if floats == DType::F16 { HIDDEN_SCORE_F16 } else { HIDDEN_SCORE }
}

/// Joins heads and positions, `[batch, heads, target, d]` to `[batch, heads * target, d]`, and the way back.
fn stack(g: &mut Graph, x: Value, per_head: &[Dim; 3], d: Dim) -> (Value, [Dim; 4]) {
    let [batch, heads, target] = *per_head;
    let Dim::Fixed(heads_size) = heads else { unreachable!("the number of heads is fixed") };
    let joined = Dim::Multiple(heads_size, "target");
    let stacked = g.reshape(x, &[batch, joined, d]);
    (stacked, [batch, heads, target, d])
}

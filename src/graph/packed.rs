//! Operators of this project's own for a CPU: products with weights as a checkpoint has them, and attention over packed
//! batches, in which the rows of all examples lie behind each other without padding.

use super::builder::{Graph, Value};
use super::op::{DType, Op};
use super::shape::Dim;

/// An operator for a CPU, on f32. `starts` `[examples + 1]` i64 says where the rows of each example begin, and where the
/// last ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packed {
    /// (x `[rows, width]`, up to [`MOST_WEIGHTS`] weights `[outputs, width]`) to `[rows, all outputs]`: x times each of them,
    /// transposed, side by side.
    Product,
    /// (x `[rows, width]`, gate and wide `[outputs, width]`) to gelu(x gate') * (x wide') `[rows, outputs]`, with GELU in
    /// its tanh form.
    GatedGelu,
    /// (qkv `[rows, 3 * heads * d]`, starts, position `[heads, 2 * far + 1]`) to softmax(q k' + position) v
    /// `[rows, heads * d]` of each example. The bias is of how far a key is behind its query, from -far to far.
    SelfAttention,
    /// (qkv `[b * t, 3 * heads * d]`, bias `[b, heads, t, t]`) to softmax(q k' + bias) v `[b * t, heads * d]`.
    BiasedAttention,
    /// (q `[b * t, heads * d]`, hidden `[rows, width]`, starts, keys and values `[1, heads, d, width]`) to
    /// softmax(q (hidden keys')') hidden values' `[b * t, heads * d]`, head by head. Hidden may also be
    /// `[b, length, width]`, with `[b]` i64 instead of the starts: how many of the rows of each are its own.
    CrossAttention,
    /// (x `[rows, width]`, starts) to `[examples, longest, width]`, with zeros behind shorter ones.
    Unpack,
}

/// Weights that one product may have.
pub const MOST_WEIGHTS: usize = 3;

// === impl Packed ===

impl Packed {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Product,
        Self::GatedGelu,
        Self::SelfAttention,
        Self::BiasedAttention,
        Self::CrossAttention,
        Self::Unpack,
    ];

    /// Its type in an ONNX model.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "PackedProduct",
            Self::GatedGelu => "PackedGatedGelu",
            Self::SelfAttention => "PackedSelfAttention",
            Self::BiasedAttention => "PackedBiasedAttention",
            Self::CrossAttention => "PackedCrossAttention",
            Self::Unpack => "PackedUnpack",
        }
    }
}

impl Graph {
    /// Whether batches are packed, for a CPU.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.kernels().are_packed()
    }

    /// x `[rows, width]` times each weight `[outputs, width]`, transposed, side by side.
    pub fn packed_product(&mut self, x: Value, weights: &[Value]) -> Value {
        assert!((1..=MOST_WEIGHTS).contains(&weights.len()), "a product has {MOST_WEIGHTS} weights at most");
        let &[rows, width] = self.shape(x) else { panic!("rows are a matrix, not {:?}", self.shape(x)) };
        let outputs = weights.iter().map(|&weight| {
            let shape = self.fixed_shape(weight);
            assert_eq!(Dim::Fixed(shape[1]), width, "inner sizes of a product");
            shape[0]
        });
        let outputs: usize = outputs.sum();
        let inputs: Vec<Value> = std::iter::once(x).chain(weights.iter().copied()).collect();
        self.packed(Packed::Product, &inputs, vec![rows, outputs.into()])
    }

    /// gelu(x gate') * (x wide').
    pub fn packed_gated_gelu(&mut self, x: Value, [gate, wide]: [Value; 2]) -> Value {
        let shape = vec![self.shape(x)[0], self.shape(gate)[0]];
        self.packed(Packed::GatedGelu, &[x, gate, wide], shape)
    }

    /// [`Packed::SelfAttention`].
    pub fn packed_self_attention(&mut self, qkv: Value, starts: Value, position: Value) -> Value {
        let shape = self.a_third(qkv);
        self.packed(Packed::SelfAttention, &[qkv, starts, position], shape)
    }

    /// [`Packed::BiasedAttention`].
    pub fn packed_biased_attention(&mut self, qkv: Value, bias: Value) -> Value {
        let shape = self.a_third(qkv);
        self.packed(Packed::BiasedAttention, &[qkv, bias], shape)
    }

    pub(super) fn a_third(&self, qkv: Value) -> Vec<Dim> {
        let &[rows, Dim::Fixed(width)] = self.shape(qkv) else {
            panic!("queries, keys and values lie side by side, not {:?}", self.shape(qkv));
        };
        vec![rows, (width / 3).into()]
    }

    /// [`Packed::CrossAttention`].
    pub fn packed_cross_attention(
        &mut self,
        q: Value,
        hidden: Value,
        places: Value,
        [keys, values]: [Value; 2],
    ) -> Value {
        let shape = self.shape(q).to_vec();
        self.packed(Packed::CrossAttention, &[q, hidden, places, keys, values], shape)
    }

    /// [`Packed::Unpack`] to a shape `[examples, longest, width]`.
    pub fn unpack(&mut self, x: Value, starts: Value, shape: &[Dim; 3]) -> Value {
        self.packed(Packed::Unpack, &[x, starts], shape.to_vec())
    }

    fn packed(&mut self, packed: Packed, inputs: &[Value], shape: Vec<Dim>) -> Value {
        let [y] = self.node(Op::Packed(packed), inputs, DType::F32, [shape]);
        y
    }
}

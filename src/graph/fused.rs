//! Operators of this project's own: what a step does between its matrix products, one pass over memory each.
//!
//! A runtime that has kernels for them is given graphs with [`Kernels::Fused`] or more; any other gets the same computation in
//! standard operators.

use super::builder::{Graph, Value};
use super::narrow::Narrow;
use super::op::{DType, Op};
use super::shape::Dim;

/// The domain of the fused operators in an ONNX model.
pub const FUSED_DOMAIN: &str = "xprompt";

/// Which operators a graph is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// ONNX's and ONNX Runtime's own.
    #[default]
    Standard,
    /// [`Fused`] ones where they serve, but for attention.
    Fused,
    /// [`Fused`] ones, and [`Fused::Attention`] for self-attention.
    FusedAttention,
    /// [`Packed`](super::Packed) ones, for answers on a CPU: without gradients.
    Packed,
    /// The same with matrix products of [narrow numbers](super::Narrow).
    Narrow(Narrow),
}

/// How a graph computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// The operators.
    pub kernels: Kernels,
    /// The element type of weights and activations: f32, or bf16 or f16 where kernels are fused. What goes in and comes out is
    /// f32 all the same, and so are statistics of norms, softmax and losses.
    pub floats: DType,
}

/// A fused operator. Shapes are those of the first input, unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fused {
    /// both `[.., 2 n]` to gelu(its first half) * its second `[.., n]`, with GELU in its tanh form.
    GatedGelu,
    /// (both, dy) to the derivative of both.
    GatedGeluGrad,
    /// (y, dy) to the derivative of what y is the ReLU of.
    ReluGrad,
    /// (x, scale `[d]`, epsilon in f32, optionally what is added to x first) to the root-mean-square normalisation over the
    /// last axis, 1 / rms `[.., 1]` in f32, and the sum if something is added.
    RmsNorm,
    /// (x, scale `[d]`, 1 / rms `[.., 1]` in f32, dy, optionally what is added) to the derivative of x.
    RmsNormGrad,
    /// (scores `[b, h, q, k]`, position `[1 or b, h, q, k]`, optionally hidden `[b, 1, 1, k]`) to the softmax of their
    /// sum over the last axis.
    BiasedSoftmax,
    /// (p, dy) to the derivative of what p is the softmax of, over the last axis.
    SoftmaxGrad,
    /// (qkv `[b * l, 3 * h * d]`, position `[1 or b, h, l, l]`, optionally hidden `[b, 1, 1, l]`) to
    /// softmax(q k' + position + hidden) v `[b * l, h * d]`, and the logarithm of the sum of exponentials of each query
    /// `[b, h, l]` in f32. A row of qkv has the queries, the keys and the values of all heads.
    Attention,
    /// (qkv, position, y, the logarithms, dy, optionally hidden) to the derivative of qkv, and each query's
    /// sum(dy * y) `[b, h, l]` in f32, which is used on the way.
    AttentionGrad,
    /// (x, dy) to x, the same elements in the same place, no sooner than dy is known: what is computed from the result waits
    /// for dy, and no optimizer takes it for what was computed from x before.
    After,
}

// === impl Kernels ===

impl Kernels {
    /// Whether any operator is fused.
    #[must_use]
    pub fn are_fused(self) -> bool {
        self != Self::Standard
    }

    /// Whether batches are packed: the rows of all examples lie behind each other, without padding.
    #[must_use]
    pub fn are_packed(self) -> bool {
        matches!(self, Self::Packed | Self::Narrow(_))
    }
}

// === impl Arithmetic ===

impl Arithmetic {
    /// Standard operators on f32.
    pub const STANDARD: Self = Self { kernels: Kernels::Standard, floats: DType::F32 };

    /// The same for a graph with a gradient, of padded batches and without integers.
    #[must_use]
    pub fn differentiable(self) -> Self {
        if self.kernels.are_packed() { Self::STANDARD } else { self }
    }
}

impl Default for Arithmetic {
    fn default() -> Self {
        Self::STANDARD
    }
}

// === impl Fused ===

impl Fused {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::GatedGelu,
        Self::GatedGeluGrad,
        Self::ReluGrad,
        Self::RmsNorm,
        Self::RmsNormGrad,
        Self::BiasedSoftmax,
        Self::SoftmaxGrad,
        Self::Attention,
        Self::AttentionGrad,
        Self::After,
    ];

    /// Its type in an ONNX model.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GatedGelu => "GatedGelu",
            Self::GatedGeluGrad => "GatedGeluGrad",
            Self::ReluGrad => "ReluGrad",
            Self::RmsNorm => "RmsNorm",
            Self::RmsNormGrad => "RmsNormGrad",
            Self::BiasedSoftmax => "BiasedSoftmax",
            Self::SoftmaxGrad => "SoftmaxGrad",
            Self::Attention => "Attention",
            Self::AttentionGrad => "AttentionGrad",
            Self::After => "After",
        }
    }
}

// === what graphs are built of ===

impl Graph {
    /// gelu(h gate') * (h wide') with GELU in its tanh approximation, of h `[rows, d]` and the weights
    /// gate and wide `[n, d]`.
    pub fn gated_gelu(&mut self, h: Value, [gate, wide]: [Value; 2]) -> Value {
        if !self.kernels().are_fused() {
            let [gate, wide] = [gate, wide].map(|weight| self.gemm(h, weight, true, None));
            let gate = self.gelu_tanh(gate);
            return self.mul(gate, wide);
        }
        let shape = vec![self.shape(h)[0], self.shape(gate)[0]];
        let weight = self.join_weights(&[gate, wide]);
        let both = self.gemm(h, weight, true, None);
        let [y] = self.node(Op::Fused(Fused::GatedGelu), &[both], self.dtype(both), [shape]);
        y
    }

    /// Softmax of scores `[b, h, q, k]` + position `[1 or b, h, q, k]` + hidden `[b, 1, 1, k]` over the last axis.
    pub fn biased_softmax(&mut self, scores: Value, position: Value, hidden: Option<Value>) -> Value {
        if !self.kernels().are_fused() {
            let biased = self.add(scores, position);
            let biased = hidden.map_or(biased, |hidden| self.add(biased, hidden));
            return self.softmax(biased);
        }
        assert_eq!(self.shape(position)[1..], self.shape(scores)[1..], "position biases of scores");
        let inputs: Vec<Value> = [scores, position].into_iter().chain(hidden).collect();
        let [p] = self.fused(Fused::BiasedSoftmax, &inputs);
        p
    }

    /// [`Fused::Attention`] of `batch` examples: softmax(q k' + position + hidden) v, `[b * l, h * d]`.
    pub fn attention(&mut self, qkv: Value, batch: Dim, position: Value, hidden: Option<Value>) -> Value {
        let (&[rows, Dim::Fixed(width)], &[_, heads, length, _]) = (self.shape(qkv), self.shape(position))
        else {
            panic!("attention over {:?} with {:?}", self.shape(qkv), self.shape(position));
        };
        let inputs: Vec<Value> = [qkv, position].into_iter().chain(hidden).collect();
        let shapes = [vec![rows, (width / 3).into()], vec![batch, heads, length]];
        let [y, log_sum] = self.node(Op::Fused(Fused::Attention), &inputs, self.dtype(qkv), shapes);
        self.values[log_sum.0].dtype = DType::F32;
        y
    }

    /// The derivative of qkv, from that of the results of [`attention`](Self::attention), dy.
    pub(super) fn attention_grad(&mut self, inputs: &[Value], results: &[Value], dy: Value) -> Value {
        let &[qkv, position, ref hidden @ ..] = inputs else { unreachable!("attention has these inputs") };
        let &[y, log_sum] = results else { unreachable!("attention has these results") };
        let inputs = [&[qkv, position, y, log_sum, dy], hidden].concat();
        let shapes = [qkv, log_sum].map(|like| self.shape(like).to_vec());
        let [d_qkv, delta] = self.node(Op::Fused(Fused::AttentionGrad), &inputs, self.dtype(qkv), shapes);
        self.values[delta.0].dtype = DType::F32;
        d_qkv
    }

    /// [`Fused::RmsNorm`] of x, plus `added` if given: the sum, and its normalisation.
    pub(super) fn fused_rms_norm(
        &mut self,
        x: Value,
        added: Option<Value>,
        scale: Value,
        epsilon: f32,
    ) -> (Value, Value) {
        let epsilon = self.scalar(epsilon);
        let inputs: Vec<Value> = [x, scale, epsilon].into_iter().chain(added).collect();
        let shape = self.shape(x).to_vec();
        let mut statistic = shape.clone();
        *statistic.last_mut().expect("a normalised value has an axis") = Dim::Fixed(1);
        let (op, dtype) = (Op::Fused(Fused::RmsNorm), self.dtype(x));
        let (y, inverse, sum) = if added.is_some() {
            let [y, inverse, sum] = self.node(op, &inputs, dtype, [shape.clone(), statistic, shape]);
            (y, inverse, sum)
        } else {
            let [y, inverse] = self.node(op, &inputs, dtype, [shape, statistic]);
            (y, inverse, x)
        };
        self.values[inverse.0].dtype = DType::F32;
        (sum, y)
    }

    /// A fused operator whose results have the shapes of its first inputs.
    pub(super) fn fused<const N: usize>(&mut self, fused: Fused, inputs: &[Value]) -> [Value; N] {
        let shapes = std::array::from_fn(|i| self.shape(inputs[i]).to_vec());
        self.node(Op::Fused(fused), inputs, self.dtype(inputs[0]), shapes)
    }
}

//! Operators of this project's own: what a tuning step does between its matrix products, one pass over memory each.
//!
//! A runtime that has kernels for them is given graphs with [`Kernels::Fused`]; any other gets the same computation in
//! standard operators.

use super::op::DType;

/// The domain of the fused operators in an ONNX model.
pub const FUSED_DOMAIN: &str = "xprompt";

/// Which operators a graph is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// ONNX's and ONNX Runtime's own.
    #[default]
    Standard,
    /// [`Fused`] ones where they serve.
    Fused,
    /// As `Fused`, and matrix products of 8-bit integers: for answers, without gradients.
    Int8,
}

/// How a graph computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// The operators.
    pub kernels: Kernels,
    /// The element type of weights and activations: f32, or bf16 where kernels are fused. What goes in and comes out is
    /// f32 all the same, and so are statistics of norms, softmax and losses.
    pub floats: DType,
}

/// A fused operator. Shapes are those of the first input, unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fused {
    /// (gate, wide) to gelu(gate) * wide, with GELU in its tanh form.
    GatedGelu,
    /// (gate, wide, dy) to the derivatives of gate and wide.
    GatedGeluGrad,
    /// (x, scale `[d]`, 1 / rms `[.., 1]` in f32, dy, optionally what is added) to the derivative of x.
    RmsNormGrad,
    /// (scores `[b, h, q, k]`, position `[1 or b, h, q, k]`, optionally hidden `[b, 1, 1, k]`) to the softmax of their
    /// sum over the last axis.
    BiasedSoftmax,
    /// (p, dy) to the derivative of what p is the softmax of, over the last axis.
    SoftmaxGrad,
}

// === impl Arithmetic ===

impl Arithmetic {
    /// Standard operators on f32.
    pub const STANDARD: Self = Self { kernels: Kernels::Standard, floats: DType::F32 };

    /// The same for a graph with a gradient: without integers.
    #[must_use]
    pub fn differentiable(self) -> Self {
        if self.kernels == Kernels::Int8 { Self::STANDARD } else { self }
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
    pub const ALL: [Self; 5] =
        [Self::GatedGelu, Self::GatedGeluGrad, Self::RmsNormGrad, Self::BiasedSoftmax, Self::SoftmaxGrad];

    /// Its type in an ONNX model.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GatedGelu => "GatedGelu",
            Self::GatedGeluGrad => "GatedGeluGrad",
            Self::RmsNormGrad => "RmsNormGrad",
            Self::BiasedSoftmax => "BiasedSoftmax",
            Self::SoftmaxGrad => "SoftmaxGrad",
        }
    }
}

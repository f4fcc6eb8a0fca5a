//! The operators that graphs are made of, and what each is called in ONNX.

use super::fused::{FUSED_DOMAIN, Fused};
use super::narrow::{Narrow, NarrowOp};
use super::packed::Packed;
use super::proto::{Attribute, attribute};

/// Element types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit brain float.
    Bf16,
    /// IEEE 16-bit float.
    F16,
    /// 64-bit signed integer.
    I64,
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit signed integer.
    I8,
    /// Boolean.
    Bool,
}

impl DType {
    /// Numbers as elements of this float type, little-endian.
    ///
    /// # Panics
    /// If it is no float type.
    #[must_use]
    pub fn bytes_of(self, xs: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => xs.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16 => xs.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
            Self::F16 => xs.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
            Self::I64 | Self::U8 | Self::I8 | Self::Bool => panic!("{self:?} is no float type"),
        }
    }

    /// The number that ONNX's `TensorProto.DataType` gives the type.
    pub(super) fn onnx(self) -> i32 {
        match self {
            Self::F32 => 1,
            Self::U8 => 2,
            Self::I8 => 3,
            Self::I64 => 7,
            Self::Bool => 9,
            Self::F16 => 10,
            Self::Bf16 => 16,
        }
    }
}

/// An operator with its attributes. Each becomes exactly one ONNX node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Min,
    Max,
    Equal,
    GreaterOrEqual,
    Where,
    Cast(DType),
    Relu,
    /// GELU in its tanh approximation (`gelu_new`).
    GeluTanh,
    Sigmoid,
    Erf,
    Exp,
    /// Over the last axis.
    Softmax,
    /// Over the last axis.
    LogSoftmax,
    /// Root-mean-square normalisation over the last axis; the second output is 1 / rms.
    RmsNorm {
        epsilon: f32,
    },
    /// 2-D product with a weight, and an optional addend.
    Gemm {
        trans_b: bool,
    },
    /// Batched product over the last two axes.
    MatMul {
        trans_a: bool,
        trans_b: bool,
    },
    /// See [`Graph::matmul_by_batch`](super::Graph::matmul_by_batch).
    MatMulByBatch {
        trans_b: bool,
    },
    Transpose(Vec<usize>),
    Reshape,
    Expand,
    Gather {
        axis: usize,
    },
    Concat {
        axis: usize,
    },
    Range,
    ReduceSum,
    ReduceMean,
    /// Sizes of the axes `start..end`.
    Shape {
        start: usize,
        end: usize,
    },
    Fused(Fused),
    /// See [`Graph::cached_attention`](super::Graph::cached_attention).
    CachedAttention {
        layer: usize,
    },
    /// See [`Graph::most_likely`](super::Graph::most_likely).
    MostLikely,
    Packed(Packed),
    Narrow(Narrow, NarrowOp),
}

const STANDARD: &str = "";
const MICROSOFT: &str = "com.microsoft";
/// What [`Op::CachedAttention`] is called in ONNX.
pub(crate) const CACHED_ATTENTION: &str = "CachedAttention";
/// What [`Op::MostLikely`] is called in ONNX.
pub(crate) const MOST_LIKELY: &str = "MostLikely";

impl Op {
    /// Domain, operator type and attributes of the ONNX node.
    pub(super) fn onnx(&self) -> (&'static str, &'static str, Vec<Attribute>) {
        let int = |name, value: bool| attribute::int(name, i64::from(value));
        let plain = |name| (STANDARD, name, vec![]);
        match self {
            Self::Add => plain("Add"),
            Self::Sub => plain("Sub"),
            Self::Mul => plain("Mul"),
            Self::Min => plain("Min"),
            Self::Max => plain("Max"),
            Self::Equal => plain("Equal"),
            Self::GreaterOrEqual => plain("GreaterOrEqual"),
            Self::Where => plain("Where"),
            Self::Cast(to) => (STANDARD, "Cast", vec![attribute::int("to", i64::from(to.onnx()))]),
            Self::Relu => plain("Relu"),
            Self::GeluTanh => (STANDARD, "Gelu", vec![attribute::string("approximate", "tanh")]),
            Self::Sigmoid => plain("Sigmoid"),
            Self::Erf => plain("Erf"),
            Self::Exp => plain("Exp"),
            Self::Softmax => (STANDARD, "Softmax", vec![attribute::int("axis", -1)]),
            Self::LogSoftmax => (STANDARD, "LogSoftmax", vec![attribute::int("axis", -1)]),
            Self::RmsNorm { epsilon } => (
                STANDARD,
                "SimplifiedLayerNormalization",
                vec![attribute::int("axis", -1), attribute::float("epsilon", *epsilon)],
            ),
            Self::Gemm { trans_b } => (STANDARD, "Gemm", vec![int("transB", *trans_b)]),
            Self::MatMul { trans_a: false, trans_b: false } => plain("MatMul"),
            Self::MatMul { trans_a, trans_b } => {
                (MICROSOFT, "FusedMatMul", vec![int("transA", *trans_a), int("transB", *trans_b)])
            }
            Self::MatMulByBatch { trans_b } => {
                (MICROSOFT, "FusedMatMul", vec![int("transBatchA", true), int("transB", *trans_b)])
            }
            Self::Transpose(perm) => (STANDARD, "Transpose", vec![attribute::ints("perm", perm)]),
            Self::Reshape => plain("Reshape"),
            Self::Expand => plain("Expand"),
            Self::Gather { axis } => (STANDARD, "Gather", vec![attribute::int("axis", *axis as i64)]),
            Self::Concat { axis } => (STANDARD, "Concat", vec![attribute::int("axis", *axis as i64)]),
            Self::Range => plain("Range"),
            Self::ReduceSum => (STANDARD, "ReduceSum", vec![attribute::int("keepdims", 1)]),
            Self::ReduceMean => (STANDARD, "ReduceMean", vec![attribute::int("keepdims", 1)]),
            Self::Shape { start, end } => (
                STANDARD,
                "Shape",
                vec![attribute::int("start", *start as i64), attribute::int("end", *end as i64)],
            ),
            Self::Fused(fused) => (FUSED_DOMAIN, fused.name(), vec![]),
            Self::CachedAttention { layer } => {
                (FUSED_DOMAIN, CACHED_ATTENTION, vec![attribute::int("layer", *layer as i64)])
            }
            Self::MostLikely => (FUSED_DOMAIN, MOST_LIKELY, vec![]),
            Self::Packed(packed) => (FUSED_DOMAIN, packed.name(), vec![]),
            Self::Narrow(narrow, op) => (FUSED_DOMAIN, op.name(*narrow), vec![]),
        }
    }
}

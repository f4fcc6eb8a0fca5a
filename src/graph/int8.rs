//! Products of 8-bit integers, and the operators of this project's own that make integers of floats.
//!
//! A weight is an integer matrix with a scale for each output; activations are integers with a scale for each row, taken
//! when they are known. A row's integers depend on that row alone, so batch mates do not change an answer. Only a CPU has
//! kernels for them.

use super::builder::{Graph, Value};
use super::fused::Kernels;
use super::op::{DType, Op};
use super::packed::MOST_WEIGHTS;
use super::shape::Dim;

/// Outputs of a weight that lie together.
pub const INT8_COLUMNS: usize = 32;
/// Inputs of a weight that lie together.
pub const INT8_DEPTH: usize = 4;

/// Rows of activations in 8 bits: `values` `[rows, width]` u8, where 128 is zero, times `scales` `[rows, 1]`. They are
/// padded to whole [`INT8_DEPTH`]s.
#[derive(Clone, Copy, Debug)]
pub struct Int8Rows {
    values: Value,
    scales: Value,
    width: usize,
}

/// An operator on integers. A weight is two values: integers as [`int8_shape`] says, and `[2, outputs]` f32: the scale of
/// each output, and what the 128 of its inputs adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Int8 {
    /// x `[rows, width]` to the values and scales of [`Int8Rows`].
    Quantize,
    /// (x `[rows, width]`, weight `[width]`, epsilon `[]`) to those of the normalised rows.
    NormQuantize,
    /// (x `[rows, width]`, weight `[width]`, epsilon `[]`, added `[rows, width]`) to those of the normalised x + added,
    /// and to that sum.
    AddNormQuantize,
    /// (values, scales, up to [`MOST_WEIGHTS`] weights) to the products in f32, side by side.
    Product,
    /// (values, scales, gate, wide) to gelu(x gate') * (x wide') in f32, with GELU in its tanh form.
    GatedGelu,
    /// [`Packed::SelfAttention`](super::Packed::SelfAttention) of numbers that are rounded to bf16: queries, keys, values, and
    /// the weights of values. Sums and softmax are of f32.
    SelfAttention,
    /// [`Packed::CrossAttention`](super::Packed::CrossAttention) with keys and values as integers in the order of the
    /// checkpoint, each followed by the scales of its rows: (q, hidden, starts, keys, scales, values, scales).
    CrossAttention,
}

// === impl Int8 ===

impl Int8 {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Quantize,
        Self::NormQuantize,
        Self::AddNormQuantize,
        Self::Product,
        Self::GatedGelu,
        Self::SelfAttention,
        Self::CrossAttention,
    ];

    /// Its type in an ONNX model.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quantize => "Int8Quantize",
            Self::NormQuantize => "Int8NormQuantize",
            Self::AddNormQuantize => "Int8AddNormQuantize",
            Self::Product => "Int8Product",
            Self::GatedGelu => "Int8GatedGelu",
            Self::SelfAttention => "Int8SelfAttention",
            Self::CrossAttention => "Int8CrossAttention",
        }
    }
}

/// What the integer weight of a matrix is called.
#[must_use]
pub fn int8_name(weight: &str) -> String {
    format!("{weight}.int8")
}

/// What the scales of a matrix's integer weight are called.
#[must_use]
pub fn int8_scale_name(weight: &str) -> String {
    format!("{weight}.int8.scale")
}

/// The shape of the integers of a weight `[outputs, inputs]`: blocks of 4 inputs of 32 outputs, with zeros where there
/// are fewer.
#[must_use]
pub fn int8_shape([outputs, inputs]: [usize; 2]) -> [usize; 4] {
    [outputs.div_ceil(INT8_COLUMNS), inputs.div_ceil(INT8_DEPTH), INT8_COLUMNS, INT8_DEPTH]
}

// === operators ===

impl Graph {
    /// Whether matrix products are of integers.
    #[must_use]
    pub fn is_int8(&self) -> bool {
        self.kernels() == Kernels::Int8
    }

    /// Rows times the weights `[columns, width]` of those names, transposed, side by side.
    pub fn int8_product(&mut self, rows: Int8Rows, weights: &[&str], columns: usize) -> Value {
        assert!((1..=MOST_WEIGHTS).contains(&weights.len()), "a product has {MOST_WEIGHTS} weights at most");
        self.int8_of_weights(Int8::Product, rows, weights, columns, weights.len() * columns)
    }

    /// gelu(rows gate') * (rows wide') of the weights `[columns, width]` of those names.
    pub fn int8_gated_gelu(&mut self, rows: Int8Rows, gate_and_wide: &[&str; 2], columns: usize) -> Value {
        self.int8_of_weights(Int8::GatedGelu, rows, gate_and_wide, columns, columns)
    }

    /// [`Int8::SelfAttention`].
    pub fn int8_self_attention(&mut self, qkv: Value, starts: Value, position: Value) -> Value {
        let shape = self.a_third(qkv);
        let [y] = self.node(Op::Int8(Int8::SelfAttention), &[qkv, starts, position], DType::F32, [shape]);
        y
    }

    /// [`Int8::CrossAttention`] over weights `[1, heads, d_kv, width]`.
    pub fn int8_cross_attention(
        &mut self,
        q: Value,
        hidden: Value,
        places: Value,
        keys_and_values: [&str; 2],
        shape: &[usize; 4],
    ) -> Value {
        let mut inputs = vec![q, hidden, places];
        for weight in keys_and_values {
            inputs.push(self.weight_of(&int8_name(weight), DType::I8, shape));
            inputs.push(self.weight_of(&int8_scale_name(weight), DType::F32, &[shape[1] * shape[2]]));
        }
        let shape = self.shape(q).to_vec();
        let [y] = self.node(Op::Int8(Int8::CrossAttention), &inputs, DType::F32, [shape]);
        y
    }

    fn int8_of_weights(
        &mut self,
        op: Int8,
        rows: Int8Rows,
        weights: &[&str],
        columns: usize,
        results: usize,
    ) -> Value {
        let mut inputs = vec![rows.values, rows.scales];
        for weight in weights {
            inputs.push(self.weight_of(&int8_name(weight), DType::I8, &int8_shape([columns, rows.width])));
            inputs.push(self.weight_of(&int8_scale_name(weight), DType::F32, &[2, columns]));
        }
        let shape = vec![self.shape(rows.values)[0], results.into()];
        let [y] = self.node(Op::Int8(op), &inputs, DType::F32, [shape]);
        y
    }

    /// x in 8 bits.
    pub fn int8_rows(&mut self, x: Value) -> Int8Rows {
        self.quantized(Int8::Quantize, x, &[]).0
    }

    /// x / sqrt(mean(x^2) + epsilon) * weight in 8 bits, with `added` on top of x first. Returns the rows and that sum.
    pub fn int8_norm(
        &mut self,
        x: Value,
        added: Option<Value>,
        weight: Value,
        epsilon: f32,
    ) -> (Int8Rows, Value) {
        let epsilon = self.scalar(epsilon);
        match added {
            None => self.quantized(Int8::NormQuantize, x, &[weight, epsilon]),
            Some(added) => self.quantized(Int8::AddNormQuantize, x, &[weight, epsilon, added]),
        }
    }

    /// The rows, and the sum that they are of, or x.
    fn quantized(&mut self, op: Int8, x: Value, others: &[Value]) -> (Int8Rows, Value) {
        let &[rows, Dim::Fixed(width)] = self.shape(x) else {
            panic!("rows are a matrix of a known width, not {:?}", self.shape(x));
        };
        let inputs: Vec<Value> = std::iter::once(x).chain(others.iter().copied()).collect();
        let of_values = vec![rows, width.next_multiple_of(INT8_DEPTH).into()];
        let of_scales = vec![rows, 1.into()];
        let (values, scales, sum) = if op == Int8::AddNormQuantize {
            let shapes = [of_values, of_scales, vec![rows, width.into()]];
            let [values, scales, sum] = self.node(Op::Int8(op), &inputs, DType::F32, shapes);
            (values, scales, sum)
        } else {
            let [values, scales] = self.node(Op::Int8(op), &inputs, DType::F32, [of_values, of_scales]);
            (values, scales, x)
        };
        self.values[values.0].dtype = DType::U8;
        (Int8Rows { values, scales, width }, sum)
    }
}

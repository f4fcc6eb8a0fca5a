//! Products of narrow numbers, and the operators of this project's own that make them of floats.
//!
//! A weight of integers has a scale for each output; activations become integers with a scale for each row, taken when they
//! are known. In bf16 both are rounded, and there are no scales. A row's numbers depend on that row alone, so batch mates
//! do not change an answer. Only a CPU has kernels for them.

use super::builder::{Graph, Value};
use super::fused::Kernels;
use super::op::{DType, Op};
use super::packed::MOST_WEIGHTS;
use super::shape::Dim;

/// Numbers that products are of, which take less than 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Narrow {
    /// 8-bit integers with scales.
    Int8,
    /// 16-bit brain floats; sums are of f32.
    Bf16,
}

/// Outputs of a weight that lie together.
pub const NARROW_COLUMNS: usize = 32;

/// Rows of activations: `values` `[rows, width]`, padded to whole [`depths`](Narrow::depth). Integers are u8, where 128 is
/// zero, times `scales` `[rows, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct NarrowRows {
    values: Value,
    scales: Option<Value>,
    width: usize,
}

/// An operator on narrow numbers.
///
/// Rows are the values and scales of integers, or the values in bf16. A weight is two values in integers: numbers as
/// [`Narrow::shape`] says, and `[2, outputs]` f32, the scale of each output and what the 128 of its inputs adds to it. In
/// bf16 it is the numbers alone, and a product has their outputs `[]` i64 behind the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NarrowOp {
    /// x `[rows, width]` to rows.
    Rows,
    /// (x `[rows, width]`, weight `[width]`, epsilon `[]`) to the normalised rows.
    NormRows,
    /// (x `[rows, width]`, weight `[width]`, epsilon `[]`, added `[rows, width]`) to the normalised rows of x + added, and to
    /// that sum.
    AddNormRows,
    /// (rows, up to [`MOST_WEIGHTS`] weights) to the products in f32, side by side.
    Product,
    /// (rows, gate, wide) to gelu(x gate') * (x wide') in f32, with GELU in its tanh form.
    GatedGelu,
    /// [`Packed::SelfAttention`](super::Packed::SelfAttention) of numbers that are rounded to bf16: queries, keys, values, and
    /// the weights of values. Sums and softmax are of f32.
    SelfAttention,
    /// [`Packed::CrossAttention`](super::Packed::CrossAttention) with keys and values as narrow numbers in the order of the
    /// checkpoint, in integers each followed by the scales of its rows: (q, hidden, starts, keys, values).
    CrossAttention,
}

// === impl Narrow ===

impl Narrow {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Int8, Self::Bf16];

    /// Numbers of a row that are multiplied at once: those in 32 bits.
    #[must_use]
    pub fn depth(self) -> usize {
        match self {
            Self::Int8 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The element type of weights.
    #[must_use]
    pub fn weights(self) -> DType {
        match self {
            Self::Int8 => DType::I8,
            Self::Bf16 => DType::Bf16,
        }
    }

    fn rows(self) -> DType {
        match self {
            Self::Int8 => DType::U8,
            Self::Bf16 => DType::Bf16,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Bf16 => "bf16",
        }
    }

    /// What the numbers of a weight are called.
    #[must_use]
    pub fn name_of(self, weight: &str) -> String {
        format!("{weight}.{}", self.name())
    }

    /// What the scales of a weight's numbers are called, if they have any.
    #[must_use]
    pub fn scale_name_of(self, weight: &str) -> Option<String> {
        (self == Self::Int8).then(|| format!("{weight}.{}.scale", self.name()))
    }

    /// The shape of the numbers of a weight `[outputs, inputs]`: blocks of inputs of 32 outputs, with zeros where there are
    /// fewer.
    #[must_use]
    pub fn shape(self, [outputs, inputs]: [usize; 2]) -> [usize; 4] {
        let depth = self.depth();
        [outputs.div_ceil(NARROW_COLUMNS), inputs.div_ceil(depth), NARROW_COLUMNS, depth]
    }
}

// === impl NarrowOp ===

impl NarrowOp {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Rows,
        Self::NormRows,
        Self::AddNormRows,
        Self::Product,
        Self::GatedGelu,
        Self::SelfAttention,
        Self::CrossAttention,
    ];

    /// Its type in an ONNX model.
    #[must_use]
    pub fn name(self, narrow: Narrow) -> &'static str {
        let both = match self {
            Self::Rows => ["Int8Rows", "Bf16Rows"],
            Self::NormRows => ["Int8NormRows", "Bf16NormRows"],
            Self::AddNormRows => ["Int8AddNormRows", "Bf16AddNormRows"],
            Self::Product => ["Int8Product", "Bf16Product"],
            Self::GatedGelu => ["Int8GatedGelu", "Bf16GatedGelu"],
            Self::SelfAttention => ["Int8SelfAttention", "Bf16SelfAttention"],
            Self::CrossAttention => ["Int8CrossAttention", "Bf16CrossAttention"],
        };
        match narrow {
            Narrow::Int8 => both[0],
            Narrow::Bf16 => both[1],
        }
    }
}

// === operators ===

impl Graph {
    /// What matrix products are of, if it is narrow.
    #[must_use]
    pub fn narrow(&self) -> Option<Narrow> {
        match self.kernels() {
            Kernels::Narrow(narrow) => Some(narrow),
            _ => None,
        }
    }

    fn format(&self) -> Narrow {
        self.narrow().expect("invariant: operators on narrow numbers are for graphs of them")
    }

    /// Rows times the weights `[columns, width]` of those names, transposed, side by side.
    pub fn narrow_product(&mut self, rows: NarrowRows, weights: &[&str], columns: usize) -> Value {
        assert!((1..=MOST_WEIGHTS).contains(&weights.len()), "a product has {MOST_WEIGHTS} weights at most");
        self.narrow_of_weights(NarrowOp::Product, rows, weights, columns, weights.len() * columns)
    }

    /// gelu(rows gate') * (rows wide') of the weights `[columns, width]` of those names.
    pub fn narrow_gated_gelu(
        &mut self,
        rows: NarrowRows,
        gate_and_wide: &[&str; 2],
        columns: usize,
    ) -> Value {
        self.narrow_of_weights(NarrowOp::GatedGelu, rows, gate_and_wide, columns, columns)
    }

    /// [`NarrowOp::SelfAttention`].
    pub fn narrow_self_attention(&mut self, qkv: Value, starts: Value, position: Value) -> Value {
        let (op, shape) = (Op::Narrow(self.format(), NarrowOp::SelfAttention), self.a_third(qkv));
        let [y] = self.node(op, &[qkv, starts, position], DType::F32, [shape]);
        y
    }

    /// [`NarrowOp::CrossAttention`] over weights `[1, heads, d_kv, width]`.
    pub fn narrow_cross_attention(
        &mut self,
        q: Value,
        hidden: Value,
        places: Value,
        keys_and_values: [&str; 2],
        shape: &[usize; 4],
    ) -> Value {
        let mut inputs = vec![q, hidden, places];
        for weight in keys_and_values {
            inputs.extend(self.narrow_weight(weight, shape, &[shape[1] * shape[2]]));
        }
        let (op, shape) = (Op::Narrow(self.format(), NarrowOp::CrossAttention), self.shape(q).to_vec());
        let [y] = self.node(op, &inputs, DType::F32, [shape]);
        y
    }

    fn narrow_of_weights(
        &mut self,
        op: NarrowOp,
        rows: NarrowRows,
        weights: &[&str],
        columns: usize,
        results: usize,
    ) -> Value {
        let narrow = self.format();
        let behind = rows.scales.unwrap_or_else(|| self.scalar_i64(columns as i64));
        let mut inputs = vec![rows.values, behind];
        for weight in weights {
            inputs.extend(self.narrow_weight(weight, &narrow.shape([columns, rows.width]), &[2, columns]));
        }
        let shape = vec![self.shape(rows.values)[0], results.into()];
        let [y] = self.node(Op::Narrow(narrow, op), &inputs, DType::F32, [shape]);
        y
    }

    /// The values of a weight.
    fn narrow_weight(&mut self, weight: &str, shape: &[usize], of_scales: &[usize]) -> Vec<Value> {
        let narrow = self.format();
        let numbers = self.weight_of(&narrow.name_of(weight), narrow.weights(), shape);
        let scales = narrow.scale_name_of(weight).map(|name| self.weight_of(&name, DType::F32, of_scales));
        std::iter::once(numbers).chain(scales).collect()
    }

    /// x as narrow rows.
    pub fn narrow_rows(&mut self, x: Value) -> NarrowRows {
        self.narrowed(NarrowOp::Rows, x, &[]).0
    }

    /// x / sqrt(mean(x^2) + epsilon) * weight as narrow rows, with `added` on top of x first. Returns the rows and that sum.
    pub fn narrow_norm(
        &mut self,
        x: Value,
        added: Option<Value>,
        weight: Value,
        epsilon: f32,
    ) -> (NarrowRows, Value) {
        let epsilon = self.scalar(epsilon);
        match added {
            None => self.narrowed(NarrowOp::NormRows, x, &[weight, epsilon]),
            Some(added) => self.narrowed(NarrowOp::AddNormRows, x, &[weight, epsilon, added]),
        }
    }

    /// The rows, and the sum that they are of, or x.
    fn narrowed(&mut self, op: NarrowOp, x: Value, others: &[Value]) -> (NarrowRows, Value) {
        let narrow = self.format();
        let &[rows, Dim::Fixed(width)] = self.shape(x) else {
            panic!("rows are a matrix of a known width, not {:?}", self.shape(x));
        };
        let inputs: Vec<Value> = std::iter::once(x).chain(others.iter().copied()).collect();
        let of_values = vec![rows, width.next_multiple_of(narrow.depth()).into()];
        let (of_scales, of_sum) = (vec![rows, 1.into()], vec![rows, width.into()]);
        let (adds, op) = (op == NarrowOp::AddNormRows, Op::Narrow(narrow, op));
        let (values, scales, sum) = match (narrow, adds) {
            (Narrow::Int8, false) => {
                let [values, scales] = self.node(op, &inputs, DType::F32, [of_values, of_scales]);
                (values, Some(scales), x)
            }
            (Narrow::Int8, true) => {
                let [values, scales, sum] =
                    self.node(op, &inputs, DType::F32, [of_values, of_scales, of_sum]);
                (values, Some(scales), sum)
            }
            (Narrow::Bf16, false) => {
                let [values] = self.node(op, &inputs, DType::F32, [of_values]);
                (values, None, x)
            }
            (Narrow::Bf16, true) => {
                let [values, sum] = self.node(op, &inputs, DType::F32, [of_values, of_sum]);
                (values, None, sum)
            }
        };
        self.values[values.0].dtype = narrow.rows();
        (NarrowRows { values, scales, width }, sum)
    }
}

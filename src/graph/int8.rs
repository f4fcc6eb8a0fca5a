//! Products of 8-bit integers, and the operators of this project's own that lie between them.
//!
//! A weight is an integer matrix with a scale for each output; activations are integers with a scale for each row, taken
//! when they are known. A row's integers depend on that row alone, so batch mates do not change an answer. Each operator
//! takes one pass over memory and leaves what the next product reads. Only a CPU has kernels for them.

use super::builder::{Graph, Value};
use super::fused::Kernels;
use super::op::{DType, Op};
use super::shape::Dim;

/// Rows of activations in 8 bits: `values` `[rows, width]` u8, where 128 is zero, times `scales` `[rows, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Int8Rows {
    values: Value,
    scales: Value,
}

/// A product whose rows still have to be multiplied by their scales: `values` `[rows, columns]` f32, `scales`
/// `[rows, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Unscaled {
    pub(super) values: Value,
    pub(super) scales: Value,
}

/// An operator between products of integers. `sums` and `wide` are those of an [`Unscaled`] product, results those of
/// [`Int8Rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Int8 {
    /// x `[rows, width]` to values and scales.
    Quantize,
    /// (x `[rows, width]`, weight `[width]`, epsilon `[]`) to values and scales of the normalised rows.
    NormQuantize,
    /// (x `[rows, width]`, weight `[width]`, epsilon `[]`, sums, scales) to values and scales of the normalised
    /// x + sums * scales, and to that sum.
    AddNormQuantize,
    /// (x `[rows, width]`, sums, scales) to x + sums * scales.
    AddScaled,
    /// (sums `[batch * positions, heads * d_kv]`, scales, sizes `[4]` i64) to sums * scales as
    /// `[batch, heads, positions, d_kv]`.
    SplitHeads,
    /// x `[batch, heads, positions, d_kv]` to values and scales of `[batch * positions, heads * d_kv]`.
    MergeHeads,
    /// (gate, wide, scales) to values and scales of gelu(gate * scales) * wide * scales, with GELU in its tanh form.
    GatedGelu,
    /// (wide, scales) to values and scales of max(wide, 0) * scales.
    Relu,
}

// === impl Int8 ===

impl Int8 {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Quantize,
        Self::NormQuantize,
        Self::AddNormQuantize,
        Self::AddScaled,
        Self::SplitHeads,
        Self::MergeHeads,
        Self::GatedGelu,
        Self::Relu,
    ];

    /// Its type in an ONNX model.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quantize => "Int8Quantize",
            Self::NormQuantize => "Int8NormQuantize",
            Self::AddNormQuantize => "Int8AddNormQuantize",
            Self::AddScaled => "Int8AddScaled",
            Self::SplitHeads => "Int8SplitHeads",
            Self::MergeHeads => "Int8MergeHeads",
            Self::GatedGelu => "Int8GatedGelu",
            Self::Relu => "Int8Relu",
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

// === operators ===

impl Graph {
    /// Whether matrix products are of integers.
    #[must_use]
    pub fn is_int8(&self) -> bool {
        self.kernels() == Kernels::Int8
    }

    /// Rows times the weight `[columns, width]` of that name, transposed.
    pub fn int8_product(&mut self, rows: Int8Rows, weight: &str, columns: usize, width: usize) -> Unscaled {
        assert_eq!(self.shape(rows.values)[1], Dim::Fixed(width), "inner sizes of a product with {weight}");
        let b = self.weight_of(&int8_name(weight), DType::I8, &[width, columns]);
        let b_scale = self.weight_of(&int8_scale_name(weight), DType::F32, &[columns]);
        let (one, zero) = (self.scalar(1.0), self.scalar_u8(128));
        let shape = vec![self.shape(rows.values)[0], columns.into()];
        let [values] = self.node(Op::Int8Product, &[rows.values, b, one, b_scale, zero], DType::F32, [shape]);
        Unscaled { values, scales: rows.scales }
    }

    /// x in 8 bits.
    pub fn int8_rows(&mut self, x: Value) -> Int8Rows {
        let &[rows, width] = self.shape(x) else { panic!("rows are a matrix, not {:?}", self.shape(x)) };
        self.quantized(Int8::Quantize, &[x], rows, width)
    }

    /// x / sqrt(mean(x^2) + epsilon) * weight in 8 bits, with `added` on top of x first. Returns the rows and that sum.
    pub fn int8_norm(
        &mut self,
        x: Value,
        added: Option<Unscaled>,
        weight: Value,
        epsilon: f32,
    ) -> (Int8Rows, Value) {
        let &[rows, width] = self.shape(x) else { panic!("rows are a matrix, not {:?}", self.shape(x)) };
        let epsilon = self.scalar(epsilon);
        let Some(Unscaled { values, scales }) = added else {
            return (self.quantized(Int8::NormQuantize, &[x, weight, epsilon], rows, width), x);
        };
        let op = Op::Int8(Int8::AddNormQuantize);
        let inputs = [x, weight, epsilon, values, scales];
        let shapes = [vec![rows, width], vec![rows, 1.into()], vec![rows, width]];
        let [values, scales, sum] = self.node(op, &inputs, DType::F32, shapes);
        self.values[values.0].dtype = DType::U8;
        (Int8Rows { values, scales }, sum)
    }

    /// x plus a product.
    pub fn int8_add(&mut self, x: Value, product: Unscaled) -> Value {
        let shape = self.shape(x).to_vec();
        let inputs = [x, product.values, product.scales];
        let [sum] = self.node(Op::Int8(Int8::AddScaled), &inputs, DType::F32, [shape]);
        sum
    }

    /// Products of the same rows, side by side.
    ///
    /// # Panics
    /// If they are not of the same rows.
    pub fn int8_beside(&mut self, products: &[Unscaled]) -> Unscaled {
        let scales = products[0].scales;
        assert!(products.iter().all(|product| product.scales == scales), "products of different rows");
        let values: Vec<Value> = products.iter().map(|product| product.values).collect();
        Unscaled { values: self.concat(&values, 1), scales }
    }

    /// A product as floats.
    pub fn int8_floats(&mut self, product: Unscaled) -> Value {
        self.mul(product.values, product.scales)
    }

    /// A product as floats of the shape `[batch, heads, positions, d_kv]`.
    pub fn int8_split_heads(&mut self, product: Unscaled, shape: &[Dim; 4]) -> Value {
        let sizes = self.shape_value(shape);
        let inputs = [product.values, product.scales, sizes];
        let [heads] = self.node(Op::Int8(Int8::SplitHeads), &inputs, DType::F32, [shape.to_vec()]);
        heads
    }

    /// Heads `[batch, heads, positions, d_kv]` as `rows` rows in 8 bits.
    pub fn int8_merge_heads(&mut self, heads: Value, rows: Dim, width: usize) -> Int8Rows {
        self.quantized(Int8::MergeHeads, &[heads], rows, width.into())
    }

    /// gelu(gate) * wide in 8 bits.
    pub fn int8_gated_gelu(&mut self, gate: Unscaled, wide: Unscaled) -> Int8Rows {
        let &[rows, width] = self.shape(wide.values) else { unreachable!("products are matrices") };
        self.quantized(Int8::GatedGelu, &[gate.values, wide.values, wide.scales], rows, width)
    }

    /// max(wide, 0) in 8 bits.
    pub fn int8_relu(&mut self, wide: Unscaled) -> Int8Rows {
        let &[rows, width] = self.shape(wide.values) else { unreachable!("products are matrices") };
        self.quantized(Int8::Relu, &[wide.values, wide.scales], rows, width)
    }

    fn quantized(&mut self, op: Int8, inputs: &[Value], rows: Dim, width: Dim) -> Int8Rows {
        let shapes = [vec![rows, width], vec![rows, 1.into()]];
        let [values, scales] = self.node(Op::Int8(op), inputs, DType::F32, shapes);
        self.values[values.0].dtype = DType::U8;
        Int8Rows { values, scales }
    }
}

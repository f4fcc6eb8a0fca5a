//! What runs through the layers: floats, or narrow numbers in front of the products of a graph of them.

use super::Function;
use super::graphs::Forward;
use crate::graph::{Dim, Graph, NarrowRows, Value};

/// The residual stream, flat, and what is still to be added to it. Standard operators add at once, as the addend of a
/// product; others with the next norm, which reads both anyway.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    x: Value,
    added: Option<Value>,
}

/// What a product reads, flat.
#[derive(Clone, Copy)]
pub(super) enum Rows {
    Floats(Value),
    Narrow(NarrowRows),
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(x: Value) -> Self {
        Self { x, added: None }
    }
}

// === impl Forward ===

impl Forward<'_> {
    /// The normalised stream.
    pub(super) fn norm(&mut self, stream: &mut Stream, weight: &str) -> Rows {
        let epsilon = self.config.layer_norm_epsilon;
        let g = &mut self.graph;
        let scale = g.weight(weight, &[self.config.d_model]);
        let (rows, x) = if g.narrow().is_some() {
            let (rows, x) = g.narrow_norm(stream.x, stream.added, scale, epsilon);
            (Rows::Narrow(rows), x)
        } else {
            let (x, y) = g.add_rms_norm(stream.x, stream.added, scale, epsilon);
            (Rows::Floats(y), x)
        };
        *stream = Stream::new(x);
        rows
    }

    /// The normalised stream as floats, at its end.
    pub(super) fn last_norm(&mut self, stream: Stream, weight: &str) -> Value {
        let epsilon = self.config.layer_norm_epsilon;
        let scale = self.graph.weight(weight, &[self.config.d_model]);
        self.graph.add_rms_norm(stream.x, stream.added, scale, epsilon).1
    }

    /// Rows of floats as what a product reads.
    pub(super) fn rows(&mut self, x: Value) -> Rows {
        if self.graph.narrow().is_some() { Rows::Narrow(self.graph.narrow_rows(x)) } else { Rows::Floats(x) }
    }

    /// Rows times the weight `[columns, width]`, transposed.
    pub(super) fn project(&mut self, rows: Rows, weight: &str, columns: usize, width: usize) -> Value {
        let g = &mut self.graph;
        match rows {
            Rows::Floats(x) => {
                let w = g.weight(weight, &[columns, width]);
                if g.is_packed() { g.packed_product(x, &[w]) } else { g.gemm(x, w, true, None) }
            }
            Rows::Narrow(rows) => g.narrow_product(rows, &[weight], columns),
        }
    }

    /// Rows times three weights `[columns, width]`, transposed, side by side; in a packed graph.
    pub(super) fn project_three(
        &mut self,
        rows: Rows,
        weights: [&str; 3],
        columns: usize,
        width: usize,
    ) -> Value {
        match rows {
            Rows::Floats(x) => {
                let weights = weights.map(|weight| self.graph.weight(weight, &[columns, width]));
                self.graph.packed_product(x, &weights)
            }
            Rows::Narrow(rows) => self.graph.narrow_product(rows, &weights, columns),
        }
    }

    /// Adds rows times the weight `[columns, width]`, transposed, to the stream, which the last norm left whole.
    pub(super) fn add_product(
        &mut self,
        stream: &mut Stream,
        rows: Rows,
        weight: &str,
        columns: usize,
        width: usize,
    ) {
        debug_assert!(stream.added.is_none(), "a norm stands between two products");
        match rows {
            Rows::Floats(x) if !self.graph.kernels().are_fused() => {
                let w = self.graph.weight(weight, &[columns, width]);
                stream.x = self.graph.gemm(x, w, true, Some(stream.x));
            }
            rows => stream.added = Some(self.project(rows, weight, columns, width)),
        }
    }

    /// gelu(rows gate') * (rows wide') of two weights `[columns, width]`.
    pub(super) fn gated_gelu(&mut self, rows: Rows, names: [&str; 2], columns: usize, width: usize) -> Rows {
        let g = &mut self.graph;
        let inner = match rows {
            Rows::Floats(x) => {
                let weights = names.map(|name| g.weight(name, &[columns, width]));
                if g.is_packed() { g.packed_gated_gelu(x, weights) } else { g.gated_gelu(x, weights) }
            }
            Rows::Narrow(rows) => g.narrow_gated_gelu(rows, &names, columns),
        };
        self.rows(inner)
    }

    /// f(x), times another product if there is one: functions that no fused operator is made for.
    pub(super) fn apply(&mut self, function: Function, x: Value, factor: Option<Value>) -> Rows {
        let g = &mut self.graph;
        // not every device has the smooth ones in bf16
        let y = match function {
            Function::Relu => g.relu(x),
            Function::Gelu => g.in_f32(x, Graph::gelu),
            Function::GeluTanh => g.in_f32(x, Graph::gelu_tanh),
            Function::Silu => g.in_f32(x, Graph::silu),
        };
        let y = factor.map_or(y, |factor| g.mul(y, factor));
        self.rows(y)
    }

    /// A product as heads, `[batch, heads, positions, d_kv]`.
    pub(super) fn split_heads(&mut self, product: Value, shape: &[Dim; 4]) -> Value {
        let [batch, heads, positions, d_kv] = *shape;
        let y = self.graph.reshape(product, &[batch, positions, heads, d_kv]);
        self.graph.transpose(y, &[0, 2, 1, 3])
    }

    /// Joins heads to what a product reads, as many rows as the stream has.
    pub(super) fn merge_heads(&mut self, heads: Value, stream: Stream) -> Rows {
        let inner = self.config.num_heads * self.config.d_kv;
        let rows = self.graph.shape(stream.x)[0];
        let y = self.graph.transpose(heads, &[0, 2, 1, 3]);
        let y = self.graph.reshape(y, &[rows, inner.into()]);
        self.rows(y)
    }
}

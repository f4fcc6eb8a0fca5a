//! What runs through the layers: floats, or 8-bit integers between the products of an int8 graph.

use super::Function;
use super::graphs::Forward;
use crate::graph::{Dim, Graph, Int8Rows, Unscaled, Value};

/// The residual stream, flat, and what is still to be added to it. Standard operators add at once, as the addend of a
/// product; others with the next norm, which reads both anyway.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    x: Value,
    added: Option<Product>,
}

/// What a product reads, flat.
#[derive(Clone, Copy)]
pub(super) enum Rows {
    Floats(Value),
    Int8(Int8Rows),
}

/// What a product makes, flat.
#[derive(Clone, Copy)]
pub(super) enum Product {
    Floats(Value),
    Int8(Unscaled),
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
        let (rows, x) = match stream.added {
            Some(Product::Int8(added)) => {
                let (rows, x) = g.int8_norm(stream.x, Some(added), scale, epsilon);
                (Rows::Int8(rows), x)
            }
            None if g.is_int8() => {
                let (rows, x) = g.int8_norm(stream.x, None, scale, epsilon);
                (Rows::Int8(rows), x)
            }
            None => {
                let (x, y) = g.add_rms_norm(stream.x, None, scale, epsilon);
                (Rows::Floats(y), x)
            }
            Some(Product::Floats(added)) => {
                let (x, y) = g.add_rms_norm(stream.x, Some(added), scale, epsilon);
                (Rows::Floats(y), x)
            }
        };
        *stream = Stream::new(x);
        rows
    }

    /// The normalised stream as floats, at its end.
    pub(super) fn last_norm(&mut self, stream: Stream, weight: &str) -> Value {
        let epsilon = self.config.layer_norm_epsilon;
        let g = &mut self.graph;
        let scale = g.weight(weight, &[self.config.d_model]);
        match stream.added {
            Some(Product::Int8(added)) => {
                let x = g.int8_add(stream.x, added);
                g.rms_norm(x, scale, epsilon)
            }
            Some(Product::Floats(added)) => g.add_rms_norm(stream.x, Some(added), scale, epsilon).1,
            None => g.add_rms_norm(stream.x, None, scale, epsilon).1,
        }
    }

    /// Rows of floats as what a product reads.
    pub(super) fn rows(&mut self, x: Value) -> Rows {
        if self.graph.is_int8() { Rows::Int8(self.graph.int8_rows(x)) } else { Rows::Floats(x) }
    }

    /// Rows times the weight `[columns, width]`, transposed.
    pub(super) fn project(&mut self, rows: Rows, weight: &str, columns: usize, width: usize) -> Product {
        let g = &mut self.graph;
        match rows {
            Rows::Floats(x) => {
                let w = g.weight(weight, &[columns, width]);
                Product::Floats(g.gemm(x, w, true, None))
            }
            Rows::Int8(rows) => Product::Int8(g.int8_product(rows, weight, columns, width)),
        }
    }

    /// A product as floats.
    pub(super) fn floats(&mut self, product: Product) -> Value {
        match product {
            Product::Floats(y) => y,
            Product::Int8(y) => self.graph.int8_floats(y),
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

    /// max(wide, 0).
    pub(super) fn relu(&mut self, wide: Product) -> Rows {
        match wide {
            Product::Floats(wide) => Rows::Floats(self.graph.relu(wide)),
            Product::Int8(wide) => Rows::Int8(self.graph.int8_relu(wide)),
        }
    }

    /// gelu(rows gate') * (rows wide') of two weights `[columns, width]`.
    pub(super) fn gated_gelu(
        &mut self,
        rows: Rows,
        [gate, wide]: [&str; 2],
        columns: usize,
        width: usize,
    ) -> Rows {
        let g = &mut self.graph;
        match rows {
            Rows::Floats(x) => {
                let weights = [gate, wide].map(|name| g.weight(name, &[columns, width]));
                Rows::Floats(g.gated_gelu(x, weights))
            }
            Rows::Int8(rows) => {
                let [gate, wide] = [gate, wide].map(|name| g.int8_product(rows, name, columns, width));
                Rows::Int8(g.int8_gated_gelu(gate, wide))
            }
        }
    }

    /// f(x), times another product if there is one: functions that no fused operator is made for.
    pub(super) fn apply(&mut self, function: Function, x: Product, factor: Option<Product>) -> Rows {
        let x = self.floats(x);
        let factor = factor.map(|factor| self.floats(factor));
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
    pub(super) fn split_heads(&mut self, product: Product, shape: &[Dim; 4]) -> Value {
        let [batch, heads, positions, d_kv] = *shape;
        match product {
            Product::Floats(y) => {
                let y = self.graph.reshape(y, &[batch, positions, heads, d_kv]);
                self.graph.transpose(y, &[0, 2, 1, 3])
            }
            Product::Int8(y) => self.graph.int8_split_heads(y, shape),
        }
    }

    /// Joins heads to what a product reads, as many rows as the stream has.
    pub(super) fn merge_heads(&mut self, heads: Value, stream: Stream) -> Rows {
        let inner = self.config.num_heads * self.config.d_kv;
        let g = &mut self.graph;
        let rows = g.shape(stream.x)[0];
        if g.is_int8() {
            return Rows::Int8(g.int8_merge_heads(heads, rows, inner));
        }
        let y = g.transpose(heads, &[0, 2, 1, 3]);
        Rows::Floats(g.reshape(y, &[rows, inner.into()]))
    }
}

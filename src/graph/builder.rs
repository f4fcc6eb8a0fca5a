//! Building a graph: one method per operator, each with its shape rule.

use std::collections::{HashMap, HashSet};

use super::fused::{Arithmetic, Kernels};
use super::op::{DType, Op};
use super::shape::{Dim, broadcast, summed_axes};

/// A tensor in a [`Graph`]: an input, a weight, a constant or the result of an operator.
///
/// A value belongs to the graph that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(super) usize);

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Input,
    Weight,
    /// The rows of several weights.
    Joined(Vec<Value>),
    Constant(Vec<u8>),
    Node,
}

#[derive(Clone, Debug)]
pub(super) struct Info {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<Dim>,
    pub(super) source: Source,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) inputs: Vec<Value>,
    pub(super) outputs: Vec<Value>,
}

/// A weight that a graph reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight<'g> {
    /// What the model calls it.
    pub name: &'g str,
    /// The weights of the checkpoint whose rows it has, behind each other; mostly one.
    pub parts: Vec<&'g str>,
    /// Its shape in the graph.
    pub shape: Vec<usize>,
}

/// A computation over tensors, in the order in which it was written down.
///
/// The methods panic if shapes or element types do not fit: that is a mistake of the code that builds
/// the graph, never of a user's file.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    arithmetic: Arithmetic,
    pub(super) values: Vec<Info>,
    pub(super) nodes: Vec<Node>,
    pub(super) outputs: Vec<(String, Value)>,
    weights: HashMap<String, Value>,
    constants: HashMap<(DType, Vec<Dim>, Vec<u8>), Value>,
    sizes: HashMap<&'static str, Value>,
    shapes: HashMap<Vec<Dim>, Value>,
}

// === inputs, weights, constants, outputs ===

impl Graph {
    /// A graph without nodes.
    #[must_use]
    pub fn new(arithmetic: Arithmetic) -> Self {
        let Arithmetic { kernels, floats } = arithmetic;
        assert!(floats == DType::F32 || kernels.are_fused(), "{floats:?} takes fused kernels");
        Self { arithmetic, ..Self::default() }
    }

    /// Which operators the graph is made of.
    #[must_use]
    pub fn kernels(&self) -> Kernels {
        self.arithmetic.kernels
    }

    /// The element type of weights and activations.
    #[must_use]
    pub fn floats(&self) -> DType {
        self.arithmetic.floats
    }

    /// Declares an input. Its named dimensions become known to the graph.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> Value {
        let value = self.value(name.to_owned(), dtype, shape.to_vec(), Source::Input);
        for (axis, dim) in shape.iter().enumerate() {
            if let Dim::Named(size) = *dim
                && !self.sizes.contains_key(size)
            {
                let op = Op::Shape { start: axis, end: axis + 1 };
                let [of] = self.node(op, &[value], DType::I64, [vec![Dim::Fixed(1)]]);
                self.sizes.insert(size, of);
            }
        }
        value
    }

    /// A weight of the checkpoint in the graph's float type, by its name there. Asked for again, it is the same value.
    ///
    /// `shape` may differ from the stored one where only the number of elements agrees: a free reshape.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> Value {
        self.weight_of(name, self.floats(), shape)
    }

    pub(super) fn weight_of(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Value {
        let shape: Vec<Dim> = shape.iter().map(|&size| size.into()).collect();
        if let Some(&known) = self.weights.get(name) {
            assert_eq!(self.shape(known), shape, "weight {name} is used in two shapes");
            return known;
        }
        let value = self.value(name.to_owned(), dtype, shape, Source::Weight);
        self.weights.insert(name.to_owned(), value);
        value
    }

    /// The rows of several weights behind each other, as one weight. What gives a session its weights may hold them so.
    pub fn join_weights(&mut self, parts: &[Value]) -> Value {
        let names: Vec<&str> = parts.iter().map(|part| self.values[part.0].name.as_str()).collect();
        let name = names.join("+");
        if let Some(&known) = self.weights.get(&name) {
            return known;
        }
        let mut shape = self.shape(parts[0]).to_vec();
        let rows = |part: &Value| match self.shape(*part)[0] {
            Dim::Fixed(rows) => rows,
            other => unreachable!("weights have fixed shapes, not {other}"),
        };
        shape[0] = Dim::Fixed(parts.iter().map(rows).sum());
        let value = self.value(name.clone(), self.floats(), shape, Source::Joined(parts.to_vec()));
        self.weights.insert(name, value);
        value
    }

    /// A scalar constant of 32 bits.
    pub fn scalar(&mut self, x: f32) -> Value {
        self.constant(DType::F32, &[], x.to_le_bytes().to_vec())
    }

    /// A scalar constant of the element type of `like`.
    pub fn scalar_like(&mut self, x: f32, like: Value) -> Value {
        let dtype = self.values[like.0].dtype;
        self.constant(dtype, &[], dtype.bytes_of(&[x]))
    }

    /// A scalar integer constant.
    pub fn scalar_i64(&mut self, x: i64) -> Value {
        self.constant(DType::I64, &[], x.to_le_bytes().to_vec())
    }

    /// A constant of the given shape, in the graph's float type.
    pub fn tensor(&mut self, shape: &[usize], xs: &[f32]) -> Value {
        let floats = self.floats();
        self.constant(floats, shape, floats.bytes_of(xs))
    }

    /// A 1-D integer constant.
    pub fn vector_i64(&mut self, xs: &[i64]) -> Value {
        self.constant(DType::I64, &[xs.len()], xs.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn constant(&mut self, dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Value {
        let shape: Vec<Dim> = shape.iter().map(|&size| size.into()).collect();
        let key = (dtype, shape, bytes);
        if let Some(&known) = self.constants.get(&key) {
            return known;
        }
        let name = format!("constant_{}", self.constants.len());
        let value = self.value(name, dtype, key.1.clone(), Source::Constant(key.2.clone()));
        self.constants.insert(key, value);
        value
    }

    /// Names a value as an output of the graph.
    pub fn output(&mut self, name: &str, value: Value) {
        self.outputs.push((name.to_owned(), value));
    }

    /// The element type of a value.
    #[must_use]
    pub fn dtype(&self, value: Value) -> DType {
        self.values[value.0].dtype
    }

    /// The shape of a value.
    #[must_use]
    pub fn shape(&self, value: Value) -> &[Dim] {
        &self.values[value.0].shape
    }

    /// How many operators the graph has.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The weights that operators read, in order of first use.
    pub fn weights(&self) -> impl Iterator<Item = Weight<'_>> {
        let read: HashSet<Value> = self.nodes.iter().flat_map(|node| node.inputs.iter().copied()).collect();
        let all = self.values.iter().enumerate().filter(move |&(i, _)| read.contains(&Value(i)));
        all.filter_map(|(i, info)| {
            let parts = match &info.source {
                Source::Weight => vec![info.name.as_str()],
                Source::Joined(parts) => parts.iter().map(|part| self.values[part.0].name.as_str()).collect(),
                Source::Input | Source::Constant(_) | Source::Node => return None,
            };
            Some(Weight { name: &info.name, parts, shape: self.fixed_shape(Value(i)) })
        })
    }

    /// The shape of a weight.
    pub(super) fn fixed_shape(&self, weight: Value) -> Vec<usize> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            other => unreachable!("weights have fixed shapes, not {other}"),
        };
        self.shape(weight).iter().map(size).collect()
    }

    fn value(&mut self, name: String, dtype: DType, shape: Vec<Dim>, source: Source) -> Value {
        self.values.push(Info { name, dtype, shape, source });
        Value(self.values.len() - 1)
    }

    pub(super) fn node<const N: usize>(
        &mut self,
        op: Op,
        inputs: &[Value],
        dtype: DType,
        shapes: [Vec<Dim>; N],
    ) -> [Value; N] {
        let outputs = self.append(op, inputs, shapes.map(|shape| (dtype, shape)));
        std::array::from_fn(|i| outputs[i])
    }

    /// A node with results of these types and shapes.
    pub(super) fn append(
        &mut self,
        op: Op,
        inputs: &[Value],
        results: impl IntoIterator<Item = (DType, Vec<Dim>)>,
    ) -> Vec<Value> {
        let id = self.nodes.len();
        let mut result = |(dtype, shape)| {
            let name = format!("v{id}_{}", self.values.len());
            self.value(name, dtype, shape, Source::Node)
        };
        let outputs: Vec<Value> = results.into_iter().map(&mut result).collect();
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone() });
        outputs
    }

    fn same_dtype(&mut self, op: Op, inputs: &[Value], shape: Vec<Dim>) -> Value {
        let dtype = self.values[inputs[0].0].dtype;
        let [y] = self.node(op, inputs, dtype, [shape]);
        y
    }
}

// === element-wise operators ===

macro_rules! element_wise {
    ($($(#[$doc:meta])* $name:ident => $op:expr, $dtype:expr;)*) => {
        impl Graph {
            $(
                $(#[$doc])*
                pub fn $name(&mut self, a: Value, b: Value) -> Value {
                    let shape = broadcast(self.shape(a), self.shape(b));
                    let dtype = self.values[a.0].dtype;
                    assert_eq!(dtype, self.values[b.0].dtype, "{} of two element types", stringify!($name));
                    let [y] = self.node($op, &[a, b], $dtype(dtype), [shape]);
                    y
                }
            )*
        }
    };
}

element_wise! {
    /// a + b.
    add => Op::Add, |dtype| dtype;
    /// a - b.
    sub => Op::Sub, |dtype| dtype;
    /// a * b, element by element.
    mul => Op::Mul, |dtype| dtype;
    /// The smaller of a and b.
    min => Op::Min, |dtype| dtype;
    /// The larger of a and b.
    max => Op::Max, |dtype| dtype;
    /// a = b.
    equal => Op::Equal, |_| DType::Bool;
    /// a >= b.
    greater_or_equal => Op::GreaterOrEqual, |_| DType::Bool;
}

impl Graph {
    /// `a` where `condition` holds, else `b`.
    pub fn where_(&mut self, condition: Value, a: Value, b: Value) -> Value {
        let shape = broadcast(self.shape(condition), &broadcast(self.shape(a), self.shape(b)));
        let dtype = self.values[a.0].dtype;
        let [y] = self.node(Op::Where, &[condition, a, b], dtype, [shape]);
        y
    }

    /// Converts the element type, where it is another one.
    pub fn cast(&mut self, x: Value, to: DType) -> Value {
        if self.values[x.0].dtype == to {
            return x;
        }
        let shape = self.shape(x).to_vec();
        let [y] = self.node(Op::Cast(to), &[x], to, [shape]);
        y
    }

    /// max(x, 0).
    pub fn relu(&mut self, x: Value) -> Value {
        self.like(Op::Relu, x)
    }

    /// GELU in its tanh approximation, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    pub fn gelu_tanh(&mut self, x: Value) -> Value {
        self.like(Op::GeluTanh, x)
    }

    /// 1 / (1 + exp(-x)).
    pub fn sigmoid(&mut self, x: Value) -> Value {
        self.like(Op::Sigmoid, x)
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, x: Value) -> Value {
        self.like(Op::Softmax, x)
    }

    /// Logarithm of the softmax over the last axis.
    pub fn log_softmax(&mut self, x: Value) -> Value {
        self.like(Op::LogSoftmax, x)
    }

    fn like(&mut self, op: Op, x: Value) -> Value {
        let shape = self.shape(x).to_vec();
        self.same_dtype(op, &[x], shape)
    }

    /// y = x / sqrt(mean(x^2) + epsilon) * scale over the last axis (Zhang and Sennrich 2019; T5's layer norm).
    pub fn rms_norm(&mut self, x: Value, scale: Value, epsilon: f32) -> Value {
        self.add_rms_norm(x, None, scale, epsilon).1
    }

    /// x plus `added` if given, and the [`rms_norm`](Self::rms_norm) of that.
    pub fn add_rms_norm(
        &mut self,
        x: Value,
        added: Option<Value>,
        scale: Value,
        epsilon: f32,
    ) -> (Value, Value) {
        // ONNX Runtime's own is the faster one on a CPU
        if self.kernels().are_fused() && !self.is_packed() {
            return self.fused_rms_norm(x, added, scale, epsilon);
        }
        let x = added.map_or(x, |added| self.add(x, added));
        let shape = self.shape(x).to_vec();
        let mut inverse = shape.clone();
        *inverse.last_mut().expect("a normalised value has an axis") = Dim::Fixed(1);
        let dtype = self.values[x.0].dtype;
        let [y, inverse] = self.node(Op::RmsNorm { epsilon }, &[x, scale], dtype, [shape, inverse]);
        // 1 / rms is a statistic
        self.values[inverse.0].dtype = DType::F32;
        (x, y)
    }
}

// === products ===

impl Graph {
    /// a `[M, K]` times the weight b (`[K, N]`, or `[N, K]` if `trans_b`), plus `c` `[M, N]` if given.
    pub fn gemm(&mut self, a: Value, b: Value, trans_b: bool, c: Option<Value>) -> Value {
        let (&[rows, inner], &[b0, b1]) = (self.shape(a), self.shape(b)) else {
            panic!("gemm takes two matrices, not {:?} and {:?}", self.shape(a), self.shape(b));
        };
        let (b_inner, columns) = if trans_b { (b1, b0) } else { (b0, b1) };
        assert_eq!(inner, b_inner, "inner sizes of gemm");
        let mut inputs = vec![a, b];
        if let Some(c) = c {
            assert_eq!(self.shape(c), [rows, columns], "addend of gemm");
            inputs.push(c);
        }
        self.same_dtype(Op::Gemm { trans_b }, &inputs, vec![rows, columns])
    }

    /// Product over the last two axes; leading axes broadcast. `trans_*` swaps the last two axes first.
    pub fn matmul(&mut self, a: Value, trans_a: bool, b: Value, trans_b: bool) -> Value {
        let split = |shape: &[Dim], swap: bool| {
            let (lead, last) = shape.split_at(shape.len() - 2);
            let (m, n) = if swap { (last[1], last[0]) } else { (last[0], last[1]) };
            (lead.to_vec(), m, n)
        };
        let (lead_a, m, k) = split(self.shape(a), trans_a);
        let (lead_b, k_b, n) = split(self.shape(b), trans_b);
        assert_eq!(k, k_b, "inner sizes of matmul");
        let mut shape = broadcast(&lead_a, &lead_b);
        shape.extend([m, n]);
        self.same_dtype(Op::MatMul { trans_a, trans_b }, &[a, b], shape)
    }
}

impl Graph {
    /// Product of a `[m, batch.., k]` with b `[batch.., k, n]` (`[batch.., n, k]` if `trans_b`) for each of the batch:
    /// `[batch.., m, n]`.
    pub fn matmul_by_batch(&mut self, a: Value, b: Value, trans_b: bool) -> Value {
        let (&[m, ref batch @ .., k], &[ref batch_b @ .., b0, b1]) = (self.shape(a), self.shape(b)) else {
            panic!("products of {:?} and {:?}", self.shape(a), self.shape(b));
        };
        let (b_inner, n) = if trans_b { (b1, b0) } else { (b0, b1) };
        assert_eq!((batch, k), (batch_b, b_inner), "batch and inner sizes of matmul");
        let mut shape = batch.to_vec();
        shape.extend([m, n]);
        self.same_dtype(Op::MatMulByBatch { trans_b }, &[a, b], shape)
    }
}

// === moving data ===

impl Graph {
    /// Reorders the axes: axis i of the result is axis `perm[i]` of x.
    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Value {
        let shape = perm.iter().map(|&axis| self.shape(x)[axis]).collect();
        self.same_dtype(Op::Transpose(perm.to_vec()), &[x], shape)
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, x: Value, shape: &[Dim]) -> Value {
        let target = self.reshape_target(shape);
        self.same_dtype(Op::Reshape, &[x, target], shape.to_vec())
    }

    /// Repeats x along axes of size one (and new leading axes) until it has the shape.
    pub fn expand(&mut self, x: Value, shape: &[Dim]) -> Value {
        let target = self.shape_value(shape);
        self.same_dtype(Op::Expand, &[x, target], shape.to_vec())
    }

    /// Rows of `table` (axis 0) by index.
    pub fn gather(&mut self, table: Value, indices: Value) -> Value {
        let mut shape = self.shape(indices).to_vec();
        shape.extend_from_slice(&self.shape(table)[1..]);
        self.same_dtype(Op::Gather { axis: 0 }, &[table, indices], shape)
    }

    /// Joins values along an axis.
    pub fn concat(&mut self, xs: &[Value], axis: usize) -> Value {
        let mut shape = self.shape(xs[0]).to_vec();
        shape[axis] = xs[1..].iter().fold(shape[axis], |sum, &x| match (sum, self.shape(x)[axis]) {
            (Dim::Fixed(a), Dim::Fixed(b)) => Dim::Fixed(a + b),
            (Dim::Named(a), Dim::Named(b)) => Dim::Sum(a, b),
            (Dim::Multiple(n, a), Dim::Multiple(m, b)) if a == b => Dim::Multiple(n + m, a),
            (a, b) => panic!("sizes {a} and {b} cannot be joined"),
        });
        self.same_dtype(Op::Concat { axis }, xs, shape)
    }

    /// Entries of an axis by index, `[n]`.
    pub fn take(&mut self, x: Value, axis: usize, indices: Value) -> Value {
        let mut shape = self.shape(x).to_vec();
        let &[count] = self.shape(indices) else { panic!("take has one axis of indices") };
        shape[axis] = count;
        self.same_dtype(Op::Gather { axis }, &[x, indices], shape)
    }

    /// 0, 1, ... up to a size.
    pub fn positions(&mut self, dim: Dim) -> Value {
        let limit = match dim {
            Dim::Fixed(size) => self.scalar_i64(size as i64),
            named => {
                let (size, scalar) = (self.shape_value(&[named]), self.vector_i64(&[]));
                self.same_dtype(Op::Reshape, &[size, scalar], vec![])
            }
        };
        let (zero, one) = (self.scalar_i64(0), self.scalar_i64(1));
        self.same_dtype(Op::Range, &[zero, limit, one], vec![dim])
    }

    /// Marks with 1 where `indices` `[..., 1]` equals the position along a new last axis, else 0.
    pub fn one_hot(&mut self, indices: Value, dim: Dim) -> Value {
        let positions = self.positions(dim);
        let hit = self.equal(indices, positions);
        self.cast(hit, DType::F32)
    }

    /// Sum over axes, which stay as size one.
    pub fn reduce_sum(&mut self, x: Value, axes: &[usize]) -> Value {
        self.reduce(Op::ReduceSum, x, axes)
    }

    /// Mean over axes, which stay as size one.
    pub fn reduce_mean(&mut self, x: Value, axes: &[usize]) -> Value {
        self.reduce(Op::ReduceMean, x, axes)
    }

    fn reduce(&mut self, op: Op, x: Value, axes: &[usize]) -> Value {
        let mut shape = self.shape(x).to_vec();
        axes.iter().for_each(|&axis| shape[axis] = Dim::Fixed(1));
        let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        let axes = self.vector_i64(&axes);
        self.same_dtype(op, &[x, axes], shape)
    }

    /// Sums a gradient over the axes along which `shape` was broadcast.
    pub(super) fn sum_to(&mut self, x: Value, shape: &[Dim]) -> Value {
        let axes = summed_axes(self.shape(x), shape);
        if axes.is_empty() { x } else { self.reduce_sum(x, &axes) }
    }

    fn size(&self, dim: &'static str) -> Value {
        *self.sizes.get(dim).unwrap_or_else(|| panic!("no input brings the dimension {dim}"))
    }

    /// A shape for `Reshape`, where one unknown size may be left for the runtime to infer.
    fn reshape_target(&mut self, shape: &[Dim]) -> Value {
        let unknown = shape.iter().filter(|dim| !matches!(dim, Dim::Fixed(_))).count();
        if unknown > 1 {
            return self.shape_value(shape);
        }
        let sizes: Vec<i64> = shape
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) => *size as i64,
                _ => -1,
            })
            .collect();
        self.vector_i64(&sizes)
    }

    /// The shape as a 1-D integer value.
    pub(super) fn shape_value(&mut self, shape: &[Dim]) -> Value {
        if let Some(&known) = self.shapes.get(shape) {
            return known;
        }
        let sizes: Vec<Value> = shape
            .iter()
            .map(|dim| match *dim {
                Dim::Fixed(size) => self.vector_i64(&[size as i64]),
                Dim::Named(name) => self.size(name),
                Dim::Product(a, b) => {
                    let (a, b) = (self.size(a), self.size(b));
                    self.mul(a, b)
                }
                Dim::Multiple(n, a) => {
                    let (n, a) = (self.vector_i64(&[n as i64]), self.size(a));
                    self.mul(n, a)
                }
                Dim::Sum(a, b) => {
                    let (a, b) = (self.size(a), self.size(b));
                    self.add(a, b)
                }
            })
            .collect();
        let value = if sizes.len() == 1 { sizes[0] } else { self.concat(&sizes, 0) };
        self.shapes.insert(shape.to_vec(), value);
        value
    }
}

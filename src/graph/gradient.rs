//! Reverse-mode differentiation: backward nodes from the same few operators.
//!
//! Only what leads from the result back to the one value of interest is built. Weights are frozen, so
//! no gradient of a weight is ever computed and backward costs about as much as forward.

use std::collections::{HashMap, HashSet};
use std::f32::consts::{FRAC_2_SQRT_PI, SQRT_2};

use super::builder::{Graph, Node, Value};
use super::fused::Fused;
use super::op::Op;
use super::recompute::{Activations, Recomputed};

/// 2 sqrt(2 / pi): the slope of the sigmoid form of GELU.
const GELU_SLOPE: f32 = FRAC_2_SQRT_PI * SQRT_2;
const GELU_CUBIC: f32 = 0.044_715;

/// How many products a' b that are added up become one on a GPU, of the a's and the b's behind each other. More would keep
/// more activations: the encoder's output is an operand of two products a decoder layer.
const JOINED: usize = 8;

impl Graph {
    /// Appends the derivative of the sum of `result`'s elements with respect to `wrt`. What it reads of the forward pass is
    /// kept until then or computed again.
    ///
    /// # Panics
    /// If `result` does not depend on `wrt`, or depends on it through an operator that has no derivative
    /// here: a mistake of the code that builds the graph.
    pub fn gradient(&mut self, result: Value, wrt: Value, activations: Activations) -> Value {
        let forward = self.nodes.clone();
        let mut active = HashSet::from([wrt]);
        let mut leading = Vec::new();
        for node in &forward {
            if node.inputs.iter().any(|x| active.contains(x)) {
                active.extend(&node.outputs);
                leading.push(node);
            }
        }
        assert!(active.contains(&result), "the result does not depend on the value");
        let one = self.scalar(1.0);
        let shape = self.shape(result).to_vec();
        let recomputed = match activations {
            Activations::Kept => Recomputed::default(),
            Activations::Recomputed => Recomputed::of(&leading),
        };
        let (of, products) = Default::default();
        let mut adjoints = Adjoints { graph: self, active, of, products, recomputed };
        let seed = adjoints.graph.expand(one, &shape);
        adjoints.of.insert(result, seed);
        for node in leading.into_iter().rev() {
            if let Some(dy) = adjoints.finished(node.outputs[0]) {
                adjoints.backward(node, dy);
            }
        }
        adjoints.finished(wrt).expect("the result depends on the value")
    }
}

/// The derivatives found so far, by the value that they belong to.
struct Adjoints<'g> {
    graph: &'g mut Graph,
    active: HashSet<Value>,
    of: HashMap<Value, Value>,
    /// Products a' b that are still to be added to the derivative of a value.
    products: HashMap<Value, Vec<[Value; 2]>>,
    recomputed: Recomputed,
}

// === impl Adjoints ===

impl Adjoints<'_> {
    fn wanted(&self, x: Value) -> bool {
        self.active.contains(&x)
    }

    /// Adds `dx` to the derivative of `x`, summing over broadcast axes first.
    fn accumulate(&mut self, x: Value, dx: Value) {
        let shape = self.graph.shape(x).to_vec();
        let dx = self.graph.sum_to(dx, &shape);
        let sum = match self.of.get(&x) {
            Some(&before) => self.graph.add(before, dx),
            None => dx,
        };
        self.of.insert(x, sum);
    }

    /// Adds a' b to the derivative of `x`, later and together with others.
    fn accumulate_product(&mut self, x: Value, a: Value, b: Value) {
        let products = self.products.entry(x).or_default();
        products.push([a, b]);
        if !self.graph.kernels().are_fused() || products.len() == JOINED {
            self.join_products(x);
        }
    }

    /// Adds what products are left for `x`.
    fn join_products(&mut self, x: Value) {
        let Some(products) = self.products.remove(&x) else { return };
        let joined = [0, 1].map(|side| {
            let factors: Vec<Value> = products.iter().map(|product| product[side]).collect();
            let axis = self.graph.shape(factors[0]).len() - 2;
            if factors.len() == 1 { factors[0] } else { self.graph.concat(&factors, axis) }
        });
        let sum = self.graph.matmul(joined[0], true, joined[1], false);
        self.accumulate(x, sum);
    }

    /// The derivative of a value that no node is left to add to.
    fn finished(&mut self, x: Value) -> Option<Value> {
        self.join_products(x);
        self.of.get(&x).copied()
    }

    /// A value of the forward pass, to compute with beside `dy`.
    fn read(&mut self, x: Value, dy: Value) -> Value {
        self.recomputed.read(self.graph, x, dy)
    }

    fn read_all(&mut self, xs: &[Value], dy: Value) -> Vec<Value> {
        xs.iter().map(|&x| self.read(x, dy)).collect()
    }

    /// Passes `dy`, the derivative of the node's first output, on to the node's inputs.
    fn backward(&mut self, node: &Node, dy: Value) {
        let inputs = node.inputs.as_slice();
        let y = node.outputs[0];
        match (&node.op, inputs) {
            (Op::Add, &[a, b]) => {
                for x in [a, b].into_iter().filter(|&x| self.active.contains(&x)).collect::<Vec<_>>() {
                    self.accumulate(x, dy);
                }
            }
            (Op::Sub, &[a, b]) => {
                if self.wanted(a) {
                    self.accumulate(a, dy);
                }
                if self.wanted(b) {
                    let minus = self.graph.scalar_like(-1.0, dy);
                    let db = self.graph.mul(dy, minus);
                    self.accumulate(b, db);
                }
            }
            (Op::Mul, &[a, b]) => {
                for (x, other) in [(a, b), (b, a)] {
                    if self.wanted(x) {
                        let other = self.read(other, dy);
                        let dx = self.graph.mul(dy, other);
                        self.accumulate(x, dx);
                    }
                }
            }
            (Op::Where, &[condition, a, b]) => {
                let zero = self.graph.scalar_like(0.0, dy);
                if self.wanted(a) {
                    let da = self.graph.where_(condition, dy, zero);
                    self.accumulate(a, da);
                }
                if self.wanted(b) {
                    let db = self.graph.where_(condition, zero, dy);
                    self.accumulate(b, db);
                }
            }
            (Op::Cast(_), &[x]) => {
                let dx = self.graph.cast(dy, self.graph.dtype(x));
                self.accumulate(x, dx);
            }
            (Op::Relu, &[x]) => {
                let y = self.read(y, dy);
                let dx = self.relu(y, dy);
                self.accumulate(x, dx);
            }
            (Op::GeluTanh, &[x]) => {
                let [read_x, y] = [x, y].map(|x| self.read(x, dy));
                let slope = self.gelu_slope(read_x, y);
                let dx = self.graph.mul(dy, slope);
                self.accumulate(x, dx);
            }
            (Op::Sigmoid, &[x]) => {
                let one = self.graph.scalar(1.0);
                let rest = self.graph.sub(one, y);
                let slope = self.graph.mul(y, rest);
                let dx = self.graph.mul(dy, slope);
                self.accumulate(x, dx);
            }
            (Op::Erf, &[x]) => {
                let slope = self.graph.erf_slope(x);
                let dx = self.graph.mul(dy, slope);
                self.accumulate(x, dx);
            }
            (Op::Softmax, &[x]) => {
                let y = self.read(y, dy);
                let dx = self.softmax(y, dy);
                self.accumulate(x, dx);
            }
            (Op::LogSoftmax, &[x]) => {
                let last = self.graph.shape(y).len() - 1;
                let read_x = self.read(x, dy);
                let p = self.graph.softmax(read_x);
                let total = self.graph.reduce_sum(dy, &[last]);
                let pulled = self.graph.mul(p, total);
                let dx = self.graph.sub(dy, pulled);
                self.accumulate(x, dx);
            }
            (Op::RmsNorm { .. }, &[x, scale]) => {
                let [y, inverse] = [y, node.outputs[1]].map(|y| self.read(y, dy));
                let dx = self.rms_norm(x, scale, y, inverse, dy);
                self.of.insert(x, dx);
            }
            (Op::Gemm { trans_b }, &[a, b, ref c @ ..]) => {
                if let Some(&c) = c.first()
                    && self.wanted(c)
                {
                    self.accumulate(c, dy);
                }
                if self.wanted(a) {
                    // the running derivative rides along as the addend of the product
                    let before = self.of.get(&a).copied();
                    let da = self.graph.gemm(dy, b, !trans_b, before);
                    self.of.insert(a, da);
                }
            }
            (Op::MatMul { trans_a, trans_b }, &[a, b]) => {
                if self.wanted(a) {
                    let b = self.read(b, dy);
                    let da = if *trans_a {
                        self.graph.matmul(b, *trans_b, dy, true)
                    } else {
                        self.graph.matmul(dy, false, b, !trans_b)
                    };
                    self.accumulate(a, da);
                }
                if self.wanted(b) {
                    let a = self.read(a, dy);
                    match (*trans_a, *trans_b) {
                        (false, true) => self.accumulate_product(b, dy, a),
                        (false, false) => self.accumulate_product(b, a, dy),
                        (true, _) => panic!("no product whose first operand is turned has a derivative here"),
                    }
                }
            }
            (Op::Transpose(perm), &[x]) => {
                let mut back = vec![0; perm.len()];
                perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
                let dx = self.graph.transpose(dy, &back);
                self.accumulate(x, dx);
            }
            (Op::Reshape, &[x, _]) => {
                let shape = self.graph.shape(x).to_vec();
                let dx = self.graph.reshape(dy, &shape);
                self.accumulate(x, dx);
            }
            (Op::ReduceSum, &[x, _]) => {
                let shape = self.graph.shape(x).to_vec();
                let dx = self.graph.expand(dy, &shape);
                self.accumulate(x, dx);
            }
            (Op::Fused(Fused::RmsNorm), &[x, scale, _, ref added @ ..]) => {
                // what is normalised is the sum, if there is one
                let normalised = node.outputs.get(2).copied().unwrap_or(x);
                let inverse = self.read(node.outputs[1], dy);
                let dx = self.rms_norm(normalised, scale, y, inverse, dy);
                self.of.insert(x, dx);
                if let Some(&added) = added.first() {
                    self.accumulate(added, dx);
                }
            }
            (Op::Fused(Fused::GatedGelu), &[both]) => {
                let read_both = self.read(both, dy);
                let [dx] = self.graph.fused(Fused::GatedGeluGrad, &[read_both, dy]);
                self.accumulate(both, dx);
            }
            (Op::Fused(Fused::Attention), &[qkv, ref biases @ ..]) => {
                assert!(!biases.iter().any(|&bias| self.wanted(bias)), "biases have no derivative here");
                let [inputs, results] = [inputs, &node.outputs].map(|xs| self.read_all(xs, dy));
                let dx = self.graph.attention_grad(&inputs, &results, dy);
                self.accumulate(qkv, dx);
            }
            (Op::Fused(Fused::BiasedSoftmax), &[scores, ref biases @ ..]) => {
                assert!(!biases.iter().any(|&bias| self.wanted(bias)), "biases have no derivative here");
                let y = self.read(y, dy);
                let dx = self.softmax(y, dy);
                self.accumulate(scores, dx);
            }
            (op, _) => panic!("{op:?} has no derivative here"),
        }
    }

    /// dx = dy where y > 0.
    fn relu(&mut self, y: Value, dy: Value) -> Value {
        if self.graph.kernels().are_fused() {
            let [dx] = self.graph.fused(Fused::ReluGrad, &[y, dy]);
            return dx;
        }
        let zero = self.graph.scalar_like(0.0, dy);
        let off = self.graph.greater_or_equal(zero, y);
        self.graph.where_(off, zero, dy)
    }

    /// dx = p * (dy - sum(dy * p)).
    fn softmax(&mut self, p: Value, dy: Value) -> Value {
        if self.graph.kernels().are_fused() {
            let [dx] = self.graph.fused(Fused::SoftmaxGrad, &[p, dy]);
            return dx;
        }
        let last = self.graph.shape(p).len() - 1;
        let weighted = self.graph.mul(dy, p);
        let total = self.graph.reduce_sum(weighted, &[last]);
        let centred = self.graph.sub(dy, total);
        self.graph.mul(centred, p)
    }

    /// With r = 1 / rms(x) and g = dy * scale: dx = r g - x r^2 mean(dy * y), on top of what x has so far.
    fn rms_norm(&mut self, x: Value, scale: Value, y: Value, r: Value, dy: Value) -> Value {
        let before = self.of.get(&x).copied();
        let g = &mut *self.graph;
        if g.kernels().are_fused() {
            let inputs: Vec<Value> = [x, scale, r, dy].into_iter().chain(before).collect();
            let [dx] = g.fused(Fused::RmsNormGrad, &inputs);
            return dx;
        }
        let last = g.shape(x).len() - 1;
        let product = g.mul(dy, y);
        let mean = g.reduce_mean(product, &[last]);
        let r2 = g.mul(r, r);
        let pull = g.mul(mean, r2);
        let scaled = g.mul(dy, scale);
        let direct = g.mul(scaled, r);
        let along = g.mul(x, pull);
        let dx = g.sub(direct, along);
        before.map_or(dx, |before| g.add(before, dx))
    }

    /// With a = c (1 + 0.044715 x^2), c = 2 sqrt(2/pi) and s = sigmoid(x a): gelu(x) = x s, so the slope is
    /// s + gelu(x) (1 - s) (3 a - 2 c).
    fn gelu_slope(&mut self, x: Value, y: Value) -> Value {
        let g = &mut *self.graph;
        let (c, cubic) = (g.scalar(GELU_SLOPE), g.scalar(GELU_SLOPE * GELU_CUBIC));
        let square = g.mul(x, x);
        let bent = g.mul(square, cubic);
        let a = g.add(bent, c);
        let inner = g.mul(x, a);
        let s = g.sigmoid(inner);
        let (three, twice, one) = (g.scalar(3.0), g.scalar(2.0 * GELU_SLOPE), g.scalar(1.0));
        let tripled = g.mul(a, three);
        let steep = g.sub(tripled, twice);
        let rest = g.sub(one, s);
        let falling = g.mul(y, rest);
        let bend = g.mul(falling, steep);
        g.add(s, bend)
    }
}

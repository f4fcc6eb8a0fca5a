//! Forward values that a gradient computes again, so that they need not be kept until it reads them.
//!
//! What is kept is what norms normalise: the residual stream, one value before each block of a layer. A block's other values
//! are computed from that again when the first of them is read, and no sooner: [`Fused::After`] makes them wait for the
//! derivative that they are read with.

use std::collections::{HashMap, HashSet};

use super::builder::{Graph, Node, Value};
use super::fused::Fused;
use super::op::Op;

/// What a gradient does with the values of the forward pass that it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activations {
    /// They are kept.
    #[default]
    Kept,
    /// Only what norms normalise is; the rest is computed again. The same results in less memory, with more work.
    Recomputed,
}

/// The values that are computed again.
#[derive(Debug, Default)]
pub(super) struct Recomputed {
    /// Nodes of the forward pass by those of their results that are not kept.
    makers: HashMap<Value, Node>,
    /// Results that were computed again, by those of the forward pass.
    again: HashMap<Value, Value>,
}

// === impl Recomputed ===

impl Recomputed {
    /// Of the nodes that lead to a result, in their order: what lies between the first norm and the last.
    pub(super) fn of(leading: &[&Node]) -> Self {
        let kept: HashSet<Value> = leading.iter().filter_map(|node| normalised(node)).collect();
        let last = leading.iter().rposition(|node| normalised(node).is_some()).unwrap_or(0);
        let mut makers: HashMap<Value, Node> = HashMap::new();
        for &node in &leading[..last] {
            if normalised(node).is_some() || node.inputs.iter().any(|x| makers.contains_key(x)) {
                let lost = node.outputs.iter().filter(|y| !kept.contains(y));
                makers.extend(lost.map(|&y| (y, node.clone())));
            }
        }
        Self { makers, again: HashMap::new() }
    }

    /// A value of the forward pass for a reader that has `dy`: itself, or computed again once `dy` is known.
    pub(super) fn read(&mut self, graph: &mut Graph, x: Value, dy: Value) -> Value {
        if let Some(&again) = self.again.get(&x) {
            return again;
        }
        let Some(node) = self.makers.get(&x).cloned() else { return x };
        let again = match normalised(&node) {
            Some(stream) => {
                let stream = graph.after(stream, dy);
                // the sum is kept: what is normalised now is the sum itself
                let others = &node.inputs[1..node.inputs.len().min(NORM_INPUTS)];
                graph.repeat(&node, &[&[stream], others].concat(), NORM_OUTPUTS)
            }
            None => {
                let inputs: Vec<Value> = node.inputs.iter().map(|&x| self.read(graph, x, dy)).collect();
                graph.repeat(&node, &inputs, node.outputs.len())
            }
        };
        self.again.extend(node.outputs.iter().copied().zip(again));
        self.again[&x]
    }
}

/// Inputs of a norm that nothing is added in, at most: what it normalises, a scale, and of a fused one epsilon.
const NORM_INPUTS: usize = 3;
/// Its results: the normalised value and 1 / rms.
const NORM_OUTPUTS: usize = 2;

/// What a node normalises, if it is a norm.
fn normalised(node: &Node) -> Option<Value> {
    match node.op {
        Op::RmsNorm { .. } => Some(node.inputs[0]),
        Op::Fused(Fused::RmsNorm) => Some(node.outputs.get(NORM_OUTPUTS).copied().unwrap_or(node.inputs[0])),
        _ => None,
    }
}

// === impl Graph ===

impl Graph {
    /// [`Fused::After`]: x, no sooner than `dy` is known.
    pub(super) fn after(&mut self, x: Value, dy: Value) -> Value {
        // the operator takes tensors of one type; they differ where a function has no kernel for 16 bits
        let dy = self.cast(dy, self.dtype(x));
        let [x] = self.fused(Fused::After, &[x, dy]);
        x
    }

    /// The same operator on other inputs, with the first `count` of its results.
    fn repeat(&mut self, node: &Node, inputs: &[Value], count: usize) -> Vec<Value> {
        let outputs = node.outputs[..count].iter().map(|y| {
            let like = &self.values[y.0];
            (like.dtype, like.shape.clone())
        });
        let outputs = outputs.collect::<Vec<_>>();
        self.append(node.op.clone(), inputs, outputs)
    }
}

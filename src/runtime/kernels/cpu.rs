//! What the operators compute, in plain loops over f32.
//!
//! Graphs of floats for a CPU are made of standard operators, which are faster there; a graph of fused ones runs all the
//! same. Graphs of narrow numbers use the softmax.

mod attention;

use std::f32::consts::FRAC_2_SQRT_PI;

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::context::{by_rows, input, output, sizes_of};
use super::operator::{inputs, outputs};
use super::rows;
use crate::graph::Fused;

/// A fused operator on a CPU.
#[derive(Debug)]
pub(super) struct CpuOperator(pub(super) Fused);

/// What a node of the operator runs.
#[derive(Debug)]
pub(super) struct CpuKernel(Fused);

/// A tensor's elements and shape.
struct Tensor {
    x: Vec<f32>,
    shape: Vec<i64>,
}

// === impl CpuOperator ===

impl Operator for CpuOperator {
    type Kernel<'attr> = CpuKernel;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs(self.0, TensorElementType::Float32)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        outputs(self.0, TensorElementType::Float32)
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<CpuKernel> {
        Ok(CpuKernel(self.0))
    }
}

// === impl CpuKernel ===

impl Kernel for CpuKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        if self.0 == Fused::BiasedSoftmax {
            return biased_softmax(context);
        }
        let mut tensors = Vec::new();
        for index in 0..context.num_inputs()? {
            if let Some(value) = context.input(index)? {
                let (shape, x) = value.try_extract_tensor::<f32>()?;
                tensors.push(Tensor { x: x.to_vec(), shape: shape.to_vec() });
            }
        }
        let results: Vec<Tensor> = match (self.0, tensors.as_slice()) {
            (Fused::GatedGelu, [both]) => vec![gated_gelu(both)],
            (Fused::GatedGeluGrad, [both, dy]) => vec![both.like(gated_gelu_grad(both, &dy.x))],
            (Fused::ReluGrad, [y, dy]) => {
                let each = y.x.iter().zip(&dy.x).map(|(&y, &dy)| if y > 0.0 { dy } else { 0.0 });
                vec![y.like(each.collect())]
            }
            (Fused::RmsNorm, [x, scale, epsilon, added @ ..]) => {
                rms_norm(x, scale, epsilon.x[0], added.first())
            }
            (Fused::RmsNormGrad, [x, scale, inverse, dy, before @ ..]) => {
                let before = before.first().map(|before| before.x.as_slice());
                vec![x.like(rms_norm_grad(&x.x, &scale.x, &inverse.x, &dy.x, before))]
            }
            (Fused::SoftmaxGrad, [p, dy]) => vec![p.like(softmax_grad(&p.x, &dy.x, p.width()))],
            (Fused::Attention, [qkv, position, hidden @ ..]) => {
                attention::forward(qkv, position, hidden.first())
            }
            (Fused::AttentionGrad, [qkv, position, y, _, dy, hidden @ ..]) => {
                attention::gradient([qkv, position], hidden.first(), y, dy)
            }
            (fused, inputs) => {
                return Err(ort::Error::new(format!("{} of {} inputs", fused.name(), inputs.len())));
            }
        };
        for (index, result) in results.into_iter().enumerate() {
            let output = context.output(index, result.shape)?;
            let mut output = output.ok_or_else(|| ort::Error::new(format!("output {index} is missing")))?;
            output.try_extract_tensor_mut::<f32>()?.1.copy_from_slice(&result.x);
        }
        Ok(())
    }
}

// === impl Tensor ===

impl Tensor {
    /// Size of the last axis, at least 1.
    fn width(&self) -> usize {
        self.shape.last().map_or(1, |&size| size.unsigned_abs() as usize).max(1)
    }

    fn like(&self, x: Vec<f32>) -> Self {
        Self { x, shape: self.shape.clone() }
    }
}

const SLOPE: f32 = FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
const CUBIC: f32 = 0.044_715;

/// gelu(x) / x: sigmoid(c x (1 + 0.044715 x^2)), c = 2 sqrt(2 / pi).
fn gelu_gate(x: f32) -> f32 {
    1.0 / (1.0 + (-SLOPE * x * (1.0 + CUBIC * x * x)).exp())
}

fn gated_gelu(both: &Tensor) -> Tensor {
    let width = both.width() / 2;
    let row =
        |row: &[f32]| (0..width).map(|i| row[i] * gelu_gate(row[i]) * row[width + i]).collect::<Vec<_>>();
    let mut shape = both.shape.clone();
    shape.pop();
    shape.push(width as i64);
    Tensor { x: both.x.chunks(2 * width).flat_map(row).collect(), shape }
}

fn gated_gelu_grad(both: &Tensor, dy: &[f32]) -> Vec<f32> {
    let width = both.width() / 2;
    let rows = both.x.chunks(2 * width).zip(dy.chunks(width)).map(|(row, dy)| {
        let (gate, wide) = row.split_at(width);
        let each = gate.iter().zip(wide).zip(dy).map(|((&x, &wide), &dy)| {
            let s = gelu_gate(x);
            let slope = s + x * s * (1.0 - s) * SLOPE * (1.0 + 3.0 * CUBIC * x * x);
            (dy * wide * slope, dy * x * s)
        });
        let (d_gate, d_wide): (Vec<f32>, Vec<f32>) = each.unzip();
        [d_gate, d_wide].concat()
    });
    rows.flatten().collect()
}

fn rms_norm(x: &Tensor, scale: &Tensor, epsilon: f32, added: Option<&Tensor>) -> Vec<Tensor> {
    let sum = added.map(|added| x.like(x.x.iter().zip(&added.x).map(|(x, added)| x + added).collect()));
    let rows = sum.as_ref().unwrap_or(x).x.chunks(x.width());
    let inverse: Vec<f32> = rows
        .clone()
        .map(|row| (row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32 + epsilon).sqrt().recip())
        .collect();
    let y = rows.zip(&inverse).flat_map(|(row, r)| row.iter().zip(&scale.x).map(move |(x, s)| x * r * s));
    let y = x.like(y.collect());
    let mut statistic = x.shape.clone();
    statistic.pop();
    statistic.push(1);
    [Some(y), Some(Tensor { x: inverse, shape: statistic }), sum].into_iter().flatten().collect()
}

fn rms_norm_grad(x: &[f32], scale: &[f32], inverse: &[f32], dy: &[f32], before: Option<&[f32]>) -> Vec<f32> {
    let width = scale.len();
    let rows = x.chunks(width).zip(dy.chunks(width)).zip(inverse);
    let dx = rows.flat_map(|((x, dy), r)| {
        let g = || dy.iter().zip(scale).map(|(dy, scale)| dy * scale);
        let mean = x.iter().zip(g()).map(|(x, g)| x * g).sum::<f32>() / width as f32;
        x.iter().zip(g()).map(|(x, g)| r * g - x * r.powi(3) * mean).collect::<Vec<_>>()
    });
    match before {
        Some(before) => dx.zip(before).map(|(dx, before)| dx + before).collect(),
        None => dx.collect(),
    }
}

/// The sums of scores, positions and hidden keys are not written down: a pass over the scores, on all threads.
fn biased_softmax(context: &ComputeContext) -> ort::Result<()> {
    let [scores, position] = [input(context, 0)?, input(context, 1)?];
    let hidden = if context.num_inputs()? > 2 { context.input(2)? } else { None };
    let (shape, scores) = scores.try_extract_tensor::<f32>()?;
    let position = position.try_extract_tensor::<f32>()?.1;
    let hidden = match &hidden {
        Some(hidden) => hidden.try_extract_tensor::<f32>()?.1,
        None => &[],
    };
    let [batch, heads, queries, keys] = sizes_of(shape)?;
    let mut p = output(context, 0, &[batch, heads, queries, keys])?;
    by_rows(context, keys, p.try_extract_tensor_mut::<f32>()?.1, |row, p| {
        // positions that all examples share start again with each
        let own = row * keys % position.len();
        let hidden = if hidden.is_empty() { &[] } else { &hidden[row / (heads * queries) * keys..][..keys] };
        rows::softmax(&scores[row * keys..][..keys], &position[own..][..keys], hidden, p);
    });
    Ok(())
}

fn softmax_grad(p: &[f32], dy: &[f32], width: usize) -> Vec<f32> {
    let rows = p.chunks(width).zip(dy.chunks(width));
    let dx = rows.flat_map(|(p, dy)| {
        let pulled: f32 = p.iter().zip(dy).map(|(p, dy)| p * dy).sum();
        p.iter().zip(dy).map(move |(p, dy)| p * (dy - pulled)).collect::<Vec<_>>()
    });
    dx.collect()
}

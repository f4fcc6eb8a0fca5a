//! The operators on packed batches, on a CPU.

use std::ops::Range;

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::context::{each, for_each, input, output, pointer, sizes_of};
use super::native::attention::{self, Biased, Numbers, SelfAttention};
use super::native::cross::{self, Absorbed, Stored};
use super::native::products::{self, Floats, Panels, Weight};
use crate::graph::{MOST_WEIGHTS, Packed};

/// An operator on packed batches.
#[derive(Debug)]
pub(super) struct PackedOperator(pub(super) Packed);

/// What a node of the operator runs.
#[derive(Debug)]
pub(super) struct PackedKernel(Packed);

// === impl PackedOperator ===

impl Operator for PackedOperator {
    type Kernel<'attr> = PackedKernel;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let (float, int) = (TensorElementType::Float32, TensorElementType::Int64);
        let (needed, more) = match self.0 {
            Packed::Product => (vec![float; 2], MOST_WEIGHTS - 1),
            Packed::GatedGelu => (vec![float; 3], 0),
            Packed::SelfAttention => (vec![float, int, float], 0),
            Packed::BiasedAttention => (vec![float; 2], 0),
            Packed::CrossAttention => (vec![float, float, int, float, float], 0),
            Packed::Unpack => (vec![float, int], 0),
        };
        let more = std::iter::repeat_n(float, more).map(OperatorInput::optional);
        needed.into_iter().map(OperatorInput::required).chain(more).collect::<Vec<_>>()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<PackedKernel> {
        Ok(PackedKernel(self.0))
    }
}

// === impl PackedKernel ===

impl Kernel for PackedKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        match self.0 {
            Packed::Product | Packed::GatedGelu => product(context, self.0),
            Packed::SelfAttention => self_attention(context, Numbers::F32),
            Packed::BiasedAttention => biased_attention(context),
            Packed::CrossAttention => cross_attention(context),
            Packed::Unpack => unpack(context),
        }
    }
}

fn product(context: &ComputeContext, op: Packed) -> ort::Result<()> {
    let x = input(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [rows, _] = sizes_of(shape)?;
    let weights = (1..context.num_inputs()?).map(|index| weight(context, index));
    let weights = weights.map(|weight| Ok(Floats::new(x, weight?))).collect::<ort::Result<Vec<_>>>()?;
    multiply(context, op == Packed::GatedGelu, rows, &weights)
}

/// Makes the first output: products side by side, or the gate of two times the other.
pub(super) fn multiply(
    context: &ComputeContext,
    gated: bool,
    rows: usize,
    weights: &[impl Panels],
) -> ort::Result<()> {
    let each = |pieces: usize, work: &(dyn Fn(usize) + Sync)| each(context, pieces, work);
    if gated {
        let [gate, wide] = weights else { return Err(ort::Error::new("a gate and what it gates")) };
        let mut y = output(context, 0, &[rows, gate.outputs()])?;
        products::gated(&each, rows, [gate, wide], y.try_extract_tensor_mut::<f32>()?.1);
        return Ok(());
    }
    let mut y = output(context, 0, &[rows, weights.iter().map(Panels::outputs).sum()])?;
    products::product(&each, rows, weights, y.try_extract_tensor_mut::<f32>()?.1);
    Ok(())
}

fn weight(context: &ComputeContext, index: usize) -> ort::Result<Weight> {
    let (data, shape) = pointer(context, index)?;
    let &[outputs, inner] = shape.as_slice() else {
        return Err(ort::Error::new(format!("a weight is a matrix, not of the shape {shape:?}")));
    };
    Ok(Weight { data, outputs, inner })
}

/// Attention of each example to itself ([`Packed::SelfAttention`]).
pub(super) fn self_attention(context: &ComputeContext, numbers: Numbers) -> ort::Result<()> {
    let [qkv, starts, position] = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
    let (shape, qkv) = qkv.try_extract_tensor::<f32>()?;
    let [rows, width] = sizes_of(shape)?;
    let (of_position, position) = position.try_extract_tensor::<f32>()?;
    let [heads, _] = sizes_of(of_position)?;
    let starts = starts.try_extract_tensor::<i64>()?.1;
    let mut y = output(context, 0, &[rows, width / 3])?;
    let y = y.try_extract_tensor_mut::<f32>()?.1;
    let each = |pieces: usize, work: &(dyn Fn(usize) + Sync)| each(context, pieces, work);
    attention::attend(&each, SelfAttention { qkv, starts, position, heads, numbers }, y);
    Ok(())
}

fn biased_attention(context: &ComputeContext) -> ort::Result<()> {
    let [qkv, bias] = [input(context, 0)?, input(context, 1)?];
    let (shape, qkv) = qkv.try_extract_tensor::<f32>()?;
    let [rows, width] = sizes_of(shape)?;
    let (of_bias, bias) = bias.try_extract_tensor::<f32>()?;
    let [_, heads, length, _] = sizes_of(of_bias)?;
    let mut y = output(context, 0, &[rows, width / 3])?;
    let y = y.try_extract_tensor_mut::<f32>()?.1;
    let each = |pieces: usize, work: &(dyn Fn(usize) + Sync)| each(context, pieces, work);
    attention::attend_biased(&each, Biased { qkv, bias, heads, length }, y);
    Ok(())
}

fn cross_attention(context: &ComputeContext) -> ort::Result<()> {
    let (keys, heads) = of_heads(context, 3)?;
    let (values, _) = of_heads(context, 4)?;
    attend_to_encoder(context, [keys, values].map(Stored::Floats), heads)
}

/// Attention of the first input to the second, whose rows the third parts among examples ([`Packed::CrossAttention`]).
pub(super) fn attend_to_encoder(
    context: &ComputeContext,
    [keys, values]: [Stored<'_>; 2],
    heads: usize,
) -> ort::Result<()> {
    let [q, hidden, places] = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
    let (shape, q) = q.try_extract_tensor::<f32>()?;
    let shape: [usize; 2] = sizes_of(shape)?;
    let (of_hidden, hidden) = hidden.try_extract_tensor::<f32>()?;
    let places = places_of(of_hidden, places.try_extract_tensor::<i64>()?.1)?;
    let mut y = output(context, 0, &shape)?;
    let each = |pieces: usize, work: &(dyn Fn(usize) + Sync)| each(context, pieces, work);
    let absorbed = Absorbed { q, hidden, places: &places, keys, values, heads };
    cross::attend(&each, absorbed, y.try_extract_tensor_mut::<f32>()?.1);
    Ok(())
}

/// The rows of each example. In `[rows, width]` the numbers say where they begin, in `[examples, length, width]` how many of
/// each are its own.
fn places_of(of_hidden: &[i64], numbers: &[i64]) -> ort::Result<Vec<Range<usize>>> {
    let numbers: Vec<usize> = numbers.iter().map(|number| number.unsigned_abs() as usize).collect();
    let (places, rows): (Vec<Range<usize>>, usize) = if of_hidden.len() == 3 {
        let [examples, length, _] = sizes_of(of_hidden)?;
        (numbers.iter().enumerate().map(|(i, own)| i * length..i * length + own).collect(), examples * length)
    } else {
        let [rows, _] = sizes_of(of_hidden)?;
        (numbers.windows(2).map(|pair| pair[0]..pair[1]).collect(), rows)
    };
    if places.iter().any(|place| place.start > place.end || place.end > rows) {
        return Err(ort::Error::new(format!("examples at {places:?} of {rows} rows")));
    }
    Ok(places)
}

/// A weight `[1, heads, d, width]`, and the number of heads.
fn of_heads(context: &ComputeContext, index: usize) -> ort::Result<(Weight, usize)> {
    let (data, shape) = pointer(context, index)?;
    let &[1, heads, d, inner] = shape.as_slice() else {
        return Err(ort::Error::new(format!("a weight of heads is not of the shape {shape:?}")));
    };
    Ok((Weight { data, outputs: heads * d, inner }, heads))
}

fn unpack(context: &ComputeContext) -> ort::Result<()> {
    let [x, starts] = [input(context, 0)?, input(context, 1)?];
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [_, width] = sizes_of(shape)?;
    let starts: Vec<usize> =
        starts.try_extract_tensor::<i64>()?.1.iter().map(|start| start.unsigned_abs() as usize).collect();
    let longest = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let mut y = output(context, 0, &[starts.len() - 1, longest, width])?;
    let y = y.try_extract_tensor_mut::<f32>()?.1;
    let examples = y.chunks_mut((longest * width).max(1)).zip(starts.windows(2));
    for_each(context, examples, |(y, pair)| {
        let (own, padding) = y.split_at_mut((pair[1] - pair[0]) * width);
        own.copy_from_slice(&x[pair[0] * width..pair[1] * width]);
        padding.fill(0.0);
    });
    Ok(())
}

//! The operators between products of integers, on a CPU: one pass over memory each, all threads at work.

use std::sync::{Mutex, PoisonError};

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::{TensorElementType, ValueRef};

use super::rows;
use crate::graph::Int8;

/// Elements that are worth handing to another thread.
const WORTH_A_THREAD: usize = 16 * 1024;

/// An operator between products.
#[derive(Debug)]
pub(super) struct Int8Operator(pub(super) Int8);

/// What a node of the operator runs.
#[derive(Debug)]
pub(super) struct Int8Kernel(Int8);

// === impl Int8Operator ===

impl Operator for Int8Operator {
    type Kernel<'attr> = Int8Kernel;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let floats = match self.0 {
            Int8::Quantize | Int8::MergeHeads => 1,
            Int8::SplitHeads | Int8::Relu => 2,
            Int8::NormQuantize | Int8::AddScaled | Int8::GatedGelu => 3,
            Int8::AddNormQuantize => 5,
        };
        let sizes = (self.0 == Int8::SplitHeads).then_some(TensorElementType::Int64);
        let all = std::iter::repeat_n(TensorElementType::Float32, floats).chain(sizes);
        all.map(OperatorInput::required).collect::<Vec<_>>()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        let (float, byte) = (TensorElementType::Float32, TensorElementType::Uint8);
        let all = match self.0 {
            Int8::AddScaled | Int8::SplitHeads => vec![float],
            Int8::AddNormQuantize => vec![byte, float, float],
            Int8::Quantize | Int8::NormQuantize | Int8::MergeHeads | Int8::GatedGelu | Int8::Relu => {
                vec![byte, float]
            }
        };
        all.into_iter().map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<Int8Kernel> {
        Ok(Int8Kernel(self.0))
    }
}

// === impl Int8Kernel ===

impl Kernel for Int8Kernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        match self.0 {
            Int8::Quantize => quantize(context),
            Int8::NormQuantize => norm_quantize(context),
            Int8::AddNormQuantize => add_norm_quantize(context),
            Int8::AddScaled => add_scaled(context),
            Int8::SplitHeads => split_heads(context),
            Int8::MergeHeads => merge_heads(context),
            Int8::GatedGelu => gated_gelu(context),
            Int8::Relu => relu(context),
        }
    }
}

fn quantize(context: &ComputeContext) -> ort::Result<()> {
    let x = input(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [rows, width] = matrix(shape)?;
    to_integers(context, [rows, width], |row, _, integers| {
        rows::quantize(&x[row * width..][..width], integers)
    })
}

fn norm_quantize(context: &ComputeContext) -> ort::Result<()> {
    let [x, weight, epsilon] = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let (weight, epsilon) = (weight.try_extract_tensor::<f32>()?.1, scalar(&epsilon)?);
    let [rows, width] = matrix(shape)?;
    to_integers(context, [rows, width], |row, spare, integers| {
        rows::norm_quantize(&x[row * width..][..width], weight, epsilon, spare, integers)
    })
}

fn add_norm_quantize(context: &ComputeContext) -> ort::Result<()> {
    let [x, weight, epsilon] = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
    let [y, scales] = [input(context, 3)?, input(context, 4)?];
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let (weight, epsilon) = (weight.try_extract_tensor::<f32>()?.1, scalar(&epsilon)?);
    let (y, scales) = (y.try_extract_tensor::<f32>()?.1, scales.try_extract_tensor::<f32>()?.1);
    let [rows, width] = matrix(shape)?;
    let mut output = output(context, 2, &[rows, width])?;
    let sums = output.try_extract_tensor_mut::<f32>()?.1;
    // each row of sums is written by the call for that row
    let sums: Vec<Mutex<&mut [f32]>> = sums.chunks_mut(width.max(1)).map(Mutex::new).collect();
    to_integers(context, [rows, width], |row, spare, integers| {
        let mut sum = sums[row].lock().unwrap_or_else(PoisonError::into_inner);
        let at = row * width;
        rows::add_scaled(&x[at..][..width], &y[at..][..width], scales[row], &mut sum);
        rows::norm_quantize(&sum, weight, epsilon, spare, integers)
    })
}

fn add_scaled(context: &ComputeContext) -> ort::Result<()> {
    let [x, y, scales] = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let (y, scales) = (y.try_extract_tensor::<f32>()?.1, scales.try_extract_tensor::<f32>()?.1);
    let [rows, width] = matrix(shape)?;
    let mut output = output(context, 0, &[rows, width])?;
    let sums = output.try_extract_tensor_mut::<f32>()?.1;
    by_rows(context, width, sums, |row, sum| {
        rows::add_scaled(&x[row * width..][..width], &y[row * width..][..width], scales[row], sum);
    })
}

fn split_heads(context: &ComputeContext) -> ort::Result<()> {
    let [y, scales, sizes] = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
    let (y, scales) = (y.try_extract_tensor::<f32>()?.1, scales.try_extract_tensor::<f32>()?.1);
    let sizes = sizes.try_extract_tensor::<i64>()?.1;
    let [batch, heads, positions, d_kv] = sizes_of(sizes)?;
    let mut output = output(context, 0, &[batch, heads, positions, d_kv])?;
    let split = output.try_extract_tensor_mut::<f32>()?.1;
    by_rows(context, d_kv, split, |row, out| {
        let (position, outer) = (row % positions, row / positions);
        let from = outer / heads * positions + position;
        rows::scale(&y[(from * heads + outer % heads) * d_kv..][..d_kv], scales[from], out);
    })
}

fn merge_heads(context: &ComputeContext) -> ort::Result<()> {
    let x = input(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [batch, heads, positions, d_kv] = sizes_of(shape)?;
    to_integers(context, [batch * positions, heads * d_kv], |row, spare, integers| {
        let (example, position) = (row / positions, row % positions);
        for (head, spare) in spare.chunks_mut(d_kv).enumerate() {
            let from = (example * heads + head) * positions + position;
            spare.copy_from_slice(&x[from * d_kv..][..d_kv]);
        }
        rows::quantize(spare, integers)
    })
}

fn gated_gelu(context: &ComputeContext) -> ort::Result<()> {
    let [gate, wide, scales] = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
    let (shape, gate) = gate.try_extract_tensor::<f32>()?;
    let (wide, scales) = (wide.try_extract_tensor::<f32>()?.1, scales.try_extract_tensor::<f32>()?.1);
    let [rows, width] = matrix(shape)?;
    to_integers(context, [rows, width], |row, spare, integers| {
        let at = row * width;
        rows::gated_gelu_quantize(&gate[at..][..width], &wide[at..][..width], scales[row], spare, integers)
    })
}

fn relu(context: &ComputeContext) -> ort::Result<()> {
    let [wide, scales] = [input(context, 0)?, input(context, 1)?];
    let (shape, wide) = wide.try_extract_tensor::<f32>()?;
    let scales = scales.try_extract_tensor::<f32>()?.1;
    let [rows, width] = matrix(shape)?;
    to_integers(context, [rows, width], |row, spare, integers| {
        rows::relu_quantize(&wide[row * width..][..width], scales[row], spare, integers)
    })
}

/// Makes the first two outputs, `[rows, width]` integers and `[rows, 1]` scales: `row` gets a row's number, room for a
/// row of floats and the place of the integers, and returns their scale.
fn to_integers(
    context: &ComputeContext,
    [rows, width]: [usize; 2],
    row: impl Fn(usize, &mut [f32], &mut [u8]) -> f32 + Sync + Send,
) -> ort::Result<()> {
    let mut integers = output(context, 0, &[rows, width])?;
    let mut scales = output(context, 1, &[rows, 1])?;
    let integers = integers.try_extract_tensor_mut::<u8>()?.1;
    let scales = scales.try_extract_tensor_mut::<f32>()?.1;
    let per_block = (WORTH_A_THREAD / width.max(1)).max(1);
    let blocks =
        integers.chunks_mut((per_block * width).max(1)).zip(scales.chunks_mut(per_block)).enumerate();
    for_each(context, blocks, |(block, (integers, scales))| {
        let mut spare = vec![0.0; width];
        for (i, (integers, scale)) in integers.chunks_mut(width).zip(scales).enumerate() {
            *scale = row(block * per_block + i, &mut spare, integers);
        }
    })
}

/// Calls `row` with the number and the place of each row of an output.
pub(super) fn by_rows(
    context: &ComputeContext,
    width: usize,
    output: &mut [f32],
    row: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> ort::Result<()> {
    let width = width.max(1);
    let per_block = (WORTH_A_THREAD / width).max(1);
    for_each(context, output.chunks_mut(per_block * width).enumerate(), |(block, output)| {
        for (i, output) in output.chunks_mut(width).enumerate() {
            row(block * per_block + i, output);
        }
    })
}

/// Does pieces of work on the session's threads.
fn for_each<T: Send>(
    context: &ComputeContext,
    pieces: impl Iterator<Item = T>,
    work: impl Fn(T) + Sync + Send,
) -> ort::Result<()> {
    let mut pieces: Vec<Mutex<Option<T>>> = pieces.map(|piece| Mutex::new(Some(piece))).collect();
    if let [only] = pieces.as_mut_slice() {
        only.get_mut().unwrap_or_else(PoisonError::into_inner).take().into_iter().for_each(work);
        return Ok(());
    }
    context.par_for(pieces.len(), pieces.len(), |i| {
        let piece = pieces[i].lock().unwrap_or_else(PoisonError::into_inner).take();
        piece.into_iter().for_each(&work);
    })
}

pub(super) fn input(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    context.input(index)?.ok_or_else(|| ort::Error::new(format!("input {index} is missing")))
}

pub(super) fn output<'c>(
    context: &'c ComputeContext,
    index: usize,
    shape: &[usize],
) -> ort::Result<ort::value::ValueRefMut<'c>> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    context.output(index, shape)?.ok_or_else(|| ort::Error::new(format!("output {index} is missing")))
}

fn scalar(value: &ValueRef<'_>) -> ort::Result<f32> {
    let (_, x) = value.try_extract_tensor::<f32>()?;
    x.first().copied().ok_or_else(|| ort::Error::new("a scalar is missing"))
}

fn matrix(shape: &[i64]) -> ort::Result<[usize; 2]> {
    sizes_of(shape)
}

pub(super) fn sizes_of<const N: usize>(sizes: &[i64]) -> ort::Result<[usize; N]> {
    let sizes: Vec<usize> = sizes.iter().map(|size| size.unsigned_abs() as usize).collect();
    sizes.try_into().map_err(|sizes| ort::Error::new(format!("{N} sizes were expected, not {sizes:?}")))
}

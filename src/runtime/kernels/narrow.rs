//! The operators on narrow numbers, on a CPU.

use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::{PrimitiveTensorElementType, TensorElementType};

use super::context::{WORTH_A_THREAD, for_each, input, output, sizes_of};
use super::native::attention::Numbers;
use super::native::cross::Stored;
use super::native::products::{Bf16Input, Bf16Weight, Int8Input, Int8Weight, Integers, Pairs};
use super::packed::{attend_to_encoder, multiply, self_attention};
use super::rows;
use crate::graph::{MOST_WEIGHTS, Narrow, NarrowOp};

/// An operator on narrow numbers.
#[derive(Debug)]
pub(super) struct NarrowOperator(pub(super) Narrow, pub(super) NarrowOp);

/// What a node of the operator runs.
#[derive(Debug)]
pub(super) struct NarrowKernel(Narrow, NarrowOp);

// === impl NarrowOperator ===

impl Operator for NarrowOperator {
    type Kernel<'attr> = NarrowKernel;

    fn name(&self) -> &str {
        self.1.name(self.0)
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let (float, int) = (TensorElementType::Float32, TensorElementType::Int64);
        let (rows, weight) = match self.0 {
            Narrow::Int8 => ([TensorElementType::Uint8, float], vec![TensorElementType::Int8, float]),
            Narrow::Bf16 => ([TensorElementType::Bfloat16, int], vec![TensorElementType::Bfloat16]),
        };
        let (needed, more) = match self.1 {
            NarrowOp::Rows => (vec![float], 0),
            NarrowOp::NormRows => (vec![float; 3], 0),
            NarrowOp::AddNormRows => (vec![float; 4], 0),
            NarrowOp::Product => ([&rows[..], &weight].concat(), MOST_WEIGHTS - 1),
            NarrowOp::GatedGelu => ([&rows[..], &weight, &weight].concat(), 0),
            NarrowOp::SelfAttention => (vec![float, int, float], 0),
            NarrowOp::CrossAttention => ([&[float, float, int][..], &weight, &weight].concat(), 0),
        };
        let more = weight.repeat(more).into_iter().map(OperatorInput::optional);
        needed.into_iter().map(OperatorInput::required).chain(more).collect::<Vec<_>>()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        let float = TensorElementType::Float32;
        let rows = match self.0 {
            Narrow::Int8 => vec![TensorElementType::Uint8, float],
            Narrow::Bf16 => vec![TensorElementType::Bfloat16],
        };
        let all = match self.1 {
            NarrowOp::Rows | NarrowOp::NormRows => rows,
            NarrowOp::AddNormRows => [&rows[..], &[float]].concat(),
            NarrowOp::Product | NarrowOp::GatedGelu | NarrowOp::SelfAttention | NarrowOp::CrossAttention => {
                vec![float]
            }
        };
        all.into_iter().map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<NarrowKernel> {
        Ok(NarrowKernel(self.0, self.1))
    }
}

// === impl NarrowKernel ===

impl Kernel for NarrowKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let Self(narrow, op) = *self;
        match (op, narrow) {
            (NarrowOp::Rows | NarrowOp::NormRows | NarrowOp::AddNormRows, Narrow::Int8) => {
                narrow_rows(context, narrow, op, rows::quantize)
            }
            (NarrowOp::Rows | NarrowOp::NormRows | NarrowOp::AddNormRows, Narrow::Bf16) => {
                narrow_rows(context, narrow, op, |x, bits: &mut [bf16]| {
                    rows::to_bf16(x, bits.reinterpret_cast_mut());
                    1.0
                })
            }
            (NarrowOp::Product | NarrowOp::GatedGelu, Narrow::Int8) => int8_product(context, op),
            (NarrowOp::Product | NarrowOp::GatedGelu, Narrow::Bf16) => bf16_product(context, op),
            (NarrowOp::SelfAttention, _) => self_attention(context, Numbers::Bf16),
            (NarrowOp::CrossAttention, Narrow::Int8) => int8_cross_attention(context),
            (NarrowOp::CrossAttention, Narrow::Bf16) => bf16_cross_attention(context),
        }
    }
}

/// Rows of the first input, normalised if the operator says so. `write` makes a row's numbers and returns their scale.
fn narrow_rows<T: PrimitiveTensorElementType + Copy + Default + Send>(
    context: &ComputeContext,
    narrow: Narrow,
    op: NarrowOp,
    write: impl Fn(&[f32], &mut [T]) -> f32 + Sync + Send,
) -> ort::Result<()> {
    let x = input(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [rows, width] = sizes_of(shape)?;
    let of = |row: usize| row * width..(row + 1) * width;
    if op == NarrowOp::Rows {
        return each_row(context, narrow, [rows, width], None, |row, _, _, numbers| {
            write(&x[of(row)], numbers)
        });
    }
    let [weight, epsilon] = [input(context, 1)?, input(context, 2)?];
    let (weight, epsilon) = (weight.try_extract_tensor::<f32>()?.1, epsilon.try_extract_tensor::<f32>()?.1);
    let &[epsilon] = epsilon else { return Err(ort::Error::new("epsilon is a number")) };
    if op == NarrowOp::NormRows {
        return each_row(context, narrow, [rows, width], None, |row, _, spare, numbers| {
            rows::norm(&x[of(row)], weight, epsilon, spare);
            write(spare, numbers)
        });
    }
    let added = input(context, 3)?;
    let added = added.try_extract_tensor::<f32>()?.1;
    let mut sums = output(context, if narrow == Narrow::Int8 { 2 } else { 1 }, &[rows, width])?;
    let sums = sums.try_extract_tensor_mut::<f32>()?.1;
    each_row(context, narrow, [rows, width], Some(sums), |row, sum, spare, numbers| {
        rows::add(&x[of(row)], &added[of(row)], sum);
        rows::norm(sum, weight, epsilon, spare);
        write(spare, numbers)
    })
}

/// Makes the first output, rows of numbers, and the scales of integers: `row` gets a row's number, its part of `beside`,
/// room for a row of floats and the place of the numbers, and returns their scale.
fn each_row<T: PrimitiveTensorElementType + Copy + Default + Send>(
    context: &ComputeContext,
    narrow: Narrow,
    [rows, width]: [usize; 2],
    beside: Option<&mut [f32]>,
    row: impl Fn(usize, &mut [f32], &mut [f32], &mut [T]) -> f32 + Sync + Send,
) -> ort::Result<()> {
    let padded = width.next_multiple_of(narrow.depth()).max(1);
    let mut numbers = output(context, 0, &[rows, padded])?;
    let numbers = numbers.try_extract_tensor_mut::<T>()?.1;
    let mut scales = if narrow == Narrow::Int8 { Some(output(context, 1, &[rows, 1])?) } else { None };
    let scales: &mut [f32] = match &mut scales {
        Some(scales) => scales.try_extract_tensor_mut::<f32>()?.1,
        None => &mut [],
    };
    let per_block = (WORTH_A_THREAD / padded).max(1);
    let mut scales = scales.chunks_mut(per_block);
    let mut beside = beside.map(|beside| beside.chunks_mut(per_block * width));
    let blocks = numbers.chunks_mut(per_block * padded).enumerate().map(|block| {
        let beside: &mut [f32] = beside.as_mut().and_then(Iterator::next).unwrap_or_default();
        (block, scales.next().unwrap_or_default(), beside)
    });
    for_each(context, blocks, |((block, numbers), scales, beside)| {
        let mut spare = vec![0.0; width];
        let mut beside = beside.chunks_mut(width.max(1));
        for (i, numbers) in numbers.chunks_mut(padded).enumerate() {
            let beside: &mut [f32] = beside.next().unwrap_or_default();
            let (own, padding) = numbers.split_at_mut(width);
            let scale = row(block * per_block + i, beside, &mut spare, own);
            padding.fill(T::default());
            if let Some(place) = scales.get_mut(i) {
                *place = scale;
            }
        }
    });
    Ok(())
}

fn int8_product(context: &ComputeContext, op: NarrowOp) -> ort::Result<()> {
    let [values, scales] = [input(context, 0)?, input(context, 1)?];
    let (shape, values) = values.try_extract_tensor::<u8>()?;
    let [rows, width] = sizes_of(shape)?;
    let x = Int8Input { values, scales: scales.try_extract_tensor::<f32>()?.1, width };
    let mut tensors = Vec::new();
    for index in (2..context.num_inputs()?).step_by(2) {
        tensors.push([input(context, index)?, input(context, index + 1)?]);
    }
    let mut weights = Vec::with_capacity(tensors.len());
    for [panels, scales] in &tensors {
        let (panels, scales) = (panels.try_extract_tensor::<i8>()?.1, scales.try_extract_tensor::<f32>()?.1);
        weights.push(Integers::new(x, Int8Weight { panels, scales }));
    }
    multiply(context, op == NarrowOp::GatedGelu, rows, &weights)
}

fn bf16_product(context: &ComputeContext, op: NarrowOp) -> ort::Result<()> {
    let [values, outputs] = [input(context, 0)?, input(context, 1)?];
    let (shape, values) = values.try_extract_tensor::<bf16>()?;
    let [rows, width] = sizes_of(shape)?;
    let &[outputs] = outputs.try_extract_tensor::<i64>()?.1 else {
        return Err(ort::Error::new("the outputs of a weight are a number"));
    };
    let x = Bf16Input { values: values.reinterpret_cast(), rows, width };
    let tensors = (2..context.num_inputs()?).map(|index| input(context, index));
    let tensors = tensors.collect::<ort::Result<Vec<_>>>()?;
    let mut weights = Vec::with_capacity(tensors.len());
    for panels in &tensors {
        let panels = panels.try_extract_tensor::<bf16>()?.1.reinterpret_cast();
        weights.push(Pairs::new(x, Bf16Weight { panels, outputs: outputs.unsigned_abs() as usize }));
    }
    multiply(context, op == NarrowOp::GatedGelu, rows, &weights)
}

fn int8_cross_attention(context: &ComputeContext) -> ort::Result<()> {
    let [keys, of_keys, values, of_values] =
        [input(context, 3)?, input(context, 4)?, input(context, 5)?, input(context, 6)?];
    let (of_heads, keys) = keys.try_extract_tensor::<i8>()?;
    let [_, heads, _, _] = sizes_of(of_heads)?;
    let keys = Stored::Int8 { values: keys, scales: of_keys.try_extract_tensor::<f32>()?.1 };
    let values = Stored::Int8 {
        values: values.try_extract_tensor::<i8>()?.1,
        scales: of_values.try_extract_tensor::<f32>()?.1,
    };
    attend_to_encoder(context, [keys, values], heads)
}

fn bf16_cross_attention(context: &ComputeContext) -> ort::Result<()> {
    let [keys, values] = [input(context, 3)?, input(context, 4)?];
    let (of_heads, keys) = keys.try_extract_tensor::<bf16>()?;
    let [_, heads, d, _] = sizes_of(of_heads)?;
    let values = values.try_extract_tensor::<bf16>()?.1;
    let both = [keys, values].map(|bits| Stored::Bf16 { bits: bits.reinterpret_cast(), rows: heads * d });
    attend_to_encoder(context, both, heads)
}

//! The operators on integers, on a CPU.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::context::{WORTH_A_THREAD, each, for_each, input, output, sizes_of};
use super::native::attention::Numbers;
use super::native::cross::Stored;
use super::native::products::{self, Int8Input, Int8Weight};
use super::packed::{attend_to_encoder, self_attention};
use super::rows;
use crate::graph::{INT8_DEPTH, Int8, MOST_WEIGHTS};

/// An operator on integers.
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
        let (float, byte) = (TensorElementType::Float32, TensorElementType::Uint8);
        let weight = [TensorElementType::Int8, float];
        let (needed, more) = match self.0 {
            Int8::Quantize => (vec![float], 0),
            Int8::NormQuantize => (vec![float; 3], 0),
            Int8::AddNormQuantize => (vec![float; 4], 0),
            Int8::Product => ([[byte, float], weight].concat(), MOST_WEIGHTS - 1),
            Int8::GatedGelu => ([[byte, float], weight, weight].concat(), 0),
            Int8::SelfAttention => (vec![float, TensorElementType::Int64, float], 0),
            Int8::CrossAttention => {
                ([&[float, float, TensorElementType::Int64][..], &weight, &weight].concat(), 0)
            }
        };
        let more = weight.into_iter().cycle().take(2 * more).map(OperatorInput::optional);
        needed.into_iter().map(OperatorInput::required).chain(more).collect::<Vec<_>>()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        let (float, byte) = (TensorElementType::Float32, TensorElementType::Uint8);
        let all = match self.0 {
            Int8::Product | Int8::GatedGelu | Int8::SelfAttention | Int8::CrossAttention => vec![float],
            Int8::Quantize | Int8::NormQuantize => vec![byte, float],
            Int8::AddNormQuantize => vec![byte, float, float],
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
            Int8::NormQuantize | Int8::AddNormQuantize => norm_quantize(context),
            Int8::Product | Int8::GatedGelu => product(context, self.0),
            Int8::SelfAttention => self_attention(context, Numbers::Bf16),
            Int8::CrossAttention => cross_attention(context),
        }
    }
}

fn quantize(context: &ComputeContext) -> ort::Result<()> {
    let x = input(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [rows, width] = sizes_of(shape)?;
    to_integers(context, [rows, width], None, |row, _, _, integers| {
        rows::quantize(&x[row * width..][..width], integers)
    })
}

fn norm_quantize(context: &ComputeContext) -> ort::Result<()> {
    let [x, weight, epsilon] = [input(context, 0)?, input(context, 1)?, input(context, 2)?];
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let (weight, epsilon) = (weight.try_extract_tensor::<f32>()?.1, epsilon.try_extract_tensor::<f32>()?.1);
    let &[epsilon] = epsilon else { return Err(ort::Error::new("epsilon is a number")) };
    let [rows, width] = sizes_of(shape)?;
    let of = |row: usize| row * width..(row + 1) * width;
    if context.num_inputs()? < 4 {
        return to_integers(context, [rows, width], None, |row, _, spare, integers| {
            rows::norm_quantize(&x[of(row)], weight, epsilon, spare, integers)
        });
    }
    let added = input(context, 3)?;
    let added = added.try_extract_tensor::<f32>()?.1;
    let mut sums = output(context, 2, &[rows, width])?;
    let sums = sums.try_extract_tensor_mut::<f32>()?.1;
    to_integers(context, [rows, width], Some(sums), |row, sum, spare, integers| {
        rows::add(&x[of(row)], &added[of(row)], sum);
        rows::norm_quantize(sum, weight, epsilon, spare, integers)
    })
}

fn product(context: &ComputeContext, op: Int8) -> ort::Result<()> {
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
        weights.push(Int8Weight { panels, scales });
    }
    let each = |pieces: usize, work: &(dyn Fn(usize) + Sync)| each(context, pieces, work);
    if op == Int8::GatedGelu {
        let [gate, wide] = weights[..] else { return Err(ort::Error::new("a gate and what it gates")) };
        let mut y = output(context, 0, &[rows, gate.scales.len() / 2])?;
        products::int8_gated(&each, x, [gate, wide], y.try_extract_tensor_mut::<f32>()?.1);
        return Ok(());
    }
    let outputs = weights.iter().map(|weight| weight.scales.len() / 2).sum();
    let mut y = output(context, 0, &[rows, outputs])?;
    products::int8_product(&each, x, &weights, y.try_extract_tensor_mut::<f32>()?.1);
    Ok(())
}

fn cross_attention(context: &ComputeContext) -> ort::Result<()> {
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

/// Makes the first two outputs, `[rows, width]` integers and `[rows, 1]` scales: `row` gets a row's number, its part of
/// `beside`, room for a row of floats and the place of the integers, and returns their scale.
fn to_integers(
    context: &ComputeContext,
    [rows, width]: [usize; 2],
    beside: Option<&mut [f32]>,
    row: impl Fn(usize, &mut [f32], &mut [f32], &mut [u8]) -> f32 + Sync + Send,
) -> ort::Result<()> {
    let padded = width.next_multiple_of(INT8_DEPTH).max(1);
    let mut integers = output(context, 0, &[rows, padded])?;
    let mut scales = output(context, 1, &[rows, 1])?;
    let integers = integers.try_extract_tensor_mut::<u8>()?.1;
    let scales = scales.try_extract_tensor_mut::<f32>()?.1;
    let per_block = (WORTH_A_THREAD / padded).max(1);
    let mut beside = beside.map(|beside| beside.chunks_mut(per_block * width));
    let blocks = integers.chunks_mut(per_block * padded).zip(scales.chunks_mut(per_block)).enumerate();
    let blocks = blocks.map(|block| {
        let beside: &mut [f32] = beside.as_mut().and_then(Iterator::next).unwrap_or_default();
        (block, beside)
    });
    for_each(context, blocks, |((block, (integers, scales)), beside)| {
        let mut spare = vec![0.0; width];
        let mut beside = beside.chunks_mut(width.max(1));
        for (i, (integers, scale)) in integers.chunks_mut(padded).zip(scales).enumerate() {
            let beside: &mut [f32] = beside.next().unwrap_or_default();
            *scale = row(block * per_block + i, beside, &mut spare, &mut integers[..width]);
        }
    });
    Ok(())
}

//! A step of attention over a cache in blocks ([`Graph::cached_attention`]), on a CPU and on a GPU.
//!
//! [`Graph::cached_attention`]: crate::graph::Graph::cached_attention
#![expect(
    unsafe_code,
    reason = "the cache is an input that is written in place; each access says why it may be"
)]

use std::ffi::CString;

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::{DynTensorValueType, TensorElementType};

use super::context::{by_rows, input, output, sizes_of};
use super::launch::{Arguments, Shape, launch};
use super::operator::OnGpu;
use super::rows;
use crate::graph::CACHED_ATTENTION;

/// Elements of the widest head that the kernels for a GPU take.
const WIDEST_HEAD: i64 = 256;

/// The operator on a CPU, in f32.
#[derive(Debug)]
pub(super) struct OnCpu;

/// The operator on a GPU, on tensors of one element type.
#[derive(Debug)]
pub(super) struct OnCuda(pub(super) TensorElementType);

/// What a node runs on a CPU.
#[derive(Debug)]
pub(super) struct CpuStep {
    layer: usize,
}

/// What a node runs on a GPU.
#[derive(Debug)]
pub(super) struct CudaStep {
    layer: usize,
    /// For elements one by one, and packed.
    names: [CString; 2],
    pack: i64,
}

/// A layer's part of the cache.
#[derive(Clone, Copy)]
struct Layer {
    start: *mut f32,
    /// Elements of a block, in all layers.
    block: usize,
    /// Elements of the keys of a block.
    keys: usize,
    positions: usize,
    d: usize,
}

// SAFETY: a row writes only at its own position, which no other row reads or writes; see `attend`.
unsafe impl Sync for Layer {}
// SAFETY: as above.
unsafe impl Send for Layer {}

fn inputs(element: TensorElementType) -> Vec<OperatorInput> {
    let x = || OperatorInput::required(element);
    let whole = || OperatorInput::required(TensorElementType::Int64);
    vec![x(), x(), whole(), whole(), x()]
}

fn layer(context: &KernelContext<'_>) -> ort::Result<usize> {
    let layer: Option<i64> = context.get("layer");
    let layer = layer.and_then(|layer| usize::try_from(layer).ok());
    layer.ok_or_else(|| ort::Error::new("cached attention without a layer"))
}

// === impl OnCpu ===

impl Operator for OnCpu {
    type Kernel<'attr> = CpuStep;

    fn name(&self) -> &str {
        CACHED_ATTENTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs(TensorElementType::Float32)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<CpuStep> {
        Ok(CpuStep { layer: layer(context)? })
    }
}

// === impl OnCuda ===

impl Operator for OnCuda {
    type Kernel<'attr> = CudaStep;

    fn name(&self) -> &str {
        CACHED_ATTENTION
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some("CUDAExecutionProvider")
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs(self.0)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(self.0)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<CudaStep> {
        let (names, pack) = match self.0 {
            TensorElementType::Bfloat16 => ([c"cached_attention_bf16", c"cached_attention_bf16_packed"], 8),
            TensorElementType::Float16 => ([c"cached_attention_f16", c"cached_attention_f16_packed"], 8),
            _ => ([c"cached_attention_f32", c"cached_attention_f32_packed"], 4),
        };
        Ok(CudaStep { layer: layer(context)?, names: names.map(Into::into), pack })
    }
}

// === impl CpuStep ===

impl Kernel for CpuStep {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        attend(context, self.layer)
    }
}

/// A head of a row at a time.
fn attend(context: &ComputeContext, layer: usize) -> ort::Result<()> {
    let [qkv, cache, table, ages, positions] = [0, 1, 2, 3, 4].map(|index| input(context, index));
    let (qkv, cache, table, ages, positions) = (qkv?, cache?, table?, ages?, positions?);
    let (shape, qkv) = qkv.try_extract_tensor::<f32>()?;
    let [rows, width] = sizes_of(shape)?;
    let (shape, table) = table.try_extract_tensor::<i64>()?;
    let [_, row_blocks] = sizes_of(shape)?;
    let ages = ages.try_extract_tensor::<i64>()?.1;
    let positions = positions.try_extract_tensor::<f32>()?.1;
    let cache = cache.downcast::<DynTensorValueType>()?;
    let [blocks, layers, _, heads, in_block, d] = sizes_of(cache.shape())?;
    for (row, &age) in ages.iter().enumerate() {
        let known =
            usize::try_from(age).ok().and_then(|age| table.get(row * row_blocks..)?.get(..=age / in_block));
        let is_block = |&block: &i64| usize::try_from(block).is_ok_and(|block| block < blocks);
        if !known.is_some_and(|own| own.len() <= row_blocks && own.iter().all(is_block)) {
            return Err(ort::Error::new(format!("row {row} has no place in the cache for position {age}")));
        }
    }
    let keys = heads * in_block * d;
    let start = cache.data_ptr().cast::<f32>().cast_mut().wrapping_add(layer * 2 * keys);
    let layer = Layer { start, block: layers * 2 * keys, keys, positions: in_block, d };
    let inner = width / 3;
    let farthest = positions.len() / heads.max(1) - 1;
    let mut mixed = output(context, 0, &[rows, inner])?;
    by_rows(context, inner, mixed.try_extract_tensor_mut::<f32>()?.1, |row, mixed| {
        let age = ages[row].unsigned_abs() as usize;
        let own = &table[row * row_blocks..][..=age / in_block];
        let block = |i: usize| own[i].unsigned_abs() as usize;
        let [mut scores, mut bias, mut p] = [(); 3].map(|()| vec![0.0; age + 1]);
        for (head, mixed) in mixed.chunks_mut(d).enumerate() {
            let part = |part: usize| &qkv[row * width + part * inner + head * d..][..d];
            // SAFETY: the place is inside the cache, as was checked above. The block that a row writes to is that row's
            // alone, and of its blocks a head has its own part.
            let (key, value) = unsafe { layer.place(block(age / in_block), head, age % in_block) };
            key.copy_from_slice(part(1));
            value.copy_from_slice(part(2));
            // what has been written is read from here on
            let of_block = |i: usize| {
                // SAFETY: as above; positions up to the row's age were written, and are not while the step reads them.
                unsafe { layer.read(block(i), head, in_block.min(age + 1 - i * in_block)) }
            };
            for (i, scores) in scores.chunks_mut(in_block).enumerate() {
                rows::dot_each(part(0), of_block(i).0, scores);
            }
            for (back, bias) in bias.iter_mut().rev().enumerate() {
                *bias = positions[back.min(farthest) * heads + head];
            }
            rows::softmax(&scores, &bias, &[], &mut p);
            mixed.fill(0.0);
            for (i, p) in p.chunks(in_block).enumerate() {
                rows::add_each(p, of_block(i).1, mixed);
            }
        }
    });
    Ok(())
}

// === impl Layer ===

impl Layer {
    fn head(self, block: usize, head: usize) -> *mut f32 {
        self.start.wrapping_add(block * self.block + head * self.positions * self.d)
    }

    /// The key and the value of a position.
    ///
    /// # Safety
    /// The block is of the cache, and nothing else reads or writes that position of the head meanwhile.
    unsafe fn place<'a>(self, block: usize, head: usize, position: usize) -> (&'a mut [f32], &'a mut [f32]) {
        let key = self.head(block, head).wrapping_add(position * self.d);
        // SAFETY: both are inside the block, and keys and values do not overlap.
        unsafe {
            (
                std::slice::from_raw_parts_mut(key, self.d),
                std::slice::from_raw_parts_mut(key.wrapping_add(self.keys), self.d),
            )
        }
    }

    /// The keys and the values of the first positions of a block.
    ///
    /// # Safety
    /// The block is of the cache, and nothing writes those positions of the head meanwhile.
    unsafe fn read<'a>(self, block: usize, head: usize, positions: usize) -> (&'a [f32], &'a [f32]) {
        let keys = self.head(block, head).cast_const();
        // SAFETY: both are inside the block.
        unsafe {
            (
                std::slice::from_raw_parts(keys, positions * self.d),
                std::slice::from_raw_parts(keys.wrapping_add(self.keys), positions * self.d),
            )
        }
    }
}

// === impl CudaStep ===

impl Kernel for CudaStep {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let [qkv, cache, table, ages, positions] = [0, 1, 2, 3, 4].map(|index| OnGpu::needed(context, index));
        let (qkv, cache, table, ages, positions) = (qkv?, cache?, table?, ages?, positions?);
        let &[_, layers, _, heads, _, d] = cache.shape.as_slice() else {
            return Err(ort::Error::new(format!("a cache of the shape {:?}", cache.shape)));
        };
        if d > WIDEST_HEAD {
            return Err(ort::Error::new(format!(
                "heads of {d}; a GPU takes up to {WIDEST_HEAD} in generation"
            )));
        }
        let rows = qkv.elements() / qkv.width().max(1);
        let mixed = OnGpu::output(context, 0, &[rows, heads * d])?;
        let mut arguments = Arguments::default();
        arguments.pointers([qkv.data, cache.data, table.data, ages.data, positions.data, mixed]);
        arguments.int64(rows * heads);
        let distances = positions.elements() / heads.max(1);
        for size in [heads, d, self.layer as i64, layers, table.width(), distances] {
            arguments.int32(size);
        }
        let name = &self.names[usize::from(d % self.pack == 0)];
        let stream = context.stream()?.map_or(std::ptr::null_mut(), |stream| stream.as_ptr().cast());
        launch(name, Shape::Rows(rows * heads), stream, &mut arguments)
            .map_err(|error| ort::Error::new(format!("kernel {name:?}: {error}")))
    }
}

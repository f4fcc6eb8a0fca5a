//! The operators as ONNX Runtime sees them: inputs, outputs, and how each launches its kernel.

use std::ffi::{CString, c_void};

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::{DynTensorValueType, TensorElementType};

use super::launch::{Arguments, Shape, TILE, launch};
use crate::graph::Fused;

/// A fused operator on tensors of one element type.
#[derive(Debug)]
pub(super) struct CudaOperator {
    fused: Fused,
    element: TensorElementType,
}

/// What a node of the operator runs.
#[derive(Debug)]
pub(super) struct CudaKernel {
    fused: Fused,
    /// Elements that lie together in a packed kernel.
    pack: i64,
    /// For elements one by one, and packed; of [`Fused::Attention`] one; of [`Fused::AttentionGrad`] for queries and for keys.
    names: Vec<CString>,
}

/// A tensor on the GPU.
pub(super) struct OnGpu {
    pub(super) data: *mut c_void,
    pub(super) shape: Vec<i64>,
}

// === impl CudaOperator ===

impl CudaOperator {
    pub(super) fn new(fused: Fused, element: TensorElementType) -> Self {
        Self { fused, element }
    }
}

impl Operator for CudaOperator {
    type Kernel<'attr> = CudaKernel;

    fn name(&self) -> &str {
        self.fused.name()
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some("CUDAExecutionProvider")
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs(self.fused, self.element)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        outputs(self.fused, self.element)
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<CudaKernel> {
        let (element, pack) = match self.element {
            TensorElementType::Bfloat16 => ("bf16", 8),
            _ => ("f32", 4),
        };
        let by_row = |base: &str| vec![format!("{base}_{element}"), format!("{base}_{element}_packed")];
        let names = match self.fused {
            Fused::GatedGelu => by_row("gated_gelu"),
            Fused::GatedGeluGrad => by_row("gated_gelu_grad"),
            Fused::ReluGrad => by_row("relu_grad"),
            Fused::RmsNorm => by_row("rms_norm"),
            Fused::RmsNormGrad => by_row("rms_norm_grad"),
            Fused::BiasedSoftmax => by_row("biased_softmax"),
            Fused::SoftmaxGrad => by_row("softmax_grad"),
            Fused::Attention => vec![format!("attention_{element}_64")],
            Fused::AttentionGrad => {
                ["queries", "keys"].map(|owned| format!("attention_grad_{owned}_{element}_64")).into()
            }
        };
        let names =
            names.into_iter().map(|name| CString::new(name).map_err(|e| ort::Error::new(e.to_string())));
        Ok(CudaKernel { fused: self.fused, pack, names: names.collect::<ort::Result<_>>()? })
    }
}

/// The inputs of an operator on tensors of `element`.
pub(super) fn inputs(fused: Fused, element: TensorElementType) -> Vec<OperatorInput> {
    let x = || OperatorInput::required(element);
    let statistic = || OperatorInput::required(TensorElementType::Float32);
    let optional = || OperatorInput::optional(element);
    match fused {
        Fused::GatedGelu => vec![x()],
        Fused::GatedGeluGrad | Fused::ReluGrad | Fused::SoftmaxGrad => vec![x(), x()],
        Fused::RmsNorm => vec![x(), x(), statistic(), optional()],
        Fused::RmsNormGrad => vec![x(), x(), statistic(), x(), optional()],
        Fused::BiasedSoftmax | Fused::Attention => vec![x(), x(), optional()],
        Fused::AttentionGrad => vec![x(), x(), x(), statistic(), x(), optional()],
    }
}

/// The outputs of an operator on tensors of `element`.
pub(super) fn outputs(fused: Fused, element: TensorElementType) -> Vec<OperatorOutput> {
    let x = OperatorOutput::required(element);
    let statistic = OperatorOutput::required(TensorElementType::Float32);
    match fused {
        Fused::Attention | Fused::AttentionGrad => vec![x, statistic],
        Fused::RmsNorm => vec![x, statistic, OperatorOutput::optional(element)],
        _ => vec![x],
    }
}

// === impl OnGpu ===

impl OnGpu {
    fn input(context: &ComputeContext, index: usize) -> ort::Result<Option<Self>> {
        if index >= context.num_inputs()? {
            return Ok(None);
        }
        let Some(value) = context.input(index)? else { return Ok(None) };
        let tensor = value.downcast::<DynTensorValueType>()?;
        Ok(Some(Self { data: tensor.data_ptr().cast_mut().cast(), shape: tensor.shape().to_vec() }))
    }

    pub(super) fn needed(context: &ComputeContext, index: usize) -> ort::Result<Self> {
        Self::input(context, index)?.ok_or_else(|| ort::Error::new(format!("input {index} is missing")))
    }

    /// Where an input lies; null if there is none.
    fn data(context: &ComputeContext, index: usize) -> ort::Result<*mut c_void> {
        Ok(Self::input(context, index)?.map_or(std::ptr::null_mut(), |input| input.data))
    }

    pub(super) fn output(context: &ComputeContext, index: usize, shape: &[i64]) -> ort::Result<*mut c_void> {
        let value = context.output(index, shape.to_vec())?;
        let value = value.ok_or_else(|| ort::Error::new(format!("output {index} is missing")))?;
        Ok(value.downcast::<DynTensorValueType>()?.data_ptr().cast_mut().cast())
    }

    pub(super) fn elements(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Size of the last axis.
    pub(super) fn width(&self) -> i64 {
        self.shape.last().copied().unwrap_or(1)
    }
}

// === impl CudaKernel ===

impl Kernel for CudaKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let first = OnGpu::needed(context, 0)?;
        match self.fused {
            Fused::Attention | Fused::AttentionGrad => self.attend(context, &first),
            _ => self.pass(context, &first),
        }
    }
}

impl CudaKernel {
    /// A thread works on elements, or a warp or a block on a row.
    fn pass(&self, context: &ComputeContext, first: &OnGpu) -> ort::Result<()> {
        let rows = first.elements() / first.width().max(1);
        let mut width = first.width();
        let output = |index| OnGpu::output(context, index, &first.shape);
        let mut arguments = Arguments::default();
        match self.fused {
            Fused::GatedGelu => {
                width /= 2;
                let mut shape = first.shape.clone();
                shape.pop();
                shape.push(width);
                arguments.pointers([first.data, OnGpu::output(context, 0, &shape)?]);
                arguments.int64(rows).int32(width);
            }
            Fused::GatedGeluGrad => {
                width /= 2;
                let dy = OnGpu::needed(context, 1)?;
                arguments.pointers([first.data, dy.data, output(0)?]).int64(rows).int32(width);
            }
            Fused::RmsNorm => {
                let [scale, epsilon] = [1, 2].map(|index| OnGpu::needed(context, index));
                let added = OnGpu::data(context, 3)?;
                let mut statistic = first.shape.clone();
                statistic.pop();
                statistic.push(1);
                let inverse = OnGpu::output(context, 1, &statistic)?;
                let sums = if added.is_null() { added } else { output(2)? };
                let [scale, epsilon] = [scale?.data, epsilon?.data];
                arguments
                    .pointers([first.data, scale, epsilon, added, output(0)?, inverse, sums])
                    .int32(width);
            }
            Fused::RmsNormGrad => {
                let [scale, inverse, dy] = [1, 2, 3].map(|index| OnGpu::needed(context, index));
                let before = OnGpu::data(context, 4)?;
                let pointers = [first.data, scale?.data, inverse?.data, dy?.data, before, output(0)?];
                arguments.pointers(pointers).int32(width);
            }
            Fused::BiasedSoftmax => {
                let position = OnGpu::needed(context, 1)?;
                let position_rows = position.elements() / width.max(1);
                let inner = match OnGpu::input(context, 2)? {
                    Some(hidden) => rows / (hidden.elements() / width.max(1)).max(1),
                    None => position_rows,
                };
                arguments.pointers([first.data, position.data, OnGpu::data(context, 2)?, output(0)?]);
                arguments.int64(rows).int32(width).int64(inner.max(1)).int64(position_rows);
            }
            Fused::ReluGrad | Fused::SoftmaxGrad => {
                let dy = OnGpu::needed(context, 1)?;
                arguments.pointers([first.data, dy.data, output(0)?]).int64(rows).int32(width);
            }
            Fused::Attention | Fused::AttentionGrad => unreachable!("attention works on tiles"),
        }
        let packed = width % self.pack == 0;
        let shape = match self.fused {
            Fused::GatedGelu | Fused::GatedGeluGrad | Fused::ReluGrad => {
                Shape::Elements(rows * width / if packed { self.pack } else { 1 })
            }
            Fused::RmsNorm | Fused::RmsNormGrad => Shape::Blocks(rows),
            _ => Shape::Rows(rows),
        };
        self.launch(context, usize::from(packed), shape, &mut arguments)
    }

    /// A block works on 64 queries or keys of a head.
    fn attend(&self, context: &ComputeContext, qkv: &OnGpu) -> ort::Result<()> {
        let position = OnGpu::needed(context, 1)?;
        let &[examples, heads, length, _] = position.shape.as_slice() else {
            return Err(ort::Error::new(format!("position biases of the shape {:?}", position.shape)));
        };
        let (rows, inner) = (qkv.elements() / qkv.width().max(1), qkv.width() / 3);
        let batch = rows / length.max(1);
        let sizes = [heads, length, inner / heads.max(1), i64::from(examples == batch)];
        let shape = Shape::Blocks((length + TILE - 1) / TILE * batch * heads);
        let statistics = [batch, heads, length];
        let mut arguments = Arguments::default();
        if self.fused == Fused::Attention {
            let y = OnGpu::output(context, 0, &[rows, inner])?;
            let log_sum = OnGpu::output(context, 1, &statistics)?;
            arguments.pointers([qkv.data, position.data, OnGpu::data(context, 2)?, y, log_sum]);
        } else {
            let [y, log_sum, dy] = [2, 3, 4].map(|index| OnGpu::needed(context, index));
            let hidden = OnGpu::data(context, 5)?;
            let d_qkv = OnGpu::output(context, 0, &qkv.shape)?;
            let delta = OnGpu::output(context, 1, &statistics)?;
            arguments.pointers([
                qkv.data,
                position.data,
                hidden,
                y?.data,
                log_sum?.data,
                dy?.data,
                d_qkv,
                delta,
            ]);
        }
        for size in sizes {
            arguments.int32(size);
        }
        (0..self.names.len()).try_for_each(|kernel| self.launch(context, kernel, shape, &mut arguments))
    }

    fn launch(
        &self,
        context: &ComputeContext,
        kernel: usize,
        shape: Shape,
        arguments: &mut Arguments,
    ) -> ort::Result<()> {
        let stream = context.stream()?.map_or(std::ptr::null_mut(), |stream| stream.as_ptr().cast());
        let name = &self.names[kernel];
        launch(name, shape, stream, arguments)
            .map_err(|error| ort::Error::new(format!("kernel {name:?}: {error}")))
    }
}

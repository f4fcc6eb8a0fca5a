//! The operators as ONNX Runtime sees them: inputs, outputs, and how each launches its kernel.

use std::ffi::{CString, c_void};

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::{DynTensorValueType, TensorElementType};

use super::launch::{Arguments, Shape, launch};
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
    /// For elements one by one, and four at a time.
    names: [CString; 2],
}

/// A tensor on the GPU.
struct OnGpu {
    data: *mut c_void,
    shape: Vec<i64>,
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
        (0..outputs(self.fused)).map(|_| OperatorOutput::required(self.element))
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<CudaKernel> {
        let base = match self.fused {
            Fused::GatedGelu => "gated_gelu",
            Fused::GatedGeluGrad => "gated_gelu_grad",
            Fused::RmsNormGrad => "rms_norm_grad",
            Fused::BiasedSoftmax => "biased_softmax",
            Fused::SoftmaxGrad => "softmax_grad",
        };
        let element = if self.element == TensorElementType::Bfloat16 { "bf16" } else { "f32" };
        let names = [format!("{base}_{element}"), format!("{base}_{element}x4")];
        let [one, four] = names.map(|name| CString::new(name).map_err(|e| ort::Error::new(e.to_string())));
        Ok(CudaKernel { fused: self.fused, names: [one?, four?] })
    }
}

/// The inputs of an operator on tensors of `element`.
pub(super) fn inputs(fused: Fused, element: TensorElementType) -> Vec<OperatorInput> {
    let x = || OperatorInput::required(element);
    match fused {
        Fused::GatedGelu | Fused::SoftmaxGrad => vec![x(), x()],
        Fused::GatedGeluGrad => vec![x(), x(), x()],
        Fused::RmsNormGrad => {
            let inverse = OperatorInput::required(TensorElementType::Float32);
            vec![x(), x(), inverse, x(), OperatorInput::optional(element)]
        }
        Fused::BiasedSoftmax => vec![x(), x(), OperatorInput::optional(element)],
    }
}

/// How many outputs an operator has.
pub(super) fn outputs(fused: Fused) -> usize {
    if fused == Fused::GatedGeluGrad { 2 } else { 1 }
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

    fn needed(context: &ComputeContext, index: usize) -> ort::Result<Self> {
        Self::input(context, index)?.ok_or_else(|| ort::Error::new(format!("input {index} is missing")))
    }

    fn output(context: &ComputeContext, index: usize, shape: &[i64]) -> ort::Result<*mut c_void> {
        let value = context.output(index, shape.to_vec())?;
        let value = value.ok_or_else(|| ort::Error::new(format!("output {index} is missing")))?;
        Ok(value.downcast::<DynTensorValueType>()?.data_ptr().cast_mut().cast())
    }

    fn elements(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Size of the last axis.
    fn width(&self) -> i64 {
        self.shape.last().copied().unwrap_or(1)
    }
}

// === impl CudaKernel ===

impl Kernel for CudaKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let stream = context.stream()?.map_or(std::ptr::null_mut(), |stream| stream.as_ptr().cast());
        let first = OnGpu::needed(context, 0)?;
        let count = first.elements();
        let (width, rows) = (first.width(), count / first.width().max(1));
        let output = |index| OnGpu::output(context, index, &first.shape);
        let mut arguments = Arguments::default();
        let by_row = match self.fused {
            Fused::GatedGelu => {
                let wide = OnGpu::needed(context, 1)?;
                arguments.pointers([first.data, wide.data, output(0)?]).int64(count);
                false
            }
            Fused::GatedGeluGrad => {
                let [wide, dy] = [OnGpu::needed(context, 1)?, OnGpu::needed(context, 2)?];
                arguments.pointers([first.data, wide.data, dy.data, output(0)?, output(1)?]).int64(count);
                false
            }
            Fused::RmsNormGrad => {
                let [scale, inverse, dy] = [1, 2, 3].map(|index| OnGpu::needed(context, index));
                let before = OnGpu::input(context, 4)?.map_or(std::ptr::null_mut(), |before| before.data);
                let pointers = [first.data, scale?.data, inverse?.data, dy?.data, before, output(0)?];
                arguments.pointers(pointers).int64(rows).width(width);
                true
            }
            Fused::BiasedSoftmax => {
                let position = OnGpu::needed(context, 1)?;
                let position_rows = position.elements() / width.max(1);
                let hidden = OnGpu::input(context, 2)?;
                let inner = match &hidden {
                    Some(hidden) => rows / (hidden.elements() / width.max(1)).max(1),
                    None => position_rows,
                };
                let hidden = hidden.map_or(std::ptr::null_mut(), |hidden| hidden.data);
                arguments.pointers([first.data, position.data, hidden, output(0)?]);
                arguments.int64(rows).width(width).int64(inner.max(1)).int64(position_rows);
                true
            }
            Fused::SoftmaxGrad => {
                let dy = OnGpu::needed(context, 1)?;
                arguments.pointers([first.data, dy.data, output(0)?]).int64(rows).width(width);
                true
            }
        };
        if count == 0 {
            return Ok(());
        }
        let packed = if by_row { width % 4 == 0 } else { count % 4 == 0 };
        let shape =
            if by_row { Shape::Rows(rows) } else { Shape::Elements(if packed { count / 4 } else { count }) };
        launch(&self.names[usize::from(packed)], shape, stream, &mut arguments).map_err(|error| {
            ort::Error::new(format!("kernel {:?}: {error}", self.names[usize::from(packed)]))
        })
    }
}

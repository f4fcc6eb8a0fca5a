//! [`Fused::After`]: its result is its first input, which ONNX Runtime is told so that it leaves it where it is.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::{DynTensorValueType, TensorElementType};

use super::context::{input, output};
use super::launch::copy;
use crate::graph::Fused;
use crate::runtime::Device;

/// The operator on tensors of one element type.
#[derive(Debug)]
pub(super) struct After {
    element: TensorElementType,
    device: Device,
}

/// What a node of the operator runs.
#[derive(Debug)]
pub(super) struct AfterKernel {
    element: TensorElementType,
    device: Device,
}

// === impl After ===

impl After {
    pub(super) fn new(device: Device, element: TensorElementType) -> Self {
        Self { element, device }
    }
}

impl Operator for After {
    type Kernel<'attr> = AfterKernel;

    const ALIASES: &[(u32, u32)] = &[(0, 0)];

    fn name(&self) -> &str {
        Fused::After.name()
    }

    fn execution_provider_type(&self) -> Option<&str> {
        (self.device != Device::Cpu).then_some("CUDAExecutionProvider")
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(self.element), OperatorInput::required(self.element)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(self.element)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<AfterKernel> {
        Ok(AfterKernel { element: self.element, device: self.device })
    }
}

// === impl AfterKernel ===

impl Kernel for AfterKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let x = input(context, 0)?.downcast::<DynTensorValueType>()?;
        let shape: Vec<usize> = x.shape().iter().map(|&size| size.unsigned_abs() as usize).collect();
        let mut y = output(context, 0, &shape)?.downcast::<DynTensorValueType>()?;
        let (from, to) = (x.data_ptr(), y.data_ptr().cast_mut());
        if std::ptr::eq(from, to) {
            return Ok(());
        }
        // an input or an output of the graph has a place of its own
        if self.device == Device::Cpu {
            y.try_extract_tensor_mut::<f32>()?.1.copy_from_slice(x.try_extract_tensor::<f32>()?.1);
            return Ok(());
        }
        let element = if self.element == TensorElementType::Float32 { 4 } else { 2 };
        let bytes = shape.iter().product::<usize>() * element;
        let stream = context.stream()?.map_or(std::ptr::null_mut(), |stream| stream.as_ptr().cast());
        copy(to.cast(), from.cast(), bytes, stream)
            .map_err(|error| ort::Error::new(format!("a copy: {error}")))
    }
}

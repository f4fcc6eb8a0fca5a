//! The most likely token of each row ([`Graph::most_likely`]), on a CPU and on a GPU.
//!
//! [`Graph::most_likely`]: crate::graph::Graph::most_likely

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::context::{by_rows, input, output, sizes_of};
use super::launch::{Arguments, Shape, launch};
use super::operator::OnGpu;
use super::rows;
use crate::graph::MOST_LIKELY;
use crate::runtime::Device;

/// The operator for a device.
#[derive(Debug)]
pub(super) struct MostLikely(pub(super) Device);

/// What a node runs.
#[derive(Debug)]
pub(super) struct Search(Device);

// === impl MostLikely ===

impl Operator for MostLikely {
    type Kernel<'attr> = Search;

    fn name(&self) -> &str {
        MOST_LIKELY
    }

    fn execution_provider_type(&self) -> Option<&str> {
        (self.0 != Device::Cpu).then_some("CUDAExecutionProvider")
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<Search> {
        Ok(Search(self.0))
    }
}

// === impl Search ===

impl Kernel for Search {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        if self.0 == Device::Cpu { on_cpu(context) } else { on_gpu(context) }
    }
}

fn on_cpu(context: &ComputeContext) -> ort::Result<()> {
    let logits = input(context, 0)?;
    let (shape, logits) = logits.try_extract_tensor::<f32>()?;
    let [count, width] = sizes_of(shape)?;
    let mut best = output(context, 0, &[count])?;
    by_rows(context, 1, best.try_extract_tensor_mut::<f32>()?.1, |row, best| {
        best[0] = rows::largest(&logits[row * width..][..width]) as f32;
    });
    Ok(())
}

fn on_gpu(context: &ComputeContext) -> ort::Result<()> {
    let logits = OnGpu::needed(context, 0)?;
    let rows = logits.elements() / logits.width().max(1);
    let mut arguments = Arguments::default();
    arguments.pointers([logits.data, OnGpu::output(context, 0, &[rows])?]).int32(logits.width());
    let stream = context.stream()?.map_or(std::ptr::null_mut(), |stream| stream.as_ptr().cast());
    launch(c"most_likely_f32", Shape::WideBlocks(rows), stream, &mut arguments)
        .map_err(|error| ort::Error::new(format!("kernel most_likely_f32: {error}")))
}

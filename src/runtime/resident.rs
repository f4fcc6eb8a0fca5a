//! The weights of a checkpoint, once in the memory of a device, for all sessions there.

use std::collections::HashMap;

use memmap2::MmapMut;
use ort::memory::MemoryInfo;
use ort::value::DynValue;

use super::borrowed::Borrowed;
use super::gpu::GpuBlock;
use super::{Device, RuntimeError};
use crate::graph::DType;
use crate::memory;
use crate::t5::Checkpoint;

/// Where a tensor begins in the block: at multiples of this, as CUDA's own allocations do.
const ALIGNMENT: usize = 256;

/// Weights in the memory of a device.
///
/// invariant: it outlives the tensors that [`value`](Self::value) makes; a session holds both.
#[derive(Debug)]
pub(super) struct Resident {
    block: Block,
    memory: MemoryInfo<'static>,
    dtype: DType,
    /// Where each begins, and how many elements it has.
    places: HashMap<String, (usize, usize)>,
}

#[derive(Debug)]
enum Block {
    Gpu(GpuBlock),
    Host(MmapMut),
}

// === impl Resident ===

impl Resident {
    /// Copies those weights of the checkpoint that `wanted` says by their sizes to a device, as elements of `dtype`.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: DType,
        wanted: impl Fn(&[usize]) -> bool,
    ) -> Result<Self, RuntimeError> {
        let mut places = HashMap::new();
        let mut end = 0;
        let shapes = checkpoint.weights();
        for name in checkpoint.layout().into_iter().filter(|name| wanted(&shapes[name])) {
            let elements: usize = shapes[&name].iter().product();
            places.insert(name, (end, elements));
            end += (elements * size(dtype)).next_multiple_of(ALIGNMENT);
        }
        let mut block = match device {
            Device::Cpu => Block::Host(memory::room(end.max(ALIGNMENT)).map_err(RuntimeError::Memory)?),
            Device::Cuda(gpu) => Block::Gpu(GpuBlock::new(gpu, end.max(ALIGNMENT))?),
        };
        for (name, &(offset, _)) in &places {
            block.write(offset, &checkpoint.bytes_as(name, dtype))?;
        }
        Ok(Self { block, memory: device.memory()?, dtype, places })
    }

    /// A weight in a shape, or several that lie behind each other. The tensor reads the block, which the caller keeps as long
    /// as the tensor.
    pub(super) fn value(&self, parts: &[&str], shape: &[usize]) -> Result<DynValue, RuntimeError> {
        let name = parts.join("+");
        let missing = || RuntimeError::Ort(format!("the weight {name} is not in the memory of the device"));
        let places: Option<Vec<(usize, usize)>> =
            parts.iter().map(|&part| self.places.get(part).copied()).collect();
        let places = places.filter(|places| !places.is_empty()).ok_or_else(missing)?;
        let (offset, elements) = (places[0].0, places.iter().map(|&(_, elements)| elements).sum::<usize>());
        let follows = |pair: &[(usize, usize)]| pair[0].0 + pair[0].1 * size(self.dtype) == pair[1].0;
        if !places.windows(2).all(follows) {
            return Err(RuntimeError::Ort(format!(
                "the weights {name} do not fill whole blocks of {ALIGNMENT} bytes: they cannot be shared"
            )));
        }
        assert_eq!(
            elements,
            shape.iter().product::<usize>(),
            "invariant: a graph only reshapes the weight {name}"
        );
        let (at, bytes) = (self.block.at() + offset, elements * size(self.dtype));
        Borrowed { name: &name, at, bytes, shape, dtype: self.dtype }.tensor(&self.memory)
    }
}

fn size(dtype: DType) -> usize {
    if dtype == DType::F32 { 4 } else { 2 }
}

// === impl Block ===

impl Block {
    fn at(&self) -> usize {
        match self {
            Self::Gpu(block) => block.at(),
            Self::Host(room) => room.as_ptr() as usize,
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), RuntimeError> {
        match self {
            Self::Gpu(block) => block.write(offset, bytes),
            Self::Host(room) => {
                room[offset..offset + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
        }
    }
}

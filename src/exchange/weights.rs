//! The tensors of a PEFT adapter.

use safetensors::{Dtype, SafeTensors};

use super::floats::{Float, check_finite};
use super::{ADAPTER_WEIGHTS, ExchangeError};

/// The only tensor of a prompt.
pub(super) const TENSOR: &str = "prompt_embeddings";

/// How what `torch.save` writes begins: a zip archive, or a pickle by itself.
const PICKLES: [&[u8]; 2] = [b"PK\x03\x04", b"\x80"];

/// Rows and their width.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) rows: Vec<f32>,
    pub(super) count: usize,
    pub(super) width: usize,
}

/// Whether bytes are what `torch.save` writes, whatever their file is called.
pub(super) fn is_pickle(bytes: &[u8]) -> bool {
    PICKLES.iter().any(|start| bytes.starts_with(start))
}

// === impl Weights ===

impl Weights {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ExchangeError> {
        let malformed =
            |reason: String| ExchangeError::Malformed { file: ADAPTER_WEIGHTS.to_owned(), reason };
        // the length of a header, which begins a safetensors file, is never so large
        if is_pickle(bytes) && bytes.get(4..8).is_some_and(|high| high != [0; 4]) {
            return Err(ExchangeError::Pickle { file: ADAPTER_WEIGHTS.to_owned() });
        }
        let file = SafeTensors::deserialize(bytes).map_err(|error| {
            malformed(format!("not a whole safetensors file ({error}); copy or download it again"))
        })?;
        let mut names: Vec<&str> = file.names().into_iter().filter(|&name| name != TENSOR).collect();
        names.sort_unstable();
        if let Some(name) = names.first() {
            return Err(malformed(format!(
                "tensor {name} does not belong to a prompt, whose only tensor is {TENSOR}; weights that were trained beside \
                 the prompt (modules_to_save) cannot be served on a frozen model"
            )));
        }
        let tensor = file.tensor(TENSOR).map_err(|_| {
            malformed(format!("tensor {TENSOR} is missing; save the adapter with save_pretrained of PEFT"))
        })?;
        let float = match tensor.dtype() {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            Dtype::F32 => Float::F32,
            Dtype::F64 => Float::F64,
            other => {
                return Err(malformed(format!(
                    "tensor {TENSOR} is stored as {other:?}; f16, bf16, f32 and f64 can be read"
                )));
            }
        };
        let &[count @ (1..), width @ (1..)] = tensor.shape() else {
            return Err(malformed(format!(
                "tensor {TENSOR} has shape {:?}; a prompt has two dimensions, its rows and the model's width",
                tensor.shape()
            )));
        };
        let rows = float.decode(tensor.data(), false);
        check_finite(ADAPTER_WEIGHTS, &rows, width)?;
        Ok(Self { rows, count, width })
    }
}

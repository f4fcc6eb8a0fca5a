//! The Open Inference Protocol (KServe V2, REST): a model is a task, its version a prompt's, and the fields of the
//! template are its inputs. Tensors may stand behind the JSON, as Triton's extension `binary_tensor_data` says.

mod answer;
mod call;
mod error;
pub(super) mod infer;
pub(super) mod metadata;

pub(super) use answer::InferAnswer;
pub(super) use error::{InferError, InferErrorBody};

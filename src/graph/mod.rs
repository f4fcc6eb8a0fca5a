//! Typed ONNX graphs, and reverse-mode gradients over them.
//!
//! A [`Graph`] is built operator by operator; every [`Value`] knows its element type and shape, and a
//! mistake in either is caught while building. [`Graph::gradient`] appends the nodes that compute a
//! derivative, so a training step is one more ordinary graph. [`Graph::to_model`] emits ONNX bytes.
//!
//! This room knows nothing of T5, of prompts, or of the runtime that executes a graph.

mod builder;
mod cached;
mod emit;
mod functions;
mod fused;
mod gradient;
mod narrow;
mod op;
mod packed;
mod proto;
mod recompute;
mod shape;

pub use builder::{Graph, Value, Weight};
pub use cached::{CACHE_BLOCK, Cached};
pub use emit::{External, WeightSource};
pub use fused::{Arithmetic, FUSED_DOMAIN, Fused, Kernels};
pub use narrow::{NARROW_COLUMNS, Narrow, NarrowOp, NarrowRows};
pub use op::DType;
pub(crate) use op::{CACHED_ATTENTION, MOST_LIKELY};
pub use packed::{MOST_WEIGHTS, Packed};
pub use recompute::Activations;
pub use shape::Dim;

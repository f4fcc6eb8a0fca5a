//! Soft prompts of other programs: what comes in, and what goes out.
//!
//! [`Foreign`] holds the rows of one, read from what PEFT saved or from a NumPy file. Neither says how a text stands in
//! front of the model or which words are labels: that is in [`Settings`], a small TOML file. Both together, and the model
//! that they belong to, make a prompt file. [`to_peft`] goes the other way.
//!
//! Everything here works on bytes, refuses by name what it does not understand, and never runs code from a file: pickles
//! are not read.

mod error;
mod export;
mod floats;
mod foreign;
mod npy;
mod peft;
mod settings;
mod weights;

pub use error::ExchangeError;
pub use export::{Exported, to_peft};
pub use foreign::{Claims, Foreign};
pub use settings::Settings;

/// What an adapter of PEFT says about itself.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// An adapter's tensors.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// An adapter's tensors as a pickle, which is not read.
pub const ADAPTER_PICKLE: &str = "adapter_model.bin";
/// What an adapter does not say: [`Settings`].
pub const SETTINGS: &str = "task.toml";

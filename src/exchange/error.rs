//! Why a soft prompt of another program cannot be used.

/// Why a soft prompt of another program cannot be used. The message begins with the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// A file is not there.
    #[error("{file} is not there; {remedy}")]
    Missing {
        /// Which.
        file: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A file is not of its format.
    #[error("{file}: {reason}")]
    Malformed {
        /// Which.
        file: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A setting has a value that cannot be honoured.
    #[error("{file}: {key} is {got}; {remedy}")]
    Key {
        /// The file.
        file: &'static str,
        /// The setting.
        key: String,
        /// Its value.
        got: String,
        /// What would be accepted.
        remedy: String,
    },
    /// A method that is not a prompt at the encoder's input.
    #[error("{file}: peft_type is {family}, which cannot be served: {reason}")]
    Family {
        /// The file.
        file: &'static str,
        /// The method.
        family: String,
        /// Why.
        reason: &'static str,
    },
    /// A pickle.
    #[error(
        "{file} is a pickle, and reading one can run any code that is in it; convert it where you trust it: python -c \
         \"import torch; from safetensors.torch import save_file; save_file({{k: v.contiguous() for k, v in \
         torch.load('{file}', map_location='cpu', weights_only=True).items()}}, 'adapter_model.safetensors', {{'format': 'pt'}})\""
    )]
    Pickle {
        /// The file.
        file: String,
    },
    /// The prompt is for another model than the loaded one.
    #[error("{file}: made for a model whose {difference}; {remedy}")]
    Model {
        /// The file.
        file: String,
        /// What differs, by the file and in the loaded model.
        difference: String,
        /// What to do.
        remedy: &'static str,
    },
}

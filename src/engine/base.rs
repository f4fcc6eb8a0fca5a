//! What a loaded model is called in prompt files.

use crate::hub;
use crate::prompt::{Base, Fingerprint};
use crate::t5::Checkpoint;
use crate::task::Tokenizer;

/// Names a checkpoint and its tokenizer as prompt files do: by the folder's name, for one of the hub the model's, and by
/// fingerprint.
#[must_use]
pub fn base(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Base {
    let folder = checkpoint.folder();
    // `.` and links have another name than the folder itself
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let own =
        || folder.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let name = hub::name_of(&folder).unwrap_or_else(own);
    Base {
        model: Fingerprint { name: name.clone(), fingerprint: checkpoint.fingerprint().into() },
        tokenizer: Fingerprint { name, fingerprint: tokenizer.fingerprint().into() },
        d_model: checkpoint.config().d_model,
    }
}

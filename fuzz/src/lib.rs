//! What the fuzz targets share: models, prompts, and the checks of whatever can be read.

mod service;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use xprompt::engine::{self, ReadyTask};
use xprompt::prompt::{Base, Limits, PromptFile};
use xprompt::t5::{Checkpoint, Config};
use xprompt::task::Tokenizer;

pub use service::{Answer, ask};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The bundled model's tokenizer and configuration.
pub fn nano() -> &'static (Tokenizer, Config) {
    static NANO: OnceLock<(Tokenizer, Config)> = OnceLock::new();
    NANO.get_or_init(|| {
        let folder = root().join("models/t5-nano");
        let config = Checkpoint::open(&folder).unwrap().config().clone();
        (Tokenizer::open(&folder, config.vocab_size, config.eos_token_id).unwrap(), config)
    })
}

/// What prompts for the bundled model name as theirs.
pub fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let checkpoint = Checkpoint::open(&root().join("models/t5-nano")).unwrap();
        engine::base(&checkpoint, &nano().0)
    })
}

/// What has to hold for any bytes: they are refused by an error, or what they hold can be written and read again,
/// computed with, and made ready or refused by an error.
pub fn check_file(bytes: &[u8]) {
    let limits = Limits::default();
    let file = match PromptFile::from_bytes(bytes, &limits) {
        Ok(file) => file,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = file.to_bytes().unwrap();
    let again = PromptFile::from_bytes(&written, &limits).unwrap_or_else(|error| panic!("written: {error}"));
    assert_eq!(again, file);
    assert_eq!(again.to_bytes().unwrap(), written);
    let rows = file.prompt.rows();
    assert_eq!(rows.len(), file.prompt.kept_token_count() * file.manifest.d_model);
    assert!(rows.iter().all(|value| value.is_finite()));
    let (tokenizer, config) = nano();
    let golden = file.manifest.golden.clone();
    let Ok(task) = ReadyTask::new(file, String::new(), tokenizer, config) else { return };
    for golden in golden {
        if let Ok((ids, _)) = task.encode(&golden.input, tokenizer, true) {
            assert!(ids.len() <= task.manifest().task.max_input_tokens);
        }
    }
}

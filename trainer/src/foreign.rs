//! Soft prompts of other programs as files and folders; what their bytes mean is [`xprompt::exchange`]'s.

use std::io;
use std::path::{Path, PathBuf};

use xprompt::exchange::{
    ADAPTER_CONFIG, ADAPTER_PICKLE, ADAPTER_WEIGHTS, ExchangeError, Exported, Foreign, SETTINGS, Settings,
};
use xprompt::prompt::write_atomically;

use crate::task_file::{TaskFile, TaskFileError};

/// Bytes of a file; more are no prompt.
const MAX_BYTES: u64 = 64 << 20;

/// How files end that are pickles.
const PICKLES: [&str; 6] = ["bin", "pt", "pth", "pkl", "pickle", "ckpt"];

/// Why a soft prompt of another program cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than a prompt.
    #[error("{path}: {bytes} bytes are more than a prompt has ({MAX_BYTES} at most); name the prompt alone")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is nothing that can be read.
    #[error("{path}: {reason}")]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is, and what to name instead.
        reason: &'static str,
    },
    /// A file's content cannot be used; the message names the file.
    #[error("{folder}: {source}")]
    Content {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        source: ExchangeError,
    },
    /// The task file is not usable.
    #[error(transparent)]
    Task(#[from] TaskFileError),
}

/// Reads the soft prompt in a folder that PEFT saved, or in a NumPy file.
///
/// # Errors
/// If it is something else, or asks for more than a soft prompt at the encoder's input.
pub fn read(path: &Path) -> Result<Foreign, ForeignError> {
    let kind = |reason| ForeignError::Kind { path: path.to_owned(), reason };
    let folder = path.parent().unwrap_or(Path::new("."));
    let content = |folder: &Path| {
        let folder = folder.to_owned();
        move |source| ForeignError::Content { folder, source }
    };
    if std::fs::metadata(path).map_err(|source| ForeignError::Io { path: path.to_owned(), source })?.is_dir()
    {
        let part = |file: &str| optional(&path.join(file));
        let Some(config) = part(ADAPTER_CONFIG)? else {
            return Err(kind(
                "no adapter_config.json is in this folder; name a folder that save_pretrained of PEFT made",
            ));
        };
        let weights = match part(ADAPTER_WEIGHTS)? {
            Some(weights) => weights,
            None if path.join(ADAPTER_PICKLE).exists() => {
                return Err(content(path)(ExchangeError::Pickle { file: ADAPTER_PICKLE.into() }));
            }
            None => {
                let remedy = "copy it beside adapter_config.json";
                return Err(content(path)(ExchangeError::Missing { file: ADAPTER_WEIGHTS, remedy }));
            }
        };
        return Foreign::from_peft(&config, &weights).map_err(content(path));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match path.extension().unwrap_or_default().to_string_lossy().to_lowercase().as_str() {
        "safetensors" | "json" => Err(kind("name the adapter's folder, not a file in it")),
        ending if PICKLES.contains(&ending) => Err(content(folder)(ExchangeError::Pickle { file: name })),
        _ => Foreign::from_npy(&whole(path)?, &name).map_err(content(folder)),
    }
}

/// Reads what a prompt of another program does not say: a task file of the trainer, or as much of one as a server reads.
///
/// # Errors
/// If the file is missing or malformed.
pub fn settings(path: &Path) -> Result<Settings, ForeignError> {
    let bytes = whole(path)?;
    // only where a task file names its data can a benchmark's preset fill it in
    let has_data = std::str::from_utf8(&bytes)
        .is_ok_and(|text| toml::from_str::<toml::Table>(text).is_ok_and(|table| table.contains_key("data")));
    if has_data {
        return Ok(Settings { task: TaskFile::read(path)?.spec(), base_model: None });
    }
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    Settings::parse(&bytes).map_err(|source| ForeignError::Content { folder, source })
}

/// The settings in an adapter's folder, if it has some.
///
/// # Errors
/// If they are malformed.
pub fn settings_beside(adapter: &Path) -> Result<Option<Settings>, ForeignError> {
    let path = adapter.join(SETTINGS);
    if path.exists() { settings(&path).map(Some) } else { Ok(None) }
}

/// Writes an adapter's folder. Its configuration comes last: a server that looks meanwhile sees a whole adapter or none.
///
/// # Errors
/// If the system fails to write.
pub fn write(folder: &Path, adapter: &Exported) -> Result<(), ForeignError> {
    let files: [(&str, &[u8]); 3] = [
        (ADAPTER_WEIGHTS, &adapter.weights),
        (SETTINGS, adapter.settings.as_bytes()),
        (ADAPTER_CONFIG, &adapter.config),
    ];
    files.into_iter().try_for_each(|(file, bytes)| {
        let path = folder.join(file);
        write_atomically(&path, bytes).map_err(|source| ForeignError::Io { path, source })
    })
}

fn optional(path: &Path) -> Result<Option<Vec<u8>>, ForeignError> {
    match whole(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ForeignError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn whole(path: &Path) -> Result<Vec<u8>, ForeignError> {
    let failed = |source| ForeignError::Io { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_BYTES {
        return Err(ForeignError::TooLarge { path: path.to_owned(), bytes });
    }
    std::fs::read(path).map_err(failed)
}

//! A prompt on disk: one safetensors file.
//!
//! Tensors: `values` f32 `[kept pieces, piece width]` in the order of the mask, `token_mask` and `piece_mask` u8
//! (bit i of byte i/8 is entry i), and if known `token_importance` f32 `[tokens]` and `piece_importance` f32
//! `[tokens, pieces]`. The metadata key `xprompt` holds the [`Manifest`] as JSON. Everything is checked before
//! anything is used; a file is written under another name and renamed, so readers see the old one or the new one.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::fingerprint;

use super::{Base, FORMAT, Manifest, OutputSpec, Prompt};

const METADATA_KEY: &str = "xprompt";

/// Why a prompt file cannot be used. Nothing of such a file is used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than a prompt may be.
    #[error(
        "the file has {bytes} bytes, more than the limit of {limit}; raise --max-prompt-bytes if it is a prompt"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not a whole safetensors file.
    #[error(
        "not a whole safetensors file ({0}); copy it again, and rename it into place when it is complete"
    )]
    NotSafetensors(String),
    /// A safetensors file, but not one of ours.
    #[error("the metadata has no key \"{METADATA_KEY}\": not a prompt of xprompt-trainer")]
    NoManifest,
    /// The manifest is not what this version reads.
    #[error("manifest: {0}; was the file edited, or written by another version?")]
    Manifest(String),
    /// The file is of another format version.
    #[error("format {got}, this program reads format {FORMAT}; use a matching version of xprompt")]
    Format {
        /// The version in the file.
        got: u64,
    },
    /// A size in the manifest is impossible or over a limit.
    #[error("manifest: {what} is {got}, allowed is {allowed}")]
    Size {
        /// Which size.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The range.
        allowed: String,
    },
    /// A tensor is missing.
    #[error("tensor {0} is missing; train the prompt again or fetch the whole file")]
    MissingTensor(&'static str),
    /// A tensor is there that does not belong.
    #[error("tensor {0} does not belong to a prompt; was the file made by another program?")]
    UnknownTensor(String),
    /// A tensor has the wrong element type or shape.
    #[error("tensor {name} is {got}, the manifest asks for {want}")]
    Tensor {
        /// Which.
        name: &'static str,
        /// Type and shape in the file.
        got: String,
        /// Type and shape by the manifest.
        want: String,
    },
    /// The masks contradict each other.
    #[error("masks: {0}; the file is inconsistent, train the prompt again")]
    Masks(String),
    /// A value is infinite or not a number.
    #[error(
        "tensor {name} holds {value} at position {position}; train the prompt again, with a lower learning rate"
    )]
    NotFinite {
        /// Which.
        name: &'static str,
        /// The value.
        value: f32,
        /// Where.
        position: usize,
    },
    /// The task of the manifest cannot be served.
    #[error("task: {0}")]
    Task(String),
    /// The prompt belongs to another model.
    #[error(
        "made for base model {want_name} ({want}), but {got_name} ({got}) is loaded; start with --model pointing to \
         {want_name}, or train the prompt on {got_name}"
    )]
    BaseModel {
        /// The model's name by the file.
        want_name: String,
        /// Its fingerprint by the file.
        want: String,
        /// The loaded model's name.
        got_name: String,
        /// The loaded model's fingerprint.
        got: String,
    },
    /// The prompt was made with another tokenizer.
    #[error(
        "made with tokenizer {want}, but the loaded model has tokenizer {got}; use the tokenizer.json it was trained with"
    )]
    Tokenizer {
        /// The fingerprint by the file.
        want: String,
        /// The loaded tokenizer's.
        got: String,
    },
}

/// What a file may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// Original tokens of a prompt.
    pub tokens: usize,
    /// Labels of a task.
    pub labels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 20, tokens: 512, labels: 4096 }
    }
}

/// A prompt, what it says about itself, and the version that its bytes give it.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptFile {
    /// What the file says about itself.
    pub manifest: Manifest,
    /// The tensor.
    pub prompt: Prompt,
    /// Importance of each original token, `[tokens]`, if it was scored.
    pub token_importance: Option<Vec<f32>>,
    /// Importance of each original piece, `[tokens, pieces]`, if it was scored.
    pub piece_importance: Option<Vec<f32>>,
}

// === impl PromptFile ===

impl PromptFile {
    /// Reads a file and checks all that can be checked without a model. Returns the version beside it: the first
    /// 16 hexadecimal digits of the SHA-256 of the bytes.
    ///
    /// # Errors
    /// In this order: size, safetensors structure, format version, manifest, sizes, tensors (each there, of the
    /// right type and shape, none unknown), masks, finiteness, task.
    pub fn read(path: &Path, limits: &Limits) -> Result<(Self, String), PromptError> {
        let io = |source| PromptError::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        let mut bytes = Vec::new();
        // one byte more than allowed tells a file that is too large, even if it grows meanwhile
        file.take(limits.bytes + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limits.bytes {
            let bytes = std::fs::metadata(path).map_err(io)?.len();
            return Err(PromptError::TooLarge { bytes, limit: limits.bytes });
        }
        Ok((Self::from_bytes(&bytes, limits)?, fingerprint::of_bytes(&bytes)))
    }

    /// Checks the bytes of a file, as [`read`](Self::read) does.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, PromptError> {
        let broken = |error: safetensors::SafeTensorError| PromptError::NotSafetensors(error.to_string());
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let text = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(METADATA_KEY))
            .ok_or(PromptError::NoManifest)?;
        let manifest = parse_manifest(text)?;
        check_sizes(&manifest, limits)?;
        check_task(&manifest, limits)?;
        let (m, k) = (manifest.tokens, manifest.pieces);
        let mut tensors = Tensors::of(&file)?;
        let token_mask = tensors.bits("token_mask", m)?;
        let piece_mask = tensors.bits("piece_mask", m * k)?;
        check_masks(&token_mask, &piece_mask, k)?;
        let kept = piece_mask.iter().filter(|&&kept| kept).count();
        let values = tensors.f32s("values", &[kept, manifest.d_model / k])?;
        let values = values.ok_or(PromptError::MissingTensor("values"))?;
        let token_importance = tensors.f32s("token_importance", &[m])?;
        let piece_importance = tensors.f32s("piece_importance", &[m, k])?;
        tensors.finish()?;
        let prompt = scatter(&manifest, &piece_mask, &values);
        Ok(Self { manifest, prompt, token_importance, piece_importance })
    }

    /// Checks that the prompt belongs to the loaded model: width, model and tokenizer fingerprints.
    ///
    /// # Errors
    /// If one of them differs.
    pub fn verify(&self, base: &Base) -> Result<(), PromptError> {
        let m = &self.manifest;
        if m.base_model.fingerprint != base.model.fingerprint || m.d_model != base.d_model {
            return Err(PromptError::BaseModel {
                want_name: m.base_model.name.clone(),
                want: m.base_model.fingerprint.clone(),
                got_name: base.model.name.clone(),
                got: base.model.fingerprint.clone(),
            });
        }
        if m.tokenizer.fingerprint != base.tokenizer.fingerprint {
            let (want, got) = (m.tokenizer.fingerprint.clone(), base.tokenizer.fingerprint.clone());
            return Err(PromptError::Tokenizer { want, got });
        }
        Ok(())
    }

    /// The file's bytes. The same prompt and manifest give the same bytes.
    ///
    /// # Errors
    /// If the manifest cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PromptError> {
        let p = &self.prompt;
        let width = p.piece_width();
        let kept: Vec<f32> =
            p.rows().iter().zip(p.value_mask()).filter(|&(_, kept)| kept).map(|(&x, _)| x).collect();
        let mut tensors = vec![
            ("values", Dtype::F32, vec![p.kept_piece_count(), width], le_bytes(&kept)),
            ("token_mask", Dtype::U8, vec![p.tokens().div_ceil(8)], to_bits(p.token_mask())),
            ("piece_mask", Dtype::U8, vec![p.piece_mask().len().div_ceil(8)], to_bits(p.piece_mask())),
        ];
        if let Some(xs) = &self.token_importance {
            tensors.push(("token_importance", Dtype::F32, vec![p.tokens()], le_bytes(xs)));
        }
        if let Some(xs) = &self.piece_importance {
            tensors.push(("piece_importance", Dtype::F32, vec![p.tokens(), p.pieces()], le_bytes(xs)));
        }
        let manifest = serde_json::to_string(&self.manifest)
            .map_err(|error| PromptError::Manifest(error.to_string()))?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), manifest)]);
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|error| PromptError::NotSafetensors(error.to_string()))?;
        safetensors::serialize(views, Some(metadata))
            .map_err(|error| PromptError::NotSafetensors(error.to_string()))
    }

    /// Writes the file and returns its version. At any moment `path` is what it was or the whole new file.
    ///
    /// # Errors
    /// If the system fails to write; what was there stays.
    pub fn write(&self, path: &Path) -> Result<String, PromptError> {
        let bytes = self.to_bytes()?;
        write_atomically(path, &bytes).map_err(|source| PromptError::Io { path: path.to_owned(), source })?;
        Ok(fingerprint::of_bytes(&bytes))
    }
}

/// How the names of files begin that are being written.
pub const UNFINISHED: &str = ".writing-";

/// Writes bytes under a temporary name in the same folder, which it makes if need be, makes them durable and renames them into
/// place.
///
/// # Errors
/// If the system fails; what was at `path` stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder_of(path))?;
    replace_atomically(path, bytes).map(drop)
}

/// As [`write_atomically`] in a folder that is there, and tells what the new file is: at `path` another writer's may be by
/// then.
///
/// # Errors
/// If the folder is not there, or the system fails; what was at `path` stays.
pub fn replace_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<std::fs::Metadata> {
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    #[cfg(unix)]
    {
        // temporary files are private to their owner; a prompt is as readable as any new file
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    let metadata = file.as_file().metadata()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(metadata)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

// === checks ===

fn parse_manifest(text: &str) -> Result<Manifest, PromptError> {
    let wrong = |error: serde_json::Error| PromptError::Manifest(error.to_string());
    let json: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
    match json.get("format").and_then(serde_json::Value::as_u64) {
        Some(got) if got != u64::from(FORMAT) => Err(PromptError::Format { got }),
        _ => serde_json::from_value(json).map_err(wrong),
    }
}

fn check_sizes(m: &Manifest, limits: &Limits) -> Result<(), PromptError> {
    let within = |what, got, max| {
        if (1..=max).contains(&got) {
            Ok(())
        } else {
            Err(PromptError::Size { what, got, allowed: format!("1 to {max}") })
        }
    };
    within("tokens", m.tokens, limits.tokens)?;
    within("d_model", m.d_model, 1 << 14)?;
    within("pieces", m.pieces, m.d_model)?;
    if !m.d_model.is_multiple_of(m.pieces) {
        let allowed = format!("a divisor of d_model {}", m.d_model);
        return Err(PromptError::Size { what: "pieces", got: m.pieces, allowed });
    }
    within("task.max_input_tokens", m.task.max_input_tokens, 1 << 16)
}

fn check_task(m: &Manifest, limits: &Limits) -> Result<(), PromptError> {
    let wrong = |reason: String| Err(PromptError::Task(reason));
    // JSON has numbers that no f32 holds, and none for what they become
    if let Some(i) = m.golden.iter().position(|golden| golden.scores.iter().any(|score| !score.is_finite())) {
        return wrong(format!("golden example {i} has a score that is no finite number"));
    }
    match &m.task.output {
        OutputSpec::Labels { labels } => {
            if labels.len() < 2 || labels.len() > limits.labels {
                return wrong(format!("{} labels, allowed are 2 to {}", labels.len(), limits.labels));
            }
            for (i, label) in labels.iter().enumerate() {
                if label.name.is_empty() || label.words.trim().is_empty() {
                    return wrong(format!("label {i} has an empty name or empty words"));
                }
                if labels[..i].iter().any(|other| other.name == label.name) {
                    return wrong(format!("label {:?} is named twice", label.name));
                }
            }
            let of_other_length = |golden: &&super::Golden| golden.scores.len() != labels.len();
            match m.golden.iter().find(of_other_length) {
                Some(golden) => wrong(format!(
                    "a golden example has {} scores for {} labels",
                    golden.scores.len(),
                    labels.len()
                )),
                None => Ok(()),
            }
        }
        OutputSpec::Text { max_new_tokens } if !(1..=4096).contains(max_new_tokens) => {
            wrong(format!("max_new_tokens is {max_new_tokens}, allowed is 1 to 4096"))
        }
        OutputSpec::Text { .. } => Ok(()),
    }
}

fn check_masks(token_mask: &[bool], piece_mask: &[bool], pieces: usize) -> Result<(), PromptError> {
    if !token_mask.contains(&true) {
        return Err(PromptError::Masks("every token is pruned".into()));
    }
    for (token, (&kept, pieces)) in token_mask.iter().zip(piece_mask.chunks(pieces)).enumerate() {
        if kept != pieces.contains(&true) {
            let state =
                if kept { "kept, but all its pieces are pruned" } else { "pruned, but a piece is kept" };
            return Err(PromptError::Masks(format!("token {token} is {state}")));
        }
    }
    Ok(())
}

/// The tensors of a file that were not asked for yet.
struct Tensors<'a>(HashMap<String, TensorView<'a>>);

// === impl Tensors ===

impl<'a> Tensors<'a> {
    fn of(file: &SafeTensors<'a>) -> Result<Self, PromptError> {
        Ok(Self(file.tensors().into_iter().collect()))
    }

    fn take(
        &mut self,
        name: &'static str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<Option<&'a [u8]>, PromptError> {
        let Some(view) = self.0.remove(name) else { return Ok(None) };
        if view.dtype() != dtype || view.shape() != shape {
            return Err(PromptError::Tensor {
                name,
                got: format!("{:?} {:?}", view.dtype(), view.shape()),
                want: format!("{dtype:?} {shape:?}"),
            });
        }
        Ok(Some(view.data()))
    }

    fn bits(&mut self, name: &'static str, count: usize) -> Result<Vec<bool>, PromptError> {
        let bytes =
            self.take(name, Dtype::U8, &[count.div_ceil(8)])?.ok_or(PromptError::MissingTensor(name))?;
        let mut bits = bytes.iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1));
        let mask = bits.by_ref().take(count).collect();
        if bits.any(|bit| bit) {
            return Err(PromptError::Masks(format!("{name} marks an entry after its last, {}", count - 1)));
        }
        Ok(mask)
    }

    fn f32s(&mut self, name: &'static str, shape: &[usize]) -> Result<Option<Vec<f32>>, PromptError> {
        let Some(bytes) = self.take(name, Dtype::F32, shape)? else { return Ok(None) };
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        match values.iter().position(|x| !x.is_finite()) {
            Some(position) => Err(PromptError::NotFinite { name, value: values[position], position }),
            None => Ok(Some(values)),
        }
    }

    fn finish(self) -> Result<(), PromptError> {
        match self.0.into_keys().min() {
            Some(name) => Err(PromptError::UnknownTensor(name)),
            None => Ok(()),
        }
    }
}

// === layout ===

/// Puts the compact values back where the mask says.
fn scatter(manifest: &Manifest, piece_mask: &[bool], values: &[f32]) -> Prompt {
    let width = manifest.d_model / manifest.pieces;
    let mut rows = vec![0.0; manifest.tokens * manifest.d_model];
    let kept = piece_mask.iter().enumerate().filter(|&(_, &kept)| kept);
    for ((piece, _), value) in kept.zip(values.chunks(width)) {
        rows[piece * width..(piece + 1) * width].copy_from_slice(value);
    }
    Prompt::dense(manifest.d_model, manifest.pieces, rows).masked(piece_mask)
}

fn to_bits(mask: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (i, &bit)| byte | u8::from(bit) << i);
    mask.chunks(8).map(byte).collect()
}

fn le_bytes(xs: &[f32]) -> Vec<u8> {
    xs.iter().flat_map(|x| x.to_le_bytes()).collect()
}

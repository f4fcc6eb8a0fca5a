//! A T5's weights where they lie: one or several mapped safetensors files.
//!
//! Opening checks that every tensor that the model needs is there, of a shape that fits `config.json`, of
//! a float type, and whole. Nothing is copied; pages are read when they are used.

mod files;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use sha2::{Digest as _, Sha256};

use self::files::{Place, Shard, Shards};
use super::{Config, ConfigError};
use crate::fingerprint;
use crate::graph::{DType, External, Graph, WeightSource};
use crate::memory::Mapped;

/// Why a model's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// `config.json` is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder holds neither `model.safetensors` nor an index of shards.
    #[error("{folder}: no model.safetensors and no model.safetensors.index.json; {remedy}")]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// The index of shards is not usable.
    #[error("{path}: {reason}")]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file is not a whole safetensors file.
    #[error("{path}: not a whole safetensors file ({reason}); fetch it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A tensor is missing.
    #[error("{place}: there is no tensor {name}, which config.json asks for; {remedy}")]
    Missing {
        /// The file that should have it, or the folder.
        place: PathBuf,
        /// The tensor.
        name: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "{path}: tensor {name} has shape {got:?}, config.json asks for {want:?}; config.json and weights have to be of one \
         model"
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape in the file.
        got: Vec<usize>,
        /// Its shape by `config.json`.
        want: Vec<usize>,
    },
    /// A tensor is stored as something other than f32, bf16 or f16.
    #[error(
        "{path}: tensor {name} is stored as {dtype}; f32, bf16 and f16 can be read: name a checkpoint that is not quantized, \
         or save the model with dtype=torch.float32"
    )]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type in the file.
        dtype: String,
    },
}

/// The weights of one T5 and its configuration.
#[derive(Debug)]
pub struct Checkpoint {
    config: Config,
    folder: PathBuf,
    files: Vec<Shard>,
    places: HashMap<String, Place>,
    head: &'static str,
    embedding: &'static str,
    fingerprint: String,
}

const HEAD: &str = "lm_head.weight";
const EMBEDDINGS: [&str; 3] = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];

// === impl Checkpoint ===

impl Checkpoint {
    /// Opens a Hugging Face model folder.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, misshapen or of another type than a float.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let config = Config::read(folder)?;
        let shards = Shards::find(folder)?;
        let files = shards.map()?;
        let mut places = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            file.index(index, &shards, &mut places)?;
        }
        let embedding =
            EMBEDDINGS.into_iter().find(|&name| places.contains_key(name)).unwrap_or(EMBEDDINGS[0]);
        let head = if places.contains_key(HEAD) || !config.tie_word_embeddings { HEAD } else { embedding };
        let mut checkpoint = Self {
            folder: folder.to_owned(),
            config,
            files,
            places,
            head,
            embedding,
            fingerprint: String::new(),
        };
        checkpoint.check(&shards)?;
        checkpoint.fingerprint = checkpoint.take_fingerprint();
        Ok(checkpoint)
    }

    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder that was opened.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that really holds the weights, behind any symbolic link (as in the Hugging Face cache).
    #[must_use]
    pub fn weights_folder(&self) -> &Path {
        self.files[0].path.parent().unwrap_or(Path::new("."))
    }

    /// The files of the weights.
    pub fn files(&self) -> impl Iterator<Item = &Mapped> {
        self.files.iter().map(|file| &file.bytes)
    }

    /// Name of the token embedding table, `[vocab_size, d_model]`.
    #[must_use]
    pub fn embedding(&self) -> &'static str {
        self.embedding
    }

    /// Name of the output projection, `[vocab_size, d_model]`; the embedding table itself if they are tied.
    #[must_use]
    pub fn head(&self) -> &'static str {
        self.head
    }

    /// What tells this model from another: 16 hexadecimal digits over its shape and samples of every tensor.
    ///
    /// Samples, because hashing the 45 GB of an XXL would take minutes at every start: 16 evenly spread
    /// blocks of 64 bytes of each tensor. Retraining moves all of them; a copy of the file moves none.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether every tensor that the model uses is stored as f32, so that it can be computed with in place.
    #[must_use]
    pub fn is_f32(&self) -> bool {
        self.weights().keys().all(|name| self.places[name].dtype == DType::F32)
    }

    /// A graph as an ONNX file's bytes, which runs as it is beside the checkpoint's files.
    #[must_use]
    pub fn onnx(&self, graph: &Graph) -> Vec<u8> {
        graph.to_model(|name, _| WeightSource::File(self.external(name)))
    }

    /// Where a tensor lies, for a model that refers to it as external data.
    ///
    /// # Panics
    /// If the model has no such tensor.
    #[must_use]
    pub fn external(&self, name: &str) -> External {
        let place = &self.places[name];
        let path = &self.files[place.file].path;
        let location = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        External { location, offset: place.offset as u64, length: place.length as u64, dtype: place.dtype }
    }

    /// A tensor's elements as f32.
    ///
    /// # Panics
    /// If the model has no such tensor.
    #[must_use]
    pub fn f32s(&self, name: &str) -> Vec<f32> {
        let place = &self.places[name];
        decode(self.slice(place), place.dtype)
    }

    /// A tensor's bytes as elements of another float type, little-endian; where it is stored so, in place.
    ///
    /// # Panics
    /// If the model has no such tensor, or the type is not a float.
    #[must_use]
    pub fn bytes_as(&self, name: &str, dtype: DType) -> Cow<'_, [u8]> {
        let place = &self.places[name];
        if place.dtype == dtype { self.slice(place).into() } else { encode(&self.f32s(name), dtype).into() }
    }

    /// One row of a matrix as f32: of the embedding table, a token's vector.
    ///
    /// # Panics
    /// If the model has no such matrix or the matrix has no such row.
    #[must_use]
    pub fn row(&self, name: &str, row: usize) -> Vec<f32> {
        let place = &self.places[name];
        let bytes = place.length / place.shape[0];
        decode(&self.slice(place)[row * bytes..(row + 1) * bytes], place.dtype)
    }

    /// The matrices that activations are multiplied by, with their shapes `[outputs, inputs]`: all but embeddings and
    /// tables of positions.
    pub(super) fn products(&self) -> Vec<(String, [usize; 2])> {
        let is_product = |name: &str| {
            name == self.head
                || (name.contains(".block.") && !name.ends_with("relative_attention_bias.weight"))
        };
        let matrix = |(name, shape): (String, Vec<usize>)| Some((name, <[usize; 2]>::try_from(shape).ok()?));
        self.weights().into_iter().filter(|(name, _)| is_product(name)).filter_map(matrix).collect()
    }

    fn slice(&self, place: &Place) -> &[u8] {
        &self.files[place.file].bytes[place.offset..place.offset + place.length]
    }

    /// The names of [`weights`](Self::weights) in an order in which those that graphs join follow each other: queries, keys
    /// and values of an attention, and both inputs of a gated feed-forward layer.
    #[must_use]
    pub fn layout(&self) -> Vec<String> {
        let mut names: Vec<String> = self.weights().into_keys().collect();
        names.sort_by_key(|name| {
            name.replace("Attention.q.", "Attention.0.").replace("Attention.o.", "Attention.z.")
        });
        names
    }

    /// How many weights the model has.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.weights().values().map(|shape| shape.iter().product::<usize>()).sum()
    }

    /// Every tensor that the configuration asks for, with its shape.
    #[must_use]
    pub fn weights(&self) -> BTreeMap<String, Vec<usize>> {
        self.config.weights(self.embedding, self.head)
    }

    fn check(&self, shards: &Shards) -> Result<(), CheckpointError> {
        for (name, want) in self.weights() {
            let Some(place) = self.places.get(&name) else {
                return Err(shards.missing(name));
            };
            let path = || self.files[place.file].path.clone();
            if place.shape != want {
                return Err(CheckpointError::Shape { path: path(), name, got: place.shape.clone(), want });
            }
            if !matches!(place.dtype, DType::F32 | DType::Bf16 | DType::F16) {
                return Err(CheckpointError::ElementType {
                    path: path(),
                    name,
                    dtype: place.stored.to_string(),
                });
            }
        }
        Ok(())
    }

    fn take_fingerprint(&self) -> String {
        const BLOCKS: usize = 16;
        const BLOCK: usize = 64;
        let mut hash = Sha256::new();
        hash.update(self.config.identity());
        for (name, shape) in self.weights() {
            let place = &self.places[&name];
            hash.update(format!("{name} {:?} {shape:?}", place.dtype));
            let bytes = self.slice(place);
            for i in 0..BLOCKS {
                let start = bytes.len().saturating_sub(BLOCK) * i / (BLOCKS - 1);
                hash.update(&bytes[start..(start + BLOCK).min(bytes.len())]);
            }
        }
        fingerprint::of_hash(hash)
    }
}

// === elements ===

fn decode(bytes: &[u8], dtype: DType) -> Vec<f32> {
    let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match dtype {
        DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        DType::Bf16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        DType::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        DType::I64 | DType::U8 | DType::I8 | DType::Bool => {
            unreachable!("opening refuses tensors that are not floats")
        }
    }
}

fn encode(xs: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F32 => xs.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::Bf16 => xs.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        DType::F16 => xs.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        DType::I64 | DType::U8 | DType::I8 | DType::Bool => panic!("weights are floats, not {dtype:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_any_float_type_read_as_they_were_written() {
        let xs = [0.0, 1.0, -2.5, 0.15625, 1024.0];
        for dtype in [DType::F32, DType::Bf16, DType::F16] {
            assert_eq!(decode(&encode(&xs, dtype), dtype), xs, "{dtype:?}");
        }
        // the nearest of the type: 8 and 11 bits of mantissa
        assert_eq!(decode(&encode(&[1.005], DType::Bf16), DType::Bf16), [1.007_812_5]);
        assert_eq!(decode(&encode(&[1.0006], DType::F16), DType::F16), [1.000_976_6]);
    }
}

//! The safetensors files of a model's folder, and where each tensor lies in them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::CheckpointError;
use crate::graph::DType;
use crate::memory::Mapped;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files of weights that are not read, with what transformers has to be told to read them.
const OTHERS: [(&str, &str); 5] = [
    ("pytorch_model.bin", ""),
    ("pytorch_model.bin.index.json", ""),
    ("tf_model.h5", ", from_tf=True"),
    ("tf_model.h5.index.json", ", from_tf=True"),
    ("flax_model.msgpack", ", from_flax=True"),
];

/// Where one tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: usize,
    /// Boolean for what cannot be read.
    pub(super) dtype: DType,
    /// What the file says that it is.
    pub(super) stored: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// A mapped file.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) bytes: Mapped,
}

/// The files that a folder's weights are in.
#[derive(Debug)]
pub(super) struct Shards {
    folder: PathBuf,
    names: Vec<String>,
    /// The file of each tensor, if there is an index.
    index: BTreeMap<String, String>,
}

// === impl Shards ===

impl Shards {
    /// The one file, or those that the index names.
    pub(super) fn find(folder: &Path) -> Result<Self, CheckpointError> {
        if folder.join(SINGLE).exists() {
            let names = vec![SINGLE.to_owned()];
            return Ok(Self { folder: folder.to_owned(), names, index: BTreeMap::new() });
        }
        let path = folder.join(INDEX);
        if !path.exists() {
            return Err(CheckpointError::NoWeights { folder: folder.to_owned(), remedy: remedy(folder) });
        }
        let wrong = |reason: String| CheckpointError::Index { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let map = json["weight_map"].as_object().ok_or_else(|| wrong("no weight_map".into()))?;
        let named = |(tensor, file): (&String, &serde_json::Value)| match file.as_str() {
            Some(file) => Ok((tensor.clone(), file.to_owned())),
            None => Err(wrong(format!("weight_map.{tensor} is {file}, which is no file's name"))),
        };
        let index = map.iter().map(named).collect::<Result<BTreeMap<_, _>, _>>()?;
        let mut names: Vec<String> = index.values().cloned().collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(wrong("weight_map names no file".into()));
        }
        for name in &names {
            if name.contains(['/', '\\']) {
                return Err(wrong(format!("weight_map names {name}, which is not a file beside the index")));
            }
            if !folder.join(name).exists() {
                let tensors = index.values().filter(|file| *file == name).count();
                let reason = format!(
                    "weight_map names {name} for {tensors} tensors, and it is not in the folder; fetch it"
                );
                return Err(wrong(reason));
            }
        }
        Ok(Self { folder: folder.to_owned(), names, index })
    }

    /// Maps the files, in the order of their names.
    pub(super) fn map(&self) -> Result<Vec<Shard>, CheckpointError> {
        self.names.iter().map(|name| Shard::open(&self.folder.join(name))).collect()
    }

    /// The error for a tensor that no file has.
    pub(super) fn missing(&self, name: String) -> CheckpointError {
        let (place, remedy) = match self.index.get(&name) {
            Some(file) => {
                (self.folder.join(file), "the index says that it is in this file: fetch both again")
            }
            None if self.index.is_empty() => {
                (self.folder.join(SINGLE), "config.json and weights have to be of one model")
            }
            None => (self.folder.join(INDEX), "config.json and weights have to be of one model"),
        };
        CheckpointError::Missing { place, name, remedy }
    }
}

/// What to do about a folder without safetensors.
fn remedy(folder: &Path) -> String {
    let Some((file, option)) = OTHERS.into_iter().find(|(file, _)| folder.join(file).exists()) else {
        return "--model takes a folder with config.json, model.safetensors and tokenizer.json".into();
    };
    let folder = folder.display();
    format!(
        "{file} is not read; convert it once: python3 -c \"from transformers import AutoModelForSeq2SeqLM as M; \
         M.from_pretrained('{folder}'{option}).save_pretrained('{folder}')\""
    )
}

// === impl Shard ===

impl Shard {
    fn open(path: &Path) -> Result<Self, CheckpointError> {
        let read = |source| CheckpointError::Read { path: path.to_owned(), source };
        // the real file: ONNX Runtime refuses to follow a link out of the folder it is told
        let path = path.canonicalize().map_err(read)?;
        let file = File::open(&path).map_err(read)?;
        let bytes = Mapped::open(&file).map_err(read)?;
        Ok(Self { path, bytes })
    }

    /// Notes where the tensors of this file, the `file`-th, lie; but for those that the index says are elsewhere.
    pub(super) fn index(
        &self,
        file: usize,
        shards: &Shards,
        places: &mut HashMap<String, Place>,
    ) -> Result<(), CheckpointError> {
        let damaged = |reason: String| CheckpointError::Damaged { path: self.path.clone(), reason };
        let (header, metadata) =
            SafeTensors::read_metadata(&self.bytes).map_err(|error| damaged(error.to_string()))?;
        let start = header + 8;
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            if start + to > self.bytes.len() {
                let short = start + to - self.bytes.len();
                return Err(damaged(format!("tensor {name} ends {short} bytes behind the file")));
            }
            if shards.index.get(&name).is_some_and(|other| *other != shards.names[file]) {
                continue;
            }
            let dtype = match info.dtype {
                Dtype::F32 => DType::F32,
                Dtype::BF16 => DType::Bf16,
                Dtype::F16 => DType::F16,
                _ => DType::Bool,
            };
            let place = Place {
                file,
                dtype,
                stored: info.dtype,
                shape: info.shape.clone(),
                offset: start + from,
                length: to - from,
            };
            places.insert(name, place);
        }
        Ok(())
    }
}

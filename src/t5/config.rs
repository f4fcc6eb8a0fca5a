//! What `config.json` says about the computation. A key that would change it in a way that is not built
//! here is refused by name.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The activation of the feed-forward layers (`feed_forward_proj`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `relu`: wo(relu(wi x)), the original T5.
    Relu,
    /// `gated-gelu`: wo(gelu(wi_0 x) * wi_1 x) with GELU's tanh form; v1.1, LM-adapted, Flan.
    GatedGelu,
}

/// The shape of a T5 and the constants of its computation. Names are those of `config.json`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // documented by Hugging Face's T5Config, whose names these are
pub struct Config {
    pub vocab_size: usize,
    pub d_model: usize,
    pub d_kv: usize,
    pub d_ff: usize,
    pub num_layers: usize,
    pub num_decoder_layers: usize,
    pub num_heads: usize,
    pub relative_attention_num_buckets: usize,
    pub relative_attention_max_distance: usize,
    pub layer_norm_epsilon: f32,
    pub activation: Activation,
    /// Whether the output projection is the embedding table.
    pub tie_word_embeddings: bool,
    /// Whether the decoder's output is multiplied by d_model^-0.5 before the projection (the original T5).
    pub scale_decoder_outputs: bool,
    pub pad_token_id: u32,
    pub eos_token_id: u32,
    pub decoder_start_token_id: u32,
}

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "{path}: {source}; --model takes a folder with config.json, model.safetensors and tokenizer.json"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not JSON, or a key that is needed is missing or of the wrong type.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// A key has a value that would change the computation in a way that is not built here.
    #[error("{path}: {key} = {value} is not supported; {remedy}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value there.
        value: String,
        /// What would be accepted.
        remedy: &'static str,
    },
}

/// `config.json` as it stands.
#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    vocab_size: usize,
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_decoder_layers: Option<usize>,
    num_heads: usize,
    #[serde(default = "default_buckets")]
    relative_attention_num_buckets: usize,
    #[serde(default = "default_distance")]
    relative_attention_max_distance: usize,
    #[serde(default = "default_epsilon")]
    layer_norm_epsilon: f32,
    #[serde(default = "default_feed_forward")]
    feed_forward_proj: String,
    tie_word_embeddings: Option<bool>,
    scale_decoder_outputs: Option<bool>,
    #[serde(default)]
    pad_token_id: u32,
    #[serde(default = "default_eos")]
    eos_token_id: u32,
    decoder_start_token_id: Option<u32>,
}

fn default_buckets() -> usize {
    32
}

fn default_distance() -> usize {
    128
}

fn default_epsilon() -> f32 {
    1e-6
}

fn default_feed_forward() -> String {
    "relu".into()
}

fn default_eos() -> u32 {
    1
}

// === impl Config ===

impl Config {
    /// Reads `config.json` in a model's folder.
    ///
    /// # Errors
    /// If the file is missing, malformed, or asks for a computation that is not built here.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Self::parse(&text, &path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: Raw = serde_json::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        let refuse = |key, value: &dyn std::fmt::Debug, remedy| ConfigError::Unsupported {
            path: path.to_owned(),
            key,
            value: format!("{value:?}"),
            remedy,
        };
        if let Some(kind) = raw.model_type.as_deref().filter(|&kind| kind != "t5") {
            return Err(refuse("model_type", &kind, "a T5 model has model_type \"t5\""));
        }
        let activation = match raw.feed_forward_proj.as_str() {
            "relu" => Activation::Relu,
            "gated-gelu" => Activation::GatedGelu,
            other => {
                return Err(refuse("feed_forward_proj", &other, "\"relu\" and \"gated-gelu\" are built"));
            }
        };
        let positive = [
            ("vocab_size", raw.vocab_size),
            ("d_model", raw.d_model),
            ("d_kv", raw.d_kv),
            ("d_ff", raw.d_ff),
            ("num_layers", raw.num_layers),
            ("num_heads", raw.num_heads),
            ("num_decoder_layers", raw.num_decoder_layers.unwrap_or(raw.num_layers)),
        ];
        if let Some((key, _)) = positive.into_iter().find(|&(_, size)| size == 0) {
            return Err(refuse(key, &0, "sizes are at least 1"));
        }
        let buckets = raw.relative_attention_num_buckets;
        if buckets < 4 || !buckets.is_multiple_of(2) {
            return Err(refuse("relative_attention_num_buckets", &buckets, "an even number of at least 4"));
        }
        if raw.relative_attention_max_distance <= buckets / 2 {
            let distance = raw.relative_attention_max_distance;
            return Err(refuse(
                "relative_attention_max_distance",
                &distance,
                "it exceeds half the number of buckets",
            ));
        }
        let tie_word_embeddings = raw.tie_word_embeddings.unwrap_or(true);
        Ok(Self {
            vocab_size: raw.vocab_size,
            d_model: raw.d_model,
            d_kv: raw.d_kv,
            d_ff: raw.d_ff,
            num_layers: raw.num_layers,
            num_decoder_layers: raw.num_decoder_layers.unwrap_or(raw.num_layers),
            num_heads: raw.num_heads,
            relative_attention_num_buckets: buckets,
            relative_attention_max_distance: raw.relative_attention_max_distance,
            layer_norm_epsilon: raw.layer_norm_epsilon,
            activation,
            tie_word_embeddings,
            scale_decoder_outputs: raw.scale_decoder_outputs.unwrap_or(tie_word_embeddings),
            pad_token_id: raw.pad_token_id,
            eos_token_id: raw.eos_token_id,
            decoder_start_token_id: raw.decoder_start_token_id.unwrap_or(raw.pad_token_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: &str) -> Result<Config, ConfigError> {
        let mut json: serde_json::Value = serde_json::from_str(
            r#"{"vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}"#,
        )
        .unwrap();
        let change: serde_json::Value = serde_json::from_str(change).unwrap();
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Config::parse(&json.to_string(), Path::new("config.json"))
    }

    #[test]
    fn keys_left_out_mean_the_original_t5() {
        let config = parse("{}").unwrap();
        assert_eq!(config.activation, Activation::Relu);
        assert_eq!((config.num_decoder_layers, config.relative_attention_num_buckets), (2, 32));
        assert!(config.tie_word_embeddings && config.scale_decoder_outputs);
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (change, key) in [
            (r#"{"feed_forward_proj": "gated-silu"}"#, "feed_forward_proj = \"gated-silu\""),
            (r#"{"model_type": "mt5"}"#, "model_type = \"mt5\""),
            (r#"{"num_heads": 0}"#, "num_heads = 0"),
            (r#"{"relative_attention_num_buckets": 7}"#, "relative_attention_num_buckets = 7"),
            (r#"{"relative_attention_max_distance": 16}"#, "relative_attention_max_distance = 16"),
        ] {
            let error = parse(change).unwrap_err().to_string();
            assert!(error.contains(key), "{error} names {key}");
        }
    }
}

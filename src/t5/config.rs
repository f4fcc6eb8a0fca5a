//! What `config.json` says about the computation. A key that would change it in a way that is not built
//! here is refused by name.

mod keys;

use std::path::{Path, PathBuf};

use self::keys::Keys;

/// A function between the products of a feed-forward layer (`dense_act_fn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// max(x, 0).
    Relu,
    /// x times the normal distribution up to x.
    Gelu,
    /// The same in its tanh approximation, `gelu_new`.
    GeluTanh,
    /// x times its sigmoid.
    Silu,
}

/// What the feed-forward layers do between their products (`feed_forward_proj`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The function f.
    pub function: Function,
    /// wo(f(wi_0 x) * wi_1 x) as in v1.1, mT5 and Flan, and not wo(f(wi x)) as in the original T5.
    pub gated: bool,
}

/// Which T5 (`model_type`). What a key that is left out means differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The original, v1.1, LM-adapted, Flan-T5, ByT5, CodeT5, UL2.
    T5,
    /// Multilingual; it computes as T5 v1.1 does.
    Mt5,
    /// Multilingual, with a bias of positions in every layer.
    Umt5,
}

/// The shape of a T5 and the constants of its computation. Names are those of `config.json`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // documented by Hugging Face's T5Config, whose names these are
pub struct Config {
    pub family: Family,
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
        "{path}: {source}; --model takes a folder with config.json, model.safetensors and tokenizer.json, or hf:NAME for a \
         model of the Hugging Face hub"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// A key that is needed is missing, or of the wrong type.
    #[error("{path}: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Which, and what is wrong.
        reason: String,
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
        Keys::parse(text, path)?.check(path)
    }

    /// Whether every layer has a bias of positions of its own, and not the first one for all.
    #[must_use]
    pub fn bias_in_every_layer(&self) -> bool {
        self.family == Family::Umt5
    }

    /// The configuration as fingerprints of models hash it: prompts know their model by them, so this never changes.
    pub(super) fn identity(&self) -> String {
        let activation = match self.activation {
            Activation { function: Function::Relu, gated: false } => "Relu".into(),
            Activation { function: Function::GeluTanh, gated: true } => "GatedGelu".into(),
            other => format!("{other:?}"),
        };
        let family = if self.bias_in_every_layer() { ", bias_in_every_layer: true" } else { "" };
        format!(
            "Config {{ vocab_size: {}, d_model: {}, d_kv: {}, d_ff: {}, num_layers: {}, num_decoder_layers: {}, \
             num_heads: {}, relative_attention_num_buckets: {}, relative_attention_max_distance: {}, \
             layer_norm_epsilon: {:?}, activation: {activation}, tie_word_embeddings: {}, scale_decoder_outputs: {}, \
             pad_token_id: {}, eos_token_id: {}, decoder_start_token_id: {}{family} }}",
            self.vocab_size,
            self.d_model,
            self.d_kv,
            self.d_ff,
            self.num_layers,
            self.num_decoder_layers,
            self.num_heads,
            self.relative_attention_num_buckets,
            self.relative_attention_max_distance,
            self.layer_norm_epsilon,
            self.tie_word_embeddings,
            self.scale_decoder_outputs,
            self.pad_token_id,
            self.eos_token_id,
            self.decoder_start_token_id,
        )
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
    fn keys_left_out_mean_what_the_family_means_by_them() {
        let config = parse("{}").unwrap();
        assert_eq!(config.activation, Activation { function: Function::Relu, gated: false });
        assert_eq!((config.num_decoder_layers, config.relative_attention_num_buckets), (2, 32));
        assert!(config.tie_word_embeddings && config.scale_decoder_outputs);
        let gated = Activation { function: Function::GeluTanh, gated: true };
        let mt5 = parse(r#"{"model_type": "mt5"}"#).unwrap();
        assert_eq!(
            (mt5.activation, mt5.tie_word_embeddings, mt5.scale_decoder_outputs),
            (gated, false, false)
        );
        let umt5 = parse(r#"{"model_type": "umt5"}"#).unwrap();
        assert_eq!(
            (umt5.activation, umt5.tie_word_embeddings, umt5.scale_decoder_outputs),
            (gated, true, true)
        );
        assert!(umt5.bias_in_every_layer() && !mt5.bias_in_every_layer());
    }

    #[test]
    fn keys_mean_what_transformers_means_by_them() {
        let function = |change: &str| {
            let Activation { function, gated } = parse(change).unwrap().activation;
            (function, gated)
        };
        assert_eq!(function(r#"{"feed_forward_proj": "gated-silu"}"#), (Function::Silu, true));
        assert_eq!(function(r#"{"feed_forward_proj": "gated-gelu"}"#), (Function::GeluTanh, true));
        assert_eq!(function(r#"{"feed_forward_proj": "gelu"}"#), (Function::Gelu, false));
        // these two override what feed_forward_proj says
        let exact = r#"{"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"}"#;
        assert_eq!(function(exact), (Function::Gelu, true));
        assert_eq!(
            function(r#"{"feed_forward_proj": "relu", "is_gated_act": true}"#),
            (Function::Relu, true)
        );
        // transformers 5 writes the second beside the first; of an mT5 it ties and never scales
        let five = parse(r#"{"tie_word_embeddings": true, "scale_decoder_outputs": false}"#).unwrap();
        assert!(five.tie_word_embeddings && !five.scale_decoder_outputs);
        for (version, scales) in [("4.57.6", true), ("5.24.0", false)] {
            let mt5 = format!(
                r#"{{"model_type": "mt5", "tie_word_embeddings": true, "transformers_version": "{version}"}}"#
            );
            assert_eq!(parse(&mt5).unwrap().scale_decoder_outputs, scales, "{version}");
        }
        assert_eq!(parse(r#"{"eos_token_id": [2], "pad_token_id": null}"#).unwrap().eos_token_id, 2);
        assert_eq!(parse(r#"{"hidden_size": 32, "head_dim": 8}"#).unwrap().d_model, 32);
        assert_eq!(parse(r#"{"decoder_start_token_id": 7}"#).unwrap().decoder_start_token_id, 7);
        assert_eq!(parse(r#"{"pad_token_id": 3}"#).unwrap().decoder_start_token_id, 3);
    }

    #[test]
    fn what_does_not_change_the_computation_is_ignored() {
        let plain = parse("{}").unwrap();
        let more = r#"{"architectures": ["T5WithLMHeadModel"], "dropout_rate": 0.1, "initializer_factor": 1.0,
            "n_positions": 512, "task_specific_params": {"a": 1}, "torch_dtype": "bfloat16", "pruned_heads": {},
            "scalable_attention": true, "is_encoder_decoder": true, "quantization_config": null, "use_cache": true}"#;
        assert_eq!(parse(more).unwrap(), plain);
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (change, key) in [
            (r#"{"feed_forward_proj": "gated-quick_gelu"}"#, "feed_forward_proj = \"gated-quick_gelu\""),
            (r#"{"feed_forward_proj": "twice-relu"}"#, "feed_forward_proj = \"twice-relu\""),
            (r#"{"dense_act_fn": "mish"}"#, "dense_act_fn = \"mish\""),
            (r#"{"model_type": "longt5"}"#, "model_type = \"longt5\""),
            (r#"{"architectures": ["T5EncoderModel"]}"#, "architectures = [\"T5EncoderModel\"]"),
            (r#"{"architectures": ["MT5ForQuestionAnswering"]}"#, "MT5ForQuestionAnswering"),
            (r#"{"quantization_config": {"quant_method": "gptq"}}"#, "quantization_config = {"),
            (r#"{"auto_map": {"AutoModel": "code.Model"}}"#, "auto_map = {"),
            (r#"{"pruned_heads": {"0": [1]}}"#, "pruned_heads = {"),
            (r#"{"is_encoder_decoder": false}"#, "is_encoder_decoder = false"),
            (r#"{"is_decoder": true}"#, "is_decoder = true"),
            (r#"{"tie_encoder_decoder": true}"#, "tie_encoder_decoder = true"),
            (r#"{"hidden_size": 64}"#, "hidden_size = 64"),
            (r#"{"num_heads": 0}"#, "num_heads = 0"),
            (r#"{"eos_token_id": [1, 2]}"#, "eos_token_id = [1,2]"),
            (r#"{"eos_token_id": 96}"#, "eos_token_id = 96"),
            (r#"{"decoder_start_token_id": 100}"#, "decoder_start_token_id = 100"),
            (r#"{"layer_norm_epsilon": -1.0}"#, "layer_norm_epsilon = -1.0"),
            (r#"{"relative_attention_num_buckets": 7}"#, "relative_attention_num_buckets = 7"),
            (r#"{"relative_attention_max_distance": 16}"#, "relative_attention_max_distance = 16"),
        ] {
            let error = parse(change).unwrap_err().to_string();
            assert!(error.starts_with("config.json: ") && error.contains(key), "{error} names {key}");
        }
    }

    #[test]
    fn a_key_of_the_wrong_type_names_itself() {
        let error = parse(r#"{"d_ff": "64"}"#).unwrap_err().to_string();
        assert!(error.contains("d_ff") && error.contains("invalid type"), "{error}");
        let error = Config::parse(r#"{"d_model": 3}"#, Path::new("config.json")).unwrap_err().to_string();
        assert!(error.contains("missing field `vocab_size`"), "{error}");
    }
}

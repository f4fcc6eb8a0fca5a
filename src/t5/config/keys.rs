//! The keys of `config.json`: what each may say, and what it means when it is left out.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Activation, Config, ConfigError, Family, Function};

/// `config.json` as it stands.
#[derive(Deserialize)]
pub(super) struct Keys {
    model_type: Option<String>,
    transformers_version: Option<String>,
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
    feed_forward_proj: Option<String>,
    dense_act_fn: Option<String>,
    is_gated_act: Option<bool>,
    tie_word_embeddings: Option<bool>,
    scale_decoder_outputs: Option<bool>,
    pad_token_id: Option<u32>,
    eos_token_id: Option<OneOrMore>,
    decoder_start_token_id: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

/// Names that transformers takes for others.
const ALIASES: [(&str, &str); 4] = [
    ("hidden_size", "d_model"),
    ("num_attention_heads", "num_heads"),
    ("num_hidden_layers", "num_layers"),
    ("head_dim", "d_kv"),
];

const FUNCTIONS: &str = "relu, gelu, gelu_new and silu are built, each also as gated-…";

fn default_buckets() -> usize {
    32
}

fn default_distance() -> usize {
    128
}

fn default_epsilon() -> f32 {
    1e-6
}

/// A function by the name that transformers has for it.
fn function(name: &str) -> Option<Function> {
    Some(match name {
        "relu" => Function::Relu,
        "gelu" | "gelu_python" => Function::Gelu,
        // one formula, written in several ways
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Function::GeluTanh,
        "silu" | "swish" => Function::Silu,
        _ => return None,
    })
}

fn refused(path: &Path, key: &'static str, value: impl Into<String>, remedy: &'static str) -> ConfigError {
    ConfigError::Unsupported { path: path.to_owned(), key, value: value.into(), remedy }
}

// === impl Keys ===

impl Keys {
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut map: Map<String, Value> = serde_json::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        refuse_other_computations(&map, path)?;
        for (alias, key) in ALIASES {
            let Some(value) = map.get(alias).cloned() else { continue };
            if *map.entry(key).or_insert_with(|| value.clone()) != value {
                return Err(refused(
                    path,
                    alias,
                    value.to_string(),
                    "it is another name of a key that says otherwise",
                ));
            }
        }
        serde_path_to_error::deserialize(Value::Object(map)).map_err(|error| {
            let place = match error.path().to_string().as_str() {
                "." => String::new(),
                key => format!("{key}: "),
            };
            ConfigError::Key { path: path.to_owned(), reason: format!("{place}{}", error.inner()) }
        })
    }

    pub(super) fn check(self, path: &Path) -> Result<Config, ConfigError> {
        let family = match self.model_type.as_deref() {
            None | Some("t5") => Family::T5,
            Some("mt5") => Family::Mt5,
            Some("umt5") => Family::Umt5,
            Some(other) => {
                let value = format!("{other:?}");
                return Err(refused(path, "model_type", value, "\"t5\", \"mt5\" and \"umt5\" are built"));
            }
        };
        let activation = self.activation(family, path)?;
        let num_decoder_layers = self.num_decoder_layers.unwrap_or(self.num_layers);
        let positive = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("num_decoder_layers", num_decoder_layers),
        ];
        if let Some((key, _)) = positive.into_iter().find(|&(_, size)| size == 0) {
            return Err(refused(path, key, "0", "sizes are at least 1"));
        }
        self.check_constants(path)?;
        let pad_token_id = self.pad_token_id.unwrap_or(0);
        let eos_token_id = match self.eos_token_id {
            None => 1,
            Some(OneOrMore::One(id)) => id,
            Some(OneOrMore::More(ids)) => match ids[..] {
                [id] => id,
                _ => {
                    let value = Value::from(ids);
                    return Err(refused(
                        path,
                        "eos_token_id",
                        value.to_string(),
                        "a text ends with one token",
                    ));
                }
            },
        };
        let decoder_start_token_id = self.decoder_start_token_id.unwrap_or(pad_token_id);
        let tokens = [
            ("pad_token_id", pad_token_id),
            ("eos_token_id", eos_token_id),
            ("decoder_start_token_id", decoder_start_token_id),
        ];
        if let Some((key, id)) = tokens.into_iter().find(|&(_, id)| id as usize >= self.vocab_size) {
            return Err(refused(path, key, id.to_string(), "ids are below vocab_size"));
        }
        let tie_word_embeddings = self.tie_word_embeddings.unwrap_or(family != Family::Mt5);
        // transformers 5 ties every mT5 and scales none
        let by_five = |version: &str| {
            version.split('.').next().is_some_and(|major| major.parse::<u32>().is_ok_and(|major| major >= 5))
        };
        let scales = tie_word_embeddings
            && !(family == Family::Mt5 && self.transformers_version.as_deref().is_some_and(by_five));
        Ok(Config {
            family,
            vocab_size: self.vocab_size,
            d_model: self.d_model,
            d_kv: self.d_kv,
            d_ff: self.d_ff,
            num_layers: self.num_layers,
            num_decoder_layers,
            num_heads: self.num_heads,
            relative_attention_num_buckets: self.relative_attention_num_buckets,
            relative_attention_max_distance: self.relative_attention_max_distance,
            layer_norm_epsilon: self.layer_norm_epsilon,
            activation,
            tie_word_embeddings,
            scale_decoder_outputs: self.scale_decoder_outputs.unwrap_or(scales),
            pad_token_id,
            eos_token_id,
            decoder_start_token_id,
        })
    }

    /// By `feed_forward_proj`, which `dense_act_fn` and `is_gated_act` override.
    fn activation(&self, family: Family, path: &Path) -> Result<Activation, ConfigError> {
        let usual = if family == Family::T5 { "relu" } else { "gated-gelu" };
        let projection = self.feed_forward_proj.as_deref().unwrap_or(usual);
        let refuse = |key, name: &str| refused(path, key, format!("{name:?}"), FUNCTIONS);
        let (gated, name) = match projection.split_once('-') {
            None => (false, projection),
            // T5 v1.1's, by the name it has had from the beginning
            Some(("gated", "gelu")) => (true, "gelu_new"),
            Some(("gated", name)) => (true, name),
            Some(_) => return Err(refuse("feed_forward_proj", projection)),
        };
        let function = match &self.dense_act_fn {
            Some(name) => function(name).ok_or_else(|| refuse("dense_act_fn", name))?,
            None => function(name).ok_or_else(|| refuse("feed_forward_proj", projection))?,
        };
        Ok(Activation { function, gated: self.is_gated_act.unwrap_or(gated) })
    }

    fn check_constants(&self, path: &Path) -> Result<(), ConfigError> {
        let epsilon = self.layer_norm_epsilon;
        if !epsilon.is_finite() || epsilon < 0.0 {
            return Err(refused(path, "layer_norm_epsilon", format!("{epsilon:?}"), "it is 0 or more"));
        }
        let (buckets, distance) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if buckets < 4 || !buckets.is_multiple_of(2) {
            let remedy = "an even number of at least 4";
            return Err(refused(path, "relative_attention_num_buckets", buckets.to_string(), remedy));
        }
        if distance <= buckets / 2 {
            let remedy = "it exceeds half the number of buckets";
            return Err(refused(path, "relative_attention_max_distance", distance.to_string(), remedy));
        }
        Ok(())
    }
}

/// Refuses keys that no T5 has unless it computes in another way.
fn refuse_other_computations(map: &Map<String, Value>, path: &Path) -> Result<(), ConfigError> {
    type Refused = fn(&Value) -> bool;
    let is_true: Refused = |value| value == &Value::Bool(true);
    let is_there: Refused = |value| !value.is_null();
    let keys: [(&str, Refused, &str); 7] = [
        (
            "architectures",
            |value| value.as_array().is_some_and(|names| !names.iter().all(answers_with_text)),
            "the model needs its decoder and output projection: …ForConditionalGeneration",
        ),
        ("quantization_config", is_there, "name a checkpoint of f32, bf16 or f16 weights"),
        ("auto_map", is_there, "a model with Python code of its own is not run"),
        (
            "pruned_heads",
            |value| value.as_object().is_some_and(|heads| !heads.is_empty()),
            "all layers have the same number of heads",
        ),
        ("is_decoder", is_true, "the model is an encoder and a decoder"),
        ("is_encoder_decoder", |value| value == &Value::Bool(false), "the model is an encoder and a decoder"),
        ("tie_encoder_decoder", is_true, "encoder and decoder have weights of their own"),
    ];
    for (key, is_refused, remedy) in keys {
        if let Some(value) = map.get(key).filter(|value| is_refused(value)) {
            return Err(refused(path, key, value.to_string(), remedy));
        }
    }
    Ok(())
}

/// Whether a class of transformers has a decoder and an output projection, or gets one that is tied.
fn answers_with_text(architecture: &Value) -> bool {
    architecture.as_str().is_some_and(|name| {
        name.ends_with("ForConditionalGeneration")
            || ["T5WithLMHeadModel", "T5Model", "MT5Model", "UMT5Model"].contains(&name)
    })
}

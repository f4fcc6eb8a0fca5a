//! The configuration of a PEFT adapter: each key is honoured, is known to change no answer, or is refused by name.

use serde_json::{Map, Value};

use super::weights::Weights;
use super::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, Claims, ExchangeError, Foreign};
use crate::fingerprint;

/// Keys that matter to training, to loading in Python or to people, and change no answer of a finished prompt.
const WITHOUT_EFFECT: [&str; 11] = [
    "auto_mapping",
    "encoder_dropout",
    "encoder_hidden_size",
    "encoder_num_layers",
    "encoder_reparameterization_type",
    "inference_mode",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "runtime_config",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
];

/// What of a configuration has a part in answers.
#[derive(Debug, PartialEq, Eq)]
struct AdapterConfig {
    family: String,
    tokens: usize,
    submodules: usize,
    width: Option<usize>,
    layers: Option<usize>,
    heads: Option<usize>,
    base_model: Option<String>,
    revision: Option<String>,
    peft_version: Option<String>,
}

/// The keys that were not asked for yet.
struct Keys(Map<String, Value>);

fn wrong(key: &str, got: &dyn ToString, remedy: &str) -> ExchangeError {
    ExchangeError::Key {
        file: ADAPTER_CONFIG,
        key: key.to_owned(),
        got: shortened(&got.to_string()),
        remedy: remedy.to_owned(),
    }
}

/// The beginning of a value that may be of any length.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

// === impl Keys ===

impl Keys {
    /// A value that is there and not null.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    /// A text that is there and not empty.
    fn text(&mut self, key: &str) -> Result<Option<String>, ExchangeError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong(key, &other, "it has to be a text or null")),
        }
    }

    fn count(&mut self, key: &str) -> Result<Option<usize>, ExchangeError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
        count.map(Some).ok_or_else(|| wrong(key, &value, "it has to be a number from 1 on, or null"))
    }

    /// Refuses what is left: a later version of PEFT may mean something by it.
    fn finish(self) -> Result<(), ExchangeError> {
        let says_nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        };
        match self.0.into_iter().find(|(_, value)| !says_nothing(value)) {
            None => Ok(()),
            Some((key, value)) => Err(wrong(
                &shortened(&key),
                &value,
                "this program does not know what it changes; set it to null if the adapter answers the same without it",
            )),
        }
    }
}

// === impl AdapterConfig ===

impl AdapterConfig {
    fn parse(bytes: &[u8]) -> Result<Self, ExchangeError> {
        let malformed = |reason: String| ExchangeError::Malformed { file: ADAPTER_CONFIG.to_owned(), reason };
        let json = serde_json::from_slice(bytes)
            .map_err(|error| malformed(format!("no JSON ({error}); copy or download it again")))?;
        let Value::Object(keys) = json else {
            return Err(malformed("not a JSON object; copy or download it again".into()));
        };
        let mut keys = Keys(keys);
        let family = keys.text("peft_type")?.ok_or_else(|| {
            wrong("peft_type", &"missing", "PEFT writes PROMPT_TUNING there for a soft prompt")
        })?;
        if let Some(reason) = why_not(&family) {
            return Err(ExchangeError::Family { file: ADAPTER_CONFIG, family: shortened(&family), reason });
        }
        match keys.text("task_type")?.as_deref() {
            Some("SEQ_2_SEQ_LM") => {}
            got => {
                let remedy = "only SEQ_2_SEQ_LM puts the prompt in front of a T5's encoder; write that if the adapter was trained \
                     so";
                return Err(wrong("task_type", &got.unwrap_or("null"), remedy));
            }
        }
        if let Some(modules) =
            keys.take("modules_to_save").filter(|modules| *modules != Value::Array(Vec::new()))
        {
            let remedy = "layers that were trained beside the prompt cannot be served on a frozen model; train without them";
            return Err(wrong("modules_to_save", &modules, remedy));
        }
        let submodules = keys.count("num_transformer_submodules")?.unwrap_or(2);
        if submodules > 2 {
            let remedy = "an encoder and a decoder are two; the prompt's first rows are the encoder's";
            return Err(wrong("num_transformer_submodules", &submodules, remedy));
        }
        let tokens = keys.count("num_virtual_tokens")?;
        let tokens = tokens.ok_or_else(|| {
            wrong("num_virtual_tokens", &"missing", "write the number of the prompt's tokens")
        })?;
        let config = Self {
            family,
            tokens,
            submodules,
            width: keys.count("token_dim")?,
            layers: keys.count("num_layers")?,
            heads: keys.count("num_attention_heads")?,
            base_model: keys.text("base_model_name_or_path")?,
            revision: keys.text("revision")?,
            peft_version: keys.text("peft_version")?,
        };
        for key in WITHOUT_EFFECT {
            keys.take(key);
        }
        keys.finish()?;
        Ok(config)
    }
}

/// Why a method of PEFT cannot be served; none for those that can.
fn why_not(family: &str) -> Option<&'static str> {
    match family {
        // P-tuning's network is gone when an adapter is saved: PEFT stores the rows that came out of it
        "PROMPT_TUNING" | "P_TUNING" => None,
        "MULTITASK_PROMPT_TUNING" => Some(
            "its rows are multiplied with factors of each task, and half of them stand in front of the decoder; tune a prompt of \
             its own for each task with PROMPT_TUNING",
        ),
        "PREFIX_TUNING" | "CARTRIDGE" | "ADAPTION_PROMPT" => Some(
            "it gives keys and values to the layers, while a prompt here is rows at the encoder's input; train it again with \
             PROMPT_TUNING",
        ),
        "CPT" => Some("it is for decoder-only models; train it again on a T5 with PROMPT_TUNING"),
        "LORA" | "ADALORA" | "IA3" | "LOHA" | "LOKR" | "OFT" | "BOFT" | "VERA" | "HRA" | "XLORA" | "POLY"
        | "LN_TUNING" | "FOURIERFT" | "TRAINABLE_TOKENS" => Some(
            "it changes the model's weights, while all tasks here share one frozen model; merge it into the checkpoint \
             (merge_and_unload of PEFT) and serve that as a model of its own",
        ),
        _ => Some("only PROMPT_TUNING and P_TUNING are rows at the encoder's input"),
    }
}

// === impl Foreign ===

impl Foreign {
    /// The prompt of a PEFT adapter, from the contents of `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// Of an adapter for an encoder-decoder only the first `num_virtual_tokens` rows count: PEFT stores as many for the
    /// decoder, and has not used those since its version 0.4.
    ///
    /// # Errors
    /// If a key asks for something else than a soft prompt at a T5's encoder, or the tensor does not fit the keys.
    pub fn from_peft(config: &[u8], weights: &[u8]) -> Result<Self, ExchangeError> {
        let config = AdapterConfig::parse(config)?;
        let Weights { mut rows, count, width } = Weights::read(weights)?;
        let AdapterConfig { tokens, submodules, .. } = config;
        if Some(count) != tokens.checked_mul(submodules) {
            return Err(ExchangeError::Malformed {
                file: ADAPTER_WEIGHTS.to_owned(),
                reason: format!(
                    "{count} rows, but {ADAPTER_CONFIG} asks for num_virtual_tokens {tokens} times num_transformer_submodules \
                     {submodules}; the two files belong to different adapters"
                ),
            });
        }
        if let Some(want) = config.width.filter(|&want| want != width) {
            let remedy =
                format!("the rows in {ADAPTER_WEIGHTS} have {width} values; take files of one adapter");
            return Err(wrong("token_dim", &want, &remedy));
        }
        rows.truncate(tokens * width);
        let version =
            config.peft_version.map_or(String::new(), |version| format!(" {}", shortened(&version)));
        let model = match (&config.base_model, &config.revision) {
            (Some(name), Some(revision)) => format!(" for {}@{}", shortened(name), shortened(revision)),
            (Some(name), None) => format!(" for {}", shortened(name)),
            (None, _) => String::new(),
        };
        let bytes = fingerprint::of_bytes(weights);
        Ok(Self {
            rows,
            width,
            file: ADAPTER_CONFIG.to_owned(),
            origin: format!("PEFT{version} {} ({bytes}){model}", config.family),
            claims: Claims { model: config.base_model, layers: config.layers, heads: config.heads },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(change: impl FnOnce(&mut Value)) -> Result<AdapterConfig, String> {
        let mut config = json!({
            "peft_type": "PROMPT_TUNING", "task_type": "SEQ_2_SEQ_LM", "num_virtual_tokens": 20, "auto_mapping": null,
            "base_model_name_or_path": "google/t5-large-lm-adapt", "token_dim": 1024, "prompt_tuning_init": "RANDOM",
        });
        change(&mut config);
        AdapterConfig::parse(config.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_silent_has_the_values_that_peft_fills_in() {
        let config = config(|_| {}).unwrap();
        assert_eq!((config.tokens, config.submodules, config.width), (20, 2, Some(1024)));
        assert_eq!((config.layers, config.heads, config.revision), (None, None, None));
    }

    #[test]
    fn a_key_that_changes_answers_is_refused_by_name() {
        let cases: [(&str, Value, &str); 11] = [
            ("peft_type", Value::Null, "peft_type is missing"),
            (
                "peft_type",
                "LORA".into(),
                "peft_type is LORA, which cannot be served: it changes the model's weights",
            ),
            (
                "peft_type",
                "PREFIX_TUNING".into(),
                "PREFIX_TUNING, which cannot be served: it gives keys and values",
            ),
            ("peft_type", "MULTITASK_PROMPT_TUNING".into(), "in front of the decoder"),
            ("peft_type", "NEW_TUNING".into(), "only PROMPT_TUNING and P_TUNING"),
            ("task_type", "CAUSAL_LM".into(), "task_type is CAUSAL_LM; only SEQ_2_SEQ_LM"),
            ("task_type", Value::Null, "task_type is null; only SEQ_2_SEQ_LM"),
            ("modules_to_save", json!(["lm_head"]), "modules_to_save is [\"lm_head\"]; layers"),
            ("num_virtual_tokens", json!(0), "num_virtual_tokens is 0; it has to be a number from 1 on"),
            ("num_transformer_submodules", json!(3), "num_transformer_submodules is 3"),
            ("decoder_prompt", json!(true), "decoder_prompt is true; this program does not know"),
        ];
        for (key, value, words) in cases {
            let error = config(|config| config[key] = value).unwrap_err();
            assert!(error.starts_with("adapter_config.json: ") && error.contains(words), "{key}: {error}");
        }
    }

    #[test]
    fn a_key_that_says_nothing_is_no_obstacle_and_neither_is_one_for_training() {
        for (key, value) in [
            ("later_key", json!(false)),
            ("later_key", json!([])),
            ("modules_to_save", json!([])),
            ("tokenizer_kwargs", json!({"legacy": true})),
            ("prompt_tuning_init_text", json!("classify")),
            ("inference_mode", json!(true)),
        ] {
            assert!(config(|config| config[key] = value).is_ok(), "{key}");
        }
    }
}

//! A prompt file as an adapter of PEFT.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::{Value, json};

use super::weights::TENSOR;
use super::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, ExchangeError, Settings};
use crate::prompt::PromptFile;

/// The files of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// `adapter_config.json`.
    pub config: Vec<u8>,
    /// `adapter_model.safetensors`.
    pub weights: Vec<u8>,
    /// `task.toml`: what PEFT has no place for.
    pub settings: String,
}

/// The adapter of PEFT that answers as a prompt does. `base_model` is what PEFT is to load with it, a name on the hub
/// or a folder; without one the name in the prompt file.
///
/// An adapter has no masks: the surviving rows are written whole, with zeros where pieces are pruned. PEFT holds as many
/// rows for the decoder, which no version since 0.4 uses; they are the same rows once more.
///
/// # Errors
/// If a part cannot be written in its format.
pub fn to_peft(file: &PromptFile, base_model: Option<&str>) -> Result<Exported, ExchangeError> {
    let malformed = |file: &str, reason: String| ExchangeError::Malformed { file: file.to_owned(), reason };
    let (prompt, base) = (&file.prompt, &file.manifest.base_model);
    let rows: Vec<u8> = prompt.rows().iter().flat_map(|x| x.to_le_bytes()).collect();
    let both = [&rows[..], &rows].concat();
    let shape = vec![2 * prompt.kept_token_count(), prompt.d_model()];
    let weights = TensorView::new(Dtype::F32, shape, &both)
        .and_then(|view| serialize([(TENSOR, view)], Some([("format".to_owned(), "pt".to_owned())].into())))
        .map_err(|error| malformed(ADAPTER_WEIGHTS, error.to_string()))?;
    // the keys and the layout of PEFT's save_pretrained; what is null it fills in from the model
    let config = json!({
        "auto_mapping": Value::Null,
        "base_model_name_or_path": base_model.unwrap_or(&base.name),
        "inference_mode": true,
        "modules_to_save": Value::Null,
        "num_attention_heads": Value::Null,
        "num_layers": Value::Null,
        "num_transformer_submodules": 2,
        "num_virtual_tokens": prompt.kept_token_count(),
        "peft_type": "PROMPT_TUNING",
        "peft_version": Value::Null,
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": Value::Null,
        "revision": Value::Null,
        "task_type": "SEQ_2_SEQ_LM",
        "token_dim": prompt.d_model(),
        "tokenizer_kwargs": Value::Null,
        "tokenizer_name_or_path": Value::Null,
    });
    let config =
        serde_json::to_vec_pretty(&config).map_err(|error| malformed(ADAPTER_CONFIG, error.to_string()))?;
    let settings =
        Settings { task: file.manifest.task.clone(), base_model: Some(base.name.clone()) }.to_toml()?;
    Ok(Exported { config, weights, settings })
}

//! The rows of a soft prompt of another program, and whether they fit a model.

use std::fmt::Display;

use serde_json::Map;

use super::ExchangeError;
use crate::prompt::{Base, FORMAT, Manifest, Prompt, PromptFile, ScoredBy, Stage, TaskSpec};
use crate::t5::Config;

/// Pieces of a token, where the width allows: the paper's.
const PIECES: usize = 16;

/// A soft prompt of another program.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// Rows `[tokens, width]` in front of the encoder's input.
    pub rows: Vec<f32>,
    /// Values of a row.
    pub width: usize,
    /// The file that tells about it, for messages.
    pub file: String,
    /// Where the rows come from, in words, with a fingerprint.
    pub origin: String,
    /// What it says about its model.
    pub claims: Claims,
}

/// What a prompt says about the model that it was trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Its name or place, as whoever trained the prompt wrote it.
    pub model: Option<String>,
    /// Layers of its encoder.
    pub layers: Option<usize>,
    /// Heads of a layer.
    pub heads: Option<usize>,
}

// === impl Foreign ===

impl Foreign {
    /// Its tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.rows.len() / self.width
    }

    /// Checks by all that the prompt says that it was trained on the loaded model: width, layers, heads, and the model's
    /// name, which has to be the name of the loaded model's folder. Many models have the same shape, so the name
    /// matters; `known_as` is the loaded model's name by someone who knows that the two are the same.
    ///
    /// # Errors
    /// If something differs.
    pub fn fits(&self, base: &Base, config: &Config, known_as: Option<&str>) -> Result<(), ExchangeError> {
        let other = |what: &str, want: &dyn Display, got: &dyn Display, remedy| ExchangeError::Model {
            file: self.file.clone(),
            difference: format!("{what} is {want}, but {} has {got}", base.model.name),
            remedy,
        };
        const SHAPE: &str = "take the model that the prompt was trained on";
        if self.width != base.d_model {
            let turned = self.tokens() == base.d_model;
            let remedy = if turned { "turn the array over: rows.T" } else { SHAPE };
            return Err(other("width", &self.width, &base.d_model, remedy));
        }
        let shapes = [
            ("num_layers", self.claims.layers, config.num_layers),
            ("num_heads", self.claims.heads, config.num_heads),
        ];
        for (what, want, got) in shapes {
            if let Some(want) = want.filter(|&want| want != got) {
                return Err(other(what, &want, &got, SHAPE));
            }
        }
        let loaded = plain(&base.model.name);
        let (name, remedy) = match known_as {
            Some(name) => (Some(name), "correct base_model in task.toml, or take that model"),
            None => (
                self.claims.model.as_deref(),
                "if the two are the same model, say so: base_model = \"NAME\" in task.toml, with the loaded model's name \
                 (or --same-model of xprompt-trainer import)",
            ),
        };
        match name.map(plain).filter(|&name| name != loaded) {
            Some(name) => Err(other("name", &name, &"another", remedy)),
            None => Ok(()),
        }
    }

    /// The prompt file for a task on a model. Pieces that are all zero come in as pruned, which changes no answer: an
    /// XPrompt that was exported comes back with its mask.
    #[must_use]
    pub fn into_file(self, task: TaskSpec, base: &Base, producer: String) -> PromptFile {
        let pieces = (1..=PIECES).rev().find(|&pieces| self.width.is_multiple_of(pieces)).unwrap_or(1);
        let piece = self.width / pieces;
        let is_zero = |values: &[f32]| values.iter().all(|&x| x == 0.0);
        let mask = self.rows.chunks(self.width).flat_map(|row| {
            // a row of zeros is a token that is there
            let whole = is_zero(row);
            row.chunks(piece).map(move |values| whole || !is_zero(values))
        });
        let mask: Vec<bool> = mask.collect();
        let prompt = Prompt::dense(self.width, pieces, self.rows).masked(&mask);
        let imported = Stage {
            name: "imported".into(),
            tokens: prompt.kept_token_count(),
            pieces: prompt.kept_piece_count(),
            parameters: prompt.parameters(),
            ratio: None,
            score: None,
            steps: 0,
            dev: Map::new(),
            test: Map::new(),
        };
        let manifest = Manifest {
            format: FORMAT,
            producer,
            tokens: prompt.tokens(),
            pieces,
            d_model: self.width,
            base_model: base.model.clone(),
            tokenizer: base.tokenizer.clone(),
            task,
            history: vec![imported],
            scored_by: ScoredBy::default(),
            seed: 0,
            data: Vec::new(),
            golden: Vec::new(),
        };
        PromptFile { manifest, prompt, token_importance: None, piece_importance: None }
    }
}

/// The last part of a model's name or path. The hub's cache keeps `google/t5-large` in
/// `models--google--t5-large/snapshots/REVISION`.
fn plain(name: &str) -> &str {
    let mut parts = name.split(['/', '\\']).filter(|part| !part.is_empty());
    let cached = parts.clone().find_map(|part| part.strip_prefix("models--"));
    match cached {
        Some(cached) => cached.rsplit("--").next().unwrap_or(cached),
        None => parts.next_back().unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{Fingerprint, OutputSpec};
    use proptest::prelude::*;
    use std::path::Path;

    fn nano() -> (Base, Config) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/t5-nano");
        let config = Config::read(&folder).unwrap();
        let id = |hash: &str| Fingerprint { name: "t5-nano".into(), fingerprint: hash.into() };
        (Base { model: id("m"), tokenizer: id("t"), d_model: config.d_model }, config)
    }

    fn foreign(tokens: usize, width: usize, model: Option<&str>) -> Foreign {
        let claims = Claims { model: model.map(str::to_owned), ..Claims::default() };
        let file = "adapter_config.json".to_owned();
        Foreign { rows: vec![1.0; tokens * width], width, file, origin: String::new(), claims }
    }

    #[test]
    fn a_models_name_is_the_last_part_of_whatever_it_was_called() {
        for name in [
            "t5-nano",
            "someone/t5-nano",
            "../models/t5-nano/",
            "C:\\models\\t5-nano",
            "/cache/models--someone--t5-nano/snapshots/0123abc",
        ] {
            assert_eq!(plain(name), "t5-nano", "{name}");
        }
    }

    #[test]
    fn a_prompt_of_another_model_is_refused_by_what_it_says() {
        let (base, config) = nano();
        let refused =
            |foreign: &Foreign, known_as| foreign.fits(&base, &config, known_as).unwrap_err().to_string();
        let named = |model| foreign(2, 256, Some(model));
        assert!(named("models/t5-nano").fits(&base, &config, None).is_ok());
        assert!(foreign(2, 256, None).fits(&base, &config, None).is_ok());
        assert!(named("google/t5-mini").fits(&base, &config, Some("t5-nano")).is_ok());
        let error = refused(&named("google/t5-mini"), None);
        assert!(
            error.contains("name is t5-mini, but t5-nano has another") && error.contains("base_model = "),
            "{error}"
        );
        let error = refused(&named("models/t5-nano"), Some("t5-mini"));
        assert!(error.contains("correct base_model in task.toml"), "{error}");
        let error = refused(&foreign(2, 512, None), None);
        assert!(error.contains("width is 512, but t5-nano has 256"), "{error}");
        assert!(refused(&foreign(256, 20, None), None).contains("rows.T"));
        let mut deeper = named("models/t5-nano");
        deeper.claims.layers = Some(24);
        assert!(refused(&deeper, None).contains("num_layers is 24, but t5-nano has 8"));
        deeper.claims = Claims { heads: Some(16), ..Claims::default() };
        assert!(refused(&deeper, Some("t5-nano")).contains("num_heads is 16, but t5-nano has 4"));
    }

    proptest! {
        #[test]
        fn what_comes_in_has_the_rows_that_it_had(
            rows in prop::collection::vec(prop::sample::select(vec![0.0f32, 0.0, 1.5, -0.25]), 3 * 12),
        ) {
            let (base, _) = nano();
            let task = TaskSpec {
                template: "{text}".into(),
                output: OutputSpec::Text { max_new_tokens: 3 },
                max_input_tokens: 9,
                keep: Vec::new(),
                content_free: Vec::new(),
            };
            let file = Foreign { rows: rows.clone(), ..foreign(3, 12, None) }.into_file(task, &base, "x".into());
            prop_assert_eq!(file.prompt.rows(), &rows[..]);
            prop_assert_eq!((file.prompt.kept_token_count(), file.prompt.pieces()), (3, 12));
        }
    }
}

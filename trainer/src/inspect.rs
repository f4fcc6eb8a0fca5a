//! A prompt file as text for a terminal.

use std::fmt::Write as _;

use xprompt::prompt::{OutputSpec, PromptFile};

/// Shades of importance, from least to most.
const SHADES: [char; 4] = ['░', '▒', '▓', '█'];

/// What a prompt file holds, with a picture of its tokens and pieces.
pub(crate) fn describe(file: &PromptFile, version: &str) -> String {
    let (m, p) = (&file.manifest, &file.prompt);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // writing to a string does not fail
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("version", version.to_owned());
    line("base model", format!("{} ({})", m.base_model.name, m.base_model.fingerprint));
    line("template", m.task.template.clone());
    match &m.task.output {
        OutputSpec::Labels { labels } => {
            let label = |label: &xprompt::prompt::Label| {
                if label.name == label.words {
                    label.name.clone()
                } else {
                    format!("{} ({:?})", label.name, label.words)
                }
            };
            line("labels", labels.iter().map(label).collect::<Vec<_>>().join(", "));
        }
        OutputSpec::Text { max_new_tokens } => {
            line("answers", format!("text of up to {max_new_tokens} tokens"));
        }
    }
    let percent = |part: usize, whole: usize| {
        format!("{part} of {whole} ({:.0} %)", 100.0 * part as f64 / whole as f64)
    };
    line("tokens", percent(p.kept_token_count(), p.tokens()));
    line("pieces", percent(p.kept_piece_count(), p.piece_mask().len()));
    line("parameters", p.parameters().to_string());
    for stage in &m.history {
        let metric = |split: &serde_json::Map<String, serde_json::Value>| {
            split.iter().next().map_or("-".into(), |(name, value)| {
                format!("{name} {:.1} %", 100.0 * value.as_f64().unwrap_or(f64::NAN))
            })
        };
        let (dev, test) = (metric(&stage.dev), metric(&stage.test));
        line(
            &stage.name,
            format!("dev {dev}, test {test}, {} tokens, {} pieces", stage.tokens, stage.pieces),
        );
    }
    text.push_str(&picture(file));
    text
}

/// One line a token, one character a piece: shaded by importance where it is known, a dot where it is pruned.
fn picture(file: &PromptFile) -> String {
    let p = &file.prompt;
    let mut text = String::from("\npieces of each token (darker: more important, dot: pruned)\n");
    let most = file.piece_importance.iter().flatten().copied().fold(0.0f32, f32::max);
    for (token, mask) in p.piece_mask().chunks(p.pieces()).enumerate() {
        let shade = |(piece, &kept): (usize, &bool)| match (&file.piece_importance, kept) {
            (_, false) => '·',
            (Some(scores), true) if most > 0.0 => {
                let share = scores[token * p.pieces() + piece] / most;
                SHADES[((share * SHADES.len() as f32) as usize).min(SHADES.len() - 1)]
            }
            _ => SHADES[SHADES.len() - 1],
        };
        let pieces: String = mask.iter().enumerate().map(shade).collect();
        let _ = writeln!(text, "  {token:>3} {pieces}");
    }
    text
}

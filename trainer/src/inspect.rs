//! A prompt file as text for a terminal: what it is for, its history as a table, importance of its tokens as bars
//! and a map of their pieces.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use xprompt::prompt::{Label, OutputSpec, PromptFile, Score, Stage};

use crate::report::label;
use crate::report::number::{bytes, count, decimal, decimals_of, percent, plain_spaces};

/// Shades of importance, from least to most.
const SHADES: [char; 4] = ['░', '▒', '▓', '█'];

/// Eighths of a character that a bar ends with.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Characters of the longest bar.
const BAR: usize = 20;

/// What a prompt file holds. Characters that would move a terminal's cursor are shown as escapes.
#[must_use]
pub fn describe(file: &PromptFile, version: &str) -> String {
    let mut text = facts(file, version);
    if !file.manifest.history.is_empty() {
        text.push('\n');
        text.push_str(&history(&file.manifest.history));
    }
    text.push('\n');
    text.push_str(&picture(file));
    plain_spaces(&text)
}

fn facts(file: &PromptFile, version: &str) -> String {
    let (m, p) = (&file.manifest, &file.prompt);
    let share = |part: usize, whole: usize| {
        let (part, whole) = (part as f64, whole as f64);
        format!("{} of {} ({} %)", count(part), count(whole), decimal(100.0 * part / whole, 0))
    };
    let answers = match &m.task.output {
        OutputSpec::Labels { labels } => {
            let shown = |label: &Label| {
                if label.name == label.words {
                    label.name.clone()
                } else {
                    format!("{} ({:?})", label.name, label.words)
                }
            };
            ("labels", labels.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        OutputSpec::Text { max_new_tokens } => ("answers", format!("text of up to {max_new_tokens} tokens")),
    };
    let data =
        m.data.iter().map(|source| format!("{} {} ({})", source.split, source.rows, source.fingerprint));
    let lines = [
        ("version", version.to_owned()),
        ("producer", m.producer.clone()),
        ("base model", format!("{} ({})", m.base_model.name, m.base_model.fingerprint)),
        ("tokenizer", format!("{} ({})", m.tokenizer.name, m.tokenizer.fingerprint)),
        ("data", data.collect::<Vec<_>>().join(", ")),
        ("seed", m.seed.to_string()),
        ("template", m.task.template.clone()),
        answers,
        ("tokens", share(p.kept_token_count(), p.tokens())),
        ("pieces", share(p.kept_piece_count(), p.piece_mask().len())),
        ("parameters", share(p.parameters(), p.tokens() * p.d_model())),
        ("values", bytes(4.0 * p.parameters() as f64)),
        ("pruned by", pruned_by(&m.history)),
        ("importance", importance(file)),
    ];
    let mut text = String::new();
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{name:<12} {}", plain(value));
    }
    text
}

/// The scores that prunings went by, where that is known.
fn pruned_by(stages: &[Stage]) -> String {
    let mut scores: Vec<&str> = stages.iter().filter_map(|stage| stage.score).map(name_of).collect();
    scores.dedup();
    scores.join(", then ")
}

/// What the importance in a file is; nothing if there is none.
fn importance(file: &PromptFile) -> String {
    let name = |scores: &Option<Vec<f32>>, score: Option<Score>| {
        scores.as_ref().map(|_| score.map_or("of a score that the file does not name", name_of))
    };
    let by = file.manifest.scored_by;
    match (name(&file.token_importance, by.tokens), name(&file.piece_importance, by.pieces)) {
        (Some(tokens), Some(pieces)) if tokens != pieces => format!("tokens: {tokens}; pieces: {pieces}"),
        (tokens, pieces) => tokens.or(pieces).unwrap_or_default().to_owned(),
    }
}

fn name_of(score: Score) -> &'static str {
    match score {
        Score::AbsoluteGradient => "absolute gradient",
        Score::SignedGradient => "signed gradient",
        Score::LeaveOneOut => "leaving one out",
    }
}

/// The history as a table with aligned numbers.
fn history(stages: &[Stage]) -> String {
    let mut rows =
        vec![["history", "tokens", "pieces", "parameters", "steps", "dev", "test"].map(str::to_owned)];
    rows.extend(stages.iter().map(|stage| {
        let name = label::arm(&stage.name).title;
        let ratio = stage.ratio.map_or(String::new(), |ratio| format!(" ({} %)", decimal(100.0 * ratio, 0)));
        [
            plain(&format!("{name}{ratio}")),
            count(stage.tokens as f64),
            count(stage.pieces as f64),
            count(stage.parameters as f64),
            count(stage.steps as f64),
            metric(&stage.dev),
            metric(&stage.test),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let _ = write!(text, "{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

/// The first metric of a split.
fn metric(split: &Map<String, Value>) -> String {
    split.iter().next().map_or("-".into(), |(name, value)| {
        let value = value.as_f64().map_or("-".into(), percent);
        plain(&format!("{} {value}{}", label::metric_in_sentence(name), label::unit(name)))
    })
}

/// One line a token: its importance as a bar, and its pieces, shaded by importance where that is known.
fn picture(file: &PromptFile) -> String {
    let p = &file.prompt;
    let most = |scores: &Option<Vec<f32>>| scores.iter().flatten().copied().fold(0.0f32, f32::max);
    let (most_of_tokens, most_of_pieces) = (most(&file.token_importance), most(&file.piece_importance));
    let decimals = decimals_of(f64::from(most_of_tokens));
    let mut text = match &file.token_importance {
        Some(_) => format!("token  {:<width$}", "importance", width = BAR + 13),
        None => "token  ".to_owned(),
    };
    text.push_str("pieces (darker: more important, dot: pruned)\n");
    for (token, mask) in p.piece_mask().chunks(p.pieces()).enumerate() {
        let _ = write!(text, "{:>5}  ", token + 1);
        if let Some(scores) = &file.token_importance {
            let score = scores[token];
            let _ = write!(
                text,
                "{:<BAR$} {:>10}  ",
                bar(score / most_of_tokens),
                decimal(f64::from(score), decimals)
            );
        }
        let shade = |(piece, &kept): (usize, &bool)| match (&file.piece_importance, kept) {
            (_, false) => '·',
            (Some(scores), true) if most_of_pieces > 0.0 => {
                let share = scores[token * p.pieces() + piece] / most_of_pieces;
                SHADES[((share * SHADES.len() as f32) as usize).min(SHADES.len() - 1)]
            }
            (_, true) => SHADES[SHADES.len() - 1],
        };
        let pieces: String = mask.iter().enumerate().map(shade).collect();
        let _ = writeln!(text, "{pieces}");
    }
    text
}

/// A bar of a share of [`BAR`] characters, to an eighth of a character.
fn bar(share: f32) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (8 * BAR) as f32).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// The text without control characters: a foreign file must not be able to steer the terminal.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        if c.is_control() {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use xprompt::prompt::{FORMAT, Fingerprint, Manifest, Prompt, ScoredBy, TaskSpec};

    use super::*;

    fn file() -> PromptFile {
        let stage = |name: &str, tokens, ratio, accuracy: f64| Stage {
            name: name.into(),
            tokens,
            pieces: 4 * tokens,
            parameters: 32 * tokens,
            ratio,
            score: None,
            steps: 1200,
            dev: json!({"accuracy": accuracy}).as_object().cloned().unwrap_or_default(),
            test: Map::new(),
        };
        let id = Fingerprint { name: "t5-nano".into(), fingerprint: "4f1c09d27be8a365".into() };
        let manifest = Manifest {
            format: FORMAT,
            producer: "xprompt-trainer 0.1.0".into(),
            tokens: 3,
            pieces: 4,
            d_model: 32,
            base_model: id.clone(),
            tokenizer: id,
            task: TaskSpec {
                template: "review: {text}\u{1b}[2J".into(),
                output: OutputSpec::Text { max_new_tokens: 8 },
                max_input_tokens: 64,
                keep: Vec::new(),
                content_free: Vec::new(),
            },
            history: vec![stage("tuned", 3, None, 0.815), stage("token_pruned", 2, Some(0.3), 0.79)],
            scored_by: ScoredBy::default(),
            seed: 42,
            data: Vec::new(),
            golden: Vec::new(),
        };
        let mask = [true, false, true, true, false, false, false, false, true, true, false, false];
        PromptFile {
            manifest,
            prompt: Prompt::dense(32, 4, vec![0.5; 96]).masked(&mask),
            token_importance: Some(vec![0.04, 0.0, 0.01]),
            piece_importance: Some(vec![0.4, 0.0, 0.1, 0.2, 0.0, 0.0, 0.0, 0.0, 0.3, 0.05, 0.0, 0.0]),
        }
    }

    #[test]
    fn importance_is_a_bar_and_pieces_are_a_map() {
        let shown = describe(&file(), "0123456789abcdef");
        let lines: Vec<&str> = shown.lines().rev().take(4).collect();
        let full = "█".repeat(BAR);
        assert_eq!(lines[2], format!("    1  {full}     0.0400  █·▒▓"));
        assert_eq!(lines[1], format!("    2  {:<BAR$}     0.0000  ····", ""));
        assert_eq!(lines[0], format!("    3  {:<BAR$}     0.0100  █░··", "█████"));
    }

    #[test]
    fn history_is_a_table_with_aligned_numbers() {
        let shown = describe(&file(), "0123456789abcdef");
        let at = shown.lines().position(|line| line.starts_with("history")).unwrap();
        let rows: Vec<&str> = shown.lines().skip(at).take(3).collect();
        assert_eq!(
            rows,
            [
                "history               tokens  pieces  parameters  steps              dev  test",
                "Prompt tuning              3      12          96   1200  accuracy 81.5 %     -",
                "Tokens pruned (30 %)       2       8          64   1200  accuracy 79.0 %     -",
            ]
        );
    }

    #[test]
    fn scores_are_named_where_the_file_names_them() {
        let shown = |file: &PromptFile| {
            let text = describe(file, "0123456789abcdef");
            let lines =
                text.lines().filter(|line| line.starts_with("pruned by") || line.starts_with("importance"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut file = file();
        assert_eq!(shown(&file), ["importance   of a score that the file does not name"]);
        file.manifest.scored_by = ScoredBy::both(Score::LeaveOneOut);
        file.manifest.history[1].score = Some(Score::AbsoluteGradient);
        assert_eq!(shown(&file), ["pruned by    absolute gradient", "importance   leaving one out"]);
        file.manifest.scored_by.tokens = Some(Score::SignedGradient);
        assert_eq!(shown(&file)[1], "importance   tokens: signed gradient; pieces: leaving one out");
        file.token_importance = None;
        file.piece_importance = None;
        assert_eq!(shown(&file).len(), 1, "what is not scored has no line");
    }

    #[test]
    fn the_last_stage_is_called_xprompt_in_files_of_every_version() {
        for name in ["xprompt", "rewound"] {
            let mut file = file();
            name.clone_into(&mut file.manifest.history[1].name);
            let shown = describe(&file, "0123456789abcdef");
            assert!(shown.lines().any(|line| line.starts_with("XPrompt (30 %) ")), "{shown}");
        }
    }

    #[test]
    fn a_foreign_file_cannot_steer_the_terminal() {
        let shown = describe(&file(), "0123456789abcdef");
        assert!(shown.contains("review: {text}\\u{1b}[2J"), "{shown}");
        assert!(!shown.contains('\u{1b}'));
    }

    #[test]
    fn a_prompt_without_scores_still_shows_its_pieces() {
        let file = PromptFile { token_importance: None, piece_importance: None, ..file() };
        let shown = describe(&file, "0123456789abcdef");
        assert!(shown.ends_with("    1  █·██\n    2  ····\n    3  ██··\n"), "{shown}");
    }
}

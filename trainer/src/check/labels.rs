//! Whether the labels' words can be told apart.

use std::path::Path;

use xprompt::prompt::{Label, Limits};
use xprompt::t5::Config;
use xprompt::task::{LabelTrie, Tokenizer, TrieError};

use super::LabelReport;
use super::problem::{Findings, Severity};

pub(super) fn check(
    labels: &[Label],
    file: &Path,
    tokenizer: &Tokenizer,
    config: &Config,
    findings: &mut Findings,
) -> Vec<LabelReport> {
    let mut error = |message: &str| findings.file(Severity::Error, file, Some("task.labels"), message);
    let mut tokens: Vec<(String, Vec<u32>)> = Vec::new();
    for label in labels {
        let ids = tokenizer.answer(&label.words).unwrap_or_else(|failure| {
            error(&failure.to_string());
            Vec::new()
        });
        tokens.push((label.name.clone(), ids));
    }
    let mut apart = true;
    for (i, (name, ids)) in tokens.iter().enumerate() {
        let same = tokens[..i].iter().find(|(_, others)| others == ids);
        let wrong = match same {
            _ if ids.is_empty() => TrieError::Empty(name.clone()),
            Some((other, _)) => TrieError::Same(other.clone(), name.clone()),
            None => continue,
        };
        apart = false;
        error(&wrong.to_string());
    }
    // what is left to go wrong is that they are too many
    if apart && let Err(wrong) = LabelTrie::new(&tokens, config.decoder_start_token_id, config.eos_token_id) {
        error(&wrong.to_string());
    }
    let most = Limits::default().labels;
    if labels.len() > most {
        error(&format!("{} labels; a prompt file holds at most {most}", labels.len()));
    }
    for (label, (_, ids)) in labels.iter().zip(&tokens) {
        if tokenizer.unknown().is_some_and(|unknown| ids.contains(&unknown)) {
            let message = format!(
                "the words {:?} of label {:?} hold characters that the tokenizer does not know; use others",
                label.words, label.name
            );
            findings.file(Severity::Warning, file, Some("task.labels"), &message);
        }
    }
    let report = |(label, (_, ids)): (&Label, &(String, Vec<u32>))| LabelReport {
        name: label.name.clone(),
        words: label.words.clone(),
        tokens: ids.len(),
    };
    labels.iter().zip(&tokens).map(report).collect()
}

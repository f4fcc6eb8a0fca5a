//! WSC: a pronoun, and a candidate for what it refers to.

use serde_json::Map;

use super::fields::Fields;
use super::plain;
use super::{FlatRow, Purpose};

/// The pronoun marked, the candidate as target. Wrong candidates are only for measuring.
pub(super) fn expand(purpose: Purpose, row: &Fields<'_>) -> Result<Vec<FlatRow>, String> {
    let text = row.text("text")?;
    let (candidate, pronoun) = spans(row)?;
    let truth = row.truth(super::LABEL)?;
    if (purpose, truth) == (Purpose::Train, Some(false)) {
        return Ok(Vec::new());
    }
    let Some(marked) = pronoun.marked_anywhere(text) else {
        let target = row.object("target")?;
        return Err(
            target.wrong("span2_text", &format!("is {:?}, which is no word of the text", pronoun.text))
        );
    };
    let label = truth.is_some().then_some(candidate.text);
    let row = plain::flat(Map::from_iter([("text".into(), marked.into())]), label, row);
    let accepted = if truth == Some(false) { vec![String::new()] } else { Vec::new() };
    Ok(vec![FlatRow { accepted, ..row }])
}

/// Candidate and pronoun marked where they stand in the text. T5 leaves a span unmarked that does not stand at its
/// index, and so does this.
pub(super) fn expand_labels(row: &Fields<'_>) -> Result<Vec<FlatRow>, String> {
    let text = row.text("text")?;
    let (candidate, mut pronoun) = spans(row)?;
    let marked = candidate.marked(text, '*');
    if candidate.index < pronoun.index {
        pronoun.index += 2; // the marks count as words
    }
    let marked = pronoun.marked(&marked, '#');
    Ok(vec![plain::flat(Map::from_iter([("text".into(), marked.into())]), plain::truth(row)?, row)])
}

/// The candidate's text: what a right answer names.
pub(super) fn candidate(row: &Fields<'_>) -> Result<String, String> {
    Ok(spans(row)?.0.text)
}

/// Words of the text, from the word `index` on.
#[derive(Debug)]
struct Span {
    text: String,
    index: usize,
}

fn spans(row: &Fields<'_>) -> Result<(Span, Span), String> {
    let (text, target) = (row.text("text")?, row.object("target")?);
    let span = |words: &str, index: &str| -> Result<Span, String> {
        Ok(Span { text: target.text(words)?.into(), index: target.number(index)? }.mended(text))
    };
    Ok((span("span1_text", "span1_index")?, span("span2_text", "span2_index")?))
}

// === impl Span ===

impl Span {
    /// The span as it is written in the text, as TensorFlow Datasets mends it (`wsc.fixed`): the case of the first
    /// letter, full stops at the end, line breaks. As it is if that does not help.
    fn mended(self, text: &str) -> Self {
        let first = text.split_whitespace().nth(self.index).and_then(|word| word.chars().next());
        let mut chars = self.text.chars();
        let (Some(first), Some(own), false) = (first, chars.next(), text.contains(&self.text)) else {
            return self;
        };
        let own = if first.is_lowercase() {
            own.to_lowercase().to_string()
        } else {
            own.to_uppercase().to_string()
        };
        let mended = (own + chars.as_str()).trim_end_matches('.').replace('\n', " ");
        if text.contains(&mended) { Self { text: mended, ..self } } else { self }
    }

    /// The text with marks around the span, if it stands at its index.
    fn marked(&self, text: &str, mark: char) -> String {
        let mut start = Some(0);
        for _ in 0..self.index {
            start = start.and_then(|start| {
                let word = text[start..].find(|c: char| c.is_ascii_whitespace()).filter(|&length| length > 0);
                word.map(|length| start + length + 1)
            });
        }
        match start {
            Some(start) if text[start..].starts_with(&self.text) => {
                let (before, after) = (&text[..start], &text[start + self.text.len()..]);
                format!("{before}{mark} {} {mark}{after}", self.text)
            }
            _ => text.into(),
        }
    }

    /// The text with asterisks around the span, a word, at its index. Two sentences of the benchmark are mended in
    /// T5 by hand, where punctuation clings to the pronoun or the index is off: a space comes before that punctuation,
    /// and the nearest such word is taken. White space at the end goes. None if there is no such word.
    fn marked_anywhere(&self, text: &str) -> Option<String> {
        let words: Vec<&str> = text.trim_end().split(' ').collect();
        let clings = |word: &str| {
            word.strip_prefix(&self.text).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        let at = (0..words.len()).filter(|&i| clings(words[i])).min_by_key(|&i| i.abs_diff(self.index))?;
        let rest = &words[at][self.text.len()..];
        let space = if rest.is_empty() { "" } else { " " };
        let marked = format!("*{}*{space}{rest}", self.text);
        let (before, after) = (&words[..at], &words[at + 1..]);
        Some([before, &[marked.as_str()], after].concat().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str, pronoun: &str, index: usize) -> Option<String> {
        Span { text: pronoun.into(), index }.marked_anywhere(text)
    }

    #[test]
    fn a_pronoun_with_punctuation_or_a_wrong_index_is_still_found() {
        for (text, index, expected) in [
            ("She saw him.", 2, "She saw *him* ."),
            ("\"Ask him,\" she said. ", 1, "\"Ask *him* ,\" she said."),
            ("They asked him for more", 1, "They asked *him* for more"),
            ("Let him go or let him stay", 4, "Let him go or let *him* stay"),
            ("him we trust", 0, "*him* we trust"),
            ("we trust him", 40, "we trust *him*"),
        ] {
            assert_eq!(marked(text, "him", index).as_deref(), Some(expected));
        }
        assert_eq!(marked("The hims and hers", "him", 1), None);
    }
}

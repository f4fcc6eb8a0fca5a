//! How close a text is to an answer.

use std::collections::HashMap;

/// 1 if the texts are equal, white space at the ends aside, else 0.
pub(super) fn exact_match(text: &str, answer: &str) -> f64 {
    f64::from(u8::from(text.trim() == answer.trim()))
}

/// 1 if the texts are equal after SQuAD's normalization, else 0.
pub(super) fn squad_exact_match(text: &str, answer: &str) -> f64 {
    f64::from(u8::from(squad_words(text) == squad_words(answer)))
}

/// F1 of the words that the texts share, after SQuAD's normalization; 0 if they share none.
pub(super) fn token_f1(text: &str, answer: &str) -> f64 {
    let (text, answer) = (squad_words(text), squad_words(answer));
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &answer {
        *left.entry(word).or_default() += 1;
    }
    let shared = text.iter().filter(|word| match left.get_mut(word.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    f_measure(shared.count(), text.len(), answer.len())
}

/// ROUGE-L F-measure as the package rouge_score computes it, without stemming.
pub(super) fn rouge_l(text: &str, answer: &str) -> f64 {
    let (text, answer) = (rouge_words(text), rouge_words(answer));
    f_measure(longest_common_subsequence(&text, &answer), text.len(), answer.len())
}

/// The words of a text as SQuAD compares them: lower case, ASCII punctuation dropped, then the articles.
fn squad_words(text: &str) -> Vec<String> {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(if end == 0 { c.len_utf8() } else { end });
        kept.push_str(if matches!(word, "a" | "an" | "the") { " " } else { word });
        rest = after;
    }
    kept.split_whitespace().map(str::to_owned).collect()
}

/// The words of a text as ROUGE compares them: runs of ASCII letters and digits, in lower case.
fn rouge_words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (i, other) in b.iter().enumerate() {
            let above = row[i + 1];
            row[i + 1] = if word == other { diagonal + 1 } else { above.max(row[i]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// Harmonic mean of the shares that `shared` is of two lengths.
fn f_measure(shared: usize, a: usize, b: usize) -> f64 {
    if shared == 0 { 0.0 } else { 2.0 * shared as f64 / (a + b) as f64 }
}

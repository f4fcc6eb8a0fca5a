//! WSC by generation: whether a text names a referent.

/// Words that are left out of the comparison.
const DETERMINERS: [&str; 21] = [
    "a", "an", "few", "her", "his", "each", "every", "many", "much", "my", "our", "some", "that", "the",
    "their", "these", "this", "those", "which", "whose", "your",
];

/// Whether `text` names `referent`, as T5 decides it: the words of one are among the words of the other, case and
/// determiners aside, and an apostrophe is in both or in neither. None if the text has no word.
#[must_use]
pub fn is_referent(text: &str, referent: &str) -> Option<bool> {
    let (text, referent) = (words(text), words(referent));
    if matches!(&text[..], [only] if only.is_empty()) {
        return None;
    }
    let apostrophe = |words: &[String]| words.iter().any(|word| word.contains('\''));
    let within = |a: &[String], b: &[String]| a.iter().all(|word| b.contains(word));
    let same = within(&text, &referent) || within(&referent, &text);
    Some(same && apostrophe(&text) == apostrophe(&referent))
}

/// What is compared: at least one word, which may be empty.
fn words(text: &str) -> Vec<String> {
    let text = text.trim().to_lowercase();
    let kept: Vec<String> =
        text.split(' ').filter(|word| !DETERMINERS.contains(word)).map(str::to_owned).collect();
    if kept.is_empty() { vec![String::new()] } else { kept }
}

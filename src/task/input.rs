//! How an input becomes what the encoder reads: its template filled, and cut where it is too long. The trainer reads
//! its rows and the server its requests through here, so that what was measured is what is served.

use std::collections::HashSet;

use super::{Template, TemplateError, Tokenizer, TokenizerError};

/// A template with its limit, and the fields that are kept whole where a text is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputForm {
    template: Template,
    /// By field of the template.
    kept: Vec<bool>,
    limit: usize,
}

// === impl InputForm ===

impl InputForm {
    /// Parses a template whose texts are cut to `limit` tokens, the fields `keep` last.
    ///
    /// # Errors
    /// If the template is malformed, or does not use a field of `keep`.
    pub fn new(template: &str, keep: &[String], limit: usize) -> Result<Self, TemplateError> {
        let template = Template::parse(template)?;
        let fields: HashSet<&String> = template.fields().iter().collect();
        if let Some(field) = keep.iter().find(|field| !fields.contains(field)) {
            return Err(TemplateError::Keep { field: field.clone(), needs: template.needs() });
        }
        let keep: HashSet<&String> = keep.iter().collect();
        let kept = template.fields().iter().map(|field| keep.contains(field)).collect();
        Ok(Self { template, kept, limit })
    }

    /// The parsed template.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Longest text in tokens, the end token included.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Token ids of the template filled with the fields' values, with the end token, and how many tokens there were
    /// before the text was cut.
    ///
    /// Where fields are kept, a text that is too long loses tokens from the end of its longest other field, until it
    /// fits; if that does not do, or no field is kept, it is cut at its end.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn source(
        &self,
        values: &[String],
        tokenizer: &Tokenizer,
    ) -> Result<(Vec<u32>, usize), TokenizerError> {
        let (mut ids, tokens) = tokenizer.source_within(&self.template.fill(values), self.limit)?;
        if tokens <= self.limit || !self.kept.contains(&true) {
            return Ok((ids, tokens));
        }
        let mut fields = self.fields(values, tokenizer)?;
        let mut now = tokens;
        while now > self.limit && shorten(&mut fields, now - self.limit) {
            let text = self.template.fill(&cut(values, &fields));
            (ids, now) = tokenizer.source_within(&text, self.limit)?;
        }
        Ok((ids, tokens))
    }

    fn fields(&self, values: &[String], tokenizer: &Tokenizer) -> Result<Vec<Field>, TokenizerError> {
        let occurrences = self.template.occurrences();
        let field = |i: usize| {
            let ends = if self.kept[i] { None } else { Some(tokenizer.token_ends(&values[i])?) };
            let left = ends.as_ref().map_or(0, Vec::len);
            Ok(Field { ends, left, occurrences: occurrences[i] })
        };
        (0..values.len()).map(field).collect()
    }
}

/// A field while a text is cut.
struct Field {
    /// Where its tokens end, in bytes; none if it is kept whole.
    ends: Option<Vec<usize>>,
    /// Tokens that are left of it.
    left: usize,
    /// How often it stands in the text.
    occurrences: usize,
}

/// Takes tokens from the longest field, of equal ones the last, until the text is shorter by `excess`; false if there
/// is none to take.
fn shorten(fields: &mut [Field], excess: usize) -> bool {
    let mut taken = 0;
    while taken < excess {
        let longest = fields.iter_mut().filter(|field| field.left > 0).max_by_key(|field| field.left);
        let Some(longest) = longest else { break };
        longest.left -= 1;
        taken += longest.occurrences;
    }
    taken > 0
}

fn cut(values: &[String], fields: &[Field]) -> Vec<String> {
    let cut = |(value, field): (&String, &Field)| match &field.ends {
        None => value.clone(),
        Some(_) if field.left == 0 => String::new(),
        Some(ends) => value[..value.floor_char_boundary(ends[field.left - 1])].to_owned(),
    };
    values.iter().zip(fields).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 24;

    fn tokenizer() -> &'static Tokenizer {
        static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
        TOKENIZER.get_or_init(|| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/t5-nano");
            Tokenizer::open(&folder, 32128, 1).unwrap()
        })
    }

    fn form(template: &str, keep: &[&str]) -> InputForm {
        let keep: Vec<String> = keep.iter().map(|&field| field.to_owned()).collect();
        InputForm::new(template, &keep, LIMIT).unwrap()
    }

    fn values<const N: usize>(values: [&str; N]) -> Vec<String> {
        values.map(str::to_owned).to_vec()
    }

    #[test]
    fn kept_fields_and_the_template_stay_whole_while_the_longest_other_field_is_cut() {
        let tokenizer = tokenizer();
        let form = form("title: {title} text: {text} question: {question}?", &["question"]);
        let long = "one two three four five six seven eight nine ten eleven twelve";
        let (ids, before) = form.source(&values(["a b", long, "how many are there"]), tokenizer).unwrap();
        let shown = tokenizer.decode(&ids).unwrap();
        assert!(shown.starts_with("title: a b text: one two three"), "{shown}");
        assert!(shown.ends_with("question: how many are there?"), "{shown}");
        assert!(before > LIMIT && ids.len() <= LIMIT && ids.len() >= LIMIT - 2, "{} of {before}", ids.len());
        assert_eq!(ids.last(), Some(&1));
        // equally long fields are cut alike
        let (ids, _) = form.source(&values([long, long, "how many"]), tokenizer).unwrap();
        let shown = tokenizer.decode(&ids).unwrap();
        assert!(shown.contains("title: one two t") && shown.contains("text: one two"), "{shown}");
    }

    #[test]
    fn where_kept_fields_alone_are_too_long_the_text_is_cut_at_its_end() {
        let tokenizer = tokenizer();
        let form = form("{question} {text}", &["question"]);
        let question = "why ".repeat(40);
        let (ids, _) = form.source(&values([&question, "because"]), tokenizer).unwrap();
        let (want, _) = tokenizer.source_within(&question, LIMIT).unwrap();
        assert_eq!(ids, want);
    }

    #[test]
    fn a_kept_field_that_the_template_lacks_is_named() {
        let error = InputForm::new("{text}", &["question".into()], 8).unwrap_err().to_string();
        assert!(error.contains("\"question\"") && error.contains("takes text"), "{error}");
    }

    proptest! {
        #[test]
        fn a_cut_text_is_the_template_with_the_kept_field_and_a_beginning_of_the_other(
            kept in "[a-z äñ漢🙂]{0,12}",
            other in "[a-z .,äñ漢🙂]{0,160}",
        ) {
            let tokenizer = tokenizer();
            let form = form("q {kept} t {other} u {other}", &["kept"]);
            let (ids, before) = form.source(&[kept.clone(), other.clone()], tokenizer).unwrap();
            prop_assert!(ids.len() <= LIMIT);
            let beginnings = (0..=other.len()).filter(|&end| other.is_char_boundary(end));
            let fits = |end: usize| {
                let text = form.template().fill(&[kept.clone(), other[..end].to_owned()]);
                tokenizer.source_within(&text, LIMIT).unwrap().0 == ids
            };
            let tried = if before <= LIMIT { 1 } else { usize::MAX };
            prop_assert!(beginnings.rev().take(tried).any(fits));
        }

        #[test]
        fn without_kept_fields_a_text_is_cut_at_its_end(a in "[a-z ]{0,90}", b in "[a-z ]{0,90}") {
            let tokenizer = tokenizer();
            let form = form("a {a} b {b}", &[]);
            let want = tokenizer.source_within(&format!("a {a} b {b}"), LIMIT).unwrap();
            prop_assert_eq!(form.source(&[a, b], tokenizer).unwrap(), want);
        }
    }
}

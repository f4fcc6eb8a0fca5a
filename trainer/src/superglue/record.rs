//! ReCoRD: a query with a gap, about a passage whose entities are marked.

use std::collections::BTreeSet;

use serde_json::{Map, json};

use super::fields::Fields;
use super::{FlatRow, LABEL, Purpose};

pub(super) fn expand(purpose: Purpose, row: &Fields<'_>) -> Result<Vec<FlatRow>, String> {
    let passage = row.object("passage")?;
    let text = passage.text("text")?;
    let entities = entities(text, &passage)?;
    let number = row.number("idx")?;
    let mut rows = Vec::new();
    for query in row.objects("qas")? {
        let answers = answers(&query)?;
        let fields = Map::from_iter([
            ("query".into(), query.text("query")?.into()),
            ("entities".into(), entities.as_str().into()),
            ("passage".into(), sentences(text).into()),
        ]);
        let query_number = query.number("idx")?;
        let id = json!({"passage": number, "query": query_number});
        let group = Some(format!("{number}/{query_number}"));
        let flat = FlatRow { fields, accepted: answers.clone(), group, id };
        let targets = match purpose {
            Purpose::Train => answers.len().max(1),
            Purpose::Evaluate => 1,
        };
        for target in 0..targets {
            let mut row = flat.clone();
            row.fields.extend(answers.get(target).map(|answer| (LABEL.into(), answer.as_str().into())));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The different entities, in order. Their places count characters, the last one included.
fn entities(text: &str, passage: &Fields<'_>) -> Result<String, String> {
    let chars: Vec<char> = text.chars().collect();
    let mut names = BTreeSet::new();
    for entity in passage.objects("entities")? {
        let (start, end) = (entity.number("start")?, entity.number("end")?);
        let name = chars.get(start..=end.min(chars.len()));
        let name = name.ok_or_else(|| {
            entity.wrong("end", &format!("is {end}; it has to be a place in the text from {start} on"))
        })?;
        names.insert(name.iter().collect::<String>());
    }
    Ok(names.into_iter().collect::<Vec<_>>().join(", "))
}

/// The different answers, in order; none in an unlabelled row.
fn answers(query: &Fields<'_>) -> Result<Vec<String>, String> {
    if query.get("answers").is_none() {
        return Ok(Vec::new());
    }
    let answers = query.objects("answers")?;
    let texts: BTreeSet<&str> = answers.iter().map(|answer| answer.text("text")).collect::<Result<_, _>>()?;
    Ok(texts.into_iter().map(str::to_owned).collect())
}

/// The passage with its highlights as sentences.
fn sentences(passage: &str) -> String {
    let mut parts = passage.split("\n@highlight\n");
    let mut text: String = parts.next().unwrap_or_default().into();
    let mut ended = text.ends_with(is_end);
    for part in parts {
        text.push_str(if ended { " " } else { ". " });
        text.push_str(part);
        ended = part.ends_with(is_end);
    }
    text
}

fn is_end(c: char) -> bool {
    matches!(c, '.' | '?' | '!' | '"' | '\'')
}

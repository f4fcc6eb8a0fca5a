//! MultiRC: a row for every answer to every question about a paragraph.

use serde_json::{Map, json};

use super::FlatRow;
use super::fields::Fields;
use super::plain;

pub(super) fn expand(row: &Fields<'_>) -> Result<Vec<FlatRow>, String> {
    let passage = row.object("passage")?;
    let paragraph = without_markup(passage.text("text")?);
    let number = row.number("idx")?;
    let mut rows = Vec::new();
    for question in passage.objects("questions")? {
        let text = without_markup(question.text("question")?);
        let question_number = question.number("idx")?;
        for answer in question.objects("answers")? {
            let fields = Map::from_iter([
                ("question".into(), text.as_str().into()),
                ("answer".into(), without_markup(answer.text("text")?).into()),
                ("paragraph".into(), paragraph.as_str().into()),
            ]);
            rows.push(FlatRow {
                group: Some(format!("{number}/{question_number}")),
                id: json!({"paragraph": number, "question": question_number, "answer": answer.number("idx")?}),
                ..plain::flat(fields, plain::truth(&answer)?, &answer)
            });
        }
    }
    Ok(rows)
}

fn without_markup(text: &str) -> String {
    text.replace("<br>", " ").replace("<b>", "").replace("</b>", "")
}

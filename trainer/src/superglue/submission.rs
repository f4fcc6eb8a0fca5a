//! Answers in the benchmark's submission format, as its authors' own toolkit jiant writes it.

use serde_json::{Map, Value, json};
use xprompt::prompt::OutputSpec;

use super::fields::Fields;
use super::{FlatRow, Purpose, SuperGlue, wsc};
use crate::metric::is_referent;

// === impl SuperGlue ===

impl SuperGlue {
    /// The submission file for the original `rows`: a JSON object a line. `predictions` are names of labels, or
    /// texts, for the flat rows of [`expand`](Self::expand) (to evaluate), in order.
    ///
    /// # Errors
    /// If a row is not as the benchmark has it, a prediction is no label of the task, or there are more or fewer
    /// predictions than flat rows.
    pub fn submission(
        self,
        rows: &[Map<String, Value>],
        predictions: &[impl AsRef<str>],
    ) -> Result<String, String> {
        let mut file = String::new();
        let mut left = predictions.iter().map(AsRef::as_ref);
        for (i, row) in rows.iter().enumerate() {
            let in_row = |what: String| format!("row {}: {what}", i + 1);
            let flat = self.expand(Purpose::Evaluate, row).map_err(in_row)?;
            let said: Vec<&str> = left.by_ref().take(flat.len()).collect();
            if said.len() < flat.len() {
                return Err(in_row(format!("no prediction is left; there are {}", predictions.len())));
            }
            for line in self.lines(&Fields::of_row(row), &flat, &said).map_err(in_row)? {
                file.push_str(&line.to_string());
                file.push('\n');
            }
        }
        match left.count() {
            0 => Ok(file),
            more => Err(format!("{more} of {} predictions are for no row", predictions.len())),
        }
    }

    fn lines(self, row: &Fields<'_>, flat: &[FlatRow], said: &[&str]) -> Result<Vec<Value>, String> {
        let pairs = || flat.iter().zip(said);
        match self {
            Self::MultiRc => {
                let mut questions: Vec<(&Value, Vec<Value>)> = Vec::new();
                for (FlatRow { id, .. }, said) in pairs() {
                    let answer = json!({"idx": id["answer"], "label": self.label(row, said)?});
                    match questions.last_mut().filter(|(question, _)| **question == id["question"]) {
                        Some((_, answers)) => answers.push(answer),
                        None => questions.push((&id["question"], vec![answer])),
                    }
                }
                let question = |(idx, answers)| json!({"idx": idx, "answers": answers});
                let questions: Vec<Value> = questions.into_iter().map(question).collect();
                Ok(vec![json!({"idx": row.number("idx")?, "passage": {"questions": questions}})])
            }
            Self::ReCoRd => {
                Ok(pairs().map(|(row, text)| json!({"idx": row.id["query"], "label": text})).collect())
            }
            _ => {
                let line = |said: &&str| -> Result<Value, String> {
                    Ok(json!({"idx": row.number("idx")?, "label": self.label(row, said)?}))
                };
                said.iter().map(line).collect()
            }
        }
    }

    /// A prediction as the benchmark writes it.
    fn label(self, row: &Fields<'_>, said: &str) -> Result<Value, String> {
        let OutputSpec::Labels { labels } = self.preset().output else {
            let is_referent = is_referent(said, &wsc::candidate(row)?) == Some(true);
            return Ok(json!(if is_referent { "True" } else { "False" }));
        };
        let at = labels.iter().position(|label| label.name == said).ok_or_else(|| {
            let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
            format!("the prediction {said:?} is none of {}", names.join(", "))
        })?;
        Ok(match self {
            Self::Copa | Self::MultiRc => json!(at),
            Self::BoolQ | Self::Wic => json!(said.to_lowercase()),
            _ => json!(said),
        })
    }
}

//! SuperGLUE against T5's own preprocessors, postprocessors and metrics, and every metric against scikit-learn and
//! rouge_score. The values are made by `tests/fixtures/superglue.py`.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use xprompt::prompt::OutputSpec;
use xprompt::task::Template;
use xprompt_trainer::example::{Example, Target};
use xprompt_trainer::metric::{Metric, Prediction};
use xprompt_trainer::superglue::{FlatRow, LABEL, Purpose, SuperGlue};

const TASKS: [&str; 9] = ["boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc", "wsc_labels"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn expected() -> Value {
    let path = fixtures().join("expected/superglue.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn task(name: &str) -> SuperGlue {
    serde_json::from_value(name.into()).unwrap()
}

fn rows(name: &str) -> Vec<Map<String, Value>> {
    let file = format!("superglue/{}.jsonl", name.trim_end_matches("_labels"));
    let text = std::fs::read_to_string(fixtures().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn flat(name: &str, purpose: Purpose) -> Vec<FlatRow> {
    rows(name).iter().flat_map(|row| task(name).expand(purpose, row).unwrap()).collect()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn metric(name: &str) -> Metric {
    serde_json::from_value(name.into()).unwrap()
}

/// The names of a task's labels; none for free text.
fn labels(task: SuperGlue) -> Vec<String> {
    match task.preset().output {
        OutputSpec::Labels { labels } => labels.into_iter().map(|label| label.name).collect(),
        OutputSpec::Text { .. } => Vec::new(),
    }
}

fn text_target(text: &str) -> Target {
    Target::Text { tokens: Vec::new(), text: text.into() }
}

/// The labelled flat rows as examples.
fn examples(name: &str) -> Vec<Example> {
    let labels = labels(task(name));
    let mut groups = Vec::new();
    let labelled = flat(name, Purpose::Evaluate).into_iter().filter(|row| row.fields.contains_key(LABEL));
    labelled
        .map(|row| {
            let label = row.fields[LABEL].as_str().unwrap();
            let target = match labels.iter().position(|name| name == label) {
                Some(number) => Target::Label(number),
                None => text_target(label),
            };
            let group = row.group.map(|group| {
                if !groups.contains(&group) {
                    groups.push(group.clone());
                }
                groups.iter().position(|known| *known == group).unwrap()
            });
            Example { input: Map::new(), source: Vec::new(), target, accepted: row.accepted, group }
        })
        .collect()
}

fn assert_values(expected: &Value, what: &str, value: impl Fn(Metric) -> f64) {
    for (name, expected) in expected.as_object().unwrap() {
        let (got, expected) = (value(metric(name)), expected.as_f64().unwrap());
        assert!((got - expected).abs() < 1e-9, "{name} of {what} is {got}, the reference says {expected}");
    }
}

#[test]
fn texts_and_targets_are_those_of_t5() {
    let expected = expected();
    for name in TASKS {
        let template = Template::parse(task(name).preset().template).unwrap();
        for (purpose, key) in [(Purpose::Train, "train"), (Purpose::Evaluate, "evaluate")] {
            let expected = expected["formats"][name][key].as_array().unwrap();
            let got = flat(name, purpose);
            assert_eq!(got.len(), expected.len(), "{name}, {key}");
            for (row, expected) in got.iter().zip(expected) {
                let inputs = expected["inputs"].as_str().unwrap();
                // T5 leaves a space behind a marked pronoun that ends the text.
                let inputs = if name == "wsc" { inputs.trim_end() } else { inputs };
                assert_eq!(template.fill(&template.row_values(&row.fields).unwrap()), inputs);
                match row.fields.get(LABEL) {
                    Some(label) => assert_eq!(label, &expected["targets"], "{inputs}"),
                    None if name == "wsc" => {} // T5 has the candidate as target, and the label -1 beside it
                    None => assert_eq!(expected["targets"], "<unk>", "{inputs}"),
                }
                if name == "record" {
                    assert_eq!(row.accepted, list(&expected["answers"]));
                }
            }
        }
    }
}

#[test]
fn a_preset_is_measured_as_t5_measures_the_task() {
    let expected = expected();
    let scores = expected["scores"].as_array().unwrap();
    for name in TASKS {
        let (labels, examples, metrics) = (labels(task(name)), examples(name), task(name).preset().metrics);
        let mut compared = 0;
        for score in scores.iter().filter(|score| score["task"] == name) {
            let said = list(&score["predictions"]);
            let predictions: Vec<Prediction> = said
                .iter()
                .map(|&text| match labels.iter().position(|name| name == text) {
                    Some(number) => Prediction::Label(number),
                    None => Prediction::Text(text.into()),
                })
                .collect();
            assert_eq!(predictions.len(), examples.len());
            let value = |metric: Metric| metric.judge(&predictions, &examples, labels.len()).value();
            assert_values(&score["values"], &format!("{name} {said:?}"), value);
            assert!(metrics.iter().all(|metric| score["values"].get(metric.name()).is_some()), "{name}");
            compared += 1;
        }
        assert!(compared > 0, "{name}");
    }
}

#[test]
fn metrics_of_labels_are_those_of_scikit_learn() {
    for case in expected()["labels"].as_array().unwrap() {
        let classes = usize::try_from(case["classes"].as_u64().unwrap()).unwrap();
        let numbers = |key: &str| -> Vec<Option<usize>> {
            let numbers = case[key].as_array().unwrap().iter();
            numbers.map(|number| number.as_u64().map(|number| usize::try_from(number).unwrap())).collect()
        };
        let example = |gold: Option<usize>| Example {
            input: Map::new(),
            source: Vec::new(),
            target: Target::Label(gold.unwrap()),
            accepted: Vec::new(),
            group: None,
        };
        let examples: Vec<Example> = numbers("gold").into_iter().map(example).collect();
        let said = numbers("predicted").into_iter();
        let predictions: Vec<Prediction> =
            said.map(|label| label.map_or(Prediction::Text("neither".into()), Prediction::Label)).collect();
        let value = |metric: Metric| metric.judge(&predictions, &examples, classes).value();
        assert_values(&case["values"], &case.to_string(), value);
    }
}

#[test]
fn metrics_of_texts_are_those_of_rouge_score_and_squad() {
    for case in expected()["texts"].as_array().unwrap() {
        let accepted = list(&case["accepted"]).into_iter().map(str::to_owned).collect();
        let example = Example {
            input: Map::new(),
            source: Vec::new(),
            target: text_target("something that is not accepted"),
            accepted,
            group: None,
        };
        let said = [Prediction::Text(case["predicted"].as_str().unwrap().into())];
        let value = |metric: Metric| metric.judge(&said, std::slice::from_ref(&example), 0).value();
        assert_values(&case["values"], &case.to_string(), value);
    }
}

#[test]
fn a_submission_has_the_benchmarks_form() {
    let lines = |name: &str, said: &[&str]| -> Vec<Value> {
        let file = task(name).submission(&rows(name), said).unwrap();
        file.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(
        lines("boolq", &["True", "False", "True", "True", "False"])[1],
        json!({"idx": 1, "label": "false"})
    );
    assert_eq!(lines("cb", &["neutral"; 6])[5], json!({"idx": 5, "label": "neutral"}));
    assert_eq!(
        lines("copa", &["choice1", "choice2", "choice1", "choice1"])[1],
        json!({"idx": 1, "label": 1})
    );
    assert_eq!(lines("rte", &["not_entailment"; 4])[0], json!({"idx": 0, "label": "not_entailment"}));
    assert_eq!(lines("wic", &["True"; 4])[3], json!({"idx": 3, "label": "true"}));
    assert_eq!(lines("wsc_labels", &["True"; 9])[8], json!({"idx": 8, "label": "True"}));
    let mut referents = ["the cat"; 9];
    referents[1] = "";
    referents[2] = "postman";
    let labels: Vec<Value> = lines("wsc", &referents).iter().map(|line| line["label"].clone()).collect();
    assert_eq!(labels, ["False", "False", "True", "False", "False", "False", "False", "False", "True"]);
    let record = lines("record", &["Prado", "Vela", "O'Hara", "Foula"]);
    assert_eq!(record[3], json!({"idx": 3, "label": "Foula"}));
    let answers = ["True", "False", "True", "False", "True", "True", "False", "False", "True", "False"];
    let multirc = lines("multirc", &answers);
    assert_eq!(multirc.len(), 3);
    let first = [
        json!({"idx": 7, "answers": [{"idx": 10, "label": 1}, {"idx": 11, "label": 0}, {"idx": 12, "label": 1}]}),
        json!({"idx": 8, "answers": [{"idx": 13, "label": 0}, {"idx": 14, "label": 1}]}),
    ];
    assert_eq!(multirc[0], json!({"idx": 3, "passage": {"questions": first}}));
}

#[test]
fn predictions_that_do_not_fit_the_rows_are_refused() {
    let refused = |name: &str, said: &[&str]| task(name).submission(&rows(name), said).unwrap_err();
    assert!(refused("copa", &["choice1"; 3]).contains("row 4: no prediction is left; there are 3"));
    assert!(refused("copa", &["choice1"; 6]).contains("2 of 6 predictions are for no row"));
    assert!(
        refused("copa", &["maybe"; 4])
            .contains("row 1: the prediction \"maybe\" is none of choice1, choice2")
    );
}

#[test]
fn a_wrong_row_names_the_field() {
    for (name, way, wrong, words) in [
        ("boolq", "/passage", Value::Null, "field \"passage\" is missing"),
        ("boolq", "/label", json!("yes"), "field \"label\" is \"yes\"; it has to be true, false, 0 or 1"),
        (
            "cb",
            "/label",
            json!("maybe"),
            "field \"label\" is \"maybe\"; it has to be one of entailment, contra",
        ),
        ("multirc", "/passage", json!([]), "field \"passage\" is []; it has to be an object"),
        ("multirc", "/passage/questions/1", json!(4), "field \"passage.questions[1]\" is 4"),
        (
            "multirc",
            "/passage/questions/1/answers/0/label",
            json!(2),
            "\"passage.questions[1].answers[0].label\"",
        ),
        (
            "record",
            "/passage/entities/2/end",
            json!(9999),
            "\"passage.entities[2].end\" is 9999; it has to be a place",
        ),
        ("record", "/qas/0/query", json!(1.5), "field \"qas[0].query\" is 1.5; it has to be a text"),
        (
            "wsc",
            "/target/span2_text",
            json!("nobody"),
            "\"target.span2_text\" is \"nobody\", which is no word",
        ),
        ("wsc_labels", "/target/span1_index", json!(-1), "field \"target.span1_index\" is -1"),
    ] {
        let mut row = Value::Object(rows(name).remove(0));
        *row.pointer_mut(way).unwrap() = wrong;
        let error = task(name).expand(Purpose::Train, row.as_object().unwrap()).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use xprompt::prompt::{
    Base, FORMAT, Fingerprint, Limits, Manifest, OutputSpec, Prompt, PromptFile, ScoredBy, TaskSpec,
};

use crate::prompts::{Server, Setup, tweets};
use crate::reference_page::{cell, is_in_step};
use crate::server_dashboards::lines_of_every_metric;
use crate::support::root;

/// Routes in the order of the page, by the first part of the path.
const PARTS: [(&str, &str); 5] = [
    ("/tasks", "Tasks"),
    ("/v1", "OpenAI's completions"),
    ("/v2", "Open Inference Protocol"),
    ("/health", "Probes"),
    ("/metrics", "Metrics"),
];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The type of a schema in words, with links to those that have a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|place| place.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for (key, joint) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(choices) = schema[key].as_array() {
            return choices.iter().map(kind).collect::<Vec<_>>().join(joint);
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
        one => vec![one.as_str().unwrap_or("any")],
    };
    let named = types.iter().map(|&name| match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        name => name.to_owned(),
    });
    named.collect::<Vec<_>>().join(" or ")
}

fn schema(name: &str, schema: &Value, page: &mut String) {
    let _ = writeln!(page, "### {name}\n");
    if !text(schema, "description").is_empty() {
        let _ = writeln!(page, "{}\n", text(schema, "description"));
    }
    let Some(properties) = schema["properties"].as_object() else {
        let _ = writeln!(page, "{}\n", kind(schema));
        return;
    };
    page.push_str("| member | type | meaning |\n| --- | --- | --- |\n");
    let required = schema["required"].as_array();
    for (member, property) in properties {
        let must = required.is_some_and(|names| names.iter().any(|name| name == member.as_str()));
        let must = if must { " (always)" } else { "" };
        let _ = writeln!(
            page,
            "| `{member}`{must} | {} | {} |",
            cell(&kind(property)),
            cell(text(property, "description"))
        );
    }
    page.push('\n');
}

fn content(holder: &Value) -> String {
    let Some(content) = holder["content"].as_object() else { return String::new() };
    let each = content.iter().map(|(media, body)| match media.ends_with("json") {
        true => format!("`{media}` {}", kind(&body["schema"])),
        false => format!("`{media}`"),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn operation(method: &str, path: &str, operation: &Value, page: &mut String) {
    let _ = writeln!(page, "### `{} {path}`\n", method.to_uppercase());
    let _ = writeln!(page, "{}", text(operation, "summary"));
    if !text(operation, "description").is_empty() {
        let _ = writeln!(page, "{}", text(operation, "description"));
    }
    page.push('\n');
    if let Some(parameters) = operation["parameters"].as_array().filter(|some| !some.is_empty()) {
        page.push_str("| parameter | in | type | meaning |\n| --- | --- | --- | --- |\n");
        for parameter in parameters {
            let must = if parameter["required"] == true { " (always)" } else { "" };
            let _ = writeln!(
                page,
                "| `{}`{must} | {} | {} | {} |",
                text(parameter, "name"),
                text(parameter, "in"),
                cell(&kind(&parameter["schema"])),
                cell(text(parameter, "description"))
            );
        }
        page.push('\n');
    }
    let body = content(&operation["requestBody"]);
    if !body.is_empty() {
        let _ = writeln!(page, "Body: {body}\n");
    }
    page.push_str("| status | meaning | body |\n| --- | --- | --- |\n");
    for (status, response) in operation["responses"].as_object().unwrap() {
        let _ = writeln!(
            page,
            "| {status} | {} | {} |",
            cell(text(response, "description")),
            cell(&content(response))
        );
    }
    page.push('\n');
}

fn page_of(description: &Value) -> String {
    let mut page = String::from(
        "# Every route\n\nThe server's own description (`/openapi.json`) as a page. [api.md](../api.md) explains the \
         inference APIs, [prompts.md](../prompts.md) the life of a prompt, [operation.md](../operation.md) who may \
         call what.\n\n",
    );
    let paths = description["paths"].as_object().unwrap();
    let mut shown = 0;
    for (prefix, title) in PARTS {
        let _ = writeln!(page, "## {title}\n");
        for (path, operations) in paths.iter().filter(|(path, _)| path.starts_with(prefix)) {
            shown += 1;
            for (method, of_method) in operations.as_object().unwrap() {
                operation(method, path, of_method, &mut page);
            }
        }
    }
    assert_eq!(shown, paths.len(), "every path has a part of the page");
    page.push_str("## Bodies\n\nMembers that are there in any case say so.\n\n");
    for (name, of_name) in description["components"]["schemas"].as_object().unwrap() {
        schema(name, of_name, &mut page);
    }
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_of_routes_is_in_step_with_the_server() {
    let server = Server::start(&[("tweets", tweets())], Setup::default()).await;
    let (status, description) = server.get("/openapi.json").await;
    assert_eq!(status, 200);
    is_in_step("http.md", &page_of(&description));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_of_metrics_is_in_step_with_the_server() {
    let lines = lines_of_every_metric().await;
    let mut metrics: BTreeMap<&str, (&str, &str, Vec<&str>)> = BTreeMap::new();
    for line in &lines {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            metrics.entry(name).or_default().0 = help;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            metrics.entry(name).or_default().1 = kind;
        } else {
            let series = line.rsplit_once(' ').unwrap().0;
            let (series, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
            let name = base.filter(|base| metrics.contains_key(base)).unwrap_or(series);
            let known = &mut metrics.get_mut(name).unwrap().2;
            for label in labels.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(label, _)| label)
            {
                if label != "le" && !known.contains(&label) {
                    known.push(label);
                }
            }
        }
    }
    let mut page = String::from(
        "# Metrics\n\nEverything that `GET /metrics` exports. A histogram has the series `…_bucket`, `…_sum` and \
         `…_count`. [operation.md](../operation.md#metrics-dashboard-alerts) says which ones to look at, and what \
         bounds their number.\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for (name, (help, kind, labels)) in metrics {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(", "), cell(help));
    }
    is_in_step("metrics.md", &page);
}

/// The prompt of the worked example: 2 tokens of 4 values in 2 pieces each, of which one piece is pruned.
fn example() -> PromptFile {
    let named =
        |name: &str, fingerprint: &str| Fingerprint { name: name.into(), fingerprint: fingerprint.into() };
    let base = Base {
        model: named("tiny", "00112233445566aa"),
        tokenizer: named("tiny", "8899aabbccddeeff"),
        d_model: 4,
    };
    let rows = vec![1.0, -2.0, 0.5, 0.25, 3.0, -1.0, 8.0, 9.0];
    let manifest = Manifest {
        format: FORMAT,
        producer: "example".into(),
        tokens: 2,
        pieces: 2,
        d_model: base.d_model,
        base_model: base.model,
        tokenizer: base.tokenizer,
        task: TaskSpec {
            template: "{text}".into(),
            output: OutputSpec::Text { max_new_tokens: 8 },
            max_input_tokens: 64,
            keep: Vec::new(),
            content_free: Vec::new(),
        },
        history: Vec::new(),
        scored_by: ScoredBy::default(),
        seed: 7,
        data: Vec::new(),
        golden: Vec::new(),
    };
    let prompt = Prompt::dense(4, 2, rows).masked(&[true, true, true, false]);
    PromptFile { manifest, prompt, token_importance: None, piece_importance: None }
}

/// Bytes as `hexdump -C` shows them.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, row) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown: String =
            row.iter().map(|&byte| if (32..127).contains(&byte) { char::from(byte) } else { '.' }).collect();
        let halves: Vec<String> = hex.chunks(8).map(|half| half.join(" ")).collect();
        let _ = writeln!(text, "{:08x}  {:<48}  |{shown}|", i * 16, halves.join("  "));
    }
    text
}

#[test]
fn the_prompt_file_that_the_reference_takes_apart_is_one() {
    let bytes = example().to_bytes().unwrap();
    assert_eq!(PromptFile::from_bytes(&bytes, &Limits::default()).unwrap(), example());
    let page = std::fs::read_to_string(root().join("docs/reference/prompt-file.md")).unwrap();
    let dumped = page.split("```text\n00000000").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let want = dump(&bytes);
    let shown = format!("00000000{dumped}");
    assert!(shown == want, "the page shows\n{shown}\nthe file is\n{want}");
}

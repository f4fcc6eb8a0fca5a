//! Rows of every format as examples, what is said about bad ones, and how dev is drawn.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use support::{model, prompt_file, root, tokenizer};
use xprompt::engine::ReadyTask;
use xprompt::prompt::{Base, Fingerprint, Label, Limits, OutputSpec, Prompt, PromptFile, TaskSpec};
use xprompt::t5::Config;
use xprompt::task::Tokenizer;
use xprompt_trainer::data::{DataError, Dataset, Files, Reader, Rows, Sets};
use xprompt_trainer::example::{Example, Target};
use xprompt_trainer::task_file::{Data, Format, TaskFile};

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

fn labels(template: &str) -> TaskSpec {
    let label = |name: &str| Label { name: name.into(), words: name.into() };
    let output = OutputSpec::Labels { labels: vec![label("good"), label("poor")] };
    TaskSpec {
        template: template.into(),
        output,
        max_input_tokens: 64,
        keep: Vec::new(),
        content_free: Vec::new(),
    }
}

fn texts() -> TaskSpec {
    TaskSpec { output: OutputSpec::Text { max_new_tokens: 8 }, ..labels("{text}") }
}

/// A folder of files by name.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn read(spec: &TaskSpec, paths: &[PathBuf], format: Option<Format>) -> Result<Dataset, DataError> {
    let tokenizer = tokenizer();
    Reader::new(spec, "label", &tokenizer, 1).unwrap().read(Files { paths, format }, None)
}

fn read_one(name: &str, bytes: &[u8]) -> Result<Dataset, String> {
    let folder = folder(&[(name, bytes)]);
    read(&labels("{text}"), &[folder.path().join(name)], None).map_err(|error| error.to_string())
}

/// What the examples of [`read_one`] are, in short.
fn inputs(set: &Dataset) -> Vec<(String, usize)> {
    let short = |example: &Example| match example.target {
        Target::Label(label) => (example.input["text"].as_str().unwrap().to_owned(), label),
        Target::Text { .. } => panic!("a label task"),
    };
    set.examples.iter().map(short).collect()
}

#[test]
fn the_same_rows_in_any_format_are_the_same_examples() {
    let want = vec![("a, \"b\"".to_owned(), 0), ("größer".to_owned(), 1)];
    let jsonl =
        "{\"text\": \"a, \\\"b\\\"\", \"label\": \"good\"}\r\n\n{\"text\": \"größer\", \"label\": \"poor\"}";
    for (name, content) in [
        ("a.jsonl", jsonl),
        ("bom.jsonl", &format!("\u{feff}{jsonl}")),
        ("a.csv", "label,text,id\r\ngood,\"a, \"\"b\"\"\",1\r\n\r\npoor,größer,2\r\n"),
        ("bom.csv", "\u{feff}\"text\",label\n\"a, \"\"b\"\"\",good\ngrößer,poor"),
        ("a.tsv", "text\tlabel\na, \"b\"\tgood\ngrößer\tpoor\n"),
    ] {
        let set = read_one(name, content.as_bytes()).unwrap();
        assert_eq!(inputs(&set), want, "{name}");
    }
}

#[test]
fn csv_values_may_hold_line_breaks_and_lines_are_counted_through_them() {
    let set = read_one("a.csv", b"text,label\n\"one\ntwo\",good\n").unwrap();
    assert_eq!(inputs(&set), [("one\ntwo".to_owned(), 0)]);
    let error = read_one("a.csv", b"text,label\n\"one\ntwo\",good\n\n\nx,odd\n").unwrap_err();
    assert!(error.contains("a.csv:6: label is \"odd\"; the task's labels are good, poor"), "{error}");
}

/// Rows and values as pyarrow reads them from the files that it wrote, see `tests/fixtures/own_data.py`.
#[test]
fn parquet_of_every_codec_gives_what_pyarrow_reads() {
    let expected = std::fs::read_to_string(fixture("expected/rows.json")).unwrap();
    let expected: Vec<Map<String, Value>> = serde_json::from_str(&expected).unwrap();
    for codec in ["none", "snappy", "gzip", "zstd"] {
        let paths = [fixture(&format!("data/rows-{codec}.parquet"))];
        let rows = Rows::read(Files { paths: &paths, format: None }, &["text"], None).rows;
        let rows: Vec<_> = rows.into_iter().map(|row| row.unwrap().values).collect();
        assert_eq!(rows, expected, "{codec}");
    }
    let set = read(&labels("{text} {votes} {seen}"), &[fixture("data/rows-snappy.parquet")], None).unwrap();
    assert_eq!(set.examples[0].input["votes"], json!(9_007_199_254_740_993_i64));
    let error = read(&labels("{note}"), &[fixture("data/rows-gzip.parquet")], None).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "rows-gzip.parquet, row 2: field \"note\" is null, not text, a number or a truth value"
        )
    );
}

#[test]
fn a_format_that_the_name_does_not_tell_is_named_by_the_task() {
    let folder = folder(&[("rows.txt", b"text,label\nx,good\n")]);
    let path = [folder.path().join("rows.txt")];
    let error = read(&labels("{text}"), &path, None).unwrap_err().to_string();
    assert!(error.contains("rows.txt") && error.contains("data.format"), "{error}");
    assert_eq!(read(&labels("{text}"), &path, Some(Format::Csv)).unwrap().examples.len(), 1);
}

#[test]
fn several_files_are_read_as_one_and_fingerprinted_in_order() {
    let row = |text: &str| format!("{{\"text\": \"{text}\", \"label\": \"good\"}}\n");
    let (a, b, both) = (row("a"), row("b"), row("a") + &row("b"));
    let folder =
        folder(&[("a.jsonl", a.as_bytes()), ("b.jsonl", b.as_bytes()), ("both.jsonl", both.as_bytes())]);
    let of = |names: &[&str]| {
        let paths: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
        read(&labels("{text}"), &paths, None).unwrap()
    };
    let (parts, whole, turned) =
        (of(&["a.jsonl", "b.jsonl"]), of(&["both.jsonl"]), of(&["b.jsonl", "a.jsonl"]));
    assert_eq!((&parts.examples, &parts.fingerprint), (&whole.examples, &whole.fingerprint));
    assert_ne!(parts.fingerprint, turned.fingerprint);
}

#[test]
fn bad_files_and_rows_are_named_with_place_and_remedy() {
    for (name, content, words) in [
        ("a.csv", &b"text,label\nx\n"[..], "a.csv:2: the row has 1 values, the header has 2 columns; put"),
        (
            "a.tsv",
            b"text\tlabel\nx\ty\tgood\n",
            "a.tsv:2: the row has 3 values, the header has 2 columns; a value",
        ),
        ("a.csv", b"text,label,text\n", "two columns are named \"text\"; rename"),
        (
            "a.csv",
            b"great,good\nbad,poor\n",
            "no column \"text\"; the columns are \"great\", \"good\" (the first line",
        ),
        ("a.csv", b"text,label\nx,good\ny\xff,good\n", "a.csv:3: value 1 is not UTF-8"),
        ("a.csv", b"te\xffxt,label\n", "a.csv:1: value 1 is not UTF-8"),
        (
            "a.csv",
            b"text,label\nx,good\ngood,\"poor\nx,good\n",
            "a.csv:3: a quote is opened that is never closed",
        ),
        ("a.csv", b"text,label\n", "a.csv: no rows"),
        ("a.csv", b"", "a.csv: no rows"),
        ("a.csv", b"\xff\xfet\0e\0", "UTF-16"),
        (
            "a.jsonl",
            b"{\"text\": \"x\", \"lab",
            "a.jsonl:1: EOF while parsing a string at column 18; each line",
        ),
        ("a.jsonl", b"\n[1]", "a.jsonl:2: this is a list; each line is one JSON object"),
        ("a.jsonl", b"{\"text\": \"\xff\"}", "a.jsonl:1: byte 11 is not UTF-8"),
        ("a.jsonl", b"{\"text\": \"x\"}", "a.jsonl:1: label is missing; the task's labels are good, poor"),
        ("a.parquet", b"PAR1 or not", "a.parquet:"),
    ] {
        let error = read_one(name, content).unwrap_err();
        assert!(error.contains(words), "{error} says {words}");
    }
    let error = read(&labels("{body}"), &[fixture("data/rows-zstd.parquet")], None).unwrap_err().to_string();
    assert!(error.contains("no column \"body\"; the columns are \"text\", \"label\""), "{error}");
}

#[test]
fn a_damaged_parquet_file_is_an_error_or_other_rows_and_never_a_panic() {
    let folder = folder(&[]);
    let paths = [folder.path().join("a.parquet")];
    let read = |bytes: &[u8]| {
        std::fs::write(&paths[0], bytes).unwrap();
        Rows::read(Files { paths: &paths, format: None }, &["text"], None).rows
    };
    let mut errors = 0;
    for codec in ["none", "snappy", "gzip", "zstd"] {
        let whole = std::fs::read(fixture(&format!("data/rows-{codec}.parquet"))).unwrap();
        for i in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[i] ^= 0x01;
            errors += usize::from(read(&damaged).iter().any(Result::is_err));
            assert!(read(&whole[..i])[0].is_err(), "a file that is cut short");
        }
    }
    assert!(errors > 50, "{errors}");
}

#[test]
fn a_quote_in_the_last_value_is_no_open_quote() {
    for text in ["5\" pipe", "\"5\"\" pipe\"", "\"x\"", "\"x\"\n", "\"x\n\"\n\n"] {
        let content = format!("label,text\ngood,{text}");
        assert!(read_one("a.csv", content.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn a_text_row_may_list_several_accepted_answers() {
    let rows = b"{\"text\": \"1 + 1\", \"label\": [\"two\", 2]}\n{\"text\": \"2\", \"label\": \"two\"}\n";
    let folder = folder(&[("a.jsonl", rows)]);
    let set = read(&texts(), &[folder.path().join("a.jsonl")], None).unwrap();
    let target = |i: usize| match &set.examples[i].target {
        Target::Text { text, .. } => text.as_str(),
        Target::Label(_) => panic!("a text task"),
    };
    assert_eq!((target(0), &set.examples[0].accepted[..]), ("two", &["two".to_owned(), "2".to_owned()][..]));
    assert_eq!((target(1), set.examples[1].accepted.len()), ("two", 0));
}

// --- drawing ---

fn sets(settings: &str, rows: &str) -> Result<Sets, String> {
    let task = "[task]\nlabels = [{ name = 'good', words = 'good' }, { name = 'poor', words = 'poor' }]\n";
    let content = format!("[data]\ntrain = 'train.jsonl'\n{settings}\n{task}");
    let folder = folder(&[("task.toml", content.as_bytes()), ("train.jsonl", rows.as_bytes())]);
    let file = TaskFile::read(&folder.path().join("task.toml")).map_err(|error| error.to_string())?;
    Sets::read(&file.data, &file.spec(), &tokenizer(), 1).map_err(|error| error.to_string())
}

/// `count` rows, three of four good, with ten rows a group.
fn rows(count: usize) -> String {
    let label = |i: usize| if i % 4 == 3 { "poor" } else { "good" };
    let row = |i: usize| json!({"text": i.to_string(), "label": label(i), "question": i / 10}).to_string();
    (0..count).map(|i| row(i) + "\n").collect()
}

fn numbers(set: &Dataset) -> Vec<usize> {
    set.examples.iter().map(|example| example.input["text"].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn dev_that_is_not_named_is_a_stratified_share_of_train() {
    let sets = sets("", &rows(100)).unwrap();
    assert_eq!((sets.train.examples.len(), sets.dev.examples.len()), (80, 20));
    assert_eq!((sets.train.label_counts(2), sets.dev.label_counts(2)), (vec![60, 20], vec![15, 5]));
    let mut all = [numbers(&sets.train), numbers(&sets.dev)].concat();
    assert!(numbers(&sets.dev).is_sorted(), "rows keep their order");
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    assert_eq!(sets.train.fingerprint, sets.dev.fingerprint);
}

#[test]
fn a_group_is_never_on_both_sides() {
    let sets = sets("group = 'question'\ndev_share = 0.3", &rows(200)).unwrap();
    let groups =
        |set: &Dataset| numbers(set).into_iter().map(|i| i / 10).collect::<std::collections::BTreeSet<_>>();
    assert!(groups(&sets.train).is_disjoint(&groups(&sets.dev)));
    assert_eq!(sets.dev.examples.len(), 60);
    let label_counts = sets.dev.label_counts(2);
    assert!((44..=46).contains(&label_counts[0]), "{label_counts:?} is near three of four");
}

#[test]
fn rows_with_the_same_input_are_never_on_both_sides() {
    let rows: String =
        (0..60).map(|i| json!({"text": (i % 20).to_string(), "label": "good"}).to_string() + "\n").collect();
    let sets = sets("", &rows).unwrap();
    assert_eq!((sets.train.examples.len(), sets.dev.examples.len()), (48, 12));
    let dev = numbers(&sets.dev);
    assert!(numbers(&sets.train).iter().all(|input| !dev.contains(input)));
}

#[test]
fn shots_are_drawn_by_their_own_seed_and_dev_is_disjoint() {
    let drawn = |settings: &str| {
        let sets = sets(settings, &rows(200)).unwrap();
        (numbers(&sets.train), numbers(&sets.dev))
    };
    let (train, dev) = drawn("shots = 32");
    assert_eq!((train.len(), dev.len()), (32, 32));
    assert!(train.iter().all(|row| !dev.contains(row)));
    assert_eq!((&train, &dev), (&drawn("shots = 32\nshots_seed = 42").0, &dev));
    assert_ne!(train, drawn("shots = 32\nshots_seed = 43").0);
    // more shots hold the fewer
    assert!(train.iter().all(|row| drawn("shots = 50").0.contains(row)));
    let (grouped, _) = drawn("shots = 3\ngroup = 'question'");
    assert_eq!(grouped.len(), 30, "a shot of grouped rows is a group");
}

#[test]
fn too_few_rows_to_draw_from_are_an_error_that_counts_them() {
    for (settings, words) in [
        ("shots = 32", "data.shots asks for 32 for train and as many for dev, but train has 40"),
        ("group = 'none'", "train.jsonl:1: no text or number under the key \"none\", which data.group names"),
        ("dev_share = 0.2\nshots = 3", "data.dev_share is 0.2; leave it out"),
        ("dev_share = 1.0", "data.dev_share is 1.0; above 0 and below 1"),
        ("dev_rows = 3", "data.dev_rows is 3; leave it out, because there is no data.dev"),
        ("dev = []", "the list names no file"),
        ("dev = 3", "a file's name, or a list of names"),
        ("format = 'xls'", "unknown variant `xls`"),
        ("shots = 0", "data.shots is 0; at least 1"),
    ] {
        let error = sets(settings, &rows(40)).unwrap_err();
        assert!(error.contains(words), "{error} says {words}");
    }
    let error = sets("group = 'question'", &rows(10)).unwrap_err();
    assert!(error.contains("dev cannot be drawn from 10 rows of train in 1 groups"), "{error}");
}

#[test]
fn files_of_the_task_file_are_relative_to_its_folder() {
    let content = "[data]\ntrain = ['a.csv', 'b.csv']\ndev = 'd.tsv'\n[task]\nmax_new_tokens = 4\n";
    let folder = folder(&[("task.toml", content.as_bytes())]);
    let Data { train, dev, test, .. } = TaskFile::read(&folder.path().join("task.toml")).unwrap().data;
    assert_eq!(train, [folder.path().join("a.csv"), folder.path().join("b.csv")]);
    assert_eq!((dev, test), (vec![folder.path().join("d.tsv")], vec![]));
}

// --- what is read is what is served ---

/// A prompt of one row for a task.
fn ready(spec: &TaskSpec, tokenizer: &Tokenizer) -> ReadyTask {
    let name = Fingerprint { name: "m".into(), fingerprint: "m".into() };
    let base = Base { model: name.clone(), tokenizer: name, d_model: 4 };
    // through its bytes, as a server gets it
    let file = prompt_file(&base, spec.clone(), Prompt::dense(4, 1, vec![1.0; 4]));
    let file = PromptFile::from_bytes(&file.to_bytes().unwrap(), &Limits::default()).unwrap();
    let config = Config::read(&model()).unwrap();
    ReadyTask::new(file, "v".into(), tokenizer, &config).unwrap()
}

#[test]
fn the_reader_cuts_a_row_as_the_server_cuts_the_same_input() {
    let tokenizer = tokenizer();
    let row = |i: usize| {
        let text = format!("{} and so on", "a long passage of words ".repeat(i));
        json!({"text": text, "title": "title ".repeat(i % 5), "label": "good", "question": format!("what is {i} ?")})
    };
    let rows: String = (0..12).map(|i| row(i).to_string() + "\n").collect();
    let folder = folder(&[("a.jsonl", rows.as_bytes())]);
    for keep in [vec![], vec!["question".to_owned()], vec!["question".into(), "title".into()]] {
        let spec = TaskSpec { max_input_tokens: 32, keep, ..labels("{title}: {text} question: {question}") };
        let task = ready(&spec, &tokenizer);
        let set = read(&spec, &[folder.path().join("a.jsonl")], None).unwrap();
        let mut cut = 0;
        for example in &set.examples {
            let (ids, truncated) =
                task.encode(&Value::Object(example.input.clone()), &tokenizer, true).unwrap();
            assert_eq!(ids, example.source);
            cut += usize::from(truncated);
            let shown = tokenizer.decode(&ids).unwrap();
            let question = example.input["question"].as_str().unwrap();
            assert!(spec.keep.is_empty() || shown.ends_with(question), "{shown}");
        }
        assert_eq!(cut, set.truncated);
        assert!(cut > 5);
    }
}

#[test]
fn a_prompt_file_names_kept_fields_only_where_there_are_any() {
    let spec = labels("{text}");
    assert!(!serde_json::to_string(&spec).unwrap().contains("keep"));
    let kept = TaskSpec { keep: vec!["text".into()], ..spec };
    assert_eq!(serde_json::to_value(&kept).unwrap()["keep"], json!(["text"]));
}

// --- the reference ---

/// The fenced block that follows a heading of `docs/task-file.md`.
fn block_after(heading: &str) -> String {
    let text = std::fs::read_to_string(root().join("docs/task-file.md")).unwrap();
    let rest = text.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
    let block = rest.split("```").nth(1).unwrap();
    block.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn the_examples_of_the_reference_are_read_as_it_says() {
    let task = block_after("## A complete example");
    let folder = folder(&[("task.toml", task.as_bytes())]);
    let file = TaskFile::read(&folder.path().join("task.toml")).unwrap();
    let spec = file.spec();
    let read_block = |heading: &str, name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, block_after(heading)).unwrap();
        read(&spec, &[path], None).unwrap().examples
    };
    let [jsonl, csv, tsv] = [("**JSONL**", "a.jsonl"), ("**CSV**", "a.csv"), ("**TSV**", "a.tsv")]
        .map(|(heading, name)| read_block(heading, name));
    assert_eq!((jsonl.len(), &jsonl[1]), (2, &csv[1]));
    assert_eq!(csv[0].input["text"], tsv[0].input["text"]);
    assert_eq!((&csv[0].target, &tsv[0].target), (&Target::Label(1), &Target::Label(1)));
}

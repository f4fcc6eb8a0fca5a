//! Soft prompts of other programs: `import` and `export`.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{Bench, root};

const RECIPE: &str = "[task]\ntemplate = 'review: {text}'\nlabels = [{ name = 'good', words = 'good' }, { name = 'poor', words = 'bad' }]\n";

fn adapter(name: &str) -> PathBuf {
    root().join("tests/fixtures/peft").join(name)
}

/// Copies an adapter into the bench, as `name`.
fn copy(bench: &Bench, adapter_name: &str, name: &str) -> PathBuf {
    let to = bench.at(name);
    std::fs::create_dir_all(&to).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(adapter(adapter_name).join(file), to.join(file)).unwrap();
    }
    to
}

/// An array as NumPy writes it, of rows of the bundled model's width.
fn npy(tokens: usize) -> (Vec<u8>, Vec<f32>) {
    let rows: Vec<f32> = (0..tokens * 256).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({tokens}, 256), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(rows.iter().flat_map(|x| x.to_le_bytes()));
    (bytes, rows)
}

fn values(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    bytes[8 + usize::try_from(header).unwrap()..].to_vec()
}

/// What PEFT trained becomes an XPrompt, and that goes back to PEFT.
#[test]
fn an_adapter_is_imported_scored_pruned_and_exported() {
    let bench = Bench::new(RECIPE);
    copy(&bench, "nano", "adapter");
    let said = bench.works("import @adapter --task @task.toml --golden @dev.jsonl --out @a.safetensors");
    assert!(said.contains("5 of 5 tokens, 80 of 80 pieces"), "{said}");
    assert!(said.contains("PROMPT_TUNING (") && said.contains("for models/t5-nano"), "{said}");
    assert!(said.contains("golden examples 8"), "{said}");
    let imported = bench.prompt("a.safetensors");
    let m = &imported.manifest;
    assert_eq!((m.golden.len(), m.golden[0].scores.len(), m.history.len()), (8, 2, 1));
    assert_eq!((m.history[0].name.as_str(), m.history[0].parameters), ("imported", 5 * 256));
    assert!(
        m.producer.starts_with("xprompt-trainer ") && m.producer.contains(" from PEFT 0."),
        "{}",
        m.producer
    );
    assert_eq!((m.base_model.name.as_str(), m.task.template.as_str()), ("t5-nano", "review: {text}"));
    let theirs = values(&adapter("nano").join("adapter_model.safetensors"));
    let rows: Vec<u8> = imported.prompt.rows().iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(rows, theirs[..5 * 256 * 4]);
    assert!(bench.works("inspect @a.safetensors").contains("imported"));

    bench.works("score @a.safetensors --task @task.toml");
    bench.works("prune @a.safetensors --tokens 0.4 --out @pruned.safetensors");
    bench.works("export @pruned.safetensors --peft @out --base-model someone/t5-nano");
    let config: Value = serde_json::from_slice(&bench.read("out/adapter_config.json")).unwrap();
    assert_eq!((&config["num_virtual_tokens"], &config["token_dim"]), (&json!(3), &json!(256)));
    assert_eq!(config["base_model_name_or_path"], "someone/t5-nano");
    let rows: Vec<u8> =
        bench.prompt("pruned.safetensors").prompt.rows().iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(values(&bench.at("out/adapter_model.safetensors")), [&rows[..], &rows].concat());

    // the folder says all that its import needs
    let said = bench.works("import @out --out @again.safetensors");
    assert!(said.contains("golden examples none: a server cannot tell"), "{said}");
    let (pruned, again) = (bench.prompt("pruned.safetensors"), bench.prompt("again.safetensors"));
    assert_eq!(again.prompt.rows(), pruned.prompt.rows());
    assert_eq!(again.manifest.task, pruned.manifest.task);
}

#[test]
fn an_array_is_imported_for_a_task_told_by_options() {
    let bench = Bench::new(RECIPE);
    let (bytes, rows) = npy(3);
    std::fs::write(bench.at("prompt.npy"), bytes).unwrap();
    let said = bench
        .works("import @prompt.npy --label good --label poor=bad --max-input-tokens 40 --out @a.safetensors");
    assert!(
        said.contains("NumPy array (") && said.contains("that it was trained on this one is your word"),
        "{said}"
    );
    let file = bench.prompt("a.safetensors");
    assert_eq!(file.prompt.rows(), rows);
    let task = json!(file.manifest.task);
    let labels = json!([{"name": "good", "words": "good"}, {"name": "poor", "words": "bad"}]);
    assert_eq!((&task["template"], &task["max_input_tokens"]), (&json!("{text}"), &json!(40)));
    assert_eq!(task["output"]["labels"], labels);
    bench.works("import @prompt.npy --max-new-tokens 3 --golden @dev.jsonl --out @b.safetensors");
    let golden = bench.prompt("b.safetensors").manifest.golden;
    assert!(golden.len() == 8 && golden.iter().all(|golden| golden.text.is_some()));
}

#[test]
fn what_cannot_be_imported_is_named_with_a_remedy() {
    let bench = Bench::new(RECIPE);
    let labels = "--label good --label poor=bad --out @out.safetensors";
    let fails =
        |from: &str, more: &str, words: &[&str]| drop(bench.fails(&format!("import {from} {more}"), words));
    fails("@nowhere", labels, &["nowhere: No such file"]);
    fails("@", labels, &["no adapter_config.json is in this folder; name a folder that save_pretrained"]);
    let at = copy(&bench, "nano", "adapter");
    fails("@adapter/adapter_config.json", labels, &["name the adapter's folder, not a file in it"]);
    fails("@adapter", "--out @x.safetensors", &["what the prompt answers is not said; name --task FILE"]);
    fails("@adapter", "--label good --out @x.safetensors", &["1 labels, allowed are 2 to 4096"]);
    fails("@adapter", "--label good --label good --out @x.safetensors", &["label \"good\" is named twice"]);
    fails("@adapter", &format!("{labels} --template x"), &["adapter: template \"x\" has no field"]);
    fails("@adapter", &format!("{labels} --task @task.toml"), &["cannot be used with"]);
    bench.write("adapter/task.toml", "[task]\nlabels = []\n");
    fails("@adapter", "--out @x.safetensors", &["adapter: task.toml: [task] has no labels"]);
    let config = std::fs::read_to_string(at.join("adapter_config.json")).unwrap();
    bench.write("adapter/adapter_config.json", &config.replace("models/t5-nano", "google/t5-mini"));
    fails("@adapter", labels, &["name is t5-mini, but t5-nano has another", "--same-model"]);
    bench.works(&format!("import @adapter {labels} --same-model"));
    std::fs::remove_file(at.join("adapter_model.safetensors")).unwrap();
    fails("@adapter", labels, &["adapter_model.safetensors is not there"]);
    bench.write("adapter/adapter_model.bin", "x");
    fails("@adapter", labels, &["adapter_model.bin is a pickle", "python -c"]);
    fails("@adapter/adapter_model.bin", labels, &["adapter_model.bin is a pickle", "weights_only=True"]);
    bench.write("text.npy", "no array");
    fails("@text.npy", labels, &["text.npy: not a whole NumPy file; save the rows alone"]);
    let (bytes, _) = npy(600);
    std::fs::write(bench.at("long.npy"), bytes).unwrap();
    fails("@long.npy", labels, &["tokens is 600, allowed is 1 to 512"]);
    assert!(!bench.at("x.safetensors").exists());
}

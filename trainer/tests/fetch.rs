//! Models of the hub on the command line, from a cache that is there. Downloads are tested where they are made.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache as Python leaves it, with the bundled model as xprompt/t5-nano.
fn cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--xprompt--t5-nano");
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), COMMIT).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/t5-nano").canonicalize().unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        symlink(model.join(file), snapshot.join(file)).unwrap();
    }
    cache
}

fn trainer(cache: &Path, args: &[&str]) -> Output {
    let mut trainer = Command::new(env!("CARGO_BIN_EXE_xprompt-trainer"));
    trainer.args(args).env("HF_HUB_CACHE", cache).env("HF_HUB_OFFLINE", "1").env_remove("HF_TOKEN");
    trainer.output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_model_that_the_cache_has_is_named_by_its_hub_name() {
    let cache = cache();
    let snapshot = cache.path().join("models--xprompt--t5-nano/snapshots").join(COMMIT);
    for args in [
        &["fetch", "xprompt/t5-nano"][..],
        &["fetch", "hf:xprompt/t5-nano", "--revision", COMMIT, "--offline"],
    ] {
        let output = trainer(cache.path(), args);
        let (said, problem) = texts(&output);
        assert!(output.status.success(), "{problem}");
        assert_eq!(said.trim(), snapshot.display().to_string());
    }
    let graph = cache.path().join("encoder.onnx");
    let out = graph.display().to_string();
    let output = trainer(cache.path(), &["graph", "encoder", "--model", "hf:xprompt/t5-nano", "--out", &out]);
    assert!(output.status.success(), "{}", texts(&output).1);
    assert!(graph.exists());
}

#[test]
fn a_model_that_is_not_there_says_what_to_do() {
    let cache = cache();
    for (args, says) in [
        (&["fetch", "xprompt/other"][..], "xprompt/other@main is not whole in the cache"),
        (&["fetch", "xprompt/t5-nano", "--revision", "v2"], "xprompt-trainer fetch xprompt/t5-nano@v2"),
        (&["fetch", "a/b/c"], "hf:a/b/c names no model: a model is called NAME or OWNER/NAME"),
        (&["graph", "encoder", "--model", "hf:../x", "--out", "x"], "hf:../x names no model"),
    ] {
        let output = trainer(cache.path(), args);
        let (_, problem) = texts(&output);
        assert!(!output.status.success() && problem.contains(says), "{problem}");
    }
}

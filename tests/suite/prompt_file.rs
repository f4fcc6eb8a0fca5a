use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use xprompt::prompt::{
    Base, FORMAT, Fingerprint, Label, Limits, Manifest, OutputSpec, Prompt, PromptError, PromptFile, Score,
    ScoredBy, TaskSpec,
};

const D: usize = 32;
const PIECES: usize = 16;

fn label(name: &str) -> Label {
    Label { name: name.into(), words: name.into() }
}

fn fingerprint(text: &str) -> Fingerprint {
    Fingerprint { name: text.into(), fingerprint: text.into() }
}

/// A prompt of `tokens` tokens with the pieces that `mask` says.
fn file(tokens: usize, mask: &[bool], value: f32) -> PromptFile {
    let rows = (0..tokens * D).map(|i| value + i as f32).collect();
    PromptFile {
        manifest: Manifest {
            format: FORMAT,
            producer: "test".into(),
            tokens,
            pieces: PIECES,
            d_model: D,
            base_model: fingerprint("model"),
            tokenizer: fingerprint("tokenizer"),
            task: TaskSpec {
                template: "{text}".into(),
                output: OutputSpec::Labels { labels: vec![label("yes"), label("no")] },
                max_input_tokens: 64,
                keep: Vec::new(),
                content_free: Vec::new(),
            },
            history: Vec::new(),
            scored_by: ScoredBy::default(),
            seed: 7,
            data: Vec::new(),
            golden: Vec::new(),
        },
        prompt: Prompt::dense(D, PIECES, rows).masked(mask),
        token_importance: Some(vec![0.5; tokens]),
        piece_importance: None,
    }
}

fn whole(tokens: usize) -> PromptFile {
    file(tokens, &vec![true; tokens * PIECES], 1.0)
}

fn read(bytes: &[u8]) -> Result<PromptFile, PromptError> {
    PromptFile::from_bytes(bytes, &Limits::default())
}

/// The file's bytes after a change of its tensors and its manifest.
fn changed(change: impl Fn(&mut HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>, &mut Value)) -> Vec<u8> {
    let bytes = whole(3).to_bytes().unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut manifest: Value =
        serde_json::from_str(&metadata.metadata().as_ref().unwrap()["xprompt"]).unwrap();
    let mut tensors: HashMap<_, _> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors, &mut manifest);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    let metadata = HashMap::from([("xprompt".to_owned(), manifest.to_string())]);
    safetensors::serialize(views, Some(metadata)).unwrap()
}

#[test]
fn every_way_a_file_can_be_wrong_is_its_own_error_with_a_remedy() {
    let bytes = whole(3).to_bytes().unwrap();
    let cut = bytes[..bytes.len() - 5].to_vec();
    let plain = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "not a whole safetensors file"),
        ("cut off", cut, "copy it again"),
        ("no manifest", plain, "not a prompt of xprompt-trainer"),
        ("future format", changed(|_, m| m["format"] = json!(9)), "format 9, this program reads format 1"),
        ("unknown key", changed(|_, m| m["colour"] = json!("red")), "colour"),
        ("no tokens", changed(|_, m| m["tokens"] = json!(0)), "tokens is 0, allowed is 1 to 512"),
        ("too many tokens", changed(|_, m| m["tokens"] = json!(513)), "tokens is 513"),
        ("odd pieces", changed(|_, m| m["pieces"] = json!(5)), "pieces is 5, allowed is a divisor"),
        ("one label", changed(|_, m| remove_label(m)), "1 labels, allowed are 2"),
        (
            "same label",
            changed(|_, m| m["task"]["output"]["labels"][1]["name"] = json!("yes")),
            "named twice",
        ),
        ("no words", changed(|_, m| m["task"]["output"]["labels"][1]["words"] = json!(" ")), "empty words"),
        ("golden", changed(|_, m| m["golden"] = json!([{"input": "x", "scores": [1.0]}])), "1 scores for 2"),
        (
            "golden infinite",
            changed(|_, m| m["golden"] = json!([{"input": "x", "scores": [0.5, 1e300]}])),
            "golden example 0 has a score that is no finite number",
        ),
        ("missing", changed(|t, _| drop(t.remove("values"))), "tensor values is missing"),
        ("missing mask", changed(|t, _| drop(t.remove("piece_mask"))), "tensor piece_mask is missing"),
        (
            "unknown tensor",
            changed(|t, _| drop(t.insert("x".into(), (Dtype::U8, vec![1], vec![0])))),
            "tensor x",
        ),
        ("shape", changed(|t, _| t.get_mut("values").unwrap().1 = vec![16, 6]), "the manifest asks for"),
        ("no token left", changed(|t, _| clear(t, &["token_mask", "piece_mask"])), "every token is pruned"),
        (
            "contradiction",
            changed(|t, _| t.get_mut("token_mask").unwrap().2 = vec![0b011]),
            "token 2 is pruned",
        ),
        ("stray bit", changed(|t, _| t.get_mut("token_mask").unwrap().2 = vec![0b1111]), "after its last"),
        ("infinite", changed(|t, _| infinite(t)), "tensor values holds inf at position 2"),
    ];
    for (what, bytes, words) in cases {
        let error = read(&bytes).expect_err(what).to_string();
        assert!(error.contains(words), "{what}: {error}");
    }
}

fn remove_label(manifest: &mut Value) {
    manifest["task"]["output"]["labels"].as_array_mut().unwrap().pop();
}

fn clear(tensors: &mut HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>, names: &[&str]) {
    names.iter().for_each(|&name| tensors.get_mut(name).unwrap().2.fill(0));
}

fn infinite(tensors: &mut HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>) {
    tensors.get_mut("values").unwrap().2[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes());
}

#[test]
fn a_file_names_its_scores_and_files_that_do_not_still_load() {
    let by = |manifest: Value| {
        let bytes = changed(|_, m| m.as_object_mut().unwrap().extend(manifest.as_object().unwrap().clone()));
        read(&bytes).unwrap().manifest
    };
    assert_eq!(by(json!({})).scored_by, ScoredBy::default());
    let tokens = Some(Score::LeaveOneOut);
    assert_eq!(
        by(json!({"scored_by": {"tokens": "leave_one_out"}})).scored_by,
        ScoredBy { tokens, pieces: None }
    );
    let stage = json!({"name": "token_pruned", "tokens": 2, "pieces": 4, "parameters": 8});
    assert_eq!(by(json!({"history": [stage]})).history[0].score, None);
    let mut stage = stage;
    stage["score"] = json!("absolute_gradient");
    assert_eq!(by(json!({"history": [stage]})).history[0].score, Some(Score::AbsoluteGradient));
}

#[test]
fn a_file_over_the_limit_is_refused_before_it_is_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.safetensors");
    whole(3).write(&path).unwrap();
    let limits = Limits { bytes: 100, ..Limits::default() };
    let error = PromptFile::read(&path, &limits).unwrap_err();
    assert!(matches!(error, PromptError::TooLarge { limit: 100, .. }), "{error}");
}

#[test]
fn a_prompt_is_refused_by_another_model_or_tokenizer() {
    let base = |model: &str, tokenizer: &str, d_model| Base {
        model: fingerprint(model),
        tokenizer: fingerprint(tokenizer),
        d_model,
    };
    let file = whole(3);
    file.verify(&base("model", "tokenizer", D)).unwrap();
    for (base, words) in [
        (base("other", "tokenizer", D), "made for base model model (model), but other (other) is loaded"),
        (base("model", "tokenizer", D * 2), "made for base model"),
        (base("model", "other", D), "made with tokenizer tokenizer"),
    ] {
        let error = file.verify(&base).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_version_follows_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.safetensors");
    let first = whole(3).write(&path).unwrap();
    assert_eq!(PromptFile::read(&path, &Limits::default()).unwrap(), (whole(3), first.clone()));
    assert_eq!(whole(3).write(&path).unwrap(), first, "the same prompt gives the same bytes");
    assert_ne!(file(3, &[true; 48], 2.0).write(&path).unwrap(), first);
}

/// Found by fuzzing: read without all its digits, this number is another one after each writing.
#[test]
fn numbers_of_the_history_stay_what_they_are_when_a_file_is_read_and_written() {
    let mut written = whole(2);
    let stage = json!({"name": "tuned", "tokens": 2, "pieces": 32, "parameters": 64, "dev": {"accuracy": 0.9184467440737096}});
    written.manifest.history = vec![serde_json::from_value(stage).unwrap()];
    let bytes = written.to_bytes().unwrap();
    let read = PromptFile::from_bytes(&bytes, &Limits::default()).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.to_bytes().unwrap(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_mask_survives_the_way_to_the_file_and_back(
        mask in prop::collection::vec(any::<bool>(), 5 * PIECES),
    ) {
        prop_assume!(mask.contains(&true));
        let file = file(5, &mask, 1.0);
        prop_assert_eq!(read(&file.to_bytes().unwrap()).unwrap(), file);
    }

    #[test]
    fn no_damage_makes_reading_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = whole(3).to_bytes().unwrap();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(file) = read(&bytes) {
            let prompt = &file.prompt;
            prop_assert_eq!(prompt.rows().len(), prompt.kept_tokens().count() * prompt.d_model());
            prop_assert!(prompt.rows().iter().all(|x| x.is_finite()));
        }
    }
}

const WRITER: &str = "XPROMPT_TEST_WRITES_TO";

/// The other half of the next test: writes two versions in turn until it is killed.
#[test]
fn writer_for_the_kill_test() {
    let Some(path) = std::env::var_os(WRITER) else { return };
    let versions = [whole(400), file(400, &[true; 400 * PIECES], 2.0)];
    loop {
        versions.iter().for_each(|file| drop(file.write(Path::new(&path)).unwrap()));
    }
}

#[test]
fn a_kill_at_any_moment_of_writing_leaves_the_old_or_the_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("task.safetensors");
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..30 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "prompt_file::writer_for_the_kill_test"])
            .env(WRITER, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !path.exists() {
            assert!(Instant::now() < deadline, "the writer writes nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(5 + round * 3 % 17));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let (file, version) = PromptFile::read(&path, &Limits::default()).expect("never a torn file");
        assert!([1.0, 2.0].contains(&file.prompt.rows()[0]));
        seen.insert(version);
    }
    assert!(seen.len() <= 2, "{seen:?}");
}

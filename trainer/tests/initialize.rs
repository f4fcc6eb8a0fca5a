//! Where prompts start, with the bundled model.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use std::path::{Path, PathBuf};

use rand::SeedableRng as _;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use support::{Bench, embeddings, prompt_file, setup};
use xprompt::prompt::{Label, OutputSpec, Prompt, PromptFile, TaskSpec};
use xprompt_trainer::identity::describe;
use xprompt_trainer::initialize::{Initial, InitializeError, initialize};
use xprompt_trainer::setup::Setup;
use xprompt_trainer::task_data::TaskData;
use xprompt_trainer::task_file::{Initialization, TaskFile, TaskFileError};

const WORDS: [&str; 3] = ["sport", "business", "business news"];
const D_MODEL: usize = 256;

fn labels() -> Vec<Label> {
    WORDS.iter().map(|&words| Label { name: words.into(), words: words.into() }).collect()
}

fn start(setup: &Setup, how: &Initialization, tokens: usize, seed: u64) -> Result<Initial, InitializeError> {
    initialize(how, tokens, &labels(), setup, &mut ChaCha8Rng::seed_from_u64(seed))
}

/// What the first draw of this many rows gives.
fn sampled(setup: &Setup, rows: usize, seed: u64) -> Vec<f32> {
    embeddings(setup, index::sample(&mut ChaCha8Rng::seed_from_u64(seed), 5000, rows))
}

/// A prompt of four tokens, of which the second and half of the third are pruned.
fn pruned() -> Prompt {
    let values = (1..=4 * D_MODEL).map(|x| x as f32 / 64.0).collect();
    let mask: Vec<bool> = (0..4 * 16).map(|piece| !(16..40).contains(&piece)).collect();
    Prompt::dense(D_MODEL, 16, values).masked(&mask)
}

fn file(setup: &Setup, prompt: Prompt) -> PromptFile {
    let output = OutputSpec::Labels { labels: labels() };
    let task = TaskSpec {
        template: "{text}".into(),
        output,
        max_input_tokens: 64,
        keep: Vec::new(),
        content_free: Vec::new(),
    };
    prompt_file(&setup.base, task, prompt)
}

#[test]
fn sampled_vocabulary_draws_frequent_tokens_without_repetition() {
    let setup = setup();
    let at = |seed| start(&setup, &Initialization::SampledVocabulary, 20, seed).unwrap();
    assert_eq!(at(1).rows, sampled(&setup, 20, 1));
    assert_ne!(at(1).rows, at(2).rows);
    assert_eq!(at(1).origin, "20 rows of sampled vocabulary");
}

#[test]
fn class_labels_start_as_the_means_of_their_words() {
    let setup = setup();
    let classes = start(&setup, &Initialization::ClassLabels, 20, 1).unwrap();
    let words = setup.tokenizer.words("business news").unwrap();
    let words: Vec<Vec<f32>> = words.iter().map(|&id| embeddings(&setup, [id as usize])).collect();
    assert!(words.len() > 1);
    for (i, &x) in classes.rows[2 * D_MODEL..3 * D_MODEL].iter().enumerate() {
        let mean = words.iter().map(|row| row[i]).sum::<f32>() / words.len() as f32;
        assert!((x - mean).abs() < 1e-6, "label 2 at {i}: {x} against {mean}");
    }
    assert_eq!(classes.rows[3 * D_MODEL..], sampled(&setup, 17, 1));
    assert_eq!(classes.origin, "3 of 3 labels, 17 rows of sampled vocabulary");

    let few = start(&setup, &Initialization::ClassLabels, 2, 1).unwrap();
    assert_eq!(few.rows, classes.rows[..2 * D_MODEL]);
    assert_eq!(few.origin, "2 of 3 labels");
}

#[test]
fn random_uniform_fills_the_interval_of_half() {
    let setup = setup();
    let at = |seed| start(&setup, &Initialization::RandomUniform, 20, seed).unwrap().rows;
    let values = at(1);
    assert_eq!(values, at(1));
    assert_ne!(values, at(2));
    assert_eq!(values.len(), 20 * D_MODEL);
    let mut counts = [0; 10];
    for x in values {
        assert!((-0.5..=0.5).contains(&x), "{x}");
        counts[(((x + 0.5) * 10.0) as usize).min(9)] += 1;
    }
    // 5,120 draws over ten bins: 512 each, with a deviation of 21
    assert!(counts.iter().all(|count| (512 - 105..512 + 105).contains(count)), "{counts:?}");
}

#[test]
fn a_text_gives_its_tokens_first_and_is_cut_to_the_prompt() {
    let setup = setup();
    let text = "Classify the sentiment of the message.";
    let ids: Vec<usize> = setup.tokenizer.words(text).unwrap().iter().map(|&id| id as usize).collect();
    let all = ids.len();
    let how = Initialization::Text(text.into());
    let long = start(&setup, &how, all + 5, 3).unwrap();
    assert_eq!(long.rows[..all * D_MODEL], embeddings(&setup, ids.clone()));
    assert_eq!(long.rows[all * D_MODEL..], sampled(&setup, 5, 3));
    assert_eq!(long.origin, format!("{all} of the text's {all} tokens, 5 rows of sampled vocabulary"));

    let short = start(&setup, &how, 4, 3).unwrap();
    assert_eq!(short.rows, embeddings(&setup, ids[..4].to_vec()));
    assert_eq!(short.origin, format!("4 of the text's {all} tokens"));
}

#[test]
fn another_prompt_gives_its_surviving_rows_with_zeros_where_pieces_were_pruned() {
    let setup = setup();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.safetensors");
    let source = pruned();
    let version = file(&setup, source.clone()).write(&path).unwrap();
    let how = Initialization::Prompt(path.clone());

    let initial = start(&setup, &how, 5, 9).unwrap();
    let second = &initial.rows[D_MODEL..2 * D_MODEL];
    assert!(second[..D_MODEL / 2].iter().all(|&x| x == 0.0), "the pruned pieces of token 2");
    assert!(second[D_MODEL / 2..].iter().all(|&x| x > 8.0), "its surviving pieces");
    assert_eq!(initial.rows[..3 * D_MODEL], *source.rows());
    assert_eq!(initial.rows[3 * D_MODEL..], sampled(&setup, 2, 9));
    let origin = format!("3 rows of {} (version {version}), 2 rows of sampled vocabulary", path.display());
    assert_eq!(initial.origin, origin);
    assert_eq!(start(&setup, &how, 3, 9).unwrap().rows, source.rows(), "as many rows as there are tokens");

    let error = start(&setup, &how, 2, 9).unwrap_err();
    assert!(matches!(error, InitializeError::TooManyRows { rows: 3, tokens: 2, .. }));
    let words = error.to_string();
    assert!(
        words.contains("source.safetensors has 3 rows, more than the 2 of tuning.prompt_tokens"),
        "{words}"
    );
}

#[test]
fn a_run_is_known_by_what_the_prompt_that_it_starts_from_holds_and_not_by_its_place() {
    let setup = setup();
    let bench = Bench::new("");
    let run_from = |name: &str, prompt: Prompt| {
        file(&setup, prompt).write(&bench.at(name)).unwrap();
        let start = format!("[tuning]\ninitialization = {{ prompt = '{name}' }}\n");
        bench.task("task.toml", &format!("[task]\n{LABELS}\n{start}"));
        let file = TaskFile::read(&bench.at("task.toml")).unwrap();
        describe(&setup, &[TaskData::read("task", file, &setup).unwrap()], &[1])
    };
    let first = run_from("a", pruned());
    assert_eq!(first, run_from("b", pruned()));
    assert_ne!(first, run_from("a", Prompt::dense(D_MODEL, 16, vec![0.5; 2 * D_MODEL])));
}

#[test]
fn a_prompt_of_another_model_or_no_prompt_is_refused_by_name() {
    let setup = setup();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.safetensors");
    let refused = |change: &dyn Fn(&mut PromptFile)| {
        let mut file = file(&setup, pruned());
        change(&mut file);
        file.write(&path).unwrap();
        start(&setup, &Initialization::Prompt(path.clone()), 20, 1).unwrap_err().to_string()
    };
    let model = refused(&|file| {
        file.manifest.base_model.name = "t5-other".into();
        file.manifest.base_model.fingerprint = "0123".into();
    });
    assert!(model.contains("source.safetensors: made for base model t5-other (0123)"), "{model}");
    let tokenizer = refused(&|file| file.manifest.tokenizer.fingerprint = "4567".into());
    assert!(tokenizer.contains("source.safetensors: made with tokenizer 4567"), "{tokenizer}");
    let width = refused(&|file| {
        file.manifest.d_model = 128;
        file.prompt = Prompt::dense(128, 16, vec![0.5; 4 * 128]);
    });
    assert!(width.contains("source.safetensors: made for base model"), "{width}");

    std::fs::write(&path, "not a prompt").unwrap();
    let error = start(&setup, &Initialization::Prompt(path.clone()), 20, 1).unwrap_err().to_string();
    assert!(error.contains("source.safetensors: not a whole safetensors file"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = start(&setup, &Initialization::Prompt(path), 20, 1).unwrap_err().to_string();
    assert_eq!(error.matches("source.safetensors").count(), 1, "{error}");
}

/// Reads a task file with this line under `[tuning]`, in a folder with a file `source.safetensors`.
fn read(folder: &Path, output: &str, initialization: &str) -> Result<Initialization, TaskFileError> {
    std::fs::write(folder.join("source.safetensors"), "").unwrap();
    let path = folder.join("task.toml");
    let data = "[data]\ntrain = 'a.jsonl'\ndev = 'b.jsonl'\n";
    std::fs::write(&path, format!("{data}[task]\n{output}\n[tuning]\ninitialization = {initialization}\n"))
        .unwrap();
    TaskFile::read(&path).map(|file| file.tuning.initialization)
}

const LABELS: &str = "labels = [{ name = 'good', words = 'yes' }, { name = 'poor', words = 'no' }]";

#[test]
fn a_task_file_names_any_start() {
    let folder = tempfile::tempdir().unwrap();
    let prompt: PathBuf = folder.path().join("source.safetensors");
    for (text, want) in [
        ("'sampled_vocabulary'", Initialization::SampledVocabulary),
        ("'random_uniform'", Initialization::RandomUniform),
        ("'class_labels'", Initialization::ClassLabels),
        ("{ text = 'Is it so?' }", Initialization::Text("Is it so?".into())),
        ("{ prompt = 'source.safetensors' }", Initialization::Prompt(prompt)),
    ] {
        assert_eq!(read(folder.path(), LABELS, text).unwrap(), want);
    }
}

#[test]
fn a_start_that_is_not_there_is_found_when_the_task_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for (output, text, words) in [
        (LABELS, "{ prompt = 'missing.safetensors' }", "missing.safetensors\"; there is no such file"),
        (LABELS, "{ prompt = '.' }", "there is no such file"),
        (LABELS, "{ text = ' ' }", "tuning.initialization.text is \" \""),
        ("max_new_tokens = 4", "'class_labels'", "a free-text task has no labels"),
        (LABELS, "'class_label'", "unknown variant `class_label`"),
        (LABELS, "{ file = 'x' }", "unknown variant `file`"),
    ] {
        let error = read(folder.path(), output, text).unwrap_err().to_string();
        assert!(error.contains(words), "{error} names {words}");
        assert!(error.contains("task.toml"), "{error} names the file");
    }
}

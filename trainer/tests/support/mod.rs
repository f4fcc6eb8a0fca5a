//! What test programs share: the bundled model, the program, prompt files, and a folder with a little task.
// each test program uses a part of it; clippy exempts the functions marked as tests, not those they call
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use xprompt::prompt::{Base, FORMAT, Limits, Manifest, Prompt, PromptFile, ScoredBy, TaskSpec};
use xprompt::t5::Config;
use xprompt::task::Tokenizer;
use xprompt_trainer::setup::{Options, Setup};
use xprompt_trainer::summary::Summary;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The bundled model's folder.
pub(crate) fn model() -> PathBuf {
    root().join("models/t5-nano")
}

/// The bundled model's tokenizer.
pub(crate) fn tokenizer() -> Tokenizer {
    let config = Config::read(&model()).unwrap();
    Tokenizer::open(&model(), config.vocab_size, config.eos_token_id).unwrap()
}

/// The bundled model, loaded.
pub(crate) fn setup() -> Setup {
    Setup::load(&Options { model: model(), threads: Some(2), ..Options::default() }).unwrap()
}

/// Rows of the model's embedding table, one after the other.
pub(crate) fn embeddings(setup: &Setup, ids: impl IntoIterator<Item = usize>) -> Vec<f32> {
    let checkpoint = setup.model.checkpoint();
    ids.into_iter().flat_map(|id| checkpoint.row(checkpoint.embedding(), id)).collect()
}

/// A prompt as the file of a task.
pub(crate) fn prompt_file(base: &Base, task: TaskSpec, prompt: Prompt) -> PromptFile {
    let manifest = Manifest {
        format: FORMAT,
        producer: "a test".into(),
        tokens: prompt.tokens(),
        pieces: prompt.pieces(),
        d_model: prompt.d_model(),
        base_model: base.model.clone(),
        tokenizer: base.tokenizer.clone(),
        task,
        history: Vec::new(),
        scored_by: ScoredBy::default(),
        seed: 0,
        data: Vec::new(),
        golden: Vec::new(),
    };
    PromptFile { manifest, prompt, token_importance: None, piece_importance: None }
}

/// What a program wrote, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The program with the bundled model and two threads.
pub(crate) fn trainer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xprompt-trainer"));
    command.env("XPROMPT_MODEL", model()).env("XPROMPT_THREADS", "2").current_dir(root());
    command
}

/// A folder with a little sentiment data, 32 rows of train and 16 of dev, in which the program works.
pub(crate) struct Bench(tempfile::TempDir);

// === impl Bench ===

impl Bench {
    /// With a `task.toml` of this recipe: a task file without `[data]`, of the labels `good` and `poor`.
    pub(crate) fn new(recipe: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let words = [["lovely", "great", "fine", "superb"], ["awful", "dull", "bad", "dreadful"]];
        let things = ["film", "meal", "book", "song", "trip", "show"];
        let row = |i: usize| {
            let text = format!("a {} {}", words[i % 2][i / 2 % 4], things[i / 3 % 6]);
            let label = ["good", "poor"][i % 2];
            json!({"text": text, "label": label}).to_string()
        };
        let rows: Vec<String> = (0..48).map(row).collect();
        bench.write("train.jsonl", &rows[..32].join("\n"));
        bench.write("dev.jsonl", &rows[32..].join("\n"));
        bench.task("task.toml", recipe);
        bench
    }

    /// Writes a task file of this recipe over the bench's data.
    pub(crate) fn task(&self, name: &str, recipe: &str) {
        let data = "[data]\ntrain = 'train.jsonl'\ndev = 'dev.jsonl'\ntest = 'dev.jsonl'\n";
        self.write(name, &format!("{data}{recipe}"));
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.at(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.at(name)).unwrap()
    }

    pub(crate) fn prompt(&self, name: &str) -> PromptFile {
        PromptFile::read(&self.at(name), &Limits::default()).unwrap().0
    }

    /// The summary of a run whose results are in this folder.
    pub(crate) fn summary(&self, out: &str) -> Summary {
        serde_json::from_slice(&self.read(&format!("{out}/summary.json"))).unwrap()
    }

    /// A command line, ready to be run; words that begin with @ are files of the bench.
    pub(crate) fn command(&self, line: &str) -> Command {
        let word = |word: &str| word.strip_prefix('@').map_or(word.into(), |name| self.at(name));
        let mut command = trainer();
        command.args(line.split(' ').map(word));
        command
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs a command line that has to succeed. Returns what it printed.
    pub(crate) fn works(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command line that has to end with an error that says these words. Returns all that it says.
    pub(crate) fn fails(&self, line: &str, words: &[&str]) -> String {
        let output = self.run(line);
        let error = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{line} has to fail: {output:?}");
        for words in words {
            assert!(error.contains(words), "{line}: {error} has to say {words}");
        }
        error
    }
}

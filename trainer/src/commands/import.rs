//! `import`: a soft prompt of another program.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use xprompt::engine::{Answers, ReadyTask, base};
use xprompt::exchange::{Foreign, Settings};
use xprompt::prompt::{Base, Golden, Label, Limits, OutputSpec, PromptFile};
use xprompt::t5::{Checkpoint, Config};
use xprompt::task::Tokenizer;
use xprompt_trainer::data::{Files, Reader};
use xprompt_trainer::evaluate::Job;
use xprompt_trainer::setup::Setup;
use xprompt_trainer::{PRODUCER, deliver, foreign};

use super::options::ModelOptions;
use super::write_prompt;

const EXAMPLE: &str = "\
Examples:
  xprompt-trainer import ADAPTER --task task.toml --model t5-large-lm-adapt --out prompt.safetensors
  xprompt-trainer import prompt.npy --template 'sentence: {text}' --label positive --label negative \\
    --model t5-large-lm-adapt --golden dev.jsonl --out prompt.safetensors";

/// Makes a prompt file of a soft prompt that another program trained: an adapter of PEFT (PROMPT_TUNING or P_TUNING for
/// SEQ_2_SEQ_LM), or a NumPy array, as google-research/prompt-tuning writes it.
///
/// Reads the adapter or array and, of the model, what tells it from others; pickles are not read. Writes a prompt file,
/// ready to be served, scored, pruned and rewound. What a text looks like and which words are labels neither adapter nor
/// array says: --task does, or the options below it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Import {
    /// The adapter's folder, or the array's file (.npy, shape [tokens, d_model]).
    from: PathBuf,
    /// The prompt file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The task (TOML): a task file, of which only [task] counts. By default task.toml in the adapter's folder.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["template", "labels", "max_new_tokens", "max_input_tokens"])]
    task: Option<PathBuf>,
    /// The text that the model reads, with the input's fields in braces; by default {text}.
    #[arg(long, value_name = "TEXT")]
    template: Option<String>,
    /// A label, and the words that the model says for it, if they are others. To be given for each label.
    #[arg(long = "label", value_name = "NAME[=WORDS]", value_parser = label, conflicts_with = "max_new_tokens")]
    labels: Vec<Label>,
    /// Longest answer in tokens, for a task of free text.
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Longest text in tokens; by default 512.
    #[arg(long, value_name = "N")]
    max_input_tokens: Option<usize>,
    /// The prompt was trained on the model of --model, although it calls it by another name.
    #[arg(long)]
    same_model: bool,
    /// Rows (JSONL, CSV, TSV, Parquet): the answers to the first 8 go into the file as golden examples, which a server
    /// has to repeat before it serves it. Labels are not needed.
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
}

fn label(text: &str) -> Result<Label, String> {
    let (name, words) = text.split_once('=').unwrap_or((text, text));
    if name.is_empty() || words.trim().is_empty() {
        return Err("a label needs a name, and words if there is a =".into());
    }
    Ok(Label { name: name.to_owned(), words: words.to_owned() })
}

// === impl Import ===

impl Import {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let foreign = foreign::read(&self.from)?;
        let mut settings = self.settings()?;
        let (origin, claimed) = (foreign.origin.clone(), foreign.claims.model.clone());
        let mut file = if let Some(data) = &self.golden {
            let setup = self.model.load()?;
            let config = setup.model.config();
            let mut file = self.file(foreign, &mut settings, &setup.base, config, &setup.tokenizer)?;
            file.manifest.golden = golden(&file, std::slice::from_ref(data), &setup)?;
            file
        } else {
            let folder = self.model.folder()?;
            let checkpoint = Checkpoint::open(&folder)?;
            let config = checkpoint.config();
            let tokenizer = Tokenizer::open(&folder, config.vocab_size, config.eos_token_id)?;
            let base = base(&checkpoint, &tokenizer);
            self.file(foreign, &mut settings, &base, config, &tokenizer)?
        };
        file.manifest.producer = format!("{PRODUCER} from {origin}");
        write_prompt(&file, &self.out)?;
        println!("  from            {origin}");
        let model = &file.manifest.base_model.name;
        if claimed.is_none() {
            println!(
                "  model           {model}: the prompt names none, so that it was trained on this one is your word"
            );
        }
        match file.manifest.golden.len() {
            0 => println!(
                "  golden examples none: a server cannot tell whether it answers as it should; --golden FILE makes some"
            ),
            count => println!("  golden examples {count}, of what it answers on {model} now"),
        }
        Ok(())
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        if let Some(task) = &self.task {
            return Ok(foreign::settings(task)?);
        }
        let output = match self.max_new_tokens {
            Some(max_new_tokens) => OutputSpec::Text { max_new_tokens },
            None => OutputSpec::Labels { labels: self.labels.clone() },
        };
        let is_silent = self.labels.is_empty() && self.max_new_tokens.is_none();
        if is_silent && let Some(settings) = foreign::settings_beside(&self.from)? {
            anyhow::ensure!(
                self.template.is_none() && self.max_input_tokens.is_none(),
                "{} has a task.toml; change it there, or give the whole task by options, labels included",
                self.from.display()
            );
            return Ok(settings);
        }
        anyhow::ensure!(
            !is_silent,
            "what the prompt answers is not said; name --task FILE, or each --label, or --max-new-tokens for free text"
        );
        Ok(Settings::new(self.template.clone(), output, self.max_input_tokens))
    }

    /// The prompt file, checked as a server checks it.
    fn file(
        &self,
        foreign: Foreign,
        settings: &mut Settings,
        base: &Base,
        config: &Config,
        tokenizer: &Tokenizer,
    ) -> anyhow::Result<PromptFile> {
        let from = || self.from.display().to_string();
        if self.same_model {
            settings.base_model = Some(base.model.name.clone());
        }
        foreign.fits(base, config, settings.base_model.as_deref()).with_context(from)?;
        let file = foreign.into_file(settings.task.clone(), base, String::new());
        let file = PromptFile::from_bytes(&file.to_bytes()?, &Limits::default()).with_context(from)?;
        ReadyTask::new(file.clone(), String::new(), tokenizer, config).with_context(from)?;
        Ok(file)
    }
}

/// What a prompt answers to the first rows of a file.
fn golden(file: &PromptFile, data: &[PathBuf], setup: &Setup) -> anyhow::Result<Vec<Golden>> {
    let (spec, config) = (&file.manifest.task, setup.model.config());
    let reader = Reader::new(spec, "label", &setup.tokenizer, config.eos_token_id)?.unlabelled();
    let files = Files { paths: data, format: None };
    let rows = reader.read(files, Some(deliver::GOLDEN))?;
    let answers = Answers::new(&spec.output, &setup.tokenizer, config)?;
    let job = Job { rows: file.prompt.rows(), answers: &answers, examples: &rows.examples };
    Ok(deliver::answered(setup, &mut setup.evaluator(), job)?)
}

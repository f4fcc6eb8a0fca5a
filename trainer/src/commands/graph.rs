//! `graph`: one of the model's graphs as a file.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use xprompt::graph::Arithmetic;
use xprompt::prompt::write_atomically;
use xprompt::t5::{Checkpoint, graphs, step};

use super::options::ModelFolder;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer graph tuning-labels --out models/t5-nano/tuning.onnx";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Encoder and decoder over a label trie.
    Scoring,
    /// The encoder alone.
    Encoder,
    /// One decoder step with a cache.
    DecoderStep,
    /// Loss over label candidates and its prompt gradient.
    TuningLabels,
    /// Loss over the vocabulary and its prompt gradient.
    TuningText,
    /// Loss over label candidates.
    LossLabels,
    /// Loss over the vocabulary.
    LossText,
}

/// Writes one of the model's graphs to an ONNX file, to be looked at with any ONNX viewer.
///
/// Reads the model's folder. The file refers to the weights there, so it is small.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Graph {
    /// Which graph.
    kind: Kind,
    /// The ONNX file; written into the model's folder it runs as it is, because it refers to the weights there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelFolder,
}

// === impl Graph ===

impl Graph {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let checkpoint = Checkpoint::open(&self.model.model)?;
        let graph = match self.kind {
            Kind::Scoring => graphs::scoring(&checkpoint, Arithmetic::STANDARD),
            Kind::Encoder => graphs::encoder(&checkpoint, Arithmetic::STANDARD),
            Kind::DecoderStep => step::decoder_step(&checkpoint, Arithmetic::STANDARD),
            Kind::TuningLabels => {
                graphs::tuning(&checkpoint, graphs::Answers::Candidates, Arithmetic::STANDARD)
            }
            Kind::TuningText => {
                graphs::tuning(&checkpoint, graphs::Answers::Vocabulary, Arithmetic::STANDARD)
            }
            Kind::LossLabels => graphs::loss(&checkpoint, graphs::Answers::Candidates, Arithmetic::STANDARD),
            Kind::LossText => graphs::loss(&checkpoint, graphs::Answers::Vocabulary, Arithmetic::STANDARD),
        };
        let bytes = checkpoint.onnx(&graph);
        write_atomically(&self.out, &bytes).with_context(|| self.out.display().to_string())?;
        println!("{}: {} nodes, {} KiB", self.out.display(), graph.node_count(), bytes.len() / 1024);
        Ok(())
    }
}

//! The search for one task's pruning ratios, done three ways on the same machine: each ratio by itself, one after the
//! other; all ratios side by side; and side by side with successive halving. `make search` runs it.
//!
//! Prints the wall time of each, the steps taken, and what was chosen. It is a measurement, not a test.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use xprompt::prompt::{Prompt, keep_top_pieces, keep_top_tokens};
use xprompt_trainer::lab::Lab;
use xprompt_trainer::line::{Line, Stream};
use xprompt_trainer::progress::Progress;
use xprompt_trainer::race::{Candidate, Finished, Group, race};
use xprompt_trainer::setup::{Options, Setup};
use xprompt_trainer::task_data::TaskData;
use xprompt_trainer::task_file::TaskFile;

/// How the ratios of a level are tried.
#[derive(Clone, Copy, Debug)]
enum How {
    OneAfterTheOther,
    SideBySide,
    Halving,
}

fn main() -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    // cargo passes flags of its own
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let path = arguments.next().map_or_else(|| root.join("trainer/benches/search.toml"), PathBuf::from);
    let file = TaskFile::read(&path).with_context(|| path.display().to_string())?;
    let setup = Setup::load(&Options { model: root.join("models/t5-nano"), ..Options::default() })?;
    let task = TaskData::read("search", file, &setup)?;
    let line = Line { task: &task, seed: 42 };
    let mut lab = Lab::without_folder(&setup, Progress::quiet());
    let (initial, _) = line.start(&lab, Stream::Initial)?;
    let tuned = one(race(&mut lab, "tuning", &[line.tuning("tuning", vec![candidate("tuned", initial)])])?)?;
    println!(
        "tuned: {:.1} % after {} steps, on {}",
        100.0 * tuned.metric,
        tuned.training.steps,
        setup.device()
    );
    for how in [How::OneAfterTheOther, How::SideBySide, How::Halving] {
        let start = Instant::now();
        let (best, steps) = search(&mut lab, &line, &tuned.prompt, how)?;
        println!(
            "{how:?}: {:.1} s, {steps} steps, chose {} tokens and {} pieces with {:.1} %",
            start.elapsed().as_secs_f64(),
            best.prompt.kept_token_count(),
            best.prompt.kept_piece_count(),
            100.0 * best.metric
        );
    }
    Ok(())
}

/// Token ratios, then piece ratios of the best. Returns the best prompt and the optimizer steps of all candidates.
fn search(lab: &mut Lab<'_>, line: &Line<'_>, tuned: &Prompt, how: How) -> anyhow::Result<(Finished, usize)> {
    let pruning = &line.task.file.pruning;
    let scores = line.scores(lab, tuned)?.absolute;
    let by_token = |&ratio: &f64| tuned.masked(&keep_top_tokens(tuned, &scores.tokens, ratio));
    let tokens: Vec<Prompt> = pruning.token_ratios.iter().map(by_token).collect();
    let (at, _, token_steps) = level(lab, line, &tokens, how)?;
    let pruned = &tokens[at];
    let scores = line.scores(lab, pruned)?.absolute;
    let by_piece = |&ratio: &f64| pruned.masked(&keep_top_pieces(pruned, &scores.pieces, ratio));
    let pieces: Vec<Prompt> = pruning.piece_ratios.iter().map(by_piece).collect();
    let (_, best, piece_steps) = level(lab, line, &pieces, how)?;
    Ok((best, token_steps + piece_steps))
}

fn level(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    pruned: &[Prompt],
    how: How,
) -> anyhow::Result<(usize, Finished, usize)> {
    let candidates: Vec<Candidate> = pruned.iter().map(|prompt| candidate("ratio", prompt.clone())).collect();
    let finished: Vec<Finished> = match how {
        How::OneAfterTheOther => {
            let alone = candidates
                .into_iter()
                .map(|candidate| one(race(lab, "alone", &[line.retraining("alone", vec![candidate])])?));
            alone.collect::<anyhow::Result<_>>()?
        }
        How::SideBySide | How::Halving => {
            let group = Group { halving: matches!(how, How::Halving), ..line.trials("trials", candidates) };
            race(lab, "trials", &[group])?.remove(0)
        }
    };
    let steps = finished.iter().map(|finished| finished.training.steps).sum();
    let best = (0..finished.len()).max_by(|&a, &b| finished[a].metric.total_cmp(&finished[b].metric));
    let best = best.context("no ratio was tried")?;
    Ok((best, finished[best].clone(), steps))
}

fn candidate(name: &str, prompt: Prompt) -> Candidate {
    Candidate { name: name.into(), prompt }
}

fn one(finished: Vec<Vec<Finished>>) -> anyhow::Result<Finished> {
    finished.into_iter().flatten().next().context("a race of one candidate has one result")
}

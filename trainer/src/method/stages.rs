//! The stages of the method, and the controls that are raced beside them because they need no more than is known then.

use xprompt::prompt::{Prompt, keep_top_pieces, keep_top_tokens};

use super::{Groups, Known, Raced, Record, Winner, candidate};
use crate::error::RunError;
use crate::importance::Scores;
use crate::lab::Lab;
use crate::line::{Line, Stream};
use crate::race::{Candidate, Finished};

/// Takes all lines through the stages. Origins and trials go on record.
pub(super) fn run(
    lab: &mut Lab<'_>,
    lines: &[Line<'_>],
    records: &mut [Record],
) -> Result<Vec<Known>, RunError> {
    let (initial, mut stage_one) = tune(lab, lines, records)?;
    let tuned: Vec<Finished> = (0..lines.len()).map(|i| stage_one.only(i, "tuning")).collect();
    for (line, tuned) in lines.iter().zip(&tuned) {
        announce(lab, line, "tuned", tuned);
    }
    let scores: Vec<Scores> = lab.part("importance", |lab| {
        lines.iter().zip(&tuned).map(|(line, tuned)| line.scores(lab, &tuned.prompt)).collect()
    })?;

    let mut token_level = prune_tokens(lab, lines, &tuned, &scores)?;
    let mut tokens = Vec::with_capacity(lines.len());
    for (i, line) in lines.iter().enumerate() {
        let ratios = &line.task.file.pruning.token_ratios;
        tokens.push(token_level.winner(i, "token pruning", "token", ratios, records));
    }
    let piece_scores: Vec<Scores> = lab.part("importance of pieces", |lab| {
        lines.iter().zip(&tokens).map(|(line, winner)| line.scores(lab, &winner.pruned)).collect()
    })?;

    let mut piece_level = prune_pieces(lab, lines, &tokens, &piece_scores)?;
    let mut known = Vec::with_capacity(lines.len());
    let parts = initial.into_iter().zip(tuned).zip(scores).zip(tokens).zip(piece_scores);
    for (i, ((((initial, tuned), scores), tokens), piece_scores)) in parts.enumerate() {
        let file = &lines[i].task.file;
        let ratios = &file.pruning.piece_ratios;
        let pieces = piece_level.winner(i, "piece pruning", "piece", ratios, records);
        announce(lab, &lines[i], "xprompt", &pieces.retrained);
        known.push(Known {
            initial,
            tuned,
            scores,
            continued: token_level.only(i, "continued"),
            tokens,
            piece_scores: piece_scores.absolute,
            pieces,
            restarts: (file.controls.restarts > 0).then(|| stage_one.best(i, "restarts")),
            piece_only: file
                .controls
                .piece_only
                .then(|| token_level.winner(i, "piece only", "piece_only", ratios, records)),
        });
    }
    Ok(known)
}

/// Tunes each line's initial prompt, which is returned as well, and those of its restarts.
fn tune(
    lab: &mut Lab<'_>,
    lines: &[Line<'_>],
    records: &mut [Record],
) -> Result<(Vec<Prompt>, Raced), RunError> {
    let mut initial = Vec::with_capacity(lines.len());
    let mut groups = Groups::default();
    for (i, line) in lines.iter().enumerate() {
        let start = |stream| line.start(lab, stream);
        let (prompt, origin) = start(Stream::Initial)?;
        groups.add(i, line.tuning("tuning", vec![candidate("tuned", &prompt)]));
        let restarts = (0..line.task.file.controls.restarts)
            .map(|number| {
                let (prompt, _) = start(Stream::Restart(number as u64))?;
                Ok(candidate(&format!("restart {}", number + 1), &prompt))
            })
            .collect::<Result<Vec<_>, RunError>>()?;
        if !restarts.is_empty() {
            groups.add(i, line.tuning("restarts", restarts));
        }
        initial.push(prompt);
        records[i].origin = origin;
    }
    Ok((initial, groups.race(lab, "tuning")?))
}

/// Retrains each tuned prompt with a share of its tokens pruned, without a mask, and with a share of all pieces pruned.
fn prune_tokens(
    lab: &mut Lab<'_>,
    lines: &[Line<'_>],
    tuned: &[Finished],
    scores: &[Scores],
) -> Result<Raced, RunError> {
    let mut groups = Groups::default();
    for (i, line) in lines.iter().enumerate() {
        let (tuned, scores, file) = (&tuned[i].prompt, &scores[i].absolute, &line.task.file);
        let by_token = |ratio| tuned.masked(&keep_top_tokens(tuned, &scores.tokens, ratio));
        groups.add(i, line.trials("token pruning", ratios(&file.pruning.token_ratios, by_token)));
        groups.add(i, line.retraining("continued", vec![candidate("continued", tuned)]));
        if file.controls.piece_only {
            let by_piece = |ratio| tuned.masked(&keep_top_pieces(tuned, &scores.pieces, ratio));
            groups.add(i, line.trials("piece only", ratios(&file.pruning.piece_ratios, by_piece)));
        }
    }
    groups.race(lab, "token pruning")
}

/// Retrains what won with a share of the pieces of its tokens pruned as well.
fn prune_pieces(
    lab: &mut Lab<'_>,
    lines: &[Line<'_>],
    tokens: &[Winner],
    scores: &[Scores],
) -> Result<Raced, RunError> {
    let mut groups = Groups::default();
    for (i, line) in lines.iter().enumerate() {
        let (pruned, scores) = (&tokens[i].pruned, &scores[i].absolute);
        let by_piece = |ratio| pruned.masked(&keep_top_pieces(pruned, &scores.pieces, ratio));
        groups.add(i, line.trials("piece pruning", ratios(&line.task.file.pruning.piece_ratios, by_piece)));
    }
    groups.race(lab, "piece pruning")
}

fn ratios(ratios: &[f64], pruned: impl Fn(f64) -> Prompt) -> Vec<Candidate> {
    let name = |ratio: f64| format!("{:.0} %", 100.0 * ratio);
    ratios.iter().map(|&ratio| Candidate { name: name(ratio), prompt: pruned(ratio) }).collect()
}

pub(super) fn announce(lab: &Lab<'_>, line: &Line<'_>, what: &str, finished: &Finished) {
    let prompt = &finished.prompt;
    lab.progress.line(&format!(
        "{:<22} {what}: {} {:.1} % on the choosing part of dev at step {} of {}; {} of {} tokens, {} of {} pieces",
        format!("{} seed {}", line.task.name, line.seed),
        line.task.metrics[0].name(),
        100.0 * finished.metric,
        finished.training.best_step,
        finished.training.steps,
        prompt.kept_token_count(),
        prompt.tokens(),
        prompt.kept_piece_count(),
        prompt.piece_mask().len(),
    ));
}

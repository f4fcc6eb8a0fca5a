//! Controls that need the XPrompt's mask or ratios: raced together when it is known.

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use xprompt::prompt::{Prompt, keep_top_pieces, keep_top_tokens};

use super::{ArmPrompt, Groups, Known, candidate, trained};
use crate::error::RunError;
use crate::importance::Importance;
use crate::lab::Lab;
use crate::line::{Line, Stream};
use crate::task_file::Initialization;

/// How a control scores what to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Score {
    Random,
    Reversed,
    Signed,
    LeaveOneOut,
}

/// The masks of a line's controls.
#[derive(Debug, Serialize, Deserialize)]
struct Masks {
    /// By control: the tuned values under its mask.
    scored: Vec<Prompt>,
    /// The values retrained after token pruning under the mask that their own scores give.
    not_rewound: Option<Prompt>,
}

/// Retrains the controls that each task asks for.
pub(super) fn run(
    lab: &mut Lab<'_>,
    lines: &[Line<'_>],
    known: &[Known],
) -> Result<Vec<Vec<ArmPrompt>>, RunError> {
    let masks: Vec<Masks> = lab.part("masks of controls", |lab| {
        lines.iter().zip(known).map(|(line, known)| masks(lab, line, known)).collect()
    })?;
    let mut groups = Groups::default();
    let mut wanted: Vec<Vec<(&'static str, usize)>> = Vec::new();
    for (i, ((line, known), masks)) in lines.iter().zip(known).zip(&masks).enumerate() {
        let controls = &line.task.file.controls;
        let tuned_steps = known.tuned.training.steps;
        let mut arms = Vec::new();
        for ((name, _), prompt) in scored(line).into_iter().zip(&masks.scored) {
            groups.add(i, line.retraining(name, vec![candidate(name, prompt)]));
            arms.push((name, tuned_steps));
        }
        if let Some(prompt) = &masks.not_rewound {
            groups.add(i, line.retraining("not_rewound", vec![candidate("not_rewound", prompt)]));
            arms.push(("not_rewound", tuned_steps + known.tokens.retrained.training.steps));
        }
        let mut from_the_start = Vec::new();
        if controls.same_length {
            let tokens = known.pieces.pruned.kept_token_count();
            // what is as short as the XPrompt has no room for the rows of another prompt
            let how = match &line.task.file.tuning.initialization {
                Initialization::Prompt(_) => &Initialization::SampledVocabulary,
                how => how,
            };
            from_the_start.push(("same_length", line.initial(lab, how, tokens, Stream::SameLength)?.0));
        }
        if controls.fresh_start {
            from_the_start.push(("fresh_start", known.initial.masked(known.pieces.pruned.piece_mask())));
        }
        for (name, prompt) in from_the_start {
            groups.add(i, line.tuning(name, vec![candidate(name, &prompt)]));
            arms.push((name, 0));
        }
        wanted.push(arms);
    }
    let mut raced = groups.race(lab, "controls")?;
    let arms = wanted.into_iter().enumerate().map(|(i, arms)| {
        arms.into_iter().map(|(name, before)| trained(name, &raced.only(i, name), before)).collect()
    });
    Ok(arms.collect())
}

/// The controls of a line that differ in their scores, in the order of a table.
fn scored(line: &Line<'_>) -> Vec<(&'static str, Score)> {
    let controls = &line.task.file.controls;
    [
        (controls.random_mask, "random_mask", Score::Random),
        (controls.reversed_mask, "reversed_mask", Score::Reversed),
        (controls.signed_score, "signed_score", Score::Signed),
        (controls.leave_one_out, "leave_one_out", Score::LeaveOneOut),
    ]
    .into_iter()
    .filter_map(|(wanted, name, score)| wanted.then_some((name, score)))
    .collect()
}

fn masks(lab: &mut Lab<'_>, line: &Line<'_>, known: &Known) -> Result<Masks, RunError> {
    let scored = scored(line)
        .into_iter()
        .map(|(_, score)| {
            let tokens = token_scores(lab, line, known, score)?;
            let tuned = &known.tuned.prompt;
            let pruned = tuned.masked(&keep_top_tokens(tuned, &tokens, known.tokens.ratio));
            let pieces = piece_scores(lab, line, &pruned, score)?;
            Ok(pruned.masked(&keep_top_pieces(&pruned, &pieces, known.pieces.ratio)))
        })
        .collect::<Result<_, RunError>>()?;
    let not_rewound = if line.task.file.controls.not_rewound {
        let kept = &known.tokens.retrained.prompt;
        let scores = line.scores(lab, kept)?.absolute;
        Some(kept.masked(&keep_top_pieces(kept, &scores.pieces, known.pieces.ratio)))
    } else {
        None
    };
    Ok(Masks { scored, not_rewound })
}

fn token_scores(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    known: &Known,
    score: Score,
) -> Result<Vec<f32>, RunError> {
    Ok(match score {
        Score::Random => random(line, &known.tuned.prompt).tokens,
        Score::Reversed => known.scores.absolute.reversed().tokens,
        Score::Signed => known.scores.signed.tokens.clone(),
        Score::LeaveOneOut => line.tokens_left_out(lab, &known.tuned.prompt)?,
    })
}

fn piece_scores(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    pruned: &Prompt,
    score: Score,
) -> Result<Vec<f32>, RunError> {
    Ok(match score {
        Score::Random => random(line, pruned).pieces,
        Score::Reversed => line.scores(lab, pruned)?.absolute.reversed().pieces,
        Score::Signed => line.scores(lab, pruned)?.signed.pieces,
        Score::LeaveOneOut => line.pieces_left_out(lab, pruned)?,
    })
}

fn random(line: &Line<'_>, prompt: &Prompt) -> Importance {
    let mut rng = line.rng(Stream::Mask);
    let mut draw = |count: usize| (0..count).map(|_| rng.random::<f32>()).collect();
    Importance { tokens: draw(prompt.tokens()), pieces: draw(prompt.piece_mask().len()) }
}

//! Figure 2 of the paper: tokens of the tuned prompt masked without retraining, those of lowest importance against as
//! many at random and those of highest, for each tenth of the tokens.

use rand::seq::index;
use xprompt::prompt::{Prompt, keep_top_tokens};

use super::Known;
use crate::error::RunError;
use crate::evaluate::Job;
use crate::lab::Lab;
use crate::line::{Line, Stream};
use crate::summary::Masking;

/// Draws of random tokens for each number of masked ones.
const DRAWS: usize = 3;

/// Measures the masks of each line whose task asks for it, on its largest part that nothing was chosen by.
pub(super) fn run(
    lab: &mut Lab<'_>,
    lines: &[Line<'_>],
    known: &[Known],
) -> Result<Vec<Vec<Masking>>, RunError> {
    lab.part("masking", |lab| {
        lines
            .iter()
            .zip(known)
            .map(|(line, known)| match line.task.file.controls.masking {
                true => measure(lab, line, known),
                false => Ok(Vec::new()),
            })
            .collect()
    })
}

fn measure(lab: &mut Lab<'_>, line: &Line<'_>, known: &Known) -> Result<Vec<Masking>, RunError> {
    let (tuned, task) = (&known.tuned.prompt, line.task);
    let tokens = tuned.tokens();
    let importance = &known.scores.absolute;
    let mut rng = line.rng(Stream::Mask);
    let mut prompts: Vec<Prompt> = Vec::new();
    let mut masked: Vec<usize> = (0..10).map(|tenth| tokens * tenth / 10).collect();
    masked.dedup();
    for &count in &masked {
        let ratio = count as f64 / tokens as f64;
        for scores in [&importance.tokens, &importance.reversed().tokens] {
            prompts.push(tuned.masked(&keep_top_tokens(tuned, scores, ratio)));
        }
        for _ in 0..DRAWS {
            let gone = index::sample(&mut rng, tokens, count);
            let kept =
                (0..tokens * tuned.pieces()).map(|i| !gone.iter().any(|token| token == i / tuned.pieces()));
            prompts.push(tuned.masked(&kept.collect::<Vec<_>>()));
        }
    }
    let examples = [&task.test, &task.report, &task.choose].into_iter().find(|set| !set.is_empty());
    let examples = examples.map_or(&[][..], Vec::as_slice);
    let jobs: Vec<Job<'_>> =
        prompts.iter().map(|prompt| Job { rows: prompt.rows(), answers: &task.answers, examples }).collect();
    let predictions = lab.evaluator.predictions(&jobs)?;
    let metric = |predictions| task.judge(task.metrics[0], predictions, examples).value();
    let values: Vec<f64> = predictions.iter().map(|predictions| metric(predictions)).collect();
    let each = masked.into_iter().zip(values.chunks(2 + DRAWS));
    Ok(each
        .map(|(masked, values)| Masking {
            masked,
            lowest: values[0],
            highest: values[1],
            random: values[2..].to_vec(),
        })
        .collect())
}

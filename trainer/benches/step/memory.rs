//! What the sessions of one process hold on a card together: scoring, generation and tuning.

use serde_json::{Value, json};
use xprompt::engine::{Generator, Scorer, Source};
use xprompt::runtime::Model;
use xprompt_trainer::plan::Plan;
use xprompt_trainer::tuner::{Tuned, Tuner};

use crate::random::{self, Shape};
use crate::{Arguments, Batch, What, trie, used_mib};

/// Runs of each: on a GPU the second is captured and the third replays it.
const RUNS: usize = 3;

/// Loads and runs one after the other, and prints how much more than before is taken after each.
pub(super) fn measure(
    arguments: &Arguments,
    shape: Shape,
    size: usize,
    models: &[Model],
    before: Option<usize>,
) -> anyhow::Result<()> {
    let model = &models[0];
    let rise = || {
        let used = used_mib(model.device());
        before.zip(used).map(|(before, used)| used.saturating_sub(before))
    };
    let prompt = random::normals(arguments.prompt * model.config().d_model);
    let text: Vec<u32> = (0..arguments.text as u32).map(|i| 100 + i * 37 % 30_000).collect();
    let batch = Batch { arguments, what: What::TuneLabels, size, prompt: &prompt, text: &text };
    let source = Source { prompt: &prompt, text: &text };
    let mut line = json!({
        "bench": "memory", "by": "xprompt", "shape": shape.name(), "batch": size, "status": "ok",
        "device": model.device().to_string(), "precision": model.precision().to_string(),
        "shared": model.shares_weights(), "weights_mib": model.weight_bytes() >> 20,
        "started_mib": rise(),
    });
    let mut put = |key: &str, value: Value| line[key] = value;
    let done = (|| -> anyhow::Result<()> {
        let trie = trie(1)?;
        let mut scorer = Scorer::new(model)?;
        let mut score = || -> anyhow::Result<Vec<Vec<f32>>> {
            let mut all = (0..RUNS).map(|_| scorer.score(&vec![(source, &trie); size]));
            all.try_fold(Vec::new(), |_, scores| Ok(scores?))
        };
        let first = score()?;
        put("scoring_mib", json!(rise()));
        let mut generator = Generator::new(model)?;
        generator.generate(&vec![source; size], &vec![arguments.new_tokens; size])?;
        put("generation_mib", json!(rise()));
        let (answers, target) = batch.task()?;
        let plan = Plan::of(&models[..1], Some(arguments.memory << 20))?;
        let mut tuner = Tuner::new(&models[..1], plan);
        let examples = vec![Tuned { source, target: &target, answers: &answers }; size];
        let mut contributions = Vec::new();
        for _ in 0..RUNS {
            contributions = tuner.contributions(&examples)?;
        }
        anyhow::ensure!(contributions.iter().all(|done| done.loss.is_finite()), "a loss is not finite");
        put("tuning_mib", json!(rise()));
        for _ in 0..RUNS {
            tuner.losses(&examples)?;
        }
        put("losses_mib", json!(rise()));
        // what is shared is still what it was, up to the order in which a card sums
        let again = score()?;
        let pairs = again.iter().flatten().zip(first.iter().flatten());
        anyhow::ensure!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-2), "the scores have changed");
        put("scores", json!(first[0]));
        put("loss", json!(contributions[0].loss));
        Ok(())
    })();
    if let Err(error) = done {
        line["status"] = json!("failed");
        line["reason"] = json!(format!("{error:#}"));
    }
    println!("{line}");
    Ok(())
}

//! Summaries as a run would write them, made up: every number comes from a seeded generator.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use xprompt::prompt::{DataSource, Fingerprint, Label, OutputSpec, TaskSpec};
use xprompt_trainer::summary::{
    Arm, ArmOverSeeds, End, Estimate, FORMAT, Masking, OverSeeds, Point, SeedSummary, SplitMetrics,
    SplitOverSeeds, Summary, Timing, Training, Trial,
};

/// Arms with their mean metric on test and the shares of tokens and of their pieces that they keep.
pub(crate) const ARMS: [(&str, f64, f64, f64); 16] = [
    ("initial", 0.312, 1.0, 1.0),
    ("tuned", 0.806, 1.0, 1.0),
    ("token_pruned", 0.741, 0.4, 1.0),
    ("piece_pruned", 0.702, 0.4, 0.5),
    ("token_only", 0.829, 0.4, 1.0),
    ("xprompt", 0.834, 0.4, 0.5),
    ("continued", 0.829, 1.0, 1.0),
    ("random_mask", 0.818, 0.4, 0.5),
    ("reversed_mask", 0.779, 0.4, 0.5),
    ("same_length", 0.801, 0.4, 1.0),
    ("restarts", 0.815, 1.0, 1.0),
    ("piece_only", 0.822, 1.0, 0.5),
    ("not_rewound", 0.831, 0.4, 0.5),
    ("fresh_start", 0.795, 0.4, 0.5),
    ("signed_score", 0.824, 0.4, 0.5),
    ("leave_one_out", 0.835, 0.4, 0.5),
];

/// What kind of run it was.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) seeds: u64,
    pub(crate) arms: Vec<&'static str>,
    pub(crate) splits: Vec<&'static str>,
    pub(crate) metrics: Vec<&'static str>,
    pub(crate) tokens: usize,
    pub(crate) pieces: usize,
    pub(crate) evaluations: usize,
    pub(crate) end: End,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            name: "question-types",
            seeds: 5,
            arms: ARMS.iter().map(|arm| arm.0).collect(),
            splits: vec!["choose", "report", "test"],
            metrics: vec!["accuracy", "macro_f1"],
            tokens: 20,
            pieces: 16,
            evaluations: 40,
            end: End::Converged,
        }
    }
}

const D_MODEL: usize = 256;

impl Sample {
    /// One seed, stage arms and the continuation only.
    pub(crate) fn small() -> Self {
        let arms = vec!["tuned", "xprompt", "continued"];
        Self { name: "film-reviews", seeds: 1, arms, metrics: vec!["accuracy"], ..Self::default() }
    }

    /// A task whose answers are texts, of two seeds.
    pub(crate) fn free_text() -> Summary {
        let sample =
            Self { name: "headlines", seeds: 2, metrics: vec!["exact_match", "rouge_l"], ..Self::default() };
        let mut summary = sample.summary();
        summary.task.output = OutputSpec::Text { max_new_tokens: 24 };
        summary.majority.clear();
        summary
    }

    pub(crate) fn summary(&self) -> Summary {
        let seeds: Vec<SeedSummary> = (0..self.seeds).map(|seed| self.seed(42 + seed)).collect();
        let table = self.arms.iter().map(|name| self.over_seeds(name, &seeds)).collect();
        let fingerprint = |name: &str, fingerprint: &str| Fingerprint {
            name: name.into(),
            fingerprint: fingerprint.into(),
        };
        let label = |name: &str, words: &str| Label { name: name.into(), words: words.into() };
        let source = |split: &str, rows| DataSource {
            split: split.into(),
            rows,
            fingerprint: format!("{:016x}", rows * 0x9e37_79b9_7f4a),
        };
        let times =
            [("tuning", 412.4), ("token pruning", 655.1), ("piece pruning", 590.7), ("controls", 1210.2)];
        Summary {
            command: "xprompt-trainer run task.toml --out OUT".into(),
            format: FORMAT,
            producer: "xprompt-trainer 0.1.0".into(),
            name: self.name.into(),
            task: TaskSpec {
                template: "question: {text} type:".into(),
                output: OutputSpec::Labels {
                    labels: vec![
                        label("person", "human"),
                        label("place", "location"),
                        label("number", "number"),
                    ],
                },
                max_input_tokens: 128,
                keep: Vec::new(),
                content_free: Vec::new(),
            },
            settings: json!({
                "data": {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl", "label": "label", "rows": null},
                "tuning": {"prompt_tokens": self.tokens, "learning_rate": 0.3, "batch_size": 16, "patience": 10},
                "pruning": {"pieces": self.pieces, "token_ratios": [0.1, 0.5, 0.9], "successive_halving": true},
            }),
            base_model: fingerprint("t5-nano", "4f1c09d27be8a365"),
            tokenizer: fingerprint("t5-nano", "d1b2f3a495867708"),
            device: "CPU, 2 threads, ONNX Runtime 1.24".into(),
            data: vec![
                source("train", 4952),
                source("choose", 250),
                source("report", 250),
                source("test", 500),
            ],
            majority: json!({"choose": 0.224, "report": 0.236, "test": 0.276}).as_object().unwrap().clone(),
            metrics: self.metrics.iter().map(|&name| name.into()).collect(),
            seeds,
            table,
            times: times.map(|(part, seconds)| Timing { part: part.into(), seconds }).to_vec(),
            seconds: 2905.3,
        }
    }

    fn seed(&self, seed: u64) -> SeedSummary {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let luck = rng.random_range(-0.015..0.015);
        let token_importance: Vec<f32> =
            (0..self.tokens).map(|_| 0.08 * rng.random::<f32>().powi(4) + 0.001).collect();
        let mut order: Vec<usize> = (0..self.tokens).collect();
        order.sort_by(|a, b| token_importance[*b].total_cmp(&token_importance[*a]));
        let left = ((self.tokens as f64 * 0.4) as usize).max(1);
        let mut token_mask = vec![false; self.tokens];
        order[..left].iter().for_each(|&token| token_mask[token] = true);
        let mut piece_importance = vec![0.0; self.tokens * self.pieces];
        let mut piece_mask = vec![false; self.tokens * self.pieces];
        for token in (0..self.tokens).filter(|&token| token_mask[token]) {
            for piece in token * self.pieces..(token + 1) * self.pieces {
                piece_importance[piece] = 0.01 * rng.random::<f32>().powi(2);
                piece_mask[piece] = (piece * 7 + token) % 16 < 8;
            }
            piece_mask[token * self.pieces] = true;
        }
        let arms = self.arms.iter().map(|name| self.arm(name, luck, &mut rng)).collect();
        let mut trials = self.trials("token", luck, &mut rng);
        trials.extend(self.trials("piece", luck, &mut rng));
        if self.arms.contains(&"piece_only") {
            trials.extend(self.trials("piece_only", luck, &mut rng));
        }
        let masking = (0..self.tokens).step_by((self.tokens / 10).max(1)).map(|masked| {
            let share = masked as f64 / self.tokens as f64;
            let mut at = |loss: f64| 0.806 + luck - loss * share.powi(2) + rng.random_range(-0.004..0.004);
            let lowest = at(0.12);
            Masking {
                split: "test".into(),
                masked,
                lowest,
                random: (0..5).map(|_| at(0.35)).collect(),
                highest: at(0.55),
            }
        });
        SeedSummary {
            seed,
            origin: format!("{} rows of sampled vocabulary", self.tokens),
            arms,
            trials,
            masking: masking.collect(),
            token_importance,
            piece_importance,
            token_mask,
            piece_mask,
        }
    }

    fn arm(&self, name: &str, luck: f64, rng: &mut ChaCha8Rng) -> Arm {
        let (value, tokens, pieces) =
            ARMS.iter().find(|arm| arm.0 == name).map_or((0.8, 1.0, 1.0), |arm| (arm.1, arm.2, arm.3));
        let tokens = ((self.tokens as f64 * tokens) as usize).max(1);
        let pieces = ((tokens * self.pieces) as f64 * pieces) as usize;
        let value = value + luck + rng.random_range(-0.01..0.01);
        let trained = !matches!(name, "initial" | "token_pruned" | "piece_pruned");
        let own = 50 * self.evaluations;
        let before = if matches!(name, "initial" | "tuned" | "same_length" | "restarts") { 0 } else { own };
        let metrics = self.splits.iter().map(|split| SplitMetrics {
            split: (*split).into(),
            values: self
                .metrics
                .iter()
                .enumerate()
                .map(|(i, _)| estimate(shift(split) + value - 0.02 * i as f64))
                .collect(),
        });
        let start = if before == 0 { 0.3 } else { 0.74 };
        Arm {
            name: name.into(),
            tokens,
            pieces,
            parameters: pieces * (D_MODEL / self.pieces),
            bytes: pieces * (D_MODEL / self.pieces) * 4 + (self.tokens * (self.pieces + 1)).div_ceil(8),
            steps: before + if trained { own } else { 0 },
            training: trained.then(|| training(self.evaluations, self.end, start, value, rng)),
            metrics: metrics.collect(),
        }
    }

    fn trials(&self, level: &str, luck: f64, rng: &mut ChaCha8Rng) -> Vec<Trial> {
        let mut trials: Vec<Trial> = (1..10)
            .map(|tenth| {
                let ratio = f64::from(tenth) / 10.0;
                let tokens = if level == "token" {
                    (self.tokens as f64 * (1.0 - ratio)) as usize
                } else {
                    self.tokens
                };
                let after = 0.84 + luck - 0.08 * (ratio - 0.5).powi(2) + rng.random_range(-0.01..0.01);
                let end = if tenth % 3 == 0 { self.end } else { End::Dropped };
                Trial {
                    level: level.into(),
                    ratio,
                    tokens: tokens.max(1),
                    pieces: tokens.max(1) * self.pieces,
                    choose_pruned: 0.81 - 0.3 * ratio.powi(2),
                    choose: after,
                    report: self
                        .splits
                        .contains(&"report")
                        .then(|| after - 0.012 + rng.random_range(-0.01..0.01)),
                    chosen: false,
                    training: training(if end == End::Dropped { 4 } else { 12 }, end, 0.75, after, rng),
                }
            })
            .collect();
        let best = (0..trials.len()).max_by(|&a, &b| trials[a].choose.total_cmp(&trials[b].choose)).unwrap();
        trials[best].chosen = true;
        trials
    }

    fn over_seeds(&self, name: &str, seeds: &[SeedSummary]) -> ArmOverSeeds {
        let of = |name: &str| -> Vec<&Arm> {
            seeds.iter().filter_map(|seed| seed.arms.iter().find(|arm| arm.name == name)).collect()
        };
        let arms = of(name);
        let mean =
            |value: &dyn Fn(&Arm) -> f64| arms.iter().map(|arm| value(arm)).sum::<f64>() / arms.len() as f64;
        let splits = self.splits.iter().enumerate().map(|(s, split)| {
            let value = |arm: &Arm, i: usize| arm.metrics[s].values[i].value;
            let over = |other: &str| {
                let others = of(other);
                (other != name && !others.is_empty()).then(|| {
                    let pairs = arms.iter().zip(others).map(|(arm, other)| value(arm, 0) - value(other, 0));
                    let difference = pairs.sum::<f64>() / arms.len() as f64;
                    Estimate { value: difference, low: difference - 0.013, high: difference + 0.013 }
                })
            };
            SplitOverSeeds {
                split: (*split).into(),
                values: (0..self.metrics.len())
                    .map(|i| statistics(&arms.iter().map(|arm| value(arm, i)).collect::<Vec<_>>()))
                    .collect(),
                over_tuned: over("tuned"),
                over_continued: over("continued"),
                over_random: over("random_mask"),
            }
        });
        ArmOverSeeds {
            name: name.into(),
            tokens: mean(&|arm| arm.tokens as f64),
            pieces: mean(&|arm| arm.pieces as f64),
            parameters: mean(&|arm| arm.parameters as f64),
            bytes: mean(&|arm| arm.bytes as f64),
            steps: mean(&|arm| arm.steps as f64),
            splits: splits.collect(),
        }
    }
}

/// Sets XPrompt's differences from `tuned` and `continued`, the ends of their intervals, on the first metric everywhere.
pub(crate) fn set_differences(
    summary: &mut Summary,
    over_tuned: Option<(f64, f64)>,
    over_continued: Option<(f64, f64)>,
) {
    let estimate = |(low, high)| Estimate { value: f64::midpoint(low, high), low, high };
    for arm in summary.table.iter_mut().filter(|arm| arm.name == "xprompt") {
        for split in &mut arm.splits {
            split.over_tuned = over_tuned.map(estimate);
            split.over_continued = over_continued.map(estimate);
        }
    }
}

/// Sets XPrompt's difference from `random_mask`, the ends of its interval.
pub(crate) fn set_over_random(summary: &mut Summary, (low, high): (f64, f64)) {
    for arm in summary.table.iter_mut().filter(|arm| arm.name == "xprompt") {
        for split in &mut arm.splits {
            split.over_random = Some(Estimate { value: f64::midpoint(low, high), low, high });
        }
    }
}

fn shift(split: &str) -> f64 {
    match split {
        "choose" => 0.015,
        "report" => 0.005,
        _ => 0.0,
    }
}

fn estimate(value: f64) -> Estimate {
    Estimate { value, low: value - 0.03, high: value + 0.03 }
}

fn statistics(values: &[f64]) -> OverSeeds {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let deviation = (values.len() > 1).then_some(deviation);
    OverSeeds { mean, deviation, low: mean - 0.024, high: mean + 0.024 }
}

fn training(evaluations: usize, end: End, from: f64, to: f64, rng: &mut ChaCha8Rng) -> Training {
    let curve: Vec<Point> = (0..=evaluations)
        .map(|i| {
            let left = (-4.0 * i as f64 / evaluations as f64).exp();
            let metric = to + 0.015 - (to - from) * left + rng.random_range(-0.008..0.008);
            let loss = (i > 0).then(|| (0.45 + 1.3 * left + rng.random_range(-0.02..0.02)) as f32);
            Point { step: 50 * i, loss, metric }
        })
        .collect();
    let best = curve.iter().rev().max_by(|a, b| a.metric.total_cmp(&b.metric)).unwrap();
    Training { steps: 50 * evaluations, best_step: best.step, end, curve }
}

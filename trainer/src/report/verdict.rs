//! What the run shows, in plain words, computed from its intervals.

use maud::{Markup, html};

use super::view::{View, mean, values};
use super::{label, number};
use crate::summary::{End, Estimate, OverSeeds};

/// What the interval of a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It lies above zero.
    Better,
    /// It lies below zero.
    Worse,
    /// It contains zero.
    Undecided,
}

/// XPrompt against another arm.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    /// The other arm, in words.
    against: &'static str,
    /// The difference.
    pub(super) difference: Estimate,
    /// The rest of the sentence: where, and the numbers.
    numbers: String,
}

/// The whole verdict.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// XPrompt against plain tuning.
    pub(super) over_tuned: Option<Comparison>,
    /// XPrompt against the unmasked continuation.
    pub(super) over_continued: Option<Comparison>,
    /// What follows from the comparisons, what is saved, what is known about the run.
    findings: Vec<String>,
    /// What a reader has to beware of.
    cautions: Vec<String>,
}

/// The mean over seeds of the chosen ratios' metric where they were chosen and where they were not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SelectionBias {
    /// Where they were chosen.
    pub(super) choose: f64,
    /// On the part of dev held back.
    pub(super) report: f64,
    /// Metric where chosen less that on the part held back, over all ratios tried: how far the parts differ anyway.
    pub(super) of_all: f64,
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn of(difference: &Estimate) -> Self {
        match () {
            () if difference.low > 0.0 => Self::Better,
            () if difference.high < 0.0 => Self::Worse,
            () => Self::Undecided,
        }
    }

    /// In one or a few words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Undecided => "no difference that these data show",
        }
    }
}

// === impl Comparison ===

impl Comparison {
    fn new(
        view: &View<'_>,
        (xprompt, other): (OverSeeds, OverSeeds),
        against: &'static str,
        difference: Estimate,
    ) -> Self {
        let unit = label::unit(view.metric());
        let numbers = format!(
            "{}: {} {}{unit} against {}{unit}, a difference of {} points (95 % interval {}).",
            label::on_split(view.split),
            label::metric_in_sentence(view.metric()),
            number::percent(xprompt.mean),
            number::percent(other.mean),
            number::points(difference.value),
            number::interval_of_points(difference.low, difference.high),
        );
        Self { against, difference, numbers }
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome::of(&self.difference)
    }

    fn verb(&self) -> &'static str {
        if self.outcome() == Outcome::Undecided { "makes" } else { "is" }
    }

    fn sentence(&self) -> String {
        let (against, verb, outcome) = (self.against, self.verb(), self.outcome().words());
        format!("Against {against}, XPrompt {verb} {outcome} {}", self.numbers)
    }

    fn render(&self) -> Markup {
        html! {
            "Against " (self.against) ", XPrompt " (self.verb()) " "
            strong { (self.outcome().words()) } " " (self.numbers)
        }
    }
}

// === impl Verdict ===

impl Verdict {
    pub(super) fn of(view: &View<'_>) -> Self {
        let compare = |other: &str, against, difference: fn(&_) -> Option<Estimate>| {
            let (xprompt, other) = (view.arm("xprompt")?, view.arm(other)?);
            let both = (view.judged(xprompt)?, view.judged(other)?);
            Some(Comparison::new(view, both, against, difference(values(xprompt, view.split)?)?))
        };
        let over_tuned = compare("tuned", "plain prompt tuning", |split: &crate::summary::SplitOverSeeds| {
            split.over_tuned
        });
        let over_continued =
            compare("continued", "tuning on for the same steps without a mask", |split| split.over_continued);
        let outcomes = (over_tuned.as_ref(), over_continued.as_ref());
        let together = conclusion(outcomes.0.map(Comparison::outcome), outcomes.1.map(Comparison::outcome));
        let mut verdict = Self { over_tuned, over_continued, findings: Vec::new(), cautions: Vec::new() };
        verdict.findings.extend(together.map(str::to_owned));
        verdict.findings.extend(savings(view));
        verdict.about_evidence(view);
        verdict.about_convergence(view);
        verdict.about_selection(view);
        verdict.about_majority(view);
        verdict
    }

    /// The verdict as sentences.
    pub(super) fn sentences(&self) -> Vec<String> {
        let comparisons = self.over_tuned.iter().chain(&self.over_continued).map(Comparison::sentence);
        comparisons.chain(self.findings.iter().cloned()).chain(self.cautions.iter().cloned()).collect()
    }

    pub(super) fn render(&self) -> Markup {
        html! {
            div.verdict {
                @for comparison in self.over_tuned.iter().chain(&self.over_continued) {
                    p.lead { (comparison.render()) }
                }
                @if !self.findings.is_empty() {
                    ul { @for finding in &self.findings { li { (finding) } } }
                }
                @if !self.cautions.is_empty() {
                    div.cautions role="note" {
                        h2 { "Beware" }
                        ul { @for caution in &self.cautions { li { (caution) } } }
                    }
                }
            }
        }
    }

    fn about_evidence(&mut self, view: &View<'_>) {
        if view.arm("xprompt").is_none() {
            self.cautions.push("The run holds no XPrompt: there is nothing to judge.".into());
            return;
        }
        if view.arm("continued").is_none() {
            self.cautions.push(
                "The unmasked continuation was not run: a gain over plain prompt tuning cannot be told from what \
                 training on gives by itself."
                    .into(),
            );
        }
        if view.split == "choose" {
            self.cautions.push(
                "Nothing was held back: these numbers are from the very examples that choices were made by, and \
                 flatter."
                    .into(),
            );
        }
        if view.summary.seeds.len() == 1 {
            self.cautions.push(
                "One seed: the intervals say how much other examples would change the result, not how much another \
                 seed would."
                    .into(),
            );
        }
    }

    fn about_convergence(&mut self, view: &View<'_>) {
        let ends: Vec<(u64, End)> = view
            .arms("tuned")
            .filter_map(|(seed, arm)| Some((seed.seed, arm.training.as_ref()?.end)))
            .collect();
        let open: Vec<String> =
            ends.iter().filter(|(_, end)| *end != End::Converged).map(|(seed, _)| seed.to_string()).collect();
        if ends.is_empty() {
            self.cautions.push("Whether stage one had converged is not in the summary.".into());
        } else if open.is_empty() {
            self.findings
                .push("Stage one had stopped improving in every seed before anything was pruned.".into());
        } else {
            let (count, seeds) = (open.len(), open.join(", "));
            let which = match ends.len() {
                1 => String::new(),
                all => format!(" in {count} of {all} seeds ({seeds})"),
            };
            self.cautions.push(format!(
                "Stage one had not converged{which}: every later stage may look good merely because it \
                 trains on. Trust only the comparison with the unmasked continuation, or give tuning more steps."
            ));
        }
    }

    fn about_selection(&mut self, view: &View<'_>) {
        let found = ["piece", "token", "piece_only"]
            .into_iter()
            .find_map(|level| Some((level, selection_bias(view, level)?)));
        if let Some((level, bias)) = found {
            let unit = label::unit(view.metric());
            self.findings.push(format!(
                "Selection bias: the chosen ratios ({}) reach {}{unit} where they were chosen and {}{unit} on the part \
                 of dev held back, {} points on average; over all ratios tried the two parts differ by {}.",
                label::level(level).to_lowercase(),
                number::percent(bias.choose),
                number::percent(bias.report),
                number::points(bias.choose - bias.report),
                number::points(bias.of_all),
            ));
        }
    }

    fn about_majority(&mut self, view: &View<'_>) {
        let share = view.summary.majority.get(view.split).and_then(serde_json::Value::as_f64);
        let value = view.arm("xprompt").and_then(|arm| view.judged(arm));
        let (Some(share), Some(value), "accuracy") = (share, value, view.metric()) else {
            return;
        };
        let share_of = number::percent(share);
        if value.low <= share {
            self.cautions.push(format!(
                "Always answering the most frequent label is right in {share_of} %: XPrompt's interval ({} %) does not \
                 lie above that.",
                number::interval(value.low, value.high),
            ));
        } else {
            self.findings
                .push(format!("Always answering the most frequent label would be right in {share_of} %."));
        }
    }
}

/// The chosen ratios of a level where they were chosen and on the part of dev held back; none if nothing was.
pub(super) fn selection_bias(view: &View<'_>, level: &str) -> Option<SelectionBias> {
    let trials =
        || view.summary.seeds.iter().flat_map(|seed| &seed.trials).filter(|trial| trial.level == level);
    let held_back = |chosen: bool| {
        trials()
            .filter(move |trial| trial.chosen || !chosen)
            .filter_map(|trial| Some((trial.choose, trial.report?)))
    };
    Some(SelectionBias {
        choose: mean(held_back(true).map(|(choose, _)| choose))?,
        report: mean(held_back(true).map(|(_, report)| report))?,
        of_all: mean(held_back(false).map(|(choose, report)| choose - report))?,
    })
}

/// What both comparisons say together.
fn conclusion(over_tuned: Option<Outcome>, over_continued: Option<Outcome>) -> Option<&'static str> {
    use Outcome::{Better, Undecided, Worse};
    match (over_tuned?, over_continued?) {
        (Better, Better) => Some("Pruning adds to what training on gives by itself."),
        (Better, Undecided) => Some(
            "The gain over plain prompt tuning is no more than what training on gives by itself, as far as these data \
             show.",
        ),
        (Better, Worse) => Some("Training on without a mask gains more than pruning does."),
        _ => None,
    }
}

/// What the pruned prompt saves.
fn savings(view: &View<'_>) -> Option<String> {
    let (tuned, xprompt) = (view.arm("tuned")?, view.arm("xprompt")?);
    let size = match (view.bytes("tuned"), view.bytes("xprompt")) {
        (Some(before), Some(after)) => {
            format!("; {} instead of {}", number::bytes(after), number::bytes(before))
        }
        _ => String::new(),
    };
    let share = if tuned.parameters > 0.0 { xprompt.parameters / tuned.parameters } else { 1.0 };
    Some(format!(
        "XPrompt keeps {} of {} tokens and {} of {} pieces{}: {} % of the parameters{size}.",
        number::count(xprompt.tokens),
        number::count(tuned.tokens),
        number::count(xprompt.pieces),
        number::count(tuned.pieces),
        if view.summary.seeds.len() > 1 { " on average over seeds" } else { "" },
        number::percent(share),
    ))
}

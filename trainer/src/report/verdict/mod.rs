//! What the run shows, in plain words, computed from its intervals.

mod comparison;

pub(super) use comparison::{Comparison, Outcome};

use maud::{Markup, html};

use super::view::{View, mean};
use super::{label, number};
use crate::summary::End;

/// The whole verdict.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// XPrompt against plain tuning.
    pub(super) over_tuned: Option<Comparison>,
    /// XPrompt against the unmasked continuation.
    pub(super) over_continued: Option<Comparison>,
    /// XPrompt against a random mask of the same size.
    pub(super) over_random: Option<Comparison>,
    /// What follows from the comparisons, what is saved, what is known about the run.
    findings: Vec<String>,
    /// What a reader has to beware of.
    pub(super) cautions: Vec<Caution>,
}

/// Something that a reader has to beware of.
#[derive(Clone, Debug)]
pub(super) struct Caution {
    /// In a few words.
    pub(super) brief: &'static str,
    /// In sentences.
    text: String,
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

// === impl Verdict ===

impl Verdict {
    pub(super) fn of(view: &View<'_>) -> Self {
        let mut verdict = Self {
            over_tuned: Comparison::of(view, "tuned", "plain prompt tuning", |split| split.over_tuned),
            over_continued: Comparison::of(
                view,
                "continued",
                "tuning on for the same steps without a mask",
                |split| split.over_continued,
            ),
            over_random: Comparison::of(view, "random_mask", "a random mask of the same size", |split| {
                split.over_random
            }),
            findings: Vec::new(),
            cautions: Vec::new(),
        };
        verdict.findings.extend(verdict.about_training_on().map(str::to_owned));
        verdict.findings.extend(verdict.about_importance());
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
        comparisons
            .chain(self.findings.iter().cloned())
            .chain(self.cautions.iter().map(|caution| caution.text.clone()))
            .collect()
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
                        ul { @for caution in &self.cautions { li { (caution.text) } } }
                    }
                }
            }
        }
    }

    /// The outcome in a few words.
    pub(super) fn words(&self) -> &'static str {
        use Outcome::{Better, Undecided, Worse};
        let Some(over_tuned) = &self.over_tuned else { return "not judged" };
        match (over_tuned.outcome(), self.over_continued.as_ref().map(Comparison::outcome)) {
            (Worse, _) => "harms",
            (_, Some(Worse)) => "worse than training on",
            (Undecided, _) => "no difference shown",
            (Better, Some(Better)) => "helps",
            (Better, Some(Undecided)) => "no more than training on",
            (Better, None) => "gain unexplained",
        }
    }

    fn caution(&mut self, brief: &'static str, text: impl Into<String>) {
        self.cautions.push(Caution { brief, text: text.into() });
    }

    /// What the comparisons with the tuned and the continued prompt say together.
    fn about_training_on(&self) -> Option<&'static str> {
        use Outcome::{Better, Undecided, Worse};
        match (self.over_tuned.as_ref()?.outcome(), self.over_continued.as_ref()?.outcome()) {
            (Better, Better) => Some("Pruning adds to what training on gives by itself."),
            (Better, Undecided) => Some(
                "The gain over plain prompt tuning is no more than what training on gives by itself, as far as these \
                 data show.",
            ),
            (Better, Worse) => Some("Training on without a mask gains more than pruning does."),
            _ => None,
        }
    }

    /// Whether importance, which chose XPrompt's mask, chooses better than chance.
    fn about_importance(&self) -> Option<String> {
        let comparison = self.over_random.as_ref()?;
        let choice = match comparison.outcome() {
            Outcome::Better => "better than chance on these data",
            Outcome::Worse => "worse than chance on these data",
            Outcome::Undecided => "no better than chance, as far as these data show",
        };
        Some(format!("{} The paper's importance score chooses {choice}.", comparison.sentence()))
    }

    fn about_evidence(&mut self, view: &View<'_>) {
        if view.arm("xprompt").is_none() {
            self.caution("No XPrompt", "The run holds no XPrompt: there is nothing to judge.");
            return;
        }
        if view.arm("continued").is_none() {
            self.caution("No unmasked continuation", 
                "The unmasked continuation was not run: a gain over plain prompt tuning cannot be told from what \
                 training on gives by itself.",
            );
        }
        if view.split == "choose" {
            self.caution("Nothing held back", 
                "Nothing was held back: these numbers are from the very examples that choices were made by, and \
                 flatter.",
            );
        }
        if view.summary.seeds.len() == 1 {
            self.caution("One seed", 
                "One seed: the intervals say how much other examples would change the result, not how much another \
                 seed would.",
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
            self.caution(
                "Convergence of stage one unknown",
                "Whether stage one had converged is not in the summary.",
            );
        } else if open.is_empty() {
            self.findings
                .push("Stage one had stopped improving in every seed before anything was pruned.".into());
        } else {
            let (count, seeds) = (open.len(), open.join(", "));
            let which = match ends.len() {
                1 => String::new(),
                all => format!(" in {count} of {all} seeds ({seeds})"),
            };
            self.caution("Stage one not converged", format!(
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
            self.caution("Not above the most frequent label", format!(
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

/// What the pruned prompt saves.
fn savings(view: &View<'_>) -> Option<String> {
    let (tuned, xprompt) = (view.arm("tuned")?, view.arm("xprompt")?);
    let share = if tuned.parameters > 0.0 { xprompt.parameters / tuned.parameters } else { 1.0 };
    Some(format!(
        "XPrompt keeps {} of {} tokens and {} of {} pieces{}: {} % of the parameters; {} instead of {}.",
        number::count(xprompt.tokens),
        number::count(tuned.tokens),
        number::count(xprompt.pieces),
        number::count(tuned.pieces),
        if view.summary.seeds.len() > 1 { " on average over seeds" } else { "" },
        number::percent(share),
        number::bytes(xprompt.bytes),
        number::bytes(tuned.bytes),
    ))
}

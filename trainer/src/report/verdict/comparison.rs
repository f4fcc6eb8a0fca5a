//! XPrompt against another arm, in a sentence.

use maud::{Markup, html};

use crate::report::view::{View, values};
use crate::report::{label, number};
use crate::summary::{Estimate, SplitOverSeeds};

/// What the interval of a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Outcome {
    /// It lies above zero.
    Better,
    /// It lies below zero.
    Worse,
    /// It contains zero.
    Undecided,
}

/// XPrompt against another arm.
#[derive(Clone, Debug)]
pub(in crate::report) struct Comparison {
    /// The other arm, in words.
    against: &'static str,
    /// The difference.
    pub(in crate::report) difference: Estimate,
    /// The rest of the sentence: where, and the numbers.
    numbers: String,
}

// === impl Outcome ===

impl Outcome {
    pub(in crate::report) fn of(difference: &Estimate) -> Self {
        match () {
            () if difference.low > 0.0 => Self::Better,
            () if difference.high < 0.0 => Self::Worse,
            () => Self::Undecided,
        }
    }

    /// In one or a few words.
    pub(in crate::report) fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Undecided => "no difference that these data show",
        }
    }
}

// === impl Comparison ===

impl Comparison {
    /// XPrompt against the arm `other`, called `against` in the sentence; none if the run does not hold both.
    pub(super) fn of(
        view: &View<'_>,
        other: &str,
        against: &'static str,
        difference: fn(&SplitOverSeeds) -> Option<Estimate>,
    ) -> Option<Self> {
        let (xprompt, other) = (view.arm("xprompt")?, view.arm(other)?);
        let difference = difference(values(xprompt, view.split)?)?;
        let unit = label::unit(view.metric());
        let numbers = format!(
            "{}: {} {}{unit} against {}{unit}, a difference of {} points (95 % interval {}).",
            label::on_split(view.split),
            label::metric_in_sentence(view.metric()),
            number::percent(view.judged(xprompt)?.mean),
            number::percent(view.judged(other)?.mean),
            number::points(difference.value),
            number::interval_of_points(difference.low, difference.high),
        );
        Some(Self { against, difference, numbers })
    }

    pub(in crate::report) fn outcome(&self) -> Outcome {
        Outcome::of(&self.difference)
    }

    pub(super) fn sentence(&self) -> String {
        let (against, verb, outcome) = (self.against, self.verb(), self.outcome().words());
        format!("Against {against}, XPrompt {verb} {outcome} {}", self.numbers)
    }

    pub(super) fn render(&self) -> Markup {
        html! {
            "Against " (self.against) ", XPrompt " (self.verb()) " "
            strong { (self.outcome().words()) } " " (self.numbers)
        }
    }

    fn verb(&self) -> &'static str {
        if self.outcome() == Outcome::Undecided { "makes" } else { "is" }
    }
}

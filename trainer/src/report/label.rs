//! What things are called on the page: arms, splits, metrics. A name that is not known is shown as it is.

/// What an arm of the run is called, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArmLabel<'a> {
    /// A few words.
    pub(crate) title: &'a str,
    /// A sentence.
    pub(crate) explanation: &'a str,
    /// Whether it is a stage of the method; else it is a control.
    pub(crate) stage: bool,
    /// Whether it was trained after its mask was set.
    pub(crate) trained: bool,
}

const fn stage(title: &'static str, explanation: &'static str) -> ArmLabel<'static> {
    ArmLabel { title, explanation, stage: true, trained: true }
}

const fn masked(title: &'static str, explanation: &'static str) -> ArmLabel<'static> {
    ArmLabel { title, explanation, stage: true, trained: false }
}

const fn control(title: &'static str, explanation: &'static str) -> ArmLabel<'static> {
    ArmLabel { title, explanation, stage: false, trained: true }
}

/// The arm's label.
pub(crate) fn arm(name: &str) -> ArmLabel<'_> {
    match name {
        "initial" => masked("Untrained prompt", "Where a seed starts: its initial values, before any step."),
        "tuned" => {
            stage("Prompt tuning", "Plain prompt tuning of all tokens: stage one, and the paper's baseline.")
        }
        "token_pruned" => {
            masked("Tokens pruned", "The chosen token mask on the tuned values, not retrained.")
        }
        "piece_pruned" => masked("Pieces pruned", "The chosen piece mask on top of it, not retrained."),
        "token_only" => stage(
            "Token level only",
            "Tokens pruned, rewound to the tuned values, retrained; all their pieces kept.",
        ),
        // prompt files of earlier versions end their history with `rewound`
        "xprompt" | "rewound" => stage(
            "XPrompt",
            "Tokens and pieces pruned, rewound to the tuned values, retrained: the result of the method.",
        ),
        "continued" => control(
            "Tuned on, no mask",
            "The tuned prompt trained on for the same steps without a mask: what training on gives by itself.",
        ),
        "random_mask" => {
            control("Random mask", "As much masked, but drawn at random; rewound and retrained.")
        }
        "reversed_mask" => {
            control("Reversed mask", "The least important tokens and pieces kept; rewound and retrained.")
        }
        "same_length" => control(
            "Same length, anew",
            "A prompt of as many tokens as XPrompt keeps, tuned from new initial values without a mask.",
        ),
        "restarts" => control(
            "Best of restarts",
            "The best of several tunings from other initial values: what choosing among many gives by itself.",
        ),
        "piece_only" => control(
            "Piece level only",
            "Pieces of all tokens pruned, no token pruned; rewound and retrained.",
        ),
        "not_rewound" => control(
            "Not rewound",
            "The piece level starts from the retrained values of the token level, not from the tuned ones.",
        ),
        "fresh_start" => control(
            "Fresh start",
            "XPrompt's mask on the initial values instead of the tuned ones, retrained.",
        ),
        "signed_score" => control(
            "Signed score",
            "Importance by the signed gradient of the mask in place of its absolute value; rewound and retrained.",
        ),
        "leave_one_out" => control(
            "Leave-one-out score",
            "Importance by the measured change of the loss when a part is left out; rewound and retrained.",
        ),
        _ => ArmLabel { title: name, explanation: "", stage: false, trained: true },
    }
}

/// A split, as the head of a column.
pub(super) fn split(name: &str) -> &str {
    match name {
        "choose" => "Dev (choose)",
        "report" => "Dev (held back)",
        "test" => "Test",
        "train" => "Train",
        _ => name,
    }
}

/// A split, inside a sentence.
pub(crate) fn on_split(name: &str) -> String {
    match name {
        "choose" => "on the part of dev that choices were made by".into(),
        "report" => "on the part of dev held back".into(),
        _ => format!("on {name}"),
    }
}

/// A metric's name.
pub(super) fn metric(name: &str) -> &str {
    match name {
        "accuracy" => "Accuracy",
        "macro_f1" => "Macro F1",
        "f1" => "F1",
        "f1a" => "F1a",
        "mcc" => "MCC",
        "exact_match" | "squad_exact_match" => "Exact match",
        "group_exact_match" => "Exact match of groups",
        "mean_accuracy_macro_f1" => "Mean of accuracy and macro F1",
        "token_f1" => "Token F1",
        "wsc" => "Accuracy of referents",
        "rouge_l" => "ROUGE-L",
        _ => name,
    }
}

/// A metric's name, inside a sentence.
pub(crate) fn metric_in_sentence(name: &str) -> &str {
    match name {
        "accuracy" => "accuracy",
        "macro_f1" => "macro F1",
        "exact_match" | "squad_exact_match" => "exact match",
        "group_exact_match" => "exact match of groups",
        "mean_accuracy_macro_f1" => "mean of accuracy and macro F1",
        "token_f1" => "token F1",
        "wsc" => "accuracy of referents",
        _ => metric(name),
    }
}

/// A metric's name with what its numbers are in.
pub(super) fn metric_with_unit(name: &str) -> String {
    format!("{}{}", metric(name), scale(name))
}

/// The same, with where it was measured: `Accuracy on dev, %`.
pub(crate) fn metric_on(name: &str, place: &str) -> String {
    format!("{} on {place}{}", metric(name), scale(name))
}

/// The unit behind a metric's number in a sentence.
pub(crate) fn unit(name: &str) -> &'static str {
    if is_correlation(name) { "" } else { "\u{a0}%" }
}

fn scale(name: &str) -> &'static str {
    if is_correlation(name) { " × 100" } else { ", %" }
}

fn is_correlation(name: &str) -> bool {
    name == "mcc"
}

/// A level of pruning.
pub(super) fn level(name: &str) -> &str {
    match name {
        "token" => "Token level",
        "piece" => "Piece level",
        "piece_only" => "Piece level alone",
        _ => name,
    }
}

//! `[selection]` and `[controls]`: what makes a result one to trust.

use serde::{Deserialize, Serialize};

use super::Wrong;

/// `[selection]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Share of dev that nothing is chosen by, so that it can be reported on. 0 only where there is a test set.
    pub report_share: f64,
}

impl Default for Selection {
    fn default() -> Self {
        Self { report_share: 0.5 }
    }
}

/// `[controls]`: what an XPrompt is compared with, beside the tuned prompt and its continuation without a mask, which
/// every run has. Each is retrained as the XPrompt is and keeps as many tokens and pieces, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Controls {
    /// Tokens and pieces drawn at random are kept.
    pub random_mask: bool,
    /// The least important tokens and pieces are kept.
    pub reversed_mask: bool,
    /// A prompt that has the XPrompt's length from the start, tuned as stage one is.
    pub same_length: bool,
    /// The best of so many further initial values, each tuned as stage one is.
    pub restarts: usize,
    /// Only pieces are pruned; all piece ratios are tried.
    pub piece_only: bool,
    /// Pieces are scored and pruned on the values retrained after token pruning, which are kept.
    pub not_rewound: bool,
    /// The XPrompt's mask on the values before tuning, tuned as stage one is.
    pub fresh_start: bool,
    /// Scored by the signed derivative of the loss instead of its absolute value.
    pub signed_score: bool,
    /// Scored by how much the loss rises when a token or piece is left out.
    pub leave_one_out: bool,
    /// Tokens of the tuned prompt are masked without retraining (Figure 2 of the paper).
    pub masking: bool,
}

// === impl Selection ===

impl Selection {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if (0.0..1.0).contains(&self.report_share) {
            return Ok(());
        }
        Err(Wrong::new("selection.report_share", self.report_share, "a share, from 0 to below 1"))
    }
}

// === impl Controls ===

impl Controls {
    /// Every control, with five restarts.
    #[must_use]
    pub fn all() -> Self {
        Self {
            random_mask: true,
            reversed_mask: true,
            same_length: true,
            restarts: 5,
            piece_only: true,
            not_rewound: true,
            fresh_start: true,
            signed_score: true,
            leave_one_out: true,
            masking: true,
        }
    }

    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.restarts <= 100 {
            return Ok(());
        }
        Err(Wrong::new("controls.restarts", self.restarts, "0 to 100"))
    }
}

//! What a person sees meanwhile: one bar for the stage that runs, one line for each that is done. Without a
//! terminal the bar is left out, and each evaluation prints a line instead.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws to standard error.
#[derive(Debug, Default)]
pub struct Progress {
    quiet: bool,
}

// === impl Progress ===

impl Progress {
    /// One that shows nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self { quiet: true }
    }

    /// A bar for a stage of `total` units.
    #[must_use]
    pub fn bar(&self, stage: &str, total: usize, unit: &str) -> ProgressBar {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let template = "{prefix:<22} {bar:28.cyan/blue} {pos:>5}/{len} {unit} {msg} {elapsed} (left {eta})"
            .replace("{unit}", unit);
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_prefix(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }

    /// A bar for the bytes of a file.
    #[must_use]
    pub fn download(&self, file: &str) -> ProgressBar {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        let template =
            "{prefix:<32} {bar:28.cyan/blue} {bytes:>10}/{total_bytes} {bytes_per_sec} (left {eta})";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_prefix(file.to_owned());
        bar
    }

    /// A line that stands in for the bar where there is no terminal.
    pub fn note(&self, text: &str) {
        if !self.quiet && !std::io::stderr().is_terminal() {
            eprintln!("{text}");
        }
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

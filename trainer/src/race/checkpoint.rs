//! What a race writes down so that it can go on after it was killed, and how often.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Group;
use super::runner::Runner;

/// Writing checkpoints takes at most one part in so many of the time.
const SHARE: u32 = 50;

/// Everything that a race cannot compute again from its groups.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// Steps taken.
    pub(super) step: usize,
    /// The candidates of each group.
    pub(super) groups: Vec<Vec<Runner>>,
}

/// How fast a race goes.
pub(super) struct Pace {
    start: Instant,
    first_step: usize,
    /// Examples run so far.
    pub(super) examples: usize,
    /// When the speed was last taken, and how many examples had run.
    measured: (Instant, usize),
    written: Instant,
    cost: Duration,
}

// === impl State ===

impl State {
    pub(super) fn start(groups: &[Group<'_>]) -> Self {
        let runners = |group: &Group<'_>| {
            group.candidates.iter().map(|candidate| Runner::new(&candidate.prompt, &group.recipe)).collect()
        };
        Self { step: 0, groups: groups.iter().map(runners).collect() }
    }

    pub(super) fn is_running(&self) -> bool {
        self.groups.iter().flatten().any(Runner::is_running)
    }
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(first_step: usize) -> Self {
        let now = Instant::now();
        Self { start: now, first_step, examples: 0, measured: (now, 0), written: now, cost: Duration::ZERO }
    }

    pub(super) fn checkpoint_is_due(&self) -> bool {
        self.written.elapsed() >= SHARE * self.cost
    }

    pub(super) fn checkpoint_took(&mut self, cost: Duration) {
        self.written = Instant::now();
        self.cost = cost;
    }

    /// Examples a second since the last call.
    pub(super) fn speed(&mut self) -> f64 {
        let (now, examples) = (Instant::now(), self.examples);
        let (since, before) = std::mem::replace(&mut self.measured, (now, examples));
        (examples - before) as f64 / (now - since).as_secs_f64().max(1e-9)
    }

    /// Where the race stands, for a person.
    pub(super) fn shown(&self, state: &State, steps: usize, speed: f64) -> String {
        let runners: Vec<&Runner> = state.groups.iter().flatten().collect();
        let running = runners.iter().filter(|runner| runner.is_running()).count();
        let losses: Vec<f32> = runners.iter().filter_map(|runner| runner.loss()).collect();
        let loss = losses.iter().sum::<f32>() / losses.len().max(1) as f32;
        let metrics = runners.iter().map(|runner| runner.best_metric());
        let mean = 100.0 * metrics.sum::<f64>() / runners.len().max(1) as f64;
        let taken = (state.step - self.first_step).max(1);
        let left = self.start.elapsed().as_secs_f64() * (steps - state.step) as f64 / taken as f64;
        format!(
            "step {}/{steps}, {running} of {} prompts, loss {loss:.3}, dev {mean:.1} %, {speed:.0} examples/s, \
             at most {left:.0} s left",
            state.step,
            runners.len(),
        )
    }
}

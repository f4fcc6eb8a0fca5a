//! How many positions a run of the tuning graph may hold: planned from the model's size and the free memory.

use xprompt::t5::Config;

/// Share of the free memory that a run may take.
const SHARE: usize = 2;

/// Positions beyond which a larger run was not measured to be faster a position.
const ENOUGH: usize = 8192;

/// Memory that is assumed to be free where the system does not say.
const ASSUMED: usize = 4 << 30;

/// Bytes of the activations that one encoder position keeps for its gradient, in a sequence of `length`: per layer
/// about ten vectors of `d_model`, six of `d_ff`, and three rows of attention scores per head, as f32. For the
/// bundled model this gives 290 KB at length 100, where 320 KB were measured.
fn bytes_per_position(config: &Config, length: usize) -> usize {
    let layer = 10 * config.d_model + 6 * config.d_ff + 3 * config.num_heads * length;
    config.num_layers * layer * size_of::<f32>()
}

/// Examples of `length` positions that a run takes at once; at least one.
#[must_use]
pub fn examples_per_run(config: &Config, length: usize) -> usize {
    let positions = free_memory() / SHARE / bytes_per_position(config, length).max(1);
    (positions.min(ENOUGH) / length.max(1)).max(1)
}

/// Bytes that can be taken without swapping, as Linux estimates them.
fn free_memory() -> usize {
    let read = || {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<usize>().ok()
    };
    read().map_or(ASSUMED, |kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_run_holds_at_least_one_example_and_fewer_of_longer_ones() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/t5-nano");
        let config = Config::read(&folder).unwrap();
        let counts = [10, 100, 1000, 100_000].map(|length| examples_per_run(&config, length));
        assert!(counts.is_sorted_by(|a, b| a >= b) && counts[3] == 1, "{counts:?}");
        assert!((250_000..350_000).contains(&bytes_per_position(&config, 100)));
    }
}

//! How large the tensors of a batch are made.

use crate::runtime::Device;

/// Longest sources whose lengths are rounded finely.
const SHORT: usize = 256;

/// Whether sizes are rounded up. A GPU replays runs of the same shapes, so there should be few; and rows of eights of
/// elements lie well in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// As large as the examples need.
    Exact,
    /// Rounded up, by padding.
    Rounded,
}

// === impl Sizes ===

impl Sizes {
    /// What serves a device.
    #[must_use]
    pub fn of(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Exact,
            Device::Cuda(_) => Self::Rounded,
        }
    }

    /// Positions of the encoder: eights of them, or 32 where there are many.
    #[must_use]
    pub fn length(self, positions: usize) -> usize {
        match self {
            Self::Exact => positions,
            Self::Rounded if positions <= SHORT => positions.next_multiple_of(8),
            Self::Rounded => positions.next_multiple_of(32),
        }
    }

    /// Anything that is counted: 1, 2, 3, 4, 6, 8, 12, 16, 24, ...
    #[must_use]
    pub fn count(self, n: usize) -> usize {
        let power = n.next_power_of_two();
        match self {
            Self::Rounded if n <= power / 4 * 3 => power / 4 * 3,
            Self::Rounded => power,
            Self::Exact => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_counts_are_few_and_at_most_half_too_large() {
        let mut counts: Vec<usize> = (1..=64).map(|n| Sizes::Rounded.count(n)).collect();
        for (n, &count) in (1..).zip(&counts) {
            assert!(n <= count && 2 * count <= 3 * n, "{n}: {count}");
        }
        counts.dedup();
        assert_eq!(counts, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]);
    }

    #[test]
    fn rounded_lengths_are_eights() {
        for (length, rounded) in [(0, 0), (1, 8), (148, 152), (256, 256), (257, 288)] {
            assert_eq!(Sizes::Rounded.length(length), rounded);
            assert_eq!(Sizes::Exact.length(length), length);
        }
    }
}

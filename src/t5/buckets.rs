//! T5's relative position buckets (Raffel et al. 2020, section 2.1): which learned bias a pair of
//! positions gets.

use super::Config;

/// Which way attention looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The encoder: both ways, half of the buckets each.
    Both,
    /// The decoder: backwards only.
    Backward,
}

/// The bucket function of one model.
#[derive(Clone, Copy, Debug)]
pub struct Buckets {
    count: usize,
    max_distance: usize,
}

impl Buckets {
    /// The buckets that a configuration asks for.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            count: config.relative_attention_num_buckets,
            max_distance: config.relative_attention_max_distance,
        }
    }

    /// The number of buckets.
    #[must_use]
    pub fn count(self) -> usize {
        self.count
    }

    /// The distance from which on all pairs share a bucket.
    #[must_use]
    pub fn max_distance(self) -> usize {
        self.max_distance
    }

    /// The bucket of a key that stands `relative` positions after its query, rounded as transformers does.
    #[must_use]
    pub fn of(self, relative: i64, direction: Direction) -> usize {
        let (count, base, distance) = match direction {
            Direction::Both if relative > 0 => (self.count / 2, self.count / 2, relative),
            Direction::Both => (self.count / 2, 0, -relative),
            Direction::Backward => (self.count, 0, (-relative).max(0)),
        };
        let distance = usize::try_from(distance).expect("invariant: a distance is not negative");
        let exact = count / 2;
        if distance < exact {
            return base + distance;
        }
        let span = (self.max_distance as f64 / exact as f64).ln() as f32;
        let step = (distance as f32 / exact as f32).ln() / span * (count - exact) as f32;
        base + (exact + step as usize).min(count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_pairs_share_the_last_bucket() {
        let buckets = Buckets { count: 32, max_distance: 128 };
        assert_eq!(buckets.of(0, Direction::Both), 0);
        assert_eq!(buckets.of(3, Direction::Both), 19);
        assert_eq!(buckets.of(128, Direction::Both), 31);
        assert_eq!(buckets.of(100_000, Direction::Both), 31);
        assert_eq!(buckets.of(-128, Direction::Both), 15);
        assert_eq!(buckets.of(-128, Direction::Backward), 31);
        assert_eq!(buckets.of(5, Direction::Backward), 0);
    }
}

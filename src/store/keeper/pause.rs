//! How long to wait before the next look.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// A place so large that listing it takes long is listed less often: pauses are this many times as long.
const LISTING_SHARE: u32 = 4;

/// The longest pause while looks fail, unless the usual one is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause doubles with every failure, and is up to a quarter longer by chance, so that servers that share a place
/// do not all come back at once.
pub(super) fn pause(interval: Duration, listing: Duration, failures: u32, jitter: f64) -> Duration {
    let usual = interval.max(listing * LISTING_SHARE);
    if failures == 0 {
        return usual;
    }
    let longer = usual.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    longer.min(LONGEST.max(usual)).mul_f64(1.0 + jitter / 4.0)
}

/// A random number of the unit interval.
pub(super) fn jitter() -> f64 {
    (RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_up_to_a_bound_and_fall_back_at_once() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(500), ms(1), 0, 0.9), ms(500));
        assert_eq!(pause(ms(500), ms(1000), 0, 0.9), ms(4000));
        assert_eq!(pause(ms(500), ms(1), 1, 0.0), ms(1000));
        assert_eq!(pause(ms(500), ms(1), 3, 0.0), ms(4000));
        assert_eq!(pause(ms(500), ms(1), 3, 1.0), ms(5000));
        assert_eq!(pause(ms(500), ms(1), u32::MAX, 0.0), LONGEST);
        assert_eq!(pause(ms(60_000), ms(1), 2, 0.0), ms(60_000));
        assert!((0.0..1.0).contains(&jitter()));
    }
}

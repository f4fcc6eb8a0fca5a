//! How fast requests leave a queue, and so how long one that comes now would wait.

use std::time::{Duration, Instant};

/// What an earlier batch counts beside the newest.
const MEMORY: f64 = 0.8;

/// The part of its time that a request may be expected to wait. A flood slows the server down (measured: to half),
/// because refusing takes time, too.
const WAITED: f64 = 1.0 / 3.0;

/// How long a pace counts after the batch that showed it, or for how many such batches, if that is longer. Where refusing keeps
/// the queue short, nobody waits behind a batch, and none would show another pace.
const FRESH: Duration = Duration::from_secs(10);
const FRESH_BATCHES: u32 = 4;

/// The pace at which batches are taken from a queue while others wait in it, from all devices together.
#[derive(Debug, Default)]
pub(super) struct Outflow {
    /// When the last batch was taken, if something was left waiting.
    since: Option<Instant>,
    /// Seconds and the requests that left in them, the older the less.
    seconds: f64,
    requests: f64,
    /// Until when they count.
    until: Option<Instant>,
}

// === impl Outflow ===

impl Outflow {
    /// So many requests left for a batch, and so many still wait.
    pub(super) fn left(&mut self, requests: usize, waiting: usize, now: Instant) {
        if let Some(since) = self.since.filter(|_| requests > 0) {
            if !self.is_known(now) {
                (self.seconds, self.requests) = (0.0, 0.0);
            }
            self.until = Some(now + FRESH.max(FRESH_BATCHES * (now - since)));
            self.seconds = MEMORY * self.seconds + (now - since).as_secs_f64();
            self.requests = MEMORY * self.requests + requests as f64;
        }
        self.since = (waiting > 0).then_some(now);
    }

    fn is_known(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// How long a request waits that has so many before it. Zero as long as nothing is known.
    pub(super) fn wait(&self, ahead: usize, now: Instant) -> Duration {
        let each = if self.is_known(now) { self.seconds / self.requests } else { 0.0 };
        Duration::try_from_secs_f64(each * ahead as f64).unwrap_or(Duration::MAX)
    }

    /// Whether the last of so many requests, behind others, would wait for too much of the time that it has. Where
    /// nobody waits there is no better moment, and the pace that is known may be of another time.
    pub(super) fn is_too_long(&self, ahead: usize, requests: usize, time: Duration, now: Instant) -> bool {
        ahead > 0 && self.wait((ahead + requests).saturating_sub(1), now) > time.mul_f64(WAITED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_wait_is_that_of_the_requests_before() {
        let (mut outflow, start) = (Outflow::default(), Instant::now());
        assert_eq!(outflow.wait(1000, start), Duration::ZERO, "nothing is known");
        outflow.left(8, 100, start);
        outflow.left(10, 90, at(start, 2));
        assert_eq!(outflow.wait(90, at(start, 2)), Duration::from_secs(18));
        assert_eq!(outflow.wait(0, at(start, 2)), Duration::ZERO);
        for second in 3..60 {
            outflow.left(10, 90, at(start, second));
        }
        assert!(
            outflow.wait(90, at(start, 60)).abs_diff(Duration::from_secs(9)) < Duration::from_millis(10),
            "it follows"
        );
    }

    #[test]
    fn a_request_may_wait_for_a_third_of_its_time() {
        let (mut outflow, start) = (Outflow::default(), Instant::now());
        outflow.left(8, 100, start);
        outflow.left(10, 90, at(start, 1));
        let (time, now) = (Duration::from_secs(30), at(start, 1));
        assert!(!outflow.is_too_long(100, 1, time, now) && outflow.is_too_long(101, 1, time, now));
        assert!(!outflow.is_too_long(97, 4, time, now) && outflow.is_too_long(98, 4, time, now));
        assert!(outflow.is_too_long(1, 1, Duration::ZERO, now), "its time is over");
        assert!(!outflow.is_too_long(0, 1000, time, now), "nobody waits");
    }

    #[test]
    fn a_slow_batch_of_long_ago_refuses_nobody() {
        let (mut outflow, start) = (Outflow::default(), Instant::now());
        outflow.left(1, 3, start);
        outflow.left(3, 0, at(start, 6));
        assert_eq!(outflow.wait(6, at(start, 20)), Duration::from_secs(12), "four of such batches take 24 s");
        assert_eq!(outflow.wait(6, at(start, 31)), Duration::ZERO);
        outflow.left(6, 20, at(start, 32));
        outflow.left(6, 20, at(start, 33));
        assert_eq!(outflow.wait(6, at(start, 33)), Duration::from_secs(1), "nothing of it is left");
    }

    #[test]
    fn a_queue_that_ran_empty_says_nothing_of_the_pace() {
        let (mut outflow, start) = (Outflow::default(), Instant::now());
        outflow.left(8, 1, start);
        outflow.left(0, 0, at(start, 1));
        outflow.left(8, 1, at(start, 1000));
        assert_eq!(outflow.wait(1000, at(start, 1000)), Duration::ZERO);
        outflow.left(1, 0, at(start, 1001));
        outflow.left(1, 1, at(start, 1005));
        assert_eq!(outflow.wait(10, at(start, 1005)), Duration::from_secs(10));
    }
}

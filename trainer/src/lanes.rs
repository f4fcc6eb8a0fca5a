//! Work spread over devices: each has its own tools and, while there is work, its own thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use xprompt::runtime::Device;

/// Pieces of work after which a lane's pace is judged.
const JUDGED_AFTER: usize = 16;

/// A lane is slow if the fastest is more than this many times as fast.
const SLOW: f64 = 2.0;

/// Devices side by side, each with tools of type `L`.
#[derive(Debug)]
pub struct Lanes<L> {
    lanes: Vec<Lane<L>>,
    slow_was_told: bool,
}

#[derive(Debug)]
struct Lane<L> {
    device: Device,
    tools: L,
    pieces: usize,
    size: usize,
    seconds: f64,
}

// === impl Lanes ===

impl<L: Send> Lanes<L> {
    /// One lane for each device.
    #[must_use]
    pub fn new(lanes: impl IntoIterator<Item = (Device, L)>) -> Self {
        let lane = |(device, tools)| Lane { device, tools, pieces: 0, size: 0, seconds: 0.0 };
        Self { lanes: lanes.into_iter().map(lane).collect(), slow_was_told: false }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Works on all items, each on the lane that is free first; results come in the items' order. `size` says how much
    /// work an item is. One lane works on the thread of the caller.
    ///
    /// # Errors
    /// The first error in the items' order among those that were met; no item is begun after one failed.
    ///
    /// # Panics
    /// If the work does.
    pub fn map<T: Sync, R: Send, E: Send>(
        &mut self,
        items: &[T],
        size: impl Fn(&T) -> usize + Sync,
        work: impl Fn(&mut L, &T) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, E> {
        let next = AtomicUsize::new(0);
        let drive = |lane: &mut Lane<L>| {
            let mut results = Vec::new();
            while let Some((i, item)) = pick(&next, items) {
                let start = Instant::now();
                let result = work(&mut lane.tools, item);
                lane.pieces += 1;
                lane.size += size(item);
                lane.seconds += start.elapsed().as_secs_f64();
                if result.is_err() {
                    next.store(items.len(), Ordering::Relaxed);
                }
                results.push((i, result));
            }
            results
        };
        let mut results: Vec<(usize, Result<R, E>)> = match self.lanes.as_mut_slice() {
            [lane] => drive(lane),
            lanes => std::thread::scope(|scope| {
                let drive = &drive;
                let threads: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || drive(lane))).collect();
                let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
                joined
                    .flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            }),
        };
        results.sort_unstable_by_key(|&(i, _)| i);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Words about a device that is much slower than the fastest; once, when it is known.
    pub fn slow_device(&mut self) -> Option<String> {
        if self.slow_was_told || self.lanes.iter().any(|lane| lane.pieces < JUDGED_AFTER) {
            return None;
        }
        let by_pace = |a: &&Lane<L>, b: &&Lane<L>| a.pace().total_cmp(&b.pace());
        let slowest = self.lanes.iter().min_by(by_pace)?;
        let fastest = self.lanes.iter().max_by(by_pace)?;
        let times = fastest.pace() / slowest.pace();
        if times <= SLOW {
            return None;
        }
        let (slow, fast) = (slowest.device, fastest.device);
        self.slow_was_told = true;
        Some(format!("{slow} computes {times:.1} times slower than {fast}; is something else running on it?"))
    }
}

/// The next item that nobody works on, with its place.
fn pick<'t, T>(next: &AtomicUsize, items: &'t [T]) -> Option<(usize, &'t T)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    Some((i, items.get(i)?))
}

// === impl Lane ===

impl<L> Lane<L> {
    /// Size of the work done in a second.
    fn pace(&self) -> f64 {
        self.size as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Tools of a device that takes this many milliseconds for a piece of work.
    fn lanes(milliseconds: &[u64]) -> Lanes<u64> {
        Lanes::new(milliseconds.iter().enumerate().map(|(i, &ms)| (Device::Cuda(i as u32), ms)))
    }

    fn double(milliseconds: &mut u64, item: &u64) -> Result<u64, String> {
        std::thread::sleep(Duration::from_millis(*milliseconds));
        if *item == 13 { Err(format!("{milliseconds} ms")) } else { Ok(2 * item) }
    }

    #[test]
    fn results_keep_the_order_of_the_items_however_fast_the_devices_are() {
        let items: Vec<u64> = (20..60).collect();
        for milliseconds in [&[0][..], &[0, 3], &[5, 0, 1]] {
            let done = lanes(milliseconds).map(&items, |_| 1, double).unwrap();
            assert_eq!(done, items.iter().map(|item| 2 * item).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        let items: Vec<u64> = (10..1000).collect();
        let mut lanes = lanes(&[1, 1]);
        assert_eq!(lanes.map(&items, |_| 1, double), Err("1 ms".into()));
        assert!(lanes.lanes.iter().map(|lane| lane.pieces).sum::<usize>() < 100);
    }

    #[test]
    fn a_slow_device_takes_less_work_and_is_named_once() {
        let mut lanes = lanes(&[1, 20]);
        let items = [0; 40];
        while lanes.lanes.iter().any(|lane| lane.pieces < JUDGED_AFTER) {
            assert_eq!(lanes.slow_device(), None, "too little is known");
            lanes.map(&items, |_| 1, double).unwrap();
        }
        assert!(lanes.lanes[1].pieces < lanes.lanes[0].pieces / 2);
        let words = lanes.slow_device().unwrap();
        assert!(words.starts_with("cuda:1 computes") && words.contains("cuda:0"), "{words}");
        assert_eq!(lanes.slow_device(), None);
    }
}

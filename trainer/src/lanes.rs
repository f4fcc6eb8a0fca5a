//! Work spread over devices: each has its own tools and its own thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};
use xprompt::runtime::{Device, Paces};

/// Devices side by side, each with tools of type `L`.
#[derive(Debug)]
pub struct Lanes<L> {
    lanes: Vec<Lane<L>>,
    paces: Paces,
}

#[derive(Debug)]
struct Lane<L> {
    tools: L,
    /// The thread that works with them, always the same: runs that were captured on a GPU are replayed by the thread that
    /// captured them. One lane works on the thread of the caller.
    thread: Option<ThreadPool>,
}

/// A piece of work that was done.
struct Done<R> {
    item: usize,
    result: R,
    seconds: f64,
}

// === impl Lanes ===

impl<L: Send> Lanes<L> {
    /// One lane for each device.
    ///
    /// # Panics
    /// If the system has no more threads.
    #[must_use]
    pub fn new(lanes: impl IntoIterator<Item = (Device, L)>) -> Self {
        let (devices, tools): (Vec<Device>, Vec<L>) = lanes.into_iter().unzip();
        let several = tools.len() > 1;
        let thread = || ThreadPoolBuilder::new().num_threads(1).build().expect("the system has threads");
        let lane = |tools| Lane { tools, thread: several.then(thread) };
        Self { lanes: tools.into_iter().map(lane).collect(), paces: Paces::new(devices) }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Works on all items, each on the lane that is free first; results come in the items' order. `size` says how much
    /// work an item is.
    ///
    /// # Errors
    /// The first error in the items' order among those that were met; no item is begun after one failed.
    ///
    /// # Panics
    /// If the work does.
    pub fn map<T: Sync, R: Send, E: Send>(
        &mut self,
        items: &[T],
        size: impl Fn(&T) -> usize,
        work: impl Fn(&mut L, &T) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, E> {
        let next = AtomicUsize::new(0);
        let drive = |tools: &mut L| {
            let mut all = Vec::new();
            while let Some((i, item)) = pick(&next, items) {
                let start = Instant::now();
                let result = work(tools, item);
                if result.is_err() {
                    next.store(items.len(), Ordering::Relaxed);
                }
                all.push(Done { item: i, result, seconds: start.elapsed().as_secs_f64() });
            }
            all
        };
        let work = |Lane { tools, thread }: &mut Lane<L>| match thread {
            Some(thread) => thread.install(|| drive(tools)),
            None => drive(tools),
        };
        let done: Vec<Vec<Done<Result<R, E>>>> = std::thread::scope(|scope| {
            let work = &work;
            let mut lanes = self.lanes.iter_mut();
            let own = lanes.next();
            let others: Vec<_> = lanes.map(|lane| scope.spawn(move || work(lane))).collect();
            let own = own.map(work);
            let joined = others.into_iter().map(std::thread::ScopedJoinHandle::join);
            let joined = joined.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            own.into_iter().chain(joined).collect()
        });
        for (place, done) in done.iter().enumerate() {
            done.iter().for_each(|done| self.paces.note(place, size(&items[done.item]), done.seconds));
        }
        let mut results: Vec<_> = done.into_iter().flatten().map(|done| (done.item, done.result)).collect();
        results.sort_unstable_by_key(|&(i, _)| i);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Words about a device that is much slower than the fastest; once, when it is known.
    pub fn slow_device(&mut self) -> Option<String> {
        self.paces.slow_device()
    }
}

/// The next item that nobody works on, with its place.
fn pick<'t, T>(next: &AtomicUsize, items: &'t [T]) -> Option<(usize, &'t T)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    Some((i, items.get(i)?))
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
        let begun = AtomicUsize::new(0);
        let mut lanes = lanes(&[1, 1]);
        let done = lanes.map(
            &items,
            |_| 1,
            |milliseconds, item| {
                begun.fetch_add(1, Ordering::Relaxed);
                double(milliseconds, item)
            },
        );
        assert_eq!(done, Err("1 ms".into()));
        assert!(begun.load(Ordering::Relaxed) < 100);
    }

    #[test]
    fn a_slow_device_takes_less_work_and_is_named() {
        let mut lanes = lanes(&[1, 20]);
        let words = loop {
            lanes.map(&[0; 40], |_| 1, double).unwrap();
            if let Some(words) = lanes.slow_device() {
                break words;
            }
        };
        assert!(words.starts_with("cuda:1 computes") && words.contains("cuda:0"), "{words}");
    }
}

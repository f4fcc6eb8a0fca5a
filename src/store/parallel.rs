//! The same work on several things side by side: a bucket answers each request only after a while.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Things that are worked on at once.
const WORKERS: usize = 8;

/// The outcomes, in the order of the things.
pub(super) fn map<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(thing) = things.get(i) else { return done };
            done.push((i, work(thing)));
        }
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..WORKERS.min(things.len())).map(|_| scope.spawn(worker)).collect();
        let mut all = worker();
        for helper in helpers {
            match helper.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|&(i, _)| i);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn outcomes_come_in_the_order_of_the_things() {
        let things: Vec<usize> = (0..100).collect();
        let slow_first = |&thing: &usize| {
            std::thread::sleep(std::time::Duration::from_micros(100 - thing as u64));
            thing * 2
        };
        assert_eq!(super::map(&things, slow_first), (0..100).map(|i| i * 2).collect::<Vec<_>>());
        assert!(super::map(&[], slow_first).is_empty());
    }
}

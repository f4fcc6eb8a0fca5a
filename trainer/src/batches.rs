//! Shuffled batches of examples of similar length, epoch after epoch.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Batches whose examples are sorted together: enough that neighbours are close, few enough that an epoch's
/// batches stay random.
const WINDOW: usize = 32;

/// Endless batches over examples that are known by their lengths. Every epoch visits every example once, but for
/// the rest of the division by the batch size.
#[derive(Debug)]
pub struct Batches {
    lengths: Vec<usize>,
    batch_size: usize,
    rng: ChaCha8Rng,
    ready: Vec<Vec<usize>>,
}

// === impl Batches ===

impl Batches {
    /// Batches of `batch_size` over examples of these lengths.
    #[must_use]
    pub fn new(lengths: Vec<usize>, batch_size: usize, rng: ChaCha8Rng) -> Self {
        Self { lengths, batch_size, rng, ready: Vec::new() }
    }

    /// Whole batches in an epoch.
    #[must_use]
    pub fn per_epoch(&self) -> usize {
        (self.lengths.len() / self.batch_size).max(1)
    }

    /// The next batch, as indices of examples.
    pub fn next_batch(&mut self) -> Vec<usize> {
        loop {
            if let Some(batch) = self.ready.pop() {
                return batch;
            }
            self.shuffle();
        }
    }

    /// Leaves out the next batches.
    pub fn skip(&mut self, batches: usize) {
        (0..batches).for_each(|_| drop(self.next_batch()));
    }

    fn shuffle(&mut self) {
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        order.shuffle(&mut self.rng);
        // fewer examples than a batch holds: they repeat
        while order.len() < self.batch_size {
            order.extend_from_within(..order.len().min(self.batch_size - order.len()));
        }
        for window in order.chunks_mut(self.batch_size * WINDOW) {
            window.sort_by_key(|&i| self.lengths[i]);
        }
        self.ready = order.chunks_exact(self.batch_size).map(<[usize]>::to_vec).collect();
        self.ready.shuffle(&mut self.rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn batches(examples: usize, batch_size: usize) -> Batches {
        let lengths = (0..examples).map(|i| i * 7 % 50).collect();
        Batches::new(lengths, batch_size, ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn an_epoch_visits_every_example_once() {
        let mut batches = batches(40, 8);
        let mut seen: Vec<usize> = (0..batches.per_epoch()).flat_map(|_| batches.next_batch()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn few_examples_repeat_to_fill_a_batch() {
        assert_eq!(batches(3, 8).next_batch().len(), 8);
    }

    #[test]
    fn a_seed_gives_the_same_batches_and_some_can_be_left_out() {
        let (mut first, mut second) = (batches(100, 8), batches(100, 8));
        second.skip(20);
        let taken: Vec<_> = (0..30).map(|_| first.next_batch()).collect();
        assert_eq!(taken[20..], (0..10).map(|_| second.next_batch()).collect::<Vec<_>>());
    }
}

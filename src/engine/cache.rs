//! The cache of a device's decoder, given out in blocks of positions.
//!
//! Rows hold the blocks that they need, and a block is free again when no row holds it. Rows that went the same way may
//! hold the same blocks; one that writes gets its own first.

use std::sync::{Arc, Mutex, PoisonError};

use crate::graph::CACHE_BLOCK;
use crate::runtime::{Model, RuntimeError, State};
use crate::t5::step;

/// Blocks that a cache begins with; then it doubles.
const FIRST: usize = 16;
/// What rows that pad a batch read and write.
const PADDING: usize = 0;

/// The cache, which grows as rows need it.
#[derive(Debug)]
pub(super) struct Cache {
    model: Model,
    state: State,
    free: Arc<Mutex<Vec<usize>>>,
}

/// The blocks of a row, in the order of its positions.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks(Vec<Arc<Block>>);

/// A block that is in use.
#[derive(Debug)]
struct Block {
    number: usize,
    free: Arc<Mutex<Vec<usize>>>,
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(model: &Model) -> Result<Self, RuntimeError> {
        let state = model.state(&step::cache_shape(model.config(), FIRST))?;
        let free = (PADDING + 1..FIRST).rev().collect();
        Ok(Self { model: model.clone(), state, free: Arc::new(Mutex::new(free)) })
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Makes room for a row's position after `age` others, where no other row reads or writes. Returns whether the state is
    /// another one now.
    pub(super) fn make_room(&mut self, blocks: &mut Blocks, age: usize) -> Result<bool, RuntimeError> {
        let (at, known) = (age / CACHE_BLOCK, self.state.shape()[0]);
        match blocks.0.get(at) {
            Some(block) if Arc::strong_count(block) == 1 => {}
            Some(shared) => {
                let from = shared.number;
                let own = self.take()?;
                self.state.copy_entries(own.number, None, from, 1)?;
                blocks.0[at] = Arc::new(own);
            }
            None => blocks.0.push(Arc::new(self.take()?)),
        }
        Ok(self.state.shape()[0] != known)
    }

    fn take(&mut self) -> Result<Block, RuntimeError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            let known = self.state.shape()[0];
            let mut larger = self.model.state(&step::cache_shape(self.model.config(), 2 * known))?;
            larger.copy_entries(0, Some(&self.state), 0, known)?;
            self.state = larger;
            free.extend((known..2 * known).rev());
        }
        let number = free.pop().expect("invariant: a cache that has grown has free blocks");
        Ok(Block { number, free: Arc::clone(&self.free) })
    }
}

/// The blocks of rows as a step reads them, `[seats, n]`, and n, which `round` may round up. What a row does not have, and
/// rows beyond the last, are the block of padding.
pub(super) fn table<'a>(
    rows: impl ExactSizeIterator<Item = &'a Blocks> + Clone,
    seats: usize,
    round: impl Fn(usize) -> usize,
) -> (Vec<i64>, usize) {
    let n = round(rows.clone().map(|blocks| blocks.0.len()).max().unwrap_or(0).max(1));
    let mut table = vec![PADDING as i64; seats * n];
    for (row, blocks) in table.chunks_mut(n).zip(rows) {
        for (place, block) in row.iter_mut().zip(&blocks.0) {
            *place = block.number as i64;
        }
    }
    (table, n)
}

impl Drop for Block {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::runtime::Runtime;
    use crate::t5::Checkpoint;

    fn cache() -> Cache {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/t5-nano");
        let runtime = Runtime::start(None, Some(2)).unwrap();
        Cache::new(&Model::new(Checkpoint::open(&folder).unwrap(), runtime)).unwrap()
    }

    fn numbers(blocks: &[Blocks]) -> Vec<usize> {
        blocks.iter().flat_map(|blocks| blocks.0.iter().map(|block| block.number)).collect()
    }

    #[test]
    fn no_two_rows_have_the_same_block_however_often_the_cache_grows_and_blocks_come_back() {
        let mut cache = cache();
        let mut rows = vec![Blocks::default(); 20];
        for age in 0..4 * CACHE_BLOCK {
            for row in &mut rows {
                cache.make_room(row, age).unwrap();
            }
        }
        let mut all = numbers(&rows);
        all.sort_unstable();
        assert_eq!(all, (1..=80).collect::<Vec<_>>(), "block 0 is for padding");
        rows.truncate(1);
        let mut more = Blocks::default();
        for age in 0..50 * CACHE_BLOCK {
            cache.make_room(&mut more, age).unwrap();
        }
        assert_eq!(cache.state().shape()[0], 128, "76 blocks came back");
    }

    #[test]
    fn a_row_that_writes_where_another_reads_gets_a_copy_of_the_block() {
        let mut cache = cache();
        let mut row = Blocks::default();
        for age in 0..=CACHE_BLOCK {
            cache.make_room(&mut row, age).unwrap();
        }
        let mut rows = [row.clone(), row];
        cache.make_room(&mut rows[1], CACHE_BLOCK + 1).unwrap();
        assert_eq!(numbers(&rows[..1]), [1, 2]);
        assert_eq!(numbers(&rows[1..]), [1, 3], "the first block is full, and both read it");
        cache.make_room(&mut rows[0], CACHE_BLOCK + 1).unwrap();
        assert_eq!(numbers(&rows[..1]), [1, 2], "the other has left it");
    }

    #[test]
    fn a_table_is_padded_with_the_block_that_no_row_has() {
        let mut cache = cache();
        let mut rows = vec![Blocks::default(); 2];
        for age in 0..=CACHE_BLOCK {
            cache.make_room(&mut rows[0], age).unwrap();
        }
        cache.make_room(&mut rows[1], 0).unwrap();
        assert_eq!(table(rows.iter(), 3, |n| n + 1), (vec![1, 2, 0, 3, 0, 0, 0, 0, 0], 3));
    }
}

//! Which prompts have their rows in memory: as many as fit a number of bytes, the ones used last.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::ReadyTask;

/// A version's place here.
#[derive(Debug)]
pub(super) struct Slot {
    id: u64,
    /// Held while the rows are read, so that many requests for them read them once.
    pub(super) loading: tokio::sync::Mutex<()>,
}

/// What is in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Versions.
    pub count: usize,
    /// Bytes of their rows.
    pub bytes: usize,
    /// Bytes of those that are pinned.
    pub pinned_bytes: usize,
}

/// The rows in memory. A request that holds a version's rows keeps them, whatever happens here.
#[derive(Debug)]
pub(super) struct Residency {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Every version that may be here.
    places: HashMap<u64, Place>,
    /// The order of use of what may be evicted.
    order: BTreeMap<u64, u64>,
    clock: u64,
    resident: Resident,
}

#[derive(Debug, Default)]
struct Place {
    task: Option<Arc<ReadyTask>>,
    used: u64,
    pinned: bool,
}

// === impl Slot ===

impl Slot {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), loading: tokio::sync::Mutex::default() }
    }
}

// === impl Residency ===

impl Residency {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default() }
    }

    /// A version's rows, if they are in memory; they are the ones used last then.
    pub(super) fn get(&self, slot: &Slot) -> Option<Arc<ReadyTask>> {
        let mut inner = self.lock();
        let task = inner.places.get(&slot.id)?.task.clone()?;
        inner.touch(slot.id);
        Some(task)
    }

    pub(super) fn contains(&self, slot: &Slot) -> bool {
        self.lock().places.get(&slot.id).is_some_and(|place| place.task.is_some())
    }

    /// Gives a version that is served a place, without rows.
    pub(super) fn admit(&self, slot: &Slot, pinned: bool) -> usize {
        let mut inner = self.lock();
        let place = inner.places.entry(slot.id).or_default();
        if place.pinned != pinned {
            let (bytes, used) = (place.bytes(), place.used);
            place.pinned = pinned;
            if bytes > 0 && pinned {
                inner.order.remove(&used);
                inner.resident.pinned_bytes += bytes;
            } else if bytes > 0 {
                inner.order.insert(used, slot.id);
                inner.resident.pinned_bytes -= bytes;
            }
        }
        inner.evict(self.limit)
    }

    /// Takes the rows of a version that has a place. Returns how many others had to go.
    pub(super) fn insert(&self, slot: &Slot, task: Arc<ReadyTask>) -> usize {
        let mut inner = self.lock();
        let bytes = task.row_bytes();
        // a version that is served no more has no place
        let Some(place) = inner.places.get_mut(&slot.id) else { return 0 };
        if place.task.replace(task).is_none() {
            let pinned = place.pinned;
            inner.resident.count += 1;
            inner.resident.bytes += bytes;
            inner.resident.pinned_bytes += if pinned { bytes } else { 0 };
        }
        inner.touch(slot.id);
        inner.evict(self.limit)
    }

    /// Takes the place of a version that is served no more.
    pub(super) fn retire(&self, slot: &Slot) {
        let mut inner = self.lock();
        inner.drop_rows(slot.id);
        inner.places.remove(&slot.id);
    }

    pub(super) fn resident(&self) -> Resident {
        self.lock().resident
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // invariant: no code that holds the lock panics
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    fn touch(&mut self, id: u64) {
        self.clock += 1;
        let Some(place) = self.places.get_mut(&id) else { return };
        self.order.remove(&place.used);
        place.used = self.clock;
        if !place.pinned {
            self.order.insert(self.clock, id);
        }
    }

    /// Drops what was not used for longest until the limit holds, pinned rows excepted.
    fn evict(&mut self, limit: usize) -> usize {
        let mut evicted = 0;
        while self.resident.bytes > limit {
            let Some((_, id)) = self.order.pop_first() else { break };
            self.drop_rows(id);
            evicted += 1;
        }
        evicted
    }

    fn drop_rows(&mut self, id: u64) {
        let Some(place) = self.places.get_mut(&id) else { return };
        let bytes = place.bytes();
        if place.task.take().is_some() {
            self.order.remove(&place.used);
            self.resident.count -= 1;
            self.resident.bytes -= bytes;
            self.resident.pinned_bytes -= if place.pinned { bytes } else { 0 };
        }
    }
}

// === impl Place ===

impl Place {
    fn bytes(&self) -> usize {
        self.task.as_ref().map_or(0, |task| task.row_bytes())
    }
}

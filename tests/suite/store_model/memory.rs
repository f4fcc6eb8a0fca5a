//! Objects in memory that fail when a test says so.

use std::collections::BTreeMap;
use std::sync::Mutex;

use xprompt::store::{Condition, Listed, Object, Storage, StorageError, Tag};

/// When writing begins to fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Writes and removals that succeed before.
    pub after: usize,
    /// Whether the one that fails happens all the same: its answer is lost.
    pub happens: bool,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    clock: u64,
    fault: Option<Fault>,
    down: bool,
}

/// The objects.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Inner>);

impl Memory {
    /// What a hand does: it asks for no condition and never fails.
    pub fn copy(&self, key: &str, bytes: &[u8]) {
        self.0.lock().unwrap().set(key, bytes);
    }

    pub fn take(&self, key: &str) {
        self.0.lock().unwrap().objects.remove(key);
    }

    /// From now on nothing works, or everything again.
    pub fn set_down(&self, down: bool) {
        self.0.lock().unwrap().down = down;
    }

    pub fn set_fault(&self, fault: Option<Fault>) {
        self.0.lock().unwrap().fault = fault;
    }

    pub fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().objects.get(key).map(|(bytes, _)| bytes.clone())
    }
}

impl Inner {
    fn set(&mut self, key: &str, bytes: &[u8]) -> Tag {
        self.clock += 1;
        self.objects.insert(key.to_owned(), (bytes.to_vec(), self.clock));
        Tag(self.clock.to_string())
    }

    fn up(&self) -> Result<(), StorageError> {
        if self.down { Err(lost()) } else { Ok(()) }
    }

    /// Whether a write happens, and whether it is answered.
    fn writes(&mut self) -> (bool, bool) {
        match &mut self.fault {
            None => (true, true),
            Some(fault) if fault.after > 0 => {
                fault.after -= 1;
                (true, true)
            }
            Some(fault) => (std::mem::take(&mut fault.happens), false),
        }
    }
}

fn lost() -> StorageError {
    StorageError::Unavailable { what: "memory".into(), reason: "as the test says".into() }
}

impl Storage for Memory {
    fn place(&self) -> String {
        "memory".into()
    }

    fn list(&self, folder: &str, suffix: &str) -> Result<Vec<Listed>, StorageError> {
        let inner = self.0.lock().unwrap();
        inner.up()?;
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let objects = inner.objects.iter().filter_map(|(key, (bytes, tag))| {
            let name = key.strip_prefix(&prefix)?;
            let wanted = !name.contains('/') && !name.starts_with('.') && name.ends_with(suffix);
            let (name, tag) = (name.to_owned(), Ok(Tag(tag.to_string())));
            wanted.then_some(Listed { name, tag, bytes: bytes.len() as u64, settled: true })
        });
        Ok(objects.collect())
    }

    fn read(&self, key: &str, limit: u64) -> Result<Object, StorageError> {
        let inner = self.0.lock().unwrap();
        inner.up()?;
        let missing = || StorageError::Missing { key: key.to_owned() };
        let (bytes, tag) = inner.objects.get(key).ok_or_else(missing)?;
        assert!(bytes.len() as u64 <= limit);
        Ok(Object { bytes: bytes.clone(), tag: Tag(tag.to_string()) })
    }

    fn write(&self, key: &str, bytes: &[u8], condition: &Condition) -> Result<Tag, StorageError> {
        let mut inner = self.0.lock().unwrap();
        inner.up()?;
        let tag = inner.objects.get(key).map(|(_, tag)| Tag(tag.to_string()));
        if !condition.holds(tag.as_ref()) {
            return Err(StorageError::Changed { key: key.to_owned() });
        }
        let (happens, answered) = inner.writes();
        let tag = if happens { inner.set(key, bytes) } else { Tag(String::new()) };
        if answered { Ok(tag) } else { Err(lost()) }
    }

    fn remove(&self, key: &str, condition: &Condition) -> Result<(), StorageError> {
        let mut inner = self.0.lock().unwrap();
        inner.up()?;
        let tag = inner.objects.get(key).map(|(_, tag)| Tag(tag.to_string()));
        if !condition.holds(tag.as_ref()) {
            return Err(StorageError::Changed { key: key.to_owned() });
        }
        let (happens, answered) = inner.writes();
        if happens {
            inner.objects.remove(key);
        }
        if answered { Ok(()) } else { Err(lost()) }
    }
}

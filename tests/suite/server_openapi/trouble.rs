//! A folder of prompts that gives trouble when a test says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xprompt::store::{Condition, FolderStorage, Listed, Object, Storage, StorageError, Tag};

/// The folder.
#[derive(Debug)]
pub struct Troubled {
    folder: FolderStorage,
    /// Whether somebody else is always a moment faster.
    pub is_raced: AtomicBool,
    /// Whether nothing is answered.
    pub is_stuck: AtomicBool,
}

impl Troubled {
    pub fn new(folder: &std::path::Path) -> Self {
        let (is_raced, is_stuck) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { folder: FolderStorage::new(folder), is_raced, is_stuck }
    }

    fn wait(&self) {
        while self.is_stuck.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn race(&self, key: &str, condition: &Condition) -> Result<(), StorageError> {
        self.wait();
        if *condition != Condition::Any && self.is_raced.load(Ordering::SeqCst) {
            return Err(StorageError::Changed { key: key.to_owned() });
        }
        Ok(())
    }
}

impl Storage for Troubled {
    fn place(&self) -> String {
        self.folder.place()
    }

    fn list(&self, folder: &str, suffix: &str) -> Result<Vec<Listed>, StorageError> {
        self.wait();
        self.folder.list(folder, suffix)
    }

    fn read(&self, key: &str, limit: u64) -> Result<Object, StorageError> {
        self.wait();
        self.folder.read(key, limit)
    }

    fn write(&self, key: &str, bytes: &[u8], condition: &Condition) -> Result<Tag, StorageError> {
        self.race(key, condition)?;
        self.folder.write(key, bytes, condition)
    }

    fn remove(&self, key: &str, condition: &Condition) -> Result<(), StorageError> {
        self.race(key, condition)?;
        self.folder.remove(key, condition)
    }
}

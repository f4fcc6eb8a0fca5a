//! Labelled rows as token ids.
//!
//! Files become [`Rows`] (`rows`, one file a format), a [`Reader`] makes rows into [`Example`]s of a task, and
//! [`Sets`] holds the three splits, of which dev may be drawn from train. What the examples are used for is not
//! known here.

mod csv;
mod draw;
mod error;
mod example;
mod jsonl;
mod parquet;
mod reader;
mod rows;
mod sets;

pub use draw::{divide, part};
pub use error::{DataError, Place};
pub use example::{Dataset, Example, Target};
pub use reader::{Entry, Reader};
pub use rows::{Files, Row, Rows};
pub use sets::{Sets, Split};

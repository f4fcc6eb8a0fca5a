//! Labelled rows as token ids.
//!
//! Files become [`Rows`] (`rows`, one file a format), a [`Reader`] makes rows into [`Example`](crate::example::Example)s of a task, and
//! [`Sets`] holds the three splits, of which dev may be drawn from train. What the examples are used for is not
//! known here.

mod csv;
mod dataset;
mod draw;
mod error;
mod jsonl;
mod parquet;
mod reader;
mod rows;
mod sets;

pub use dataset::Dataset;
pub use draw::{divide, part};
pub use error::{DataError, Place};
pub use reader::{Entry, Reader};
pub use rows::{Files, Row, Rows};
pub use sets::{Sets, Split};

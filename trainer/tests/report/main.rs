//! The report of a run.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod command;
mod overview;
mod page;
mod sample;
mod table;
mod verdict;

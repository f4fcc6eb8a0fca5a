//! HTTP: routes, limits, errors, metrics, and serving connections until told to stop.
//!
//! [`app`] makes the router, so that tests talk to it without a process; [`serve`] accepts connections for it
//! within [`Limits`] and drains them. Every error is a problem document ([`Problem`]); every metric is in
//! [`Metrics`].

mod admin;
mod app;
mod body;
mod completions;
mod connections;
mod health;
mod inference;
mod lease;
mod limits;
mod metrics;
mod observe;
mod openapi;
mod page;
mod predict;
mod problem;
mod tasks;
mod time;
mod traffic;
mod v2;

pub use app::{Service, app};
pub use connections::serve;
pub use limits::Limits;
pub use metrics::Metrics;
pub use problem::{Code, Problem};

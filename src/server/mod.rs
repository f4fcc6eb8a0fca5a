//! HTTP: routes, limits, errors, metrics, and serving connections until told to stop.
//!
//! [`app`] makes the router, so that tests talk to it without a process; [`serve`] accepts connections for it
//! within [`Limits`] and drains them. Every error is a problem document ([`Problem`]); every metric is in
//! [`Metrics`].

mod admin;
mod app;
mod auth;
mod body;
mod completions;
mod connections;
mod files;
mod health;
mod idle;
mod inference;
mod lease;
mod limits;
mod listener;
mod metrics;
mod observe;
mod openapi;
mod page;
mod predict;
mod problem;
mod pulse;
mod shape;
mod tasks;
mod time;
mod timed;
mod tls;
mod trace;
mod traffic;
mod v2;

pub use app::{Service, app, public_app};
pub use auth::{Keys, NewKey, Scopes};
pub use connections::serve;
pub use limits::Limits;
pub use listener::Listener;
pub use metrics::Metrics;
pub use problem::{Code, Problem};
pub use tls::Tls;

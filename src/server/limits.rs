//! What clients may cost.

use std::time::Duration;

/// Limits of requests and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Inputs of one call.
    pub inputs: usize,
    /// Predict calls that are worked on at once; one more is answered 429.
    pub requests: usize,
    /// Open connections; one more waits to be accepted.
    pub connections: usize,
    /// From a call's arrival to its answer.
    pub request_time: Duration,
    /// For a client to send a request's head, and again for its body; also how long a connection may be idle.
    pub read_time: Duration,
    /// For calls in flight to finish when the server stops.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            inputs: 128,
            requests: 1024,
            connections: 1024,
            request_time: Duration::from_secs(30),
            read_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
        }
    }
}

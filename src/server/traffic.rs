//! Calls in flight, and whether new ones are let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// Counts the predict calls in flight; closed for new ones while the server drains.
#[derive(Debug)]
pub(super) struct Traffic {
    in_flight: watch::Sender<usize>,
    draining: AtomicBool,
}

/// A call in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Call(Arc<Traffic>);

/// Why a call is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The server drains.
    Draining,
    /// As many calls as allowed are in flight.
    Full,
}

// === impl Traffic ===

impl Traffic {
    pub(super) fn new() -> Self {
        Self { in_flight: watch::Sender::new(0), draining: AtomicBool::new(false) }
    }

    pub(super) fn enter(self: &Arc<Self>, limit: usize) -> Result<Call, Refused> {
        // counted before the flag is read, so that a drain sees every call that it does not refuse
        let mut count = 0;
        self.in_flight.send_modify(|in_flight| {
            *in_flight += 1;
            count = *in_flight;
        });
        let call = Call(Arc::clone(self));
        if self.is_draining() {
            return Err(Refused::Draining);
        }
        if count > limit { Err(Refused::Full) } else { Ok(call) }
    }

    pub(super) fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Lets no more calls in and waits for those in flight; the number of those that are left after `time`.
    pub(super) async fn drain(&self, time: Duration) -> usize {
        self.draining.store(true, Ordering::SeqCst);
        let mut in_flight = self.in_flight.subscribe();
        let done = in_flight.wait_for(|&count| count == 0);
        match tokio::time::timeout(time, done).await {
            Ok(_) => 0,
            Err(_) => self.in_flight(),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|in_flight| *in_flight -= 1);
    }
}

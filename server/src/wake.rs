//! Signals between the parts of the server. A signal says "look again", never what changed: whoever
//! is woken reads everything it decides on from the store. Losing one costs time until the next
//! clock tick, never correctness.

use tokio::sync::{Notify, watch};

/// One signal per loop, and one for those who wait for any change of Runs.
#[derive(Debug)]
pub struct Wake {
    /// New nominations: combinations may be missing.
    pub project: Notify,
    /// New waiting Runs.
    pub initialize: Notify,
    /// Runs to start, or workers to look at.
    pub run: Notify,
    /// Runs whose work is over.
    pub finish: Notify,
    /// Volumes that nothing refers to.
    pub collect: Notify,
    changed: watch::Sender<u64>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            project: Notify::new(),
            initialize: Notify::new(),
            run: Notify::new(),
            finish: Notify::new(),
            collect: Notify::new(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Wake {
    /// Tells those who wait that some Run or Data changed.
    pub fn changed(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Follows changes: look, then wait on the receiver, then look again.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

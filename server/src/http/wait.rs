//! Long polls: look, wait for a change, look again, until it is so or the time is over.

use super::query::Query;
use super::refused::Answer;
use crate::app::App;
use crate::clock;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long a wait lasts when the client does not say, in seconds.
const USUAL: u64 = 30;
/// How long it lasts at most, in seconds.
const LONGEST: u64 = 300;

/// One client's wait.
pub(super) struct Wait {
    app: App,
    changes: watch::Receiver<u64>,
    deadline: Instant,
}

impl Wait {
    /// Begins to wait, before the first look: no change after that look is missed.
    pub(super) fn begin(app: &App, query: &Query) -> Answer<Self> {
        let deadline = clock::deadline(query.timeout(USUAL, LONGEST)?);
        Ok(Self { app: app.clone(), changes: app.wake.subscribe(), deadline })
    }

    /// True after a change, when it is worth looking again; false when the time is over or the server
    /// stops.
    pub(super) async fn changed(&mut self) -> bool {
        let changed = async {
            tokio::select! {
                () = self.app.closing.cancelled() => false,
                changed = self.changes.changed() => changed.is_ok(),
            }
        };
        timeout_at(self.deadline, changed).await.unwrap_or(false)
    }
}

//! Which Runs are in hand. Two loops never act on the same Run at the same time in one process: a
//! worker must not be started by one while another removes it. Between processes the claim decides who may act, and
//! its fence whose outcome counts.

use knit_api::id::RunId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

type Locks = Arc<Mutex<HashMap<RunId, Arc<tokio::sync::Mutex<()>>>>>;

/// The Runs in hand.
#[derive(Debug, Default)]
pub(super) struct Hands(Locks);

/// A Run in hand; let go when dropped.
#[derive(Debug)]
pub(super) struct Held {
    run: RunId,
    locks: Locks,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Hands {
    /// Waits until nobody has the Run in hand, and takes it.
    pub(super) async fn hold(&self, run: &RunId) -> Held {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(run.clone()).or_default())
        };
        let guard = lock.lock_owned().await;
        Held { run: run.clone(), locks: Arc::clone(&self.0), guard: Some(guard) }
    }

    /// Whether somebody has the Run in hand, or waits for it.
    pub(super) fn has(&self, run: &RunId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(run)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // Under the map's lock nobody new can come: a count of one means that nobody waits.
        if locks.get(&self.run).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_is_in_one_hand_at_a_time_and_forgotten_afterwards() {
        let hands = Arc::new(Hands::default());
        let run = RunId::new("r");
        let first = hands.hold(&run).await;
        let other = Arc::clone(&hands);
        let waiting = tokio::spawn(async move { other.hold(&RunId::new("r")).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && hands.has(&run));
        drop(hands.hold(&RunId::new("another")).await);
        drop(first);
        drop(waiting.await.unwrap());
        assert!(!hands.has(&run) && hands.0.lock().unwrap().is_empty());
    }
}

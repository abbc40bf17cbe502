//! The claims of one loop, kept while their steps are under way.
//!
//! A claim ends by itself after a while, so that others can take up the work of a process that died. As long as its
//! step goes on it is renewed, all claims of the loop with one transaction. A step whose claim is lost, or may come to
//! its end before it can be renewed, is cut off: by the time that another process has the Run, nobody acts on it here.

use crate::app::App;
use crate::clock;
use crate::store::{Claim, Lease};
use knit_api::id::RunId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How often a claim is renewed before it would end.
const BEATS: u32 = 5;

/// The claims in hand.
pub(super) struct Leases {
    app: App,
    /// Of the loop, for the log.
    name: &'static str,
    owner: String,
    length: Duration,
    held: Mutex<HashMap<(RunId, i64), Held>>,
}

struct Held {
    /// Until when the claim is known to hold.
    until: Instant,
    step: AbortHandle,
}

impl Leases {
    pub(super) fn new(app: &App, name: &'static str) -> Self {
        Self {
            app: app.clone(),
            name,
            owner: format!("{name}-{}", clock::new_id()),
            length: app.settings.lease(),
            held: Mutex::default(),
        }
    }

    /// In whose name this loop claims.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// How long a claim holds that is not renewed.
    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// A step has begun on a claim that holds until then.
    pub(super) fn begin(&self, claim: &Claim, until: Instant, step: AbortHandle) {
        self.held().insert((claim.run.clone(), claim.attempt), Held { until, step });
    }

    /// Its step is over.
    pub(super) fn end(&self, claim: &Claim) {
        self.held().remove(&(claim.run.clone(), claim.attempt));
    }

    /// Renews what is in hand, for ever.
    pub(super) async fn keep(&self) {
        let beat = self.length / BEATS;
        loop {
            tokio::time::sleep(beat).await;
            if self.held().is_empty() {
                continue;
            }
            // No longer than until the next beat: what cannot be renewed in time must be noticed in time.
            match tokio::time::timeout(beat, self.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(r#loop = self.name, %error, "claims could not be renewed"),
                Err(_) => tracing::error!(r#loop = self.name, "claims could not be renewed in time"),
            }
            self.cut_off_before(clock::deadline(beat * 2));
        }
    }

    async fn renew(&self) -> Result<(), crate::store::StoreError> {
        let (until, lasting) = (clock::deadline(self.length), clock::after(self.length));
        let renewed: Vec<(RunId, i64)> = self.held().keys().cloned().collect();
        let runs: Vec<RunId> = renewed.iter().map(|(run, _)| run.clone()).collect();
        let leases = self.app.store.renew(&self.owner, &runs, lasting).await?;
        let mut held = self.held();
        for key in renewed {
            let Some(claim) = held.get_mut(&key) else { continue };
            match leases.iter().find(|lease| (&lease.run, lease.attempt) == (&key.0, key.1)) {
                Some(Lease { until: then, .. }) if *then == lasting => claim.until = until,
                // Somebody was changing the Run: next time.
                Some(_) => {}
                // Its step may have settled it at this very moment; then there is nothing left to cut off.
                None => claim.until = clock::deadline(Duration::ZERO),
            }
        }
        Ok(())
    }

    /// Ends the steps whose claims hold no longer than that.
    fn cut_off_before(&self, then: Instant) {
        for ((run, attempt), held) in self.held().iter().filter(|(_, held)| held.until <= then) {
            if !held.step.is_finished() {
                tracing::warn!(r#loop = self.name, %run, attempt, "a claim is lost; what was being done with the Run ends");
                held.step.abort();
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(RunId, i64), Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

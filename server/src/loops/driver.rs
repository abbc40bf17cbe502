//! The driver of the loops that hold Runs: claims what is due, acts on several at a time, and gives
//! back with a pause what did not work.

use super::hands::Hands;
use super::leases::Leases;
use super::{TICK, Trouble};
use crate::app::App;
use crate::clock::{self, Stopwatch};
use crate::rules::backoff;
use crate::store::{Claim, StoreError};
use crate::wake::Signal;
use async_trait::async_trait;
use knit_api::id::RunId;
use knit_api::problem::in_words;
use knit_api::run::RunStatus;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};

/// How long steps may go on when the process is asked to stop and others can take up their Runs.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// What one loop does with the Runs that are its own.
#[async_trait]
pub(super) trait Duty: Send + Sync + 'static {
    /// For the log.
    const NAME: &'static str;
    /// The statuses in which a Run is this loop's.
    const STATUSES: &'static [RunStatus];
    /// How many Runs at one time.
    const AT_ONCE: usize;

    /// The signal that calls this loop.
    fn call(app: &App) -> &Signal;

    /// One step for one Run.
    async fn act(&self, claim: &Claim) -> Result<(), Trouble>;

    /// After a step, once the Run is out of hand.
    async fn let_go(&self, _run: &RunId) -> Result<(), Trouble> {
        Ok(())
    }
}

/// Drives one loop until the process is asked to stop, and then to the end of what it has in hand.
pub(super) async fn drive<D: Duty>(app: App, hands: Arc<Hands>, duty: D) {
    let leases = Arc::new(Leases::new(&app, D::NAME));
    let driver = Arc::new(Driver { app, hands, duty, leases: Arc::clone(&leases) });
    // Renewing must not wait for claiming, nor the other way round.
    tokio::select! {
        () = driver.run() => {}
        () = leases.keep() => {}
    }
}

struct Driver<D> {
    app: App,
    hands: Arc<Hands>,
    duty: D,
    leases: Arc<Leases>,
}

/// What a look at the store has left to wait for.
enum Look {
    /// There may be more that is due: look again as soon as a hand is free.
    More,
    /// Nothing more is due for this long.
    Rest(Duration),
}

/// How a step went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Settled,
    /// It is due again after a pause that the driver does not know of yet.
    GivenBack,
}

impl<D: Duty> Driver<D> {
    async fn run(self: Arc<Self>) {
        let mut acts = JoinSet::new();
        let mut claims = HashMap::new();
        loop {
            let look = match self.take_up(&mut acts, &mut claims).await {
                Ok(look) => look,
                Err(error) => {
                    tracing::error!(r#loop = D::NAME, %error, "Runs could not be claimed");
                    Look::Rest(TICK)
                }
            };
            if !self.rest(look, &mut acts, &mut claims).await {
                break;
            }
        }
        self.wind_up(acts, claims).await;
    }

    /// Lets steps come to their end. Where other processes can go on with a Run this is cut short, and all claims are
    /// given back for them.
    async fn wind_up(&self, mut acts: JoinSet<Outcome>, mut claims: HashMap<Id, Claim>) {
        let last_steps = async {
            while let Some(ended) = acts.join_next_with_id().await {
                self.ended(ended, &mut claims).await;
            }
        };
        if self.app.settings.is_alone() {
            return last_steps.await;
        }
        let _ = tokio::time::timeout(LAST_STEPS, last_steps).await;
        acts.shutdown().await;
        match self.app.store.release_all(self.leases.owner()).await {
            Ok(0) => {}
            Ok(runs) => {
                tracing::info!(r#loop = D::NAME, runs, "Runs in hand are left to other processes");
                D::call(&self.app).notify_one();
            }
            Err(error) => {
                tracing::error!(r#loop = D::NAME, %error, "claims are not given back; they end by themselves");
            }
        }
    }

    /// Claims what is due, as far as hands are free, and begins to act on it.
    async fn take_up(
        self: &Arc<Self>,
        acts: &mut JoinSet<Outcome>,
        claims: &mut HashMap<Id, Claim>,
    ) -> Result<Look, StoreError> {
        let free = D::AT_ONCE - acts.len();
        if free == 0 {
            return Ok(Look::More);
        }
        self.app.metrics.round(D::NAME);
        let (store, now) = (&self.app.store, clock::now());
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        let (lease, until) = (self.leases.length(), clock::deadline(self.leases.length()));
        let claimed = store.claim(D::STATUSES, self.leases.owner(), now, clock::after(lease), limit).await?;
        let full = claimed.len() == free;
        self.app.metrics.claimed(D::NAME, claimed.len());
        for claim in claimed {
            tracing::debug!(r#loop = D::NAME, run = %claim.run, status = %claim.status, attempt = claim.attempt, "claimed");
            let (driver, own) = (Arc::clone(self), claim.clone());
            let act = acts.spawn(async move { driver.act(&own).await });
            self.leases.begin(&claim, until, act.clone());
            claims.insert(act.id(), claim);
        }
        if full {
            return Ok(Look::More);
        }
        let due = store.next_due(D::STATUSES).await?;
        Ok(Look::Rest(due.map_or(TICK, |due| clock::until(due).clamp(Duration::from_millis(10), TICK))))
    }

    /// Waits for a reason to look again; false when the process is asked to stop.
    async fn rest(&self, look: Look, acts: &mut JoinSet<Outcome>, claims: &mut HashMap<Id, Claim>) -> bool {
        let (more, longest) = match look {
            Look::More => (true, TICK),
            Look::Rest(longest) => (false, longest),
        };
        let rest = tokio::time::sleep(longest);
        tokio::pin!(rest);
        loop {
            tokio::select! {
                biased;
                () = self.app.stopping.cancelled() => return false,
                Some(ended) = acts.join_next_with_id(), if !acts.is_empty() => {
                    let outcome = self.ended(ended, claims).await;
                    if more || outcome == Outcome::GivenBack {
                        return true;
                    }
                }
                () = D::call(&self.app).notified() => return true,
                () = &mut rest => return true,
            }
        }
    }

    async fn act(&self, claim: &Claim) -> Outcome {
        let run = &claim.run;
        let held = self.hands.hold(run).await;
        let mut outcome = Outcome::Settled;
        let watch = Stopwatch::start();
        let acted = self.duty.act(claim).await;
        self.app.metrics.step(D::NAME, acted.is_ok(), watch.elapsed());
        if let Err(trouble) = acted {
            outcome = Outcome::GivenBack;
            let pause = backoff::pause(claim.failures.saturating_add(1));
            let failures = claim.failures.saturating_add(1);
            tracing::error!(r#loop = D::NAME, %run, status = %claim.status, failures, error = %trouble, "a step failed");
            self.give_back(claim, pause, &in_words(&trouble.to_string())).await;
            // If a user stopped the Run meanwhile, its end could not be claimed until now.
            self.app.wake.finish.notify_one();
            self.app.wake.changed();
        }
        drop(held);
        self.let_go(run).await;
        outcome
    }

    async fn let_go(&self, run: &RunId) {
        if let Err(error) = self.duty.let_go(run).await {
            tracing::error!(r#loop = D::NAME, %run, %error, "a sign of its worker is looked at only later");
        }
    }

    /// Gives the claim back, and does not rest until that is recorded: nobody else would take it up.
    async fn give_back(&self, claim: &Claim, pause: Duration, error: &str) {
        for failures in 1.. {
            let Err(trouble) = self.app.store.give_back(claim, clock::after(pause), error).await else { return };
            tracing::error!(r#loop = D::NAME, run = %claim.run, error = %trouble, "a Run could not be given back");
            tokio::select! {
                () = self.app.stopping.cancelled() => return,
                () = tokio::time::sleep(backoff::pause(failures)) => {}
            }
        }
    }

    async fn ended(&self, ended: Result<(Id, Outcome), JoinError>, claims: &mut HashMap<Id, Claim>) -> Outcome {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(claim) = claims.remove(&id) else { return Outcome::GivenBack };
        self.leases.end(&claim);
        match ended {
            Ok((_, outcome)) => outcome,
            Err(error) if error.is_panic() => {
                tracing::error!(r#loop = D::NAME, run = %claim.run, "a step ran into a bug");
                self.give_back(&claim, backoff::pause(i64::MAX), "the server ran into a bug; see its log").await;
                Outcome::GivenBack
            }
            Err(_) => {
                // It was cut off, perhaps right behind its record: signs that came meanwhile are still to be passed on.
                self.let_go(&claim.run).await;
                Outcome::GivenBack
            }
        }
    }
}

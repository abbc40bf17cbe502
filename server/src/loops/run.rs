//! Workers: started when the engine has room, then followed to their end.
//!
//! The engine tells when a worker changed or room was freed. A sign may come while the Run is in hand,
//! between the look at its worker and the record of that look: [`Hints`] keeps such signs, and the Run
//! becomes due at once when it is let go.
//!
//! With several processes each hears all signs. One that does not have the Run in hand makes it due in the store at
//! once, and forgets the sign. That alone would not do: the process that has the Run in hand may have looked before
//! the sign, and its record would put off the next look again. But that process hears the sign, too: either while it
//! has the Run in hand, and then makes it due when it lets it go, or after that, and then makes it due like everybody
//! else. Should it die before, its claim ends by itself, and the Run is then as due as the others have made it. So after
//! each sign somebody looks who begins after it.

use super::driver::Duty;
use super::hands::Hands;
use super::{TICK, Trouble};
use crate::app::App;
use crate::clock;
use crate::engine::{EngineEvent, Started, Work};
use crate::rules::lifecycle::{self, Step};
use crate::store::{Claim, Settle};
use crate::wake::Signal;
use async_trait::async_trait;
use knit_api::id::RunId;
use knit_api::run::{Exit, RunStatus};
use knit_api::time::Timestamp;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// When to look at a worker again without a sign of it.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// When to ask for room again without a sign of it.
const NO_ROOM: Duration = Duration::from_secs(30);
/// When to ask again for what is larger than this machine: it may have grown meanwhile.
const NEVER_FITS: Duration = Duration::from_hours(1);
/// How many Runs try their luck when room was freed and the one that has waited longest is too large for it.
const CANDIDATES: u32 = 8;

/// Signs of the engine that no look has taken into account yet.
#[derive(Debug, Default)]
pub(super) struct Hints {
    workers: Mutex<HashSet<RunId>>,
    /// Counts the signs of freed room.
    rooms: AtomicU64,
    /// Some Run was told that there is no room for it: others may be waiting.
    crowded: AtomicBool,
    /// Room was freed, and no Run has taken any of it yet.
    unfilled: AtomicBool,
}

impl Hints {
    fn note(&self, run: &RunId) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone());
    }

    /// True when there was a sign; it is taken.
    pub(super) fn take(&self, run: &RunId) -> bool {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(run)
    }

    fn rooms(&self) -> u64 {
        self.rooms.load(Ordering::SeqCst)
    }
}

/// Turns signs of the engine into due Runs, until the process is asked to stop.
pub(super) async fn listen(app: App, mut events: UnboundedReceiver<EngineEvent>, hands: Arc<Hands>, hints: Arc<Hints>) {
    loop {
        let event = tokio::select! {
            () = app.stopping.cancelled() => return,
            event = events.recv() => event,
        };
        let Some(event) = event else { return };
        let (workers, freed) = sort(event, &mut events);
        for run in workers {
            hints.note(&run);
            // A Run in hand is hastened by whoever lets it go.
            if !hands.has(&run) {
                report(&run, hasten(&app, &hints, &run).await);
            }
        }
        if freed > 0 {
            hints.rooms.fetch_add(1, Ordering::SeqCst);
            hints.unfilled.store(true, Ordering::SeqCst);
            if let Err(error) = app.store.hasten_ready(clock::now(), freed).await {
                tracing::error!(r#loop = "run", %error, "Runs that wait for room look for it only later");
            }
        }
        app.wake.run.notify_one();
    }
}

/// All events there are: each Run once, and how often room was freed.
fn sort(first: EngineEvent, events: &mut UnboundedReceiver<EngineEvent>) -> (HashSet<RunId>, u32) {
    let (mut workers, mut freed) = (HashSet::new(), 0);
    let mut next = Some(first);
    while let Some(event) = next {
        match event {
            EngineEvent::Worker(run) => {
                workers.insert(run);
            }
            EngineEvent::Room => freed += 1,
        }
        next = events.try_recv().ok();
    }
    (workers, freed)
}

fn report(run: &RunId, outcome: Result<(), Trouble>) {
    if let Err(error) = outcome {
        tracing::error!(r#loop = "run", %run, %error, "a sign of its worker is looked at only later");
    }
}

/// Makes the Run due if a sign of its worker is waiting and its worker is still to be followed.
async fn hasten(app: &App, hints: &Hints, run: &RunId) -> Result<(), Trouble> {
    if !hints.take(run) {
        return Ok(());
    }
    if let Some(RunStatus::Ready | RunStatus::Starting | RunStatus::Running) = app.store.run_status(run).await? {
        app.store.hasten(run, clock::now()).await?;
        app.wake.run.notify_one();
    }
    Ok(())
}

/// Starts workers and follows them.
pub(super) struct Follow {
    app: App,
    hints: Arc<Hints>,
}

#[async_trait]
impl Duty for Follow {
    const NAME: &'static str = "run";
    const STATUSES: &'static [RunStatus] = &[RunStatus::Ready, RunStatus::Starting, RunStatus::Running];
    const AT_ONCE: usize = 16;

    fn call(app: &App) -> &Signal {
        &app.wake.run
    }

    async fn act(&self, claim: &Claim) -> Result<(), Trouble> {
        self.hints.take(&claim.run);
        let seen = self.app.engine.observe(&claim.run).await?;
        match lifecycle::next(claim.status, &seen) {
            Step::Start => self.begin(claim).await,
            Step::Become { status, exit, reason, image_digest } => {
                let due = next_look(status);
                self.settle(claim, Settle { status, exit, due, reason, image_digest }).await.map(|_| ())
            }
            // Never for the statuses that this loop claims.
            Step::MakeVolumes | Step::Finish(_) | Step::Nothing => Ok(()),
        }
    }

    async fn let_go(&self, run: &RunId) -> Result<(), Trouble> {
        hasten(&self.app, &self.hints, run).await
    }
}

impl Follow {
    pub(super) fn new(app: App, hints: Arc<Hints>) -> Self {
        Self { app, hints }
    }

    /// Asks the engine for a worker.
    async fn begin(&self, claim: &Claim) -> Result<(), Trouble> {
        let Some(work) = self.app.store.work(&claim.run).await? else {
            // Gone since the claim, and its claim with it.
            return Ok(());
        };
        let rooms = self.hints.rooms();
        match self.app.engine.start(&work).await? {
            Started::Accepted => self.accepted(claim).await,
            Started::NoRoom { reason } => {
                // Room that was freed while this Run asked gave its sign before anyone waited for it.
                let missed = self.hints.rooms() != rooms;
                self.pass_on().await?;
                tracing::debug!(r#loop = "run", run = %claim.run, reason, "a Run waits for room");
                let due = if missed { clock::now() } else { clock::after(NO_ROOM) };
                self.stay_ready(claim, due, reason).await?;
                if missed {
                    self.app.wake.run.notify_one();
                }
                Ok(())
            }
            Started::NeverFits { reason } => {
                tracing::warn!(r#loop = "run", run = %claim.run, reason, "a Run cannot start here as it is");
                self.stay_ready(claim, clock::after(NEVER_FITS), reason).await?;
                self.reconsider(&work).await
            }
        }
    }

    /// What the Plan asks for may have changed while its Run was refused, before the refusal was recorded and
    /// the change could make it due.
    async fn reconsider(&self, refused: &Work) -> Result<(), Trouble> {
        let now = self.app.store.work(&refused.run).await?;
        if now.is_some_and(|now| now.resources != refused.resources) {
            self.app.store.hasten(&refused.run, clock::now()).await?;
            self.app.wake.run.notify_one();
        }
        Ok(())
    }

    /// There is room, but this Run is too large for it: smaller ones behind it may try. Once for each time
    /// that room was freed, or a long queue would be tried in vain each time.
    async fn pass_on(&self) -> Result<(), Trouble> {
        self.hints.crowded.store(true, Ordering::SeqCst);
        if self.hints.unfilled.swap(false, Ordering::SeqCst) {
            self.app.store.hasten_ready(clock::now(), CANDIDATES).await?;
            self.app.wake.run.notify_one();
        }
        Ok(())
    }

    /// This Run has taken room. If others wait for some, there may be more of it: the next one tries.
    async fn call_next(&self) -> Result<(), Trouble> {
        self.hints.unfilled.store(false, Ordering::SeqCst);
        if self.hints.crowded.load(Ordering::SeqCst) {
            self.app.store.hasten_ready(clock::now(), 1).await?;
            self.app.wake.run.notify_one();
        }
        Ok(())
    }

    async fn accepted(&self, claim: &Claim) -> Result<(), Trouble> {
        let starting = Settle {
            status: RunStatus::Starting,
            exit: None,
            due: clock::after(TICK),
            reason: Some(String::new()),
            image_digest: None,
        };
        // If a user stopped the Run meanwhile, whoever ends it ends the worker. It is not removed here: with the claim
        // gone, it may be another process that follows this worker already.
        self.settle(claim, starting).await?;
        self.call_next().await
    }

    async fn stay_ready(&self, claim: &Claim, due: Timestamp, reason: String) -> Result<(), Trouble> {
        let ready = Settle { status: RunStatus::Ready, exit: None, due, reason: Some(reason), image_digest: None };
        self.settle(claim, ready).await.map(|_| ())
    }

    /// Records what was found out, and tells whoever goes on from there.
    async fn settle(&self, claim: &Claim, settle: Settle) -> Result<bool, Trouble> {
        let app = &self.app;
        let settled = app.store.settle(claim, &settle, clock::now()).await?;
        if settled && settle.status != claim.status {
            log_change(claim, &settle);
        }
        // A claim that was lost was lost to a user who stopped the Run: its end could not be claimed until now.
        if !settled || matches!(settle.status, RunStatus::Completing | RunStatus::Aborting) {
            app.wake.finish.notify_one();
        }
        app.wake.changed();
        Ok(settled)
    }
}

/// When the Run is to be looked at again, by this loop or, when its work is over, by the one that ends it.
fn next_look(status: RunStatus) -> Timestamp {
    match status {
        RunStatus::Completing | RunStatus::Aborting => clock::now(),
        _ => clock::after(LOOK_AGAIN),
    }
}

fn log_change(claim: &Claim, settle: &Settle) {
    let (run, from, to) = (&claim.run, claim.status, settle.status);
    if let Some(Exit { code, message }) = &settle.exit {
        tracing::info!(r#loop = "run", %run, %from, %to, code, message, "a Run moved");
    } else {
        tracing::info!(r#loop = "run", %run, %from, %to, "a Run moved");
    }
}

//! What Knit does by itself: one file per loop, one driver for those that hold Runs.
//!
//! A loop is woken by a signal and by a clock; it is never told what changed: it reads everything it
//! decides on. Doing it twice does nothing. It does not retry inside: the next round, with back-off on
//! the Run, is the retry. It claims a Run, acts on it, and settles what came out only if the claim is
//! still its own. Every error is logged with the id of what it was about.
//!
//! Many processes may run the same loops over one PostgreSQL database: a Run is one process's while its claim holds
//! ([`leases`]), what is done twice comes to the same, and everything else is decided by the store.
//!
//! [`project`] makes Runs of new combinations, [`initialize`] their volumes, [`run`] their workers,
//! [`finish`] seals what came out; [`collect`] and [`housekeep`] remove what nothing refers to.

mod collect;
mod driver;
mod finish;
mod hands;
mod housekeep;
mod images;
mod initialize;
mod leases;
mod project;
mod run;
mod stop;

use crate::app::App;
use crate::clock;
use crate::content::ContentStore;
use crate::engine::EngineError;
use crate::settings::Role;
use crate::store::StoreError;
use hands::Hands;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use stop::{Stopped, put_back};

/// The clock by which every loop looks again even if no signal came.
const TICK: Duration = Duration::from_secs(5);

/// Why a step of a loop did not work.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The loops of one process, under way.
#[derive(Debug)]
pub struct Loops(JoinSet<()>);

impl Loops {
    /// Takes over what an earlier process left behind, then starts the loops of this process's roles. They end
    /// when the process is asked to stop, after what they have in hand.
    pub async fn start(app: &App) -> Result<Self, StoreError> {
        let plays = |role| app.settings.plays(role);
        let mut all = JoinSet::new();
        if let Some(content) = app.content.clone() {
            all.spawn(images::collect_content(content, app.stopping.clone()));
        }
        // Beside others there is nothing to take over: what is held may be theirs, and what no row knows yet may
        // be on its way.
        let mut strays = housekeep::Suspects::new();
        if app.settings.is_alone() {
            app.store.take_over(clock::now()).await?;
            strays = housekeep::strays_at_start(app).await;
        }
        let hands = Arc::new(Hands::default());
        let hints = Arc::new(run::Hints::default());
        let hand = || (app.clone(), Arc::clone(&hands));
        if plays(Role::Projection) {
            all.spawn(project::project(app.clone()));
        }
        if plays(Role::Initialize) {
            let (app, hands) = hand();
            all.spawn(driver::drive(app.clone(), hands, initialize::Initialize(app)));
        }
        if plays(Role::RunManagement) {
            // Before the first look at a worker: no sign after that look is missed.
            let events = app.engine.events();
            let (app, hands) = hand();
            all.spawn(run::listen(app.clone(), events, Arc::clone(&hands), Arc::clone(&hints)));
            all.spawn(driver::drive(app.clone(), hands, run::Follow::new(app, Arc::clone(&hints))));
        }
        if plays(Role::Finishing) {
            let (app, hands) = hand();
            all.spawn(driver::drive(app.clone(), hands, finish::Finish::new(app, Arc::clone(&hints))));
        }
        if plays(Role::GarbageCollection) {
            all.spawn(collect::collect(app.clone()));
        }
        if plays(Role::Housekeeping) {
            let (app, hands) = hand();
            all.spawn(housekeep::housekeep(app, hands, strays));
        }
        Ok(Self(all))
    }

    /// Starts what a registry does by itself that is alone in its process.
    pub fn of_registry(content: Arc<ContentStore>, stopping: CancellationToken) -> Self {
        let mut all = JoinSet::new();
        all.spawn(images::collect_content(content, stopping));
        Self(all)
    }

    /// Waits until all have ended, at most this long.
    pub async fn ended(mut self, longest: Duration) {
        let all = async {
            while let Some(ended) = self.0.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a loop ran into a bug");
                }
            }
        };
        if tokio::time::timeout(longest, all).await.is_err() {
            tracing::warn!("some work was still under way; it will be taken up at the next start");
        }
    }
}

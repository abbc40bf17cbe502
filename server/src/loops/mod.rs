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
mod initialize;
mod leases;
mod project;
mod run;
mod stop;

use crate::app::App;
use crate::clock;
use crate::engine::EngineError;
use crate::store::StoreError;
use hands::Hands;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

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
    /// Starts all loops. They end when the process is asked to stop, after what they have in hand. The only process of
    /// a database takes over before what an earlier one left behind.
    pub async fn start(app: &App) -> Result<Self, StoreError> {
        let mut strays = HashSet::new();
        if app.settings.is_alone() {
            app.store.take_over(clock::now()).await?;
            strays = housekeep::strays_at_start(app).await;
        }
        // Before the first look at a worker: no sign after that look is missed.
        let events = app.engine.events();

        let hands = Arc::new(Hands::default());
        let hints = Arc::new(run::Hints::default());
        let mut all = JoinSet::new();
        all.spawn(project::project(app.clone()));
        all.spawn(driver::drive(app.clone(), Arc::clone(&hands), initialize::Initialize(app.clone())));
        all.spawn(run::listen(app.clone(), events, Arc::clone(&hands), Arc::clone(&hints)));
        all.spawn(driver::drive(app.clone(), Arc::clone(&hands), run::Follow::new(app.clone(), Arc::clone(&hints))));
        all.spawn(driver::drive(app.clone(), Arc::clone(&hands), finish::Finish::new(app.clone(), hints)));
        all.spawn(collect::collect(app.clone()));
        all.spawn(housekeep::housekeep(app.clone(), hands, strays));
        Ok(Self(all))
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

//! A waiting Run gets its output volumes, empty and with nobody writing into them; then it is ready.

use super::Trouble;
use super::driver::Duty;
use crate::app::App;
use crate::clock;
use crate::engine::Observation;
use crate::store::{Claim, Settle};
use crate::wake::Signal;
use async_trait::async_trait;
use knit_api::run::RunStatus;

pub(super) struct Initialize(pub(super) App);

#[async_trait]
impl Duty for Initialize {
    const NAME: &'static str = "initialize";
    const STATUSES: &'static [RunStatus] = &[RunStatus::Waiting];
    const AT_ONCE: usize = 8;

    fn call(app: &App) -> &Signal {
        &app.wake.initialize
    }

    async fn act(&self, claim: &Claim) -> Result<(), Trouble> {
        let Self(app) = self;
        // A stop that was cut off may have left one, which must not write into what is new.
        if app.engine.observe(&claim.run).await? != Observation::Absent {
            app.engine.remove_worker(&claim.run, app.settings.grace).await?;
        }
        for (_, volume) in app.store.outputs(&claim.run).await? {
            app.engine.create_volume(&volume).await?;
        }
        let now = clock::now();
        let ready =
            Settle { status: RunStatus::Ready, exit: None, due: now, reason: Some(String::new()), image_digest: None };
        if app.store.settle(claim, &ready, now).await? {
            app.wake.run.notify_one();
            app.wake.changed();
        } else {
            // A user stopped the Run meanwhile; its end could not be claimed until now.
            app.wake.finish.notify_one();
        }
        Ok(())
    }
}

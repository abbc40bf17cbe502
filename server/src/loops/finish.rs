//! The end of a Run: its worker is removed, its outputs and its log become final, and it is done or
//! failed.

use super::Trouble;
use super::driver::Duty;
use super::run::Hints;
use crate::app::App;
use crate::clock;
use crate::engine::{EngineError, Observation, Sealed};
use crate::store::Claim;
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use knit_api::id::{DataId, RunId};
use knit_api::run::RunStatus;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Longest message about what was left out, in characters.
const LONGEST_MESSAGE: usize = 1000;

/// Outputs of one Run that are sealed at one time.
const SEALS: usize = 4;

pub(super) struct Finish {
    app: App,
    hints: Arc<Hints>,
}

#[async_trait]
impl Duty for Finish {
    const NAME: &'static str = "finish";
    const STATUSES: &'static [RunStatus] = &[RunStatus::Completing, RunStatus::Aborting];
    /// More than cpus: most of them wait for a worker that takes its time to end.
    const AT_ONCE: usize = 32;

    fn call(app: &App) -> &Notify {
        &app.wake.finish
    }

    async fn act(&self, claim: &Claim) -> Result<(), Trouble> {
        let app = &self.app;
        let sealed = match app.engine.observe(&claim.run).await? {
            // Its processes are gone and nothing is written any more: both at once.
            Observation::Absent | Observation::Ended { .. } => {
                tokio::try_join!(self.seal_outputs(claim), self.remove_worker(&claim.run, Duration::ZERO))?.0
            }
            // A user stopped it: it may take its time to end.
            Observation::Preparing { .. } | Observation::Running { .. } => {
                self.remove_worker(&claim.run, app.settings.grace).await?;
                self.seal_outputs(claim).await?
            }
        };
        let message = left_out(&sealed);
        if app.store.finish(claim, &sealed, message.as_deref(), clock::now()).await? {
            let to = if claim.status == RunStatus::Completing { RunStatus::Done } else { RunStatus::Failed };
            tracing::info!(r#loop = "finish", run = %claim.run, from = %claim.status, %to, "a Run ended");
            app.wake.project.notify_one();
            app.wake.collect.notify_one();
        }
        app.wake.changed();
        Ok(())
    }

    /// Signs of a worker that is gone are for nobody.
    async fn let_go(&self, run: &RunId) -> Result<(), Trouble> {
        self.hints.take(run);
        Ok(())
    }
}

impl Finish {
    pub(super) fn new(app: App, hints: Arc<Hints>) -> Self {
        Self { app, hints }
    }

    async fn remove_worker(&self, run: &RunId, grace: Duration) -> Result<(), Trouble> {
        let app = &self.app;
        Ok(app.engine.remove_worker(run, grace).await?)
    }

    /// Also what a failed Run has written is kept and sealed: that is what one looks into then.
    async fn seal_outputs(&self, claim: &Claim) -> Result<Vec<(DataId, Sealed)>, Trouble> {
        let app = &self.app;
        let outputs = app.store.outputs(&claim.run).await?;
        let sealed = stream::iter(outputs).map(|(data, volume)| async move {
            match app.engine.seal(&volume).await {
                Ok(sealed) => Ok(Some((data, sealed))),
                // It may have been stopped before it had any volume.
                Err(EngineError::NotFound(_)) if claim.status == RunStatus::Aborting => Ok(None),
                Err(error) => Err(Trouble::from(error)),
            }
        });
        sealed.buffered(SEALS).try_filter_map(|sealed| async { Ok(sealed) }).try_collect().await
    }
}

/// What the outputs held that cannot be kept, as a sentence.
fn left_out(sealed: &[(DataId, Sealed)]) -> Option<String> {
    let all: Vec<&str> = sealed.iter().flat_map(|(_, sealed)| &sealed.left_out).map(String::as_str).collect();
    let mut message = String::from("left out of the outputs: ");
    for (index, one) in all.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        if message.chars().count() + separator.len() + one.chars().count() > LONGEST_MESSAGE {
            let _ = write!(message, "{separator}{} more", all.len() - index);
            break;
        }
        message.push_str(separator);
        message.push_str(one);
    }
    (!all.is_empty()).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(left_out: &[String]) -> Vec<(DataId, Sealed)> {
        let sealed = Sealed { digest: String::new(), entries: 0, bytes: 0, left_out: left_out.to_vec() };
        vec![(DataId::new("d"), sealed)]
    }

    #[test]
    fn what_was_left_out_is_named_and_counted_when_it_is_much() {
        assert_eq!(left_out(&sealed(&[])), None);
        let two = ["a: a socket".to_owned(), "b: a FIFO".to_owned()];
        assert_eq!(left_out(&sealed(&two)).unwrap(), "left out of the outputs: a: a socket; b: a FIFO");
        let many: Vec<String> = (0..100).map(|n| format!("folder/entry number {n}: a device")).collect();
        let message = left_out(&sealed(&many)).unwrap();
        assert!(message.chars().count() < LONGEST_MESSAGE + 20 && message.ends_with(" more"), "{message}");
    }
}

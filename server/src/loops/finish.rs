//! The end of a Run: its worker is removed, its outputs and its log become final, and it is done or
//! failed.

use super::Trouble;
use super::driver::Duty;
use super::run::Hints;
use crate::app::App;
use crate::clock;
use crate::engine::{EngineError, Sealed};
use crate::store::Claim;
use crate::wake::Signal;
use async_trait::async_trait;
use knit_api::id::{DataId, RunId};
use knit_api::run::{Exit, RunStatus, exit_code};
use std::fmt::Write;
use std::sync::Arc;

/// Longest message about what was left out, in characters.
const LONGEST_MESSAGE: usize = 1000;

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

    fn call(app: &App) -> &Signal {
        &app.wake.finish
    }

    async fn act(&self, claim: &Claim) -> Result<(), Trouble> {
        let app = &self.app;
        let kept = self.conclude(claim).await?;
        let message = kept.message();
        // One that is failing anyway keeps the exit that says why.
        let failure = (claim.status == RunStatus::Completing).then(|| kept.failure()).flatten();
        if app.store.finish(claim, &kept.sealed, failure.as_ref(), message.as_deref(), clock::now()).await? {
            let done = claim.status == RunStatus::Completing && failure.is_none();
            let to = if done { RunStatus::Done } else { RunStatus::Failed };
            tracing::info!(r#loop = "finish", run = %claim.run, from = %claim.status, %to, message, "a Run ended");
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

    /// Also what a failed Run has written is kept and sealed: that is what one looks into then.
    async fn conclude(&self, claim: &Claim) -> Result<Kept, Trouble> {
        let app = &self.app;
        let (outputs, volumes): (Vec<_>, Vec<_>) = app.store.outputs(&claim.run).await?.into_iter().unzip();
        let concluded = app.engine.conclude(&claim.run, &volumes, app.settings.grace).await?;
        let mut kept = Kept::default();
        for (data, sealed) in outputs.into_iter().zip(concluded) {
            match sealed {
                Ok(sealed) => kept.sealed.push((data, sealed)),
                // It may have been stopped before it had any volume.
                Err(EngineError::NotFound(_)) if claim.status == RunStatus::Aborting => {}
                // It would be refused for ever: the Run ends without it.
                Err(EngineError::BadContent(why)) => kept.refused.push(format!("output {data} cannot be kept: {why}")),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(kept)
    }
}

/// What became of the outputs of a Run.
#[derive(Default)]
struct Kept {
    sealed: Vec<(DataId, Sealed)>,
    /// Why others cannot be kept, a sentence each. They stay as they are, for whoever looks into them.
    refused: Vec<String>,
}

impl Kept {
    /// How a Run ends that did well otherwise.
    fn failure(&self) -> Option<Exit> {
        let message = sentence("", &self.refused)?;
        Some(Exit { code: exit_code::NOT_KEPT, message })
    }

    /// What is to be said of the outputs, if anything.
    fn message(&self) -> Option<String> {
        let left_out: Vec<&String> = self.sealed.iter().flat_map(|(_, sealed)| &sealed.left_out).collect();
        sentence("", &self.refused).or_else(|| sentence("left out of the outputs: ", &left_out))
    }
}

/// All of them one after the other, as far as they fit a message.
fn sentence(begin: &str, all: &[impl AsRef<str>]) -> Option<String> {
    let mut message = begin.to_owned();
    for (index, one) in all.iter().map(AsRef::as_ref).enumerate() {
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

    fn kept(left_out: &[String]) -> Kept {
        let sealed = Sealed { digest: String::new(), entries: 0, bytes: 0, left_out: left_out.to_vec() };
        Kept { sealed: vec![(DataId::new("d"), sealed)], refused: Vec::new() }
    }

    #[test]
    fn what_was_left_out_is_named_and_counted_when_it_is_much() {
        assert_eq!(kept(&[]).message(), None);
        let two = ["a: a socket".to_owned(), "b: a FIFO".to_owned()];
        assert_eq!(kept(&two).message().unwrap(), "left out of the outputs: a: a socket; b: a FIFO");
        let many: Vec<String> = (0..100).map(|n| format!("folder/entry number {n}: a device")).collect();
        let message = kept(&many).message().unwrap();
        assert!(message.chars().count() < LONGEST_MESSAGE + 20 && message.ends_with(" more"), "{message}");
    }

    #[test]
    fn what_cannot_be_kept_is_said_before_what_was_left_out() {
        let kept = Kept { refused: vec!["it is too deep".to_owned()], ..kept(&["a: a socket".to_owned()]) };
        assert_eq!(kept.message().unwrap(), "it is too deep");
        assert_eq!(kept.failure(), Some(Exit { code: exit_code::NOT_KEPT, message: "it is too deep".to_owned() }));
    }
}

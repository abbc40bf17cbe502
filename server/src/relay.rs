//! Carries the signals of [`Wake`] between the processes of one PostgreSQL database, within milliseconds. On SQLite
//! there is one process, and nothing is carried.
//!
//! A signal that is lost on the way costs the time until the next tick of a clock. Whoever could not listen for a while
//! may have missed something, and wakes everyone here once.

use crate::clock;
use crate::rules::backoff;
use crate::store::{Listener, Store};
use crate::wake::Wake;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long signals are collected before they are told together.
const COLLECT: Duration = Duration::from_millis(3);
/// After so long a silence it is made sure that something would be heard.
const SILENCE: Duration = Duration::from_secs(30);
/// How soon one hears oneself.
const ECHO: Duration = Duration::from_secs(10);

/// The tasks that carry signals.
#[derive(Debug)]
pub struct Relay {
    ending: CancellationToken,
    telling: JoinHandle<()>,
    listening: JoinHandle<()>,
}

impl Relay {
    /// Begins to carry signals.
    pub fn start(store: &Store, wake: &Arc<Wake>) -> Self {
        let ending = CancellationToken::new();
        let side = Side { store: store.clone(), wake: Arc::clone(wake), own: clock::new_id(), ending: ending.clone() };
        let side = Arc::new(side);
        let telling = tokio::spawn({
            let side = Arc::clone(&side);
            async move { side.tell_all().await }
        });
        Self { ending, telling, listening: tokio::spawn(async move { side.listen_all().await }) }
    }

    /// Ends, when what was signalled before is told.
    pub async fn end(self) {
        self.ending.cancel();
        let _ = tokio::join!(self.telling, self.listening);
    }
}

/// This process among the others.
struct Side {
    store: Store,
    wake: Arc<Wake>,
    /// What this process tells begins with it: its own signals are not news to it.
    own: String,
    ending: CancellationToken,
}

impl Side {
    async fn tell_all(&self) {
        let mut failures = 0;
        while !self.ending.is_cancelled() {
            tokio::select! {
                () = self.ending.cancelled() => {}
                () = self.wake.to_tell() => tokio::time::sleep(COLLECT).await,
            }
            if self.tell().await {
                failures = 0;
            } else {
                failures += 1;
                self.pause(failures).await;
            }
        }
    }

    /// Tells what there is to tell; false when that did not work.
    async fn tell(&self) -> bool {
        let names = self.wake.take();
        if names.is_empty() {
            return true;
        }
        let Err(error) = self.store.tell(&format!("{} {}", self.own, names.join(" "))).await else { return true };
        tracing::warn!(%error, "other processes could not be told of changes; they notice them by themselves, later");
        self.wake.put_back(&names);
        false
    }

    async fn listen_all(&self) {
        let mut failures = 0;
        while !self.ending.is_cancelled() {
            let listening = async {
                let Some(mut listener) = self.store.listen().await.map_err(|error| error.to_string())? else {
                    return Ok(());
                };
                failures = 0;
                self.wake.hear_all();
                self.hear(&mut listener).await
            };
            let why = tokio::select! {
                () = self.ending.cancelled() => return,
                ended = listening => match ended {
                    Ok(()) => return,
                    Err(why) => why,
                },
            };
            failures += 1;
            tracing::warn!(error = why, "other processes are not heard for now; what they do is noticed later");
            self.pause(failures).await;
        }
    }

    /// Hears others for as long as they can be heard.
    async fn hear(&self, listener: &mut Listener) -> Result<(), String> {
        loop {
            let text = if let Ok(text) = tokio::time::timeout(SILENCE, listener.next()).await {
                text?
            } else {
                // A connection may be gone without a word: then not even one's own is heard.
                self.store.tell(&self.own).await.map_err(|error| error.to_string())?;
                let echo = tokio::time::timeout(ECHO, listener.next()).await;
                echo.map_err(|_| "the connection to the database is dead".to_owned())??
            };
            let mut words = text.split(' ');
            if words.next() != Some(&self.own) {
                self.wake.hear(words);
            }
        }
    }

    async fn pause(&self, failures: i64) {
        tokio::select! {
            () = self.ending.cancelled() => {}
            () = tokio::time::sleep(backoff::pause(failures).min(ECHO)) => {}
        }
    }
}

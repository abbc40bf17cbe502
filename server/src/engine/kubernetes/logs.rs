//! The log of a Run: from the recorder while the worker lives, from its volume afterwards.
//!
//! A log that is followed goes on where it was when its connection breaks, and ends only with main's last byte: from
//! the recorder, or from the volume when the recorder is gone meanwhile.

use super::Shared;
use super::cache::{is_over, run_of};
use super::client::pause;
use super::dial::Ask;
use super::recorder::{Recorder, runs};
use super::workers::Sight;
use crate::clock;
use crate::engine::{ByteStream, EngineError, Observation, Volume};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use knit_api::id::RunId;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often a connection that brings nothing is made again at once, one after the other.
const ATTEMPTS: u32 = 8;
/// When to look at a worker again that has not begun.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same as long as it has no Pod.
const NO_POD: Duration = Duration::from_millis(500);

impl Shared {
    pub(super) async fn log(
        self: &Arc<Self>,
        run: &RunId,
        volume: &Volume,
        follow: bool,
    ) -> Result<ByteStream, EngineError> {
        let log = Log { shared: Arc::clone(self), run: run.clone(), volume: volume.clone(), follow };
        let first = match log.source(0).await? {
            Some(source) => source,
            None if follow => Source::later(),
            None => return Err(log.not_there()),
        };
        let start = (log, Some(first), 0, 0);
        Ok(Box::pin(stream::try_unfold(start, |(log, current, at, failures)| async move {
            let Some(current) = current else { return Ok(None) };
            log.next(current, at, failures).await
        })))
    }

    pub(super) async fn log_tail(&self, run: &RunId, volume: &Volume, most: usize) -> Result<Vec<u8>, EngineError> {
        let sight = self.look(run).await?;
        if let Some(Observation::Preparing { .. }) = sight.as_ref().map(|sight| &sight.seen.observation) {
            // No agent is started for what cannot be there yet.
            return Err(EngineError::NotFound(format!("the log in {volume}")));
        }
        let recorder = match &sight {
            Some(sight) => self.recorder_in(run, sight).await?,
            None => None,
        };
        let tail = match recorder {
            Some(recorder) => recorder.log_tail(most).await?,
            None => self.read_with(volume, || Ask::get(format!("/volumes/{volume}/log?from=-{most}"))).await?,
        };
        let read = tail.try_fold(Vec::new(), async |mut read, piece| {
            // A log that grows meanwhile is not followed.
            let room = most.saturating_sub(read.len()).min(piece.len());
            read.extend_from_slice(&piece[..room]);
            Ok(read)
        });
        read.await.map_err(|cause| EngineError::Failed {
            what: format!("reading the end of the log in {volume}"),
            cause: cause.to_string(),
        })
    }

    /// The recorder of a worker, if it runs.
    async fn recorder_in(&self, run: &RunId, sight: &Sight) -> Result<Option<Recorder>, EngineError> {
        match pod_of(sight).filter(|pod| runs(pod)) {
            Some(pod) => Recorder::of(run, pod, &self.client, &self.settings).await,
            None => Ok(None),
        }
    }
}

/// The Pod that counts.
fn pod_of(sight: &Sight) -> Option<&Arc<Pod>> {
    sight.pods.iter().find(|pod| pod.metadata.name == sight.seen.pod)
}

/// A log that is read.
struct Log {
    shared: Arc<Shared>,
    run: RunId,
    volume: Volume,
    follow: bool,
}

/// Where pieces come from at present.
struct Source {
    pieces: ByteStream,
    /// It ends with main's last byte.
    follows: bool,
}

impl Source {
    /// There will be one, which is to be looked for.
    fn later() -> Self {
        let not_yet = io::Error::other("the worker has not begun");
        Self { pieces: Box::pin(stream::iter([Err(not_yet)])), follows: true }
    }
}

type Next = (Bytes, (Log, Option<Source>, u64, u32));

impl Log {
    /// The log from this byte on; none before its worker has begun.
    async fn source(&self, at: u64) -> Result<Option<Source>, EngineError> {
        let (shared, run) = (&self.shared, &self.run);
        if let Some(sight) = shared.look(run).await? {
            if let Some(recorder) = shared.recorder_in(run, &sight).await? {
                return Ok(Some(Source { pieces: recorder.log(at, self.follow).await?, follows: self.follow }));
            }
            if !matches!(sight.seen.observation, Observation::Ended { .. } | Observation::Absent) {
                return Ok(None);
            }
        }
        let volume = &self.volume;
        let pieces = shared.read_with(volume, || Ask::get(format!("/volumes/{volume}/log?from={at}"))).await?;
        Ok(Some(Source { pieces, follows: false }))
    }

    /// The same, when its worker has begun.
    async fn from(&self, at: u64) -> Result<Source, EngineError> {
        loop {
            if let Some(source) = self.source(at).await? {
                return Ok(source);
            }
            self.something_new().await?;
        }
    }

    /// Waits for a change of the worker that may be its beginning, and not for long.
    async fn something_new(&self) -> Result<(), EngineError> {
        let cache = &self.shared.cache;
        let named = |pod: &Pod| run_of(pod).as_ref() == Some(&self.run);
        let name = cache.pods_that(named).await?.pop().and_then(|pod| pod.metadata.name.clone());
        match name {
            Some(name) => {
                let begun = |pod: Option<&Pod>| pod.is_none_or(|pod| runs(pod) || is_over(pod)).then_some(());
                cache.wait_for_pod(&name, clock::deadline(LOOK_AGAIN), begun).await?;
                // What keeps it from being asked though it runs takes a moment, too.
                tokio::time::sleep(pause(0)).await;
            }
            None => tokio::time::sleep(NO_POD).await,
        }
        Ok(())
    }

    fn not_there(&self) -> EngineError {
        EngineError::NotFound(format!("the log in {}", self.volume))
    }

    /// The next piece, from a new connection if need be.
    async fn next(self, mut from: Source, at: u64, mut failures: u32) -> io::Result<Option<Next>> {
        loop {
            match from.pieces.next().await {
                Some(Ok(piece)) => {
                    let at = at + piece.len() as u64;
                    return Ok(Some((piece, (self, Some(from), at, 0))));
                }
                None => return Ok(None),
                // Silence breaks a connection off, too: main may have nothing to say for long.
                Some(Err(error)) if from.follows && failures < ATTEMPTS => {
                    tracing::debug!(run = %self.run, %error, "a log is followed anew");
                }
                Some(Err(error)) => return Err(error),
            }
            from = loop {
                match self.from(at).await {
                    Ok(source) => break source,
                    Err(error) if failures >= ATTEMPTS => return Err(io::Error::other(error.to_string())),
                    Err(_) => {
                        tokio::time::sleep(pause(failures)).await;
                        failures += 1;
                    }
                }
            };
        }
    }
}

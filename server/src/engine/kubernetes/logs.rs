//! The log of a Run: from the recorder while the worker lives, from its volume afterwards.
//!
//! A log that is followed goes on where it was when its connection breaks, and ends only with main's last byte: from
//! the recorder, or from the volume when the recorder is gone meanwhile.

use super::Shared;
use super::client::pause;
use super::dial::Ask;
use super::recorder::{Recorder, runs};
use crate::engine::{ByteStream, EngineError, Volume};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use knit_api::id::RunId;
use std::io;
use std::sync::Arc;

/// How often a connection that brings nothing is made again at once, one after the other.
const ATTEMPTS: u32 = 8;

impl Shared {
    pub(super) async fn log(
        self: &Arc<Self>,
        run: &RunId,
        volume: &Volume,
        follow: bool,
    ) -> Result<ByteStream, EngineError> {
        let log = Log { shared: Arc::clone(self), run: run.clone(), volume: volume.clone(), follow };
        let first = log.from(0).await?;
        let start = (log, Some(first), 0, 0);
        Ok(Box::pin(stream::try_unfold(start, |(log, current, at, failures)| async move {
            let Some(current) = current else { return Ok(None) };
            log.next(current, at, failures).await
        })))
    }

    pub(super) async fn log_tail(&self, run: &RunId, volume: &Volume, most: usize) -> Result<Vec<u8>, EngineError> {
        let tail = match self.live_recorder(run).await? {
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

    /// The recorder of a Run's worker, if it runs.
    async fn live_recorder(&self, run: &RunId) -> Result<Option<Recorder>, EngineError> {
        let Some(sight) = self.look(run).await? else { return Ok(None) };
        let pod = sight.pods.iter().find(|pod| pod.metadata.name == sight.seen.pod && runs(pod));
        match pod {
            Some(pod) => Recorder::of(run, pod, &self.client, &self.settings).await,
            None => Ok(None),
        }
    }
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

type Next = (Bytes, (Log, Option<Source>, u64, u32));

impl Log {
    /// The log from this byte on.
    async fn from(&self, at: u64) -> Result<Source, EngineError> {
        let shared = &self.shared;
        if let Some(recorder) = shared.live_recorder(&self.run).await? {
            return Ok(Source { pieces: recorder.log(at, self.follow).await?, follows: self.follow });
        }
        let volume = &self.volume;
        let pieces = shared.read_with(volume, || Ask::get(format!("/volumes/{volume}/log?from={at}"))).await?;
        Ok(Source { pieces, follows: false })
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

//! What a recorder answers at its door.

use super::super::agent::streamed;
use super::super::{Refused, json};
use super::{Closed, Progress, Recorder, now};
use crate::engine::{EngineError, Manifest};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::BytesMut;
use futures_util::stream;
use serde::Deserialize;
use std::io::{self, SeekFrom};
use std::time::Duration;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

/// Longest time that a question waits for its answer.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Bytes of log that are read at once.
const PIECE: usize = 256 << 10;

pub(super) fn routes(recorder: Recorder) -> Router {
    Router::new()
        .route("/end", get(end))
        .route("/log", get(log))
        .route("/manifests/{digest}", get(manifest))
        .route("/seal", post(seal))
        .route("/close", post(close))
        .route("/done", post(done))
        .layer(middleware::from_fn_with_state(recorder.clone(), note))
        .with_state(recorder)
}

/// Notes that somebody still asks.
async fn note(State(recorder): State<Recorder>, request: Request, next: Next) -> Response {
    recorder.asked.send_replace(now());
    let answer = next.run(request).await;
    recorder.asked.send_replace(now());
    answer
}

#[derive(Deserialize)]
struct Awaited {
    /// Seconds to wait for it.
    #[serde(default)]
    wait: u64,
    /// Not before outputs and log are final.
    #[serde(default)]
    sealed: bool,
}

/// How main ended; `null` when it has not in time.
async fn end(State(recorder): State<Recorder>, Query(awaited): Query<Awaited>) -> Response {
    let known = |progress: &Progress| progress.has_ended() && (!awaited.sealed || progress.sealed.is_some());
    let mut progress = recorder.progress.subscribe();
    let wait = Duration::from_secs(awaited.wait).min(LONGEST_WAIT);
    let end = match tokio::time::timeout(wait, progress.wait_for(known)).await {
        Ok(Ok(progress)) => progress.end(),
        _ => None,
    };
    json(StatusCode::OK, &end)
}

/// Nothing of main is left: outputs and log are to be made final now, whatever main has said. Asked again, those that
/// failed are tried again.
async fn seal(State(recorder): State<Recorder>) -> StatusCode {
    let nothing_to_do = recorder
        .progress
        .borrow()
        .sealed
        .as_ref()
        .is_some_and(|sealed| sealed.iter().all(|(_, sealed)| !sealed.as_ref().is_err_and(super::may_pass)));
    if !nothing_to_do {
        recorder.progress.send_modify(|progress| progress.sealed = None);
        recorder.gone.notify_one();
    }
    StatusCode::ACCEPTED
}

/// Main is not to start any more. If it has not, then nothing is left to do here.
async fn close(State(recorder): State<Recorder>) -> Response {
    let never = recorder.progress.send_if_modified(super::Progress::close);
    if never {
        recorder.done.cancel();
    }
    json(StatusCode::OK, &Closed { started: !never })
}

/// This worker's results are known: it may end.
async fn done(State(recorder): State<Recorder>) -> StatusCode {
    recorder.done.cancel();
    StatusCode::NO_CONTENT
}

async fn manifest(State(recorder): State<Recorder>, Path(digest): Path<String>) -> Result<Response, Refused> {
    let Manifest { stream, .. } = recorder.volumes.list_entries(&digest, None).await?;
    Ok(streamed(stream))
}

#[derive(Deserialize)]
struct Wanted {
    /// The first byte; negative counts from the end of what there is.
    #[serde(default)]
    from: i64,
    /// Goes on to the last byte of main's.
    #[serde(default)]
    follow: bool,
}

/// The log, from some byte on.
async fn log(State(recorder): State<Recorder>, Query(wanted): Query<Wanted>) -> Result<Response, Refused> {
    let (Some(volume), Some(path)) = (&recorder.log, recorder.log_file()) else {
        return Err(Refused(EngineError::NotFound("a log of this worker".to_owned())));
    };
    let opened = async {
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).await?;
        let from = u64::try_from(wanted.from)
            .unwrap_or_else(|_| recorder.progress.borrow().log.saturating_sub(wanted.from.unsigned_abs()));
        file.seek(SeekFrom::Start(from)).await?;
        Ok::<_, io::Error>(Follower { file, at: from, follow: wanted.follow, progress: recorder.progress.subscribe() })
    };
    let follower = opened.await.map_err(|cause| EngineError::Failed {
        what: format!("reading the log in {volume}"),
        cause: cause.to_string(),
    })?;
    Ok(streamed(Box::pin(stream::try_unfold(follower, Follower::next))))
}

/// Reads the log as it grows.
struct Follower {
    file: File,
    at: u64,
    follow: bool,
    progress: watch::Receiver<Progress>,
}

impl Follower {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let (length, over) = {
                let progress = self.progress.borrow_and_update();
                (progress.log, progress.has_ended())
            };
            if self.at < length {
                let room = usize::try_from(length - self.at).unwrap_or(PIECE).min(PIECE);
                let mut piece = BytesMut::with_capacity(room);
                if (&mut self.file).take(room as u64).read_buf(&mut piece).await? > 0 {
                    self.at += piece.len() as u64;
                    return Ok(Some((piece.freeze(), self)));
                }
                return Err(io::Error::other("the log is shorter than it was"));
            }
            if over || !self.follow {
                return Ok(None);
            }
            if self.progress.changed().await.is_err() {
                return Err(io::Error::other("the recorder has ended"));
            }
        }
    }
}

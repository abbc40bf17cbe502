//! `GET /runs/events`: how Runs stand and every change of them, as server-sent events ([`knit_api::event`]).
//!
//! Whoever watches is woken by [`crate::wake::Wake`], looks, and tells what is new to this client. A change of a
//! reason leaves no trace in time, so what was told is remembered: of each live Run, and of the last that ended,
//! a few bytes. The stream is made as the client takes it: one that reads slowly is looked for less often, and
//! holds up nobody else.

use super::query::Query;
use super::refused::{Answer, Refused};
use super::runs;
use crate::app::App;
use crate::clock::{self, Stopwatch};
use crate::store::{RunQuery, Selection, StoreError, Watched};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use knit_api::event::{self, Cause, EVENT_STREAM, Gone, name};
use knit_api::id::RunId;
use knit_api::run::{Run, RunStatus};
use knit_api::time::Timestamp;
use serde::Serialize;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

/// Watchers at one time: well below what the port takes in connections.
const AT_ONCE: usize = 256;
/// Looks at one time: connections to the database are left for the server's own work.
const LOOKS: usize = 2;
/// The shortest time between two looks of one watcher.
const PAUSE: Duration = Duration::from_millis(100);
/// So many times as long as a look took, the watcher rests.
const REST: u32 = 4;
/// How long a stream is silent at most; then it is also looked whether a signal was lost.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a change may take from reading the time to being visible; what changed within it is looked at again.
const LATE: Duration = Duration::from_secs(30);
/// Runs that are read and sent at a time.
const PAGE: usize = 50;
/// How soon a client that lost its connection comes back.
const RETRY: &[u8] = b"retry: 1000\n\n";

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
static TURNS: Semaphore = Semaphore::const_new(LOOKS);

/// `GET /runs/events`.
pub(super) async fn events(State(app): State<App>, query: Query) -> Answer {
    let (watched, ended) = watched(&query)?;
    if let Selection::Caused(cause) = &watched.of
        && let Some(unknown) = app.store.unknown_cause(cause).await?
    {
        let kind = if matches!(cause, Cause::Data(_)) { "Data" } else { "Plan" };
        return Err(Refused::not_found(format!("there is no {kind} {unknown}")));
    }
    let place = PLACES.try_acquire().map_err(|_| {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, format!("{AT_ONCE} clients watch Runs already"))
            .advice("Try again when one of them has gone.")
    })?;
    let mut watcher = Watcher::new(app, watched, place);
    // What is wrong from the beginning is still told as an error.
    watcher.look(ended).await?;
    let pieces = stream::unfold(watcher, |mut watcher| async {
        watcher.next().await.map(|piece| (Ok::<_, Infallible>(piece), watcher))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    for (header, value) in [(header::CONTENT_TYPE, EVENT_STREAM), (header::CACHE_CONTROL, "no-store")] {
        response.headers_mut().insert(header, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// What the client asks for, and with how many ended Runs it wants to begin.
fn watched(query: &Query) -> Answer<(Watched, usize)> {
    let cause = query.first("cause").map(str::parse::<Cause>).transpose();
    let cause = cause.map_err(|error| Refused::bad_request(format!("parameter cause: {error}")))?;
    let of = match (query.list::<RunId>("run"), cause) {
        (runs, None) if runs.is_empty() => Selection::Any,
        (runs, None) => Selection::Named(runs),
        (runs, Some(cause)) if runs.is_empty() => Selection::Caused(cause),
        (_, Some(_)) => return Err(Refused::bad_request("parameters run and cause: give one of them")),
    };
    let ended = match query.first("ended") {
        None => event::ENDED,
        Some(text) => match text.parse::<usize>() {
            Ok(number) => number.min(event::ENDED),
            Err(_) => return Err(Refused::bad_request(format!("parameter ended: \"{text}\" is not a number"))),
        },
    };
    let query = RunQuery {
        plans: query.list("plan"),
        inputs: query.list("knitIdInput"),
        outputs: query.list("knitIdOutput"),
        statuses: runs::statuses(query)?,
        ..RunQuery::default()
    };
    Ok((Watched { query, of }, ended))
}

/// What was told of a Run.
struct Told {
    mark: u64,
    status: RunStatus,
    updated_at: Timestamp,
}

impl Told {
    fn is_under_way(&self) -> bool {
        !self.status.is_over() && self.status != RunStatus::Deactivated
    }
}

/// Changes whenever something of a Run changes that is told.
fn mark(status: RunStatus, updated_at: Timestamp, exit_code: Option<i64>, reason: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (status, updated_at.micros(), exit_code, reason).hash(&mut hasher);
    hasher.finish()
}

fn mark_of(run: &Run) -> u64 {
    let exit_code = run.summary.exit.as_ref().map(|exit| i64::from(exit.code));
    mark(run.summary.status, run.summary.updated_at, exit_code, run.reason.as_deref())
}

/// One client's watch.
struct Watcher {
    app: App,
    changes: watch::Receiver<u64>,
    watched: Watched,
    told: HashMap<RunId, Told>,
    /// To be told next, after what has gone.
    queue: VecDeque<RunId>,
    gone: Vec<RunId>,
    /// From when on changes are looked for: none before the first look.
    since: Option<Timestamp>,
    /// As of the last look.
    quiet: bool,
    /// What the client believes.
    told_quiet: bool,
    synced: bool,
    begun: bool,
    /// Of the last event.
    number: u64,
    rested: Instant,
    /// When to give a sign of life.
    silent_until: Instant,
    _place: SemaphorePermit<'static>,
}

impl Watcher {
    fn new(app: App, watched: Watched, place: SemaphorePermit<'static>) -> Self {
        Self {
            changes: app.wake.subscribe(),
            app,
            watched,
            told: HashMap::new(),
            queue: VecDeque::new(),
            gone: Vec::new(),
            since: None,
            quiet: false,
            told_quiet: false,
            synced: false,
            begun: false,
            number: 0,
            rested: clock::deadline(Duration::ZERO),
            silent_until: clock::deadline(HEARTBEAT),
            _place: place,
        }
    }

    /// The next piece of the stream; none when it ends.
    async fn next(&mut self) -> Option<Bytes> {
        let piece = self.piece().await?;
        self.silent_until = clock::deadline(HEARTBEAT);
        Some(piece)
    }

    async fn piece(&mut self) -> Option<Bytes> {
        loop {
            if self.app.closing.is_cancelled() {
                return None;
            }
            let mut text = Vec::new();
            if !std::mem::replace(&mut self.begun, true) {
                text.extend_from_slice(RETRY);
            }
            let alive = match self.tell(&mut text).await {
                Ok(()) if !text.is_empty() => return Some(text.into()),
                Ok(()) if !self.queue.is_empty() => continue,
                Ok(()) => self.wait().await,
                Err(error) => Err(error),
            };
            match alive {
                Ok(Waited::Changed) => {}
                Ok(Waited::Long) => return Some(Bytes::from_static(b":\n\n")),
                Ok(Waited::Stopping) => return None,
                // The client comes back by itself, and then has an answer.
                Err(error) => {
                    tracing::error!(%error, "the events of Runs broke off");
                    return None;
                }
            }
        }
    }

    /// Waits for a reason to look again, rests, and looks.
    async fn wait(&mut self) -> Result<Waited, StoreError> {
        let waited = tokio::select! {
            biased;
            () = self.app.closing.cancelled() => return Ok(Waited::Stopping),
            changed = self.changes.changed() => if changed.is_ok() { Waited::Changed } else { Waited::Stopping },
            () = tokio::time::sleep_until(self.silent_until) => Waited::Long,
        };
        tokio::select! {
            biased;
            () = self.app.closing.cancelled() => return Ok(Waited::Stopping),
            () = tokio::time::sleep_until(self.rested) => {}
        }
        self.look(0).await?;
        Ok(waited)
    }

    /// Finds out what there is to tell.
    async fn look(&mut self, ended: usize) -> Result<(), StoreError> {
        let _turn = TURNS.acquire().await.expect("the turns are never closed");
        let watch = Stopwatch::start();
        // Before the look: no change after it is missed.
        self.changes.borrow_and_update();
        let recent = clock::before(LATE);
        let known: HashSet<RunId> = self.told.keys().cloned().collect();
        // At first, all that was caused counts.
        let since = match (&self.watched.of, self.since) {
            (Selection::Caused(_), None) => Timestamp::from_micros(i64::MIN),
            (_, since) => since.unwrap_or(recent),
        };
        let look = self.app.store.look_at_runs(&self.watched, since, ended, &known).await?;
        self.quiet = look.quiet;
        let mut there = HashSet::with_capacity(look.states.len());
        for state in look.states {
            let mark = mark(state.status, state.updated_at, state.exit_code, state.reason.as_deref());
            if self.told.get(&state.id).is_none_or(|told| told.mark != mark) {
                self.queue.push_back(state.id.clone());
            }
            there.insert(state.id);
        }
        self.gone.extend(known.into_iter().filter(|run| !there.contains(run)));
        if let Selection::Named(runs) = &self.watched.of
            && self.since.is_none()
        {
            let is_plain = self.watched.query.plans.is_empty()
                && self.watched.query.inputs.is_empty()
                && self.watched.query.outputs.is_empty()
                && self.watched.query.statuses.is_empty();
            if is_plain {
                self.gone.extend(runs.iter().filter(|run| !there.contains(*run)).cloned());
            }
        }
        self.since = Some(recent);
        self.forget(recent);
        self.rested = clock::deadline(PAUSE.max(watch.elapsed() * REST));
        Ok(())
    }

    /// Of those that ended only so many are remembered, the last ones, and all that may be found again.
    fn forget(&mut self, recent: Timestamp) {
        if matches!(self.watched.of, Selection::Named(_)) {
            return;
        }
        let is_old = |told: &Told| told.status.is_over() && told.updated_at < recent;
        let mut old: Vec<(Timestamp, RunId)> = self
            .told
            .iter()
            .filter(|(_, told)| is_old(told))
            .map(|(run, told)| (told.updated_at, run.clone()))
            .collect();
        let Some(many) = old.len().checked_sub(event::ENDED) else { return };
        old.sort_unstable();
        for (_, run) in old.into_iter().take(many) {
            self.told.remove(&run);
        }
    }

    /// Writes what there is to tell, a page of it at most. What is sent of a Run is what it is now, which may be
    /// more than the look has seen.
    async fn tell(&mut self, text: &mut Vec<u8>) -> Result<(), StoreError> {
        for run in std::mem::take(&mut self.gone) {
            self.told.remove(&run);
            self.event(text, name::GONE, &Gone { run });
        }
        let page: Vec<RunId> = self.queue.drain(..self.queue.len().min(PAGE)).collect();
        if !page.is_empty() {
            let runs = self.app.store.runs(&page).await?;
            let there: HashSet<RunId> = runs.iter().map(|run| run.summary.id.clone()).collect();
            for run in runs {
                self.tell_run(text, &run);
            }
            for run in page.into_iter().filter(|run| !there.contains(run)) {
                if self.told.remove(&run).is_some() {
                    self.event(text, name::GONE, &Gone { run });
                }
            }
        }
        if self.queue.is_empty() {
            self.tell_rest(text);
        }
        Ok(())
    }

    fn tell_run(&mut self, text: &mut Vec<u8>, run: &Run) {
        let (id, status, mark) = (&run.summary.id, run.summary.status, mark_of(run));
        let before = self.told.get(id);
        if before.is_some_and(|told| told.mark == mark) {
            return;
        }
        let statuses = &self.watched.query.statuses;
        let fits = (statuses.is_empty() || statuses.contains(&status))
            // Whoever does not know it need not learn that it was deleted.
            && (status != RunStatus::Invalidated || matches!(self.watched.of, Selection::Named(_)));
        if fits || before.is_some() {
            self.event(text, name::RUN, run);
        }
        if fits {
            self.told.insert(id.clone(), Told { mark, status, updated_at: run.summary.updated_at });
        } else {
            self.told.remove(id);
        }
    }

    /// What is to be said once all Runs are told.
    fn tell_rest(&mut self, text: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.synced, true) {
            self.event(text, name::SYNCED, &Nothing {});
        }
        // A Run that was told may have changed after the look; then the next look is on its way.
        let quiet = self.quiet && !self.told.values().any(Told::is_under_way);
        if quiet != self.told_quiet {
            self.told_quiet = quiet;
            self.event(text, if quiet { name::QUIET } else { name::BUSY }, &Nothing {});
        }
    }

    fn event<T: Serialize>(&mut self, text: &mut Vec<u8>, name: &str, data: &T) {
        self.number += 1;
        text.extend_from_slice(format!("id: {}\nevent: {name}\ndata: ", self.number).as_bytes());
        serde_json::to_writer(&mut *text, data).expect("wire types have string keys and no failing parts");
        text.extend_from_slice(b"\n\n");
    }
}

/// Why a wait was over.
enum Waited {
    Changed,
    /// Nothing was heard for a while.
    Long,
    Stopping,
}

/// Data of events that say all by their name.
#[derive(Serialize)]
struct Nothing {}

//! Runs: searched, shown, stopped, retried, removed, waited for, and their logs.

use super::answer;
use super::list;
use super::query::{Id, Query};
use super::refused::{Answer, Refused};
use super::transfer::Download;
use super::wait::Wait;
use crate::app::App;
use crate::clock;
use crate::engine::EngineError;
use crate::store::{Refusal, RunQuery, Stop};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use knit_api::id::RunId;
use knit_api::run::RunStatus;

pub(super) fn no_such(id: &RunId) -> Refused {
    Refused::not_found(format!("there is no Run {id}"))
}

/// `GET /runs`.
pub(super) async fn find(State(app): State<App>, query: Query) -> Answer {
    let (since, until) = query.period()?;
    let wanted = RunQuery {
        plans: query.list("plan"),
        inputs: query.list("knitIdInput"),
        outputs: query.list("knitIdOutput"),
        statuses: statuses(&query)?,
        since,
        until,
    };
    list::find(&app, &query, wanted).await
}

pub(super) fn statuses(query: &Query) -> Answer<Vec<RunStatus>> {
    let named: Vec<String> = query.list("status");
    let read = |name: &String| match name.parse::<RunStatus>() {
        Ok(RunStatus::Invalidated) => {
            Err(Refused::bad_request("parameter status: invalidated Runs cannot be searched for"))
        }
        Ok(status) => Ok(status),
        Err(error) => Err(Refused::bad_request(format!("parameter status: {error}"))),
    };
    named.iter().map(read).collect()
}

/// `GET /runs/{id}`.
pub(super) async fn show(State(app): State<App>, Id(id): Id<RunId>) -> Answer {
    let run = app.store.run(&id).await?.ok_or_else(|| no_such(&id))?;
    Ok(answer::ok(&run))
}

/// `PUT /runs/{id}/abort`.
pub(super) async fn abort(state: State<App>, id: Id<RunId>) -> Answer {
    stop(state, id, Stop::Abort).await
}

/// `PUT /runs/{id}/tearoff`.
pub(super) async fn tearoff(state: State<App>, id: Id<RunId>) -> Answer {
    stop(state, id, Stop::Tearoff).await
}

async fn stop(State(app): State<App>, Id(id): Id<RunId>, how: Stop) -> Answer {
    let can = match how {
        Stop::Abort => "only a Run that has not ended can be aborted",
        Stop::Tearoff => "only a Run that is ready, starting or running can be stopped with success",
    };
    app.store.stop(&id, how, clock::now()).await?.map_err(|refusal| refused(&id, can, refusal))?;
    app.wake.finish.notify_one();
    app.wake.changed();
    show(State(app), Id(id)).await
}

/// `PUT /runs/{id}/retry`: 200 with nothing in it, as the original answers.
pub(super) async fn retry(State(app): State<App>, Id(id): Id<RunId>) -> Answer {
    app.store.retry(&id, clock::now()).await?.map_err(|refusal| refused(&id, RETRY, refusal))?;
    app.wake.initialize.notify_one();
    app.wake.collect.notify_one();
    app.wake.changed();
    Ok(StatusCode::OK.into_response())
}

/// `DELETE /runs/{id}`: 204 with a content type, as the original answers.
pub(super) async fn remove(State(app): State<App>, Id(id): Id<RunId>) -> Answer {
    app.store.remove_run(&id, clock::now()).await?.map_err(|refusal| refused(&id, REMOVE, refusal))?;
    Ok(removed(&app))
}

/// The answer after a removal, and the signals.
pub(super) fn removed(app: &App) -> Response {
    app.wake.collect.notify_one();
    app.wake.changed();
    (StatusCode::NO_CONTENT, [(header::CONTENT_TYPE, answer::JSON)]).into_response()
}

/// Of which Runs these may be asked.
pub(super) const RETRY: &str = "only a Run that is done or failed can be retried";
pub(super) const REMOVE: &str = "only a Run that is done or failed can be removed";

pub(super) fn refused(id: &RunId, can: &str, refusal: Refusal) -> Refused {
    let words = words(id, can, &refusal);
    match refusal {
        Refusal::NotFound => Refused::not_found(words),
        Refusal::Status(_) | Refusal::BuiltIn => Refused::conflict(words),
        Refusal::HasDownstreams(_) => Refused::conflict(words).advice("Remove those Runs first."),
    }
}

/// Why something is refused that is asked of a Run.
pub(super) fn words(id: &RunId, can: &str, refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound => format!("there is no Run {id}"),
        Refusal::Status(status) => format!("Run {id} is {status}: {can}"),
        Refusal::BuiltIn => format!("Run {id} belongs to a built-in Plan: it holds an upload and cannot be retried"),
        Refusal::HasDownstreams(runs) => {
            let names: Vec<&str> = runs.iter().map(RunId::as_str).collect();
            format!("the outputs of Run {id} are used by other Runs: {}", names.join(", "))
        }
    }
}

/// `GET /runs/{id}/wait[?until=over|started]`: answers with the Run when it is over or its work has begun,
/// with `reason=…` also when its reason is another one, or as it is when the time is over.
pub(super) async fn wait(State(app): State<App>, Id(id): Id<RunId>, query: Query) -> Answer {
    let is_reached = match query.first("until") {
        None | Some("over") => RunStatus::is_over,
        Some("started") => RunStatus::has_started,
        Some(other) => {
            return Err(Refused::bad_request(format!("parameter until: \"{other}\" is neither over nor started")));
        }
    };
    // One that is empty is known as well: none.
    let known = query.all("reason").next();
    let mut wait = Wait::begin(&app, &query)?;
    loop {
        let (status, reason) = app.store.run_state(&id).await?.ok_or_else(|| no_such(&id))?;
        let is_news = known.is_some_and(|known| known != reason.as_deref().unwrap_or_default());
        if is_reached(status) || is_news || !wait.changed().await {
            return show(State(app), Id(id)).await;
        }
    }
}

/// `GET /runs/{id}/log[?follow]`. Before the Run starts there is nothing to read: 503, come back later.
pub(super) async fn log(State(app): State<App>, Id(id): Id<RunId>, query: Query) -> Answer {
    let place = app.store.log_place(&id).await?.ok_or_else(|| no_such(&id))?;
    let volume = place.volume.ok_or_else(|| Refused::not_found(format!("Run {id} records no log")))?;
    let live = match place.status {
        RunStatus::Deactivated | RunStatus::Waiting | RunStatus::Ready => return Err(not_yet(&id, place.status)),
        RunStatus::Starting | RunStatus::Running => true,
        _ => false,
    };
    let stream = match app.engine.log(&id, &volume, live && query.has("follow")).await {
        Ok(stream) => stream,
        Err(EngineError::NotFound(_)) if live => return Err(not_yet(&id, place.status)),
        Err(EngineError::NotFound(_)) => {
            return Err(Refused::not_found(format!("Run {id} ended before it could write a log")));
        }
        Err(error) => return Err(Refused::by_engine(&format!("reading the log of Run {id}"), &error)),
    };
    let mut response = Response::new(Body::new(Download::new(stream, false, format!("the log of Run {id}"))));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn not_yet(id: &RunId, status: RunStatus) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, format!("Run {id} is {status}: there is no log yet"))
        .advice("Try again when it has started.")
}

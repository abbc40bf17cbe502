//! The API over HTTP: one file per noun, one line per route.
//!
//! What a request passes on its way in: the trailing slash is dropped (and noted, see [`Slash`]), then what [`port`] puts around every
//! port, and [`guard`] decides who may ask. The wire is that of Knitfab v1.6.1; what Knit adds has routes and members of its own.

mod answer;
mod candidates;
mod cluster;
mod content;
mod data;
mod disk;
mod drain;
mod events;
mod explain;
mod graphs;
pub(crate) mod guard;
pub mod health;
mod impact;
mod list;
mod plans;
pub(crate) mod port;
mod query;
mod range;
mod refused;
mod runs;
pub mod serve;
mod status;
pub mod tls;
mod transfer;
mod wait;

use crate::app::App;
use crate::settings::Role;
use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use knit_api::endpoint::API;
use refused::Refused;
use std::sync::Arc;
use tower::Layer;
use tower::util::MapRequest;
use tower_http::normalize_path::{NormalizePath, NormalizePathLayer};

/// Where the API is for what runs inside the cluster.
const BACKEND: &str = "/api/backend";

/// That the path had a slash at its end, as no file has.
#[derive(Clone, Copy)]
struct Slash;

type NoteSlash = fn(Request) -> Request;

fn note_slash(mut request: Request) -> Request {
    if request.uri().path().ends_with('/') {
        request.extensions_mut().insert(Slash);
    }
    request
}

/// Everything the API's port serves.
pub fn service(app: App) -> MapRequest<NormalizePath<Router>, NoteSlash> {
    let mut guarded = Router::new();
    if app.settings.plays(Role::Api) {
        guarded = guarded.nest(API, api());
    }
    if app.settings.plays(Role::Backend) {
        guarded = guarded.nest(BACKEND, api().merge(import()));
    }
    let guarded = guarded
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(refuse_head))
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard));

    let router =
        Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready)).merge(guarded);
    let counted = port::measured(port::layered(router, bug), Arc::clone(&app.metrics));
    let trimmed = NormalizePathLayer::trim_trailing_slash().layer(counted.with_state(app));
    MapRequest::new(trimmed, note_slash)
}

/// What users ask for; and, below a path of its own, what runs inside the cluster.
fn api() -> Router<App> {
    Router::new()
        .route("/data", get(data::find).post(data::upload))
        .route("/data/{id}", get(data::download).put(data::change_tags).delete(data::remove))
        .route("/data/{id}/explain", get(explain::data))
        .route("/data/{id}/impact", get(impact::of_removal).post(impact::of_tags))
        .route("/data/{id}/files/{*path}", get(content::file))
        .route("/data/{id}/manifest", get(content::manifest))
        .route("/data/{id}/verify", post(content::verify))
        .route("/data/{id}/lineage", get(graphs::lineage))
        .route("/plans", get(plans::find).post(plans::register))
        .route("/plans/dry-run", post(explain::dry_run))
        .route("/plans/{id}", get(plans::show))
        .route("/plans/{id}/active", put(plans::activate).delete(plans::deactivate))
        .route("/plans/{id}/resources", put(plans::change_resources))
        .route("/plans/{id}/annotations", put(plans::annotate))
        .route("/plans/{id}/serviceaccount", put(plans::set_service_account).delete(plans::unset_service_account))
        .route("/plans/{id}/explain", get(explain::plan))
        .route("/plans/{id}/graph", get(graphs::plans))
        .route("/plans/{id}/wait", get(plans::wait))
        .route("/runs", get(runs::find))
        .route("/runs/events", get(events::events))
        .route("/runs/{id}", get(runs::show).delete(runs::remove))
        .route("/runs/{id}/abort", put(runs::abort))
        .route("/runs/{id}/tearoff", put(runs::tearoff))
        .route("/runs/{id}/retry", put(runs::retry))
        .route("/runs/{id}/log", get(runs::log))
        .route("/runs/{id}/wait", get(runs::wait))
        .route("/candidates/{kind}", get(candidates::find))
        .route("/runs/{id}/why", get(explain::why))
        .route("/runs/{id}/impact", get(impact::of_deed))
        .route("/cluster", get(cluster::show))
        .route("/server", get(status::info))
        .route("/server/status", get(status::status))
}

/// Data that something inside the cluster puts into a volume by itself: the places are kept for it.
fn import() -> Router<App> {
    Router::new()
        .route("/data/import/begin", post(import_is_missing))
        .route("/data/import/end", post(import_is_missing))
}

async fn import_is_missing() -> Refused {
    let reason = "this server cannot import Data from a volume that somebody else has filled";
    Refused::new(StatusCode::NOT_IMPLEMENTED, reason).advice("Push the Data: knit data push, or POST it to the API.")
}

/// No such path.
async fn unknown() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "Not Found")
}

/// The path is known, the method is not; the router adds `Allow`.
async fn wrong_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into_response()
}

/// HEAD exists nowhere in this API, while the router would answer it wherever GET is known and so
/// start downloads for nothing.
async fn refuse_head(request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    next.run(request).await
}

/// What a request gets that ran into a bug.
fn bug() -> Response {
    Refused::internal("the server ran into a bug while it worked on this request").into_response()
}

//! Whether the server lives, and whether it can work: for whoever started it. No token is asked for.
//!
//! The API's port answers, and so does a port of its own, which processes without the API have, too; there are also
//! the figures of the process. Nothing secret is told.

use super::refused::{Answer, Refused};
use super::{disk, port};
use crate::app::App;
use crate::clock;
use crate::content::ContentStore;
use crate::metrics::{MEDIA_TYPE, Metrics};
use crate::store::Store;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the database may take to answer a probe.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a process needs to be ready, as far as it has that.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Its database.
    pub store: Option<Store>,
    /// Its images.
    pub content: Option<Arc<ContentStore>>,
    /// Where it keeps what must not be full.
    pub folder: Option<PathBuf>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Cancelled when it is asked to stop.
    pub stopping: CancellationToken,
}

impl From<&App> for Probed {
    fn from(app: &App) -> Self {
        Self {
            store: Some(app.store.clone()),
            content: app.content.clone(),
            folder: app.settings.layout.as_ref().map(|layout| layout.root().to_owned()),
            metrics: Arc::clone(&app.metrics),
            stopping: app.stopping.clone(),
        }
    }
}

/// A port of its own for probes and figures.
pub fn service(probed: Probed) -> Router {
    let routes = Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(probe))
        .route("/metrics", get(figures))
        .fallback(super::unknown);
    port::layered(routes, super::bug).with_state(probed)
}

fn say(kind: &'static str, text: impl Into<String>) -> Response {
    let headers: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, kind)];
    (headers, text.into()).into_response()
}

/// The process answers.
pub(super) async fn alive() -> Response {
    say("text/plain; charset=utf-8", "ok\n")
}

/// What the process needs answers as well, there is room to write to it, and the process is not about to end.
pub(super) async fn ready(State(app): State<App>) -> Answer {
    probe(State(Probed::from(&app))).await
}

async fn probe(State(probed): State<Probed>) -> Answer {
    let not_ready = |why: &str| Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, why));
    if probed.stopping.is_cancelled() {
        return not_ready("the server is stopping");
    }
    if let Some(store) = &probed.store
        && tokio::time::timeout(PATIENCE, store.is_ready()).await != Ok(true)
    {
        return not_ready("the database does not answer");
    }
    if let Some(folder) = &probed.folder
        && disk::look(folder).await?.is_full
    {
        return not_ready(disk::FULL);
    }
    if let Some(content) = probed.content {
        let looked = tokio::task::spawn_blocking(move || content.check()).await;
        if let Err(error) = looked.map_err(std::io::Error::other).flatten() {
            return not_ready(&format!("the registry cannot work: {error}"));
        }
    }
    Ok(say("text/plain; charset=utf-8", "ready\n"))
}

/// `GET /metrics`. What is not counted as it happens is looked at now.
async fn figures(State(probed): State<Probed>) -> Response {
    let metrics = &probed.metrics;
    if let Some(store) = &probed.store {
        let (all, idle) = store.connections();
        metrics.connections(all, idle);
        match tokio::time::timeout(PATIENCE, store.oldest_due(clock::now())).await {
            Ok(Ok(ages)) => ages.into_iter().for_each(|(status, age)| metrics.oldest_due(status, age)),
            Ok(Err(error)) => tracing::warn!(%error, "the age of due Runs is not known"),
            Err(_) => tracing::warn!("the age of due Runs is not known: the database does not answer"),
        }
    }
    say(MEDIA_TYPE, metrics.text())
}

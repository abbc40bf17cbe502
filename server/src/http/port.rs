//! What every request passes on its way in, on whichever port: it is logged, a panic becomes a 500, and a
//! body that is left unread is drained so that the answer can be read.

use super::drain;
use crate::clock::Stopwatch;
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// What a request asked for where no router knows: an extension of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template(pub(crate) &'static str);

/// What is asked for on no path that there is.
const NO_PATH: &str = "unknown";

/// Puts these layers around the routes of a port. `bug` is the 500 in the words of that port's protocol.
pub(crate) fn layered<S>(routes: Router<S>, bug: fn() -> Response) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    routes
        .layer(middleware::from_fn(drain::drain_unread))
        .layer(CatchPanicLayer::custom(move |panic| panicked(panic, bug)))
        .layer(middleware::from_fn(log_request))
}

/// Counts the requests of these routes.
pub(crate) fn measured<S>(routes: Router<S>, metrics: Arc<Metrics>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    routes.layer(middleware::from_fn_with_state(metrics, count_request))
}

async fn count_request(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let watch = Stopwatch::start();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let template = response.extensions().get::<Template>().map(|template| template.0);
    let route = template.or(matched.as_ref().map(MatchedPath::as_str)).unwrap_or(NO_PATH);
    metrics.request(route, &method, response.status(), watch.elapsed());
    response
}

/// A bug must cost one request, not the connection, and must not show its insides.
fn panicked(panic: Box<dyn std::any::Any + Send + 'static>, bug: fn() -> Response) -> Response {
    let words = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(error = %words, "a request ran into a bug");
    bug()
}

/// One line per request. The query is left out: it holds tags, which may be long and private.
async fn log_request(request: Request, next: Next) -> Response {
    let watch = Stopwatch::start();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let ms = watch.elapsed().as_millis() as u64;
    if path == "/healthz" || path == "/readyz" {
        tracing::debug!(%method, path, status, ms, "request");
    } else {
        tracing::info!(%method, path, status, ms, "request");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use tower::ServiceExt;

    async fn breaks() -> Response {
        panic!("secret insides")
    }

    #[tokio::test]
    async fn a_bug_costs_one_request_and_is_told_in_the_words_of_the_port() {
        let bug = || (StatusCode::INTERNAL_SERVER_ERROR, "a bug").into_response();
        let port: Router = layered(Router::new().route("/", get(breaks)), bug);
        let answer = port.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 500);
        let text = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(text, "a bug");
    }
}

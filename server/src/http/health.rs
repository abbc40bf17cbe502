//! Whether the server lives, and whether it can work: for whoever started it. No token is asked for.

use super::disk;
use super::refused::{Answer, Refused};
use crate::app::App;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

fn say(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// The process answers.
pub(super) async fn alive() -> Response {
    say("ok\n")
}

/// The database answers as well, and there is room to write to it.
pub(super) async fn ready(State(app): State<App>) -> Answer {
    let not_ready = |why| Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, why));
    if !app.store.is_ready().await {
        return not_ready("the database does not answer");
    }
    if disk::look(app.settings.layout.root()).await?.is_full {
        return not_ready(disk::FULL);
    }
    Ok(say("ready\n"))
}

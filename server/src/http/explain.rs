//! Why there are Runs, or none, and why a Run stands where it stands.

use super::answer;
use super::query::Id;
use super::refused::Answer;
use super::{data as of_data, plans, runs};
use crate::app::App;
use crate::engine::EngineError;
use crate::rules::why::{Facts, causes};
use crate::settings::WorkerNetwork;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::run::RunStatus;
use knit_api::why::Why;
use std::time::Duration;

/// The most that is told of the end of a log.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 4 << 10;
/// How long it may take to be read: what explains a Run must not wait for what is in its way.
const TAIL_PATIENCE: Duration = Duration::from_secs(15);

/// `POST /plans/dry-run`: the body and its checks are those of `POST /plans`, and nothing is written.
pub(super) async fn dry_run(State(app): State<App>, headers: HeaderMap, body: Body) -> Answer {
    let spec = plans::read(&headers, body).await?;
    Ok(answer::ok(&app.store.foresee_plan(&spec).await?))
}

/// `GET /plans/{id}/explain`.
pub(super) async fn plan(State(app): State<App>, Id(id): Id<PlanId>) -> Answer {
    let explained = app.store.explain_plan(&id).await?.ok_or_else(|| plans::no_such(&id))?;
    Ok(answer::ok(&explained))
}

/// `GET /data/{id}/explain`.
pub(super) async fn data(State(app): State<App>, Id(id): Id<DataId>) -> Answer {
    let explained = app.store.explain_data(&id).await?.ok_or_else(|| of_data::no_such(&id))?;
    Ok(answer::ok(&explained))
}

/// `GET /runs/{id}/why`. What cannot be looked at now is left out: an answer that explains must not fail for it.
pub(super) async fn why(State(app): State<App>, Id(id): Id<RunId>) -> Answer {
    let no_such = || runs::no_such(&id);
    let run = app.store.run(&id).await?.ok_or_else(no_such)?;
    let around = app.store.circumstances(&id).await?.ok_or_else(no_such)?;
    let seen = match app.engine.observe(&id).await {
        Ok(seen) => Some(seen),
        Err(error) => {
            tracing::warn!(run = %id, %error, "a worker cannot be looked at to explain its Run");
            None
        }
    };
    let log_tail = log_tail(&app, &id).await?;
    let engine = app.engine.status();
    let nodes = app.engine.nodes().await.unwrap_or_else(|error| {
        tracing::warn!(run = %id, %error, "nodes cannot be looked at to explain a Run");
        Vec::new()
    });
    let causes = causes(&Facts {
        run: &run,
        before: around.before,
        failures: around.failures,
        resources: &around.resources,
        on_node: &around.on_node,
        unusable: &around.unusable,
        seen: seen.as_ref(),
        cpu_millis: engine.cpu_millis,
        memory_bytes: engine.memory_bytes,
        nodes: &nodes,
        network: app.settings.cluster.is_some() || app.settings.worker_network == WorkerNetwork::Host,
        log_tail: log_tail.as_deref(),
    });
    Ok(answer::ok(&Why { run: run.summary, causes, log_tail }))
}

/// Before its worker exists, a Run has no log; the volume may be empty or of an earlier attempt.
fn is_worth_reading(status: RunStatus) -> bool {
    status.has_started() || status == RunStatus::Starting
}

/// The last lines of the log, if there are any.
async fn log_tail(app: &App, id: &RunId) -> Answer<Option<String>> {
    let place = app.store.log_place(id).await?;
    let Some(place) = place.filter(|place| is_worth_reading(place.status)) else { return Ok(None) };
    let Some(volume) = place.volume else { return Ok(None) };
    let reading = tokio::time::timeout(TAIL_PATIENCE, app.engine.log_tail(id, &volume, TAIL_BYTES));
    match reading.await {
        Ok(Ok(bytes)) => Ok(last_lines(&bytes)),
        Ok(Err(EngineError::NotFound(_))) => Ok(None),
        Err(_) => {
            tracing::warn!(run = %id, "the end of a log takes too long to be read to explain its Run");
            Ok(None)
        }
        Ok(Err(error)) => {
            tracing::warn!(run = %id, %error, "the end of a log cannot be read to explain its Run");
            Ok(None)
        }
    }
}

/// Whole lines as far as possible: a first line that is cut off is left out, unless it is the only one.
fn last_lines(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if bytes.len() >= TAIL_BYTES && lines.len() > 1 {
        lines.remove(0);
    }
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    (!last.is_empty()).then(|| last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole_and_few() {
        assert_eq!(last_lines(b""), None);
        assert_eq!(last_lines(b"a\nb\n").unwrap(), "a\nb");
        let many: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
        let many = many.join("\n");
        let last = last_lines(many.as_bytes()).unwrap();
        assert_eq!((last.lines().count(), last.lines().last()), (TAIL_LINES, Some("line 99")));
        let cut = [&[b'x'; TAIL_BYTES - 2][..], b"\ny"].concat();
        assert_eq!(last_lines(&cut).unwrap(), "y");
        assert_eq!(last_lines(&[b'x'; TAIL_BYTES]).unwrap().len(), TAIL_BYTES);
        assert_eq!(last_lines(b"\xff\n").unwrap(), "\u{fffd}");
    }
}

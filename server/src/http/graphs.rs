//! Graphs, line by line: the lineage of a Data and the Plans around a Plan. The ids are walked first, then
//! what is told of them is read page by page while the answer goes out, so that it never stands in memory as a
//! whole.
//!
//! A graph may be large. So there are only so many on their way out, only some of them are read or walked at one
//! time, and no page that was begun waits for its client with a connection to the database in its hands.

use super::query::{Id, Query};
use super::refused::{Answer, Refused};
use super::{data, plans};
use crate::app::App;
use crate::rules::lineage::{Found, Lineage};
use crate::store::{Store, StoreError};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{Stream, StreamExt, stream};
use knit_api::data::Data;
use knit_api::endpoint::NDJSON;
use knit_api::graph::{
    Depth, LineageEdge, LineageEnd, LineageLine, LineageSize, PlanCount, PlanLine, PlanWalk, Reach, View,
};
use knit_api::id::{DataId, PlanId};
use knit_api::run::Run;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Lines of ids that leave together.
const IDS: usize = 4000;
/// Lines for which Data and Runs are read together.
const DETAILS: usize = 1500;
/// Plans that are read together.
const PLANS: usize = 200;
/// Graphs on their way out at one time: each keeps what was walked in memory until its client has it.
const AT_ONCE: usize = 64;
/// Graphs that are read or walked at one time: connections to the database are left for everything else.
const TURNS_AT_ONCE: usize = 2;
/// How long a graph that has not begun waits for its turn.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
static TURNS: Semaphore = Semaphore::const_new(TURNS_AT_ONCE);

/// The right to send a graph, to be kept until it is sent.
type Place = SemaphorePermit<'static>;

fn place() -> Answer<Place> {
    PLACES.try_acquire().map_err(|_| busy(format!("{AT_ONCE} graphs are being sent already")))
}

/// The right to read or walk, in turn.
async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.expect("the turns are never closed")
}

/// The same for a graph whose client can still be told that it takes too long.
async fn first_turn() -> Answer<SemaphorePermit<'static>> {
    let waited = tokio::time::timeout(PATIENCE, turn()).await;
    waited.map_err(|_| busy("this server is busy with other graphs".to_owned()))
}

fn busy(why: String) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, why).advice("Try again in a while, or ask for fewer steps (depth=).")
}

fn reach(query: &Query) -> Answer<Reach> {
    let depth = query.first("depth").map(str::parse::<Depth>).transpose();
    let depth = depth.map_err(|error| Refused::bad_request(format!("parameter depth: {error}")))?;
    Ok(Reach::new(query.switch("upstream")?, query.switch("downstream")?, depth.unwrap_or(Depth::DEFAULT)))
}

/// `GET /data/{id}/lineage`.
pub(super) async fn lineage(State(app): State<App>, Id(id): Id<DataId>, query: Query) -> Answer {
    let reach = reach(&query)?;
    let view = query.first("view").map(str::parse::<View>).transpose();
    let view = view.map_err(|error| Refused::bad_request(format!("parameter view: {error}")))?.unwrap_or_default();
    let place = place()?;
    let lineage = {
        let _turn = first_turn().await?;
        let facts = app.store.lineage(&id, reach).await?.ok_or_else(|| data::no_such(&id))?;
        let walk = move || Lineage::walk(facts, id.as_str(), reach);
        let walked = tokio::task::spawn_blocking(walk).await;
        Arc::new(walked.map_err(|_| Refused::internal("following lineage ran into a bug"))?)
    };
    let size = match view {
        View::Ids => IDS,
        View::Full => DETAILS,
    };
    let pages = (0..lineage.len()).step_by(size);
    let mut told = LineageSize::default();
    let pages = stream::iter(pages).map(move |from| {
        let (store, lineage) = (app.store.clone(), Arc::clone(&lineage));
        async move {
            match view {
                View::Ids => Ok(ids(&lineage, from, size)),
                View::Full => unhindered(details(store, lineage, from, size)).await,
            }
        }
    });
    // While one page goes out, the next one is read.
    let pages = pages.buffered(2).map(move |page| {
        let (text, size) = page?;
        told.data += size.data;
        told.runs += size.runs;
        told.edges += size.edges;
        Ok((text, told))
    });
    Ok(streamed(place, closed(pages, LineageSize::default(), LineageLine::<(), ()>::End)))
}

/// Reads a page when its turn has come, to the end and on its own: a client that does not look for it any more, or
/// not yet, holds up neither the turn nor a connection.
async fn unhindered<T: Send + 'static>(
    page: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let reading = tokio::spawn(async {
        let _turn = turn().await;
        page.await
    });
    let cause = "it ran into a bug";
    reading.await.unwrap_or_else(|_| Err(StoreError::Failed { what: "reading a graph", cause: cause.to_owned() }))
}

/// Some lines of ids.
fn ids(lineage: &Lineage, from: usize, most: usize) -> (Vec<u8>, LineageSize) {
    let (mut text, mut size) = (Vec::new(), LineageSize::default());
    for found in lineage.found(from, most) {
        let line = match found {
            Found::Data(id) => LineageLine::Data(id),
            Found::Run(id) => LineageLine::Run(id),
            found => LineageLine::Edge(edge(found)),
        };
        write(&mut text, &mut size, &line);
    }
    (text, size)
}

/// Some lines with the Data and Runs themselves. What was deleted since the walk is left out, and the client sees
/// an edge that leads nowhere.
async fn details(
    store: Store,
    lineage: Arc<Lineage>,
    from: usize,
    most: usize,
) -> Result<(Vec<u8>, LineageSize), StoreError> {
    let (mut data, mut runs) = (Vec::new(), Vec::new());
    for found in lineage.found(from, most) {
        match found {
            Found::Data(id) => data.push(id.to_owned()),
            Found::Run(id) => runs.push(id.to_owned()),
            _ => {}
        }
    }
    let (data, runs) = (store.data_of(&data).await?, store.runs_of(&runs).await?);
    let data: HashMap<&str, &Data> = data.iter().map(|data| (data.id.as_str(), data)).collect();
    let runs: HashMap<&str, &Run> = runs.iter().map(|run| (run.summary.id.as_str(), run)).collect();
    let (mut text, mut size) = (Vec::new(), LineageSize::default());
    for found in lineage.found(from, most) {
        let line = match found {
            Found::Data(id) => data.get(id).map(|data| LineageLine::Data(*data)),
            Found::Run(id) => runs.get(id).map(|run| LineageLine::Run(*run)),
            found => Some(LineageLine::Edge(edge(found))),
        };
        if let Some(line) = line {
            write(&mut text, &mut size, &line);
        }
    }
    Ok((text, size))
}

fn edge(found: Found<'_>) -> LineageEdge {
    let (data, run) = (|id: &str| LineageEnd::KnitId(id.into()), |id: &str| LineageEnd::RunId(id.into()));
    match found {
        Found::Input { data: from, run: to, label } => {
            LineageEdge { from: data(from), to: run(to), label: label.to_owned() }
        }
        Found::Output { run: from, data: to, label } => {
            LineageEdge { from: run(from), to: data(to), label: label.to_owned() }
        }
        Found::Root { root, run: to } => {
            LineageEdge { from: LineageEnd::Root(root), to: run(to), label: String::new() }
        }
        Found::Data(_) | Found::Run(_) => unreachable!("nodes have lines of their own"),
    }
}

fn write<D: Serialize, R: Serialize>(text: &mut Vec<u8>, size: &mut LineageSize, line: &LineageLine<D, R>) {
    match line {
        LineageLine::Data(_) => size.data += 1,
        LineageLine::Run(_) => size.runs += 1,
        LineageLine::Edge(_) => size.edges += 1,
        LineageLine::End(_) => {}
    }
    put(text, line);
}

fn put<T: Serialize>(text: &mut Vec<u8>, line: &T) {
    serde_json::to_writer(&mut *text, line).expect("wire types have string keys and no failing parts");
    text.push(b'\n');
}

/// `GET /plans/{id}/graph`.
pub(super) async fn plans(State(app): State<App>, Id(id): Id<PlanId>, query: Query) -> Answer {
    let reach = reach(&query)?;
    let place = place()?;
    let start = app.store.plan(&id).await?.ok_or_else(|| plans::no_such(&id))?;
    let walk = PlanWalk::new(&start, reach);
    let mut first = Vec::new();
    put(&mut first, &PlanLine::Plan(&start));
    let count = PlanCount { plans: 1 };
    let first = stream::iter([Ok((first, count))]);
    let level = Level { store: app.store.clone(), walk, left: Vec::new().into_iter(), count };
    let rest = stream::unfold(Some(level), async |level| match unhindered(level?.page()).await {
        Ok(None) => None,
        Ok(Some((text, level))) => Some((Ok((text, level.count)), Some(level))),
        Err(error) => Some((Err(error), None)),
    });
    Ok(streamed(place, closed(first.chain(rest), count, PlanLine::<()>::End)))
}

/// The Plans that are found together, on their way out.
struct Level {
    store: Store,
    walk: PlanWalk,
    left: std::vec::IntoIter<PlanId>,
    count: PlanCount,
}

impl Level {
    /// The next lines, and what comes after them; none when the walk is over.
    async fn page(mut self) -> Result<Option<(Vec<u8>, Self)>, StoreError> {
        if self.left.len() == 0 {
            self.left = self.walk.level().into_iter();
        }
        let ids: Vec<String> = self.left.by_ref().take(PLANS).map(|id| id.to_string()).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let mut text = Vec::new();
        for plan in self.store.plans_of(&ids).await? {
            self.walk.look_at(&plan);
            self.count.plans += 1;
            put(&mut text, &PlanLine::Plan(&plan));
        }
        Ok(Some((text, self)))
    }
}

/// The pages, and the line that says how much they were. After an error nothing follows: the connection is cut,
/// and half a graph does not look like a whole one.
fn closed<C: Copy + Send + 'static, L: Serialize>(
    pages: impl Stream<Item = Result<(Vec<u8>, C), StoreError>> + Send + 'static,
    nothing: C,
    end: impl Fn(C) -> L + Send + 'static,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    let state = Some((Box::pin(pages), nothing));
    stream::unfold((state, end), async |(state, end)| {
        let (mut pages, told) = state?;
        match pages.next().await {
            Some(Ok((text, told))) => Some((Ok(text.into()), (Some((pages, told)), end))),
            Some(Err(error)) => {
                tracing::error!(%error, "sending a graph broke off");
                Some((Err(error), (None, end)))
            }
            None => {
                let mut text = Vec::new();
                put(&mut text, &end(told));
                Some((Ok(text.into()), (None, end)))
            }
        }
    })
}

fn streamed(place: Place, lines: impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static) -> Response {
    let lines = lines.inspect(move |_| {
        let _until_the_end = &place;
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_graph_that_waits_too_long_for_its_turn_is_refused_with_advice() {
        let turns = (turn().await, turn().await);
        let refused = format!("{:?}", first_turn().await.unwrap_err());
        assert!(refused.contains("503") && refused.contains("Try again"), "{refused}");
        drop(turns);
        assert!(first_turn().await.is_ok());
    }
}

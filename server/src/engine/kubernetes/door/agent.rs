//! `knitd agent`: serves the volumes that its Pod mounts to servers. What is done with bytes is what the embedded
//! engine does ([`Volumes`]), on folders that are mounted.

use super::super::objects::agent::{Mode, SCRATCH};
use super::super::objects::pod::{CREDENTIALS, DOOR_PORT, VOLUMES};
use super::server::{Door, Ended, until_terminated};
use super::{FAILED, Refused, json};
use crate::engine::local::log;
use crate::engine::local::volumes::Volumes;
use crate::engine::{ByteStream, EngineError, Form, Registered, Volume};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, TryStreamExt};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited};
use knit_api::bundle::Selection;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Longest list of globs, in bytes of JSON.
const LARGEST_SELECTION: usize = 1 << 20;
/// Most of an error's words that go into a trailer, in bytes.
const LONGEST_WORDS: usize = 2048;

/// What an agent is told on its command line.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Folder in which volumes are mounted, each at its name.
    #[arg(long, value_name = "DIR", default_value = VOLUMES)]
    pub volumes: PathBuf,

    /// What may be done with the volumes.
    #[arg(long, value_name = "MODE")]
    pub mode: Mode,

    /// Folder with tls.crt, tls.key and token.
    #[arg(long, value_name = "DIR", default_value = CREDENTIALS)]
    pub credentials: PathBuf,

    /// Folder for manifests, until they are fetched.
    #[arg(long, value_name = "DIR", default_value = SCRATCH)]
    pub scratch: PathBuf,

    /// Where the agent listens, on every address of its Pod.
    #[arg(long, value_name = "PORT", default_value_t = DOOR_PORT)]
    pub port: u16,

    /// How long nothing may be asked for until the agent ends by itself.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = crate::settings::duration)]
    pub idle: Duration,
}

/// Serves until it is told to end, or nobody has asked for anything for a while.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let stopping = until_terminated()?;
    let door = Door::open_anywhere(settings.port, &settings.credentials).await?;
    let volumes = Volumes::open_mounted(settings.volumes, settings.scratch)?;
    let mounted = volumes.list().await?;
    let routes = routes(volumes, settings.mode, mounted);
    if door.serve(routes, Some(settings.idle), stopping).await == Ended::Idle {
        tracing::info!("nobody has asked for anything for {} seconds: ending", settings.idle.as_secs());
    }
    Ok(())
}

/// What an agent answers.
pub fn routes(volumes: Volumes, mode: Mode, served: impl IntoIterator<Item = Volume>) -> Router {
    let agent = Agent { volumes, mode, served: Arc::new(served.into_iter().collect()) };
    Router::new()
        .route("/volumes/{volume}", get(send).post(receive))
        .route("/volumes/{volume}/part", post(send_part))
        .route("/volumes/{volume}/file", get(file))
        .route("/volumes/{volume}/log", get(read_log))
        .route("/volumes/{volume}/verify", post(verify))
        .route("/volumes/{volume}/seal", post(seal))
        .route("/manifests/{digest}", get(manifest))
        .with_state(agent)
}

#[derive(Clone)]
struct Agent {
    volumes: Volumes,
    mode: Mode,
    served: Arc<BTreeSet<Volume>>,
}

impl Agent {
    /// The volume of this name, if it is mounted here.
    fn volume(&self, name: String) -> Result<Volume, EngineError> {
        let volume = Volume::from_stored(name);
        if self.served.contains(&volume) {
            Ok(volume)
        } else {
            Err(EngineError::NotFound(format!("volume {}", volume.as_str().escape_debug())))
        }
    }

    /// The same where it is to be changed.
    fn writable(&self, name: String) -> Result<Volume, EngineError> {
        let volume = self.volume(name)?;
        match self.mode {
            Mode::Write => Ok(volume),
            Mode::Read => Err(EngineError::Failed {
                what: format!("changing volume {volume}"),
                cause: "this agent only reads".to_owned(),
            }),
        }
    }
}

/// A form's name in a query.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FormName {
    Bundle,
    BundleZstd,
    TarGz,
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Bundle => Self::Bundle,
            FormName::BundleZstd => Self::BundleZstd,
            FormName::TarGz => Self::TarGz,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Formed {
    form: FormName,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    form: FormName,
    digest: Option<String>,
    #[serde(default)]
    compared_by_receiver: bool,
}

#[derive(Debug, Deserialize)]
struct FileWanted {
    /// Hex digits of its bytes.
    path: String,
    size: u64,
    from: u64,
    to: u64,
}

#[derive(Debug, Deserialize)]
struct LogWanted {
    /// The first byte; negative counts from the end.
    from: i64,
}

#[derive(Debug, Deserialize)]
struct Against {
    digest: String,
}

type Answer<T = Response> = Result<T, Refused>;

/// `POST /volumes/{volume}?form=`
async fn receive(
    State(agent): State<Agent>,
    Path(name): Path<String>,
    Query(query): Query<Formed>,
    body: Body,
) -> Answer {
    let volume = agent.writable(name)?;
    let sealed = agent.volumes.receive(&volume, query.form.into(), stream_of(body)).await?;
    Ok(json(StatusCode::OK, &sealed))
}

/// `GET /volumes/{volume}?form=&digest=&compared_by_receiver=`
async fn send(State(agent): State<Agent>, Path(name): Path<String>, Query(query): Query<Wanted>) -> Answer {
    let volume = agent.volume(name)?;
    let compared_by_receiver = query.compared_by_receiver;
    let registered = query.digest.map(|digest| Registered { digest, compared_by_receiver });
    Ok(streamed(agent.volumes.send(&volume, query.form.into(), registered.as_ref()).await?))
}

/// `POST /volumes/{volume}/part?form=`, the globs in the body
async fn send_part(
    State(agent): State<Agent>,
    Path(name): Path<String>,
    Query(query): Query<Formed>,
    body: Body,
) -> Answer {
    let volume = agent.volume(name)?;
    let globs = Limited::new(body, LARGEST_SELECTION).collect().await;
    let bad = |why: String| EngineError::BadContent(format!("the globs are refused: {why}"));
    let globs = globs.map_err(|error| bad(error.to_string()))?.to_bytes();
    let globs: Vec<String> = serde_json::from_slice(&globs).map_err(|error| bad(error.to_string()))?;
    let only = Selection::new(&globs).map_err(|error| bad(error.to_string()))?;
    Ok(streamed(agent.volumes.send_part(&volume, query.form.into(), only).await?))
}

/// `GET /volumes/{volume}/file?path=&size=&from=&to=`
async fn file(State(agent): State<Agent>, Path(name): Path<String>, Query(query): Query<FileWanted>) -> Answer {
    let volume = agent.volume(name)?;
    let FileWanted { path, size, from, to } = query;
    let path = hex::decode(path).map_err(|error| EngineError::BadContent(format!("the path is refused: {error}")))?;
    if from > to || to > size {
        return Err(EngineError::BadContent(format!("no file of {size} bytes has bytes {from} to {to}")).into());
    }
    Ok(streamed(agent.volumes.read(&volume, &path, size, from..to).await?))
}

/// `GET /volumes/{volume}/log?from=`
async fn read_log(State(agent): State<Agent>, Path(name): Path<String>, Query(query): Query<LogWanted>) -> Answer {
    let volume = agent.volume(name)?;
    Ok(streamed(log::stream_from(&agent.volumes.path(&volume), &volume, query.from).await?))
}

/// `POST /volumes/{volume}/verify?digest=`, the manifest in the body
async fn verify(
    State(agent): State<Agent>,
    Path(name): Path<String>,
    Query(query): Query<Against>,
    body: Body,
) -> Answer {
    let volume = agent.volume(name)?;
    agent.volumes.take_manifest(&query.digest, stream_of(body)).await?;
    let checks = agent.volumes.verify(&volume, &query.digest).await?;
    Ok(streamed(Box::pin(checks.map(|check| {
        let mut line = serde_json::to_vec(&check?).map_err(io::Error::other)?;
        line.push(b'\n');
        Ok(line.into())
    }))))
}

/// `POST /volumes/{volume}/seal`
async fn seal(State(agent): State<Agent>, Path(name): Path<String>) -> Answer {
    let volume = agent.writable(name)?;
    Ok(json(StatusCode::OK, &agent.volumes.seal(&volume).await?))
}

/// `GET /manifests/{digest}`: of what was received or sealed here.
async fn manifest(State(agent): State<Agent>, Path(digest): Path<String>) -> Answer {
    Ok(streamed(agent.volumes.list_entries(&digest, None).await?.stream))
}

fn stream_of(body: Body) -> ByteStream {
    Box::pin(TryStreamExt::map_err(body.into_data_stream(), io::Error::other))
}

/// A stream as an answer that says in its end why it failed.
pub(in super::super) fn streamed(stream: ByteStream) -> Response {
    let announced = [(header::TRAILER, HeaderValue::from_static(FAILED))];
    (announced, Body::new(Telling { stream: Some(stream) })).into_response()
}

struct Telling {
    stream: Option<ByteStream>,
}

impl http_body::Body for Telling {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let Some(next) = ready!(stream.as_mut().poll_next(cx)) else {
            self.stream = None;
            return Poll::Ready(None);
        };
        Poll::Ready(Some(next.map(Frame::data).or_else(|error| {
            self.stream = None;
            tracing::warn!(%error, "an answer broke off");
            let words = error.to_string();
            let told = hex::encode(&words.as_bytes()[..words.len().min(LONGEST_WORDS)]);
            let told = HeaderValue::from_str(&told).map_err(|_| error)?;
            Ok(Frame::trailers(HeaderMap::from_iter([(HeaderName::from_static(FAILED), told)])))
        })))
    }
}

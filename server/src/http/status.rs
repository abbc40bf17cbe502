//! What the server is, for clients, and how it does, for operators.

use super::answer;
use super::disk::{self, Room};
use super::refused::Answer;
use crate::app::App;
use crate::settings::{Settings, WorkerNetwork};
use axum::extract::State;
use knit_api::server::{Health, Registry, ServerInfo, ServerStatus, capability};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the registry may take to answer whether it lives.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of that answer is read, in bytes.
const LONGEST_ANSWER: u64 = 1024;

/// `GET /server`.
pub(super) async fn info(State(app): State<App>) -> Answer {
    Ok(answer::ok(&ServerInfo {
        version: knit_api::VERSION.to_owned(),
        capabilities: [
            capability::BUNDLE,
            capability::PUSH_TAGS,
            capability::WAIT,
            capability::WAIT_UNTIL,
            capability::CONTENT,
            capability::PAGES,
            capability::CANDIDATES,
            capability::EVENTS,
            capability::EXPLAIN,
            capability::IMPACT,
            capability::REMOVE_DATA,
            capability::LINEAGE,
            capability::CLUSTER,
        ]
        .map(str::to_owned)
        .to_vec(),
        registry: Some(registry_for_users(&app.settings)),
    }))
}

/// `GET /server/status`. A part that does not work is told in the answer, with its cause; it is no error of the
/// request.
pub(super) async fn status(State(app): State<App>) -> Answer {
    let (counted, engine, registry) = tokio::join!(app.store.count_runs(), engine(&app), registry(&app));
    let Room { disk, is_full } = disk::look(app.settings.layout.root()).await?;
    let database = format!("SQLite, {}", app.settings.layout.database().display());
    let looked = match &counted {
        Ok(_) if is_full => Err(disk::FULL.to_owned()),
        Ok(_) => Ok(()),
        Err(cause) => Err(cause.to_string()),
    };
    Ok(answer::ok(&ServerStatus {
        version: knit_api::VERSION.to_owned(),
        pid: std::process::id(),
        auth: app.settings.token.is_some(),
        database: health(&looked, database),
        engine,
        registry,
        worker_network: worker_network(&app.settings),
        disk,
        runs: counted.unwrap_or_default().into_iter().map(|(status, count)| (status.to_string(), count)).collect(),
    }))
}

/// What a part is, and why it does not work when it does not.
fn health<T, E: std::fmt::Display>(looked: &Result<T, E>, detail: String) -> Health {
    match looked {
        Ok(_) => Health { ok: true, detail },
        Err(cause) => Health { ok: false, detail: format!("{cause} ({detail})") },
    }
}

async fn engine(app: &App) -> Health {
    let looked = app.engine.check().await;
    let engine = app.engine.status();
    let detail = format!(
        "{} ({}); {} at work; room for {} cpu and {} of memory",
        engine.name,
        engine.detail,
        if engine.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", engine.workers) },
        cpus(engine.cpu_millis),
        bytes(engine.memory_bytes),
    );
    health(&looked, detail)
}

async fn registry(app: &App) -> Health {
    let content = Arc::clone(&app.content);
    let looked = async {
        answers(app.settings.registry_listen).await?;
        tokio::task::spawn_blocking(move || content.check()).await?
    };
    let looked = looked.await.map_err(|cause: io::Error| format!("the registry cannot work: {cause}"));
    health(&looked, format!("{}, plain HTTP on loopback", registry_host(&app.settings)))
}

/// Asks the registry on its own port, as its clients do: only so it is seen that somebody listens and answers.
async fn answers(registry: SocketAddr) -> io::Result<()> {
    let asked = async {
        let mut stream = TcpStream::connect(registry).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        if answer.starts_with(b"HTTP/1.1 200 ") {
            return Ok(());
        }
        Err(io::Error::other("what listens on its port does not answer as it should"))
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(io::Error::other(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// Network of workers, as it is called when the server is started.
pub(super) fn worker_network(settings: &Settings) -> String {
    match settings.worker_network {
        WorkerNetwork::None => "none",
        WorkerNetwork::Host => "host",
    }
    .to_owned()
}

/// The registry as users reach it.
pub(super) fn registry_for_users(settings: &Settings) -> Registry {
    Registry { host: registry_host(settings), insecure: true }
}

/// How users on this machine reach the registry.
fn registry_host(settings: &Settings) -> String {
    let address = settings.registry_listen;
    if address.ip() == std::net::Ipv4Addr::LOCALHOST {
        return format!("localhost:{}", address.port());
    }
    address.to_string()
}

fn cpus(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

fn bytes(amount: u64) -> String {
    format!("{:.1} GiB", amount as f64 / f64::from(1 << 30))
}

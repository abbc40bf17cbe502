//! What the server is, for clients, and how it does, for operators.

use super::answer;
use super::disk;
use super::refused::Answer;
use crate::app::App;
use crate::settings::{self, Role, Settings, WorkerNetwork};
use axum::extract::State;
use knit_api::server::{Health, Registry, ServerInfo, ServerStatus, capability};
use std::io;
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
    let room = match &app.settings.layout {
        Some(layout) => Some(disk::look(layout.root()).await?),
        None => None,
    };
    let looked = match &counted {
        Ok(_) if room.as_ref().is_some_and(|room| room.is_full) => Err(disk::FULL.to_owned()),
        Ok(_) => Ok(()),
        Err(cause) => Err(cause.to_string()),
    };
    Ok(answer::ok(&ServerStatus {
        version: knit_api::VERSION.to_owned(),
        pid: std::process::id(),
        auth: app.settings.token.is_some(),
        database: health(&looked, database(&app.settings)),
        engine,
        registry,
        worker_network: worker_network(&app.settings),
        disk: room.map(|room| room.disk),
        runs: counted.unwrap_or_default().into_iter().map(|(status, count)| (status.to_string(), count)).collect(),
    }))
}

/// The database, without what its password could be told from.
fn database(settings: &Settings) -> String {
    match (&settings.database, &settings.layout) {
        (Some(url), _) => settings::database_name(url),
        (None, Some(layout)) => format!("SQLite, {}", layout.database().display()),
        (None, None) => "none".to_owned(),
    }
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
    let looked = async {
        answers(&registry_from_here(&app.settings)).await?;
        match app.content.clone() {
            Some(content) => tokio::task::spawn_blocking(move || content.check()).await?,
            // Another process has them.
            None => Ok(()),
        }
    };
    let looked = looked.await.map_err(|cause: io::Error| format!("the registry cannot work: {cause}"));
    let how = match (&app.settings.tls, &app.settings.cluster) {
        (Some(_), _) => "TLS, and plain HTTP to pull",
        (None, Some(_)) => "plain HTTP",
        (None, None) => "plain HTTP on loopback",
    };
    health(&looked, format!("{}, {how}", registry_host(&app.settings)))
}

/// Where this process finds the registry.
fn registry_from_here(settings: &Settings) -> String {
    match &settings.cluster {
        Some(cluster) if !settings.plays(Role::Registry) => cluster.registry_from_here.clone(),
        _ => settings.registry_listen.to_string(),
    }
}

/// Asks the registry on its own port, as its clients do: only so it is seen that somebody listens and answers.
async fn answers(registry: &str) -> io::Result<()> {
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

/// Network of workers, as it is called when the server is started. On a cluster it is the administrator's.
pub(super) fn worker_network(settings: &Settings) -> String {
    match settings.worker_network {
        _ if settings.cluster.is_some() => "cluster",
        WorkerNetwork::None => "none",
        WorkerNetwork::Host => "host",
    }
    .to_owned()
}

/// The registry as users reach it.
pub(super) fn registry_for_users(settings: &Settings) -> Registry {
    Registry { host: registry_host(settings), insecure: settings.tls.is_none() }
}

/// What users call the registry.
fn registry_host(settings: &Settings) -> String {
    if let Some(cluster) = &settings.cluster {
        return cluster.registry.clone();
    }
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

//! What the server is, for clients, and how it does, for operators.

use super::answer;
use super::refused::{Answer, Refused};
use crate::app::App;
use crate::settings::{Settings, WorkerNetwork};
use axum::extract::State;
use knit_api::server::{Disk, Health, Registry, ServerInfo, ServerStatus, capability};
use std::path::Path;

/// `GET /server`.
pub(super) async fn info(State(app): State<App>) -> Answer {
    Ok(answer::ok(&ServerInfo {
        version: knit_api::VERSION.to_owned(),
        capabilities: [capability::BUNDLE, capability::PUSH_TAGS, capability::WAIT, capability::WAIT_UNTIL]
            .map(str::to_owned)
            .to_vec(),
        registry: Some(Registry { host: registry_host(&app.settings), insecure: true }),
    }))
}

/// `GET /server/status`.
pub(super) async fn status(State(app): State<App>) -> Answer {
    let database = app.store.is_ready().await;
    let runs = app.store.count_runs().await?;
    let engine = app.engine.status();
    let disk = disk(app.settings.layout.root().to_owned()).await?;
    Ok(answer::ok(&ServerStatus {
        version: knit_api::VERSION.to_owned(),
        pid: std::process::id(),
        auth: app.settings.token.is_some(),
        database: Health { ok: database, detail: format!("SQLite, {}", app.settings.layout.database().display()) },
        engine: Health {
            ok: true,
            detail: format!(
                "{} ({}); {} at work; room for {} cpu and {} of memory",
                engine.name,
                engine.detail,
                if engine.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", engine.workers) },
                cpus(engine.cpu_millis),
                bytes(engine.memory_bytes),
            ),
        },
        registry: Health { ok: true, detail: format!("{}, plain HTTP on loopback", registry_host(&app.settings)) },
        worker_network: match app.settings.worker_network {
            WorkerNetwork::None => "none".to_owned(),
            WorkerNetwork::Host => "host".to_owned(),
        },
        disk,
        runs: runs.into_iter().map(|(status, count)| (status.to_string(), count)).collect(),
    }))
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

async fn disk(root: std::path::PathBuf) -> Answer<Disk> {
    let looked = tokio::task::spawn_blocking(move || measure(&root)).await;
    match looked {
        Ok(Ok(disk)) => Ok(disk),
        Ok(Err(error)) => {
            tracing::error!(%error, "the disk cannot be measured");
            Err(Refused::internal("the server's disk cannot be measured"))
        }
        Err(_) => Err(Refused::internal("the server's disk cannot be measured")),
    }
}

fn measure(root: &Path) -> std::io::Result<Disk> {
    let found = rustix::fs::statvfs(root)?;
    Ok(Disk {
        total: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

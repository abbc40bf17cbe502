//! What the server is, for clients, and how it does, for operators.

use super::answer;
use super::disk::{self, Room};
use super::refused::Answer;
use crate::app::App;
use crate::settings::{Settings, WorkerNetwork};
use axum::extract::State;
use knit_api::server::{Health, Registry, ServerInfo, ServerStatus, capability};

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
    let Room { disk, is_full } = disk::look(app.settings.layout.root()).await?;
    let place = app.settings.layout.database();
    let note = if is_full { format!("; {}", disk::FULL) } else { String::new() };
    Ok(answer::ok(&ServerStatus {
        version: knit_api::VERSION.to_owned(),
        pid: std::process::id(),
        auth: app.settings.token.is_some(),
        database: Health { ok: database && !is_full, detail: format!("SQLite, {}{note}", place.display()) },
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

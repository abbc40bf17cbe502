//! What there is to execute Runs on, for those who write Plans.

use super::answer::{self, LARGEST_JSON};
use super::refused::{Answer, Refused};
use super::{disk, status};
use crate::app::App;
use axum::extract::State;
use knit_api::cluster::{Cluster, Limits};

/// `GET /cluster`.
pub(super) async fn show(State(app): State<App>) -> Answer {
    let nodes = app.engine.nodes().await;
    let nodes = nodes.map_err(|error| Refused::by_engine("looking at what Runs can be executed on", &error))?;
    // Volumes of a cluster are on none of this server's disks.
    let folder = app.settings.layout.as_ref().filter(|_| app.settings.is_embedded());
    let upload_bytes = match folder {
        Some(layout) => Some(disk::look(layout.root()).await?.disk.free),
        None => None,
    };
    Ok(answer::ok(&Cluster {
        version: knit_api::VERSION.to_owned(),
        registry: Some(status::registry_for_users(&app.settings)),
        engine: app.engine.status().name,
        nodes,
        default_resources: app.engine.default_resources(),
        worker_network: status::worker_network(&app.settings),
        limits: Limits { log_bytes: app.settings.log_limit, request_bytes: LARGEST_JSON as u64, upload_bytes },
    }))
}

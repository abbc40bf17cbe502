//! What a server says of itself: how a client finds out what it may ask for.

use serde::{Deserialize, Serialize};

/// Answer of `GET <apiRoot>/server`. A server that answers 404 is an original one: nothing new is
/// ever sent to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Version of the server.
    pub version: String,
    /// What it can do beyond v1.6.1; see [`capability`].
    pub capabilities: Vec<String>,
    /// Its image registry, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
}

impl ServerInfo {
    /// True when the server announces this capability.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|one| one == capability)
    }
}

/// Names of capabilities.
pub mod capability {
    /// Data travels as a bundle (`application/vnd.knit.bundle`, plain or zstd) both ways.
    pub const BUNDLE: &str = "bundle";
    /// `POST /data?tag=K:V` registers Data and tags in one transaction.
    pub const PUSH_TAGS: &str = "push-tags";
    /// `GET /runs/{id}/wait` answers when the Run is over; `GET /plans/{id}/wait` likewise for a Plan's Runs.
    pub const WAIT: &str = "wait";
    /// `GET /runs/{id}/wait` takes `until=started`, and answers also when the Run's reason is no longer the one
    /// given with `reason=…`.
    pub const WAIT_UNTIL: &str = "wait-until";
    /// `GET /candidates/{kind}` tells what begins as asked.
    pub const CANDIDATES: &str = "candidates";
    /// `GET /data/{id}/lineage` and `GET /plans/{id}/graph` walk graphs at the server.
    pub const LINEAGE: &str = "lineage";
    /// `GET /data`, `/plans` and `/runs` take `limit=`, `after=` and `reverse`, and answer with a header that
    /// leads to the next page.
    pub const PAGES: &str = "pages";
    /// `GET /data/{id}/manifest` and `/data/{id}/files/{path}`, `GET /data/{id}?include=GLOB`,
    /// `POST /data/{id}/verify`.
    pub const CONTENT: &str = "content";
    /// `GET /runs/events` streams how Runs stand and every change of them, until the client goes away.
    pub const EVENTS: &str = "events";
    /// `POST /plans/dry-run`, `GET /plans/{id}/explain`, `GET /data/{id}/explain` and `GET /runs/{id}/why` tell why
    /// there are Runs, or none.
    pub const EXPLAIN: &str = "explain";
    /// `GET /runs/{id}/impact?of=rm|retry`, `GET /data/{id}/impact?of=rm` and `POST /data/{id}/impact` tell what a
    /// change would come to.
    pub const IMPACT: &str = "impact";
    /// `DELETE /data/{id}` removes a Data with the Run that made it.
    pub const REMOVE_DATA: &str = "remove-data";
    /// `GET /cluster` tells what there is to execute Runs on.
    pub const CLUSTER: &str = "cluster";
}

/// An image registry as users reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// `host:port`.
    pub host: String,
    /// True for plain HTTP.
    #[serde(default)]
    pub insecure: bool,
}

/// Answer of `GET <apiRoot>/server/status`: what an operator looks at first. Not on an original server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Version of the server.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Whether the API asks for a token.
    pub auth: bool,
    /// Kind of database and whether it answers.
    pub database: Health,
    /// The engine and what it may hold.
    pub engine: Health,
    /// Where images are pushed to.
    pub registry: Health,
    /// Network of workers: `none` or `host`; `cluster` for whatever a cluster's administrator made it.
    #[serde(rename = "workerNetwork")]
    pub worker_network: String,
    /// Bytes on the disk that holds the installation, where the server keeps anything on a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// Number of Runs by status; statuses without any are left out.
    pub runs: std::collections::BTreeMap<String, u64>,
}

/// One part of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it works.
    pub ok: bool,
    /// What it is and how it does, for a person.
    pub detail: String,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Size in bytes.
    pub total: u64,
    /// Bytes that are free for the server.
    pub free: u64,
}

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

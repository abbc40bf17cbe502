//! What a server has to offer to Plans: what administrators would otherwise have to announce to their users. Not on
//! an original server.

use crate::plan::{NodeLabel, Resources};
use crate::server::Registry;
use serde::{Deserialize, Serialize};

/// Answer of `GET <apiRoot>/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Version of the server.
    pub version: String,
    /// Where images are pushed to, as users reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// Kind of engine that executes Runs.
    pub engine: String,
    /// Where Runs may execute, by name.
    pub nodes: Vec<Node>,
    /// What a Run is given of a resource for which its Plan does not ask.
    #[serde(rename = "defaultResources", default)]
    pub default_resources: Resources,
    /// Network of workers: `none` or `host`; `cluster` for whatever a cluster's administrator made it.
    #[serde(rename = "workerNetwork")]
    pub worker_network: String,
    /// What is cut off or refused when it is larger.
    pub limits: Limits,
}

/// A place where Runs may execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What `on_node` of a Plan may name, to prefer it or to insist on it.
    #[serde(default)]
    pub labels: Vec<NodeLabel>,
    /// What `on_node` of a Plan must name to be let in.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// What Runs may hold here together, and so the most that one may ask for.
    pub capacity: Resources,
    /// What of it they hold now.
    #[serde(rename = "inUse", default)]
    pub in_use: Resources,
}

/// Keeps those Runs away from a node whose Plans do not name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    /// As in `on_node`, before the `=`.
    pub key: String,
    /// After it; may be empty.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Largest things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of log that are kept of one Run.
    #[serde(rename = "logBytes")]
    pub log_bytes: u64,
    /// Bytes of a request that is no upload, such as one that registers a Plan.
    #[serde(rename = "requestBytes")]
    pub request_bytes: u64,
    /// Bytes that one upload may still take: what is free on the disk. Left out where nobody can tell.
    #[serde(rename = "uploadBytes", default, skip_serializing_if = "Option::is_none")]
    pub upload_bytes: Option<u64>,
}

impl std::fmt::Display for Taint {
    /// As `kubectl` writes it: `key=value:effect`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}:{}", self.key, self.value, self.effect)
    }
}

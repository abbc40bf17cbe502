//! What the operator decides, and where the embedded installation keeps its files.

use clap::ValueEnum as _;
use knit_api::quantity::Quantity;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Network of workers: an operator's choice, not reachable from a Plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WorkerNetwork {
    /// A private network with only a loopback device.
    #[default]
    None,
    /// The host's network.
    Host,
}

/// A part of the server that a process may play by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Role {
    /// The API for users.
    Api,
    /// The same for what runs inside the cluster, below `/api/backend`.
    Backend,
    /// The image registry.
    Registry,
    /// New combinations become Runs.
    Projection,
    /// Runs get their volumes.
    Initialize,
    /// Workers are started and followed.
    RunManagement,
    /// Runs end.
    Finishing,
    /// Volumes that nothing refers to are removed.
    GarbageCollection,
    /// What no row knows is removed.
    Housekeeping,
}

/// How the doors of agents are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Reach {
    /// At the address of the Pod: from inside the cluster, or on its only node.
    #[default]
    Direct,
    /// Through the API server: from anywhere that it can be reached from.
    Forward,
}

/// What an operator decides for a cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How to reach it; none for what a Pod is given.
    pub kubeconfig: Option<PathBuf>,
    /// Where everything of ours is.
    pub namespace: String,
    /// The image of `knitd`, for agents and for the containers beside main.
    pub image: String,
    /// Storage class of Data; none for the cluster's default.
    pub storage_class: Option<String>,
    /// What a new volume asks for.
    pub initial_capacity: Quantity,
    /// Priority class of workers; none for the cluster's default.
    pub worker_priority: Option<String>,
    /// How the built-in registry is called by nodes: `localhost:30503`.
    pub registry: String,
    /// Where this process reaches the built-in registry, as `host:port` over plain HTTP: to read what an image
    /// executes by itself.
    pub registry_from_here: String,
    /// How agents are reached.
    pub reach: Reach,
    /// How long an agent is kept after its last use.
    pub agent_idle: std::time::Duration,
    /// How long what keeps a worker from starting may last before its Run fails: an image that cannot be pulled, a
    /// service account that is not there.
    pub start_grace: std::time::Duration,
    /// Largest log of one Run, in bytes.
    pub log_limit: u64,
}

/// Settings of one server process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept.
    pub layout: Layout,
    /// Where the API listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where the registry listens; port 0 picks a free one.
    pub registry_listen: SocketAddr,
    /// What API and registry ask for; none lets everyone in.
    pub token: Option<String>,
    /// Network of workers.
    pub worker_network: WorkerNetwork,
    /// How long workers may take to end when the server stops.
    pub grace: std::time::Duration,
    /// Largest log of one Run, in bytes; what comes after is dropped and said.
    pub log_limit: u64,
    /// What this process does.
    pub roles: BTreeSet<Role>,
    /// URL of the PostgreSQL database; none for SQLite in the installation's folder.
    pub database: Option<String>,
    /// The cluster that Runs execute on; none for this machine.
    pub cluster: Option<Cluster>,
    /// Connections to a PostgreSQL database at one time.
    pub database_connections: u32,
    /// How long a claim on a Run holds that is not renewed: how soon other processes go on with the work of one that
    /// died.
    pub lease: std::time::Duration,
    /// Time between two rounds of housekeeping.
    pub housekeeping: std::time::Duration,
}

/// How long claims hold where many processes work on one database.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(30);
/// Between two rounds of housekeeping.
pub const HOUSEKEEPING: std::time::Duration = std::time::Duration::from_mins(15);

impl Settings {
    /// All roles: an embedded installation, or a cluster served by one process.
    pub fn all_roles() -> BTreeSet<Role> {
        Role::value_variants().iter().copied().collect()
    }

    /// Whether no other process may work beside this one: its database or its engine is of one process only.
    pub fn is_alone(&self) -> bool {
        self.cluster.is_none() || self.database.is_none()
    }

    /// Whether Runs execute on this machine.
    pub fn is_embedded(&self) -> bool {
        self.cluster.is_none()
    }

    /// How long a claim holds. One that nobody else could take need not end before its work does, however long the
    /// database may not answer; it is dropped at the next start.
    pub fn lease(&self) -> std::time::Duration {
        if self.is_alone() { std::time::Duration::from_hours(24) } else { self.lease }
    }

    /// Whether this process plays the role.
    pub fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// The folders of an embedded installation.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The installation's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The SQLite database.
    pub fn database(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// Held exclusively by the one server process of this installation.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What the last orderly stop interrupted.
    pub fn stopped(&self) -> PathBuf {
        self.root.join("stopped.json")
    }

    /// One folder per Data, named by its volume.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Manifests by root digest.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// Blobs of images, and the registry's repositories.
    pub fn content(&self) -> PathBuf {
        self.root.join("content")
    }

    /// Unpacked image layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// One folder per worker.
    pub fn workers(&self) -> PathBuf {
        self.root.join("workers")
    }

    /// The folders into which only the server may look: they hold Data, or what Data can be told from.
    pub fn private_folders(&self) -> [PathBuf; 5] {
        [self.volumes(), self.manifests(), self.content(), self.layers(), self.workers()]
    }
}

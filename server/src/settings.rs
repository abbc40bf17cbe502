//! What the operator decides, and where the embedded installation keeps its files.

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

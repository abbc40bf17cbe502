//! The engine of a cluster: PersistentVolumeClaims as volumes, Jobs as workers, and agents – Pods that mount
//! volumes and have a door through which bytes go in and out.
//!
//! Reading order. [`objects`] and [`observe`] only compute: what is asked of the cluster, and what its answers mean.
//! `client` is every call to the API server: bounded in time, repeated where that can help. `cache` watches what is
//! ours and tells of changes. `credentials` are what an agent and its callers know each other by, `dial` a
//! connection to a door. `workers` are Jobs from their start to their end, `claims` and `nodes` what the cluster
//! has besides, `leftovers` what nobody removed. `agents` are Pods with volumes, `volumes` what is done through them.
//! `recorder` is what a worker tells, `ends` how servers learn of it at once, `conclude` what
//! they do then. [`door`] is the other side: the roles of `knitd` that run inside Pods.
//!
//! [`expansion`] is a helper on each node, and part of no engine.
//!
//! Several servers work on one cluster at a time. What they agree on stands in the store and on the cluster itself;
//! what one of them keeps in memory only makes it faster.

mod agents;
mod cache;
mod claims;
mod client;
mod conclude;
mod credentials;
mod dial;
pub mod door;
mod ends;
mod entrypoint;
pub mod expansion;
mod leftovers;
mod logs;
mod nodes;
pub mod objects;
pub mod observe;
mod recorder;
mod volumes;
mod workers;

use crate::engine::{
    ByteStream, Checks, Engine, EngineError, EngineEvent, EngineStatus, Entry, Form, Manifest, Observation, Registered,
    Sealed, Started, Volume, Work,
};
use crate::settings::Cluster;
use crate::store::Store;
use agents::Agents;
use async_trait::async_trait;
use cache::Cache;
use claims::Classes;
use client::Client;
use ends::Ends;
use entrypoint::Entrypoints;
use knit_api::bundle::Selection;
use knit_api::cluster::Node;
use knit_api::id::RunId;
use knit_api::plan::Resources;
use nodes::Capacity;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// The engine of one namespace of a cluster. Any number of processes may have one at a time.
#[derive(Clone)]
pub struct KubernetesEngine {
    shared: Arc<Shared>,
}

/// What the parts of the engine share.
struct Shared {
    settings: Cluster,
    client: Client,
    cache: Cache,
    agents: Agents,
    ends: Ends,
    entrypoints: Entrypoints,
    capacity: Capacity,
    classes: Classes,
    /// Manifests are kept there.
    store: Store,
}

impl std::fmt::Debug for KubernetesEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesEngine").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl KubernetesEngine {
    /// Connects to the cluster and begins to watch what is ours. Fails when the API server does not answer, or does
    /// not let us in. Must be called within a Tokio runtime.
    pub async fn open(settings: Cluster, store: Store) -> Result<Self, EngineError> {
        let client = Client::connect(&settings).await?;
        let cache = Cache::start(&client);
        let agents = Agents::new(&settings, &client, &cache);
        let ends = Ends::new(&settings, &client, &cache);
        let (capacity, classes, entrypoints) = (Capacity::default(), Classes::default(), Entrypoints::default());
        let shared = Shared { settings, client, cache, agents, ends, entrypoints, capacity, classes, store };
        // For the status, which is told without asking.
        if let Err(error) = shared.nodes().await {
            tracing::warn!(%error, "what the cluster has is not known yet");
        }
        Ok(Self { shared: Arc::new(shared) })
    }
}

#[async_trait]
impl Engine for KubernetesEngine {
    fn status(&self) -> EngineStatus {
        self.shared.status()
    }

    async fn check(&self) -> Result<(), EngineError> {
        self.shared.client.check().await
    }

    async fn nodes(&self) -> Result<Vec<Node>, EngineError> {
        self.shared.nodes().await
    }

    fn default_resources(&self) -> Resources {
        objects::default_resources()
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        self.shared.cache.events()
    }

    async fn create_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.shared.create_volume(volume).await
    }

    async fn receive(&self, volume: &Volume, form: Form, body: ByteStream) -> Result<Sealed, EngineError> {
        self.shared.receive(volume, form, body).await
    }

    async fn send(
        &self,
        volume: &Volume,
        form: Form,
        registered: Option<&Registered>,
    ) -> Result<ByteStream, EngineError> {
        self.shared.send(volume, form, registered).await
    }

    async fn send_part(&self, volume: &Volume, form: Form, only: Selection) -> Result<ByteStream, EngineError> {
        self.shared.send_part(volume, form, only).await
    }

    async fn look_up(&self, digest: &str, path: &[u8]) -> Result<Entry, EngineError> {
        self.shared.look_up(digest, path).await
    }

    async fn manifest(&self, digest: &str, under: Option<&[u8]>) -> Result<Manifest, EngineError> {
        self.shared.manifest(digest, under).await
    }

    async fn read(
        &self,
        volume: &Volume,
        path: &[u8],
        size: u64,
        bytes: Range<u64>,
    ) -> Result<ByteStream, EngineError> {
        self.shared.read(volume, path, size, bytes).await
    }

    async fn verify(&self, volume: &Volume, digest: &str) -> Result<Checks, EngineError> {
        self.shared.verify(volume, digest).await
    }

    async fn seal(&self, volume: &Volume) -> Result<Sealed, EngineError> {
        self.shared.seal(volume).await
    }

    async fn conclude(
        &self,
        run: &RunId,
        outputs: &[Volume],
        grace: Duration,
    ) -> Result<Vec<Result<Sealed, EngineError>>, EngineError> {
        Box::pin(self.shared.conclude(run, outputs, grace)).await
    }

    async fn remove_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.shared.remove_volume(volume).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>, EngineError> {
        self.shared.list_volumes().await
    }

    async fn start(&self, work: &Work) -> Result<Started, EngineError> {
        self.shared.start(work).await
    }

    async fn observe(&self, run: &RunId) -> Result<Observation, EngineError> {
        self.shared.observe(run).await
    }

    async fn remove_worker(&self, run: &RunId, grace: Duration) -> Result<(), EngineError> {
        self.shared.remove_worker(run, grace).await
    }

    async fn workers(&self) -> Result<Vec<RunId>, EngineError> {
        self.shared.list_workers().await
    }

    async fn tidy(&self, before: SystemTime) -> Result<u64, EngineError> {
        Ok(self.shared.remove_leftovers().await? + self.shared.give_up_manifests(before).await?)
    }

    async fn log(&self, run: &RunId, volume: &Volume, follow: bool) -> Result<ByteStream, EngineError> {
        self.shared.log(run, volume, follow).await
    }

    async fn log_tail(&self, run: &RunId, volume: &Volume, most: usize) -> Result<Vec<u8>, EngineError> {
        self.shared.log_tail(run, volume, most).await
    }
}

//! An engine whose calls are counted and timed; all else is that of the engine inside.

use super::{
    ByteStream, Checks, Engine, EngineError, EngineEvent, EngineStatus, Entry, Form, Manifest, Observation, Registered,
    Sealed, Started, Volume, Work,
};
use crate::clock::Stopwatch;
use crate::metrics::Metrics;
use async_trait::async_trait;
use knit_api::bundle::Selection;
use knit_api::cluster::Node;
use knit_api::id::RunId;
use knit_api::plan::Resources;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::UnboundedReceiver;

/// Counts what `engine` is asked for.
#[derive(Debug)]
pub struct Measured<E> {
    engine: E,
    metrics: Arc<Metrics>,
}

impl<E> Measured<E> {
    /// Counts there.
    pub fn new(engine: E, metrics: Arc<Metrics>) -> Self {
        Self { engine, metrics }
    }

    async fn timed<T>(
        &self,
        call: &'static str,
        answer: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let watch = Stopwatch::start();
        let answer = answer.await;
        // What a caller did wrong, or asked for in vain, is no failure of the engine.
        let is_well = !matches!(
            &answer,
            Err(EngineError::Failed { .. } | EngineError::Unavailable { .. } | EngineError::NoSpace(_))
        );
        self.metrics.engine(call, is_well, watch.elapsed());
        answer
    }
}

#[async_trait]
impl<E: Engine> Engine for Measured<E> {
    fn status(&self) -> EngineStatus {
        self.engine.status()
    }

    async fn check(&self) -> Result<(), EngineError> {
        self.timed("check", self.engine.check()).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, EngineError> {
        self.timed("nodes", self.engine.nodes()).await
    }

    fn default_resources(&self) -> Resources {
        self.engine.default_resources()
    }

    fn events(&self) -> UnboundedReceiver<EngineEvent> {
        self.engine.events()
    }

    async fn create_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.timed("create_volume", self.engine.create_volume(volume)).await
    }

    async fn receive(&self, volume: &Volume, form: Form, body: ByteStream) -> Result<Sealed, EngineError> {
        self.timed("receive", self.engine.receive(volume, form, body)).await
    }

    async fn send(
        &self,
        volume: &Volume,
        form: Form,
        registered: Option<&Registered>,
    ) -> Result<ByteStream, EngineError> {
        self.timed("send", self.engine.send(volume, form, registered)).await
    }

    async fn send_part(&self, volume: &Volume, form: Form, only: Selection) -> Result<ByteStream, EngineError> {
        self.timed("send_part", self.engine.send_part(volume, form, only)).await
    }

    async fn look_up(&self, digest: &str, path: &[u8]) -> Result<Entry, EngineError> {
        self.timed("look_up", self.engine.look_up(digest, path)).await
    }

    async fn manifest(&self, digest: &str, under: Option<&[u8]>) -> Result<Manifest, EngineError> {
        self.timed("manifest", self.engine.manifest(digest, under)).await
    }

    async fn read(
        &self,
        volume: &Volume,
        path: &[u8],
        size: u64,
        bytes: Range<u64>,
    ) -> Result<ByteStream, EngineError> {
        self.timed("read", self.engine.read(volume, path, size, bytes)).await
    }

    async fn verify(&self, volume: &Volume, digest: &str) -> Result<Checks, EngineError> {
        self.timed("verify", self.engine.verify(volume, digest)).await
    }

    async fn seal(&self, volume: &Volume) -> Result<Sealed, EngineError> {
        self.timed("seal", self.engine.seal(volume)).await
    }

    async fn conclude(
        &self,
        run: &RunId,
        outputs: &[Volume],
        grace: Duration,
    ) -> Result<Vec<Result<Sealed, EngineError>>, EngineError> {
        self.timed("conclude", self.engine.conclude(run, outputs, grace)).await
    }

    async fn remove_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.timed("remove_volume", self.engine.remove_volume(volume)).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>, EngineError> {
        self.timed("volumes", self.engine.volumes()).await
    }

    async fn start(&self, work: &Work) -> Result<Started, EngineError> {
        self.timed("start", self.engine.start(work)).await
    }

    async fn observe(&self, run: &RunId) -> Result<Observation, EngineError> {
        self.timed("observe", self.engine.observe(run)).await
    }

    async fn remove_worker(&self, run: &RunId, grace: Duration) -> Result<(), EngineError> {
        self.timed("remove_worker", self.engine.remove_worker(run, grace)).await
    }

    async fn workers(&self) -> Result<Vec<RunId>, EngineError> {
        self.timed("workers", self.engine.workers()).await
    }

    async fn tidy(&self, before: SystemTime) -> Result<u64, EngineError> {
        self.timed("tidy", self.engine.tidy(before)).await
    }

    async fn log(&self, run: &RunId, volume: &Volume, follow: bool) -> Result<ByteStream, EngineError> {
        self.timed("log", self.engine.log(run, volume, follow)).await
    }

    async fn log_tail(&self, run: &RunId, volume: &Volume, most: usize) -> Result<Vec<u8>, EngineError> {
        self.timed("log_tail", self.engine.log_tail(run, volume, most)).await
    }
}

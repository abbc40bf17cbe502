//! Workers: one Job for each Run, from its start to its end. And what is made without an agent: volumes and what the
//! cluster tells of itself.

use super::{Shared, unbuilt};
use crate::engine::{EngineError, EngineStatus, Observation, Sealed, Started, Volume, Work};
use knit_api::cluster::Node;
use knit_api::id::RunId;
use std::time::{Duration, SystemTime};

impl Shared {
    pub(super) fn status(&self) -> EngineStatus {
        EngineStatus {
            name: "kubernetes".to_owned(),
            detail: format!("Jobs in namespace {}", self.settings.namespace),
            cpu_millis: 0,
            memory_bytes: 0,
            workers: 0,
        }
    }

    pub(super) async fn nodes(&self) -> Result<Vec<Node>, EngineError> {
        unbuilt("looking at nodes")
    }

    pub(super) async fn create_volume(&self, _: &Volume) -> Result<(), EngineError> {
        unbuilt("making a volume")
    }

    pub(super) async fn remove_volume(&self, _: &Volume) -> Result<(), EngineError> {
        unbuilt("removing a volume")
    }

    pub(super) async fn list_volumes(&self) -> Result<Vec<Volume>, EngineError> {
        unbuilt("listing volumes")
    }

    pub(super) async fn start(&self, _: &Work) -> Result<Started, EngineError> {
        unbuilt("starting a worker")
    }

    pub(super) async fn observe(&self, _: &RunId) -> Result<Observation, EngineError> {
        unbuilt("observing a worker")
    }

    pub(super) async fn conclude(
        &self,
        _: &RunId,
        _outputs: &[Volume],
        _grace: Duration,
    ) -> Result<Vec<Result<Sealed, EngineError>>, EngineError> {
        unbuilt("concluding a worker")
    }

    pub(super) async fn remove_worker(&self, _: &RunId, _grace: Duration) -> Result<(), EngineError> {
        unbuilt("removing a worker")
    }

    pub(super) async fn list_workers(&self) -> Result<Vec<RunId>, EngineError> {
        unbuilt("listing workers")
    }

    pub(super) async fn tidy(&self, _before: SystemTime) -> Result<u64, EngineError> {
        Ok(0)
    }
}

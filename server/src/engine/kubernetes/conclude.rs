//! The end of a worker: its outputs are made final, and it goes.

use super::{Shared, unbuilt};
use crate::engine::{EngineError, Sealed, Volume};
use knit_api::id::RunId;
use std::time::Duration;

impl Shared {
    pub(super) async fn conclude(
        &self,
        _: &RunId,
        _outputs: &[Volume],
        _grace: Duration,
    ) -> Result<Vec<Result<Sealed, EngineError>>, EngineError> {
        unbuilt("concluding a worker")
    }
}

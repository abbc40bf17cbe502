//! The log of a Run: from the recorder while the worker lives, from its volume afterwards.

use super::{Shared, unbuilt};
use crate::engine::{ByteStream, EngineError, Volume};
use knit_api::id::RunId;

impl Shared {
    pub(super) async fn log(&self, _: &RunId, _: &Volume, _follow: bool) -> Result<ByteStream, EngineError> {
        unbuilt("reading a log")
    }

    pub(super) async fn log_tail(&self, _: &RunId, _: &Volume, _most: usize) -> Result<Vec<u8>, EngineError> {
        unbuilt("reading the end of a log")
    }
}

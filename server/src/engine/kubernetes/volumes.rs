//! What is done with volumes: made and removed as PersistentVolumeClaims; filled, read and sealed through agents.

use super::{Shared, unbuilt};
use crate::engine::{ByteStream, Checks, EngineError, Entry, Form, Manifest, Registered, Sealed, Volume};
use knit_api::bundle::Selection;
use std::ops::Range;

impl Shared {
    pub(super) async fn receive(&self, _: &Volume, _: Form, _: ByteStream) -> Result<Sealed, EngineError> {
        unbuilt("receiving a volume")
    }

    pub(super) async fn send(&self, _: &Volume, _: Form, _: Option<&Registered>) -> Result<ByteStream, EngineError> {
        unbuilt("sending a volume")
    }

    pub(super) async fn send_part(&self, _: &Volume, _: Form, _: Selection) -> Result<ByteStream, EngineError> {
        unbuilt("sending a part of a volume")
    }

    pub(super) async fn look_up(&self, _: &str, _: &[u8]) -> Result<Entry, EngineError> {
        unbuilt("looking into a manifest")
    }

    pub(super) async fn manifest(&self, _: &str, _: Option<&[u8]>) -> Result<Manifest, EngineError> {
        unbuilt("reading a manifest")
    }

    pub(super) async fn read(
        &self,
        _: &Volume,
        _: &[u8],
        _size: u64,
        _: Range<u64>,
    ) -> Result<ByteStream, EngineError> {
        unbuilt("reading a file")
    }

    pub(super) async fn verify(&self, _: &Volume, _: &str) -> Result<Checks, EngineError> {
        unbuilt("verifying a volume")
    }

    pub(super) async fn seal(&self, _: &Volume) -> Result<Sealed, EngineError> {
        unbuilt("sealing a volume")
    }
}

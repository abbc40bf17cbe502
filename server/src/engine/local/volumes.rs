//! Volumes as folders: received, sent, sealed and removed, with the manifests beside them.

use crate::engine::{ByteStream, EngineError, Form, Sealed, Volume};
use crate::settings::Layout;
use std::path::PathBuf;

/// All volumes of this machine.
#[derive(Clone, Debug)]
pub struct Volumes {
    layout: Layout,
}

impl Volumes {
    /// Opens the volumes below `layout`, and removes what an earlier process left half done.
    pub fn open(layout: Layout) -> Result<Self, EngineError> {
        Ok(Self { layout })
    }

    /// The folder of a volume.
    pub fn path(&self, volume: &Volume) -> PathBuf {
        self.layout.volumes().join(volume.as_str())
    }

    /// See [`crate::engine::Engine::create_volume`].
    pub async fn create(&self, _volume: &Volume) -> Result<(), EngineError> {
        Ok(())
    }

    /// See [`crate::engine::Engine::receive`].
    pub async fn receive(&self, volume: &Volume, _form: Form, _body: ByteStream) -> Result<Sealed, EngineError> {
        Err(EngineError::NotFound(volume.to_string()))
    }

    /// See [`crate::engine::Engine::send`].
    pub async fn send(&self, volume: &Volume, _form: Form) -> Result<ByteStream, EngineError> {
        Err(EngineError::NotFound(volume.to_string()))
    }

    /// See [`crate::engine::Engine::seal`].
    pub async fn seal(&self, volume: &Volume) -> Result<Sealed, EngineError> {
        Err(EngineError::NotFound(volume.to_string()))
    }

    /// See [`crate::engine::Engine::remove_volume`].
    pub async fn remove(&self, _volume: &Volume) -> Result<(), EngineError> {
        Ok(())
    }

    /// See [`crate::engine::Engine::volumes`].
    pub async fn list(&self) -> Result<Vec<Volume>, EngineError> {
        Ok(Vec::new())
    }
}

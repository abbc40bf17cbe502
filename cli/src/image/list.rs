//! Lists what the registry holds: repositories, tags, digests and sizes.

use super::ImageError;
use knit_api::server::Registry;

/// One tag of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its repository, without a host.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// `sha256:…` of the manifest or index that the tag names.
    pub digest: String,
    /// Bytes of its configuration and layers as they are stored; of all platforms for an index.
    pub size: u64,
}

/// All tags, sorted by repository and tag.
pub async fn list(registry: &Registry, token: Option<&str>) -> Result<Vec<Listed>, ImageError> {
    let _ = token;
    Err(ImageError::Unreachable { registry: registry.host.clone(), cause: String::new() })
}

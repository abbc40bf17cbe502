//! Lists what the registry holds: repositories, tags, digests and sizes.

use super::manifest::Manifest;
use super::registry::Client;
use super::{Access, ImageError};
use knit_api::digest::Digest;
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
pub async fn list(registry: &Registry, access: &Access) -> Result<Vec<Listed>, ImageError> {
    let client = Client::new(registry, access)?;
    let mut listed = Vec::new();
    for repository in client.names("_catalog", "repositories").await? {
        for tag in client.names(&format!("{repository}/tags/list"), "tags").await? {
            // One that was deleted meanwhile is not there.
            let Some(found) = client.manifest(&repository, &tag).await? else { continue };
            let digest = found.digest.unwrap_or_else(|| Digest::of(&found.bytes).to_string());
            let size = size(&client, &repository, &found.bytes).await?;
            listed.push(Listed { repository: repository.clone(), tag, digest, size });
        }
    }
    listed.sort_by(|a, b| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)));
    Ok(listed)
}

/// Bytes of what a manifest, or all that an index lists, refers to.
async fn size(client: &Client, repository: &str, bytes: &[u8]) -> Result<u64, ImageError> {
    let what = format!("reading a manifest of {repository}");
    let manifest = Manifest::read(bytes).map_err(|cause| client.failed(&what, cause))?;
    let mut size: u64 = manifest.blobs().map(|blob| blob.size).fold(0, u64::saturating_add);
    for child in manifest.manifests() {
        let Some(found) = client.manifest(repository, &child.digest.to_string()).await? else { continue };
        let child = Manifest::read(&found.bytes).map_err(|cause| client.failed(&what, cause))?;
        size = child.blobs().map(|blob| blob.size).fold(size, u64::saturating_add);
    }
    Ok(size)
}

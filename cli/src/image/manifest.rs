//! Manifests and indexes as far as pushing and listing look into them.

use knit_api::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Largest manifest in bytes.
pub(super) const MANIFEST_LIMIT: u64 = 4 << 20;

/// A reference to content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

/// A manifest or an index.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    #[serde(default)]
    schema_version: i64,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    manifests: Option<Vec<Descriptor>>,
}

impl Manifest {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if manifest.schema_version != 2 {
            return Err("its manifest is not of schema 2; make it again with a current tool".to_owned());
        }
        if manifest.manifests.is_none() && manifest.config.is_none() {
            return Err("its manifest names neither a configuration nor manifests".to_owned());
        }
        Ok(manifest)
    }

    /// As it says itself, or as its members say.
    pub(super) fn media_type(&self) -> &str {
        let guess = if self.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
        self.media_type.as_deref().unwrap_or(guess)
    }

    pub(super) fn is_index(&self) -> bool {
        self.manifests.is_some()
    }

    /// What an index lists.
    pub(super) fn manifests(&self) -> &[Descriptor] {
        self.manifests.as_deref().unwrap_or_default()
    }

    /// What says which program is in an image; nothing for an index, or what is no image.
    pub(super) fn configuration(&self) -> Option<&Descriptor> {
        let kinds = [OCI_CONFIG, DOCKER_CONFIG];
        self.config.as_ref().filter(|config| kinds.contains(&config.media_type.as_str()))
    }

    /// What a registry must have before the manifest: not layers that are only to be had elsewhere.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let foreign = |layer: &Descriptor| {
            (layer.media_type.contains("nondistributable") || layer.media_type.contains(".foreign."))
                && !layer.urls.is_empty()
        };
        self.config.iter().chain(self.layers.iter().filter(move |layer| !foreign(layer)))
    }
}

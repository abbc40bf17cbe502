//! What a manifest or an index refers to, read from untrusted JSON.

use super::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Largest manifest in bytes, as registries commonly hold.
pub const MANIFEST_LIMIT: u64 = 4 << 20;

/// Media types that are known here.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// All that manifests are accepted as.
    pub const MANIFESTS: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Above [`MANIFEST_LIMIT`].
    #[error("the manifest is larger than {} MiB", MANIFEST_LIMIT >> 20)]
    TooLarge,
    /// Docker's first form, without verifiable layers.
    #[error("the manifest has Docker's schema 1, which is out of use: push the image again with a current tool")]
    Schema1,
    /// Some other kind.
    #[error("manifests of the kind \"{0}\" are not known")]
    MediaType(String),
    /// Not what its kind demands.
    #[error("the manifest is not valid: {0}")]
    Invalid(String),
}

/// A reference to content by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Kind of the content.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For which platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Kind of artifact, in the answer about referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Free words about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Where else it may be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

/// What a machine must be to run an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// As Go names it: `linux`.
    #[serde(default)]
    pub os: String,
    /// Of the processor: `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{variant}"),
        }
    }
}

/// A manifest by what it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// One image, or some other artifact.
    Image {
        /// How it is run.
        config: Descriptor,
        /// Its layers, the lowest first.
        layers: Vec<Descriptor>,
        /// What it says something about.
        subject: Option<Descriptor>,
        /// Kind of artifact, or the kind of its configuration.
        artifact_type: String,
        /// Free words about it.
        annotations: Option<BTreeMap<String, String>>,
    },
    /// Images for several platforms.
    Index {
        /// One for each.
        manifests: Vec<Descriptor>,
        /// What it says something about.
        subject: Option<Descriptor>,
        /// Kind of artifact; may be empty.
        artifact_type: String,
        /// Free words about it.
        annotations: Option<BTreeMap<String, String>>,
    },
}

/// All members that any kind of manifest has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: i64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
    // Docker's schema 1.
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads a manifest that was announced as `media_type`; when that is empty, as its content says.
    /// Also returns the media type it has.
    pub fn read(bytes: &[u8], media_type: &str) -> Result<(Self, &'static str), ManifestError> {
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(ManifestError::TooLarge);
        }
        let announced = media_type.split(';').next().unwrap_or_default().trim();
        if announced.starts_with("application/vnd.docker.distribution.manifest.v1") {
            return Err(ManifestError::Schema1);
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| ManifestError::Invalid(error.to_string()))?;
        if raw.schema_version == 1 || raw.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        let kind = kind(announced, &raw)?;
        let invalid = |what: &str| ManifestError::Invalid(what.to_owned());
        if raw.schema_version != 2 {
            return Err(invalid("schemaVersion must be 2"));
        }
        if raw.media_type.as_deref().is_some_and(|own| own != kind) {
            return Err(invalid("its mediaType is not the one it was sent as"));
        }
        if matches!(kind, media_type::OCI_INDEX | media_type::DOCKER_LIST) {
            if raw.config.is_some() || raw.layers.is_some() {
                return Err(invalid("an index has no config or layers"));
            }
            let manifests = raw.manifests.ok_or_else(|| invalid("an index needs manifests"))?;
            let artifact_type = raw.artifact_type.unwrap_or_default();
            let (subject, annotations) = (raw.subject, raw.annotations);
            return Ok((Self::Index { manifests, subject, artifact_type, annotations }, kind));
        }
        if raw.manifests.is_some() {
            return Err(invalid("an image has no manifests"));
        }
        let config = raw.config.ok_or_else(|| invalid("an image needs a config"))?;
        let layers = raw.layers.ok_or_else(|| invalid("an image needs layers"))?;
        let artifact_type =
            raw.artifact_type.filter(|one| !one.is_empty()).unwrap_or_else(|| config.media_type.clone());
        let (subject, annotations) = (raw.subject, raw.annotations);
        Ok((Self::Image { config, layers, subject, artifact_type, annotations }, kind))
    }

    /// What it says something about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image { subject, .. } | Self::Index { subject, .. } => subject.as_ref(),
        }
    }

    /// The blobs it refers to. Layers that may only be had elsewhere are left out.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match self {
            Self::Image { config, layers, .. } => (Some(config), layers.as_slice()),
            Self::Index { .. } => (None, [].as_slice()),
        };
        config.into_iter().chain(layers.iter().filter(|layer| !layer.is_foreign()))
    }

    /// The manifests it refers to.
    pub fn children(&self) -> &[Descriptor] {
        match self {
            Self::Image { .. } => &[],
            Self::Index { manifests, .. } => manifests,
        }
    }
}

impl Descriptor {
    /// True for a layer that registries do not hold.
    pub fn is_foreign(&self) -> bool {
        (self.media_type.contains("nondistributable") || self.media_type.contains(".foreign."))
            && self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

fn kind(announced: &str, raw: &Raw) -> Result<&'static str, ManifestError> {
    let told = if announced.is_empty() { raw.media_type.as_deref().unwrap_or_default() } else { announced };
    if told.is_empty() {
        let index = raw.manifests.is_some();
        return Ok(if index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST });
    }
    let known = media_type::MANIFESTS.into_iter().find(|known| *known == told);
    known.ok_or_else(|| ManifestError::MediaType(told.chars().filter(|c| !c.is_control()).take(120).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":0}}"#, Digest::of(b""))
    }

    #[test]
    fn manifests_are_read_by_their_kind_and_nothing_else() {
        let (config, layer) = (descriptor("c"), descriptor("l"));
        let image = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{layer}]}}"#);
        assert_eq!(Manifest::read(image.as_bytes(), media_type::OCI_MANIFEST).unwrap().0.blobs().count(), 2);
        assert_eq!(Manifest::read(image.as_bytes(), "").unwrap().1, media_type::OCI_MANIFEST);
        assert_eq!(Manifest::read(index.as_bytes(), "").unwrap().1, media_type::OCI_INDEX);
        assert_eq!(Manifest::read(index.as_bytes(), media_type::DOCKER_LIST).unwrap().0.children().len(), 1);
        for (text, kind) in [
            (image.as_str(), media_type::OCI_INDEX),
            (index.as_str(), media_type::OCI_MANIFEST),
            (image.as_str(), "text/plain"),
            ("{}", ""),
            ("[]", ""),
            ("", ""),
            (r#"{"schemaVersion":2}"#, ""),
            (&image.replace("\"size\":0", "\"size\":-1"), ""),
            (&image.replace("sha256:", "sha256:../"), ""),
            (&image.replace(":2,", r#":2,"mediaType":"application/vnd.oci.image.index.v1+json","#), ""),
        ] {
            assert!(Manifest::read(text.as_bytes(), kind).is_err(), "{text} as {kind}");
        }
    }

    #[test]
    fn schema_1_is_refused_with_what_to_do() {
        for (text, kind) in [
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, ""),
            ("{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ] {
            assert_eq!(Manifest::read(text.as_bytes(), kind), Err(ManifestError::Schema1));
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_a_manifest_never_fails_hard(bytes: Vec<u8>, kind in ".{0,30}") {
            let _ = Manifest::read(&bytes, &kind);
        }
    }
}

//! An image's configuration: how its process is started, and what its layers are.

use crate::content::{Digest, Platform};
use serde::Deserialize;

/// Largest configuration in bytes.
pub(super) const CONFIG_LIMIT: u64 = 8 << 20;

/// What is needed of a configuration.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    /// What it was made for.
    #[serde(flatten)]
    pub platform: Platform,
    #[serde(default)]
    config: Option<Process>,
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// Members may also be `null`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Process {
    pub user: Option<String>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: Option<String>,
}

impl Config {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// The digests of the unpacked layers, and how the process is started.
    pub(super) fn into_parts(self) -> (Vec<Digest>, Process) {
        (self.rootfs.diff_ids.unwrap_or_default(), self.config.unwrap_or_default())
    }
}

/// True for the configurations of container images; other artifacts have others.
pub(super) fn is_image(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    )
}

/// True for layers that are tar archives, compressed or not.
pub(super) fn is_tar(media_type: &str) -> bool {
    let known = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    known.iter().any(|start| media_type.starts_with(start))
        && media_type.contains("tar")
        && !media_type.ends_with("+encrypted")
}

/// Addresses a layer together with all below it, as the image specification defines it.
pub(super) fn chain_id(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    below.map_or(*diff_id, |below| Digest::of(format!("{below} {diff_id}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_null_members_are_empty() {
        let diff_id = Digest::of(b"");
        for text in [
            format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#),
            format!(
                r#"{{"os":"linux","architecture":"amd64","config":{{"User":null,"Env":null,"Cmd":null,"X":1}},
                "rootfs":{{"diff_ids":["{diff_id}"]}}}}"#
            ),
            format!(r#"{{"os":"linux","architecture":"amd64","config":null,"rootfs":{{"diff_ids":["{diff_id}"]}}}}"#),
        ] {
            let config = Config::read(text.as_bytes()).unwrap();
            assert_eq!(config.platform.to_string(), "linux/amd64");
            let (diff_ids, process) = config.into_parts();
            assert_eq!(diff_ids, [diff_id]);
            assert!(process.user.is_none() && process.env.is_none() && process.cmd.is_none());
        }
        for text in ["", "[]", "{}", r#"{"rootfs":{"diff_ids":["sha256:../x"]}}"#] {
            assert!(Config::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn only_layers_that_are_tar_archives_are_unpacked() {
        for (kind, tar) in [
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_tar(kind), tar, "{kind}");
        }
    }
}

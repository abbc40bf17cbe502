//! What the registry's and the images' tests share: a running registry, small images, real clients.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use knit_server::content::{ContentStore, Digest};
use knit_server::registry::{Auth, router};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

pub(crate) const TOKEN: &str = "s3cr3t-token";

/// A registry on a free port of this machine, with its store in a temporary folder.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    pub(crate) content: Arc<ContentStore>,
    pub(crate) folder: tempfile::TempDir,
}

impl Registry {
    pub(crate) async fn start(token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let content = Arc::new(ContentStore::open(&folder.path().join("content")).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(content.clone(), Auth::new(token), Arc::default());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, content, folder }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `docker://…` for skopeo.
    pub(crate) fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Runs a program to its end, off the runtime's threads, and demands that it succeeds.
pub(crate) async fn run(program: &str, args: &[&str]) -> String {
    let output = output(program, args).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

pub(crate) async fn output(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What curl saw: status and everything else, headers in lower case.
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The first error's code.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// One request with the token.
pub(crate) async fn curl(registry: &Registry, method: &str, path: &str, more: &[&str]) -> Seen {
    let user = format!("x:{TOKEN}");
    let mut args = vec!["--user", &user];
    args.extend(more);
    curl_bare(registry, method, path, &args).await
}

pub(crate) async fn curl_bare(registry: &Registry, method: &str, path: &str, more: &[&str]) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let (head, body) = (folder.path().join("head"), folder.path().join("body"));
    let url = if path.starts_with("http") { path.to_owned() } else { registry.url(path) };
    let mut args = vec!["-sS", "-D", head.to_str().unwrap(), "-o", body.to_str().unwrap(), "-w", "%{http_code}"];
    args.extend(if method == "HEAD" { vec!["--head"] } else { vec!["-X", method] });
    args.extend(more);
    args.push(&url);
    let status = run("curl", &args).await.parse().unwrap();
    let head = std::fs::read_to_string(head).unwrap();
    Seen { status, head, body: std::fs::read(body).unwrap_or_default() }
}

/// Adds an entry to a tar archive.
pub(crate) fn entry(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    header.set_mtime(1_000_000_000);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, content).unwrap();
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI layout with one image of these layers, each a tar archive; returns the manifest's digest.
pub(crate) fn layout(folder: &Path, name: &str, layers: &[Vec<u8>], gzipped: bool) -> Digest {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let bytes = if gzipped { gzip(layer) } else { layer.clone() };
            let suffix = if gzipped { "+gzip" } else { "" };
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                "digest": put(&bytes), "size": bytes.len(),
            })
        })
        .collect();
    let config = serde_json::json!({
        "architecture": architecture(), "os": "linux",
        "config": {
            "User": "1000:1000", "WorkingDir": "/work", "Env": ["PATH=/bin", "A=b"],
            "Entrypoint": ["/bin/hello"], "Cmd": ["world"],
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": put(config.as_bytes()), "size": config.len(),
        },
        "layers": layers,
    })
    .to_string();
    let digest = put(manifest.as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": name },
        }],
    });
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest
}

pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Two small layers: a program and a change to it.
pub(crate) fn small_layers() -> Vec<Vec<u8>> {
    let mut lower = tar::Builder::new(Vec::new());
    entry(&mut lower, "bin/", tar::EntryType::Directory, 0o755, b"");
    entry(&mut lower, "bin/hello", tar::EntryType::Regular, 0o755, b"#!/bin/sh\necho hello\n");
    entry(&mut lower, "etc/", tar::EntryType::Directory, 0o755, b"");
    entry(&mut lower, "etc/old", tar::EntryType::Regular, 0o644, b"old");
    let mut upper = tar::Builder::new(Vec::new());
    entry(&mut upper, "etc/", tar::EntryType::Directory, 0o750, b"");
    entry(&mut upper, "etc/.wh.old", tar::EntryType::Regular, 0o644, b"");
    entry(&mut upper, "etc/new", tar::EntryType::Regular, 0o600, b"new");
    vec![lower.into_inner().unwrap(), upper.into_inner().unwrap()]
}

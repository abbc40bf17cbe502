//! Makes a one-layer image from a folder, without Docker.
//!
//! The same files make the same image: entries are sorted, owned by root, and dated 1970 unless
//! their times are asked for; nothing else of this machine goes into it but its architecture.

use super::digest::Hashing;
use super::manifest::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use super::{ImageError, Place, Source};
use knit_api::digest::Digest;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

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
    /// Keeps the files' times, in whole seconds. Otherwise all are 1970-01-01, so that the same files
    /// always make the same digest.
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
    check(&options)?;
    let rootfs = rootfs.to_owned();
    let packed = tokio::task::spawn_blocking(move || write(&rootfs, &options)).await;
    packed.map_err(|error| local("packing the image", io::Error::other(error))).flatten()
}

fn local(what: impl Into<String>, cause: io::Error) -> ImageError {
    ImageError::Local { what: what.into(), cause }
}

fn check(options: &PackOptions) -> Result<(), ImageError> {
    for pair in &options.env {
        if pair.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(ImageError::Pack(format!("\"{pair}\" is no environment variable: write NAME=value")));
        }
    }
    if let Some(workdir) = options.workdir.as_deref().filter(|workdir| !workdir.starts_with('/')) {
        return Err(ImageError::Pack(format!("the working directory \"{workdir}\" is not absolute")));
    }
    let mut words = options.entrypoint.iter().chain(&options.cmd).chain(&options.env).chain(&options.workdir);
    if words.any(|word| word.contains('\0')) {
        return Err(ImageError::Pack("an option holds a NUL character".to_owned()));
    }
    if options.entrypoint.first().is_some_and(String::is_empty) {
        return Err(ImageError::Pack("the entrypoint is empty".to_owned()));
    }
    Ok(())
}

fn write(rootfs: &Path, options: &PackOptions) -> Result<Packed, ImageError> {
    std::fs::read_dir(rootfs).map_err(|cause| local("it cannot be read as a folder", cause))?;
    let making = |cause| local("writing the image to the temporary folder", cause);
    let layout = tempfile::Builder::new().prefix("knit-image-").tempdir().map_err(making)?;
    let blobs = layout.path().join("blobs").join("sha256");
    std::fs::create_dir_all(&blobs).map_err(making)?;
    let (layer, diff_id, size) = write_layer(rootfs, &layout.path().join("layer"), options.keep_times)?;
    std::fs::rename(layout.path().join("layer"), blobs.join(layer.hex())).map_err(making)?;

    let put = |document: &serde_json::Value| {
        let bytes = document.to_string();
        let digest = Digest::of(bytes.as_bytes());
        std::fs::write(blobs.join(digest.hex()), &bytes).map_err(making)?;
        Ok::<_, ImageError>((digest, bytes.len()))
    };
    let (config, config_size) = put(&config(options, &diff_id))?;
    let (manifest, manifest_size) = put(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": config, "size": config_size },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": size }],
    }))?;
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{ "mediaType": OCI_MANIFEST, "digest": manifest, "size": manifest_size }],
    });
    std::fs::write(layout.path().join("index.json"), index.to_string()).map_err(making)?;
    std::fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).map_err(making)?;
    Ok(Packed { layout, digest: manifest.to_string(), size })
}

fn config(options: &PackOptions, diff_id: &Digest) -> serde_json::Value {
    let mut process = serde_json::Map::new();
    for (member, words) in [("Entrypoint", &options.entrypoint), ("Cmd", &options.cmd), ("Env", &options.env)] {
        if !words.is_empty() {
            process.insert(member.to_owned(), serde_json::json!(words));
        }
    }
    for (member, word) in [("WorkingDir", &options.workdir), ("User", &options.user)] {
        if let Some(word) = word {
            process.insert(member.to_owned(), serde_json::json!(word));
        }
    }
    serde_json::json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "knit image pack" }],
    })
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

type Layer = tar::Builder<Hashing<flate2::write::GzEncoder<Hashing<BufWriter<File>>>>>;

/// Writes the layer; returns its digest, that of its plain content, and its length.
fn write_layer(rootfs: &Path, path: &Path, keep_times: bool) -> Result<(Digest, Digest, u64), ImageError> {
    let writing = |cause| local("writing the layer to the temporary folder", cause);
    let file = Hashing::new(BufWriter::with_capacity(1 << 17, File::create_new(path).map_err(writing)?));
    // gzip, because every registry and runtime of the last ten years takes it.
    let gzip = flate2::write::GzEncoder::new(file, flate2::Compression::new(6));
    let mut layer = Layer::new(Hashing::new(gzip));
    layer.follow_symlinks(false);
    let mut packing = Packing { layer, keep_times, seen: HashMap::new() };
    packing.folder(rootfs, Path::new(""))?;
    let (gzip, diff_id, _) = packing.layer.into_inner().map_err(writing)?.finish();
    let (mut file, digest, size) = gzip.finish().map_err(writing)?.finish();
    file.flush().map_err(writing)?;
    Ok((digest, diff_id, size))
}

struct Packing {
    layer: Layer,
    keep_times: bool,
    /// Files with several names, by what they are on the disk.
    seen: HashMap<(u64, u64), PathBuf>,
}

impl Packing {
    /// Adds all that is in a folder, in the order of names.
    fn folder(&mut self, folder: &Path, at: &Path) -> Result<(), ImageError> {
        let reading = |cause| local(format!("reading {}", folder.display()), cause);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(reading)? {
            names.push(entry.map_err(reading)?.file_name());
        }
        names.sort();
        for name in names {
            self.entry(&folder.join(&name), &at.join(&name))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, at: &Path) -> Result<(), ImageError> {
        let reading = |cause| local(format!("packing {}", path.display()), cause);
        let metadata = std::fs::symlink_metadata(path).map_err(reading)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode(&metadata));
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(if self.keep_times { seconds(&metadata) } else { 0 });
        header.set_size(0);
        let kind = metadata.file_type();
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            self.layer.append_data(&mut header, at, io::empty()).map_err(reading)?;
            return self.folder(path, at);
        }
        if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            let target = std::fs::read_link(path).map_err(reading)?;
            return self.layer.append_link(&mut header, at, target).map_err(reading);
        }
        if !kind.is_file() {
            return Err(ImageError::Pack(format!("{} is neither file, folder nor link", path.display())));
        }
        if let Some(identity) = several_names(&metadata) {
            if let Some(first) = self.seen.get(&identity) {
                header.set_entry_type(tar::EntryType::Link);
                let first = first.clone();
                return self.layer.append_link(&mut header, at, first).map_err(reading);
            }
            self.seen.insert(identity, at.to_owned());
        }
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(metadata.len());
        let file = File::open(path).map_err(reading)?;
        let mut content = Exactly { file, left: metadata.len() };
        self.layer.append_data(&mut header, at, &mut content).map_err(reading)
    }
}

/// A file that must have the length that was announced.
struct Exactly {
    file: File,
    left: u64,
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read(&mut buffer[..most])?;
        if n == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Seconds since 1970.
fn seconds(metadata: &Metadata) -> u64 {
    let modified = metadata.modified().ok();
    modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    // That of a link means nothing.
    if metadata.is_symlink() { 0o777 } else { metadata.permissions().mode() & 0o7777 }
}

/// Without modes on the disk, everything may be executed: what must run does.
#[cfg(not(unix))]
fn mode(_metadata: &Metadata) -> u32 {
    0o755
}

/// What a file with several names is on the disk.
#[cfg(unix)]
fn several_names(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn several_names(_metadata: &Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    fn make_files(folder: &Path) {
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::fs::write(folder.join("bin/run"), b"#!/bin/sh\n").unwrap();
        std::fs::hard_link(folder.join("bin/run"), folder.join("bin/again")).unwrap();
        std::fs::write(folder.join("data"), vec![1; 100_000]).unwrap();
        std::fs::create_dir_all(folder.join("n".repeat(120)).join("deep")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/bin/run", folder.join("link")).unwrap();
    }

    #[test]
    fn the_same_files_make_the_same_image() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let options = PackOptions { entrypoint: vec!["/bin/run".to_owned()], ..PackOptions::default() };
        let packed = folders.each_ref().map(|folder| {
            make_files(folder.path());
            runtime().block_on(pack(folder.path(), options.clone())).unwrap()
        });
        assert_eq!(packed[0].digest, packed[1].digest);
        let other = PackOptions { cmd: vec!["x".to_owned()], ..options };
        assert_ne!(runtime().block_on(pack(folders[0].path(), other)).unwrap().digest, packed[0].digest);
    }

    #[test]
    fn what_makes_no_image_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nowhere");
        for (rootfs, options, word) in [
            (nowhere.as_path(), PackOptions::default(), "cannot be read as a folder: No such file"),
            (folder.path(), PackOptions { env: vec!["=x".to_owned()], ..Default::default() }, "NAME=value"),
            (folder.path(), PackOptions { env: vec!["x".to_owned()], ..Default::default() }, "NAME=value"),
            (folder.path(), PackOptions { workdir: Some("a".to_owned()), ..Default::default() }, "not absolute"),
            (folder.path(), PackOptions { entrypoint: vec![String::new()], ..Default::default() }, "is empty"),
        ] {
            let error = runtime().block_on(pack(rootfs, options)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        #[cfg(unix)]
        {
            let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
            let error = runtime().block_on(pack(folder.path(), PackOptions::default())).unwrap_err().to_string();
            assert!(error.contains("socket is neither file, folder nor link"), "{error}");
        }
    }
}

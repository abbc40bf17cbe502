//! Content-addressed blobs and the names that point at them: what the registry serves and the
//! local engine runs from.
//!
//! Below one folder, which one process owns:
//!
//! ```text
//! blobs/sha256/<2 hex>/<hex>          bytes, verified before they get this name
//! incoming/<id>                       bytes on their way, outside an upload session; emptied at start
//! repositories/<name>/_blobs/<hex>    this repository may serve that blob
//!                    /_manifests/<hex>          media type of that manifest
//!                    /_referrers/<hex>/<hex>    the second manifest names the first as its subject
//!                    /_tags/<tag>     digest of a manifest
//!                    /_uploads/<id>   bytes of an upload session
//! remote/<host>/<name>/…              the same for what was fetched from other registries
//! ```
//!
//! No part of a repository's name begins with `_`, so names and folders of ours cannot clash. Every
//! file is written beside, synced and renamed; the folder is synced after that.

mod blob;
mod collect;
mod manifest;
mod name;
mod repository;
mod upload;

pub use blob::{Blob, BlobWriter};
pub use collect::Collected;
pub use manifest::{Descriptor, MANIFEST_LIMIT, Manifest, ManifestError, Platform, media_type};
pub use name::{Digest, NameError, RepositoryName, TagName};
pub use repository::{Referrer, Repository, StoredManifest};
pub use upload::UploadId;

use crate::clock;
use rustix::fs::Access;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

/// Why content could not be stored or found.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// There is no such blob, manifest, tag or upload.
    #[error("{0} is not there")]
    NotFound(String),
    /// The bytes are not those that were announced.
    #[error("the content is {actual}, not {expected} as announced")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What the bytes are.
        actual: Digest,
    },
    /// A chunk does not continue the upload where it stands.
    #[error("the upload stands at byte {at}; the chunk begins elsewhere")]
    Offset {
        /// Bytes received so far.
        at: u64,
    },
    /// The manifest breaks the rules.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest refers to a blob that is not in the repository.
    #[error("the manifest refers to {0}, which is not in this repository")]
    BlobUnknown(Digest),
    /// The sender stopped in the middle.
    #[error("the sender stopped: {0}")]
    Interrupted(String),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Blobs by digest, repositories by name, below one folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Held shared while something is checked to be there and then named, exclusively while a blob is
    /// removed: what was found cannot vanish before it is named.
    naming: RwLock<()>,
    /// Upload sessions that this process has seen.
    sessions: Mutex<HashMap<UploadId, upload::Session>>,
}

impl ContentStore {
    /// Opens the store below `root`, making it if need be, and removes what an earlier process left
    /// half written. Upload sessions stay.
    pub fn open(root: &Path) -> io::Result<Self> {
        let incoming = root.join("incoming");
        match std::fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&incoming)?,
        }
        for folder in ["blobs/sha256", "repositories", "remote"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let inner = Inner { root: root.to_owned(), naming: RwLock::new(()), sessions: Mutex::new(HashMap::new()) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether content can be stored now: its folders are there and can be written to.
    pub fn check(&self) -> io::Result<()> {
        for folder in ["incoming", "blobs/sha256", "repositories"] {
            let path = self.inner.root.join(folder);
            rustix::fs::access(&path, Access::WRITE_OK | Access::EXEC_OK)
                .map_err(|error| io::Error::other(format!("{} cannot be written to: {error}", path.display())))?;
        }
        Ok(())
    }

    /// Where everything is kept.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// A repository of the built-in registry, whether or not anything is in it.
    pub fn repository(&self, name: &RepositoryName) -> Repository {
        Repository::new(self.clone(), self.root().join("repositories").join(name.as_str()))
    }

    /// What was fetched of a repository of another registry; nothing for a host that could not be a
    /// folder's name.
    pub fn remote(&self, host: &str, name: &RepositoryName) -> Option<Repository> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        if host.len() > 255 || host.starts_with('.') || host.is_empty() || !host.bytes().all(plain) {
            return None;
        }
        Some(Repository::new(self.clone(), self.root().join("remote").join(host).join(name.as_str())))
    }

    /// A new, unused path for bytes on their way.
    fn incoming(&self) -> PathBuf {
        self.root().join("incoming").join(clock::new_id())
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root().join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// See [`Inner::naming`].
    fn while_naming(&self) -> std::sync::RwLockReadGuard<'_, ()> {
        self.inner.naming.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes a small file beside its place, syncs and renames it.
    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = self.incoming();
        let written = File::create_new(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            settle(&beside, path)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    }
}

/// Gives a synced file its final name for good, making the folders on the way.
fn settle(beside: &Path, path: &Path) -> io::Result<()> {
    let folder = path.parent().expect("every path in the store has a parent");
    create_folders(folder)?;
    std::fs::rename(beside, path)?;
    sync_folder(folder)
}

/// Makes a folder and its parents so that they survive a power loss.
fn create_folders(folder: &Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_folders(folder.parent().ok_or(error)?)?;
            create_folders(folder)
        }
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a file young again, so that collection leaves it for another grace period.
fn touch(path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes a file; true if it was there.
fn remove_file(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A path with a file where a folder would be is absent, too.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The entries of a folder; one that is not there is empty.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<std::fs::DirEntry>> + use<>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if absent(&error) => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

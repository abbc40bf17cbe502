//! Volumes as folders: received, sent, sealed and removed, with the manifests beside them.
//!
//! Below the layout's folders only complete things have ordinary names. What is being received stands
//! under `.incoming-…`, what is to be deleted under `.trash-…`; whatever of that a process leaves
//! behind when it is killed, the next one deletes. So a crash costs neither correctness nor space.
//!
//! Work on files happens on blocking threads. They are joined to the asynchronous side by short
//! channels on which the end is a message of its own: a channel that just closes is a failure, never
//! the end of the content.

mod contents;
mod deleter;

use super::delete::delete;
use crate::engine::blocking::{Body, blocking, outgoing, taken};
use crate::engine::{ByteStream, EngineError, Form, Registered, Sealed, Volume};
use crate::settings::Layout;
use deleter::Deleter;
use fail::fail_point;
use knit_api::bundle::{self, Digest, LeftOut, Limits, PackOptions, SealOptions, Selection};
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const INCOMING: &str = ".incoming-";

/// All volumes of this machine.
#[derive(Clone, Debug)]
pub struct Volumes {
    /// One folder per volume.
    folder: PathBuf,
    /// Manifests by root digest.
    manifests: PathBuf,
    /// Each volume is a file system of its own, mounted at its place.
    mounted: bool,
    deleter: Arc<Deleter>,
}

impl Volumes {
    /// Opens the volumes below `layout`, and removes in the background what an earlier process left
    /// half done.
    pub fn open(layout: Layout) -> Result<Self, EngineError> {
        let (folder, manifests) = (layout.volumes(), layout.manifests());
        let deleter = open_folders(&[&folder, &manifests])?;
        Ok(Self { folder, manifests, mounted: false, deleter })
    }

    /// The same where somebody else makes volumes, mounts them in this folder and takes them away. They are filled
    /// where they are, and stay as they are when that fails. What is in them keeps its owners: those who read it
    /// later may be the same users.
    pub fn open_mounted(folder: PathBuf, manifests: PathBuf) -> Result<Self, EngineError> {
        let deleter = open_folders(&[&manifests])?;
        Ok(Self { folder, manifests, mounted: true, deleter })
    }

    /// Where all volumes are.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// The folder of a volume. A name that is not one plain path segment leads to a place where nothing
    /// ever is.
    pub fn path(&self, volume: &Volume) -> PathBuf {
        self.folder.join(if is_plain(volume.as_str()) { volume.as_str() } else { ".refused" })
    }

    /// Where the manifest with this root digest is kept.
    pub fn manifest(&self, digest: &Digest) -> PathBuf {
        let digest = digest.to_string();
        self.manifests.join(&digest[..2]).join(format!("{digest}.zst"))
    }

    /// See [`crate::engine::Engine::create_volume`].
    pub async fn create(&self, volume: &Volume) -> Result<(), EngineError> {
        let (volumes, volume) = (self.clone(), checked(volume)?.clone());
        blocking(format!("create volume {volume}"), move || {
            let path = volumes.path(&volume);
            // Not synced: if power fails before the next sync of anything on this file system, its Run
            // starts over too.
            match fs::create_dir(&path) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    if holds_nothing(&path) {
                        return Ok(());
                    }
                    volumes.deleter.discard(&path).map_err(|cause| failed("empty volume", &volume, &cause))?;
                    fs::create_dir(&path).map_err(|cause| full_or_failed("create volume", &volume, &cause))
                }
                made => made.map_err(|cause| full_or_failed("create volume", &volume, &cause)),
            }
        })
        .await
    }

    /// See [`crate::engine::Engine::receive`].
    pub async fn receive(&self, volume: &Volume, form: Form, body: ByteStream) -> Result<Sealed, EngineError> {
        let volume = checked(volume)?.clone();
        let arrival = Arc::new(Arrival { stage: Mutex::new(Stage::OnItsWay), volumes: self.clone() });
        let given_up = GivenUp { arrival: arrival.clone(), path: self.path(&volume), armed: true };
        let volumes = self.clone();
        let what = format!("receive volume {volume}");
        let sealed = taken(what, body, move |body| volumes.receive_into(&volume, form, body, &arrival)).await?;
        given_up.disarm();
        Ok(sealed)
    }

    /// Receives on a blocking thread: beside first, then in place.
    fn receive_into(&self, volume: &Volume, form: Form, body: Body, arrival: &Arrival) -> Result<Sealed, EngineError> {
        fail_point!("receive-begin");
        let path = self.path(volume);
        if !self.mounted && fs::symlink_metadata(&path).is_ok() {
            return Err(failed("receive volume", volume, &"it exists already"));
        }
        let unfit = |error| not_received(volume, error);
        let storage = |cause: io::Error| full_or_failed("receive volume", volume, &cause);
        let incoming = Incoming::new(self).map_err(storage)?;
        let filled = if self.mounted { &path } else { &incoming.folder };
        // Opened before anything is written: syncfs reports failed writes only since then.
        let disk = File::open(filled).map_err(storage)?;
        let mut manifest = incoming.manifest_file().map_err(storage)?;
        let sealed = fill(filled, form, body, &mut manifest).map_err(unfit)?;
        fail_point!("receive-unpacked");
        rustix::fs::syncfs(&disk).map_err(|cause| storage(cause.into()))?;
        fail_point!("receive-synced");
        self.keep_manifest(&incoming, manifest, &sealed.digest).map_err(storage)?;
        fail_point!("receive-manifest");
        if !self.mounted {
            arrival.settle(&incoming.folder, &path).map_err(storage)?;
            sync_folder(&self.folder).map_err(storage)?;
        }
        fail_point!("receive-renamed");
        Ok(seal_of(sealed))
    }

    /// Keeps a manifest that comes from elsewhere. Whoever reads it finds out whether it is that of the digest.
    pub async fn take_manifest(&self, digest: &str, body: ByteStream) -> Result<(), EngineError> {
        let digest: Digest = digest.parse().map_err(|cause| failed("use digest", &digest.escape_debug(), &cause))?;
        let volumes = self.clone();
        taken(format!("take manifest {digest}"), body, move |mut body| {
            let storage = |cause: io::Error| failed("take manifest", &digest, &cause);
            let incoming = Incoming::new(&volumes).map_err(storage)?;
            let mut manifest = incoming.manifest_file().map_err(storage)?;
            io::copy(&mut body, &mut manifest).map_err(|cause| EngineError::BadContent(cause.to_string()))?;
            volumes.keep_manifest(&incoming, manifest, &digest).map_err(storage)
        })
        .await
    }

    /// Puts a complete manifest in its place, for good. One that is there already is the same.
    fn keep_manifest(&self, incoming: &Incoming, manifest: BufWriter<File>, digest: &Digest) -> io::Result<()> {
        manifest.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let place = self.manifest(digest);
        let folder = place.parent().unwrap_or(&place);
        match fs::create_dir(folder) {
            Ok(()) => sync_folder(&self.manifests)?,
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(cause),
        }
        fs::rename(&incoming.manifest, &place)?;
        sync_folder(folder)
    }

    /// See [`crate::engine::Engine::send`].
    pub async fn send(
        &self,
        volume: &Volume,
        form: Form,
        registered: Option<&Registered>,
    ) -> Result<ByteStream, EngineError> {
        let path = self.existing(volume).await?;
        let digest = registered.map(|registered| registered.digest.parse::<Digest>()).transpose();
        let digest = digest.map_err(|cause| failed("use the digest of volume", volume, &cause))?;
        let compared_by_receiver = registered.is_some_and(|registered| registered.compared_by_receiver);
        let expected = digest.filter(|_| !compared_by_receiver);
        let options = PackOptions { expected, ..PackOptions::default() };
        let what = format!("volume {volume}");
        Ok(outgoing(what.clone(), move |out| {
            let packed = bundle::pack(&path, travelling(form), out, &options, &mut ())?;
            if let Some((registered, found)) = digest.zip(packed.digest)
                && registered != found
            {
                tracing::error!(what, %registered, %found, "was sent, and is not what was registered");
            }
            Ok(())
        })
        .await)
    }

    /// See [`crate::engine::Engine::send_part`].
    pub async fn send_part(&self, volume: &Volume, form: Form, only: Selection) -> Result<ByteStream, EngineError> {
        let path = self.existing(volume).await?;
        let options = PackOptions { only: Some(only), ..PackOptions::default() };
        Ok(outgoing(format!("volume {volume}"), move |out| {
            bundle::pack(&path, travelling(form), out, &options, &mut ()).map(drop)
        })
        .await)
    }

    /// The folder of a volume, if it is there.
    async fn existing(&self, volume: &Volume) -> Result<PathBuf, EngineError> {
        let path = self.path(checked(volume)?);
        if tokio::fs::symlink_metadata(&path).await.is_ok_and(|found| found.is_dir()) {
            Ok(path)
        } else {
            Err(EngineError::NotFound(format!("volume {volume}")))
        }
    }

    /// See [`crate::engine::Engine::seal`].
    pub async fn seal(&self, volume: &Volume) -> Result<Sealed, EngineError> {
        let (volumes, volume) = (self.clone(), checked(volume)?.clone());
        blocking(format!("seal volume {volume}"), move || {
            let path = volumes.path(&volume);
            if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                return Err(EngineError::NotFound(format!("volume {volume}")));
            }
            let storage = |cause: io::Error| full_or_failed("seal volume", &volume, &cause);
            let incoming = Incoming::new(&volumes).map_err(storage)?;
            let disk = File::open(if volumes.mounted { &path } else { &incoming.folder }).map_err(storage)?;
            let mut manifest = incoming.manifest_file().map_err(storage)?;
            // One owner, whichever users wrote it: inputs are shown to a container as its own user's by
            // exchanging that user and this owner.
            let own = !volumes.mounted;
            let options = SealOptions { remove_specials: true, mend_modes: true, own, ..SealOptions::default() };
            let sealed = bundle::seal(&path, Some(&mut manifest), &options)
                .map_err(|error| not_kept("seal volume", &volume, error))?;
            rustix::fs::syncfs(&disk).map_err(|cause| storage(cause.into()))?;
            volumes.keep_manifest(&incoming, manifest, &sealed.digest).map_err(storage)?;
            Ok(seal_of(sealed))
        })
        .await
    }

    /// See [`crate::engine::Engine::remove_volume`].
    pub async fn remove(&self, volume: &Volume) -> Result<(), EngineError> {
        let (volumes, volume) = (self.clone(), checked(volume)?.clone());
        blocking(format!("remove volume {volume}"), move || {
            volumes.deleter.discard(&volumes.path(&volume)).map_err(|cause| failed("remove volume", &volume, &cause))
        })
        .await
    }

    /// See [`crate::engine::Engine::volumes`].
    pub async fn list(&self) -> Result<Vec<Volume>, EngineError> {
        let folder = self.folder.clone();
        blocking("list volumes".to_owned(), move || {
            let failed = |cause| failed("list", &folder.display(), &cause);
            let mut volumes = Vec::new();
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                // Names that no volume can have are somebody else's.
                if let Ok(name) = entry.file_name().into_string()
                    && is_plain(&name)
                {
                    volumes.push(Volume::from_stored(name));
                }
            }
            Ok(volumes)
        })
        .await
    }
}

/// Whether a volume that is being received may still appear.
struct Arrival {
    stage: Mutex<Stage>,
    volumes: Volumes,
}

enum Stage {
    OnItsWay,
    /// Its caller is gone: it must not appear.
    GivenUp,
    /// It is in place.
    Settled,
}

impl Arrival {
    /// Puts the complete folder in its place, unless the caller is gone.
    fn settle(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*stage, Stage::GivenUp) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the sender gave up"));
        }
        fs::rename(from, to)?;
        *stage = Stage::Settled;
        Ok(())
    }
}

/// Held by the caller of a receive. When it is dropped early, nothing is left of the volume.
struct GivenUp {
    arrival: Arc<Arrival>,
    path: PathBuf,
    armed: bool,
}

impl GivenUp {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let mut stage = self.arrival.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*stage, Stage::Settled)
            && let Err(error) = self.arrival.volumes.deleter.discard(&self.path)
        {
            tracing::error!(path = %self.path.display(), %error, "cannot remove a volume that was given up");
        }
        *stage = Stage::GivenUp;
    }
}

/// A folder and a manifest that are being written. What of them is still here in the end is deleted.
struct Incoming {
    folder: PathBuf,
    manifest: PathBuf,
}

impl Incoming {
    fn new(volumes: &Volumes) -> io::Result<Self> {
        let folder = new_incoming(if volumes.mounted { &volumes.manifests } else { &volumes.folder })?;
        // The folder's name was free, so it is free here too, or a leftover that is written over.
        let name = folder.file_name().unwrap_or_default();
        let manifest = volumes.manifests.join(name).with_extension("manifest");
        Ok(Self { folder, manifest })
    }

    fn manifest_file(&self) -> io::Result<BufWriter<File>> {
        let _ = fs::remove_file(&self.manifest);
        Ok(BufWriter::new(File::create_new(&self.manifest)?))
    }
}

impl Drop for Incoming {
    /// On a blocking thread, where it may take its time.
    fn drop(&mut self) {
        delete_or_log(&self.folder);
        delete_or_log(&self.manifest);
    }
}

/// Unpacks a stream, and learns or verifies what came.
fn fill(
    folder: &Path,
    form: Form,
    body: Body,
    manifest: &mut BufWriter<File>,
) -> Result<bundle::Sealed, bundle::Error> {
    let limits = Limits::default();
    let summary = bundle::unpack(body, travelling(form), folder, &limits, Some(manifest), &mut ())?;
    match summary.digest {
        Some(digest) => Ok(bundle::Sealed {
            digest,
            entries: summary.entries,
            bytes: summary.bytes,
            left_out: Vec::new(),
            left_out_count: 0,
        }),
        // This form carries no digest that modes could break, so they are made readable.
        None => bundle::seal(folder, Some(manifest), &SealOptions { mend_modes: true, ..SealOptions::default() }),
    }
}

fn travelling(form: Form) -> bundle::Form {
    match form {
        Form::Bundle => bundle::Form::Bundle,
        Form::BundleZstd => bundle::Form::BundleZstd,
        Form::TarGz => bundle::Form::TarGz,
    }
}

fn seal_of(sealed: bundle::Sealed) -> Sealed {
    let unnamed = sealed.left_out_count - sealed.left_out.len() as u64;
    let mut left_out: Vec<String> =
        sealed.left_out.iter().map(|LeftOut { path, kind }| format!("{} ({kind})", path.display())).collect();
    if unnamed > 0 {
        left_out.push(format!("and {unnamed} more"));
    }
    Sealed { digest: sealed.digest.to_string(), entries: sealed.entries, bytes: sealed.bytes, left_out }
}

/// The volume, if its name is one plain path segment.
fn checked(volume: &Volume) -> Result<&Volume, EngineError> {
    if is_plain(volume.as_str()) {
        Ok(volume)
    } else {
        Err(failed("use volume", &volume.as_str().escape_debug(), &"its name is not one plain path segment"))
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn failed(doing: &str, what: &dyn std::fmt::Display, cause: &dyn std::fmt::Display) -> EngineError {
    EngineError::Failed { what: format!("{doing} {what}"), cause: cause.to_string() }
}

fn full_or_failed(doing: &str, volume: &Volume, cause: &io::Error) -> EngineError {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::NoSpace(format!("volume {volume}")),
        _ => failed(doing, volume, cause),
    }
}

/// A stream that breaks off is incomplete content: only its sender can do something about it.
fn not_received(volume: &Volume, error: bundle::Error) -> EngineError {
    match error {
        bundle::Error::Stream { .. } => EngineError::BadContent(error.to_string()),
        error => not_kept("receive volume", volume, error),
    }
}

fn not_kept(doing: &str, volume: &Volume, error: bundle::Error) -> EngineError {
    match error {
        bundle::Error::BadContent { .. } | bundle::Error::TooLarge { .. } => EngineError::BadContent(error.to_string()),
        bundle::Error::NoSpace { .. } => EngineError::NoSpace(format!("volume {volume}")),
        error => failed(doing, volume, &error),
    }
}

/// Makes the folders, and begins to delete what an earlier process left in them.
fn open_folders(folders: &[&Path]) -> Result<Arc<Deleter>, EngineError> {
    for folder in folders {
        set_leftovers_aside(folder).map_err(|cause| failed("open", &folder.display(), &cause))?;
    }
    let deleter = Deleter::start(folders.iter().map(|folder| folder.to_path_buf()).collect());
    deleter.map(Arc::new).map_err(|cause| failed("start deleting in", &folders[0].display(), &cause))
}

/// Makes the folder, and gives over to be deleted what an earlier process was receiving in it.
fn set_leftovers_aside(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(INCOMING.as_bytes()) {
            deleter::set_aside(&entry.path())?;
        }
    }
    Ok(())
}

/// Makes a folder of a new name for what is being received.
fn new_incoming(parent: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        // Leftovers of another process may have any number.
        let path = parent.join(format!("{INCOMING}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        match fs::create_dir(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn holds_nothing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
        && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn delete_or_log(path: &Path) {
    if let Err(error) = delete(path) {
        tracing::warn!(path = %path.display(), %error, "cannot delete a leftover; the next start will try again");
    }
}

#[cfg(test)]
mod tests;

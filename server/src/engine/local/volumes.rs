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
use crate::engine::{ByteStream, EngineError, Form, Registered, Sealed, Volume};
use crate::settings::Layout;
use crate::transfers::{self, unless_still};
use bytes::{Buf as _, Bytes};
use deleter::Deleter;
use fail::fail_point;
use futures_util::{Stream, StreamExt as _, stream};
use knit_api::bundle::{self, Digest, LeftOut, Limits, PackOptions, SealOptions, Selection};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task;

const INCOMING: &str = ".incoming-";

/// Pieces in flight between a connection and a blocking thread. With pieces of up to 256 KiB this
/// bounds the memory of one transfer to about 2 MiB.
const PIECES: usize = 8;

/// All volumes of this machine.
#[derive(Clone, Debug)]
pub struct Volumes {
    layout: Layout,
    deleter: Arc<Deleter>,
}

impl Volumes {
    /// Opens the volumes below `layout`, and removes in the background what an earlier process left
    /// half done.
    pub fn open(layout: Layout) -> Result<Self, EngineError> {
        let folders = [layout.volumes(), layout.manifests()];
        for folder in &folders {
            set_leftovers_aside(folder).map_err(|cause| failed("open", &folder.display(), &cause))?;
        }
        let deleter = Deleter::start(folders.into())
            .map_err(|cause| failed("start deleting in", &layout.volumes().display(), &cause))?;
        Ok(Self { layout, deleter: Arc::new(deleter) })
    }

    /// Where all volumes are.
    pub fn folder(&self) -> PathBuf {
        self.layout.volumes()
    }

    /// The folder of a volume. A name that is not one plain path segment leads to a place where nothing
    /// ever is.
    pub fn path(&self, volume: &Volume) -> PathBuf {
        self.layout.volumes().join(if is_plain(volume.as_str()) { volume.as_str() } else { ".refused" })
    }

    /// Where the manifest with this root digest is kept.
    pub fn manifest(&self, digest: &Digest) -> PathBuf {
        let digest = digest.to_string();
        self.layout.manifests().join(&digest[..2]).join(format!("{digest}.zst"))
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
    pub async fn receive(&self, volume: &Volume, form: Form, mut body: ByteStream) -> Result<Sealed, EngineError> {
        let volume = checked(volume)?.clone();
        let place = transfers::place().await;
        let (sender, pieces) = mpsc::channel(PIECES);
        let arrival = Arc::new(Arrival { stage: Mutex::new(Stage::OnItsWay), volumes: self.clone() });
        let given_up = GivenUp { arrival: arrival.clone(), path: self.path(&volume), armed: true };
        let receiving = {
            let (volumes, volume) = (self.clone(), volume.clone());
            blocking(format!("receive volume {volume}"), move || {
                let _place = place;
                let body = Body { pieces, current: Bytes::new(), ended: false };
                volumes.receive_into(&volume, form, body, &arrival)
            })
        };
        let forwarding = async move {
            while let Some(piece) = unless_still(body.next()).await.unwrap_or_else(|still| Some(Err(still))) {
                let piece = piece.map_or_else(Piece::Failed, Piece::Next);
                let last = matches!(piece, Piece::Failed(_));
                if sender.send(piece).await.is_err() || last {
                    return;
                }
            }
            // Nobody to tell means that receiving has failed, which it says itself.
            let _ = sender.send(Piece::End).await;
        };
        tokio::pin!(receiving);
        // Receiving may fail while the sender is silent: then nobody waits for the sender.
        let sealed = tokio::select! {
            sealed = &mut receiving => sealed,
            () = forwarding => receiving.await,
        }?;
        given_up.disarm();
        Ok(sealed)
    }

    /// Receives on a blocking thread: beside first, then in place.
    fn receive_into(&self, volume: &Volume, form: Form, body: Body, arrival: &Arrival) -> Result<Sealed, EngineError> {
        fail_point!("receive-begin");
        let path = self.path(volume);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(failed("receive volume", volume, &"it exists already"));
        }
        let unfit = |error| not_received(volume, error);
        let storage = |cause: io::Error| full_or_failed("receive volume", volume, &cause);
        let incoming = Incoming::new(self).map_err(storage)?;
        // Opened before anything is written: syncfs reports failed writes only since then.
        let disk = File::open(&incoming.folder).map_err(storage)?;
        let mut manifest = incoming.manifest_file().map_err(storage)?;
        let sealed = fill(&incoming.folder, form, body, &mut manifest).map_err(unfit)?;
        fail_point!("receive-unpacked");
        rustix::fs::syncfs(&disk).map_err(|cause| storage(cause.into()))?;
        fail_point!("receive-synced");
        self.keep_manifest(&incoming, manifest, &sealed.digest).map_err(storage)?;
        fail_point!("receive-manifest");
        arrival.settle(&incoming.folder, &path).map_err(storage)?;
        sync_folder(&self.layout.volumes()).map_err(storage)?;
        fail_point!("receive-renamed");
        Ok(seal_of(sealed))
    }

    /// Puts a complete manifest in its place, for good. One that is there already is the same.
    fn keep_manifest(&self, incoming: &Incoming, manifest: BufWriter<File>, digest: &Digest) -> io::Result<()> {
        manifest.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let place = self.manifest(digest);
        let folder = place.parent().unwrap_or(&place);
        match fs::create_dir(folder) {
            Ok(()) => sync_folder(&self.layout.manifests())?,
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
            let disk = File::open(&incoming.folder).map_err(storage)?;
            let mut manifest = incoming.manifest_file().map_err(storage)?;
            // One owner, whichever users wrote it: inputs are shown to a container as its own user's by
            // exchanging that user and this owner.
            let options = SealOptions { remove_specials: true, mend_modes: true, own: true, ..SealOptions::default() };
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
        let folder = self.layout.volumes();
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

/// Streams what `work` writes on a blocking thread; `what` says what that is.
async fn outgoing(
    what: String,
    work: impl FnOnce(Outgoing<'_>) -> Result<(), bundle::Error> + Send + 'static,
) -> ByteStream {
    made_elsewhere(what, |sender| work(Outgoing { pieces: sender })).await
}

/// Streams what `work` sends from a blocking thread. When the other side stops taking, so does the thread.
async fn made_elsewhere<T: Send + 'static>(
    what: String,
    work: impl FnOnce(&mpsc::Sender<Piece<T>>) -> Result<(), bundle::Error> + Send + 'static,
) -> Pin<Box<dyn Stream<Item = io::Result<T>> + Send>> {
    let place = transfers::place().await;
    let (sender, made) = mpsc::channel(PIECES);
    let (onward, pieces) = mpsc::channel(1);
    task::spawn(pass_on(made, onward, what.clone()));
    task::spawn_blocking(move || {
        let _place = place;
        let last = match work(&sender) {
            Ok(()) => Piece::End,
            // Nobody takes it any more.
            Err(_) if sender.is_closed() => return,
            // It is logged by whoever sends it.
            Err(error) => Piece::Failed(io::Error::other(format!("{what} cannot be sent: {error}"))),
        };
        // Nobody to tell means that the transfer was given up.
        let _ = sender.blocking_send(last);
    });
    Box::pin(stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Piece::Next(next)) => Some((Ok(next), Some(pieces))),
            Some(Piece::Failed(cause)) => Some((Err(cause), None)),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("sending broke off")), None)),
        }
    }))
}

/// Passes pieces on to whoever takes them, in time: when it stops, so does the thread that makes them.
async fn pass_on<T>(mut made: mpsc::Receiver<Piece<T>>, onward: mpsc::Sender<Piece<T>>, what: String) {
    while let Some(piece) = made.recv().await {
        match unless_still(onward.send(piece)).await {
            Ok(Ok(())) => {}
            // The transfer was given up.
            Ok(Err(_)) => return,
            Err(error) => {
                tracing::warn!(what, %error, "sending is given up");
                return;
            }
        }
    }
}

/// One part of a transfer.
enum Piece<T = Bytes> {
    Next(T),
    Failed(io::Error),
    End,
}

/// The body of a request, read on a blocking thread.
struct Body {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Next(bytes)) => self.current = bytes,
                Some(Piece::Failed(cause)) => return Err(cause),
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the sender gave up")),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// The body of an answer, written on a blocking thread in large pieces.
struct Outgoing<'a> {
    pieces: &'a mpsc::Sender<Piece>,
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Piece::Next(Bytes::copy_from_slice(bytes));
        self.pieces.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        let folder = new_incoming(&volumes.layout.volumes())?;
        // The folder's name was free, so it is free here too, or a leftover that is written over.
        let name = folder.file_name().unwrap_or_default();
        let manifest = volumes.layout.manifests().join(name);
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

/// Runs work on files where it may block. A panic in it is a failure like any other.
async fn blocking<T: Send + 'static>(
    what: String,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(EngineError::Failed { what, cause: "it ended unexpectedly; the log says more".to_owned() }),
    }
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

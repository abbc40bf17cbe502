//! Looking into volumes: their manifests, single files, and whether all is still as it was sealed.

use super::{Volumes, failed};
use crate::engine::blocking::{Piece, blocking, made_elsewhere, outgoing};
use crate::engine::{ByteStream, Checks, EngineError, Entry, Manifest, Volume, manifest};
use crate::transfers;
use knit_api::bundle::{self, Compared, Digest, Limits, ManifestReader, Totals, copy_part, path_from_bytes};
use knit_api::content::{Check, Checked, Differing, EntryPath};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use tokio::sync::mpsc;

/// Bytes that are read from a file at once.
const STEP: usize = 256 * 1024;
/// Differences that a verification names.
const NAMED: u64 = 1000;
/// A verification tells how far it is after so many bytes.
const BYTES_PER_NEWS: u64 = 8 << 20;
/// Or after so many entries.
const ENTRIES_PER_NEWS: u64 = 1000;

impl Volumes {
    /// See [`crate::engine::Engine::look_up`].
    pub async fn look_up(&self, digest: &str, path: &[u8]) -> Result<Entry, EngineError> {
        let (volumes, digest, path) = (self.clone(), digest.to_owned(), path.to_vec());
        let place = transfers::place().await;
        blocking(format!("look into manifest {digest}"), move || {
            let _place = place;
            manifest::look_up(&path, &digest, || volumes.open_manifest(&digest))
        })
        .await
    }

    /// See [`crate::engine::Engine::manifest`].
    pub async fn list_entries(&self, digest: &str, under: Option<&[u8]>) -> Result<Manifest, EngineError> {
        let what = format!("manifest {digest}");
        let Some(under) = under else {
            let (mut file, length) = self.manifest_file(digest)?;
            let stream = outgoing(what, move |mut out| {
                io::copy(&mut file, &mut out).map(drop).map_err(|cause| bundle::Error::Stream { cause })
            });
            return Ok(Manifest { stream: stream.await, length: Some(length) });
        };
        let (under, mut entries) = (under.to_vec(), self.open_manifest(digest)?);
        let stream = outgoing(what, move |mut out| copy_part(&mut entries, &under, &mut out)).await;
        Ok(Manifest { stream, length: None })
    }

    /// See [`crate::engine::Engine::read`].
    pub async fn read(
        &self,
        volume: &Volume,
        path: &[u8],
        size: u64,
        bytes: Range<u64>,
    ) -> Result<ByteStream, EngineError> {
        let folder = self.existing(volume).await?;
        let shown = format!("{} of {volume}", EntryPath::of(path).path.escape_debug());
        let (path, what) = (path.to_vec(), shown.clone());
        let mut file = blocking(format!("open {shown}"), move || open_beneath(&folder, &path, size, &shown)).await?;
        Ok(outgoing(what.clone(), move |mut out| {
            let lost = |cause| bundle::Error::Source { action: "read", path: what.clone().into(), cause };
            file.seek(SeekFrom::Start(bytes.start)).map_err(lost)?;
            let mut left = bytes.end - bytes.start;
            let mut buffer = vec![0; STEP.min(left as usize)];
            while left > 0 {
                let most = buffer.len().min(left as usize);
                let count = file.read(&mut buffer[..most]).map_err(lost)?;
                if count == 0 {
                    return Err(lost(io::ErrorKind::UnexpectedEof.into()));
                }
                out.write_all(&buffer[..count]).map_err(|cause| bundle::Error::Stream { cause })?;
                left -= count as u64;
            }
            Ok(())
        })
        .await)
    }

    /// See [`crate::engine::Engine::verify`].
    pub async fn verify(&self, volume: &Volume, digest: &str) -> Result<Checks, EngineError> {
        let folder = self.existing(volume).await?;
        let mut entries = self.open_manifest(digest)?;
        Ok(made_elsewhere(format!("verification of {volume}"), move |sender| {
            let mut news = News { sender, so_far: Checked::default(), since: 0 };
            let mut watch = |compared: Compared<'_>| news.tell(compared);
            let totals = bundle::compare(&folder, &mut entries, &Limits::default(), &mut watch)?;
            let Totals { entries, bytes, differences } = totals;
            news.send(Check::Done(Checked { entries, bytes, differences }))
                .is_continue()
                .then_some(())
                .ok_or_else(|| bundle::Error::Stream { cause: io::ErrorKind::BrokenPipe.into() })
        })
        .await)
    }

    fn manifest_file(&self, digest: &str) -> Result<(File, u64), EngineError> {
        let parsed: Digest = digest.parse().map_err(|cause| failed("use digest", &digest.escape_debug(), &cause))?;
        let opened = File::open(self.manifest(&parsed)).and_then(|file| {
            let length = file.metadata()?.len();
            Ok((file, length))
        });
        opened.map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => EngineError::Damaged(format!("the manifest {digest} is lost")),
            _ => failed("open manifest", &digest, &cause),
        })
    }

    fn open_manifest(&self, digest: &str) -> Result<ManifestReader<File>, EngineError> {
        let (file, _) = self.manifest_file(digest)?;
        let parsed: Digest = digest.parse().map_err(|cause| failed("use digest", &digest.escape_debug(), &cause))?;
        manifest::read(file, parsed)
    }
}

/// Opens a regular file below the folder. Neither the path nor what stands there can lead outside, or keep
/// the caller waiting.
fn open_beneath(folder: &Path, path: &[u8], size: u64, shown: &str) -> Result<File, EngineError> {
    let changed = || EngineError::Damaged("it is not what was registered".to_owned());
    let opening = |cause: Errno| match cause {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO => changed(),
        cause => failed("open", &shown, &io::Error::from(cause)),
    };
    let root = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let opened = rustix::fs::openat2(root.map_err(opening)?, path_from_bytes(path), flags, Mode::empty(), resolve);
    let file = File::from(opened.map_err(opening)?);
    match file.metadata() {
        Ok(found) if found.is_file() && found.len() == size => Ok(file),
        Ok(_) => Err(changed()),
        Err(cause) => Err(failed("look at", &shown, &cause)),
    }
}

/// What a verification tells, not too often.
struct News<'a> {
    sender: &'a mpsc::Sender<Piece<Check>>,
    so_far: Checked,
    /// Entries and bytes, in shares of what is worth telling, since it told last.
    since: u64,
}

impl News<'_> {
    fn tell(&mut self, compared: Compared<'_>) -> ControlFlow<()> {
        match compared {
            Compared::Bytes(count) => {
                self.so_far.bytes += count;
                self.since += count;
            }
            Compared::Entry => {
                self.so_far.entries += 1;
                self.since += BYTES_PER_NEWS / ENTRIES_PER_NEWS;
            }
            Compared::Differs { path, how } => {
                self.so_far.differences += 1;
                if self.so_far.differences <= NAMED {
                    return self.send(Check::Differs(Differing { path: EntryPath::of(path), difference: how }));
                }
            }
        }
        if self.since < BYTES_PER_NEWS {
            return ControlFlow::Continue(());
        }
        self.since = 0;
        self.send(Check::Progress(self.so_far))
    }

    fn send(&self, check: Check) -> ControlFlow<()> {
        match self.sender.blocking_send(Piece::Next(check)) {
            Ok(()) => ControlFlow::Continue(()),
            // The verification was given up.
            Err(_) => ControlFlow::Break(()),
        }
    }
}

//! A worker's log as a stream: what is there, and with a live worker also what comes, to its last byte.

use super::changes::{Changes, Watched};
use crate::engine::{ByteStream, EngineError, Observation, Volume};
use bytes::BytesMut;
use futures_util::{StreamExt as _, stream};
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

/// Name of the log in its volume.
pub(in crate::engine) const FILE: &str = "log";
const PIECE: usize = 64 << 10;

/// Streams the log in this folder, which is `volume`; goes on while the worker lives, if one is given.
pub(super) async fn stream(
    changes: &Changes,
    folder: &Path,
    volume: &Volume,
    worker: Option<watch::Receiver<Observation>>,
) -> Result<ByteStream, EngineError> {
    let failed = |what: &str, cause: io::Error| EngineError::Failed {
        what: format!("{what} the log in {volume}"),
        cause: cause.to_string(),
    };
    // Watched before it is looked at, so that nothing is missed in between. The folder is watched and
    // not the file, because the file may not exist yet.
    let changes = match worker {
        Some(_) if folder.is_dir() => Some(changes.watch(folder).map_err(|cause| failed("watching", cause))?),
        _ => None,
    };
    let file = open(folder).await.map_err(|cause| failed("opening", cause))?;
    if file.is_none() && (changes.is_none() || worker.as_ref().is_none_or(is_over)) {
        return Err(EngineError::NotFound(format!("the log in {volume}")));
    }
    let reader = Reader { folder: folder.to_owned(), file, changes, worker };
    Ok(stream::try_unfold(reader, Reader::next).boxed())
}

/// Streams what is there of the log in this folder, which is `volume`, from this byte on; a negative one counts from
/// the end.
pub(in crate::engine) async fn stream_from(
    folder: &Path,
    volume: &Volume,
    from: i64,
) -> Result<ByteStream, EngineError> {
    let sought = async {
        let Some(mut file) = open(folder).await? else { return Ok(None) };
        let from = match u64::try_from(from) {
            Ok(from) => from,
            Err(_) => file.metadata().await?.len().saturating_sub(from.unsigned_abs()),
        };
        file.seek(SeekFrom::Start(from)).await?;
        Ok(Some(file))
    };
    let failed = |cause: io::Error| EngineError::Failed {
        what: format!("opening the log in {volume}"),
        cause: cause.to_string(),
    };
    let file = sought.await.map_err(failed)?;
    let file = file.ok_or_else(|| EngineError::NotFound(format!("the log in {volume}")))?;
    let reader = Reader { folder: folder.to_owned(), file: Some(file), changes: None, worker: None };
    Ok(stream::try_unfold(reader, Reader::next).boxed())
}

/// The last bytes of the log in this folder, which is `volume`.
pub(super) async fn tail(folder: &Path, volume: &Volume, most: usize) -> Result<Vec<u8>, EngineError> {
    let read = async {
        let Some(mut file) = open(folder).await? else { return Ok(None) };
        let length = file.metadata().await?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most as u64))).await?;
        let mut end = Vec::with_capacity(most);
        // A log that grows meanwhile is not followed.
        file.take(most as u64).read_to_end(&mut end).await?;
        Ok(Some(end))
    };
    let failed = |cause: io::Error| EngineError::Failed {
        what: format!("reading the end of the log in {volume}"),
        cause: cause.to_string(),
    };
    read.await.map_err(failed)?.ok_or_else(|| EngineError::NotFound(format!("the log in {volume}")))
}

async fn open(folder: &Path) -> io::Result<Option<File>> {
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(folder.join(FILE)).await;
    match opened {
        Ok(file) if file.metadata().await?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other("it is not a regular file")),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn is_over(worker: &watch::Receiver<Observation>) -> bool {
    // The sender is gone when the worker was removed.
    worker.has_changed().is_err() || matches!(*worker.borrow(), Observation::Ended { .. } | Observation::Absent)
}

struct Reader {
    folder: PathBuf,
    file: Option<File>,
    changes: Option<Watched>,
    worker: Option<watch::Receiver<Observation>>,
}

impl Reader {
    async fn next(mut self) -> io::Result<Option<(bytes::Bytes, Self)>> {
        loop {
            // Asked before reading: what is read after the end is all there will ever be.
            let over = self.worker.as_ref().is_none_or(is_over);
            if self.file.is_none() {
                self.file = open(&self.folder).await?;
            }
            if let Some(file) = &mut self.file {
                let mut piece = BytesMut::with_capacity(PIECE);
                if file.read_buf(&mut piece).await? > 0 {
                    return Ok(Some((piece.freeze(), self)));
                }
            }
            match (&mut self.changes, &mut self.worker) {
                (Some(changes), Some(worker)) if !over => {
                    tokio::select! {
                        change = changes.changed() => change?,
                        // An error means that the worker is gone, which the next round sees.
                        _ = worker.changed() => {}
                    }
                }
                _ => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_log_is_read_without_the_rest_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let volume = Volume::from_stored("v");
        let missing = tail(folder.path(), &volume, 4).await;
        assert!(matches!(missing, Err(EngineError::NotFound(_))), "{missing:?}");
        std::fs::write(folder.path().join(FILE), "0123456789").unwrap();
        assert_eq!(tail(folder.path(), &volume, 4).await.unwrap(), b"6789");
        assert_eq!(tail(folder.path(), &volume, 40).await.unwrap(), b"0123456789");
        assert_eq!(tail(folder.path(), &volume, 0).await.unwrap(), b"");
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join(FILE)).unwrap();
        assert!(tail(folder.path(), &volume, 4).await.is_err(), "no link is followed");
    }
}

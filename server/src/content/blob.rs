//! Blobs: written once, under the digest that was verified while writing.

use super::{ContentError, ContentStore, Digest, remove_file, settle, touch};
use crate::transfers::{self, unless_still};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// An open blob.
#[derive(Debug)]
pub struct Blob {
    /// At its start.
    pub file: File,
    /// Its length in bytes.
    pub size: u64,
}

/// Receives the bytes of one blob; without [`BlobWriter::finish`] nothing is left of them.
#[derive(Debug)]
pub struct BlobWriter {
    store: ContentStore,
    path: PathBuf,
    file: File,
    hash: Sha256,
    size: u64,
}

impl BlobWriter {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the blob visible, for good, if it is what was expected.
    pub fn finish(self, expected: &Digest) -> Result<(), ContentError> {
        let actual = Digest::finish(self.hash.clone());
        if actual != *expected {
            return Err(ContentError::Digest { expected: *expected, actual });
        }
        self.store.keep(&self.file, &self.path, expected)?;
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // Gone already when it was finished; otherwise the next start removes it, too.
        let _ = remove_file(&self.path);
    }
}

impl ContentStore {
    /// Begins a blob.
    pub fn write_blob(&self) -> io::Result<BlobWriter> {
        let path = self.incoming();
        let file = File::create_new(&path)?;
        Ok(BlobWriter { store: self.clone(), path, file, hash: Sha256::new(), size: 0 })
    }

    /// Stores a whole stream as a blob, in constant memory. What is there already is not written again,
    /// but the stream is read and verified all the same.
    pub async fn store_blob<S, E>(&self, body: S, expected: Digest) -> Result<u64, ContentError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Display,
    {
        let store = self.clone();
        let fed = feed(body, move |mut chunks| {
            let mut writer = store.write_blob()?;
            while let Some(chunk) = chunks.blocking_recv() {
                writer.write(&chunk)?;
            }
            Ok::<_, ContentError>(writer)
        });
        let writer = fed.await??;
        let size = writer.size();
        blocking(move || writer.finish(&expected)).await?;
        Ok(size)
    }

    /// Opens a blob, whichever repository it is in.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob, ContentError> {
        match File::open(self.blob_path(digest)) {
            Ok(file) => Ok(Blob { size: file.metadata()?.len(), file }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ContentError::NotFound(digest.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Length of a blob in bytes, if it is there.
    pub fn blob_size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match std::fs::metadata(self.blob_path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a blob again and removes it if its bytes are not what they were when it was stored, so that
    /// the next push or fetch brings it anew; true if it was removed. Blocks for as long as that takes.
    pub fn discard_damaged(&self, digest: &Digest) -> Result<bool, ContentError> {
        let blob = match self.open_blob(digest) {
            Err(ContentError::NotFound(_)) => return Ok(false),
            other => other?,
        };
        if digest_of(blob.file)? == *digest {
            return Ok(false);
        }
        Ok(remove_file(&self.blob_path(digest))?)
    }

    /// Reads a small blob whole, verifying it; one above `limit` bytes is refused.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ContentError> {
        use std::io::Read as _;
        let blob = self.open_blob(digest)?;
        if blob.size > limit {
            return Err(io::Error::other(format!("{digest} has {} bytes; {limit} are allowed", blob.size)).into());
        }
        let mut bytes = Vec::with_capacity(blob.size as usize);
        blob.file.take(limit).read_to_end(&mut bytes)?;
        let actual = Digest::of(&bytes);
        if actual == *digest { Ok(bytes) } else { Err(ContentError::Digest { expected: *digest, actual }) }
    }

    /// Syncs a verified file and gives it its place among the blobs, from where it was written.
    pub(super) fn keep(&self, file: &File, from: &std::path::Path, digest: &Digest) -> io::Result<()> {
        let place = self.blob_path(digest);
        let naming = self.while_naming();
        if touch(&place).is_ok() {
            drop(naming);
            remove_file(from)?;
            return Ok(());
        }
        drop(naming);
        file.sync_all()?;
        settle(from, &place)
    }
}

/// Hands the chunks of `body` to `work` on a thread where it may block, a few at a time. When the body
/// breaks, `work` sees its end and finishes, and then the break is reported.
pub(super) async fn feed<S, E, T>(
    mut body: S,
    work: impl FnOnce(mpsc::Receiver<Bytes>) -> T + Send + 'static,
) -> Result<T, ContentError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Display,
    T: Send + 'static,
{
    let place = transfers::place().await;
    let (chunks, received) = mpsc::channel(4);
    let working = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(received)
    });
    let mut broken = None;
    loop {
        match unless_still(body.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => {
                // When the other side is gone it has failed, and says so itself.
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok(Some(Err(error))) => {
                broken = Some(ContentError::Interrupted(error.to_string()));
                break;
            }
            Err(still) => {
                broken = Some(ContentError::Interrupted(still.to_string()));
                break;
            }
        }
    }
    drop(chunks);
    let done = working.await.map_err(io::Error::other)?;
    broken.map_or(Ok(done), Err)
}

/// Runs what blocks on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ContentError> + Send + 'static,
) -> Result<T, ContentError> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The digest of all that a reader gives.
pub(super) fn digest_of(mut reader: impl io::Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(Digest::finish(hash)),
            n => hash.update(&buffer[..n]),
        }
    }
}

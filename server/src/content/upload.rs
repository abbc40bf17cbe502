//! Upload sessions: a blob that arrives in pieces, over several connections and restarts.

use super::blob::{blocking, digest_of, feed};
use super::{ContentError, ContentStore, Digest, Repository, absent, create_folders, remove_file};
use crate::clock;
use bytes::Bytes;
use futures_util::Stream;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

/// Sessions whose running hash is kept in memory; the hash of others is computed at the end.
const SESSIONS_REMEMBERED: usize = 1024;

/// Name of a session: a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// Checks that a text can be the name of a session.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = uuid::Uuid::parse_str(text).ok()?.to_string();
        (uuid == text).then_some(Self(uuid))
    }

    /// The name, also usable as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One writer at a time, and the hash of what this process wrote.
pub(super) type Session = Arc<tokio::sync::Mutex<Progress>>;

/// Spares reading an upload again at its end, when this process saw all of it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    hash: Sha256,
    hashed: u64,
}

impl ContentStore {
    fn session(&self, id: &UploadId) -> Session {
        let mut sessions = self.inner.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if sessions.len() >= SESSIONS_REMEMBERED {
            sessions.retain(|_, session| Arc::strong_count(session) > 1);
        }
        sessions.entry(id.clone()).or_default().clone()
    }

    fn forget_session(&self, id: &UploadId) {
        self.inner.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
    }

    /// True when some call is at work on this session.
    pub(super) fn is_uploading(&self, id: &UploadId) -> bool {
        let sessions = self.inner.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sessions.get(id).is_some_and(|session| session.try_lock().is_err())
    }
}

impl Repository {
    fn upload_path(&self, id: &UploadId) -> PathBuf {
        self.dir().join("_uploads").join(id.as_str())
    }

    /// Begins a session.
    pub fn begin_upload(&self) -> io::Result<UploadId> {
        let id = UploadId(clock::new_id());
        create_folders(&self.dir().join("_uploads"))?;
        File::create_new(self.upload_path(&id))?;
        Ok(id)
    }

    /// Bytes received so far.
    pub fn upload_size(&self, id: &UploadId) -> Result<u64, ContentError> {
        match std::fs::symlink_metadata(self.upload_path(id)) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if absent(&error) => Err(unknown(id)),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends a body to a session, which must stand at byte `at` if that is given, and tells where it
    /// stands then. What arrived before a break stays, so that the sender can go on from there.
    pub async fn append_upload<S, E>(&self, id: &UploadId, at: Option<u64>, body: S) -> Result<u64, ContentError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: fmt::Display,
    {
        let mut progress = self.store().session(id).lock_owned().await;
        let (path, id) = (self.upload_path(id), id.clone());
        let append = move |mut chunks: tokio::sync::mpsc::Receiver<Bytes>| {
            let mut file = match File::options().append(true).open(&path) {
                Ok(file) => file,
                Err(error) if absent(&error) => return Err(unknown(&id)),
                Err(error) => return Err(error.into()),
            };
            let mut size = file.metadata()?.len();
            if at.is_some_and(|at| at != size) {
                return Err(ContentError::Offset { at: size });
            }
            while let Some(chunk) = chunks.blocking_recv() {
                file.write_all(&chunk)?;
                if progress.hashed == size {
                    progress.hash.update(&chunk);
                    progress.hashed += chunk.len() as u64;
                }
                size += chunk.len() as u64;
            }
            Ok(size)
        };
        feed(body, append).await?
    }

    /// Ends a session: its bytes become a blob of this repository if they are what was announced. A
    /// session that is not is over as well, because nothing could mend it.
    pub async fn finish_upload(&self, id: &UploadId, digest: &Digest) -> Result<(), ContentError> {
        let progress = self.store().session(id).lock_owned().await;
        let (repository, id, expected) = (self.clone(), id.clone(), *digest);
        blocking(move || {
            let path = repository.upload_path(&id);
            let file = match File::options().read(true).write(true).open(&path) {
                Ok(file) => file,
                Err(error) if absent(&error) => return Err(unknown(&id)),
                Err(error) => return Err(error.into()),
            };
            let actual = if progress.hashed == file.metadata()?.len() {
                Digest::finish(progress.hash.clone())
            } else {
                digest_of(&file)?
            };
            if actual != expected {
                remove_file(&path)?;
                repository.store().forget_session(&id);
                return Err(ContentError::Digest { expected, actual });
            }
            repository.store().keep(&file, &path, &expected)?;
            repository.store().forget_session(&id);
            if repository.link_blob(&expected)? { Ok(()) } else { Err(ContentError::NotFound(expected.to_string())) }
        })
        .await
    }

    /// Ends a session without a blob.
    pub fn cancel_upload(&self, id: &UploadId) -> Result<(), ContentError> {
        self.store().forget_session(id);
        if remove_file(&self.upload_path(id))? { Ok(()) } else { Err(unknown(id)) }
    }
}

fn unknown(id: &UploadId) -> ContentError {
    ContentError::NotFound(format!("upload {id}"))
}

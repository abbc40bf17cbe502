//! Manifests in pieces: compressed, addressed by the root digest, in memory never more than a piece.

use super::engine::{Db, DbError, args, whole};
use super::{Result, Store, StoreError};
use crate::engine::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use knit_api::time::Timestamp;
use std::io;

/// Bytes in each piece but the last.
const PIECE: usize = 256 << 10;

const BEGIN: &str = "insert into manifest_upload (id, begun_at) values ($1, $2)";
const ADD: &str = "insert into manifest_piece (upload, number, content) values ($1, $2, $3)";
const COMPLETE: &str =
    "insert into manifest (digest, upload, length) values ($1, $2, $3) on conflict (digest) do nothing";
const DISCARD: &str = "delete from manifest_upload where id = $1";
const FIND: &str = "select upload, length from manifest where digest = $1";
const READ: &str = "select content from manifest_piece where upload = $1 and number = $2";
const GIVE_UP: &str = "delete from manifest_upload where begun_at < $1 \
    and not exists (select 1 from manifest m where m.upload = manifest_upload.id)";

/// Why a manifest was not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It did not come whole.
    #[error("the manifest broke off: {0}")]
    BrokeOff(io::Error),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A manifest that is kept.
pub struct KeptManifest {
    /// Its bytes, compressed.
    pub stream: ByteStream,
    /// How many there are.
    pub length: u64,
}

impl std::fmt::Debug for KeptManifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptManifest").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Store {
    /// Keeps the manifest with this root digest. It is found only once it is complete; one that is there already is
    /// the same, and stays. `upload` is a new id, `now` the time.
    pub async fn keep_manifest(
        &self,
        digest: &str,
        upload: &str,
        now: Timestamp,
        mut stream: ByteStream,
    ) -> Result<(), NotKept> {
        if self.has_manifest(digest).await? {
            return Ok(());
        }
        self.change("keeping a manifest", BEGIN, args![upload, now.micros()]).await?;
        let kept = self.add_pieces(upload, &mut stream).await;
        let complete = match kept {
            Ok(length) => {
                whole!("keeping a manifest", self.try_complete(digest, upload, length)).map_err(NotKept::from)
            }
            Err(error) => Err(error),
        };
        if complete.is_err()
            && let Err(error) = self.change("discarding a manifest", DISCARD, args![upload]).await
        {
            tracing::warn!(%digest, %error, "pieces of a manifest stay for now; housekeeping removes them");
        }
        complete
    }

    /// Whether the manifest with this root digest is kept.
    pub async fn has_manifest(&self, digest: &str) -> Result<bool> {
        Ok(self.find_manifest(digest).await?.is_some())
    }

    /// The manifest with this root digest, if it is kept.
    pub async fn manifest(&self, digest: &str) -> Result<Option<KeptManifest>> {
        let Some((upload, length)) = self.find_manifest(digest).await? else { return Ok(None) };
        let store = self.clone();
        let next = (store, upload, 0_i64, length);
        let stream = stream::try_unfold(next, async |(store, upload, number, left)| {
            if left == 0 {
                return Ok(None);
            }
            let piece = whole!("reading a manifest", store.try_piece(&upload, number)).map_err(io::Error::other)?;
            let left = left.checked_sub(piece.len() as u64).filter(|_| !piece.is_empty());
            let left = left.ok_or_else(|| io::Error::other("a manifest has other pieces than it had"))?;
            Ok(Some((piece, (store, upload, number + 1, left))))
        });
        Ok(Some(KeptManifest { stream: Box::pin(stream), length }))
    }

    /// Removes what was begun before that and never became a manifest; how many there were.
    pub async fn give_up_manifests(&self, before: Timestamp) -> Result<u64> {
        self.change("removing pieces of manifests", GIVE_UP, args![before.micros()]).await
    }

    /// Adds the pieces of an upload, each in a transaction of its own; how many bytes they have.
    async fn add_pieces(&self, upload: &str, stream: &mut ByteStream) -> Result<u64, NotKept> {
        let (mut number, mut length) = (0_i64, 0);
        let mut waiting = BytesMut::with_capacity(PIECE);
        loop {
            let next = stream.next().await.transpose().map_err(NotKept::BrokeOff)?;
            let ended = next.is_none();
            let mut next = next.unwrap_or_default();
            loop {
                let taken = next.split_to(next.len().min(PIECE - waiting.len()));
                waiting.extend_from_slice(&taken);
                if waiting.len() < PIECE && (!ended || waiting.is_empty()) {
                    break;
                }
                self.change("keeping a piece of a manifest", ADD, args![upload, number, &waiting[..]]).await?;
                length += waiting.len() as u64;
                number += 1;
                waiting.clear();
            }
            if ended {
                return Ok(length);
            }
        }
    }

    async fn try_complete(&self, digest: &str, upload: &str, length: u64) -> Db<()> {
        let mut tx = self.db.begin().await?;
        if tx.exec(COMPLETE, args![digest, upload, length as i64]).await? == 0 {
            // Somebody else was faster with the same.
            tx.exec(DISCARD, args![upload]).await?;
        }
        tx.commit().await
    }

    async fn find_manifest(&self, digest: &str) -> Result<Option<(String, u64)>> {
        whole!("looking for a manifest", self.try_find_manifest(digest))
    }

    async fn try_find_manifest(&self, digest: &str) -> Db<Option<(String, u64)>> {
        let row = self.db.row(FIND, args![digest]).await?;
        row.map(|row| Ok((row.text(0)?, row.int(1)? as u64))).transpose()
    }

    async fn try_piece(&self, upload: &str, number: i64) -> Db<Bytes> {
        let row = self.db.row(READ, args![upload, number]).await?;
        row.ok_or_else(|| DbError::other("a piece of a manifest is lost"))?.bytes(0)
    }
}

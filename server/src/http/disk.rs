//! The disk that holds the installation: how much room there is, and whether anything can be recorded.

use super::refused::{Answer, Refused};
use knit_api::server::Disk;
use std::path::{Path, PathBuf};

/// Bytes without which the end of a Run may not be recorded any more: the database writes beside before it
/// writes in place.
const LEAST: u64 = 1 << 20;
/// What a full disk means, for a person.
pub(super) const FULL: &str = "the disk is full: nothing can be recorded until there is room";

/// A look at the disk.
pub(super) struct Room {
    /// As it is told.
    pub(super) disk: Disk,
    /// Whether next to nothing more can be written.
    pub(super) is_full: bool,
}

/// Looks at the disk that holds this folder.
pub(super) async fn look(root: &Path) -> Answer<Room> {
    let root: PathBuf = root.to_owned();
    let looked = tokio::task::spawn_blocking(move || measure(&root)).await;
    match looked {
        Ok(Ok(room)) => Ok(room),
        Ok(Err(error)) => {
            tracing::error!(%error, "the disk cannot be measured");
            Err(Refused::internal("the server's disk cannot be measured"))
        }
        Err(_) => Err(Refused::internal("the server's disk cannot be measured")),
    }
}

fn measure(root: &Path) -> std::io::Result<Room> {
    let found = rustix::fs::statvfs(root)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    // What is kept back for root is there for this server, too, but nobody should count on it.
    let (kept_back, free) = (bytes(found.f_bfree), bytes(found.f_bavail));
    let left = if rustix::process::geteuid().is_root() { kept_back } else { free };
    Ok(Room { disk: Disk { total: bytes(found.f_blocks), free }, is_full: left < LEAST })
}

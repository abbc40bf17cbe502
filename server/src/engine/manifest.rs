//! Looking into manifests, wherever they are kept.

use super::{EngineError, Entry};
use knit_api::bundle::{self, Content, Digest, ManifestReader, canonical_order, is_plain_path, is_within};
use std::cmp::Ordering;
use std::io::Read;

/// Reads the manifest with this root digest from its compressed form.
pub(super) fn read<R: Read>(input: R, digest: Digest) -> Result<ManifestReader<R>, EngineError> {
    ManifestReader::new(input, digest).map_err(|error| unreadable(&digest, &error))
}

/// Looks up one path in the manifest that `open` opens, where that needs one.
pub(super) fn look_up<R: Read>(
    path: &[u8],
    digest: &str,
    open: impl FnOnce() -> Result<ManifestReader<R>, EngineError>,
) -> Result<Entry, EngineError> {
    if path.is_empty() {
        return Ok(Entry::Directory);
    }
    if !is_plain_path(path) {
        return Ok(Entry::Absent);
    }
    find(&mut open()?, path).map_err(|error| unreadable(&digest, &error))
}

/// What stands at the path, or in its way.
fn find<R: Read>(entries: &mut ManifestReader<R>, path: &[u8]) -> Result<Entry, bundle::Error> {
    while let Some(entry) = entries.next()? {
        if entry.path == path {
            return Ok(match entry.content {
                Content::Directory => Entry::Directory,
                Content::File { size, hash } => Entry::File { size, digest: hash.to_string() },
                Content::Link { target } => Entry::Link { target: target.to_vec() },
            });
        }
        match entry.content {
            Content::Link { target } if is_within(path, entry.path) => {
                return Ok(Entry::Beyond { link: entry.path.to_vec(), target: target.to_vec() });
            }
            _ if canonical_order(entry.path, path) == Ordering::Greater => break,
            _ => {}
        }
    }
    Ok(Entry::Absent)
}

fn unreadable(digest: &dyn std::fmt::Display, error: &bundle::Error) -> EngineError {
    EngineError::Damaged(format!("the manifest {digest} is damaged: {error}"))
}

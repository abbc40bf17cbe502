//! Why a folder could not be packed, unpacked or sealed, and whose fault it is.

use super::manifest::Digest;
use super::tree::{Special, path_from_bytes};
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

/// Why it did not work. Each message is a whole sentence for a person, cause included.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something local could not be read.
    #[error("cannot {action} {}: {cause}", Shown(.path))]
    Source {
        /// What was tried, for example `open`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// A kind of file that is not Data.
    #[error("{} is a {kind}: only files, folders and links can be kept as Data; remove it and try again", Shown(.path))]
    NotData {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        kind: Special,
    },
    /// Somebody wrote to a file, or made or removed entries of a folder, while it was read.
    #[error("{} changed while it was read; try again when nothing writes to it", Shown(.path))]
    Changed {
        /// The file or folder.
        path: PathBuf,
    },
    /// Following links leads in a circle.
    #[error("{} is a link that leads back to a folder it stands in, or to itself", Shown(.path))]
    LinkLoop {
        /// The link.
        path: PathBuf,
    },
    /// The disk, or the owner's share of it, is full.
    #[error("no space is left for {}: {cause}", Shown(.path))]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Something local could not be written.
    #[error("cannot {action} {}: {cause}", Shown(.path))]
    Target {
        /// What was tried, for example `create`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// More than is allowed.
    #[error("{} goes beyond the limit of {allowed} {limit}", Shown(.path))]
    TooLarge {
        /// Where it was noticed.
        path: PathBuf,
        /// What is limited.
        limit: &'static str,
        /// How much is allowed.
        allowed: u64,
    },
    /// The stream is damaged, incomplete or hostile: the sender's fault.
    #[error("the content is refused: {why}")]
    BadContent {
        /// What is wrong with it.
        why: String,
    },
    /// What is in the folder is not what it should come to.
    #[error("it is not what was registered: its digest is {found}, and that of what was registered {expected}")]
    Differs {
        /// The root digest that it should have.
        expected: Digest,
        /// The one that it has.
        found: Digest,
    },
    /// The stream itself could not be read or passed on.
    #[error("the transfer broke off: {cause}")]
    Stream {
        /// What the other side of the stream said.
        cause: io::Error,
    },
}

impl Error {
    pub(super) fn source(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Source { action, path: path.to_owned(), cause }
    }

    pub(super) fn target(action: &'static str, path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path, cause },
            _ => Self::Target { action, path, cause },
        }
    }

    pub(super) fn too_large(path: &[u8], limit: &'static str, allowed: u64) -> Self {
        Self::TooLarge { path: path_from_bytes(path), limit, allowed }
    }

    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::BadContent { why: why.into() }
    }

    /// Bad content at one entry.
    pub(super) fn bad_entry(path: &[u8], why: &str) -> Self {
        Self::bad(format!("{}: {why}", Shown(&path_from_bytes(path))))
    }
}

/// A path as a person may safely see it: no control characters, never endless.
pub(super) struct Shown<'a>(pub(super) &'a PathBuf);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 300;
        let text = self.0.to_string_lossy();
        for (count, letter) in text.chars().enumerate() {
            if count == LONGEST {
                return f.write_char('…');
            }
            if letter.is_control() { write!(f, "{}", letter.escape_default())? } else { f.write_char(letter)? }
        }
        Ok(())
    }
}

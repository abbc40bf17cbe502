//! One folder <-> one verified byte stream.
//!
//! [`pack()`] turns a folder into a stream, [`unpack()`] a stream into a folder, and [`seal()`] computes
//! what is known of a folder that nobody writes to any more. All three use constant memory however
//! large the folder is, follow no link below the root, and agree on one [`Digest`].
//!
//! # The bundle ([`Form::Bundle`], [`Form::BundleZstd`])
//!
//! A tar stream in GNU format: `L` and `K` records carry long names and link targets as raw bytes,
//! sizes from 8 GiB on are in base 256. The root itself has no entry. Entries stand in *canonical
//! order*: depth first, siblings by the bytes of their names, each directory before its content. So a
//! receiver needs no table to find duplicates, missing parents or entries below a symlink: each of
//! them breaks the order.
//!
//! An `x` (pax) record before an entry holds what the header cannot: `mtime` when it has a fraction of
//! a second or lies before 1970, and `KNIT.links=<n>` on a file that has n hard links, so that the
//! receiver remembers its hash until n-1 hard-link entries (typeflag `1`) have named it. What the two
//! sides remember is bounded alike; a link beyond the bound travels as a file of its own.
//!
//! The stream closes with one pax *global* record (typeflag `g`) with `KNIT.digest=<root digest>` and
//! `KNIT.entries=<n>`, then two zero blocks. A plain tar program passes over it, and it cannot clash
//! with a user's file. A receiver refuses a stream without it, with another digest or count, or with
//! anything but zero blocks after it: integrity needs no HTTP trailer and no length.
//! The compressed form is one zstd frame with zstd's own checksum.
//!
//! # Manifest and root digest
//!
//! The manifest lists every entry, and **the root digest is the BLAKE3 hash of the uncompressed
//! manifest**. It is the line `knit-manifest 1` with its line feed, then one record per entry in
//! canonical order. Integers are little-endian:
//!
//! ```text
//! kind      1 byte: 'd' directory, 'f' file, 'l' symlink
//! mode      2 bytes: permission bits & 0o777; always 0o777 for a symlink
//! length    4 bytes: bytes in the path
//! path      relative to the root, '/' between names, raw bytes
//! size      8 bytes: of the content, of the link target; 0 for a directory
//! content   file: BLAKE3 of its content, 32 bytes; symlink: its target; directory: nothing
//! ```
//!
//! So the digest covers neither mtimes nor owners, nor the root's own mode, and equal folders have
//! equal digests. A hard link counts as one more file. Set-user-id, set-group-id and sticky bits do
//! not travel and are not digested. A directory `lost+found` directly below the root belongs to the
//! file system: it is left out.
//!
//! # A part of a folder
//!
//! With a [`Selection`], [`pack()`] writes what it takes and the folders above, in the same order and with a
//! root digest of its own; [`copy_part`] does the like with a manifest.
//!
//! # The form of v1.6.1 ([`Form::TarGz`])
//!
//! A tar.gz with regular files and symlinks only: empty directories are lost, hard links become
//! copies. It carries no digest; after `unpack`, [`seal()`] tells it. [`ArchiveReader`] lists it without
//! unpacking it.

mod archive;
mod compare;
mod error;
mod header;
mod input;
mod legacy;
mod links;
mod manifest;
mod md5;
mod pack;
mod seal;
mod select;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;
mod walk;

pub use archive::{ArchiveReader, InArchive, copy_from_archive};
pub use compare::{Compared, Totals, compare};
pub use error::Error;
pub use manifest::{
    Content, Digest, Entries, Entry, Kept, ManifestReader, canonical_order, copy_part, is_plain_path, is_within,
};
pub use md5::{Md5Reader, Md5Writer};
pub use pack::{PackOptions, pack};
pub use seal::{LeftOut, SealOptions, Sealed, nothing, seal};
pub use select::{BadPattern, Selection, Selector};
pub use tree::{Special, path_from_bytes};
pub use unpack::{unpack, verify};

use std::path::Path;

/// Bytes that are read, hashed and written in one step: large enough for few system calls and for
/// BLAKE3's widest path, small enough to stay in the processor's cache.
const STEP: usize = 256 * 1024;

/// Compression level of bundles: level 1 keeps up with a disk.
const ZSTD_LEVEL: i32 = 1;

/// Largest window (as a power of two) that a zstd frame may ask for: 8 MiB, what levels up to 19 use.
/// It bounds a receiver's memory.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The form in which a folder travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Ours, plain.
    Bundle,
    /// Ours, compressed with zstd.
    BundleZstd,
    /// The tar.gz of v1.6.1.
    TarGz,
}

/// What was packed or unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Root digest; none for [`Form::TarGz`], which does not carry all that the digest covers.
    pub digest: Option<Digest>,
    /// Entries below the root.
    pub entries: u64,
    /// Bytes in regular files; a hard link counts like a file of its own.
    pub bytes: u64,
}

/// How much a folder or a stream may hold. What goes beyond is [`Error::TooLarge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries below the root.
    pub entries: u64,
    /// Bytes in regular files together.
    pub bytes: u64,
    /// Bytes in a path relative to the root.
    pub path: usize,
    /// Bytes in one name.
    pub name: usize,
    /// Folders inside each other. Each costs an open file while it is walked.
    pub depth: usize,
    /// Bytes in the target of a symlink.
    pub link_target: usize,
}

impl Default for Limits {
    /// What Linux itself can name; ten million entries; bytes as the disk allows.
    fn default() -> Self {
        Self { entries: 10_000_000, bytes: i64::MAX as u64, path: 4096, name: 255, depth: 256, link_target: 4095 }
    }
}

impl Limits {
    /// Refuses a path that is too long or too deep.
    fn check_path(&self, path: &[u8], depth: usize) -> Result<(), Error> {
        let name = path.rsplit(|byte| *byte == b'/').next().map_or(0, <[u8]>::len);
        if path.len() > self.path {
            return Err(Error::too_large(path, "bytes in a path", self.path as u64));
        }
        if name > self.name {
            return Err(Error::too_large(path, "bytes in a name", self.name as u64));
        }
        if depth > self.depth {
            return Err(Error::too_large(path, "folders inside each other", self.depth as u64));
        }
        Ok(())
    }
}

/// Follows the progress of packing and unpacking.
pub trait Observer {
    /// Work on this entry (relative to the root) begins.
    fn entry(&mut self, path: &Path) {
        let _ = path;
    }

    /// That many further bytes of file content were read or written.
    fn bytes(&mut self, count: u64) {
        let _ = count;
    }
}

/// Follows nothing.
impl Observer for () {}

/// Entries and bytes so far.
#[derive(Default)]
struct Tally {
    entries: u64,
    bytes: u64,
}

impl Tally {
    /// Counts one entry with that much content, within the limits.
    fn count(&mut self, path: &[u8], bytes: u64, limits: &Limits) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > limits.entries {
            return Err(Error::too_large(path, "entries", limits.entries));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > limits.bytes {
            return Err(Error::too_large(path, "bytes in files", limits.bytes));
        }
        Ok(())
    }
}

//! The manifest of a folder, and the root digest that is its hash. The format stands in the module
//! page of [`crate::bundle`].

use super::{Error, Limits, ZSTD_LEVEL, ZSTD_WINDOW_LOG};
use std::cmp::Ordering;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::Path;
use std::str::FromStr;

const FIRST_LINE: &[u8] = b"knit-manifest 1\n";

/// Records are hashed and compressed in pieces of about this size.
const PIECE: usize = 64 * 1024;

/// A BLAKE3 hash: of one file's content, or as root digest of a whole folder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

/// 64 lower-case hex digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Text that is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 lower-case hex digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NotADigest);
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotADigest)?;
        Ok(Self(bytes))
    }
}

/// What an entry is and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// A folder; its content has entries of its own.
    Directory,
    /// A regular file.
    File {
        /// Bytes in it.
        size: u64,
        /// Hash of them.
        hash: Digest,
    },
    /// A symlink.
    Link {
        /// Where it points, as raw bytes.
        target: &'a [u8],
    },
}

/// One line of the list of everything in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Relative to the root, `/` between names, raw bytes; see [`super::path_from_bytes`].
    pub path: &'a [u8],
    /// Permission bits, 0o777 for a symlink.
    pub mode: u32,
    /// What it is.
    pub content: Content<'a>,
}

impl Entry<'_> {
    fn encode(&self, record: &mut Vec<u8>) {
        let (kind, mode, size) = match self.content {
            Content::Directory => (b'd', self.mode & 0o777, 0),
            Content::File { size, .. } => (b'f', self.mode & 0o777, size),
            Content::Link { target } => (b'l', 0o777, target.len() as u64),
        };
        record.push(kind);
        record.extend_from_slice(&(mode as u16).to_le_bytes());
        record.extend_from_slice(&(self.path.len() as u32).to_le_bytes());
        record.extend_from_slice(self.path);
        record.extend_from_slice(&size.to_le_bytes());
        match self.content {
            Content::Directory => {}
            Content::File { hash, .. } => record.extend_from_slice(hash.as_bytes()),
            Content::Link { target } => record.extend_from_slice(target),
        }
    }
}

/// An entry that is kept while its list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As of [`Entry`].
    pub path: Vec<u8>,
    mode: u32,
    content: KeptContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum KeptContent {
    Directory,
    File { size: u64, hash: Digest },
    Link(Vec<u8>),
}

impl Kept {
    /// Keeps this entry.
    pub fn of(entry: &Entry<'_>) -> Self {
        let content = match entry.content {
            Content::Directory => KeptContent::Directory,
            Content::File { size, hash } => KeptContent::File { size, hash },
            Content::Link { target } => KeptContent::Link(target.to_vec()),
        };
        Self { path: entry.path.to_vec(), mode: entry.mode, content }
    }

    /// The entry.
    pub fn entry(&self) -> Entry<'_> {
        let content = match &self.content {
            KeptContent::Directory => Content::Directory,
            KeptContent::File { size, hash } => Content::File { size: *size, hash: *hash },
            KeptContent::Link(target) => Content::Link { target },
        };
        Entry { path: &self.path, mode: self.mode, content }
    }
}

/// Writes a manifest, compressed, and computes its hash; or only the latter.
pub(super) struct ManifestWriter<'w> {
    hasher: blake3::Hasher,
    piece: Vec<u8>,
    out: Option<zstd::Encoder<'static, &'w mut dyn Write>>,
}

impl<'w> ManifestWriter<'w> {
    pub(super) fn new(out: Option<&'w mut dyn Write>) -> Result<Self, Error> {
        let out = out.map(checked_zstd).transpose().map_err(unwritten)?;
        let mut piece = Vec::with_capacity(PIECE + 8192);
        piece.extend_from_slice(FIRST_LINE);
        Ok(Self { hasher: blake3::Hasher::new(), piece, out })
    }

    pub(super) fn record(&mut self, entry: Entry<'_>) -> Result<(), Error> {
        entry.encode(&mut self.piece);
        if self.piece.len() >= PIECE { self.pass_on() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<Digest, Error> {
        self.pass_on()?;
        if let Some(out) = self.out.take() {
            out.finish().and_then(Write::flush).map_err(unwritten)?;
        }
        Ok(self.hasher.finalize().into())
    }

    fn pass_on(&mut self) -> Result<(), Error> {
        self.hasher.update(&self.piece);
        if let Some(out) = &mut self.out {
            out.write_all(&self.piece).map_err(unwritten)?;
        }
        self.piece.clear();
        Ok(())
    }
}

/// A zstd stream as all of ours are: quick, and with a checksum.
pub(super) fn checked_zstd<W: Write>(out: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

fn unwritten(cause: io::Error) -> Error {
    Error::target("write", Path::new("the manifest"), cause)
}

/// Compares two paths in canonical order: depth first, siblings by the bytes of their names.
pub fn canonical_order(a: &[u8], b: &[u8]) -> Ordering {
    // No name holds a zero byte, so what is below a folder comes right behind it.
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

/// Whether `path` is this folder or below it; the root, which has no name, is above everything.
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whether this can be the path of an entry: plain names with single slashes between them.
pub fn is_plain_path(path: &[u8]) -> bool {
    !path.contains(&0) && path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

/// Entries in canonical order, one after the other, in constant memory.
pub trait Entries {
    /// The next entry, or none after the last one.
    ///
    /// # Errors
    /// [`Error::BadContent`] where the list is damaged or not the one expected, [`Error::Stream`] where it
    /// breaks off.
    fn next(&mut self) -> Result<Option<Entry<'_>>, Error>;
}

/// Reads a manifest entry by entry, in constant memory, and checks that it is the one expected.
pub struct ManifestReader<R: Read> {
    input: BufReader<zstd::Decoder<'static, BufReader<R>>>,
    hasher: blake3::Hasher,
    expected: Option<Digest>,
    record: Vec<u8>,
    /// Path of the entry before.
    last: Vec<u8>,
    done: bool,
}

impl<R: Read> ManifestReader<R> {
    /// Reads the manifest with this root digest from its compressed form.
    ///
    /// # Errors
    /// [`Error::BadContent`] if it is no manifest, [`Error::Stream`] if `input` fails.
    pub fn new(input: R, expected: Digest) -> Result<Self, Error> {
        Self::open(input, Some(expected))
    }

    /// Reads a part of a manifest, as [`copy_part`] writes it. It has no digest; that it is complete and
    /// undamaged is known from its compressed form.
    ///
    /// # Errors
    /// As for [`ManifestReader::new`].
    pub fn part(input: R) -> Result<Self, Error> {
        Self::open(input, None)
    }

    fn open(input: R, expected: Option<Digest>) -> Result<Self, Error> {
        let mut decoder = zstd::Decoder::new(input).map_err(|cause| Error::Stream { cause })?.single_frame();
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|cause| Error::Stream { cause })?;
        let input = BufReader::with_capacity(PIECE, decoder);
        let mut reader =
            Self { input, hasher: blake3::Hasher::new(), expected, record: Vec::new(), last: Vec::new(), done: false };
        reader.take(FIRST_LINE.len())?;
        if reader.record != FIRST_LINE {
            return Err(Error::bad("it is not a manifest of version 1"));
        }
        reader.hasher.update(&reader.record);
        Ok(reader)
    }

    /// The next entry, or none after the last one. Only that `None` says that all entries were those
    /// of the expected digest.
    ///
    /// # Errors
    /// [`Error::BadContent`] where it is damaged or not the one expected.
    #[expect(clippy::should_implement_trait, reason = "an entry borrows from the reader, as no Iterator's item can")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        if self.done || self.at_end()? {
            return Ok(None);
        }
        let limits = Limits::default();
        self.record.clear();
        self.take(7)?;
        let kind = self.record[0];
        let mode = u32::from(u16::from_le_bytes([self.record[1], self.record[2]]));
        let length = u32::from_le_bytes([self.record[3], self.record[4], self.record[5], self.record[6]]) as usize;
        if length > limits.path {
            return Err(Error::bad("its manifest holds a path that is too long"));
        }
        self.take(length + 8)?;
        let mut size = [0; 8];
        size.copy_from_slice(&self.record[7 + length..]);
        let size = u64::from_le_bytes(size);
        let content = match kind {
            b'd' if size == 0 => 0,
            b'f' => 32,
            b'l' if size <= limits.link_target as u64 => size as usize,
            _ => return Err(Error::bad("its manifest holds an entry of unknown kind or size")),
        };
        self.take(content)?;
        self.hasher.update(&self.record);
        let path = &self.record[7..7 + length];
        if !is_plain_path(path) || canonical_order(&self.last, path) != Ordering::Less {
            return Err(Error::bad("its manifest holds a path that is not allowed, or out of order"));
        }
        self.last.clear();
        self.last.extend_from_slice(path);
        let rest = &self.record[7 + length + 8..];
        let content = match kind {
            b'd' => Content::Directory,
            b'l' => Content::Link { target: rest },
            _ => {
                let mut hash = [0; 32];
                hash.copy_from_slice(rest);
                Content::File { size, hash: Digest(hash) }
            }
        };
        Ok(Some(Entry { path, mode, content }))
    }

    /// Checks the end of the manifest once it is there.
    fn at_end(&mut self) -> Result<bool, Error> {
        if !self.input.fill_buf().map_err(unread)?.is_empty() {
            return Ok(false);
        }
        if !self.input.get_mut().get_mut().fill_buf().map_err(unread)?.is_empty() {
            return Err(Error::bad("something follows its manifest"));
        }
        if let Some(expected) = self.expected
            && Digest::from(self.hasher.finalize()) != expected
        {
            return Err(Error::bad(format!("its manifest is not the one of digest {expected}")));
        }
        self.done = true;
        Ok(true)
    }

    /// Appends the next `count` bytes to the record.
    fn take(&mut self, count: usize) -> Result<(), Error> {
        let start = self.record.len();
        self.record.resize(start + count, 0);
        self.input.read_exact(&mut self.record[start..]).map_err(unread)
    }
}

impl<R: Read> Entries for ManifestReader<R> {
    fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        Self::next(self)
    }
}

/// Writes the entries of a manifest that are at `under` or below it, with their whole paths, as a manifest
/// for [`ManifestReader::part`].
///
/// # Errors
/// Those of reading, and [`Error::Target`] if `out` fails.
pub fn copy_part<R: Read>(from: &mut ManifestReader<R>, under: &[u8], out: &mut dyn Write) -> Result<(), Error> {
    let mut part = ManifestWriter::new(Some(out))?;
    while let Some(entry) = from.next()? {
        if is_within(entry.path, under) {
            part.record(entry)?;
        } else if canonical_order(entry.path, under) == Ordering::Greater {
            // Everything below it came right behind it.
            break;
        }
    }
    part.finish().map(drop)
}

/// Damage and failures of the disk cannot be told apart here; both leave the manifest unusable.
fn unread(cause: io::Error) -> Error {
    Error::bad(format!("its manifest cannot be read: {cause}"))
}

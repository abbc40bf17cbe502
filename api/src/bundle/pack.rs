//! A folder becomes a stream.

use super::header::{self, Head};
use super::links::Links;
use super::manifest::{Content, Digest, Entry, ManifestWriter, checked_zstd, is_within};
use super::select::Selection;
use super::tree::{Look, look_at_file, path_from_bytes};
use super::walk::{Found, Walk, Walker};
use super::{Error, Form, Limits, Observer, STEP, Summary, Tally};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::Path;
use tar::EntryType;

/// Low, because gzip is what limits this form: a fifth larger than the usual level 6, three times as fast.
const GZIP_LEVEL: u32 = 3;

/// How to pack.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Replace links by what they lead to.
    pub dereference: bool,
    /// Only these entries, and the folders above them.
    pub only: Option<Selection>,
    /// The root digest that all of it must come to. In either form the stream gets its end only if it does; the
    /// content is read only once.
    pub expected: Option<Digest>,
    /// What is refused here, before a receiver refuses it.
    pub limits: Limits,
}

/// Writes the folder `source`, or one file by its name, to `out`. `source` itself may be a link.
///
/// Nothing is written after an error, so that a receiver sees an incomplete stream.
///
/// # Errors
/// [`Error::Source`] for what cannot be read, [`Error::NotData`] for sockets, FIFOs and devices,
/// [`Error::Changed`] for a file that is written to meanwhile and a folder whose entries come and go, [`Error::LinkLoop`],
/// [`Error::TooLarge`]; each names the path. [`Error::Differs`] if it is not what is expected. [`Error::Stream`] if `out` fails.
pub fn pack<W: Write>(
    source: &Path,
    form: Form,
    out: W,
    options: &PackOptions,
    observer: &mut dyn Observer,
) -> Result<Summary, Error> {
    let shut = Cell::new(false);
    let walker = start(source, options)?;
    let out = BufWriter::with_capacity(STEP, Gate { inner: out, shut: &shut });
    let shut_after = |packed: Result<Summary, Error>| packed.inspect_err(|_| shut.set(true));
    match form {
        Form::Bundle => {
            let mut out = out;
            let summary = shut_after(Packer::new(walker, options, observer, &mut out).bundle())?;
            out.flush().map_err(broke_off)?;
            Ok(summary)
        }
        Form::BundleZstd => {
            let mut out = BufWriter::with_capacity(STEP, checked_zstd(out).map_err(broke_off)?);
            let summary = shut_after(Packer::new(walker, options, observer, &mut out).bundle())?;
            let encoder = out.into_inner().map_err(|error| broke_off(error.into_error()))?;
            encoder.finish().and_then(|mut out| out.flush()).map_err(broke_off)?;
            Ok(summary)
        }
        Form::TarGz => {
            let encoder = GzEncoder::new(out, Compression::new(GZIP_LEVEL));
            let mut out = BufWriter::with_capacity(STEP, encoder);
            let summary = shut_after(Packer::new(walker, options, observer, &mut out).tar_gz())?;
            let encoder = out.into_inner().map_err(|error| broke_off(error.into_error()))?;
            encoder.finish().and_then(|mut out| out.flush()).map_err(broke_off)?;
            Ok(summary)
        }
    }
}

/// Passes everything on until it is shut: some encoders complete their stream when they are dropped,
/// which must not happen to an incomplete one.
struct Gate<'a, W> {
    inner: W,
    shut: &'a Cell<bool>,
}

impl<W: Write> Write for Gate<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shut.get() { Err(io::ErrorKind::BrokenPipe.into()) } else { self.inner.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.shut.get() { Err(io::ErrorKind::BrokenPipe.into()) } else { self.inner.flush() }
    }
}

fn start(source: &Path, options: &PackOptions) -> Result<Walker, Error> {
    let found = std::fs::metadata(source).map_err(|cause| Error::source("read", source, cause))?;
    if found.is_dir() {
        let only = options.only.clone();
        let how = Walk { dereference: options.dereference, steady: true, only, ..Walk::default() };
        Walker::new(source, true, how, &options.limits)
    } else {
        Walker::single(source, &options.limits)
    }
}

fn broke_off(cause: io::Error) -> Error {
    Error::Stream { cause }
}

struct Packer<'a, W> {
    walker: Walker,
    limits: &'a Limits,
    expected: Option<Digest>,
    observer: &'a mut dyn Observer,
    out: &'a mut W,
    tally: Tally,
    buffer: Vec<u8>,
    /// Folders above the current entry that are written only if something in them is: path and look.
    above: Vec<(Vec<u8>, Look)>,
}

/// The first of several names of a file.
struct First {
    path: Vec<u8>,
    look: Look,
    hash: Digest,
}

impl<'a, W: Write> Packer<'a, W> {
    fn new(walker: Walker, options: &'a PackOptions, observer: &'a mut dyn Observer, out: &'a mut W) -> Self {
        let buffer = vec![0; STEP];
        let PackOptions { limits, expected, .. } = options;
        let (tally, above) = (Tally::default(), Vec::new());
        Self { walker, limits, expected: *expected, observer, out, tally, buffer, above }
    }

    fn bundle(mut self) -> Result<Summary, Error> {
        let mut manifest = ManifestWriter::new(None)?;
        let mut links = Links::new();
        while let Some(found) = self.walker.next()? {
            let path = self.walker.path();
            self.above.retain(|(folder, _)| is_within(path, folder));
            if let Found::Directory(look) = &found
                && !self.walker.is_selected()
            {
                self.above.push((path.to_vec(), *look));
                continue;
            }
            for (path, look) in std::mem::take(&mut self.above) {
                self.tally.count(&path, 0, self.limits)?;
                write_folder(self.out, &path, &look)?;
                manifest.record(Entry { path: &path, mode: look.mode, content: Content::Directory })?;
            }
            self.begin(&found)?;
            let (mode, content) = match &found {
                Found::Directory(look) => {
                    write_folder(self.out, self.walker.path(), look)?;
                    (look.mode, Content::Directory)
                }
                Found::Link(target, look) => {
                    self.link(target, look)?;
                    (look.mode, Content::Link { target })
                }
                Found::File(file, look) => {
                    let hash = self.file_or_hard_link(file, look, &mut links)?;
                    (look.mode, Content::File { size: look.size, hash })
                }
                Found::Special(kind) => return Err(self.not_data(*kind)),
            };
            manifest.record(Entry { path: self.walker.path(), mode, content })?;
        }
        let digest = manifest.finish()?;
        self.check(digest)?;
        header::write_closing(self.out, digest, self.tally.entries).map_err(broke_off)?;
        header::write_end(self.out).map_err(broke_off)?;
        Ok(Summary { digest: Some(digest), entries: self.tally.entries, bytes: self.tally.bytes })
    }

    fn tar_gz(mut self) -> Result<Summary, Error> {
        // The folders are not sent, but what is expected covers them.
        let mut manifest = self.expected.map(|_| ManifestWriter::new(None)).transpose()?;
        while let Some(found) = self.walker.next()? {
            if !matches!(found, Found::Directory(_)) {
                self.begin(&found)?;
            }
            let (mode, content) = match &found {
                Found::Directory(look) => (look.mode, Content::Directory),
                Found::Link(target, look) => {
                    self.link(target, &whole_seconds(look))?;
                    (look.mode, Content::Link { target })
                }
                Found::File(file, look) => {
                    let path = self.walker.path();
                    write_head(self.out, EntryType::Regular, path, &whole_seconds(look), &[], None)?;
                    let mut hasher = blake3::Hasher::new();
                    self.content(file, look, manifest.is_some().then_some(&mut hasher))?;
                    (look.mode, Content::File { size: look.size, hash: hasher.finalize().into() })
                }
                Found::Special(kind) => return Err(self.not_data(*kind)),
            };
            if let Some(manifest) = &mut manifest {
                manifest.record(Entry { path: self.walker.path(), mode, content })?;
            }
        }
        if let Some(manifest) = manifest {
            self.check(manifest.finish()?)?;
        }
        header::write_end(self.out).map_err(broke_off)?;
        Ok(Summary { digest: None, entries: self.tally.entries, bytes: self.tally.bytes })
    }

    /// Refuses what does not come to what is expected.
    fn check(&self, found: Digest) -> Result<(), Error> {
        match self.expected {
            Some(expected) if expected != found => Err(Error::Differs { expected, found }),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, found: &Found) -> Result<(), Error> {
        let path = self.walker.path();
        let size = if let Found::File(_, look) = found { look.size } else { 0 };
        self.tally.count(path, size, self.limits)?;
        self.observer.entry(&path_from_bytes(path));
        Ok(())
    }

    fn link(&mut self, target: &[u8], look: &Look) -> Result<(), Error> {
        let path = self.walker.path();
        if target.len() > self.limits.link_target {
            return Err(Error::too_large(path, "bytes in the target of a link", self.limits.link_target as u64));
        }
        write_head(self.out, EntryType::Symlink, path, &Look { size: 0, mode: 0o777, ..*look }, target, None)
    }

    /// Writes the file, or only a hard link if another name of it was written before.
    fn file_or_hard_link(
        &mut self,
        file: &File,
        look: &Look,
        links: &mut Links<(u64, u64), First>,
    ) -> Result<Digest, Error> {
        let path = self.walker.path();
        let several = look.links > 1;
        if several && let Some(first) = links.get(&look.id) {
            // Else one file would have two contents or modes.
            if (first.look.size, first.look.mtime, first.look.mode) != (look.size, look.mtime, look.mode) {
                return Err(Error::Changed { path: self.walker.full_path() });
            }
            let hash = first.hash;
            write_head(self.out, EntryType::Link, path, &Look { size: 0, ..*look }, &first.path, None)?;
            links.used(&look.id);
            self.observer.bytes(look.size);
            return Ok(hash);
        }
        let remembered = several && links.has_room(path.len());
        write_head(self.out, EntryType::Regular, path, look, &[], remembered.then_some(look.links))?;
        let mut hasher = blake3::Hasher::new();
        self.content(file, look, Some(&mut hasher))?;
        let hash = Digest::from(hasher.finalize());
        if remembered {
            let path = self.walker.path().to_vec();
            links.remember(look.id, path.len(), look.links, First { path, look: *look, hash });
        }
        Ok(hash)
    }

    /// Copies the content and its padding.
    fn content(&mut self, file: &File, look: &Look, mut hasher: Option<&mut blake3::Hasher>) -> Result<(), Error> {
        let Self { walker, out, buffer, observer, .. } = self;
        read_content(file, look, walker, buffer, |piece| {
            if let Some(hasher) = &mut hasher {
                hasher.update(piece);
            }
            out.write_all(piece).map_err(broke_off)?;
            observer.bytes(piece.len() as u64);
            Ok(())
        })?;
        header::write_padding(self.out, look.size).map_err(broke_off)
    }

    fn not_data(&self, kind: super::Special) -> Error {
        Error::NotData { path: self.walker.full_path(), kind }
    }
}

fn write_folder(out: &mut impl Write, path: &[u8], look: &Look) -> Result<(), Error> {
    let path = [path, b"/"].concat();
    write_head(out, EntryType::Directory, &path, &Look { size: 0, ..*look }, &[], None)
}

fn write_head(
    out: &mut impl Write,
    kind: EntryType,
    path: &[u8],
    look: &Look,
    target: &[u8],
    links: Option<u64>,
) -> Result<(), Error> {
    let head = Head { kind, path, target, mode: look.mode & 0o777, size: look.size, mtime: look.mtime, links };
    header::write_head(out, &head).map_err(broke_off)
}

fn whole_seconds(look: &Look) -> Look {
    let mut look = *look;
    look.mtime.nanos = 0;
    look.mtime.seconds = look.mtime.seconds.max(0);
    look
}

/// Reads exactly the content that `look` told, and makes sure that nobody wrote to it meanwhile.
pub(super) fn read_content(
    mut file: &File,
    look: &Look,
    walker: &Walker,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let changed = || Error::Changed { path: walker.full_path() };
    let unreadable = |cause| Error::source("read", &walker.full_path(), cause);
    let mut left = look.size;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match file.read(&mut buffer[..most]) {
            Ok(0) => return Err(changed()),
            Ok(count) => count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(unreadable(cause)),
        };
        take(&buffer[..count])?;
        left -= count as u64;
    }
    let after = look_at_file(file).map_err(unreadable)?;
    if (after.size, after.mtime) == (look.size, look.mtime) { Ok(()) } else { Err(changed()) }
}

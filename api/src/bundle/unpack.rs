//! A stream becomes a folder.

use super::header;
use super::input::Input;
use super::legacy;
use super::links::{self, Links};
use super::manifest::{Content, Digest, Entry, ManifestWriter};
use super::tree::{Folder, Kind, Mtime, finish_file, path_from_bytes};
use super::{Error, Form, Limits, Observer, Summary, Tally};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Fills the existing, empty folder `into` (`lost+found` may be in it) from a stream, and refuses it if anything is wrong with it.
/// The stream is read to its very end. After an error `into` holds what came before it: remove it.
///
/// The manifest is written to `manifest`, compressed. [`Form::TarGz`] has none: see [`super::seal()`].
/// Nothing is synced to disk.
///
/// # Errors
/// [`Error::BadContent`] and [`Error::TooLarge`] are the sender's fault, [`Error::Stream`] is that of
/// `input`; [`Error::NoSpace`] and [`Error::Target`] are of this machine.
pub fn unpack<R: Read>(
    input: R,
    form: Form,
    into: &Path,
    limits: &Limits,
    manifest: Option<&mut dyn Write>,
    observer: &mut dyn Observer,
) -> Result<Summary, Error> {
    let root = open_empty(into)?;
    let input = Input::new(input, form)?;
    match form {
        Form::Bundle | Form::BundleZstd => {
            let manifest = ManifestWriter::new(manifest)?;
            Unpacker::new(input, Some(root), into, limits, manifest, observer).run()
        }
        Form::TarGz => legacy::unpack(input, root, into, limits, observer),
    }
}

/// Reads a bundle to its very end and refuses it for every reason for which [`unpack`] would refuse it, but makes
/// nothing of it. Only our own forms can be told complete and whole this way.
///
/// # Errors
/// As for [`unpack`], but none of this machine's disk.
pub fn verify<R: Read>(input: R, form: Form, limits: &Limits) -> Result<Summary, Error> {
    if form == Form::TarGz {
        return Err(Error::bad("it has no root digest to compare with"));
    }
    let (input, manifest) = (Input::new(input, form)?, ManifestWriter::new(None)?);
    Unpacker::new(input, None, Path::new(""), limits, manifest, &mut ()).run()
}

fn open_empty(into: &Path) -> Result<Folder, Error> {
    let unusable = |cause| Error::target("open", into, cause);
    let root = Folder::open(into, false).map_err(unusable)?;
    // What belongs to the file system stands in the root of each, and is no content.
    let names = root.names(1).map_err(unusable)?;
    if names.is_some_and(|names| names.get(0).is_none_or(|(name, _)| name == b"lost+found")) {
        Ok(root)
    } else {
        Err(unusable(io::ErrorKind::DirectoryNotEmpty.into()))
    }
}

/// What a folder's owner needs to open it and what is in it.
const PASSABLE: u32 = 0o500;

/// Receives a bundle. The open folders from the root down to the current one stand in `levels`; an
/// entry belongs into one of them or is refused.
struct Unpacker<'a, 'm, R: Read> {
    input: Input<R>,
    into: &'a Path,
    limits: &'a Limits,
    observer: &'a mut dyn Observer,
    manifest: ManifestWriter<'m>,
    tally: Tally,
    levels: Vec<Level>,
    /// Path of the innermost open folder.
    current: Vec<u8>,
    links: Links<Vec<u8>, First>,
}

struct Level {
    /// None where the stream is only verified.
    folder: Option<Folder>,
    path_length: usize,
    /// Of the entry that came last in it: the next one's must be larger.
    last_name: Vec<u8>,
    mode: u32,
    mtime: Mtime,
}

/// A file that hard links may follow to.
#[derive(Clone, Copy)]
struct First {
    mode: u32,
    size: u64,
    hash: Digest,
}

/// What extending headers said of the entry after them.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    extras: Option<header::Extras>,
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.target.is_none() && self.extras.is_none()
    }
}

/// One entry as it is told, path checked.
struct Told<'h> {
    header: &'h Header,
    path: Vec<u8>,
    /// Where the name begins in the path.
    name: usize,
    target: Vec<u8>,
    mode: u32,
    size: u64,
    mtime: Mtime,
    links: Option<u64>,
}

impl<'h> Told<'h> {
    /// What the header and those before it say, with all that can be checked without the folder.
    fn new(header: &'h Header, ahead: Ahead) -> Result<Self, Error> {
        let extras = ahead.extras.unwrap_or_default();
        let mut path = ahead.path.unwrap_or_else(|| header.path_bytes().into_owned());
        if header.entry_type() == EntryType::Directory && path.pop() != Some(b'/') {
            return Err(Error::bad_entry(&path, "a folder's path must end with a slash"));
        }
        let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let target = ahead
            .target
            .unwrap_or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default());
        let mode = header.mode().map_err(|_| Error::bad_entry(&path, "its mode is unreadable"))?;
        let told = Self {
            header,
            name,
            target,
            mode: mode & 0o777,
            size: header::size(header)?,
            mtime: extras.mtime.unwrap_or_else(|| header::mtime(header)),
            links: extras.links,
            path,
        };
        if matches!(told.name(), b"" | b"." | b"..") || told.path.contains(&0) || name == 1 {
            return Err(Error::bad_entry(&told.path, "such a path is not allowed"));
        }
        let is_file = header.entry_type() == EntryType::Regular;
        if !is_file && (told.size != 0 || told.links.is_some()) {
            return Err(Error::bad_entry(&told.path, "only a file can have content"));
        }
        Ok(told)
    }

    fn name(&self) -> &[u8] {
        &self.path[self.name..]
    }

    fn parent(&self) -> &[u8] {
        &self.path[..self.name.saturating_sub(1)]
    }
}

impl<'a, 'm, R: Read> Unpacker<'a, 'm, R> {
    fn new(
        input: Input<R>,
        root: Option<Folder>,
        into: &'a Path,
        limits: &'a Limits,
        manifest: ManifestWriter<'m>,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let root = Level { folder: root, path_length: 0, last_name: Vec::new(), mode: 0, mtime: Mtime::default() };
        Self {
            input,
            into,
            limits,
            observer,
            manifest,
            tally: Tally::default(),
            levels: vec![root],
            current: Vec::new(),
            links: Links::new(),
        }
    }

    fn run(mut self) -> Result<Summary, Error> {
        let mut ahead = Ahead::default();
        let (digest, entries) = loop {
            let Some(block) = self.input.block()? else { return Err(incomplete()) };
            if block == [0; header::BLOCK] {
                return Err(incomplete());
            }
            let header = header::checked(&block)?;
            match header.entry_type() {
                EntryType::XGlobalHeader if ahead.is_empty() => {
                    let content = self.extension(header, header::PAX_LIMIT)?;
                    break header::parse_closing(&content)?;
                }
                EntryType::XHeader if ahead.extras.is_none() => {
                    let content = self.extension(header, header::PAX_LIMIT)?;
                    ahead.extras = Some(header::parse_extras(&content)?);
                }
                EntryType::GNULongName if ahead.path.is_none() => {
                    ahead.path = Some(self.long_text(header, self.limits.path, "bytes in a path")?);
                }
                EntryType::GNULongLink if ahead.target.is_none() => {
                    let limit = self.limits.link_target.max(self.limits.path);
                    ahead.target = Some(self.long_text(header, limit, "bytes in the target of a link")?);
                }
                _ => {
                    let told = Told::new(header, std::mem::take(&mut ahead))?;
                    self.entry(&told)?;
                }
            }
        };
        self.close(digest, entries)
    }

    /// Checks the end of the stream against what came.
    fn close(mut self, digest: Digest, entries: u64) -> Result<Summary, Error> {
        for _ in 0..2 {
            if self.input.block()? != Some([0; header::BLOCK]) {
                return Err(incomplete());
            }
        }
        self.input.only_zeros_left()?;
        self.leave(0)?;
        let computed = self.manifest.finish()?;
        if entries != self.tally.entries || digest != computed {
            return Err(Error::bad(format!("its root digest is {computed}, but the sender's was {digest}")));
        }
        Ok(Summary { digest: Some(digest), entries, bytes: self.tally.bytes })
    }

    /// Content of an extending header.
    fn extension(&mut self, header: &Header, limit: u64) -> Result<Vec<u8>, Error> {
        let size = header::size(header)?;
        if size > limit {
            return Err(Error::bad("a record in it is too large"));
        }
        let content = self.input.bytes(size)?;
        self.input.zeros(header::padding(size))?;
        Ok(content)
    }

    /// A name that is too long for a header; a zero byte ends it.
    fn long_text(&mut self, header: &Header, limit: usize, what: &'static str) -> Result<Vec<u8>, Error> {
        // One byte for a folder's slash and one for the end.
        if header::size(header)? > limit as u64 + 2 {
            return Err(Error::too_large(b"a name", what, limit as u64));
        }
        let mut text = self.extension(header, limit as u64 + 2)?;
        if text.pop() != Some(0) {
            return Err(Error::bad("a long name in it has no end"));
        }
        Ok(text)
    }

    fn entry(&mut self, told: &Told<'_>) -> Result<(), Error> {
        self.find_place(told)?;
        self.observer.entry(&path_from_bytes(&told.path));
        let content = match told.header.entry_type() {
            EntryType::Directory => self.directory(told)?,
            EntryType::Regular => self.file(told)?,
            EntryType::Symlink => self.symlink(told)?,
            EntryType::Link => self.hard_link(told)?,
            _ => {
                return Err(Error::bad_entry(&told.path, "only files, folders and links are allowed"));
            }
        };
        self.manifest.record(Entry { path: &told.path, mode: told.mode, content })
    }

    /// Goes to the folder that the entry belongs into, leaving those that are complete, and makes sure
    /// that it comes after all others there.
    fn find_place(&mut self, told: &Told<'_>) -> Result<(), Error> {
        let parent = told.parent();
        let depth = self.levels.iter().position(|level| level.path_length == parent.len());
        let Some(depth) = depth.filter(|_| self.current.starts_with(parent)) else {
            return Err(Error::bad_entry(&told.path, "its folder did not come before it, or is already complete"));
        };
        self.limits.check_path(&told.path, depth + 1)?;
        self.leave(depth)?;
        let level = self.here();
        if told.name() <= level.last_name.as_slice() {
            return Err(Error::bad_entry(&told.path, "it is out of order"));
        }
        level.last_name.clear();
        level.last_name.extend_from_slice(told.name());
        Ok(())
    }

    /// Completes the open folders below that depth.
    fn leave(&mut self, depth: usize) -> Result<(), Error> {
        while self.levels.len() > depth + 1 {
            let Some(level) = self.levels.pop() else { break };
            if let Some(folder) = level.folder {
                folder
                    .finish(level.mode, level.mtime)
                    .map_err(|cause| Error::target("set mode and time of", &self.full(&self.current), cause))?;
            }
            let length = self.here().path_length;
            self.current.truncate(length);
        }
        Ok(())
    }

    fn directory(&mut self, told: &Told<'_>) -> Result<Content<'static>, Error> {
        if told.path == b"lost+found" {
            return Err(Error::bad_entry(&told.path, "a folder of this name belongs to the file system"));
        }
        self.tally.count(&told.path, 0, self.limits)?;
        let made = self.here().folder.as_ref().map(|above| above.make_folder(told.name())).transpose();
        let folder = made.map_err(|cause| self.uncreated(told, cause))?;
        self.current.clear();
        self.current.extend_from_slice(&told.path);
        self.levels.push(Level {
            folder,
            path_length: told.path.len(),
            last_name: Vec::new(),
            mode: told.mode,
            mtime: told.mtime,
        });
        Ok(Content::Directory)
    }

    fn file(&mut self, told: &Told<'_>) -> Result<Content<'static>, Error> {
        self.tally.count(&told.path, told.size, self.limits)?;
        let made = self.here().folder.as_ref().map(|above| above.make_file(told.name())).transpose();
        let file = made.map_err(|cause| self.uncreated(told, cause))?;
        let full = || self.into.join(path_from_bytes(&told.path));
        let mut hasher = blake3::Hasher::new();
        let observer = &mut *self.observer;
        let seen = |piece: &[u8]| {
            hasher.update(piece);
            observer.bytes(piece.len() as u64);
        };
        match &file {
            Some(file) => write_content(&mut self.input, file, told.size, full, seen)?,
            None => write_content(&mut self.input, io::sink(), told.size, full, seen)?,
        }
        self.input.zeros(header::padding(told.size))?;
        if let Some(file) = &file {
            finish_file(file, told.mode, Some(told.mtime))
                .map_err(|cause| Error::target("set mode and time of", &full(), cause))?;
        }
        let hash = Digest::from(hasher.finalize());
        if let Some(links) = told.links {
            if !self.links.has_room(told.path.len()) {
                return Err(Error::too_large(&told.path, "bytes for names of hard links", links::MEMORY as u64));
            }
            let first = First { mode: told.mode, size: told.size, hash };
            self.links.remember(told.path.clone(), told.path.len(), links, first);
        }
        Ok(Content::File { size: told.size, hash })
    }

    fn symlink<'t>(&mut self, told: &'t Told<'_>) -> Result<Content<'t>, Error> {
        self.tally.count(&told.path, 0, self.limits)?;
        check_target(&told.path, &told.target, self.limits)?;
        let above = self.here().folder.as_ref();
        let made = above.map_or(Ok(()), |above| above.make_link(told.name(), &told.target, told.mtime));
        made.map_err(|cause| self.uncreated(told, cause))?;
        Ok(Content::Link { target: &told.target })
    }

    /// Only a file of this stream that was announced as having several names can be linked to.
    fn hard_link(&mut self, told: &Told<'_>) -> Result<Content<'static>, Error> {
        let Some(first) = self.links.get(&told.target).copied() else {
            return Err(Error::bad_entry(&told.path, "it is a hard link to something else than a file before it"));
        };
        if first.mode != told.mode {
            return Err(Error::bad_entry(&told.path, "its mode differs from that of the file it is a link to"));
        }
        self.tally.count(&told.path, first.size, self.limits)?;
        let made = self.link_to(told);
        made.map_err(|cause| self.uncreated(told, cause))?;
        self.links.used(&told.target);
        self.observer.bytes(first.size);
        Ok(Content::File { size: first.size, hash: first.hash })
    }

    /// Makes the link. The target's folders were all made here, and no name among them is a symlink;
    /// walking them one by one makes that hold even if somebody interferes. Those that are complete may
    /// be closed by now even to their owner: they are opened while the link is made.
    fn link_to(&mut self, told: &Told<'_>) -> io::Result<()> {
        let here = self.levels.last().unwrap_or(&self.levels[0]);
        let (Some(root), Some(here)) = (&self.levels[0].folder, &here.folder) else { return Ok(()) };
        let mut names: Vec<&[u8]> = told.target.split(|byte| *byte == b'/').collect();
        let name = names.pop().unwrap_or_default();
        let mut walked: Vec<(Folder, u32)> = Vec::new();
        for step in names {
            let parent = walked.last().map_or(root, |(folder, _)| folder);
            let look = parent.look_at(step, false)?;
            if look.kind != Kind::Directory {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if look.mode & PASSABLE != PASSABLE {
                parent.set_mode_of(step, look.mode | PASSABLE)?;
            }
            let folder = parent.open_folder(step, false)?;
            walked.push((folder, look.mode));
        }
        let old = walked.last().map_or(root, |(folder, _)| folder);
        here.make_hard_link(told.name(), old, name)?;
        walked
            .iter()
            .filter(|(_, mode)| mode & PASSABLE != PASSABLE)
            .try_for_each(|(folder, mode)| folder.set_mode(*mode))
    }

    fn here(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the root stays open to the end")
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.into.join(path_from_bytes(path))
    }

    fn uncreated(&self, told: &Told<'_>, cause: io::Error) -> Error {
        Error::target("create", &self.full(&told.path), cause)
    }
}

fn incomplete() -> Error {
    Error::bad("it ends early: the closing record is missing")
}

/// A target may lead anywhere, it is never followed; but it must be one that a system can hold.
pub(super) fn check_target(path: &[u8], target: &[u8], limits: &Limits) -> Result<(), Error> {
    if target.is_empty() || target.contains(&0) {
        return Err(Error::bad_entry(path, "it is a link to nowhere"));
    }
    if target.len() > limits.link_target {
        return Err(Error::too_large(path, "bytes in the target of a link", limits.link_target as u64));
    }
    Ok(())
}

/// Moves content from the stream into a file, straight from the stream's buffer.
pub(super) fn write_content<R: Read>(
    input: &mut Input<R>,
    mut to: impl Write,
    mut left: u64,
    full_path: impl Fn() -> PathBuf,
    mut seen: impl FnMut(&[u8]),
) -> Result<(), Error> {
    while left > 0 {
        let piece = input.piece(left)?;
        to.write_all(piece).map_err(|cause| Error::target("write", &full_path(), cause))?;
        seen(piece);
        let count = piece.len();
        input.consume(count);
        left -= count as u64;
    }
    Ok(())
}

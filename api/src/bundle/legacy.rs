//! Receives the tar.gz of v1.6.1, or of any tar program: regular files and symlinks count, folders are
//! implied, all else is passed over as v1.6.1 does; but nothing ever leaves the root.

use super::header::{self, Foreign};
use super::input::Input;
use super::tree::{Folder, Kind, Mtime, finish_file, path_from_bytes};
use super::unpack::{check_target, write_content};
use super::{Error, Limits, Observer, Summary, Tally};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Mode of a folder that is only implied by the paths in it.
const FOLDER_MODE: u32 = 0o755;

pub(super) fn unpack<R: Read>(
    input: Input<R>,
    root: Folder,
    into: &Path,
    limits: &Limits,
    observer: &mut dyn Observer,
) -> Result<Summary, Error> {
    let open = vec![(Vec::new(), root)];
    Unpacker { entries: Told::new(input, limits), into, limits, observer, tally: Tally::default(), open }.run()
}

struct Unpacker<'a, R: Read> {
    entries: Told<R>,
    into: &'a Path,
    limits: &'a Limits,
    observer: &'a mut dyn Observer,
    tally: Tally,
    /// The folders from the root, which has no name, down to where the last entry went.
    open: Vec<(Vec<u8>, Folder)>,
}

/// The entries of an archive that count, as it tells them.
pub(super) struct Told<R: Read> {
    pub(super) input: Input<R>,
    limits: Limits,
}

/// One of them.
pub(super) struct One {
    /// Relative to the root, plain names with single slashes between them.
    pub(super) path: Vec<u8>,
    pub(super) kind: Counts,
    mtime: Mtime,
}

/// The kinds that count.
pub(super) enum Counts {
    /// A file; its content follows and must be taken, then its padding.
    File { size: u64, mode: u32 },
    /// A symlink, and where it leads.
    Link(Vec<u8>),
}

/// What extending headers said of the entry after them.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    pax: Foreign,
}

impl<R: Read> Told<R> {
    pub(super) fn new(input: Input<R>, limits: &Limits) -> Self {
        Self { input, limits: limits.clone() }
    }

    /// The next entry that counts; none at the end of the archive, which is then read to its very end.
    pub(super) fn next(&mut self) -> Result<Option<One>, Error> {
        let mut ahead = Ahead::default();
        loop {
            let Some(block) = self.input.block()? else {
                return Err(Error::bad("it ends early: the archive's end is missing"));
            };
            if block == [0; header::BLOCK] {
                self.input.only_zeros_left()?;
                return Ok(None);
            }
            let header = header::checked(&block)?;
            match header.entry_type() {
                EntryType::XHeader => ahead.pax = header::parse_foreign(&self.extension(header)?)?,
                EntryType::GNULongName => ahead.path = Some(terminated(self.extension(header)?)),
                EntryType::GNULongLink => ahead.target = Some(terminated(self.extension(header)?)),
                EntryType::XGlobalHeader => drop(self.extension(header)?),
                _ => {
                    if let Some(one) = self.entry(header, std::mem::take(&mut ahead))? {
                        return Ok(Some(one));
                    }
                }
            }
        }
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let size = header::size(header)?;
        if size > header::PAX_LIMIT {
            return Err(Error::bad("a record in it is too large"));
        }
        let content = self.input.bytes(size)?;
        self.input.skip(header::padding(size) as u64)?;
        Ok(content)
    }

    /// The entry, unless it is of a kind that is passed over.
    fn entry(&mut self, header: &Header, ahead: Ahead) -> Result<Option<One>, Error> {
        let kind = header.entry_type();
        let path = ahead.pax.path.or(ahead.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let size = match ahead.pax.size {
            Some(size) if i64::try_from(size).is_ok() => size,
            Some(_) => return Err(Error::bad("a size in it is unreadable")),
            None => header::size(header)?,
        };
        let is_link = kind == EntryType::Symlink;
        // Old programs mark a folder only by its slash.
        let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous) && !path.ends_with(b"/");
        if kind == EntryType::GNUSparse {
            return Err(header::sparse());
        }
        if !is_link && !is_file {
            return self.pass_over(if has_content(kind) { size } else { 0 });
        }
        let parts = parts(&path)?;
        if parts.is_empty() {
            if path.is_empty() {
                return self.pass_over(if is_link { 0 } else { size });
            }
            return Err(Error::bad_entry(&path, "an entry must have a name below the root"));
        }
        let path = parts.join(&b'/');
        self.limits.check_path(&path, parts.len())?;
        let mtime = ahead.pax.mtime.unwrap_or_else(|| header::mtime(header));
        let kind = if is_link {
            let target = ahead.pax.target.or(ahead.target);
            let target = target
                .unwrap_or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default());
            check_target(&path, &target, &self.limits)?;
            Counts::Link(target)
        } else {
            let mode = header.mode().map_err(|_| Error::bad_entry(&path, "its mode is unreadable"))? & 0o777;
            Counts::File { size, mode }
        };
        Ok(Some(One { path, kind, mtime }))
    }

    fn pass_over(&mut self, size: u64) -> Result<Option<One>, Error> {
        self.input.skip(size)?;
        self.input.skip(header::padding(size) as u64)?;
        Ok(None)
    }
}

impl<R: Read> Unpacker<'_, R> {
    fn run(mut self) -> Result<Summary, Error> {
        while let Some(One { path, kind, mtime }) = self.entries.next()? {
            self.observer.entry(&path_from_bytes(&path));
            let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            let Some((name, parents)) = parts.split_last() else { continue };
            self.enter(parents, &path)?;
            match kind {
                Counts::Link(target) => self.symlink(&path, name, &target, mtime)?,
                Counts::File { size, mode } => self.file(&path, name, size, mode, mtime)?,
            }
        }
        Ok(Summary { digest: None, entries: self.tally.entries, bytes: self.tally.bytes })
    }

    /// Goes to the folder with these names below the root, making what is missing.
    fn enter(&mut self, parents: &[&[u8]], path: &[u8]) -> Result<(), Error> {
        let common = self.open[1..].iter().zip(parents).take_while(|((name, _), parent)| name == *parent).count();
        self.open.truncate(1 + common);
        for parent in &parents[common..] {
            let here = self.here();
            let folder = match here.make_folder(parent) {
                Ok(folder) => folder.set_mode(FOLDER_MODE).map(|()| folder),
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    // Opening does not follow a link, and a file is no folder.
                    let found = here.look_at(parent, false).map(|look| look.kind);
                    if !matches!(found, Ok(Kind::Directory)) {
                        return Err(Error::bad_entry(path, "what should be its folder is something else"));
                    }
                    here.open_folder(parent, false)
                }
                Err(cause) => Err(cause),
            };
            let folder = folder.map_err(|cause| self.uncreated(path, cause))?;
            self.open.push((parent.to_vec(), folder));
        }
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], name: &[u8], target: &[u8], mtime: Mtime) -> Result<(), Error> {
        self.tally.count(path, 0, self.limits)?;
        match self.here().make_link(name, target, mtime) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::bad_entry(path, "it is a link where something else already is"))
            }
            made => made.map_err(|cause| self.uncreated(path, cause)),
        }
    }

    fn file(&mut self, path: &[u8], name: &[u8], size: u64, mode: u32, mtime: Mtime) -> Result<(), Error> {
        self.tally.count(path, size, self.limits)?;
        let (made, mode) = match self.here().make_file(name) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => self.replace(path, name, mode)?,
            made => (made, mode),
        };
        let file = made.map_err(|cause| self.uncreated(path, cause))?;
        let full = || full(self.into, path);
        let observer = &mut *self.observer;
        write_content(&mut self.entries.input, &file, size, full, |piece| observer.bytes(piece.len() as u64))?;
        self.entries.input.skip(header::padding(size) as u64)?;
        finish_file(&file, mode, Some(mtime)).map_err(|cause| Error::target("set mode and time of", &full(), cause))
    }

    /// Makes a file anew where one came before: the later content counts, with the first one's mode.
    fn replace(&self, path: &[u8], name: &[u8], mode: u32) -> Result<(io::Result<std::fs::File>, u32), Error> {
        let here = self.here();
        let look = here.look_at(name, false).map_err(|cause| self.uncreated(path, cause))?;
        let mode = match look.kind {
            Kind::File => look.mode & 0o777,
            Kind::Link => mode,
            _ => return Err(Error::bad_entry(path, "it is a file where a folder already is")),
        };
        here.remove(name).map_err(|cause| self.uncreated(path, cause))?;
        Ok((here.make_file(name), mode))
    }

    fn here(&self) -> &Folder {
        &self.open.last().expect("the root stays open to the end").1
    }

    fn uncreated(&self, path: &[u8], cause: io::Error) -> Error {
        Error::target("create", &full(self.into, path), cause)
    }
}

fn full(into: &Path, path: &[u8]) -> PathBuf {
    into.join(path_from_bytes(path))
}

/// Whether entries of a kind that is passed over are followed by content.
fn has_content(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Fifo
            | EntryType::Directory
    )
}

/// The names of a path; `.` and doubled slashes mean nothing.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, Error> {
    if path.starts_with(b"/") || path.contains(&0) {
        return Err(Error::bad_entry(path, "such a path is not allowed"));
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(Error::bad_entry(path, "such a path is not allowed"));
    }
    Ok(parts)
}

/// A long name without the zero byte that ends it.
fn terminated(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

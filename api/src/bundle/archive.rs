//! Looking into the tar.gz of v1.6.1 while it passes by, without writing any of it down.

use super::header;
use super::input::Input;
use super::legacy::{Counts, One, Told};
use super::manifest::{Content, Entries, Entry, Kept, canonical_order, is_within};
use super::unpack::write_content;
use super::{Error, Form, Limits};
use std::cmp::Ordering;
use std::io::{self, Read, Write};
use std::path::Path;

/// Mode of a folder that is only implied by the paths in it.
const FOLDER_MODE: u32 = 0o755;

/// Lists an archive as a manifest would: the folders that its paths imply stand before what is in them.
/// An archive whose entries are not in canonical order is refused; those of v1.6.1 are.
pub struct ArchiveReader<R: Read> {
    entries: Told<R>,
    /// An entry that waits until the folders above it were shown, and how much of its path was.
    waiting: Option<(Kept, usize)>,
    /// Path of the entry shown last.
    last: Vec<u8>,
    shown: Kept,
    done: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`Error::Stream`] if `input` fails.
    pub fn new(input: R) -> Result<Self, Error> {
        let entries = Told::new(Input::new(input, Form::TarGz)?, &Limits::default());
        let shown = folder(b"");
        Ok(Self { entries, waiting: None, last: Vec::new(), shown, done: false })
    }

    /// Reads the next entry with its content.
    fn read(&mut self) -> Result<Option<Kept>, Error> {
        let Some(One { path, kind, .. }) = self.entries.next()? else { return Ok(None) };
        let (mode, content) = match &kind {
            Counts::Link(target) => (0o777, Content::Link { target }),
            &Counts::File { size, mode } => {
                let mut hasher = blake3::Hasher::new();
                let input = &mut self.entries.input;
                write_content(
                    input,
                    io::sink(),
                    size,
                    || "an archive".into(),
                    |piece| {
                        hasher.update(piece);
                    },
                )?;
                input.skip(header::padding(size) as u64)?;
                (mode, Content::File { size, hash: hasher.finalize().into() })
            }
        };
        Ok(Some(Kept::of(&Entry { path: &path, mode, content })))
    }
}

impl<R: Read> Entries for ArchiveReader<R> {
    fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        if self.waiting.is_none() && !self.done {
            match self.read()? {
                None => self.done = true,
                Some(listed) => {
                    if canonical_order(&self.last, &listed.path) != Ordering::Less {
                        return Err(Error::bad_entry(&listed.path, "it is out of order"));
                    }
                    // Folders above the last entry that are above this one too were shown.
                    let same = self.last.iter().zip(&listed.path).take_while(|(a, b)| a == b).count();
                    let known = listed.path[..same].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
                    self.waiting = Some((listed, known));
                }
            }
        }
        let Some((listed, known)) = self.waiting.take() else { return Ok(None) };
        let slash = listed.path[known..].iter().position(|byte| *byte == b'/').map(|at| known + at);
        self.shown = match slash {
            Some(end) => {
                let above = folder(&listed.path[..end]);
                if above.path == self.last {
                    return Err(Error::bad_entry(&listed.path, "what should be its folder is something else"));
                }
                self.waiting = Some((listed, end + 1));
                above
            }
            None => listed,
        };
        if self.waiting.is_none() {
            self.last.clear();
            self.last.extend_from_slice(&self.shown.path);
        }
        Ok(Some(self.shown.entry()))
    }
}

/// A folder that is only implied.
fn folder(path: &[u8]) -> Kept {
    Kept::of(&Entry { path, mode: FOLDER_MODE, content: Content::Directory })
}

/// What stands at a path of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InArchive {
    /// A file; its content was written out.
    File,
    /// A folder.
    Directory,
    /// A link, and where it leads.
    Link(Vec<u8>),
    /// Nothing.
    Nothing,
}

/// Writes the content of one file of an archive to `out`, and reads the archive to its end. Of several entries
/// at the path the first counts.
///
/// # Errors
/// [`Error::BadContent`] for a damaged archive, [`Error::Stream`] if `input` fails, [`Error::Target`] if `out` does.
pub fn copy_from_archive<R: Read>(input: R, path: &[u8], out: &mut dyn Write) -> Result<InArchive, Error> {
    let mut entries = Told::new(Input::new(input, Form::TarGz)?, &Limits::default());
    let mut found = InArchive::Nothing;
    while let Some(one) = entries.next()? {
        let is_it = one.path == path && found == InArchive::Nothing;
        match one.kind {
            Counts::File { size, .. } => {
                if is_it {
                    write_content(&mut entries.input, &mut *out, size, || Path::new("the output").into(), |_| {})?;
                    found = InArchive::File;
                } else {
                    entries.input.skip(size)?;
                }
                entries.input.skip(header::padding(size) as u64)?;
            }
            Counts::Link(target) if is_it => found = InArchive::Link(target),
            Counts::Link(_) => {}
        }
        if found == InArchive::Nothing && is_within(&one.path, path) {
            found = InArchive::Directory;
        }
    }
    Ok(found)
}

//! A folder on disk against the manifest of what it should be.

use super::links::Links;
use super::manifest::{Content, Digest, Entries, Kept, canonical_order};
use super::pack::read_content;
use super::tree::Look;
use super::walk::{Found, Walk, Walker};
use super::{Error, Limits, STEP, Tally};
use crate::content::Difference;
use std::cmp::Ordering;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

/// What a comparison has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared<'a> {
    /// So many further bytes were read.
    Bytes(u64),
    /// One more entry was compared.
    Entry,
    /// Something is not as it should be.
    Differs {
        /// Relative to the root.
        path: &'a [u8],
        /// How it differs.
        how: Difference,
    },
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries on disk.
    pub entries: u64,
    /// Bytes in its regular files; a hard link counts like a file of its own.
    pub bytes: u64,
    /// Differences found.
    pub differences: u64,
}

/// Reads all of the folder and compares it with what it should be. Each entry differs in one way at most: the
/// gravest. `watch` is shown how it goes and may end it.
///
/// # Errors
/// Those of `expected`, and [`Error::Source`] where the folder itself cannot be opened. What cannot be read in
/// it is a difference.
pub fn compare(
    folder: &Path,
    expected: &mut dyn Entries,
    limits: &Limits,
    watch: &mut dyn FnMut(Compared<'_>) -> ControlFlow<()>,
) -> Result<Totals, Error> {
    let mut comparison = Comparison {
        // The folder itself may be a link, as a person gives it; below it none is followed.
        walker: Walker::new(folder, true, Walk::default(), limits)?,
        buffer: vec![0; STEP],
        links: Links::new(),
        tally: Tally::default(),
        differences: 0,
        watch,
    };
    let mut next = take(expected)?;
    let mut found = comparison.next()?;
    loop {
        let order = match (&next, &found) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(next), Some(_)) => canonical_order(&next.path, comparison.walker.path()),
        };
        let flow = match (order, &next, &found) {
            (Ordering::Less, Some(entry), _) => comparison.differs(&entry.path, Difference::Missing),
            (Ordering::Greater, _, Some(seen)) => {
                let path = comparison.walker.path().to_vec();
                comparison.count(&path, seen, limits)?;
                comparison.differs(&path, Difference::Extra)
            }
            (_, Some(entry), Some(seen)) => comparison.one(entry, seen, limits)?,
            _ => ControlFlow::Break(()),
        };
        if flow.is_break() {
            break;
        }
        if order != Ordering::Greater {
            next = take(expected)?;
        }
        if order != Ordering::Less {
            found = comparison.next()?;
        }
    }
    let Comparison { tally, differences, .. } = comparison;
    Ok(Totals { entries: tally.entries, bytes: tally.bytes, differences })
}

/// A copy of the entry that is expected next: the list lends only one at a time.
fn take(from: &mut dyn Entries) -> Result<Option<Kept>, Error> {
    Ok(from.next()?.map(|entry| Kept::of(&entry)))
}

/// What stands on disk; an entry that could not even be opened is one too.
enum Seen {
    Found(Found),
    Unreadable,
}

struct Comparison<'a> {
    walker: Walker,
    buffer: Vec<u8>,
    links: Links<(u64, u64), Digest>,
    tally: Tally,
    differences: u64,
    watch: &'a mut dyn FnMut(Compared<'_>) -> ControlFlow<()>,
}

impl Comparison<'_> {
    fn next(&mut self) -> Result<Option<Seen>, Error> {
        match self.walker.next() {
            Ok(found) => Ok(found.map(Seen::Found)),
            Err(Error::Source { .. } | Error::Changed { .. }) => Ok(Some(Seen::Unreadable)),
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, path: &[u8], seen: &Seen, limits: &Limits) -> Result<(), Error> {
        let size = if let Seen::Found(Found::File(_, look)) = seen { look.size } else { 0 };
        self.tally.count(path, size, limits)
    }

    fn differs(&mut self, path: &[u8], how: Difference) -> ControlFlow<()> {
        self.differences += 1;
        (self.watch)(Compared::Differs { path, how })
    }

    /// Compares an entry that is there with what it should be.
    fn one(&mut self, expected: &Kept, seen: &Seen, limits: &Limits) -> Result<ControlFlow<()>, Error> {
        self.count(&expected.path, seen, limits)?;
        let expected = expected.entry();
        let (how, mode) = match (seen, expected.content) {
            (Seen::Unreadable, _) => (Some(Difference::Unreadable), None),
            (Seen::Found(Found::Directory(look)), Content::Directory) => (None, Some(look.mode)),
            (Seen::Found(Found::Link(target, _)), Content::Link { target: expected }) => {
                ((target != expected).then_some(Difference::Content), None)
            }
            (Seen::Found(Found::File(_, look)), Content::File { size, .. }) if look.size != size => {
                (Some(Difference::Size), None)
            }
            (Seen::Found(Found::File(file, look)), Content::File { hash, .. }) => match self.hash(file, look) {
                Ok(ControlFlow::Continue(found)) => ((found != hash).then_some(Difference::Content), Some(look.mode)),
                Ok(ControlFlow::Break(())) => return Ok(ControlFlow::Break(())),
                Err(Error::Source { .. } | Error::Changed { .. }) => (Some(Difference::Unreadable), None),
                Err(error) => return Err(error),
            },
            _ => (Some(Difference::Kind), None),
        };
        let mode = mode.filter(|mode| mode & 0o777 != expected.mode).map(|_| Difference::Mode);
        if let Some(how) = how.or(mode)
            && self.differs(expected.path, how).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        Ok((self.watch)(Compared::Entry))
    }

    fn hash(&mut self, file: &File, look: &Look) -> Result<ControlFlow<(), Digest>, Error> {
        if look.links > 1
            && let Some(known) = self.links.get(&look.id).copied()
        {
            self.links.used(&look.id);
            return Ok(ControlFlow::Continue(known));
        }
        let mut hasher = blake3::Hasher::new();
        let mut ended = false;
        let watch = &mut self.watch;
        let read = read_content(file, look, &self.walker, &mut self.buffer, |piece| {
            hasher.update(piece);
            if watch(Compared::Bytes(piece.len() as u64)).is_break() {
                ended = true;
                return Err(Error::bad("it was given up"));
            }
            Ok(())
        });
        if ended {
            return Ok(ControlFlow::Break(()));
        }
        read?;
        let hash = Digest::from(hasher.finalize());
        if look.links > 1 && self.links.has_room(0) {
            self.links.remember(look.id, 0, look.links, hash);
        }
        Ok(ControlFlow::Continue(hash))
    }
}

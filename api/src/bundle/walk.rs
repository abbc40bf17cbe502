//! Walks a folder in canonical order: depth first, siblings by the bytes of their names, never
//! outside the root, with the names of one folder per level in memory.

use super::select::{Selection, Selector};
use super::tree::{
    Folder, Kind, Look, Mtime, Names, Special, look_at_file, name_bytes, own_file, own_ids, path_from_bytes,
};
use super::{Error, Limits};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// How to walk.
#[derive(Clone, Default)]
pub(super) struct Walk {
    /// Follow links and show what they lead to.
    pub(super) dereference: bool,
    /// Give every entry a mode that its owner can read, and take set-id and sticky bits away.
    pub(super) mend: bool,
    /// Make every entry, and the root, this process's own.
    pub(super) own: bool,
    /// Refuse a folder in which entries came or went while it was read.
    pub(super) steady: bool,
    /// Show only these entries, and all folders.
    pub(super) only: Option<Selection>,
}

/// What stands at [`Walker::path`].
pub(super) enum Found {
    /// A folder; its content comes next.
    Directory(Look),
    /// A file, open for reading.
    File(File, Look),
    /// A symlink and its target.
    Link(Vec<u8>, Look),
    /// Something else.
    Special(Special),
}

/// One walk through one folder.
pub(super) struct Walker {
    root: PathBuf,
    how: Walk,
    limits: Limits,
    levels: Vec<Level>,
    /// Of the entry shown last, relative to the root.
    path: Vec<u8>,
    /// Names read so far.
    listed: u64,
    selector: Option<Selector>,
    /// Whether the entry shown last is one of those that are asked for.
    selected: bool,
}

struct Level {
    folder: Folder,
    id: (u64, u64),
    names: Names,
    next: usize,
    path_length: usize,
    /// When its names were last changed, as it was before they were read.
    mtime: Mtime,
}

impl Walker {
    /// Starts at the folder `root`, which may itself be a link only if `follow_root`.
    pub(super) fn new(root: &Path, follow_root: bool, how: Walk, limits: &Limits) -> Result<Self, Error> {
        let folder = Folder::open(root, follow_root).map_err(|cause| Error::source("open", root, cause))?;
        let read = |cause| Error::source("read", root, cause);
        let look = folder.look().map_err(read)?;
        if how.own && look.owner != own_ids() {
            folder.own().map_err(|cause| Error::target("take over", root, cause))?;
        }
        let mut walker = Self {
            root: root.to_owned(),
            selector: how.only.as_ref().map(Selection::start),
            selected: true,
            how,
            limits: limits.clone(),
            levels: Vec::new(),
            path: Vec::new(),
            listed: 0,
        };
        let names = walker.list(&folder)?;
        walker.levels.push(Level { folder, id: look.id, names, next: 0, path_length: 0, mtime: look.mtime });
        Ok(walker)
    }

    /// A walk that shows one file only, by its name.
    pub(super) fn single(file: &Path, limits: &Limits) -> Result<Self, Error> {
        let problem = |cause| Error::source("open", file, cause);
        let name = file.file_name().ok_or_else(|| problem(io::ErrorKind::InvalidFilename.into()))?;
        let root = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = Folder::open(root, true).map_err(problem)?;
        let mut names = Names::default();
        names.push(&name_bytes(name), Kind::Untold);
        let look = folder.look().map_err(problem)?;
        let level = Level { id: look.id, folder, names, next: 0, path_length: 0, mtime: look.mtime };
        // A link given by name means the file it leads to.
        let how = Walk { dereference: true, ..Walk::default() };
        Ok(Self {
            root: root.to_owned(),
            how,
            limits: limits.clone(),
            levels: vec![level],
            path: Vec::new(),
            listed: 1,
            selector: None,
            selected: true,
        })
    }

    /// Path of the entry shown last, relative to the root.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The same for a message: with the root before it.
    pub(super) fn full_path(&self) -> PathBuf {
        self.root.join(path_from_bytes(&self.path))
    }

    /// Goes to the next entry.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Error> {
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            let Some((name, kind)) = level.names.get(level.next) else {
                let changed = self.how.steady && level.folder.look().is_ok_and(|look| look.mtime != level.mtime);
                if changed {
                    return Err(Error::Changed { path: self.full_path() });
                }
                self.levels.pop();
                continue;
            };
            level.next += 1;
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            let start = self.path.len();
            self.path.extend_from_slice(name);
            if self.is_lost_and_found() {
                continue;
            }
            self.limits.check_path(&self.path, self.levels.len())?;
            let kind = self.told(start, kind)?;
            if let Some(selector) = &mut self.selector {
                self.selected = selector.takes(&self.path, kind == Kind::Directory);
                if !self.selected && kind != Kind::Directory {
                    continue;
                }
            }
            return self.visit(start, kind).map(Some);
        }
        Ok(None)
    }

    /// Whether the entry shown last is one of those that are asked for, and not only a folder on the way.
    pub(super) fn is_selected(&self) -> bool {
        self.selected
    }

    /// Removes the entry shown last, which must not be a folder.
    pub(super) fn remove(&mut self) -> Result<(), Error> {
        let start = self.path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        self.here().remove(&self.path[start..]).map_err(|cause| Error::target("remove", &self.full_path(), cause))
    }

    /// Whether this is the file system's own folder below the root; it may be closed to us.
    fn is_lost_and_found(&self) -> bool {
        self.path == b"lost+found"
            && matches!(self.here().look_at(&self.path, self.how.dereference), Ok(look) if look.kind == Kind::Directory)
    }

    /// The kind of the entry whose name begins at `start` of the path, where the listing does not tell it.
    fn told(&self, start: usize, kind: Kind) -> Result<Kind, Error> {
        if kind != Kind::Untold {
            return Ok(kind);
        }
        let look = self.here().look_at(&self.path[start..], false);
        Ok(look.map_err(|cause| self.unreadable(cause))?.kind)
    }

    /// Looks at the entry whose name begins at `start` of the path.
    fn visit(&mut self, start: usize, mut kind: Kind) -> Result<Found, Error> {
        let name = &self.path[start..];
        let follow = self.how.dereference && kind == Kind::Link;
        if follow {
            kind = self.here().look_at(name, true).map_err(|cause| self.unreadable(cause))?.kind;
        }
        match kind {
            Kind::Directory => self.enter(start, follow),
            Kind::File => self.file(start, follow),
            Kind::Link => {
                let look = self.here().look_at(name, false).map_err(|cause| self.unreadable(cause))?;
                let target = self.here().read_link(name).map_err(|cause| self.unreadable(cause))?;
                if self.is_foreign(&look) {
                    self.here().own_entry(name).map_err(|cause| self.not_taken_over(cause))?;
                }
                Ok(Found::Link(target, look))
            }
            Kind::Special(special) => Ok(Found::Special(special)),
            Kind::Untold => Ok(Found::Special(Special::Unknown)),
        }
    }

    fn file(&self, start: usize, follow: bool) -> Result<Found, Error> {
        let name = &self.path[start..];
        let file = match self.here().open_file(name, follow) {
            Err(cause) if self.how.mend && cause.kind() == io::ErrorKind::PermissionDenied => {
                self.mend_closed(name, 0o400)?;
                self.here().open_file(name, follow)
            }
            opened => opened,
        };
        let file = file.map_err(|cause| self.unreadable(cause))?;
        let mut look = look_at_file(&file).map_err(|cause| self.unreadable(cause))?;
        if look.kind != Kind::File {
            return Err(Error::Changed { path: self.full_path() });
        }
        if self.is_foreign(&look) {
            own_file(&file).map_err(|cause| self.not_taken_over(cause))?;
            // Which may have changed its mode.
            look = look_at_file(&file).map_err(|cause| self.unreadable(cause))?;
        }
        if self.how.mend && look.mode != mended(look.mode, 0o400) {
            look.mode = mended(look.mode, 0o400);
            super::tree::finish_file(&file, look.mode, None)
                .map_err(|cause| Error::target("set the mode of", &self.full_path(), cause))?;
        }
        Ok(Found::File(file, look))
    }

    fn enter(&mut self, start: usize, follow: bool) -> Result<Found, Error> {
        let name = &self.path[start..];
        let folder = match self.here().open_folder(name, follow) {
            Err(cause) if self.how.mend && cause.kind() == io::ErrorKind::PermissionDenied => {
                self.mend_closed(name, 0o500)?;
                self.here().open_folder(name, follow)
            }
            opened => opened,
        };
        let folder = folder.map_err(|cause| self.unreadable(cause))?;
        let mut look = folder.look().map_err(|cause| self.unreadable(cause))?;
        if follow && self.levels.iter().any(|level| level.id == look.id) {
            return Err(Error::LinkLoop { path: self.full_path() });
        }
        if self.is_foreign(&look) {
            folder.own().map_err(|cause| self.not_taken_over(cause))?;
        }
        if self.how.mend && look.mode != mended(look.mode, 0o500) {
            look.mode = mended(look.mode, 0o500);
            folder.set_mode(look.mode).map_err(|cause| Error::target("set the mode of", &self.full_path(), cause))?;
        }
        let names = self.list(&folder)?;
        let (path_length, mtime) = (self.path.len(), look.mtime);
        self.levels.push(Level { folder, id: look.id, names, next: 0, path_length, mtime });
        Ok(Found::Directory(look))
    }

    /// The names in the current folder, in order. No more of them are taken into memory than may be entries;
    /// one more, because `lost+found` is none.
    fn list(&mut self, folder: &Folder) -> Result<Names, Error> {
        let most = (self.limits.entries + 1).saturating_sub(self.listed);
        let names = folder.names(most).map_err(|cause| self.unreadable(cause))?;
        let Some(mut names) = names else {
            return Err(Error::TooLarge { path: self.full_path(), limit: "entries", allowed: self.limits.entries });
        };
        self.listed += names.len();
        names.sort();
        Ok(names)
    }

    /// Lets the owner read an entry that cannot even be opened.
    fn mend_closed(&self, name: &[u8], needed: u32) -> Result<(), Error> {
        let problem = |cause| Error::target("set the mode of", &self.full_path(), cause);
        let look = self.here().look_at(name, false).map_err(problem)?;
        self.here().set_mode_of(name, mended(look.mode, needed)).map_err(problem)
    }

    /// Whether an entry is to be taken over first.
    fn is_foreign(&self, look: &Look) -> bool {
        self.how.own && look.owner != own_ids()
    }

    fn not_taken_over(&self, cause: io::Error) -> Error {
        Error::target("take over", &self.full_path(), cause)
    }

    /// The folder that holds the current entry.
    fn here(&self) -> &Folder {
        &self.levels.last().expect("an entry is shown only while its folder is open").folder
    }

    fn unreadable(&self, cause: io::Error) -> Error {
        let path = self.full_path();
        if self.how.dereference && super::tree::is_link_loop(&cause) {
            Error::LinkLoop { path }
        } else {
            Error::source("read", &path, cause)
        }
    }
}

/// A mode as sealed content has it.
fn mended(mode: u32, needed: u32) -> u32 {
    (mode & 0o777) | needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_too_many_names_is_refused_before_they_are_all_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("many")).unwrap();
        for number in 0..100 {
            std::fs::write(dir.path().join("many").join(number.to_string()), "").unwrap();
        }
        let limits = Limits { entries: 10, ..Limits::default() };
        let mut walker = Walker::new(dir.path(), false, Walk::default(), &limits).unwrap();
        let refused = walker.next().err().unwrap();
        assert!(matches!(refused, Error::TooLarge { limit: "entries", allowed: 10, .. }), "{refused}");
        assert!(refused.to_string().contains("many"), "{refused}");
        let limits = Limits { entries: 101, ..Limits::default() };
        let mut walker = Walker::new(dir.path(), false, Walk::default(), &limits).unwrap();
        assert_eq!(std::iter::from_fn(|| walker.next().unwrap()).count(), 101);
    }
}

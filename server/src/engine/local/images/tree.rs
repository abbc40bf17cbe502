//! The folder that a layer is unpacked into. Every path is resolved here, step by step through open
//! folders, so that nothing a layer says can lead outside.
//!
//! A name's parents are looked for as the unpacked image shows them: first in this layer, then in the
//! layers below, links followed within the image. What a parent is below is what it becomes here,
//! because overlayfs takes owner and mode from the uppermost folder.

use super::unpack::UnpackError;
use crate::engine::local::delete::delete;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Says that a folder hides what is below it.
const OPAQUE: &str = "trusted.overlay.opaque";
/// Links followed on the way to one name, as the kernel does.
const MOST_LINKS: usize = 40;
/// Folders whose time is restored at the end. Beyond that it is that of unpacking.
const MOST_FOLDERS: usize = 200_000;

/// Owner, mode, time and attributes of an entry.
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a> {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// A layer while it is unpacked.
pub(super) struct Tree {
    root: OwnedFd,
    /// The layers below, the uppermost first.
    lowers: Vec<OwnedFd>,
    /// The folder that was used last: entries of one folder usually come together.
    last: Option<(Vec<OsString>, Rc<Folder>)>,
    folder_times: Vec<(PathBuf, (i64, u32))>,
}

/// A folder of this layer.
struct Folder {
    fd: OwnedFd,
    /// Where it is, without links.
    at: PathBuf,
}

/// A name in a layer below.
enum Below {
    Folder(Stat),
    Link(PathBuf),
    Other,
}

type Result<T> = std::result::Result<T, UnpackError>;

fn bad<T>(what: impl Into<String>) -> Result<T> {
    Err(UnpackError::Bad(what.into()))
}

/// The parts of an entry's name. `..` is refused: no honest archive has it.
pub(super) fn parts(path: &[u8]) -> Result<Vec<OsString>> {
    let mut parts = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return bad(format!("the name {} leads upwards", String::from_utf8_lossy(path))),
            part if part.len() > 255 => return bad("a part of a name is longer than 255 bytes"),
            part => parts.push(OsStr::from_bytes(part).to_owned()),
        }
    }
    Ok(parts)
}

impl Tree {
    /// The tree in the empty folder `root`, above the folders `lowers`, of which the last is the uppermost.
    pub(super) fn open(root: &Path, lowers: &[PathBuf]) -> io::Result<Self> {
        let lowers = lowers.iter().rev().map(|lower| Ok(File::open(lower)?.into()));
        Ok(Self {
            root: File::open(root)?.into(),
            lowers: lowers.collect::<io::Result<_>>()?,
            last: None,
            folder_times: Vec::new(),
        })
    }

    /// Makes a folder, or gives one that is there these attributes.
    pub(super) fn folder(&mut self, path: &[OsString], attributes: &Attributes<'_>) -> Result<()> {
        let Some((name, parent)) = path.split_last() else {
            self.remember_time(PathBuf::new(), attributes.mtime);
            return apply(&self.root, attributes);
        };
        let parent = self.parent(parent)?;
        let fd = self.own_folder(&parent.fd, name)?;
        self.remember_time(parent.at.join(name), attributes.mtime);
        apply(&fd, attributes)
    }

    /// Makes a file; the caller writes its content and then gives it its attributes.
    pub(super) fn file(&mut self, path: &[OsString]) -> Result<File> {
        let (parent, name) = self.vacate(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&parent.fd, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Makes a symbolic link. Where it leads is nobody's business but the container's.
    pub(super) fn symlink(&mut self, path: &[OsString], target: &[u8], attributes: &Attributes<'_>) -> Result<()> {
        if target.is_empty() {
            return bad("a symbolic link has no target");
        }
        let (parent, name) = self.vacate(path)?;
        rustix::fs::symlinkat(target, &parent.fd, name)?;
        own_by_name(&parent.fd, name, attributes)
    }

    /// Makes a named pipe.
    pub(super) fn fifo(&mut self, path: &[OsString], attributes: &Attributes<'_>) -> Result<()> {
        let (parent, name) = self.vacate(path)?;
        rustix::fs::mknodat(&parent.fd, name, FileType::Fifo, Mode::from_raw_mode(attributes.mode & 0o777), 0)?;
        own_by_name(&parent.fd, name, attributes)
    }

    /// Gives a file of this layer a second name.
    pub(super) fn hardlink(&mut self, path: &[OsString], target: &[OsString]) -> Result<()> {
        let missing = || bad(format!("a hard link leads to {}, which is not a file of the layer", shown(target)));
        let Some((from_name, from_parent)) = target.split_last() else { return missing() };
        if path == target {
            return Ok(());
        }
        let Some(from) = self.find(from_parent, false)? else { return missing() };
        match kind(&from.fd, from_name)? {
            Some((FileType::RegularFile | FileType::Symlink | FileType::Fifo, _)) => {}
            _ => return missing(),
        }
        let (parent, name) = self.vacate(path)?;
        match rustix::fs::linkat(&from.fd, from_name, &parent.fd, name, AtFlags::empty()) {
            // Making room for the name took the target away.
            Err(Errno::NOENT) => missing(),
            other => Ok(other?),
        }
    }

    /// Hides a name of the layers below. What this layer itself has there stays.
    pub(super) fn whiteout(&mut self, path: &[OsString]) -> Result<()> {
        let Some((name, parent)) = path.split_last() else { return bad("a whiteout names the root") };
        let parent = self.parent(parent)?;
        match kind(&parent.fd, name)? {
            None => Ok(rustix::fs::mknodat(&parent.fd, name, FileType::CharacterDevice, Mode::empty(), 0)?),
            Some((FileType::Directory, _)) => make_opaque(&open_folder(&parent.fd, name)?),
            Some(_) => Ok(()),
        }
    }

    /// Hides all that the layers below have in this folder.
    pub(super) fn opaque(&mut self, path: &[OsString]) -> Result<()> {
        let folder = self.parent(path)?;
        make_opaque(&folder.fd)
    }

    /// Restores the times of folders, which unpacking changed, and writes everything to disk.
    pub(super) fn finish(mut self) -> Result<()> {
        for (at, mtime) in std::mem::take(&mut self.folder_times) {
            // One that was replaced by something else since has no time to restore.
            if let Ok(folder) = self.open_at(&at) {
                rustix::fs::futimens(&folder, &times(mtime))?;
            }
        }
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    fn remember_time(&mut self, at: PathBuf, mtime: (i64, u32)) {
        if self.folder_times.len() < MOST_FOLDERS {
            self.folder_times.push((at, mtime));
        }
    }

    /// Opens a folder of this layer by its place without links.
    fn open_at(&self, at: &Path) -> rustix::io::Result<OwnedFd> {
        let at = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.root, at, flags, Mode::empty(), resolve)
    }

    /// The folder that a new entry goes into, made if need be, and the entry's name, free to be used.
    fn vacate<'a>(&mut self, path: &'a [OsString]) -> Result<(Rc<Folder>, &'a OsStr)> {
        let Some((name, parent)) = path.split_last() else { return bad("an entry would replace the root") };
        let parent = self.parent(parent)?;
        match kind(&parent.fd, name)? {
            None => {}
            Some((FileType::Directory, _)) => {
                self.last = None;
                // The name is one part and its parent is held open, so this stays below it; the removal
                // itself follows no links.
                let parent = PathBuf::from(format!("/proc/self/fd/{}", parent.fd.as_raw_fd()));
                delete(&parent.join(name))?;
            }
            Some(_) => {
                // It may be a link that the remembered folder was found through.
                self.last = None;
                rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty())?;
            }
        }
        Ok((parent, name))
    }

    fn parent(&mut self, path: &[OsString]) -> Result<Rc<Folder>> {
        match self.find(path, true)? {
            Some(folder) => Ok(folder),
            None => bad(format!("{} cannot be made", shown(path))),
        }
    }

    /// Finds the folder that `path` means; missing ones are made if `make` is set.
    fn find(&mut self, path: &[OsString], make: bool) -> Result<Option<Rc<Folder>>> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(Some(folder.clone()));
        }
        let straight: PathBuf = path.iter().collect();
        let folder = match self.open_at(&straight) {
            Ok(fd) => Rc::new(Folder { fd, at: straight }),
            Err(_) => match self.walk(path, make)? {
                Some(folder) => Rc::new(folder),
                None => return Ok(None),
            },
        };
        self.last = Some((path.to_vec(), folder.clone()));
        Ok(Some(folder))
    }

    /// The same one step at a time: through links, and making what is missing.
    fn walk(&mut self, path: &[OsString], make: bool) -> Result<Option<Folder>> {
        let mut waiting: VecDeque<OsString> = path.iter().cloned().collect();
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(name) = waiting.pop_front() {
            if name == ".." {
                // The root is its own parent.
                at.pop();
                continue;
            }
            let folder = self.open_at(&at)?;
            let target = match kind(&folder, &name)? {
                Some((FileType::Directory, _)) => None,
                Some((FileType::Symlink, _)) => Some(link_target(&folder, &name)?),
                Some((FileType::CharacterDevice, _)) | None if !make => return Ok(None),
                Some((FileType::CharacterDevice, _)) => {
                    self.own_folder(&folder, &name)?;
                    None
                }
                Some(_) => return bad(format!("there are entries below {}, which is no folder", shown(path))),
                None => match self.below(&at, &name)? {
                    Some(Below::Link(target)) => Some(target),
                    Some(Below::Folder(stat)) => {
                        let fd = self.own_folder(&folder, &name)?;
                        let mtime = (stat.st_mtime, stat.st_mtime_nsec as u32);
                        let (mode, uid, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
                        apply(&fd, &Attributes { mode, uid, gid, mtime, xattrs: &[] })?;
                        self.remember_time(at.join(&name), mtime);
                        None
                    }
                    Some(Below::Other) | None => {
                        self.own_folder(&folder, &name)?;
                        None
                    }
                },
            };
            let Some(target) = target else {
                at.push(&name);
                continue;
            };
            links += 1;
            if links > MOST_LINKS || waiting.len() + target.components().count() > 4096 {
                return bad(format!("{} leads through too many links", shown(path)));
            }
            if target.is_absolute() {
                at = PathBuf::new();
            }
            for part in target.components().rev() {
                match part {
                    std::path::Component::Normal(part) => waiting.push_front(part.to_owned()),
                    std::path::Component::ParentDir => waiting.push_front("..".into()),
                    _ => {}
                }
            }
        }
        Ok(Some(Folder { fd: self.open_at(&at)?, at }))
    }

    /// A folder by this name in this layer, in place of whatever else is there.
    fn own_folder(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
        let before = kind(parent, name)?;
        match before {
            Some((FileType::Directory, _)) => return Ok(open_folder(parent, name)?),
            Some(_) => {
                self.last = None;
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            }
            None => {}
        }
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        let fd = open_folder(parent, name)?;
        // Not this process's umask decides.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        if let Some((FileType::CharacterDevice, _)) = before {
            // It was hidden before it was made anew: what is below stays hidden.
            make_opaque(&fd)?;
        }
        Ok(fd)
    }

    /// What the layers below show at this place.
    fn below(&self, at: &Path, name: &OsStr) -> Result<Option<Below>> {
        'layers: for lower in &self.lowers {
            let mut folder: Option<OwnedFd> = None;
            let mut hides = false;
            for part in at {
                let parent = folder.as_ref().unwrap_or(lower);
                match kind(parent, part)? {
                    None if hides => return Ok(None),
                    None => continue 'layers,
                    Some((FileType::Directory, _)) => {}
                    Some(_) => return Ok(None),
                }
                let next = open_folder(parent, part)?;
                hides |= is_opaque(&next)?;
                folder = Some(next);
            }
            let parent = folder.as_ref().unwrap_or(lower);
            match kind(parent, name)? {
                None if hides => return Ok(None),
                None => {}
                Some((FileType::Directory, stat)) => return Ok(Some(Below::Folder(stat))),
                Some((FileType::Symlink, _)) => return Ok(Some(Below::Link(link_target(parent, name)?))),
                Some((FileType::CharacterDevice, _)) => return Ok(None),
                Some(_) => return Ok(Some(Below::Other)),
            }
        }
        Ok(None)
    }
}

fn shown(path: &[OsString]) -> String {
    let path: PathBuf = path.iter().collect();
    path.to_string_lossy().chars().filter(|c| !c.is_control()).take(200).collect()
}

fn kind(parent: &OwnedFd, name: &OsStr) -> Result<Option<(FileType, Stat)>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open_folder(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn link_target(parent: &OwnedFd, name: &OsStr) -> Result<PathBuf> {
    let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

fn make_opaque(folder: &OwnedFd) -> Result<()> {
    Ok(rustix::fs::fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())?)
}

fn is_opaque(folder: &OwnedFd) -> Result<bool> {
    let mut value = [0_u8; 1];
    match rustix::fs::fgetxattr(folder, OPAQUE, &mut value) {
        Ok(_) => Ok(value == *b"y"),
        Err(Errno::NODATA | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    }
}

/// Gives an open file or folder its attributes. The owner goes first: changing it takes setuid and
/// capabilities away.
pub(super) fn apply(fd: impl AsFd, attributes: &Attributes<'_>) -> Result<()> {
    let fd: BorrowedFd<'_> = fd.as_fd();
    rustix::fs::fchown(fd, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))?;
    for (name, value) in attributes.xattrs {
        // All others have a meaning to the host: overlayfs's own, labels of its policy, access lists.
        if name == b"security.capability" || name.starts_with(b"user.") {
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                // A file system without user attributes, or a value that the kernel does not take.
                Err(Errno::NOTSUP | Errno::INVAL | Errno::NOSPC) if name.starts_with(b"user.") => {}
                Err(Errno::INVAL) => return bad("a file's capabilities are not valid"),
                other => other?,
            }
        }
    }
    Ok(rustix::fs::futimens(fd, &times(attributes.mtime))?)
}

/// The same for what cannot be opened.
fn own_by_name(parent: &OwnedFd, name: &OsStr, attributes: &Attributes<'_>) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(parent, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

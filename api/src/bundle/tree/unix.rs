//! Folders by file descriptor: every call takes one name below an open folder and follows no link
//! unless asked to.

use super::{Kind, Look, Mtime, Names, Special};
use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawMode, Stat, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The path with these bytes.
pub fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// The bytes of a name.
pub(in crate::bundle) fn name_bytes(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

/// An open folder.
#[derive(Debug)]
pub(in crate::bundle) struct Folder(OwnedFd);

impl Folder {
    /// Opens the folder at this path; with `follow` also one that a link leads to.
    pub(in crate::bundle) fn open(path: &Path, follow: bool) -> io::Result<Self> {
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        Ok(Self(fs::open(path, flags, Mode::empty())?))
    }

    pub(in crate::bundle) fn look(&self) -> io::Result<Look> {
        Ok(look(&fs::fstat(&self.0)?))
    }

    /// All names, unsorted, without `.` and `..`; none when there are more than `most`, or more than can be kept.
    pub(in crate::bundle) fn names(&self, most: u64) -> io::Result<Option<Names>> {
        let mut names = Names::default();
        let mut listing = fs::Dir::read_from(&self.0)?;
        while let Some(entry) = listing.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == most || !names.push(name, kind(entry.file_type())) {
                return Ok(None);
            }
        }
        Ok(Some(names))
    }

    pub(in crate::bundle) fn look_at(&self, name: &[u8], follow: bool) -> io::Result<Look> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        Ok(look(&fs::statat(&self.0, name, flags)?))
    }

    pub(in crate::bundle) fn open_folder(&self, name: &[u8], follow: bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | no_follow(follow);
        Ok(Self(fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Opens a file for reading, without waiting should it turn out to be a FIFO.
    pub(in crate::bundle) fn open_file(&self, name: &[u8], follow: bool) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | no_follow(follow);
        Ok(File::from(fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    pub(in crate::bundle) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// Makes a folder that only its owner can use until [`Folder::finish`].
    pub(in crate::bundle) fn make_folder(&self, name: &[u8]) -> io::Result<Self> {
        fs::mkdirat(&self.0, name, Mode::RWXU)?;
        self.open_folder(name, false)
    }

    /// Makes a file that only its owner can use until [`finish_file`]; one that exists is an error.
    pub(in crate::bundle) fn make_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    pub(in crate::bundle) fn make_link(&self, name: &[u8], target: &[u8], mtime: Mtime) -> io::Result<()> {
        fs::symlinkat(target, &self.0, name)?;
        Ok(fs::utimensat(&self.0, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Gives the file `old_name` in `old` one more name here.
    pub(in crate::bundle) fn make_hard_link(&self, name: &[u8], old: &Self, old_name: &[u8]) -> io::Result<()> {
        Ok(fs::linkat(&old.0, old_name, &self.0, name, AtFlags::empty())?)
    }

    /// Removes what is not a folder.
    pub(in crate::bundle) fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Sets the mode of an entry that is not a link.
    pub(in crate::bundle) fn set_mode_of(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(fs::chmodat(&self.0, name, Mode::from_raw_mode(mode as RawMode), AtFlags::empty())?)
    }

    /// Makes an entry, be it a link, this process's own.
    pub(in crate::bundle) fn own_entry(&self, name: &[u8]) -> io::Result<()> {
        let (uid, gid) = effective();
        Ok(fs::chownat(&self.0, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes the folder this process's own.
    pub(in crate::bundle) fn own(&self) -> io::Result<()> {
        let (uid, gid) = effective();
        Ok(fs::fchown(&self.0, Some(uid), Some(gid))?)
    }

    pub(in crate::bundle) fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(fs::fchmod(&self.0, Mode::from_raw_mode(mode as RawMode))?)
    }

    /// Gives the folder its final mode and time.
    pub(in crate::bundle) fn finish(&self, mode: u32, mtime: Mtime) -> io::Result<()> {
        self.set_mode(mode)?;
        Ok(fs::futimens(&self.0, &times(mtime))?)
    }
}

/// Whether links led in a circle.
pub(in crate::bundle) fn is_link_loop(cause: &io::Error) -> bool {
    cause.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

pub(in crate::bundle) fn look_at_file(file: &File) -> io::Result<Look> {
    Ok(look(&fs::fstat(file)?))
}

/// Makes a file this process's own.
pub(in crate::bundle) fn own_file(file: &File) -> io::Result<()> {
    let (uid, gid) = effective();
    Ok(fs::fchown(file, Some(uid), Some(gid))?)
}

/// Owner and group of what this process makes.
pub(in crate::bundle) fn own_ids() -> (u32, u32) {
    let (uid, gid) = effective();
    (uid.as_raw(), gid.as_raw())
}

fn effective() -> (fs::Uid, fs::Gid) {
    (rustix::process::geteuid(), rustix::process::getegid())
}

/// Gives a file its final mode and time.
pub(in crate::bundle) fn finish_file(file: &File, mode: u32, mtime: Option<Mtime>) -> io::Result<()> {
    fs::fchmod(file, Mode::from_raw_mode(mode as RawMode))?;
    if let Some(mtime) = mtime {
        fs::futimens(file, &times(mtime))?;
    }
    Ok(())
}

fn no_follow(follow: bool) -> OFlags {
    if follow { OFlags::empty() } else { OFlags::NOFOLLOW }
}

fn kind(kind: FileType) -> Kind {
    match kind {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link,
        FileType::Socket => Kind::Special(Special::Socket),
        FileType::Fifo => Kind::Special(Special::Fifo),
        FileType::CharacterDevice | FileType::BlockDevice => Kind::Special(Special::Device),
        FileType::Unknown => Kind::Untold,
    }
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_cast,
    clippy::cast_lossless,
    reason = "the types of the fields differ between Unix systems"
)]
fn look(stat: &Stat) -> Look {
    let kind = match kind(FileType::from_raw_mode(stat.st_mode as RawMode)) {
        Kind::Untold => Kind::Special(Special::Unknown),
        told => told,
    };
    Look {
        kind,
        mode: u32::from(stat.st_mode) & 0o7777,
        size: stat.st_size as u64,
        mtime: Mtime { seconds: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
        id: (stat.st_dev as u64, stat.st_ino as u64),
        links: stat.st_nlink as u64,
        owner: (stat.st_uid as u32, stat.st_gid as u32),
    }
}

fn times(mtime: Mtime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

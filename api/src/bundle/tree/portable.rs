//! Folders by path, for systems without the calls of `unix`. Permission bits do not exist there: what
//! is packed gets ordinary ones.

use super::{Kind, Look, Mtime, Names, Special};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The path with these bytes, which are UTF-8 here; others are shown replaced.
pub fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// The bytes of a name.
pub(in crate::bundle) fn name_bytes(name: &OsStr) -> Vec<u8> {
    name.as_encoded_bytes().to_vec()
}

/// A folder.
#[derive(Debug)]
pub(in crate::bundle) struct Folder(PathBuf);

impl Folder {
    /// Opens the folder at this path; with `follow` also one that a link leads to.
    pub(in crate::bundle) fn open(path: &Path, follow: bool) -> io::Result<Self> {
        let found = if follow { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
        if !found.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self(path.to_owned()))
    }

    pub(in crate::bundle) fn look(&self) -> io::Result<Look> {
        Ok(look(&fs::metadata(&self.0)?))
    }

    /// All names, unsorted; none when there are more than `most`, or more than can be kept.
    pub(in crate::bundle) fn names(&self, most: u64) -> io::Result<Option<Names>> {
        let mut names = Names::default();
        for entry in fs::read_dir(&self.0)? {
            if names.len() == most || !names.push(&name_bytes(&entry?.file_name()), Kind::Untold) {
                return Ok(None);
            }
        }
        Ok(Some(names))
    }

    pub(in crate::bundle) fn look_at(&self, name: &[u8], follow: bool) -> io::Result<Look> {
        let path = self.child(name)?;
        Ok(look(&if follow { fs::metadata(path)? } else { fs::symlink_metadata(path)? }))
    }

    pub(in crate::bundle) fn open_folder(&self, name: &[u8], follow: bool) -> io::Result<Self> {
        Self::open(&self.child(name)?, follow)
    }

    pub(in crate::bundle) fn open_file(&self, name: &[u8], follow: bool) -> io::Result<File> {
        let path = self.child(name)?;
        if !follow && fs::symlink_metadata(&path)?.is_symlink() {
            return Err(io::Error::other("it is a link"));
        }
        File::open(path)
    }

    pub(in crate::bundle) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let target = fs::read_link(self.child(name)?)?;
        Ok(name_bytes(target.as_os_str()).into_iter().map(|byte| if byte == b'\\' { b'/' } else { byte }).collect())
    }

    pub(in crate::bundle) fn make_folder(&self, name: &[u8]) -> io::Result<Self> {
        let path = self.child(name)?;
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(in crate::bundle) fn make_file(&self, name: &[u8]) -> io::Result<File> {
        File::create_new(self.child(name)?)
    }

    #[cfg(windows)]
    pub(in crate::bundle) fn make_link(&self, name: &[u8], target: &[u8], _mtime: Mtime) -> io::Result<()> {
        std::os::windows::fs::symlink_file(path_from_bytes(target), self.child(name)?)
    }

    #[cfg(not(windows))]
    pub(in crate::bundle) fn make_link(&self, _name: &[u8], _target: &[u8], _mtime: Mtime) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in crate::bundle) fn make_hard_link(&self, name: &[u8], old: &Self, old_name: &[u8]) -> io::Result<()> {
        fs::hard_link(old.child(old_name)?, self.child(name)?)
    }

    pub(in crate::bundle) fn remove(&self, name: &[u8]) -> io::Result<()> {
        fs::remove_file(self.child(name)?)
    }

    pub(in crate::bundle) fn set_mode_of(&self, _name: &[u8], _mode: u32) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::bundle) fn own_entry(&self, _name: &[u8]) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::bundle) fn own(&self) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::bundle) fn set_mode(&self, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::bundle) fn finish(&self, _mode: u32, _mtime: Mtime) -> io::Result<()> {
        Ok(())
    }

    /// The path of one plain name: nothing that this system would read as more than that.
    fn child(&self, name: &[u8]) -> io::Result<PathBuf> {
        let refused = || io::Error::new(io::ErrorKind::InvalidFilename, "this system cannot hold such a name");
        let text = std::str::from_utf8(name).map_err(|_| refused())?;
        let mut parts = Path::new(text).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == text);
        let awkward = text.contains([':', '\\', '<', '>', '"', '|', '?', '*']) || text.ends_with(['.', ' ']);
        if plain && !awkward && !is_device_name(text) { Ok(self.0.join(OsString::from(text))) } else { Err(refused()) }
    }
}

/// Names that mean a device in every folder of Windows, whatever their extension.
fn is_device_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered = |prefix: &str| stem.strip_prefix(prefix).is_some_and(|rest| rest.chars().count() == 1);
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") || numbered("COM") || numbered("LPT")
}

/// Whether links led in a circle, which this system does not tell apart.
pub(in crate::bundle) fn is_link_loop(_cause: &io::Error) -> bool {
    false
}

pub(in crate::bundle) fn look_at_file(file: &File) -> io::Result<Look> {
    Ok(look(&file.metadata()?))
}

pub(in crate::bundle) fn finish_file(file: &File, _mode: u32, mtime: Option<Mtime>) -> io::Result<()> {
    let Some(mtime) = mtime else { return Ok(()) };
    let whole = Duration::from_secs(mtime.seconds.unsigned_abs());
    let base = if mtime.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    match base.and_then(|base| base.checked_add(Duration::from_nanos(mtime.nanos.into()))) {
        Some(time) => file.set_modified(time),
        None => Ok(()),
    }
}

pub(in crate::bundle) fn own_file(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Owner and group of what this process makes.
pub(in crate::bundle) fn own_ids() -> (u32, u32) {
    (0, 0)
}

fn look(found: &Metadata) -> Look {
    let kind = match found.file_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_file() => Kind::File,
        kind if kind.is_symlink() => Kind::Link,
        _ => Kind::Special(Special::Unknown),
    };
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let mtime = found.modified().map(mtime).unwrap_or_default();
    Look { kind, mode, size: found.len(), mtime, id: (0, 0), links: 1, owner: (0, 0) }
}

fn mtime(time: SystemTime) -> Mtime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Mtime { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let partly = i64::from(before.subsec_nanos() > 0);
            Mtime {
                seconds: -(before.as_secs() as i64) - partly,
                nanos: (1_000_000_000 - before.subsec_nanos()) % 1_000_000_000,
            }
        }
    }
}

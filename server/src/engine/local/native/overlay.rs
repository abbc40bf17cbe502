//! The root file system of one container: its image's layers with a private writable layer on top.
//! The mount lives in the shim's own mount namespace, so it ends with the shim whatever happens.
//! Everything here that touches a path of the image resolves it as if the image's root were `/`.

use nix::mount::{MsFlags, mount};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

/// Where the root file system is mounted, in the worker's folder.
pub(super) const MOUNTED: &str = "rootfs";
/// Lists of users and groups are not larger.
const LARGEST_LIST: u64 = 4 << 20;

/// A mounted root file system.
#[derive(Debug)]
pub(super) struct Root {
    top: OwnedFd,
}

impl Root {
    /// Mounts `layers`, the lowest first, below the current folder.
    pub(super) fn mount(layers: &[PathBuf]) -> io::Result<Self> {
        for (folder, mode) in [("upper", 0o755), ("work", 0o700), (MOUNTED, 0o755), ("layer", 0o700)] {
            fs::DirBuilder::new().recursive(true).mode(mode).create(folder)?;
        }
        // All options together must fit on one page, so each layer gets a name of a few characters.
        let mut lower = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let name = format!("layer/{number}");
            match symlink(layer, &name) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                done => done?,
            }
            lower.push(name);
        }
        if lower.is_empty() {
            fs::create_dir_all("layer/none")?;
            lower.push("layer/none".to_owned());
        }
        lower.reverse();
        let options = format!("lowerdir={},upperdir=upper,workdir=work", lower.join(":"));
        // What the container writes outside its outputs is thrown away, so it need not be synced.
        let quick = mount_overlay(&format!("{options},volatile"));
        quick.or_else(|_| mount_overlay(&options))?;
        let top = rustix::fs::open(
            MOUNTED,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { top })
    }

    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.top, path, flags | OFlags::CLOEXEC, Mode::empty(), inside)
    }

    /// A small text file of the image; empty when it has none.
    pub(super) fn read_list(&self, path: &str) -> io::Result<String> {
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
            Err(errno) => return Err(errno.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST_LIST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Makes a folder and those above it, where they are missing.
    pub(super) fn make_folders(&self, path: &str, mode: u32) -> io::Result<OwnedFd> {
        let mut reached = String::from("/");
        let mut folder = self.open(&reached, OFlags::PATH | OFlags::DIRECTORY)?;
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            reached = format!("{}/{part}", reached.trim_end_matches('/'));
            folder = match self.open(&reached, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    let wanted = Mode::from_raw_mode(mode);
                    match rustix::fs::mkdirat(&folder, part, wanted) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                    let made = self.open(&reached, OFlags::RDONLY | OFlags::DIRECTORY)?;
                    // Beyond the umask.
                    rustix::fs::fchmod(&made, wanted)?;
                    made
                }
                Err(errno) => return Err(errno.into()),
            };
        }
        Ok(folder)
    }

    /// Puts a file into an existing or new folder of the image, in place of whatever has its name.
    pub(super) fn put(&self, folder: &str, name: &str, content: &str) -> io::Result<()> {
        let folder = self.make_folders(folder, 0o755)?;
        match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?;
            }
            Ok(_) => rustix::fs::unlinkat(&folder, name, AtFlags::empty())?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644))?;
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(0o644))?;
        File::from(file).write_all(content.as_bytes())
    }
}

fn mount_overlay(options: &str) -> nix::Result<()> {
    let flags = MsFlags::MS_NODEV;
    mount(Some("overlay"), Path::new(MOUNTED), Some("overlay"), flags, Some(options))
}

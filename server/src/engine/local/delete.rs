//! Deletes what nobody can be trusted to have left deletable: any modes, any depth, links to anywhere.

use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

/// Folders that are open at once. What lies deeper is moved up first, so that depth costs nothing.
const DEEPEST: usize = 64;

/// Deletes whatever stands at `path`, if anything. It never follows a link below the folder of `path`,
/// and can be called again where it was interrupted: what it moves up has the name of `path` as prefix.
pub(super) fn delete(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = match fs::open(parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        top => top?,
    };
    let name = CString::new(name.as_encoded_bytes())?;
    let mut trees = Trees { prefix: name.clone(), waiting: vec![name], moved: 0 };
    while let Some(name) = trees.waiting.pop() {
        if !remove_unless_folder(&top, &name)? {
            trees.delete_one(&top, name)?;
        }
    }
    Ok(())
}

/// Trees that stand directly in the top folder and are to be deleted.
struct Trees {
    prefix: CString,
    waiting: Vec<CString>,
    moved: u64,
}

impl Trees {
    fn delete_one(&mut self, top: &OwnedFd, name: CString) -> io::Result<()> {
        let mut open = vec![Open::new(top, name)?];
        while let Some(folder) = open.last_mut() {
            let child = folder.next_folder()?;
            match child {
                Some(child) if open.len() < DEEPEST => {
                    let inner = Open::new(&open[open.len() - 1].fd, child)?;
                    open.push(inner);
                }
                Some(child) => self.move_up(&open[open.len() - 1].fd, &child, top)?,
                None => {
                    let Some(done) = open.pop() else { break };
                    let parent = open.last().map_or(top, |parent| &parent.fd);
                    match fs::unlinkat(parent, &done.name, AtFlags::REMOVEDIR) {
                        // Some file systems pass over entries while others are removed: look again, as
                        // long as that gets anywhere.
                        Err(Errno::NOTEMPTY | Errno::EXIST) if done.progress => {
                            let again = Open::new(parent, done.name)?;
                            open.push(again);
                        }
                        Err(Errno::NOENT) => {}
                        removed => removed?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives a deep folder a free name at the top, to be deleted later.
    fn move_up(&mut self, from: &OwnedFd, child: &CStr, top: &OwnedFd) -> io::Result<()> {
        // A folder can get another parent only if its owner may write to it.
        unlock(from, child)?;
        loop {
            self.moved += 1;
            let name = CString::new([self.prefix.as_bytes(), format!(".{}", self.moved).as_bytes()].concat())?;
            match rename_to_free(from, child, top, &name) {
                // Left there by an interrupted call.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                renamed => {
                    renamed?;
                    self.waiting.push(name);
                    return Ok(());
                }
            }
        }
    }
}

/// Renames only to a name that is free; where the file system cannot tell, at least not over what has content.
fn rename_to_free(from: &OwnedFd, child: &CStr, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match fs::renameat_with(from, child, to, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => fs::renameat(from, child, to, name),
        renamed => renamed,
    }
}

/// A folder whose content is being deleted.
struct Open {
    name: CString,
    fd: OwnedFd,
    listing: Dir,
    /// Whether anything was taken out of it.
    progress: bool,
}

impl Open {
    fn new(parent: &OwnedFd, name: CString) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match fs::openat(parent, &name, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                unlock(parent, &name)?;
                fs::openat(parent, &name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        // Whoever is not root needs these bits to take entries out.
        if fs::fstat(&fd)?.st_mode & 0o700 != 0o700 {
            fs::fchmod(&fd, Mode::RWXU)?;
        }
        let listing = Dir::read_from(&fd)?;
        Ok(Self { name, fd, listing, progress: false })
    }

    /// Removes entries up to the next one that is a folder.
    fn next_folder(&mut self) -> io::Result<Option<CString>> {
        while let Some(entry) = self.listing.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.progress = true;
            if entry.file_type() == FileType::Directory || !remove_unless_folder(&self.fd, name)? {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }
}

/// True if nothing, or nothing any more, stands there; false if it is a folder.
fn remove_unless_folder(parent: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // What POSIX says of a folder; or it is not allowed to be removed at all.
        Err(Errno::PERM) => match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => Ok(false),
            _ => Err(Errno::PERM.into()),
        },
        Err(cause) => Err(cause.into()),
    }
}

/// Lets the owner do everything with a folder. Nobody else has access to what is being deleted, so
/// it cannot have become a link.
fn unlock(parent: &OwnedFd, name: &CStr) -> io::Result<()> {
    Ok(fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_tree_deeper_than_any_path_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        fs::mkdirat(&root, "tree", Mode::RWXU).unwrap();
        let mut here = fs::openat(&root, "tree", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            fs::mkdirat(&here, "deeper", Mode::RWXU).unwrap();
            here = fs::openat(&here, "deeper", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        delete(&dir.path().join("tree")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_has_a_name_like_those_moved_up_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let beside = dir.path().join("tree.1");
        std::fs::create_dir(&beside).unwrap();
        let deep = (0..DEEPEST + 10).fold(dir.path().join("tree"), |path, _| path.join("d"));
        std::fs::create_dir_all(deep).unwrap();
        delete(&dir.path().join("tree")).unwrap();
        assert!(beside.exists() && !dir.path().join("tree").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn closed_folders_and_links_to_elsewhere_are_deleted_and_elsewhere_stays() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("kept"), "kept").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        symlink(elsewhere.path(), tree.join("a/link")).unwrap();
        std::fs::set_permissions(tree.join("a/b"), std::fs::Permissions::from_mode(0o0)).unwrap();
        std::fs::set_permissions(tree.join("a"), std::fs::Permissions::from_mode(0o400)).unwrap();
        delete(&tree).unwrap();
        assert!(!tree.exists());
        assert!(elsewhere.path().join("kept").exists());
        delete(&tree).unwrap();
    }

    #[test]
    fn many_entries_in_one_folder_are_all_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        for number in 0..3000 {
            std::fs::write(tree.join(number.to_string()), "").unwrap();
            std::fs::create_dir(tree.join(format!("d{number}"))).unwrap();
        }
        delete(&tree).unwrap();
        assert!(!tree.exists());
    }
}

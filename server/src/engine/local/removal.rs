//! Deletes a tree that a container has written into. Such a tree may be deeper than this process has
//! file descriptors or stack, so it is flattened while it is deleted: a folder that is not empty moves
//! up to the top and is dealt with there. Links are never followed.

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::path::Path;

/// Deletes `path` and everything below it; nothing there is fine.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let top = match rustix::fs::open(path, folder_flags(), Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(path),
        Err(errno) => return Err(errno.into()),
    };
    let mut moved = 0u64;
    // Each round deletes all that lies directly in the top folder, and moves what lay one deeper there.
    loop {
        let names = entries(&top)?;
        if names.is_empty() {
            break;
        }
        for (name, kind) in names {
            if kind == FileType::Directory {
                empty_folder(&top, &name, &mut moved)?;
                ignore_missing(rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR))?;
            } else {
                ignore_missing(rustix::fs::unlinkat(&top, &name, AtFlags::empty()))?;
            }
        }
    }
    std::fs::remove_dir(path)
}

/// Deletes the files in a folder, and moves its folders up to `top`.
fn empty_folder(top: &OwnedFd, name: &CString, moved: &mut u64) -> io::Result<()> {
    let folder = rustix::fs::openat(top, name, folder_flags(), Mode::empty())?;
    loop {
        let names = entries(&folder)?;
        if names.is_empty() {
            return Ok(());
        }
        for (inner, kind) in names {
            if kind != FileType::Directory {
                ignore_missing(rustix::fs::unlinkat(&folder, &inner, AtFlags::empty()))?;
                continue;
            }
            match rustix::fs::unlinkat(&folder, &inner, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    *moved += 1;
                    let aside = format!(".knit-moved-{moved}");
                    rustix::fs::renameat_with(&folder, &inner, top, &aside, rustix::fs::RenameFlags::NOREPLACE)
                        .or_else(|errno| if errno == Errno::EXIST { Ok(()) } else { Err(errno) })?;
                }
                done => ignore_missing(done)?,
            }
        }
    }
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// At most some thousand entries at once, so that a huge folder does not become a huge list.
fn entries(folder: &OwnedFd) -> io::Result<Vec<(CString, FileType)>> {
    const AT_ONCE: usize = 4096;
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let state = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(state.st_mode)
            }
            known => known,
        };
        found.push((name.to_owned(), kind));
        if found.len() == AT_ONCE {
            break;
        }
    }
    Ok(found)
}

fn ignore_missing(done: rustix::io::Result<()>) -> io::Result<()> {
    match done {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_goes_whole_and_nothing_outside_it() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let above = tempfile::tempdir().unwrap();
        let tree = above.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.join("a/.knit-moved-1/x")).unwrap();
        fs::create_dir_all(tree.join(".knit-moved-1/x/y")).unwrap();
        fs::write(tree.join("a/b/c/file"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.join("a/link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.join("link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.path().join("kept").exists());
        remove_tree(&tree).unwrap();
        std::os::unix::fs::symlink(outside.path(), &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn a_tree_may_be_deeper_than_paths_and_descriptors_reach() {
        let above = tempfile::tempdir().unwrap();
        let tree = above.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut folder = rustix::fs::open(&tree, folder_flags(), Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&folder, "deep", Mode::from_raw_mode(0o700)).unwrap();
            folder = rustix::fs::openat(&folder, "deep", folder_flags(), Mode::empty()).unwrap();
        }
        drop(folder);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_folder_of_many_entries_goes_too() {
        let above = tempfile::tempdir().unwrap();
        let tree = above.path().join("tree");
        fs::create_dir_all(tree.join("many")).unwrap();
        for number in 0..10_000 {
            fs::write(tree.join("many").join(number.to_string()), "").unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}

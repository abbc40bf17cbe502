//! Small folders for the tests: made on disk from a description, and read back into one.

use super::super::{Error, Form, Limits, PackOptions, SealOptions, Sealed, Summary, pack, seal, unpack};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What stands at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Folder { mode: u32, mtime: (i64, i64) },
    File { mode: u32, mtime: (i64, i64), content: Vec<u8> },
    Link { target: Vec<u8> },
}

pub(super) type Tree = BTreeMap<Vec<u8>, Node>;

/// A temporary folder, in memory where that is possible: the tests make tens of thousands.
pub(super) fn temp() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn os(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Reads a folder as it is on disk.
pub(super) fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    collect(root, root, &mut tree);
    tree
}

fn collect(root: &Path, at: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let mode = found.mode() & 0o777;
        let mtime = (found.mtime(), found.mtime_nsec());
        let node = if found.is_dir() {
            collect(root, &path, tree);
            Node::Folder { mode, mtime }
        } else if found.is_symlink() {
            Node::Link { target: fs::read_link(&path).unwrap().into_os_string().into_vec() }
        } else {
            Node::File { mode, mtime, content: fs::read(&path).unwrap() }
        };
        tree.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), node);
    }
}

/// A folder with something of every kind.
pub(super) fn sample() -> TempDir {
    let dir = temp();
    let root = dir.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("a/b/text"), b"some text").unwrap();
    fs::write(root.join("a.txt"), b"").unwrap();
    fs::write(root.join("a/tool"), vec![7; 1500]).unwrap();
    fs::set_permissions(root.join("a/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("a/tool", root.join("link")).unwrap();
    symlink("/does/not/exist", root.join("z")).unwrap();
    fs::hard_link(root.join("a/tool"), root.join("tool2")).unwrap();
    fs::hard_link(root.join("a/tool"), root.join("tool3")).unwrap();
    fs::write(os(&[root.as_os_str().as_bytes(), b"/caf\xe9"].concat()), b"latin").unwrap();
    let long = "long-".repeat(40);
    fs::write(root.join(&long), b"long").unwrap();
    symlink(&long, root.join("to-long")).unwrap();
    dir
}

pub(super) fn packed(root: &Path, form: Form) -> Result<(Vec<u8>, Summary), Error> {
    let mut stream = Vec::new();
    let summary = pack(root, form, &mut stream, &PackOptions::default(), &mut ())?;
    Ok((stream, summary))
}

pub(super) fn unpacked(stream: &[u8], form: Form, into: &Path) -> Result<Summary, Error> {
    unpack(stream, form, into, &Limits::default(), None, &mut ())
}

pub(super) fn sealed(root: &Path) -> Sealed {
    seal(root, None, &SealOptions::default()).unwrap()
}

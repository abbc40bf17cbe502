//! Keeps what the server stores from the machine's other users: they come to Data through the API and its
//! token, never through the file system. The installation's own folder stays passable, because what users
//! are given lies in it; so every folder and file of the server's own is closed by itself, at every start,
//! which also closes what an earlier version left open.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes the folder if need be; afterwards only its owner may look into it or pass through it.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Makes an empty file if need be; afterwards only its owner may read or write it. One that is there is
/// not opened: closing a file that a database holds open elsewhere in this process would drop its locks.
pub(crate) fn file(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => close(path),
        made => made.map(drop),
    }
}

/// Takes the file from everybody but its owner, if there is one.
pub(crate) fn close(path: &Path) -> io::Result<()> {
    match fs::set_permissions(path, Permissions::from_mode(0o600)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_new_and_what_was_open_are_both_closed() {
        let place = tempfile::tempdir().unwrap();
        let (new, open) = (place.path().join("a/new"), place.path().join("open"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        for path in [&new, &open] {
            folder(path).unwrap();
            assert_eq!(mode(path), 0o700);
        }
        let (new, open) = (new.join("file"), open.join("file"));
        fs::write(&open, "kept").unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
        for path in [&new, &open] {
            file(path).unwrap();
            assert_eq!(mode(path), 0o600);
        }
        assert_eq!(fs::read(&open).unwrap(), b"kept");
        close(&place.path().join("none")).unwrap();
    }
}

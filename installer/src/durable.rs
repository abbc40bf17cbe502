//! Small files that are there whole or not at all: written beside their place, synced, renamed.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Puts `content` at `path` with permission bits `mode`, replacing what was there. The bits hold from
/// the first byte on.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let file = beside(path, content, mode)?;
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(path)
}

/// Like [`write()`], and the file belongs to whoever owns the folder that it lies in.
pub fn write_for_owner(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let file = beside(path, content, mode)?;
    let (folder, made) = (std::fs::metadata(folder_of(path))?, file.as_file().metadata()?);
    if (folder.uid(), folder.gid()) != (made.uid(), made.gid()) {
        std::os::unix::fs::fchown(file.as_file(), Some(folder.uid()), Some(folder.gid()))?;
    }
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(path)
}

/// Like [`write()`], but leaves a file that is already there as it is and fails with `AlreadyExists`.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let file = beside(path, content, mode)?;
    file.persist_noclobber(path).map_err(|e| e.error)?;
    sync_folder(path)
}

fn beside(path: &Path, content: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder_of(path))?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions_and_nothing_stays_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        write(&path, b"long content", 0o644).unwrap();
        write(&path, b"short", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write_new(&path, b"other", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    }
}

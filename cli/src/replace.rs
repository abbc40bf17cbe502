//! Replacing a small file as a whole: written beside, synced, renamed. Whoever reads it meanwhile
//! sees the old content or the new one, never a part.

use std::io::{self, Write as _};
use std::path::Path;

/// Puts `content` at `path`, readable by its owner alone. A symbolic link at `path` stays, its target is replaced.
pub fn private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => Path::new(".").to_owned(),
    };
    // A temporary file is made with mode 0600.
    let mut beside = tempfile::Builder::new().prefix(".knit-").tempfile_in(&folder)?;
    beside.write_all(content)?;
    beside.as_file().sync_all()?;
    beside.persist(&target).map_err(|e| e.error)?;
    sync_folder(&folder)
}

/// Creates a folder, and those above it, for its owner alone.
pub fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

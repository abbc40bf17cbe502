//! Content-addressed blobs and the names that point at them: what the registry serves and the
//! local engine runs from.

use std::io;
use std::path::{Path, PathBuf};

/// Blobs by digest, repositories by name, below one folder.
#[derive(Clone, Debug)]
pub struct ContentStore {
    root: PathBuf,
}

impl ContentStore {
    /// Opens the store below `root`, making it if need be.
    pub fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Where everything is kept.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

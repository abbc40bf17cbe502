//! A worker on disk: one folder, named by its Run, that appears complete and goes as a whole.

use super::delete::delete;
use super::native::lock;
use super::native::order::{Order, Outcome, file, read_json, write_json};
use crate::engine::{EngineError, Work};
use knit_api::id::RunId;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Before the name of a folder that is not accepted yet.
const NEW: &str = ".new-";
/// Before the name of a folder that is being deleted.
const GONE: &str = ".gone-";

/// The folder of one worker.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    above: PathBuf,
    name: String,
}

impl Folder {
    /// The folder of this Run's worker, which may not exist. A Run's id must be able to name a folder
    /// and a control group.
    pub(super) fn of(above: &Path, run: &RunId) -> Result<Self, EngineError> {
        let name = run.as_str();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(EngineError::Failed {
                what: format!("naming the worker of Run \"{}\"", name.escape_default()),
                cause: "its id must be 1 to 128 of A-Z, a-z, 0-9, '-', '_', '.'".to_owned(),
            });
        }
        Ok(Self { above: above.to_owned(), name: name.to_owned() })
    }

    /// All there are; deletes what is neither accepted nor whole.
    pub(super) fn all(above: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(above)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match Self::of(above, &RunId::new(name)) {
                Ok(folder) => found.push(folder),
                Err(_) => delete(&path)?,
            }
        }
        Ok(found)
    }

    /// The Run.
    pub(super) fn run(&self) -> RunId {
        RunId::new(&self.name)
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.above.join(&self.name)
    }

    /// Makes the folder appear with the work in it.
    pub(super) fn accept(&self, work: &Work) -> io::Result<()> {
        let new = self.above.join(format!("{NEW}{}", self.name));
        delete(&new)?;
        fs::DirBuilder::new().mode(0o700).create(&new)?;
        write_json(&new.join(file::WORK), work)?;
        fs::rename(&new, self.path())
    }

    /// The accepted work; none when the folder is not there or, after a power failure, not whole.
    pub(super) fn work(&self) -> io::Result<Option<Work>> {
        read_json(&self.path().join(file::WORK))
    }

    /// Leaves the order for the shim.
    pub(super) fn order(&self, order: &Order) -> io::Result<()> {
        write_json(&self.path().join(file::ORDER), order)
    }

    /// The layers that its container stands on, once that is decided.
    pub(super) fn layers(&self) -> io::Result<Vec<PathBuf>> {
        let order: Option<Order> = read_json(&self.path().join(file::ORDER))?;
        Ok(order.map(|order| order.layers).unwrap_or_default())
    }

    /// The image that was to run, once that is decided.
    pub(super) fn image_digest(&self) -> Option<String> {
        let order: Option<Order> = read_json(&self.path().join(file::ORDER)).ok().flatten();
        order.map(|order| order.image_digest)
    }

    /// How the worker ended, if it has.
    pub(super) fn outcome(&self) -> io::Result<Option<Outcome>> {
        read_json(&self.path().join(file::RESULT))
    }

    /// Writes down how it ended, where no shim could.
    pub(super) fn end(&self, outcome: &Outcome) -> io::Result<()> {
        write_json(&self.path().join(file::RESULT), outcome)
    }

    /// The lock that a shim holds.
    pub(super) fn lock(&self) -> PathBuf {
        self.path().join(file::LOCK)
    }

    /// True once a shim has begun: from then on the work must not be started a second time.
    pub(super) fn begun(&self) -> bool {
        self.lock().exists()
    }

    /// Deletes the folder; one that is not there is fine. A shim that was about to start finds the
    /// lock taken, or nothing at all.
    pub(super) fn remove(&self) -> io::Result<()> {
        let gone = self.above.join(format!("{GONE}{}", self.name));
        delete(&gone)?;
        if !self.path().exists() {
            return Ok(());
        }
        let held = lock::take(&self.lock())?;
        if held.is_none() {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "its shim is still there"));
        }
        fs::rename(self.path(), &gone)?;
        delete(&gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_id_can_name_a_worker() {
        for (id, good) in [
            ("0b9e3f6c-1d2e-4f5a-8b7c-6d5e4f3a2b1c", true),
            ("run_1.2", true),
            ("", false),
            (".", false),
            ("..", false),
            (".new-1", false),
            ("a/b", false),
            ("a b", false),
            ("a\0", false),
            (&"a".repeat(129), false),
        ] {
            assert_eq!(Folder::of(Path::new("/w"), &RunId::new(id)).is_ok(), good, "{id:?}");
        }
    }

    #[test]
    fn what_was_not_accepted_is_swept() {
        let above = tempfile::tempdir().unwrap();
        for name in [".new-1", ".gone-2", "3"] {
            fs::create_dir(above.path().join(name)).unwrap();
            fs::write(above.path().join(name).join("x"), "x").unwrap();
        }
        let left: Vec<String> = Folder::all(above.path()).unwrap().into_iter().map(|folder| folder.name).collect();
        assert_eq!(left, ["3"]);
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1);
    }
}

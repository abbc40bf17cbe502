//! The installation's folder: which files of ours lie where in it, and that it is ours to use.
//!
//! The server lays its own files (database, volumes, images) into the same folder.

use crate::caller::Caller;
use crate::problem::{Kind, Problem};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The folder of one embedded installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at `root`, which need not exist. A relative path is taken from the current directory.
    pub fn at(root: &Path) -> Result<Self, Problem> {
        let root = std::path::absolute(root).map_err(|e| Problem::file("find", root, &e))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was chosen and what runs; see [`crate::record`].
    pub fn record(&self) -> PathBuf {
        self.root.join("installation.json")
    }

    /// The token; only root reads it.
    pub fn token(&self) -> PathBuf {
        self.root.join("token")
    }

    /// Held by the server as long as it lives.
    pub fn server_lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Held by whoever starts or stops the server.
    fn admin_lock(&self) -> PathBuf {
        self.root.join("admin.lock")
    }

    /// What the server says.
    pub fn log(&self) -> PathBuf {
        self.root.join("knitd.log")
    }

    /// How the server is to stop, where that differs from how it was started.
    pub fn stop(&self) -> PathBuf {
        self.root.join("stop.json")
    }

    /// What the server said when it stopped.
    pub fn stopped(&self) -> PathBuf {
        self.root.join("stopped.json")
    }

    /// What users are given.
    pub fn handout(&self) -> PathBuf {
        self.root.join("handout")
    }

    /// How users reach the server; the input of `knit init`.
    pub fn knitprofile(&self) -> PathBuf {
        self.handout().join("knitprofile")
    }

    /// Makes the folder if need be, and refuses one that holds something else than an installation.
    pub fn claim(&self, caller: &Caller) -> Result<(), Problem> {
        let not_writable =
            |e: io::Error| Problem::file("use the folder", &self.root, &e).advise("choose another one with --dir DIR");
        match std::fs::read_dir(&self.root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.make(caller).map_err(not_writable)?,
            Err(e) => return Err(not_writable(e)),
            Ok(mut entries) => {
                let known = [self.record(), self.admin_lock(), self.root.join("state.db")];
                let is_ours = known.iter().any(|path| path.exists());
                let foreign = entries.find_map(|entry| entry.ok().filter(|e| e.file_name() != "lost+found"));
                if let (false, Some(entry)) = (is_ours, foreign) {
                    return Err(Problem::new(
                        Kind::Conflict,
                        format!(
                            "the folder {} holds other files ({}) and no installation of Knit",
                            self.root.display(),
                            entry.file_name().to_string_lossy()
                        ),
                    )
                    .advise("give an empty or a new folder with --dir DIR"));
                }
            }
        }
        tempfile::Builder::new().prefix(".new-").tempfile_in(&self.root).map_err(not_writable)?;
        Ok(())
    }

    /// Makes the folder and its parents: the parents belong to the caller, the folder to root. Others may pass
    /// through it to what they are given, but not list it.
    fn make(&self, caller: &Caller) -> io::Result<()> {
        if let Some(parent) = self.root.parent() {
            let made = caller.acting(|| DirBuilder::new().recursive(true).mode(0o755).create(parent));
            if made.is_err() {
                DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            }
        }
        match DirBuilder::new().mode(0o711).create(&self.root) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
            Ok(()) => std::fs::set_permissions(&self.root, Permissions::from_mode(0o711))?,
        }
        Ok(())
    }

    /// Keeps everybody else from starting or stopping the server until the result is dropped.
    pub fn exclusively(&self) -> Result<Held, Problem> {
        let path = self.admin_lock();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Problem::file("open", &path, &e))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Held { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Problem::new(
                Kind::Conflict,
                format!("another knitctl is starting or stopping the server in {}", self.root.display()),
            )
            .advise("wait until it is through, then look with `knitctl status`")),
            Err(e) => Err(Problem::file("lock", &path, &e.into())),
        }
    }
}

/// The right to start or stop the server of one folder.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_peoples_files_is_refused() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("thesis.tex"), b"x").unwrap();
        let folder = Folder::at(place.path()).unwrap();
        let problem = folder.claim(&Caller::find()).unwrap_err();
        assert_eq!(problem.kind, Kind::Conflict);
        assert!(problem.what.contains("thesis.tex"), "{problem}");
        assert!(problem.advice.contains("--dir"));
    }

    #[test]
    fn an_empty_a_fresh_and_a_used_folder_are_taken() {
        let _alone = crate::process::FORKING.lock();
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("lost+found")).unwrap();
        Folder::at(place.path()).unwrap().claim(&Caller::find()).unwrap();
        let fresh = Folder::at(&place.path().join("a/b")).unwrap();
        fresh.claim(&Caller::find()).unwrap();
        assert_eq!(std::fs::metadata(fresh.root()).unwrap().permissions().mode() & 0o777, 0o711);
        let held = fresh.exclusively().unwrap();
        fresh.claim(&Caller::find()).unwrap();
        assert_eq!(fresh.exclusively().unwrap_err().kind, Kind::Conflict);
        drop(held);
        fresh.exclusively().unwrap();
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_said() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), b"x").unwrap();
        for path in ["file", "file/below"] {
            let problem = Folder::at(&place.path().join(path)).unwrap().claim(&Caller::find()).unwrap_err();
            assert!(problem.what.contains("Not a directory"), "{problem}");
        }
    }
}

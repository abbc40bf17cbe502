//! For whom we work: the user who called, also when that user called through `sudo`.
//!
//! The server's files belong to root; what is for the user (the handout, the profile) belongs to
//! the user and is written with the user's rights, so that nothing of root's can be reached through
//! links that the user has laid.

use nix::unistd::{Gid, Uid, User, setfsgid, setfsuid};
use std::path::{Path, PathBuf};

/// The user who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    home: Option<PathBuf>,
    data_home: Option<PathBuf>,
    /// The user behind `sudo`, when there is one.
    behind: Option<(Uid, Gid)>,
}

impl Caller {
    /// Finds the caller from this process and what `sudo` left in its environment.
    pub fn find() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let behind = match (number("SUDO_UID"), number("SUDO_GID")) {
            (Some(uid), Some(gid)) if uid != 0 && is_root() => Some((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => None,
        };
        match behind {
            None => Self { home: dirs::home_dir(), data_home: dirs::data_dir(), behind },
            Some((uid, _)) => {
                let home = User::from_uid(uid).ok().flatten().map(|user| user.dir);
                let data_home = home.as_ref().map(|home| home.join(".local/share"));
                Self { home, data_home, behind }
            }
        }
    }

    /// The caller's home.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Where an installation stands when nothing else is said: `knit` in the user's data directory.
    pub fn default_folder(&self) -> Option<PathBuf> {
        Some(self.data_home.as_ref()?.join("knit"))
    }

    /// Does `work` with the rights of the caller: what it makes belongs to the caller, and it reaches
    /// only what the caller reaches. `work` runs on a thread of its own, since the rights are the thread's.
    pub fn acting<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let Some((uid, gid)) = self.behind else { return work() };
        let worker = || {
            setfsgid(gid);
            setfsuid(uid);
            work()
        };
        match std::thread::scope(|scope| scope.spawn(worker).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Gives a folder that root made for the caller to the caller.
    pub(crate) fn own(&self, path: &Path) -> std::io::Result<()> {
        match self.behind {
            None => Ok(()),
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid.as_raw()), Some(gid.as_raw())),
        }
    }
}

/// True when this process has root's rights.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_tests::able;
    use knit_tests::able::ROOT;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_made_for_a_user_behind_sudo_belongs_to_that_user() {
        if !able(&[ROOT]) {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let caller = Caller { home: None, data_home: None, behind: Some((Uid::from_raw(12345), Gid::from_raw(23456))) };
        let refused = caller.acting(|| std::fs::write(place.path().join("closed"), b"x"));
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        caller.own(place.path()).unwrap();
        caller.acting(|| std::fs::write(place.path().join("open"), b"x")).unwrap();
        let made = std::fs::metadata(place.path().join("open")).unwrap();
        assert_eq!((made.uid(), made.gid()), (12345, 23456));
        std::fs::write(place.path().join("mine"), b"x").unwrap();
        assert_eq!(std::fs::metadata(place.path().join("mine")).unwrap().uid(), 0, "this thread keeps its rights");
    }
}

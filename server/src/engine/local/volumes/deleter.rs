//! The one thread that deletes what was thrown away. What is to be deleted stands on disk, under names of
//! its own, and is looked up there: so any number of it costs no memory, and what a process leaves behind
//! is deleted by the next.

use super::super::delete::delete;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const TRASH: &str = ".trash-";

/// Throws away what stands in some folders. Its thread ends with the last handle on it.
#[derive(Debug)]
pub(super) struct Deleter {
    /// Holds one signal: more would say no more.
    call: SyncSender<()>,
}

impl Deleter {
    /// Starts with what an earlier process left in these folders.
    pub(super) fn start(folders: Vec<PathBuf>) -> io::Result<Self> {
        let (call, calls) = sync_channel(1);
        std::thread::Builder::new().name("delete".to_owned()).spawn(move || work(&folders, &calls))?;
        let deleter = Self { call };
        deleter.wake();
        Ok(deleter)
    }

    /// Takes away what stands at `path`, which lies in one of the folders, at once; it is deleted later.
    /// Nothing there is fine.
    pub(super) fn discard(&self, path: &Path) -> io::Result<()> {
        match set_aside(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // Full: a look is due anyway. Gone: the thread has ended with a bug, the next start looks.
        let _ = self.call.try_send(());
    }
}

/// Gives it a name under which it is deleted, by this process or the next.
pub(super) fn set_aside(path: &Path) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let aside = path.with_file_name(format!("{TRASH}{}-{number}", std::process::id()));
        // Another process with the same number may have left it; nobody else makes such names now.
        if fs::symlink_metadata(&aside).is_err() {
            return fs::rename(path, aside);
        }
    }
}

/// Whether the name is that of something to be deleted.
fn is_trash(name: &[u8]) -> bool {
    name.starts_with(TRASH.as_bytes())
}

fn work(folders: &[PathBuf], calls: &Receiver<()>) {
    while calls.recv().is_ok() {
        for folder in folders {
            if let Err(error) = empty(folder) {
                tracing::warn!(folder = %folder.display(), %error, "what is thrown away there stays for now");
            }
        }
    }
}

/// Deletes what lies in the folder to be deleted, one after the other.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_trash(entry.file_name().as_encoded_bytes())
            && let Err(error) = delete(&entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "cannot delete it; the next start tries again");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads() -> usize {
        let named = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let tasks = fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
        tasks.map(named).filter(|name| name.trim() == "delete").count()
    }

    #[test]
    fn any_number_of_folders_is_deleted_by_one_thread() {
        let place = tempfile::tempdir().unwrap();
        let others = threads();
        let deleter = Deleter::start(vec![place.path().to_owned()]).unwrap();
        for number in 0..300 {
            let path = place.path().join(format!("volume-{number}"));
            fs::create_dir_all(path.join("a/b")).unwrap();
            deleter.discard(&path).unwrap();
            assert!(!path.exists());
        }
        // Other tests of this program have such threads, too, each one.
        assert!(threads() < others + 100, "{} and {others}", threads());
        deleter.discard(&place.path().join("none")).unwrap();
        while fs::read_dir(place.path()).unwrap().next().is_some() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_an_earlier_process_left_is_deleted_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join(".trash-1-0/x")).unwrap();
        fs::create_dir_all(place.path().join("kept/x")).unwrap();
        let _deleter = Deleter::start(vec![place.path().to_owned()]).unwrap();
        while place.path().join(".trash-1-0").exists() {
            std::thread::yield_now();
        }
        assert!(place.path().join("kept/x").exists());
    }
}

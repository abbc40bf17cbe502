//! Tells of changes in folders. One inotify instance serves all who ask, because a user may have only few
//! of them (128, where nobody has raised it), whatever rights that user has.

use futures_util::StreamExt as _;
use inotify::{EventMask, EventOwned, Inotify, WatchDescriptor, WatchMask, Watches};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Whoever wants to be told; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Made when somebody asks for the first time.
    instance: Option<Instance>,
    watched: HashMap<WatchDescriptor, watch::Sender<()>>,
}

#[derive(Debug)]
struct Instance {
    watches: Watches,
    listener: JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// One who is told of the changes in one folder.
#[derive(Debug)]
pub(super) struct Watched {
    changes: Changes,
    descriptor: WatchDescriptor,
    receiver: watch::Receiver<()>,
}

impl Changes {
    /// From now on all changes of the files directly in this folder are told.
    pub(super) fn watch(&self, folder: &Path) -> io::Result<Watched> {
        let mut shared = self.shared();
        if shared.instance.as_ref().is_none_or(|instance| instance.listener.is_finished()) {
            shared.watched.clear();
            shared.instance = Some(self.listen()?);
        }
        let Some(instance) = &mut shared.instance else { return Err(io::ErrorKind::NotConnected.into()) };
        // Who watches the same folder has the same descriptor.
        let descriptor = instance.watches.add(folder, WatchMask::CREATE | WatchMask::MODIFY | WatchMask::ONLYDIR)?;
        let receiver = shared.watched.entry(descriptor.clone()).or_default().subscribe();
        Ok(Watched { changes: self.clone(), descriptor, receiver })
    }

    fn listen(&self) -> io::Result<Instance> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let mut events = inotify.into_event_stream(vec![0; 4096])?;
        let shared = Arc::downgrade(&self.shared);
        let listener = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => tell(&shared, &event),
                    Err(error) => {
                        tracing::error!(%error, "changes of logs are not told any more");
                        break;
                    }
                }
            }
            // Whoever waits learns that nothing will come.
            if let Some(shared) = shared.upgrade() {
                lock(&shared).watched.clear();
            }
        });
        Ok(Instance { watches, listener })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(shared: &Weak<Mutex<Shared>>, event: &EventOwned) {
    let Some(shared) = shared.upgrade() else { return };
    let shared = lock(&shared);
    if event.mask.contains(EventMask::Q_OVERFLOW) {
        // Any of them may have been lost.
        shared.watched.values().for_each(|watched| {
            watched.send_replace(());
        });
    } else if let Some(watched) = shared.watched.get(&event.wd) {
        watched.send_replace(());
    }
}

impl Watched {
    /// Waits for a change that was not told yet.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        self.receiver.changed().await.map_err(|_| io::Error::other("changes cannot be told any more"))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut shared = self.changes.shared();
        let last = shared.watched.get(&self.descriptor).is_some_and(|sender| sender.receiver_count() == 1);
        if !last {
            return;
        }
        shared.watched.remove(&self.descriptor);
        if let Some(instance) = &mut shared.instance {
            // Gone already when its folder was removed.
            let _ = instance.watches.remove(self.descriptor.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// More than a user may have inotify instances.
    const MANY: usize = 300;

    #[tokio::test]
    async fn any_number_is_told_of_the_changes_in_its_own_folder() {
        let place = tempfile::tempdir().unwrap();
        let changes = Changes::default();
        let folder = |number: usize| place.path().join(number.to_string());
        let mut watched = Vec::new();
        for number in 0..MANY {
            fs::create_dir(folder(number)).unwrap();
            watched.push(changes.watch(&folder(number)).unwrap());
            watched.push(changes.watch(&folder(number)).unwrap());
        }
        for number in 0..MANY {
            fs::write(folder(number).join("log"), "x").unwrap();
        }
        for one in &mut watched {
            one.changed().await.unwrap();
        }
        // The other one of the same folder is still told when the first one has gone.
        let mut left = watched.pop().unwrap();
        watched.clear();
        assert_eq!(changes.shared().watched.len(), 1);
        fs::write(folder(MANY - 1).join("log"), "y").unwrap();
        left.changed().await.unwrap();
        drop(left);
        assert!(changes.shared().watched.is_empty());
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_said() {
        let place = tempfile::tempdir().unwrap();
        assert!(Changes::default().watch(&place.path().join("none")).is_err());
    }
}

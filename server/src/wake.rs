//! Signals between the parts of the server. A signal says "look again", never what changed: whoever
//! is woken reads everything it decides on from the store. Losing one costs time until the next
//! clock tick, never correctness.
//!
//! What is signalled here is also collected for the other processes of the same database; [`crate::relay`] carries it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

/// How signals are called between processes, in the order of their bits.
const NAMES: [&str; 6] = ["project", "initialize", "run", "finish", "collect", "changed"];
const CHANGED: usize = 5;

/// One signal per loop, and one for those who wait for any change of Runs.
#[derive(Debug)]
pub struct Wake {
    /// New nominations: combinations may be missing.
    pub project: Signal,
    /// New waiting Runs.
    pub initialize: Signal,
    /// Runs to start, or workers to look at.
    pub run: Signal,
    /// Runs whose work is over.
    pub finish: Signal,
    /// Volumes that nothing refers to.
    pub collect: Signal,
    changed: watch::Sender<u64>,
    outgoing: Arc<Outgoing>,
}

/// What one loop waits for.
#[derive(Debug)]
pub struct Signal {
    here: Notify,
    place: usize,
    outgoing: Arc<Outgoing>,
}

impl Signal {
    fn new(place: usize, outgoing: &Arc<Outgoing>) -> Self {
        Self { here: Notify::new(), place, outgoing: Arc::clone(outgoing) }
    }

    /// Wakes the loop, here and in other processes.
    pub fn notify_one(&self) {
        self.here.notify_one();
        self.outgoing.add(self.place);
    }

    /// Waits for the signal; one that came before is not lost.
    pub fn notified(&self) -> Notified<'_> {
        self.here.notified()
    }
}

/// What other processes have not been told yet.
#[derive(Debug, Default)]
struct Outgoing {
    signals: AtomicU8,
    some: Notify,
}

impl Outgoing {
    fn add(&self, place: usize) {
        self.signals.fetch_or(1 << place, Ordering::SeqCst);
        self.some.notify_one();
    }
}

impl Default for Wake {
    fn default() -> Self {
        let outgoing = Arc::default();
        let signal = |place| Signal::new(place, &outgoing);
        Self {
            project: signal(0),
            initialize: signal(1),
            run: signal(2),
            finish: signal(3),
            collect: signal(4),
            changed: watch::Sender::new(0),
            outgoing,
        }
    }
}

impl Wake {
    /// Tells those who wait that some Run or Data changed, here and in other processes.
    pub fn changed(&self) {
        self.changed_here();
        self.outgoing.add(CHANGED);
    }

    fn changed_here(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Follows changes: look, then wait on the receiver, then look again.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until there is something to tell other processes.
    pub(crate) async fn to_tell(&self) {
        self.outgoing.some.notified().await;
    }

    /// The names of the signals that other processes have not been told yet.
    pub(crate) fn take(&self) -> Vec<&'static str> {
        let signals = self.outgoing.signals.swap(0, Ordering::SeqCst);
        NAMES.into_iter().enumerate().filter(|(place, _)| signals & (1 << place) != 0).map(|(_, name)| name).collect()
    }

    /// They could not be told: they are still to be.
    pub(crate) fn put_back(&self, names: &[&str]) {
        for place in (0..NAMES.len()).filter(|place| names.contains(&NAMES[*place])) {
            self.outgoing.add(place);
        }
    }

    /// Signals here what another process has told. Names that are not known come from another version.
    pub(crate) fn hear<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            match NAMES.iter().position(|known| *known == name) {
                Some(0) => self.project.here.notify_one(),
                Some(1) => self.initialize.here.notify_one(),
                Some(2) => self.run.here.notify_one(),
                Some(3) => self.finish.here.notify_one(),
                Some(4) => self.collect.here.notify_one(),
                Some(_) => self.changed_here(),
                None => {}
            }
        }
    }

    /// Something may have been missed: everyone looks again.
    pub(crate) fn hear_all(&self) {
        self.hear(NAMES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn what_is_signalled_is_told_once_and_what_is_heard_is_not_told_on() {
        let (one, other) = (Wake::default(), Wake::default());
        one.project.notify_one();
        one.project.notify_one();
        one.changed();
        let names = one.take();
        assert_eq!(names, ["project", "changed"]);
        assert!(one.take().is_empty());
        one.put_back(&names);
        assert_eq!(one.take(), names);

        let changes = other.subscribe();
        other.hear(["project", "changed", "unheard of"]);
        assert!(other.project.notified().now_or_never().is_some());
        assert!(other.run.notified().now_or_never().is_none());
        assert!(changes.has_changed().unwrap());
        assert!(other.take().is_empty());
    }

    #[test]
    fn every_signal_is_heard_under_its_own_name() {
        let wake = Wake::default();
        for (signal, name) in
            [&wake.project, &wake.initialize, &wake.run, &wake.finish, &wake.collect].into_iter().zip(NAMES)
        {
            wake.hear([name]);
            assert!(signal.notified().now_or_never().is_some(), "{name}");
            signal.notify_one();
            assert_eq!(wake.take(), [name]);
        }
    }
}

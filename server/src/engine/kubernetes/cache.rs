//! What the cluster has of ours, kept up to date by watches: Jobs, Pods, and the Events that speak of them. A change
//! of a worker becomes an [`EngineEvent`]. A watch begins when somebody first asks for what it watches, and is made
//! again, with back-off, whenever it ends.
//!
//! What is read here may be a moment old, and after a broken connection older: it serves to be woken, and to find
//! what belongs to an object of which the API server itself has just told.

use super::client::{Client, Kind, WATCH};
use crate::engine::{EngineError, EngineEvent};
use futures_util::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use knit_api::id::RunId;
use knit_api::label::{MANAGED_BY, MANAGER, WORKER_RUN_ID};
use kube::Resource as _;
use kube::runtime::watcher;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a question waits for the first list of what it asks for.
const FIRST_LIST: Duration = Duration::from_secs(10);
/// The first pause after failures of a watch; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Events that are kept about one object, the last ones.
const EVENTS_OF_ONE: usize = 16;
/// Objects about which Events are kept. The API server forgets Events after an hour; this is for a storm of them.
const SPOKEN_OF: usize = 20_000;

/// The watches of one process. Cheap to clone; they end with the last clone.
#[derive(Clone)]
pub(super) struct Cache(Arc<Inner>);

struct Inner {
    client: Client,
    jobs: Arc<Watched<Named<Job>>>,
    pods: Arc<Watched<Named<Pod>>>,
    events: Arc<Watched<Spoken>>,
    signals: Arc<Signals>,
    ending: CancellationToken,
    _end: DropGuard,
}

impl Cache {
    /// A cache that watches nothing yet.
    pub(super) fn start(client: &Client) -> Self {
        let ending = CancellationToken::new();
        Self(Arc::new(Inner {
            client: client.clone(),
            jobs: Arc::default(),
            pods: Arc::default(),
            events: Arc::default(),
            signals: Arc::default(),
            _end: ending.clone().drop_guard(),
            ending,
        }))
    }

    /// Changes of workers from now on, and freed room whenever a worker ends.
    pub(super) fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let receiver = self.0.signals.subscribe();
        self.watch_jobs();
        self.watch_pods();
        self.watch_events();
        receiver
    }

    /// Gives a sign of this worker now.
    pub(super) fn tell(&self, run: &RunId) {
        self.0.signals.send(EngineEvent::Worker(run.clone()));
    }

    /// Gives a sign of this worker after a while, for what changes by time alone. One at a time for each worker.
    pub(super) fn remind(&self, run: &RunId, after: Duration) {
        if !lock(&self.0.signals.reminders).insert(run.clone()) {
            return;
        }
        let (signals, ending, run) = (Arc::clone(&self.0.signals), self.0.ending.clone(), run.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = ending.cancelled() => {}
                () = tokio::time::sleep(after) => {
                    lock(&signals.reminders).remove(&run);
                    signals.send(EngineEvent::Worker(run));
                }
            }
        });
    }

    /// The Pod of that name.
    pub(super) async fn pod(&self, name: &str) -> Result<Option<Arc<Pod>>, EngineError> {
        self.watch_pods();
        self.0.pods.first_list("Pods").await?;
        Ok(self.0.pods.shelf().0.get(name).cloned())
    }

    /// The Pods that this object owns.
    pub(super) async fn pods_of(&self, owner: &str) -> Result<Vec<Arc<Pod>>, EngineError> {
        self.watch_pods();
        self.0.pods.first_list("Pods").await?;
        Ok(self.0.pods.shelf().0.values().filter(|pod| is_owned_by(pod, owner)).cloned().collect())
    }

    /// The Pods of ours that are so.
    pub(super) async fn pods_that(&self, are: impl Fn(&Pod) -> bool) -> Result<Vec<Arc<Pod>>, EngineError> {
        self.watch_pods();
        self.0.pods.first_list("Pods").await?;
        Ok(self.0.pods.shelf().0.values().filter(|pod| are(pod)).cloned().collect())
    }

    /// What was said of the objects with these UIDs, in the order in which it was heard.
    pub(super) async fn events_about(&self, uids: &[&str]) -> Result<Vec<Arc<Event>>, EngineError> {
        self.watch_events();
        self.0.events.first_list("Events").await?;
        let spoken = self.0.events.shelf();
        Ok(uids.iter().filter_map(|uid| spoken.about.get(*uid)).flatten().cloned().collect())
    }

    /// Waits until `found` makes something of the Pod of that name, which it is shown now and at each change; it is
    /// shown nothing while there is no such Pod. None when the time is over.
    pub(super) async fn wait_for_pod<T>(
        &self,
        name: &str,
        deadline: Instant,
        mut found: impl FnMut(Option<&Pod>) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        self.watch_pods();
        self.0.pods.first_list("Pods").await?;
        Ok(self.0.pods.until(deadline, |pods| found(pods.0.get(name).map(|pod| &**pod))).await)
    }

    /// How many workers there are, as far as this process knows: none yet when it is asked for the first time.
    pub(super) fn workers(&self) -> usize {
        self.watch_jobs();
        self.0.jobs.shelf().0.len()
    }

    fn watch_jobs(&self) {
        let signals = Arc::clone(&self.0.signals);
        self.watch(&self.0.jobs, Some(ours()), move |before, after| signals.of_job(before, after));
    }

    fn watch_pods(&self) {
        let signals = Arc::clone(&self.0.signals);
        self.watch(&self.0.pods, Some(ours()), move |before, after| {
            if let Some(run) = after.or(before).and_then(run_of) {
                signals.send(EngineEvent::Worker(run));
            }
        });
    }

    fn watch_events(&self) {
        let (signals, pods) = (Arc::clone(&self.0.signals), Arc::clone(&self.0.pods));
        self.watch(&self.0.events, None, move |_, event| {
            let Some(about) = event.and_then(|event| event.regarding.as_ref()) else { return };
            let name = about.name.as_deref().unwrap_or_default();
            let run = match about.kind.as_deref() {
                Some("Job") => name.strip_prefix("worker-run-").map(RunId::new),
                // A Pod that is not known yet gives a sign of its own when it is.
                Some("Pod") => pods.shelf().0.get(name).and_then(|pod| run_of(&**pod)),
                _ => None,
            };
            if let Some(run) = run {
                signals.send(EngineEvent::Worker(run));
            }
        });
    }

    /// Begins a watch, unless it has begun.
    fn watch<S: Shelf>(
        &self,
        watched: &Arc<Watched<S>>,
        labels: Option<String>,
        notice: impl Fn(Option<&S::Object>, Option<&S::Object>) + Send + 'static,
    ) where
        S::Object: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        if watched.begun.swap(true, Ordering::AcqRel) {
            return;
        }
        let objects = self.0.client.watched_api();
        let (watched, ending) = (Arc::clone(watched), self.0.ending.clone());
        // Lists, then watches: the other way is unknown to old clusters.
        let config = watcher::Config { label_selector: labels, ..watcher::Config::default().timeout(WATCH) };
        tokio::spawn(async move {
            tokio::select! {
                () = ending.cancelled() => {}
                () = watched.keep_up(watcher(objects, config), notice) => {}
            }
        });
    }
}

/// What is known of one kind, and that it changes.
struct Watched<S> {
    shelf: Mutex<S>,
    begun: AtomicBool,
    /// Counts the changes.
    changes: watch::Sender<u64>,
    /// Whether the first list has come.
    listed: watch::Sender<bool>,
    /// Why the watch does not work at present.
    trouble: Mutex<Option<String>>,
}

impl<S: Default> Default for Watched<S> {
    fn default() -> Self {
        Self {
            shelf: Mutex::default(),
            begun: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            listed: watch::Sender::new(false),
            trouble: Mutex::default(),
        }
    }
}

impl<S: Shelf> Watched<S> {
    fn shelf(&self) -> MutexGuard<'_, S> {
        lock(&self.shelf)
    }

    /// Waits until the first list has come.
    async fn first_list(&self, kind: &str) -> Result<(), EngineError> {
        let mut listed = self.listed.subscribe();
        if tokio::time::timeout(FIRST_LIST, listed.wait_for(|listed| *listed)).await.is_ok() {
            return Ok(());
        }
        let cause = lock(&self.trouble).clone();
        Err(EngineError::Failed {
            what: format!("watching {kind}"),
            cause: cause.unwrap_or_else(|| "the API server does not answer; is it up?".to_owned()),
        })
    }

    /// Shows what there is, now and after each change, until something is found in it or the time is over.
    async fn until<T>(&self, deadline: Instant, mut found: impl FnMut(&S) -> Option<T>) -> Option<T> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let this = found(&self.shelf());
            if this.is_some() {
                return this;
            }
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return None;
            }
        }
    }

    /// Takes in what the watch brings, for ever.
    async fn keep_up(
        &self,
        watch: impl futures_util::Stream<Item = watcher::Result<watcher::Event<S::Object>>>,
        notice: impl Fn(Option<&S::Object>, Option<&S::Object>),
    ) {
        let mut watch = std::pin::pin!(watch);
        let (mut incoming, mut failures) = (S::default(), 0);
        while let Some(event) = watch.next().await {
            match event {
                Ok(event) => {
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!(kind = %S::Object::kind(&()), "the cluster is watched again");
                        *lock(&self.trouble) = None;
                    }
                    self.take_in(event, &mut incoming, &notice);
                }
                Err(error) => {
                    if failures == 0 && !is_routine(&error) {
                        tracing::warn!(kind = %S::Object::kind(&()), %error, "a watch of the cluster has failed; it is made again");
                    }
                    *lock(&self.trouble) = Some(error.to_string());
                    tokio::time::sleep(pause(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    fn take_in(
        &self,
        event: watcher::Event<S::Object>,
        incoming: &mut S,
        notice: &impl Fn(Option<&S::Object>, Option<&S::Object>),
    ) {
        match event {
            watcher::Event::Init => *incoming = S::default(),
            watcher::Event::InitApply(object) => drop(incoming.put(slim(object))),
            watcher::Event::InitDone => {
                let before = std::mem::replace(&mut *self.shelf(), std::mem::take(incoming));
                self.listed.send_replace(true);
                let after = self.shelf().all();
                self.changed();
                let staying: HashSet<_> = after.iter().map(|object| object.meta().uid.clone()).collect();
                for object in &after {
                    notice(before.same(object).as_deref(), Some(object));
                }
                for gone in before.all().iter().filter(|object| !staying.contains(&object.meta().uid)) {
                    notice(Some(gone), None);
                }
            }
            watcher::Event::Apply(object) => {
                let object = slim(object);
                let before = self.shelf().put(Arc::clone(&object));
                self.changed();
                notice(before.as_deref(), Some(&object));
            }
            watcher::Event::Delete(object) => {
                self.shelf().take_away(&object);
                self.changed();
                notice(Some(&object), None);
            }
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

/// How objects of one kind are kept.
trait Shelf: Default + Send + 'static {
    type Object: Kind;

    /// Keeps the object; returns what was in its place.
    fn put(&mut self, object: Arc<Self::Object>) -> Option<Arc<Self::Object>>;
    fn take_away(&mut self, object: &Self::Object);
    /// The same object as it is kept here.
    fn same(&self, object: &Self::Object) -> Option<Arc<Self::Object>>;
    fn all(&self) -> Vec<Arc<Self::Object>>;
}

/// Objects by name.
struct Named<K>(BTreeMap<String, Arc<K>>);

impl<K> Default for Named<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Kind> Shelf for Named<K> {
    type Object = K;

    fn put(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        self.0.insert(object.meta().name.clone().unwrap_or_default(), object)
    }

    fn take_away(&mut self, object: &K) {
        self.0.remove(object.meta().name.as_deref().unwrap_or_default());
    }

    fn same(&self, object: &K) -> Option<Arc<K>> {
        let kept = self.0.get(object.meta().name.as_deref().unwrap_or_default())?;
        (kept.meta().uid == object.meta().uid).then(|| Arc::clone(kept))
    }

    fn all(&self) -> Vec<Arc<K>> {
        self.0.values().cloned().collect()
    }
}

/// Events by the UID of what they speak of.
#[derive(Default)]
struct Spoken {
    about: HashMap<String, VecDeque<Arc<Event>>>,
}

impl Shelf for Spoken {
    type Object = Event;

    fn put(&mut self, event: Arc<Event>) -> Option<Arc<Event>> {
        let uid = regarding(&event).filter(|_| is_of_interest(&event))?.to_owned();
        if self.about.len() >= SPOKEN_OF && !self.about.contains_key(&uid) {
            let any = self.about.keys().next().cloned();
            any.and_then(|any| self.about.remove(&any));
        }
        let said = self.about.entry(uid).or_default();
        let before = said.iter().position(|other| other.metadata.name == event.metadata.name);
        let before = before.and_then(|at| said.remove(at));
        if said.len() >= EVENTS_OF_ONE {
            said.pop_front();
        }
        said.push_back(event);
        before
    }

    fn take_away(&mut self, event: &Event) {
        let Some(uid) = regarding(event) else { return };
        let Some(said) = self.about.get_mut(uid) else { return };
        said.retain(|other| other.metadata.name != event.metadata.name);
        if said.is_empty() {
            self.about.remove(uid);
        }
    }

    fn same(&self, event: &Event) -> Option<Arc<Event>> {
        let said = self.about.get(regarding(event)?)?;
        said.iter().find(|other| other.metadata.uid == event.metadata.uid).cloned()
    }

    fn all(&self) -> Vec<Arc<Event>> {
        self.about.values().flatten().cloned().collect()
    }
}

/// Who is told of changes, and when somebody wants to be reminded.
#[derive(Default)]
struct Signals {
    subscriber: Mutex<Option<mpsc::UnboundedSender<EngineEvent>>>,
    reminders: Mutex<HashSet<RunId>>,
}

impl Signals {
    fn subscribe(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *lock(&self.subscriber) = Some(sender);
        receiver
    }

    /// A subscriber that is gone needs nothing.
    fn send(&self, event: EngineEvent) {
        if let Some(subscriber) = &*lock(&self.subscriber) {
            let _ = subscriber.send(event);
        }
    }

    fn of_job(&self, before: Option<&Job>, after: Option<&Job>) {
        if let Some(run) = after.or(before).and_then(run_of) {
            self.send(EngineEvent::Worker(run));
        }
        let held = before.is_none_or(|job| !has_ended(job));
        let holds = after.is_some_and(|job| !has_ended(job));
        if after.is_none() || (held && !holds) {
            self.send(EngineEvent::Room);
        }
    }
}

/// The Run of a worker's Job or Pod.
pub(super) fn run_of<K: Kind>(object: &K) -> Option<RunId> {
    object.meta().labels.as_ref()?.get(WORKER_RUN_ID).map(RunId::new)
}

/// Whether the Job says that it is complete, or failed.
pub(super) fn has_ended(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")
}

/// Whether nothing of the Pod runs any more, nor will.
pub(super) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the object with this UID owns the Pod.
pub(super) fn is_owned_by(pod: &Pod, uid: &str) -> bool {
    pod.metadata.owner_references.as_deref().unwrap_or_default().iter().any(|owner| owner.uid == uid)
}

/// The names of the volumes that the Pod mounts.
pub(super) fn claims(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// The labels by which everything that the server makes at run time is found.
pub(super) fn ours() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// The UID of what the Event speaks of.
fn regarding(event: &Event) -> Option<&str> {
    event.regarding.as_ref()?.uid.as_deref()
}

/// Events come from everything in the namespace; kept are those of Jobs and Pods with names of ours.
fn is_of_interest(event: &Event) -> bool {
    let Some(about) = &event.regarding else { return false };
    let name = about.name.as_deref().unwrap_or_default();
    matches!(about.kind.as_deref(), Some("Job" | "Pod"))
        && ["worker-run-", "knitid-"].iter().any(|ours| name.starts_with(ours))
}

/// Without what nobody here reads and what is often the larger half.
fn slim<K: Kind>(mut object: K) -> Arc<K> {
    object.meta_mut().managed_fields = None;
    Arc::new(object)
}

/// Whether it is only that the history which a watch wants to continue has expired.
fn is_routine(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

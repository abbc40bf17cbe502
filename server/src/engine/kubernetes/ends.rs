//! Ends of workers as their recorders tell them, at the moment in which they come. The cluster tells of them too, up
//! to seconds later.
//!
//! A worker is followed from when it is first seen to have a recorder until its Pod is gone; then it is forgotten.

use super::cache::{Cache, is_over};
use super::client::{Client, pause};
use super::door::frames::{How, MainEnd};
use super::door::record;
use super::observe::End;
use super::recorder::{Recorder, is_main_gone, runs};
use crate::clock;
use crate::engine::EngineError;
use crate::settings::Cluster;
use k8s_openapi::api::core::v1::Pod;
use knit_api::id::RunId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// How long one question waits for its answer.
const WAIT: Duration = Duration::from_secs(50);
/// How long a recorder may take to tell of an end that the cluster knows of.
const SOON: Duration = Duration::from_secs(5);
/// How long the end of a Pod is awaited at a time.
const POD_GOES: Duration = Duration::from_hours(1);

/// The workers that are followed. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ends(Arc<Inner>);

struct Inner {
    settings: Cluster,
    client: Client,
    cache: Cache,
    /// By the UID of the Pod.
    followed: Mutex<HashMap<String, Followed>>,
}

struct Followed {
    end: Option<End>,
    _task: AbortOnDropHandle<()>,
}

impl Ends {
    pub(super) fn new(settings: &Cluster, client: &Client, cache: &Cache) -> Self {
        let (settings, client, cache) = (settings.clone(), client.clone(), cache.clone());
        Self(Arc::new(Inner { settings, client, cache, followed: Mutex::default() }))
    }

    /// How main in this Pod ended, if its recorder has told it.
    pub(super) fn of(&self, pod: &Pod) -> Option<End> {
        self.followed().get(pod.metadata.uid.as_deref()?)?.end.clone()
    }

    /// The same once the cluster tells that main has ended: its recorder, which knows more, is given a moment to tell.
    pub(super) async fn told(&self, run: &RunId, pod: &Arc<Pod>) -> Option<End> {
        let known = self.of(pod);
        if known.is_some() || !runs(pod) || !is_main_gone(pod) {
            return known;
        }
        match timeout(SOON, self.ask(run, pod)).await {
            Ok(Ok(end)) => end.as_ref().and_then(self::known),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Follows the worker in this Pod, if it has a recorder and is not followed yet. Its end gives a sign.
    pub(super) fn follow(&self, run: &RunId, pod: &Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.clone().filter(|_| runs(pod)) else { return };
        let mut followed = self.followed();
        if followed.contains_key(&uid) {
            return;
        }
        let (inner, run, pod) = (Arc::downgrade(&self.0), run.clone(), Arc::clone(pod));
        let task = tokio::spawn({
            let uid = uid.clone();
            async move {
                // The engine may go while its workers live on.
                let Some(ends) = inner.upgrade().map(Self) else { return };
                ends.see_out(&run, &pod, &uid).await;
                ends.followed().remove(&uid);
            }
        });
        followed.insert(uid, Followed { end: None, _task: AbortOnDropHandle::new(task) });
    }

    /// Stays with the worker until its Pod is gone.
    async fn see_out(&self, run: &RunId, pod: &Pod, uid: &str) {
        let gone = self.until_gone(pod, uid);
        let told = async {
            let mut failures = 0;
            loop {
                match self.ask(run, pod).await {
                    Ok(Some(end)) => return end,
                    Ok(None) => failures = 0,
                    Err(error) => {
                        tracing::debug!(%run, %error, "the recorder of a worker is asked again");
                        tokio::time::sleep(pause(failures)).await;
                        failures += 1;
                    }
                }
            }
        };
        let mut gone = std::pin::pin!(gone);
        tokio::select! {
            end = told => {
                if let Some(followed) = self.followed().get_mut(uid) {
                    followed.end = known(&end);
                }
                self.0.cache.tell(run);
                gone.await;
            }
            () = &mut gone => {}
        }
    }

    async fn ask(&self, run: &RunId, pod: &Pod) -> Result<Option<record::End>, EngineError> {
        let recorder = Recorder::of(run, pod, &self.0.client, &self.0.settings).await?;
        match recorder {
            Some(recorder) => recorder.end(WAIT, false).await,
            None => Err(EngineError::NotFound(format!("the recorder of Run {run}"))),
        }
    }

    async fn until_gone(&self, pod: &Pod, uid: &str) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let gone = |pod: Option<&Pod>| {
            pod.is_none_or(|pod| pod.metadata.uid.as_deref() != Some(uid) || is_over(pod)).then_some(())
        };
        // Without a word of the cluster there is no end to be seen: then it is waited for once more.
        while !matches!(self.0.cache.wait_for_pod(name, clock::deadline(POD_GOES), gone).await, Ok(Some(()))) {
            tokio::time::sleep(pause(u32::MAX)).await;
        }
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<String, Followed>> {
        self.0.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an observation takes into account. None when the first process of main vanished without a word: of that its
/// Pod knows more.
fn known(end: &record::End) -> Option<End> {
    let main: &MainEnd = end.main.as_ref()?;
    let signal = match main.how {
        How::Signalled { signal } => Some(signal),
        How::Exited { .. } | How::NotStarted { .. } => None,
    };
    Some(End { exit: main.exit(&end.notes), signal, oom: main.out_of_memory })
}

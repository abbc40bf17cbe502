//! Workers: one Job for each Run, from its start to its end.
//!
//! A worker is known by its Job's UID, not by its name: a Job that is being deleted is none any more, Pods count only
//! if that Job owns them, and deletions name the UID. Whether there is a Job is asked of the API server each time: a
//! watch may be late, and then the worker of an earlier attempt would be taken for that of this one.

use super::Shared;
use super::cache::{has_ended, is_over, ours, run_of};
use super::client::{Delete, Made};
use super::credentials::Credentials;
use super::objects::{secret, worker};
use super::observe::{Seen, observe};
use crate::clock;
use crate::engine::{EngineError, Observation, Started, Work};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knit_api::id::RunId;
use knit_api::label::{COMPONENT, WORKER_RUN_ID, component, worker_name};
use kube::api::PropagationPolicy;
use kube::runtime::watcher;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the cluster may take to end a worker beyond the worker's own grace: to kill it, to unmount its volumes
/// and to forget it.
const END: Duration = Duration::from_mins(2);
/// How long a Secret of an earlier attempt may take to go.
const SECRET: Duration = Duration::from_secs(10);
/// Added to the instant at which a grace period is over, so that a look then finds it over.
const LITTLE: Duration = Duration::from_millis(100);

/// A worker, as it was found.
pub(super) struct Sight {
    /// Its Job. It is not being deleted.
    pub(super) job: Job,
    /// The Pods of that Job.
    pub(super) pods: Vec<Arc<Pod>>,
    /// What they mean.
    pub(super) seen: Seen,
}

impl Shared {
    pub(super) async fn start(&self, work: &Work) -> Result<Started, EngineError> {
        let name = worker_name(&work.run);
        let job = if let Some(job) = self.client.get::<Job>(&name).await? {
            job
        } else {
            let job = worker::job(work, &self.main_command(work).await?, &self.settings)?;
            // Before the Job: its Pod would wait for it, and for longer than it takes to make it.
            self.unowned_secret(work).await?;
            match self.client.create(&job).await {
                Ok(Made::New(job) | Made::Found(job)) => job,
                Err(error) if error.is_quota() => return Ok(Started::NoRoom { reason: error.cause() }),
                Err(error) => return Err(error.into()),
            }
        };
        if job.metadata.deletion_timestamp.is_some() {
            let reason = format!("the worker of an earlier attempt, Job {name}, is still ending");
            return Ok(Started::NoRoom { reason });
        }
        self.give_secret(work, &job).await?;
        Ok(Started::Accepted)
    }

    pub(super) async fn observe(&self, run: &RunId) -> Result<Observation, EngineError> {
        Ok(self.look(run).await?.map_or(Observation::Absent, |sight| sight.seen.observation))
    }

    /// Looks at the worker of a Run; none if there is none, or if it is being deleted.
    pub(super) async fn look(&self, run: &RunId) -> Result<Option<Sight>, EngineError> {
        let Some(job) = self.client.get::<Job>(&worker_name(run)).await? else { return Ok(None) };
        let Some(uid) = job.metadata.uid.as_deref().filter(|_| job.metadata.deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        let pods = self.pods_of(&job, uid).await?;
        let pod_uids = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref());
        let uids: Vec<&str> = pod_uids.chain([uid]).collect();
        let events = self.cache.events_about(&uids).await?;
        let mut told = None;
        for pod in &pods {
            if told.is_none() {
                told = self.ends.told(run, pod).await;
            }
        }
        let seen = {
            let pods: Vec<&Pod> = pods.iter().map(|pod| &**pod).collect();
            let events: Vec<_> = events.iter().map(|event| &**event).collect();
            observe(Some(&job), &pods, &events, told.as_ref(), self.settings.start_grace, clock::file_time())
        };
        if let Some(again) = seen.again {
            let wait = again.duration_since(clock::file_time()).unwrap_or_default();
            self.cache.remind(run, wait + LITTLE);
        }
        if let Some(pod) = pods.iter().find(|pod| pod.metadata.name == seen.pod) {
            self.ends.follow(run, pod);
        }
        Ok(Some(Sight { job, pods, seen }))
    }

    /// The Pods of a Job: those that the watch has told of. If it cannot be up to date, as the Job is over and none
    /// of its Pods is, the API server is asked.
    async fn pods_of(&self, job: &Job, uid: &str) -> Result<Vec<Arc<Pod>>, EngineError> {
        let known = self.cache.pods_of(uid).await?;
        if !has_ended(job) || known.iter().any(|pod| is_over(pod)) {
            return Ok(known);
        }
        let Some(run) = run_of(job) else { return Ok(known) };
        let mut pods = self.pods_of_run(&run).await?;
        pods.retain(|pod| super::cache::is_owned_by(pod, uid));
        Ok(pods.into_iter().map(Arc::new).collect())
    }

    /// All Pods that were ever made for a Run and are still there, whatever Job made them.
    async fn pods_of_run(&self, run: &RunId) -> Result<Vec<Pod>, EngineError> {
        Ok(self.client.list(&format!("{WORKER_RUN_ID}={run}")).await?)
    }

    /// Ends the worker, politely for `grace` (at most [`worker::TERMINATION_GRACE`]), and waits until none of its Pods
    /// runs any more and its Job is gone.
    pub(super) async fn remove_worker(&self, run: &RunId, grace: Duration) -> Result<(), EngineError> {
        let name = worker_name(run);
        let deadline = clock::deadline(grace + END);
        // Until there is nothing left: the cluster may make a Pod in the very moment in which its Job goes.
        loop {
            let job = self.client.get::<Job>(&name).await?;
            let mut living = self.pods_of_run(run).await?;
            living.retain(|pod| !is_over(pod));
            if job.is_none() && living.is_empty() {
                break;
            }
            if let Some(job) = &job {
                // While Pods live, the Job stays until they are gone: no other server can start anew meanwhile. It
                // makes no Pods any more, not even instead of those that are deleted here.
                let is_done = living.is_empty() && has_ended(job);
                let propagation = if is_done { PropagationPolicy::Background } else { PropagationPolicy::Foreground };
                let uid = job.metadata.uid.clone();
                self.client.delete::<Job>(&name, &Delete { uid, propagation: Some(propagation), grace: None }).await?;
            }
            self.end_pods(run, &living, grace, deadline).await?;
            if let Some(job) = job {
                self.await_job(&name, job, deadline).await?;
            }
        }
        // It goes with its Job, but a start that was cut off leaves one without.
        self.client.delete::<Secret>(&name, &Delete::default()).await?;
        Ok(())
    }

    /// Deletes the Pods and waits until they are gone.
    async fn end_pods(&self, run: &RunId, pods: &[Pod], grace: Duration, deadline: Instant) -> Result<(), EngineError> {
        // With 0 the API server would forget the Pod at once, and its processes would go on.
        let grace = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX).max(1);
        for pod in pods {
            let how = Delete { uid: pod.metadata.uid.clone(), propagation: None, grace: Some(grace) };
            self.client.delete::<Pod>(name_of(&pod.metadata), &how).await?;
        }
        let theirs = watcher::Config::default().labels(&format!("{WORKER_RUN_ID}={run}"));
        let is_theirs = |pod: &Pod| pods.iter().any(|one| one.metadata.uid == pod.metadata.uid) && !is_over(pod);
        if pods.is_empty() || self.client.until_none(theirs, deadline, is_theirs).await {
            return Ok(());
        }
        let pod = name_of(&pods[0].metadata);
        let node = pods[0].spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
        let namespace = &self.settings.namespace;
        Err(EngineError::Failed {
            what: format!("ending the worker of Run {run}"),
            cause: format!(
                "Pod {pod} on {node} has not ended in time; if that node is lost for good, \
                 run `kubectl delete pod {pod} -n {namespace} --force --grace-period=0`"
            ),
        })
    }

    /// Waits until the Job is gone.
    pub(super) async fn await_job(&self, name: &str, job: Job, deadline: Instant) -> Result<(), EngineError> {
        let it = watcher::Config::default().fields(&format!("metadata.name={name}"));
        if self.client.until_none::<Job>(it, deadline, |other| other.metadata.uid == job.metadata.uid).await {
            return Ok(());
        }
        let finalizers = job.metadata.finalizers.unwrap_or_default().join(", ");
        Err(EngineError::Failed {
            what: format!("deleting Job {name}"),
            cause: format!("it is still there; see what keeps it (finalizers: {finalizers})"),
        })
    }

    pub(super) async fn list_workers(&self) -> Result<Vec<RunId>, EngineError> {
        let jobs = self.client.list::<Job>(&format!("{},{COMPONENT}={}", ours(), component::WORKER)).await?;
        Ok(jobs.iter().filter_map(run_of).collect())
    }

    /// Makes sure that there is a Secret for a Job that does not exist yet. One that an earlier Job owns would go
    /// with that one.
    async fn unowned_secret(&self, work: &Work) -> Result<(), EngineError> {
        let name = worker_name(&work.run);
        let wanted = secret_for(work, None)?;
        let Made::Found(found) = self.client.create(&wanted).await? else { return Ok(()) };
        if found.metadata.owner_references.is_none_or(|owners| owners.is_empty())
            && found.metadata.deletion_timestamp.is_none()
        {
            return Ok(());
        }
        let uid = found.metadata.uid;
        self.client.delete::<Secret>(&name, &Delete { uid: uid.clone(), ..Delete::default() }).await?;
        let it = watcher::Config::default().fields(&format!("metadata.name={name}"));
        self.client.until_none::<Secret>(it, clock::deadline(SECRET), |other| other.metadata.uid == uid).await;
        self.client.create(&wanted).await?;
        Ok(())
    }

    /// Makes the Job the owner of its Secret, which may have got lost meanwhile.
    async fn give_secret(&self, work: &Work, job: &Job) -> Result<(), EngineError> {
        let owner = owner(job);
        let merge = json!({ "metadata": { "ownerReferences": [owner] } });
        match self.client.patch::<Secret>(&worker_name(&work.run), &merge).await {
            Err(error) if error.is_not_found() => {
                self.client.create(&secret_for(work, Some(owner))?).await?;
            }
            given => drop(given?),
        }
        Ok(())
    }
}

/// What the recorder of the worker and its callers are to know each other by.
fn secret_for(work: &Work, owner: Option<OwnerReference>) -> Result<Secret, EngineError> {
    let name = worker_name(&work.run);
    let data = Credentials::generate(&name)?.to_secret_data();
    Ok(secret(&name, data, worker::worker_labels(&work.run, &work.plan), owner))
}

fn owner(job: &Job) -> OwnerReference {
    OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: name_of(&job.metadata).to_owned(),
        uid: job.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

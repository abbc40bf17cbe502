//! The end of a worker: its outputs are made final, and it goes.
//!
//! Its recorder makes them final, where it can be asked: when main has ended by itself, and when the worker is ended
//! by request, as far as the grace for that lasts. What it could not make final is left to an agent, once nothing of
//! the worker is left. It is asked for nothing that it did: where a recorder answers, no further Pod is needed.

use super::Shared;
use super::cache::is_over;
use super::client::{Delete, pause};
use super::door::Told;
use super::door::record::Outcomes;
use super::recorder::{Recorder, is_main_gone, runs};
use super::workers::Sight;
use crate::clock;
use crate::engine::{EngineError, Observation, SEALS, Sealed, Volume, one_of_several};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use knit_api::bundle;
use knit_api::id::RunId;
use knit_api::label::worker_name;
use kube::api::PropagationPolicy;
use std::sync::Arc;
use std::time::Duration;

/// How long one question for results waits.
const WAIT: Duration = Duration::from_secs(20);
/// How often a recorder that runs and cannot be reached is asked again.
const ATTEMPTS: u32 = 6;
/// How long the Job may take to go.
const JOB_GOES: Duration = Duration::from_secs(30);
/// How long the end of a Pod is awaited at a time.
const POD_GOES: Duration = Duration::from_hours(1);

type Results = Vec<(Volume, Result<Sealed, EngineError>)>;

impl Shared {
    pub(super) async fn conclude(
        &self,
        run: &RunId,
        outputs: &[Volume],
        grace: Duration,
    ) -> Result<Vec<Result<Sealed, EngineError>>, EngineError> {
        let mut known = if let Some(sight) = self.look(run).await? {
            Box::pin(self.end_of(run, &sight, outputs, grace)).await?
        } else {
            self.remove_worker(run, grace).await?;
            Results::new()
        };
        // Nothing can write into them any more.
        let all = outputs.iter().map(|output| {
            let known = known.iter().position(|(volume, _)| volume == output).map(|at| known.swap_remove(at).1);
            async {
                match known {
                    Some(known) => known,
                    None => self.seal(output).await,
                }
            }
        });
        let sealed: Vec<_> = stream::iter(all.collect::<Vec<_>>()).buffered(SEALS).collect().await;
        sealed.into_iter().map(one_of_several).collect()
    }

    /// Ends the worker; answers what its recorder made final, or what is final because main never started.
    async fn end_of(
        &self,
        run: &RunId,
        sight: &Sight,
        outputs: &[Volume],
        grace: Duration,
    ) -> Result<Results, EngineError> {
        let Some((pod, recorder)) = self.recorder_of(run, sight).await else {
            self.remove_worker(run, grace).await?;
            return Ok(Results::new());
        };
        let is_known = self.ends.of(&pod).is_some();
        if !is_known && matches!(recorder.close().await, Ok(true)) {
            self.dismiss(run, sight).await?;
            return self.untouched(outputs).await;
        }
        if !matches!(sight.seen.observation, Observation::Ended { .. }) {
            // It may take its time to end, and tells its end before its recorder goes, too.
            let (results, removed) =
                tokio::join!(self.results(&recorder, &pod, outputs), self.remove_worker(run, grace));
            removed?;
            return Ok(or_none(run, results));
        }
        match self.results(&recorder, &pod, outputs).await {
            Ok(results) => {
                self.forget_job(run, &sight.job).await?;
                Ok(results)
            }
            lost => {
                self.remove_worker(run, Duration::ZERO).await?;
                Ok(or_none(run, lost))
            }
        }
    }

    /// The recorder of a worker that can be asked, and its Pod.
    async fn recorder_of(&self, run: &RunId, sight: &Sight) -> Option<(Arc<Pod>, Recorder)> {
        let pod = sight.pods.iter().find(|pod| pod.metadata.name == sight.seen.pod && runs(pod))?;
        match Recorder::of(run, pod, &self.client, &self.settings).await {
            Ok(recorder) => Some((Arc::clone(pod), recorder?)),
            Err(error) => {
                tracing::warn!(%run, %error, "a worker ends without its recorder");
                None
            }
        }
    }

    /// What the recorder makes of these volumes, with their manifests kept; then it is let go. Those that it could
    /// not make final, and may be made so by another one, are left out.
    async fn results(&self, recorder: &Recorder, pod: &Pod, outputs: &[Volume]) -> Result<Results, EngineError> {
        let outcomes = tokio::select! {
            outcomes = self.outcomes(recorder, pod) => outcomes?,
            () = self.recorder_gone(pod) => {
                return Err(EngineError::NotFound("a recorder that has told what became of its volumes".to_owned()));
            }
        };
        let mut results = Results::new();
        for (volume, outcome) in outcomes.into_iter().filter(|(volume, _)| outputs.contains(volume)) {
            match outcome {
                Ok(sealed) => {
                    self.keep_manifest(&sealed.digest, recorder.manifest(&sealed.digest).await?).await?;
                    results.push((volume, Ok(sealed)));
                }
                Err(told @ (Told::BadContent { .. } | Told::NotFound { .. })) => {
                    results.push((volume, Err(told.into())));
                }
                Err(told) => tracing::warn!(%volume, ?told, "a volume is left to an agent"),
            }
        }
        if let Err(error) = recorder.done().await {
            tracing::debug!(%error, "a recorder ends by itself");
        }
        Ok(results)
    }

    /// Asks until there is an answer.
    async fn outcomes(&self, recorder: &Recorder, pod: &Pod) -> Result<Outcomes, EngineError> {
        let (mut failures, mut told_gone) = (0, false);
        loop {
            if !told_gone && self.is_main_gone(pod).await? {
                recorder.seal().await?;
                told_gone = true;
            }
            // In between the cluster may tell that main has gone.
            let asked = tokio::select! {
                asked = recorder.end(WAIT, true) => asked,
                () = self.main_gone(pod), if !told_gone => continue,
            };
            match asked.map(|end| end.and_then(|end| end.sealed)) {
                Ok(Some(outcomes)) => return Ok(outcomes),
                Ok(None) => failures = 0,
                Err(error) if failures == ATTEMPTS => return Err(error),
                Err(_) => {
                    tokio::time::sleep(pause(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    async fn is_main_gone(&self, pod: &Pod) -> Result<bool, EngineError> {
        let now = self.cache.pod(pod.metadata.name.as_deref().unwrap_or_default()).await?;
        Ok(now.is_some_and(|now| now.metadata.uid == pod.metadata.uid && is_main_gone(&now)))
    }

    async fn main_gone(&self, pod: &Pod) {
        self.until(pod, |now| now.is_some_and(is_main_gone)).await;
    }

    async fn recorder_gone(&self, pod: &Pod) {
        self.until(pod, |now| now.is_none_or(|now| is_over(now) || !runs(now))).await;
    }

    /// Waits until this Pod, or that it is gone, is so.
    async fn until(&self, pod: &Pod, is: impl Fn(Option<&Pod>) -> bool) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let same = |now: Option<&Pod>| {
            let now = now.filter(|now| now.metadata.uid == pod.metadata.uid);
            is(now).then_some(())
        };
        while !matches!(self.cache.wait_for_pod(name, clock::deadline(POD_GOES), same).await, Ok(Some(()))) {
            tokio::time::sleep(pause(u32::MAX)).await;
        }
    }

    /// Deletes the Job of a worker of which nothing can write any more, and waits until it is gone, so that nobody
    /// takes it for the next one. Its Pod goes by and by.
    async fn forget_job(&self, run: &RunId, job: &Job) -> Result<(), EngineError> {
        let name = worker_name(run);
        let (uid, propagation) = (job.metadata.uid.clone(), Some(PropagationPolicy::Background));
        self.client.delete::<Job>(&name, &Delete { uid, propagation, grace: None }).await?;
        self.await_job(&name, job.clone(), clock::deadline(JOB_GOES)).await
    }

    /// Deletes a worker in which main never started nor ever will, as its recorder has promised. Its Pod is not awaited:
    /// nothing in it writes into outputs, and a node that tries to fetch an image ends it only after a minute.
    async fn dismiss(&self, run: &RunId, sight: &Sight) -> Result<(), EngineError> {
        // First the Job, which would make another Pod.
        self.forget_job(run, &sight.job).await?;
        for pod in &sight.pods {
            let how = Delete { uid: pod.metadata.uid.clone(), propagation: None, grace: Some(1) };
            self.client.delete::<Pod>(pod.metadata.name.as_deref().unwrap_or_default(), &how).await?;
        }
        Ok(())
    }

    /// What volumes come to that nobody has written to.
    async fn untouched(&self, outputs: &[Volume]) -> Result<Results, EngineError> {
        let mut manifest = Vec::new();
        let failed = |cause: bundle::Error| EngineError::Failed {
            what: "making the manifest of an empty volume".to_owned(),
            cause: cause.to_string(),
        };
        let digest = bundle::nothing(&mut manifest).map_err(failed)?.to_string();
        self.keep_manifest(&digest, Box::pin(stream::iter([Ok(manifest.into())]))).await?;
        let sealed = || Sealed { digest: digest.clone(), entries: 0, bytes: 0, left_out: Vec::new() };
        Ok(outputs.iter().map(|output| (output.clone(), Ok(sealed()))).collect())
    }
}

/// A recorder that is lost leaves its work to an agent.
fn or_none(run: &RunId, results: Result<Results, EngineError>) -> Results {
    results.unwrap_or_else(|error| {
        tracing::warn!(%run, %error, "the recorder of a worker has made nothing final; agents do it");
        Results::new()
    })
}

//! The life of a worker, from accepted to ended: its image is prepared, its shim started, its end
//! awaited. One task per worker; all it decides on stands in the worker's folder, so the task of the
//! next server process takes up where this one stopped.

use super::admission::Room;
use super::changes::Changes;
use super::folder::Folder;
use super::images::{ImageProblem, PreparedImage};
use super::native::cgroup::Cgroups;
use super::native::order::{Bind, End, Order, Outcome, file};
use super::native::program::Program;
use super::native::shim::STARTED;
use super::native::{lock, spec};
use super::volumes::Volumes;
use super::{ImageSource, admission};
use crate::clock;
use crate::engine::{EngineError, EngineEvent, Mount, Observation, Work};
use crate::settings::WorkerNetwork;
use knit_api::id::RunId;
use knit_api::problem::in_words;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt as _;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How often an image is asked for when its registry does not answer, with growing pauses between.
const ATTEMPTS: u32 = 5;
/// Processes and threads of one worker: enough for any program, and the end of a fork bomb.
const MOST_PIDS: i64 = 16_384;
/// How long a shim may take to write its result after everything in its container was killed.
const SHIM_GRACE: Duration = Duration::from_secs(20);

/// What all workers of the engine share.
pub(super) struct Shared {
    pub(super) folders: PathBuf,
    pub(super) images: Arc<dyn ImageSource>,
    pub(super) volumes: Volumes,
    pub(super) program: Program,
    pub(super) groups: Cgroups,
    /// Control group above those of the workers.
    pub(super) group: String,
    pub(super) network: WorkerNetwork,
    pub(super) log_limit: u64,
    pub(super) changes: Changes,
    pub(super) capacity: Room,
    pub(super) workers: Mutex<HashMap<RunId, Arc<Worker>>>,
    pub(super) events: Mutex<Option<mpsc::UnboundedSender<EngineEvent>>>,
}

/// One worker, as this process knows it.
pub(super) struct Worker {
    demand: Room,
    seen: watch::Sender<Observation>,
    /// The grace with which it was last asked to end.
    stop: watch::Sender<Option<Duration>>,
    removal: tokio::sync::Mutex<()>,
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its work is accepted; no shim has begun.
    Accepted,
    /// A shim has begun; whether it still lives is to be seen.
    Begun,
}

impl Worker {
    pub(super) fn new(demand: Room) -> Self {
        let seen = Observation::Preparing { reason: "accepted".to_owned() };
        Self {
            demand,
            seen: watch::Sender::new(seen),
            stop: watch::Sender::new(None),
            removal: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn seen(&self) -> Observation {
        self.seen.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Observation> {
        self.seen.subscribe()
    }

    fn has_ended(&self) -> bool {
        matches!(*self.seen.borrow(), Observation::Ended { .. })
    }

    async fn ended(&self) {
        // The sender is this worker's own, so it cannot be gone.
        let _ = self.seen.subscribe().wait_for(|seen| matches!(seen, Observation::Ended { .. })).await;
    }

    async fn asked_to_stop(&self) {
        let _ = self.stop.subscribe().wait_for(Option::is_some).await;
    }
}

/// What workers hold: each from its acceptance until its process has ended.
pub(super) fn held(workers: &HashMap<RunId, Arc<Worker>>) -> Room {
    workers.values().filter(|worker| !worker.has_ended()).fold(Room::default(), |sum, w| sum.plus(w.demand))
}

impl Shared {
    pub(super) fn workers(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn worker(&self, run: &RunId) -> Option<Arc<Worker>> {
        self.workers().get(run).cloned()
    }

    fn tell(&self, event: EngineEvent) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*events {
            // A subscriber that is gone will look at everything when it comes back.
            let _ = sender.send(event);
        }
    }

    fn show(&self, run: &RunId, worker: &Worker, seen: Observation) {
        worker.seen.send_replace(seen);
        self.tell(EngineEvent::Worker(run.clone()));
    }

    /// Control group of this Run's container.
    fn group_of(&self, run: &RunId) -> String {
        format!("{}/{run}", self.group)
    }

    /// Takes up what an earlier process left.
    pub(super) fn take_up(self: &Arc<Self>) -> io::Result<()> {
        for folder in Folder::all(&self.folders)? {
            let run = folder.run();
            let Some(work) = folder.work()? else {
                self.clear(&run)?;
                folder.remove()?;
                continue;
            };
            let demand = admission::demand(&work.resources, &work.on_node).unwrap_or_default();
            let worker = Arc::new(Worker::new(demand));
            self.workers().insert(run.clone(), Arc::clone(&worker));
            if let Some(outcome) = folder.outcome()? {
                self.show(&run, &worker, ended(&outcome, &folder));
                continue;
            }
            let stage = if folder.begun() { Stage::Begun } else { Stage::Accepted };
            tracing::info!(%run, ?stage, "taking up a worker of an earlier process");
            self.spawn(work, folder, worker, stage);
        }
        Ok(())
    }

    /// Brings the worker to its end, in a task of its own.
    pub(super) fn spawn(self: &Arc<Self>, work: Work, folder: Folder, worker: Arc<Worker>, stage: Stage) {
        let shared = Arc::clone(self);
        tokio::spawn(async move { shared.live(&work, &folder, &worker, stage).await });
    }

    async fn live(self: &Arc<Self>, work: &Work, folder: &Folder, worker: &Worker, stage: Stage) {
        let brought = match stage {
            Stage::Accepted => self.bring_up(work, folder, worker).await,
            Stage::Begun => Ok(living_shim(folder).map(|process| Shim { process, child: None })),
        };
        let outcome = match brought {
            Err(outcome) => outcome,
            Ok(shim) => self.see_out(&work.run, folder, worker, shim).await,
        };
        let clearing = self.blocking({
            let run = work.run.clone();
            let (folder, outcome) = (folder.clone(), outcome.clone());
            move |shared| {
                shared.clear(&run)?;
                if folder.outcome()?.is_none() { folder.end(&outcome) } else { Ok(()) }
            }
        });
        if let Err(cause) = clearing.await {
            tracing::error!(run = %work.run, %cause, "cleaning up after a worker");
        }
        let exit = outcome.exit();
        tracing::info!(run = %work.run, code = exit.code, message = %exit.message, "the worker has ended");
        self.show(&work.run, worker, ended(&outcome, folder));
        self.tell(EngineEvent::Room);
    }

    /// From accepted to a running container.
    async fn bring_up(&self, work: &Work, folder: &Folder, worker: &Worker) -> Result<Option<Shim>, Outcome> {
        let order = tokio::select! {
            order = self.prepare(work, worker) => order?,
            () = worker.asked_to_stop() => return Err(Outcome::not_started("it was stopped before it started")),
        };
        let not_started = |what: &str, cause: io::Error| Outcome::not_started(format!("{what}: {cause}"));
        folder.order(&order).map_err(|cause| not_started("the worker's order cannot be written", cause))?;
        self.show(&work.run, worker, Observation::Preparing { reason: "starting the container".to_owned() });
        let mut shim =
            self.start_shim(folder).map_err(|cause| not_started("the worker's shim cannot be started", cause))?;
        if shim.has_started(worker).await {
            self.show(&work.run, worker, Observation::Running { image_digest: order.image_digest });
        }
        Ok(Some(shim))
    }

    async fn prepare(&self, work: &Work, worker: &Worker) -> Result<Order, Outcome> {
        let reason = format!("fetching image {}", work.image);
        self.show(&work.run, worker, Observation::Preparing { reason });
        let image = self.fetch(work, worker).await.map_err(|problem| Outcome::not_started(problem.to_string()))?;
        self.order(work, image).map_err(Outcome::not_started)
    }

    /// The image; a registry that does not answer is asked again, because that often passes.
    async fn fetch(&self, work: &Work, worker: &Worker) -> Result<PreparedImage, ImageProblem> {
        let mut attempt = 1;
        loop {
            match self.images.prepare(&work.image).await {
                Err(problem @ ImageProblem::Unreachable { .. }) if attempt < ATTEMPTS => {
                    tracing::warn!(run = %work.run, attempt, %problem, "fetching an image");
                    let reason = format!("{}; attempt {attempt} of {ATTEMPTS}", in_words(&problem.to_string()));
                    self.show(&work.run, worker, Observation::Preparing { reason });
                    tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    fn order(&self, work: &Work, image: PreparedImage) -> Result<Order, String> {
        let bind = |mount: &Mount| {
            let source = self.volumes.path(&mount.volume);
            if source.is_dir() {
                Ok(Bind { path: mount.path.clone(), source })
            } else {
                Err(format!("the volume {} for {} is not there", mount.volume, mount.path))
            }
        };
        let binds = |mounts: &[Mount]| mounts.iter().map(bind).collect::<Result<Vec<_>, _>>();
        let demand = admission::demand(&work.resources, &work.on_node)?;
        let mut hostname = format!("worker-run-{}", work.run);
        hostname.truncate(63);
        Ok(Order {
            command: spec::command(&work.entrypoint, &work.args, &image.entrypoint, &image.cmd),
            image_digest: image.digest,
            layers: image.layers,
            user: image.user,
            working_dir: image.working_dir,
            env: image.env,
            inputs: binds(&work.inputs)?,
            outputs: binds(&work.outputs)?,
            log: work.log.as_ref().map(|volume| self.volumes.path(volume).join(super::log::FILE)),
            log_limit: self.log_limit,
            cpu_millis: demand.cpu_millis,
            memory_bytes: demand.memory_bytes,
            pids: self.groups.has("pids").then_some(MOST_PIDS),
            cgroup: self.group_of(&work.run),
            host_network: self.network == WorkerNetwork::Host,
            hostname,
        })
    }

    fn start_shim(&self, folder: &Folder) -> io::Result<Shim> {
        let errors = std::fs::File::create(folder.path().join(file::SHIM_ERRORS))?;
        let mut command = Command::from(self.program.command());
        command.arg("shim").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let child = command.spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
        let pid = pid.ok_or_else(|| io::Error::other("it ended at once"))?;
        // Its pid cannot be given to another process while this one has not waited for it.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Shim { process, child: Some(child) })
    }

    /// Waits until no shim is left, and answers how the worker ended.
    async fn see_out(self: &Arc<Self>, run: &RunId, folder: &Folder, worker: &Worker, shim: Option<Shim>) -> Outcome {
        let mut shim = shim;
        loop {
            if let Some(living) = shim.take() {
                if living.child.is_none() {
                    let image_digest = folder.image_digest().unwrap_or_default();
                    self.show(run, worker, Observation::Running { image_digest });
                }
                if let Err(cause) = self.until_gone(run, worker, living).await {
                    tracing::error!(%run, %cause, "waiting for the end of a worker");
                }
            }
            match folder.outcome() {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(cause) => tracing::error!(%run, %cause, "reading how a worker ended"),
            }
            // Ours may have found that a shim of an earlier process was already there.
            let Some(process) = living_shim(folder) else {
                let said = std::fs::read_to_string(folder.path().join(file::SHIM_ERRORS)).unwrap_or_default();
                tracing::error!(%run, said, "the shim vanished");
                return End::Lost.into();
            };
            shim = Some(Shim { process, child: None });
        }
    }

    /// Waits for the end of a shim; ends its container when asked to.
    async fn until_gone(self: &Arc<Self>, run: &RunId, worker: &Worker, shim: Shim) -> io::Result<()> {
        let Shim { process, child } = shim;
        #[expect(unsafe_code, reason = "Tokio cannot know that the descriptor stays open while it is watched")]
        // SAFETY: an `OwnedFd` is open until it is dropped, and always names the same descriptor.
        let process =
            unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }.map_err(io::Error::other)?;
        let mut stop = worker.stop.subscribe();
        stop.mark_changed();
        let mut deadline: Option<Instant> = None;
        let mut killed = false;
        loop {
            tokio::select! {
                ready = process.readable() => {
                    ready?.retain_ready();
                    break;
                }
                // The sender lives in `worker`, so this cannot fail.
                Ok(()) = stop.changed() => {
                    if let Some(grace) = *stop.borrow_and_update() {
                        // It may have ended meanwhile.
                        let _ = pidfd_send_signal(process.get_ref(), Signal::TERM);
                        deadline = Some(clock::deadline(grace));
                    }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(|| clock::deadline(Duration::ZERO))), if deadline.is_some() => {
                    if killed {
                        tracing::error!(%run, "the shim does not end although its container did; ending it");
                        let _ = pidfd_send_signal(process.get_ref(), Signal::KILL);
                        deadline = None;
                    } else {
                        let group = self.group_of(run);
                        if let Err(cause) = self.blocking(move |shared| shared.groups.kill(&group)).await {
                            tracing::error!(%run, %cause, "killing a container");
                        }
                        killed = true;
                        deadline = Some(clock::deadline(SHIM_GRACE));
                    }
                }
            }
        }
        if let Some(mut child) = child {
            child.wait().await?;
        }
        Ok(())
    }

    /// Ends what is left of a container, and removes its control group.
    fn clear(&self, run: &RunId) -> io::Result<()> {
        let group = self.group_of(run);
        self.groups.kill(&group)?;
        self.groups.remove(&group)
    }

    /// See [`crate::engine::Engine::remove_worker`].
    pub(super) async fn remove(self: &Arc<Self>, run: &RunId, grace: Duration) -> Result<(), EngineError> {
        let folder = Folder::of(&self.folders, run)?;
        let worker = self.worker(run);
        // Two removals of one worker go one after the other; the second finds nothing.
        let _one = match &worker {
            Some(worker) => {
                worker.stop.send_replace(Some(grace));
                worker.ended().await;
                Some(worker.removal.lock().await)
            }
            None => None,
        };
        let removing = {
            let (run, folder) = (run.clone(), folder);
            self.blocking(move |shared| {
                shared.clear(&run)?;
                folder.remove()
            })
        };
        removing.await.map_err(|cause| EngineError::Failed {
            what: format!("removing the worker of Run {run}"),
            cause: cause.to_string(),
        })?;
        self.forget(run);
        Ok(())
    }

    /// See [`crate::engine::Engine::tidy`].
    pub(super) async fn tidy(self: &Arc<Self>, before: SystemTime) -> Result<u64, EngineError> {
        let tidying = self.blocking(move |shared| {
            let workers: Vec<RunId> = shared.workers().keys().cloned().collect();
            let mut in_use = HashSet::new();
            for run in &workers {
                let folder = Folder::of(&shared.folders, run).map_err(io::Error::other)?;
                in_use.extend(folder.layers()?);
            }
            shared.images.remove_unused(&in_use, before)
        });
        tidying.await.map_err(|cause| EngineError::Failed {
            what: "removing unpacked images that nobody uses".to_owned(),
            cause: cause.to_string(),
        })
    }

    fn forget(&self, run: &RunId) {
        let known = {
            let mut workers = self.workers();
            let known = workers.remove(run).is_some();
            if workers.is_empty() {
                // Under the lock, so that no worker is starting; what does not go now goes another time.
                let _ = self.groups.remove(&self.group);
            }
            known
        };
        if known {
            self.tell(EngineEvent::Worker(run.clone()));
        }
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&shared)).await.map_err(io::Error::other)?
    }
}

/// A shim that lives, or did a moment ago.
struct Shim {
    process: OwnedFd,
    /// When this process started it, and must therefore wait for it.
    child: Option<Child>,
}

impl Shim {
    /// Waits until the container's program has started, or never will, or is not wanted any more: whoever
    /// sees the worker out then ends a shim that hangs, too.
    async fn has_started(&mut self, worker: &Worker) -> bool {
        // Stays open, so that the shim may say it later.
        let Some(said) = self.child.as_mut().and_then(|child| child.stdout.as_mut()) else { return false };
        let mut words = [0; STARTED.len()];
        tokio::select! {
            read = said.read_exact(&mut words) => read.is_ok() && words == STARTED,
            () = worker.asked_to_stop() => false,
        }
    }
}

/// The process that holds the worker's lock. Its pid is looked up again once there is a handle on it:
/// then the handle cannot be on another process that was given the same pid.
fn living_shim(folder: &Folder) -> Option<OwnedFd> {
    let holder = || lock::holder(&folder.lock()).ok().flatten();
    loop {
        let pid = holder()?;
        let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        match (process, holder()) {
            (Some(process), Some(again)) if again == pid => return Some(process),
            (_, None) => return None,
            _ => {}
        }
    }
}

fn ended(outcome: &Outcome, folder: &Folder) -> Observation {
    Observation::Ended { exit: outcome.exit(), image_digest: folder.image_digest() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shim(script: &str) -> Shim {
        let mut command = Command::new("/bin/sh");
        let child = command.args(["-c", script]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let pid = Pid::from_raw(child.id().unwrap() as i32).unwrap();
        Shim { process: pidfd_open(pid, PidfdFlags::empty()).unwrap(), child: Some(child) }
    }

    #[tokio::test]
    async fn a_shim_that_never_says_that_it_has_started_does_not_hold_up_a_stop() {
        let worker = Worker::new(Room::default());
        worker.stop.send_replace(Some(Duration::ZERO));
        assert!(!shim("exec sleep 600").has_started(&worker).await);
    }

    #[tokio::test]
    async fn a_shim_has_started_when_it_says_so_and_not_when_it_ends_before() {
        let worker = Worker::new(Room::default());
        assert!(shim("echo started; exec sleep 600").has_started(&worker).await);
        assert!(!shim("echo start").has_started(&worker).await);
    }
}

//! Agents: started when bytes are to go in or out, shared by those who read the same Data at one time, kept for a
//! short while in case it is asked for again, and always removed.
//!
//! Whoever uses an agent holds it. When the last one lets go of it, for whatever reason, it is removed; those that a
//! killed server leaves behind end by themselves, and what is left of them is removed with other leftovers.

use super::cache::{Cache, is_over};
use super::client::{Client, Delete, Made};
use super::credentials::Credentials;
use super::dial::{Ask, Door, Reply, Unanswered};
use super::objects::agent::{AgentSpec, Mode, agent_labels, pod};
use super::objects::pod::DOOR_PORT;
use super::objects::secret;
use crate::clock::{self, Stopwatch};
use crate::engine::{ByteStream, EngineError, Volume};
use crate::settings::{Cluster, Reach};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use knit_api::id::DataId;
use knit_api::label::agent_name;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Agents that are filled or sealed at one time; further ones wait.
const WRITERS: usize = 32;
/// How long the cluster may take to end an agent that was told to. On a busy node that takes a while, and a push
/// whose bytes are all there would fail for it.
const END: Duration = Duration::from_mins(2);
/// When to look again whether an agent is there, as long as the cluster cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long an agent may take to be ready: its volumes are bound and mounted, and our image is fetched, meanwhile.
pub(super) const READY: Duration = Duration::from_mins(2);
/// Whatever happens, an agent does not live longer.
const DEADLINE: Duration = Duration::from_hours(48);

/// The agents that this process knows. Cheap to clone.
#[derive(Clone)]
pub(super) struct Agents(Arc<Inner>);

struct Inner {
    settings: Cluster,
    client: Client,
    cache: Cache,
    /// By volume.
    readers: Mutex<HashMap<Volume, Arc<Reader>>>,
    writers: Arc<Semaphore>,
}

/// The one agent that hands out a volume.
#[derive(Default)]
struct Reader {
    /// Locked while an agent is started: others wait for the same.
    agent: tokio::sync::Mutex<Option<Arc<Agent>>>,
    /// How often one was started in vain, and why the last time: who waited meanwhile has the same answer.
    failed: Mutex<(u64, String)>,
    uses: Mutex<Uses>,
}

#[derive(Default)]
struct Uses {
    now: usize,
    ever: u64,
}

/// A ready agent. It is removed when this is dropped.
pub(super) struct Agent {
    agents: Agents,
    name: String,
    door: Door,
    started: Started,
    _room: Option<OwnedSemaphorePermit>,
}

/// The right to use a shared agent.
pub(super) struct Lease {
    agent: Arc<Agent>,
    _use: Use,
}

impl Lease {
    /// What the agent answers, with the agent held until that is read or dropped.
    pub(super) fn stream(self, reply: Reply) -> ByteStream {
        let gone = Box::pin(self.agent.gone());
        Box::pin(stream::unfold(Some((reply.stream(), gone, self)), async |state| {
            let (mut stream, mut gone, lease) = state?;
            tokio::select! {
                biased;
                next = stream.next() => {
                    let next = next?;
                    let rest = next.is_ok().then_some((stream, gone, lease));
                    Some((next, rest))
                }
                error = &mut gone => Some((Err(io::Error::other(error.to_string())), None)),
            }
        }))
    }
}

/// How a Pod stands on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Its door can be tried.
    Running(IpAddr),
    /// Its door is open.
    Ready(IpAddr),
    /// It will never be.
    Over(String),
    /// It is not yet, for this reason.
    Waiting(String),
    /// Nor will it be unless somebody does something about this.
    Stuck(String),
}

/// What was seen of a Pod until it is ready.
struct Way {
    begun: Stopwatch,
    /// Until when it must be there.
    deadline: Instant,
    seen: bool,
    /// What it waits for.
    reason: String,
    /// Until when it may stay stuck, while it is.
    stuck: Option<Instant>,
    /// How long it may.
    grace: Duration,
}

impl Way {
    fn new(grace: Duration) -> Self {
        let reason = "the cluster has not told of it yet".to_owned();
        Self { begun: Stopwatch::start(), deadline: clock::deadline(READY), seen: false, reason, stuck: None, grace }
    }

    /// Takes in how the Pod stands; none while it is not known at all.
    fn look(&mut self, pod: Option<&Pod>) -> Option<Standing> {
        let standing = match pod {
            Some(pod) => standing(pod),
            None if self.seen => Standing::Over("somebody removed it".to_owned()),
            None => return None,
        };
        self.seen = true;
        if let Standing::Waiting(why) | Standing::Stuck(why) = &standing {
            self.reason.clone_from(why);
        }
        let is_stuck = matches!(standing, Standing::Stuck(_));
        self.stuck = is_stuck.then(|| self.stuck.unwrap_or_else(|| clock::deadline(self.grace)));
        Some(standing)
    }
}

impl Agents {
    pub(super) fn new(settings: &Cluster, client: &Client, cache: &Cache) -> Self {
        Self(Arc::new(Inner {
            settings: settings.clone(),
            client: client.clone(),
            cache: cache.clone(),
            readers: Mutex::default(),
            writers: Arc::new(Semaphore::new(WRITERS)),
        }))
    }

    /// Asks an agent that hands out this volume, the one that others use if there is one. If it is dead, another one
    /// is asked instead, once.
    pub(super) async fn ask_reader(
        &self,
        volume: &Volume,
        ask: impl Fn() -> Ask + Send + Sync,
    ) -> Result<(Reply, Lease), EngineError> {
        let first = self.reader(volume).await?;
        let unreached = match first.agent.ask(ask()).await {
            Ok(reply) => return Ok((reply, first)),
            Err(Unanswered::Unreached(error)) => error,
            Err(Unanswered::Failed(error)) => return Err(error),
        };
        tracing::info!(agent = first.agent.name, error = %unreached, "an agent is gone; another one takes its place");
        self.forget(volume, &first.agent).await;
        drop(first);
        let second = self.reader(volume).await?;
        let reply = second.agent.ask(ask()).await?;
        Ok((reply, second))
    }

    /// An agent of the caller's own, which may fill and seal the volume.
    pub(super) async fn writer(&self, volume: &Volume) -> Result<Agent, EngineError> {
        let writers = Arc::clone(&self.0.writers).acquire_owned().await;
        let room = writers.map_err(|error| failed("starting an agent for", volume, &error))?;
        self.start(volume, Mode::Write, Some(room)).await
    }

    /// Lets go of an agent that is only kept in case its volume is asked for again.
    pub(super) async fn release(&self, volume: &Volume) {
        let reader = lock(&self.0.readers).remove(volume);
        let Some(reader) = reader else { return };
        let agent = reader.agent.lock().await.take();
        if let Some(agent) = agent.and_then(Arc::into_inner)
            && let Err(error) = agent.remove().await
        {
            tracing::warn!(%volume, %error, "an agent that nobody uses any more stays for now");
        }
    }

    /// The shared agent of a volume, started if need be.
    async fn reader(&self, volume: &Volume) -> Result<Lease, EngineError> {
        let reader = Arc::clone(lock(&self.0.readers).entry(volume.clone()).or_default());
        let held = Use::new(self, volume, &reader);
        let failures = lock(&reader.failed).0;
        let mut place = reader.agent.lock().await;
        if let Some(agent) = &*place
            && self.lives(agent).await?
        {
            return Ok(Lease { agent: Arc::clone(agent), _use: held });
        }
        *place = None;
        {
            let failed = lock(&reader.failed);
            if failed.0 > failures {
                return Err(self::failed("starting an agent for", volume, &failed.1));
            }
        }
        match self.start(volume, Mode::Read, None).await {
            Ok(agent) => {
                let agent = Arc::new(agent);
                *place = Some(Arc::clone(&agent));
                Ok(Lease { agent, _use: held })
            }
            Err(error) => {
                // What is missing is soon found out again.
                if matches!(error, EngineError::Failed { .. }) {
                    let mut failed = lock(&reader.failed);
                    *failed = (failed.0 + 1, error.to_string());
                }
                Err(error)
            }
        }
    }

    async fn lives(&self, agent: &Agent) -> Result<bool, EngineError> {
        let pod = self.0.cache.pod(&agent.name).await?;
        Ok(pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none() && !is_over(&pod)))
    }

    /// Takes care that nobody else gets this agent.
    async fn forget(&self, volume: &Volume, agent: &Arc<Agent>) {
        let reader = lock(&self.0.readers).get(volume).cloned();
        if let Some(reader) = reader {
            let mut place = reader.agent.lock().await;
            if place.as_ref().is_some_and(|other| Arc::ptr_eq(other, agent)) {
                *place = None;
            }
        }
    }

    /// Starts an agent and waits until its door is open.
    async fn start(
        &self,
        volume: &Volume,
        mode: Mode,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Agent, EngineError> {
        self.check_volume(volume).await?;
        let data = DataId::new(volume.as_str().strip_prefix(Volume::PREFIX).unwrap_or(volume.as_str()));
        let suffix: String = clock::new_id().chars().filter(char::is_ascii_hexdigit).take(10).collect();
        let name = agent_name(&data, mode.as_str(), &suffix);
        let credentials = Credentials::generate(&name)?;
        let spec = AgentSpec { name: name.clone(), volumes: vec![volume.clone()], mode, deadline: DEADLINE };
        let mut way = Way::new(self.0.settings.start_grace);
        let started = Started { agents: self.clone(), name: name.clone(), armed: true };
        let made = self.0.client.create(&pod(&spec, &self.0.settings)).await?;
        let owner = owner_of(&made);
        let data = credentials.to_secret_data();
        self.0.client.create::<Secret>(&secret(&name, data, agent_labels(&spec), owner)).await?;

        let running = |standing: &Standing| !matches!(standing, Standing::Waiting(_) | Standing::Stuck(_));
        let ready = |standing: &Standing| matches!(standing, Standing::Ready(_) | Standing::Over(_));
        let mut found = self.until(&name, &mut way, running).await?;
        if let Some(Standing::Running(ip)) = found {
            // The program opens its door long before the cluster next looks whether it is open.
            let door = self.door(&name, ip, &credentials)?;
            if door.is_there().await {
                return Ok(Agent { agents: self.clone(), name, door, started, _room: room });
            }
            found = self.until(&name, &mut way, ready).await?;
        }
        let what = format!("starting agent {name} for volume {volume}");
        Err(match found {
            Some(Standing::Ready(ip) | Standing::Running(ip)) => {
                let door = self.door(&name, ip, &credentials)?;
                return Ok(Agent { agents: self.clone(), name, door, started, _room: room });
            }
            Some(Standing::Over(cause)) => EngineError::Failed { what, cause },
            Some(Standing::Waiting(_) | Standing::Stuck(_)) | None => {
                let said = self.said_of(&made).await.unwrap_or_default();
                let cause =
                    format!("it is not ready after {} seconds: {}{said}", way.begun.elapsed().as_secs(), way.reason);
                EngineError::Unavailable { what, cause }
            }
        })
    }

    /// Waits until the Pod is so; none when that takes too long, or as long as the Pod may be stuck.
    async fn until(
        &self,
        name: &str,
        way: &mut Way,
        is: fn(&Standing) -> bool,
    ) -> Result<Option<Standing>, EngineError> {
        loop {
            let stuck = way.stuck;
            let deadline = stuck.map_or(way.deadline, |until| until.min(way.deadline));
            let look = |pod: Option<&Pod>| {
                let standing = way.look(pod)?;
                (is(&standing) || way.stuck != stuck).then_some(standing)
            };
            match self.0.cache.wait_for_pod(name, deadline, look).await? {
                Some(standing) if !is(&standing) => {}
                found => return Ok(found),
            }
        }
    }

    /// What the cluster said last of a Pod, to stand behind the reason that it gives.
    async fn said_of(&self, made: &Made<Pod>) -> Option<String> {
        let (Made::New(pod) | Made::Found(pod)) = made;
        let events = self.0.cache.events_about(&[pod.metadata.uid.as_deref()?]).await.ok()?;
        let warning = events.iter().rev().find(|event| event.type_.as_deref() == Some("Warning"))?;
        Some(format!(" ({})", warning.note.as_deref()?))
    }

    /// Refuses a volume that is not there, or is going.
    async fn check_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        let claim = self.0.client.get::<PersistentVolumeClaim>(volume.as_str()).await?;
        match claim {
            Some(claim) if claim.metadata.deletion_timestamp.is_none() => Ok(()),
            _ => Err(EngineError::NotFound(format!("volume {volume}"))),
        }
    }

    fn door(&self, name: &str, ip: IpAddr, credentials: &Credentials) -> Result<Door, EngineError> {
        let pass = credentials.pass()?;
        match self.0.settings.reach {
            Reach::Direct => Door::direct(name, SocketAddr::new(ip, DOOR_PORT), &pass),
            Reach::Forward => Door::forwarded(name, self.0.client.api(), &pass),
        }
    }
}

impl Agent {
    /// Asks it.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Reply, Unanswered> {
        tokio::select! {
            biased;
            answer = self.door.ask(ask) => answer,
            error = self.gone() => Err(Unanswered::Unreached(error)),
        }
    }

    /// Comes back when it is gone, with the error that this is. A machine that dies says no farewell on its
    /// connections.
    fn gone(&self) -> impl Future<Output = EngineError> + Send + use<> {
        let (cache, name) = (self.agents.0.cache.clone(), self.name.clone());
        async move {
            let gone = |pod: Option<&Pod>| pod.is_none_or(is_over).then_some(());
            // As long as the cluster cannot be watched, connections say whether they hold.
            while !matches!(cache.wait_for_pod(&name, clock::deadline(DEADLINE), gone).await, Ok(Some(()))) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let cause = "its Pod is gone: somebody deleted it, or its node is gone".to_owned();
            EngineError::Unavailable { what: format!("asking agent {name}"), cause }
        }
    }

    /// Removes it, and waits until it has ended.
    pub(super) async fn remove(mut self) -> Result<(), EngineError> {
        let gone = remove(&self.agents, &self.name).await;
        if gone.is_ok() {
            self.started.armed = false;
        }
        gone
    }
}

/// A Pod that was asked for, and goes with this.
struct Started {
    agents: Agents,
    name: String,
    armed: bool,
}

impl Drop for Started {
    fn drop(&mut self) {
        // Without a runtime the process is about to end, and the agent follows.
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && self.armed
        {
            let (agents, name) = (self.agents.clone(), self.name.clone());
            runtime.spawn(async move {
                if let Err(error) = remove(&agents, &name).await {
                    tracing::warn!(agent = name, %error, "an agent stays for now; it will end by itself");
                }
            });
        }
    }
}

/// Deletes the Pod of an agent, and waits until it has ended; its Secret goes with it.
async fn remove(agents: &Agents, name: &str) -> Result<(), EngineError> {
    agents.0.client.delete::<Pod>(name, &Delete::default()).await?;
    let ended = |pod: Option<&Pod>| pod.is_none_or(is_over).then_some(());
    match agents.0.cache.wait_for_pod(name, clock::deadline(END), ended).await? {
        Some(()) => Ok(()),
        None => Err(EngineError::Failed {
            what: format!("removing agent {name}"),
            cause: format!("it has not ended within {} seconds", END.as_secs()),
        }),
    }
}

/// One who uses a shared agent.
struct Use {
    agents: Agents,
    volume: Volume,
    reader: Arc<Reader>,
}

impl Use {
    fn new(agents: &Agents, volume: &Volume, reader: &Arc<Reader>) -> Self {
        let mut uses = lock(&reader.uses);
        uses.now += 1;
        uses.ever += 1;
        Self { agents: agents.clone(), volume: volume.clone(), reader: Arc::clone(reader) }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let last = {
            let mut uses = lock(&self.reader.uses);
            uses.now -= 1;
            (uses.now == 0).then_some(uses.ever)
        };
        let (Some(last), Ok(runtime)) = (last, tokio::runtime::Handle::try_current()) else { return };
        let (agents, volume, reader) = (self.agents.clone(), self.volume.clone(), Arc::clone(&self.reader));
        runtime.spawn(async move {
            tokio::time::sleep(agents.0.settings.agent_idle).await;
            let mut readers = lock(&agents.0.readers);
            let unused = lock(&reader.uses).ever == last;
            if unused && readers.get(&volume).is_some_and(|other| Arc::ptr_eq(other, &reader)) {
                // With its last holder the agent is removed.
                readers.remove(&volume);
            }
        });
    }
}

/// What an agent's Secret belongs to.
fn owner_of(made: &Made<Pod>) -> Option<OwnerReference> {
    let (Made::New(pod) | Made::Found(pod)) = made;
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.metadata.name.clone()?,
        uid: pod.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}

/// How the Pod of an agent stands.
fn standing(pod: &Pod) -> Standing {
    let waiting = |why: &str| Standing::Waiting(why.to_owned());
    if pod.metadata.deletion_timestamp.is_some() {
        return Standing::Over("somebody removes it".to_owned());
    }
    let Some(status) = &pod.status else { return waiting("it was not looked at yet") };
    if is_over(pod) {
        let ended = status.container_statuses.iter().flatten().find_map(|one| one.state.as_ref()?.terminated.as_ref());
        let told = [&status.reason, &status.message].into_iter().flatten().cloned().collect::<Vec<_>>();
        return Standing::Over(match ended {
            Some(ended) => format!("its program ended with exit code {}; look at its log", ended.exit_code),
            None => format!("it ended: {}", told.join(": ")),
        });
    }
    let condition = |kind: &str| status.conditions.iter().flatten().find(|one| one.type_ == kind);
    if let Some(unscheduled) = condition("PodScheduled").filter(|one| one.status == "False") {
        return waiting(unscheduled.message.as_deref().unwrap_or("no node takes it"));
    }
    let container = status.container_statuses.iter().flatten().next();
    let state = container.and_then(|one| one.state.as_ref());
    if let Some(held) = state.and_then(|state| state.waiting.as_ref()) {
        let told = [&held.reason, &held.message].into_iter().flatten().cloned().collect::<Vec<_>>();
        let is_usual = matches!(held.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing"));
        return if is_usual { Standing::Waiting(told.join(": ")) } else { Standing::Stuck(told.join(": ")) };
    }
    let address = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
    match (address, state.is_some_and(|state| state.running.is_some())) {
        (Some(ip), true) if container.is_some_and(|one| one.ready) => Standing::Ready(ip),
        (Some(ip), true) => Standing::Running(ip),
        _ => waiting("its node has not started it yet"),
    }
}

/// Whether nobody will use this agent any more.
pub(super) fn is_left(pod: &Pod, now: SystemTime, patience: Duration) -> bool {
    let started = matches!(standing(pod), Standing::Running(_) | Standing::Ready(_));
    let made = pod.metadata.creation_timestamp.as_ref().map(|made| SystemTime::from(made.0));
    let old = made.is_some_and(|made| now.duration_since(made).is_ok_and(|age| age > patience));
    // One that runs ends by itself; one that is being removed goes by itself.
    pod.metadata.deletion_timestamp.is_none() && (is_over(pod) || (!started && old))
}

fn failed(doing: &str, volume: &Volume, cause: &dyn std::fmt::Display) -> EngineError {
    EngineError::Failed { what: format!("{doing} volume {volume}"), cause: cause.to_string() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: &serde_json::Value) -> Pod {
        let made = "2020-01-01T00:00:00Z";
        serde_json::from_value(json!({ "metadata": { "creationTimestamp": made }, "status": status })).unwrap()
    }

    #[test]
    fn how_an_agent_stands_is_told_with_the_reason() {
        let running = |ready: bool| {
            json!([{ "name": "a", "ready": ready, "image": "", "imageID": "", "restartCount": 0,
            "state": { "running": { "startedAt": "2020-01-01T00:00:00Z" } } }])
        };
        let held = json!([{ "name": "a", "ready": false, "image": "", "imageID": "", "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImagePull", "message": "no such host" } } }]);
        let being_made = json!([{ "name": "a", "ready": false, "image": "", "imageID": "", "restartCount": 0,
            "state": { "waiting": { "reason": "ContainerCreating" } } }]);
        let ended = json!([{ "name": "a", "ready": false, "image": "", "imageID": "", "restartCount": 0,
            "state": { "terminated": { "exitCode": 1 } } }]);
        let unscheduled = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 pod has unbound immediate PersistentVolumeClaims." }]);
        let ip: IpAddr = "10.1.2.3".parse().unwrap();
        for (status, expected) in [
            (
                json!({ "phase": "Pending", "conditions": unscheduled }),
                Standing::Waiting(
                    "0/1 nodes are available: 1 pod has unbound immediate PersistentVolumeClaims.".into(),
                ),
            ),
            (
                json!({ "phase": "Pending", "containerStatuses": held }),
                Standing::Stuck("ErrImagePull: no such host".into()),
            ),
            (
                json!({ "phase": "Pending", "containerStatuses": being_made }),
                Standing::Waiting("ContainerCreating".into()),
            ),
            (json!({ "phase": "Pending" }), Standing::Waiting("its node has not started it yet".into())),
            (
                json!({ "phase": "Running", "containerStatuses": running(false) }),
                Standing::Waiting("its node has not started it yet".into()),
            ),
            (
                json!({ "phase": "Running", "podIP": "10.1.2.3", "containerStatuses": running(false) }),
                Standing::Running(ip),
            ),
            (
                json!({ "phase": "Running", "podIP": "10.1.2.3", "containerStatuses": running(true) }),
                Standing::Ready(ip),
            ),
            (
                json!({ "phase": "Failed", "containerStatuses": ended }),
                Standing::Over("its program ended with exit code 1; look at its log".into()),
            ),
            (
                json!({ "phase": "Failed", "reason": "Evicted", "message": "disk pressure" }),
                Standing::Over("it ended: Evicted: disk pressure".into()),
            ),
        ] {
            assert_eq!(standing(&pod(&status)), expected, "{status}");
        }
    }

    #[test]
    fn only_what_nobody_will_use_is_left_behind() {
        let made = SystemTime::UNIX_EPOCH + Duration::from_hours(438_288);
        let patience = Duration::from_mins(1);
        let (soon, late) = (made + patience / 2, made + patience * 2);
        let running = json!({ "phase": "Running", "podIP": "10.1.2.3", "containerStatuses": [{ "name": "a",
            "ready": true, "image": "", "imageID": "", "restartCount": 0, "state": { "running": {} } }] });
        for (status, now, expected) in [
            (json!({ "phase": "Succeeded" }), soon, true),
            (json!({ "phase": "Failed" }), soon, true),
            (json!({ "phase": "Pending" }), soon, false),
            (json!({ "phase": "Pending" }), late, true),
            (running, late, false),
        ] {
            assert_eq!(is_left(&pod(&status), now, patience), expected, "{status}");
        }
    }
}

//! What belongs to one worker, and what stands where in it.

use super::End;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodCondition, PodStatus,
};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use std::time::{Duration, SystemTime};

/// How long the watches of Pods and Events may be apart: a Pod of which an Event tells may not be seen before.
const APART: Duration = Duration::from_secs(10);
/// How its Job says in an Event that it made a Pod.
const CREATED: &str = "SuccessfulCreate";
const CREATED_POD: &str = "Created pod: ";

/// Everything that is known of one worker.
pub(super) struct Facts<'a> {
    pub(super) job: &'a Job,
    /// The first Pod of its Job.
    pub(super) pod: Option<&'a Pod>,
    /// Its Job made a Pod before that one, and it is gone.
    pub(super) replaced: Option<&'a str>,
    /// Its Job made a Pod that is not seen: until then that may be for the watch of Pods being late.
    pub(super) unseen_until: Option<SystemTime>,
    events: Vec<&'a Event>,
    pub(super) known_end: Option<&'a End>,
    pub(super) grace: Duration,
    pub(super) now: SystemTime,
}

impl<'a> Facts<'a> {
    pub(super) fn of(
        job: &'a Job,
        pods: &[&'a Pod],
        events: &[&'a Event],
        known_end: Option<&'a End>,
        grace: Duration,
        now: SystemTime,
    ) -> Self {
        let uid = job.metadata.uid.as_deref();
        let own = |pod: &&&Pod| {
            let mut owners = pod.metadata.owner_references.iter().flatten();
            owners.any(|owner| Some(owner.uid.as_str()) == uid)
        };
        let pods: Vec<&Pod> = pods.iter().filter(own).copied().collect();
        let about = |event: &&&Event| {
            let whom = event.regarding.as_ref().and_then(|whom| whom.uid.as_deref());
            whom.is_some() && (whom == uid || pods.iter().any(|pod| pod.metadata.uid.as_deref() == whom))
        };
        let mut events: Vec<&Event> = events.iter().filter(about).copied().collect();
        events.sort_by_key(|event| last_time(event));
        let first = |pod: &&&Pod| {
            let metadata = &pod.metadata;
            let made = metadata.creation_timestamp.as_ref().map(|time| time.0);
            (made, metadata.deletion_timestamp.is_none(), metadata.name.clone())
        };
        let pod = pods.iter().min_by_key(first).copied();
        let mut facts = Self { job, pod, replaced: None, unseen_until: None, events, known_end, grace, now };
        facts.look_for_others(&pods);
        facts
    }

    /// Looks for Pods that were made and are not there.
    fn look_for_others(&mut self, pods: &[&Pod]) {
        let made = self.about_job().filter(|event| event.reason.as_deref() == Some(CREATED));
        let unseen = made.filter_map(|event| {
            let name = event.note.as_deref()?.strip_prefix(CREATED_POD)?;
            let seen = pods.iter().any(|pod| pod.metadata.name.as_deref() == Some(name));
            (!seen).then_some((name, first_time(event)))
        });
        let Some((name, made)) = unseen.min_by_key(|(_, made)| *made) else { return };
        let later = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().is_some_and(|time| time.0 > made);
        let late_until = SystemTime::from(made) + APART;
        if self.pod.is_some_and(later) || self.now >= late_until {
            self.replaced = Some(name);
        } else {
            self.unseen_until = Some(late_until);
        }
    }

    /// Events about its Job, the oldest first.
    pub(super) fn about_job(&self) -> impl DoubleEndedIterator<Item = &'a Event> + use<'a, '_> {
        self.about(self.job.metadata.uid.as_deref())
    }

    /// Events about its Pod, those about containers too; the oldest first.
    pub(super) fn about_pod(&self) -> impl DoubleEndedIterator<Item = &'a Event> + use<'a, '_> {
        self.about(self.pod.and_then(|pod| pod.metadata.uid.as_deref()))
    }

    fn about<'b>(&'b self, uid: Option<&'b str>) -> impl DoubleEndedIterator<Item = &'a Event> + use<'a, 'b> {
        let regards = move |event: &&'a Event| {
            let whom = event.regarding.as_ref().and_then(|whom| whom.uid.as_deref());
            whom.is_some() && whom == uid
        };
        self.events.iter().copied().filter(regards)
    }

    /// Events about one container of its Pod, the oldest first.
    pub(super) fn about_container<'b>(
        &'b self,
        name: &'b str,
    ) -> impl DoubleEndedIterator<Item = &'a Event> + use<'a, 'b> {
        self.about_pod().filter(move |event| {
            let field = event.regarding.as_ref().and_then(|whom| whom.field_path.as_deref());
            let named = field.and_then(|field| field.split_once('{')).map(|(_, name)| name.trim_end_matches('}'));
            named == Some(name)
        })
    }

    /// What its Pod says.
    pub(super) fn status(&self) -> Option<&'a PodStatus> {
        self.pod?.status.as_ref()
    }

    /// How a container stands, one that runs before the others too.
    pub(super) fn container(&self, name: &str) -> Option<&'a ContainerStatus> {
        let status = self.status()?;
        let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        all.into_iter().find(|one| one.name == name)
    }

    /// A condition of its Pod, whatever it says.
    pub(super) fn condition(&self, kind: &str) -> Option<&'a PodCondition> {
        self.status()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
    }

    /// What its Pod says of why it is over.
    pub(super) fn pod_reason(&self) -> (&'a str, &'a str) {
        let status = self.status();
        let text = |field: Option<&'a String>| field.map_or("", String::as_str).trim();
        (
            text(status.and_then(|status| status.reason.as_ref())),
            text(status.and_then(|status| status.message.as_ref())),
        )
    }

    /// The node that has its Pod, for a sentence.
    pub(super) fn node(&self) -> String {
        let node = self.pod.and_then(|pod| pod.spec.as_ref()).and_then(|spec| spec.node_name.as_ref());
        node.map_or_else(|| "its node".to_owned(), |node| format!("node {node}"))
    }
}

/// Whether the Job has a condition of this kind that holds, and what it says.
pub(super) fn condition_of_job<'a>(job: &'a Job, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = job.status.as_ref()?.conditions.iter().flatten();
    let held = conditions.into_iter().find(|one| one.type_ == kind && one.status == "True")?;
    Some((held.reason.as_deref().unwrap_or(""), held.message.as_deref().unwrap_or("")))
}

/// Whether the Pod will not run anything any more.
pub(super) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn state(container: &ContainerStatus) -> Option<&ContainerState> {
    container.state.as_ref()
}

pub(super) fn is_running(container: &ContainerStatus) -> bool {
    state(container).is_some_and(|state| state.running.is_some())
}

pub(super) fn is_terminated(container: &ContainerStatus) -> bool {
    terminated(container).is_some()
}

pub(super) fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    state(container)?.terminated.as_ref()
}

/// Why a container waits, and what is said about it.
pub(super) fn waits_for(container: &ContainerStatus) -> Option<(&str, &str)> {
    let ContainerStateWaiting { reason, message } = state(container)?.waiting.as_ref()?;
    Some((reason.as_deref().unwrap_or(""), message.as_deref().unwrap_or("")))
}

/// When that happened first.
pub(super) fn first_time(event: &Event) -> Timestamp {
    let first = event.deprecated_first_timestamp.as_ref().map(|time| time.0);
    let time = first.or_else(|| event.event_time.as_ref().map(|time| time.0));
    time.or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0)).unwrap_or_default()
}

/// When that happened last.
pub(super) fn last_time(event: &Event) -> Timestamp {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let last = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    series.max(last).unwrap_or_else(|| first_time(event)).max(first_time(event))
}

pub(super) fn is_warning(event: &Event) -> bool {
    event.type_.as_deref() == Some("Warning")
}

pub(super) fn note(event: &Event) -> &str {
    event.note.as_deref().unwrap_or("")
}

/// The digest in the name by which the container runtime calls an image: `NAME@sha256:…`, with a scheme before it or
/// without, or the digest alone for an image that came from no registry.
pub(super) fn image_digest(image_id: &str) -> Option<String> {
    let name = image_id.rsplit_once("://").map_or(image_id, |(_, name)| name);
    let digest = name.rsplit_once('@').map_or(name, |(_, digest)| digest);
    digest.starts_with("sha256:").then(|| digest.to_owned())
}

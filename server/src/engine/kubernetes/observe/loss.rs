//! What took a worker's Pod away: somebody, the scheduler, its node, or a limit.

use super::ended;
use super::facts::{Facts, first_time, image_digest, is_over, is_running, is_terminated, note};
use crate::engine::Observation;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use knit_api::label::container;
use knit_api::run::{Exit, exit_code};

/// A Pod that is no worker's any more, though main did not end by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// Why, and what to do about it.
    message: String,
    /// Since when, as far as that is told.
    pub(super) since: Option<Timestamp>,
}

impl Loss {
    /// What that makes of the worker: one that never started, or one that is lost.
    pub(super) fn observation(self, facts: &Facts<'_>) -> Observation {
        let main = facts.container(container::MAIN);
        // Of a Pod that is gone nobody can tell that main had not begun.
        let gone = facts.replaced.is_some();
        let began = gone || main.is_some_and(|main| is_running(main) || is_terminated(main)) || untold(facts);
        let code = if began { exit_code::LOST } else { exit_code::NOT_STARTED };
        let digest = main.and_then(|main| image_digest(&main.image_id));
        ended(Exit { code, message: self.message }, digest)
    }
}

/// Whether nothing is told of containers though there were some: older kubelets forget them when they evict.
fn untold(facts: &Facts<'_>) -> bool {
    let told = facts.status().is_some_and(|status| status.container_statuses.is_some());
    !told && facts.about_container(container::MAIN).any(|event| event.reason.as_deref() == Some("Started"))
}

/// The loss of the Pod, if it is lost.
pub(super) fn of(facts: &Facts<'_>, pod: &Pod) -> Option<Loss> {
    if let Some(first) = facts.replaced {
        let message = format!("its Pod {first} is gone: somebody deleted it, or its node is gone; retry it");
        return Some(Loss { message, since: Some(Timestamp::MIN) });
    }
    let since = asked_to_go(pod);
    if since.is_none() && !is_over(pod) && !is_unreachable(facts) {
        return None;
    }
    let cause = preempted(facts).or_else(|| node_lost(facts)).or_else(|| over_by_reason(facts));
    let cause = cause.or_else(|| since.map(|_| deleted(facts)));
    let (message, told) = cause.or_else(|| over_without_reason(facts))?;
    Some(Loss { message, since: since.or(told) })
}

/// When the Pod was asked to go, if it was: its time stamp is when it must be gone.
fn asked_to_go(pod: &Pod) -> Option<Timestamp> {
    let by = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    Some(by.checked_sub(SignedDuration::from_secs(grace)).unwrap_or(by))
}

/// Whether nobody hears of the Pod any more.
fn is_unreachable(facts: &Facts<'_>) -> bool {
    let phase = facts.status().and_then(|status| status.phase.as_deref());
    phase == Some("Unknown") || facts.pod_reason().0 == "NodeLost"
}

type Cause = (String, Option<Timestamp>);

/// The reason for which the cluster itself says that it ends the Pod, newer versions only.
fn disruption<'a>(facts: &Facts<'a>) -> Option<(&'a str, &'a str)> {
    let condition = facts.condition("DisruptionTarget").filter(|condition| condition.status == "True")?;
    Some((condition.reason.as_deref().unwrap_or(""), condition.message.as_deref().unwrap_or("")))
}

/// The newest Event about the Pod with one of these reasons.
fn told<'a>(facts: &Facts<'a>, reasons: &[&str]) -> Option<(&'a str, Timestamp)> {
    let mut events = facts.about_pod().rev();
    let event = events.find(|event| event.reason.as_deref().is_some_and(|reason| reasons.contains(&reason)))?;
    Some((note(event), first_time(event)))
}

fn preempted(facts: &Facts<'_>) -> Option<Cause> {
    let event = told(facts, &["Preempted", "Preempting"]);
    let by_scheduler = disruption(facts).filter(|(reason, _)| *reason == "PreemptionByScheduler");
    let by_kubelet = facts.pod_reason().0.starts_with("Preempt");
    let said = event.map(|(note, _)| note).or(by_scheduler.map(|(_, message)| message));
    let said = said.or_else(|| by_kubelet.then(|| facts.pod_reason().1))?;
    let message = format!(
        "its Pod was preempted on {}: what is more important needed the place{}; retry it, or let the administrator \
         give workers a higher priority class",
        facts.node(),
        quoted(said)
    );
    Some((message, event.map(|(_, at)| at)))
}

fn node_lost(facts: &Facts<'_>) -> Option<Cause> {
    let event = told(facts, &["TaintManagerEviction", "NodeControllerEviction"]);
    // A node that came back in time.
    let event = event.filter(|(note, _)| !note.starts_with("Cancelling"));
    let by_controller = disruption(facts).filter(|(reason, _)| matches!(*reason, "DeletionByTaintManager"));
    let (reason, said) = facts.pod_reason();
    let said = match (by_controller, event) {
        _ if is_unreachable(facts) => said,
        (Some((_, message)), _) => message,
        (None, Some((note, _))) => note,
        (None, None) if reason == "NodeLost" => said,
        _ => return None,
    };
    let message = format!(
        "{} was lost: it does not answer, or it was closed to running Pods{}; retry it, it goes to another node",
        facts.node(),
        quoted(said)
    );
    Some((message, event.map(|(_, at)| at)))
}

/// What the Pod itself says of why it is over.
fn over_by_reason(facts: &Facts<'_>) -> Option<Cause> {
    let (reason, said) = facts.pod_reason();
    let (node, said) = (facts.node(), quoted(said));
    let message = match reason {
        "" => return None,
        "Evicted" => format!(
            "its Pod was evicted from {node}, which ran short of something or limits it{said}; let the Plan ask for as \
             much as it uses, then retry it"
        ),
        "DeadlineExceeded" => {
            format!("its deadline is exceeded: the cluster limits how long a Pod may run{said}; ask its administrator")
        }
        "Shutdown" | "NodeShutdown" | "Terminated" => format!("{node} is being shut down{said}; retry it"),
        _ => format!("{node} did not take its Pod, or gave it up, for the reason {reason}{said}; retry it"),
    };
    Some((message, told(facts, &[reason]).map(|(_, at)| at)))
}

fn deleted(facts: &Facts<'_>) -> Cause {
    let why = disruption(facts).map_or_else(String::new, |(_, message)| quoted(message));
    let name = facts.pod.and_then(|pod| pod.metadata.name.as_deref()).unwrap_or("");
    let message =
        format!("its Pod {name} was deleted{why}: by somebody, or as {} is being drained; retry it", facts.node());
    (message, None)
}

/// A Pod that is over, and neither it nor main tells why.
fn over_without_reason(facts: &Facts<'_>) -> Option<Cause> {
    let ended = |name| facts.container(name).is_some_and(is_terminated);
    // Then there is more to tell than that.
    let explained = [container::MAIN, container::CHECK_OUTPUTS, container::CHECK_LOG, container::RECORDER];
    let silent = !explained.into_iter().any(ended);
    silent.then(|| (format!("its Pod ended on {}, and nothing tells how; retry it", facts.node()), None))
}

fn quoted(said: &str) -> String {
    let said = said.trim().trim_end_matches('.');
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

//! A Pod whose main has not started: what it waits for.

use super::Outlook;
use super::facts::{Facts, first_time, is_warning, last_time, note, waits_for};
use super::nodes;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use knit_api::label::container;
use std::time::SystemTime;

/// Containers in the order in which they start.
const IN_ORDER: [&str; 4] = [container::CHECK_OUTPUTS, container::CHECK_LOG, container::RECORDER, container::MAIN];

pub(super) fn look(facts: &Facts<'_>, pod: &Pod) -> Outlook {
    if let Some(refusal) = facts.condition("PodScheduled").filter(|condition| condition.status == "False") {
        return Outlook::preparing(nodes::none_takes_it(refusal.message.as_deref().unwrap_or(""), pod));
    }
    let all = IN_ORDER.into_iter().filter_map(|name| facts.container(name));
    if let Some(outlook) = all.into_iter().find_map(|one| in_trouble(facts, one)) {
        return outlook;
    }
    if facts.status().and_then(|status| status.container_statuses.as_ref()).is_none() {
        let spec = pod.spec.as_ref();
        let given = spec.is_some_and(|spec| spec.node_name.is_some());
        return Outlook::preparing(if given { "its Pod is being started" } else { "its Pod is being given to a node" });
    }
    Outlook::preparing(
        mounting(facts).or_else(|| fetching(facts)).unwrap_or_else(|| "its container is being made".into()),
    )
}

/// A container that cannot start as things are.
fn in_trouble(facts: &Facts<'_>, waiting: &ContainerStatus) -> Option<Outlook> {
    let (reason, said) = waits_for(waiting)?;
    let image = whose(waiting);
    match reason {
        "InvalidImageName" => {
            let said = said.split_once("couldn't parse image reference").map_or(said, |(_, why)| why);
            let why =
                said.rsplit_once(": invalid reference format").map_or(said, |(_, why)| why.trim_matches([':', ' ']));
            let why = if why.is_empty() { "invalid reference format" } else { why };
            Some(Outlook::never_started(format!(
                "image {image} is unusable: its name is none ({why}); correct the Plan"
            )))
        }
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ErrImageNeverPull" | "ImageInspectError" => {
            let trouble = unfetched(&image, &why_unfetched(facts, waiting, said));
            Some(Outlook::in_trouble(facts, since(facts, waiting), trouble))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "CreatePodSandboxError" => {
            let name = &waiting.name;
            let trouble = format!("container {name} cannot be made ({reason}): {said}");
            Some(Outlook::in_trouble(facts, since(facts, waiting), trouble))
        }
        _ => None,
    }
}

/// The image of a container, and whose it is when it is not the Plan's.
fn whose(waiting: &ContainerStatus) -> String {
    match waiting.name.as_str() {
        container::MAIN => waiting.image.clone(),
        _ => format!("{} of Knit itself", waiting.image),
    }
}

/// Since when a container is in trouble: its first Event that warns, else when it was its turn.
fn since(facts: &Facts<'_>, waiting: &ContainerStatus) -> SystemTime {
    let warned = facts.about_container(&waiting.name).filter(|event| is_warning(event)).map(first_time).min();
    let turn = facts.condition("Initialized").or_else(|| facts.condition("PodScheduled"));
    let turn = turn.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
    warned.or(turn).map_or(facts.now, SystemTime::from)
}

/// The cause of a failed fetch. While the node waits before it tries again, only an Event tells it.
fn why_unfetched(facts: &Facts<'_>, waiting: &ContainerStatus, said: &str) -> String {
    const FAILED: &str = "Failed to pull image";
    let told = facts.about_container(&waiting.name).rev().map(note).find(|note| note.starts_with(FAILED));
    let cause = match told {
        Some(note) if said.is_empty() || said.starts_with("Back-off") => {
            note.split_once("\": ").map_or(note, |(_, cause)| cause)
        }
        _ => said,
    };
    innermost(cause, &waiting.image).to_owned()
}

/// Each layer of the container runtime puts the name of the image before what the last one said.
fn innermost<'a>(cause: &'a str, image: &str) -> &'a str {
    let quoted = format!("\"{image}\": ");
    let cause = cause.rsplit_once(quoted.as_str()).map_or(cause, |(_, inner)| inner);
    let cause = cause.rsplit_once(" desc = ").map_or(cause, |(_, inner)| inner);
    cause.strip_prefix(image).map_or(cause, |rest| rest.trim_start_matches([':', ' ']))
}

/// In the words that tell causes apart for a person: see `rules::why`.
fn unfetched(image: &str, cause: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|word| cause.to_ascii_lowercase().contains(word));
    if says(&["401", "403", "unauthorized", "forbidden", "authorization", "denied"]) {
        format!(
            "image {image} cannot be fetched: its registry does not let the node in, or has no such image ({cause}); \
             the administrator gives the namespace's service account an image pull secret"
        )
    } else if says(&["no match for platform", "no matching manifest"]) {
        format!("image {image} is unusable: it is not made for the node's kind of machine ({cause})")
    } else if says(&["not found", "manifest unknown", "does not exist", "404"]) {
        format!("image {image} is not there: its registry has none of that name ({cause})")
    } else {
        format!("image {image} cannot be fetched: {cause}")
    }
}

/// What is wrong with the Pod as a whole, if that is the last that was said of it: volumes, most of all.
fn mounting(facts: &Facts<'_>) -> Option<String> {
    let newest = facts.about_pod().max_by_key(|event| (last_time(event), is_warning(event)))?;
    let what = match newest.reason.as_deref().filter(|_| is_warning(newest))? {
        "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => "a volume cannot be mounted yet",
        "FailedCreatePodSandBox" | "FailedCreatePodContainer" => "its Pod cannot be set up yet",
        "FailedScheduling" | "Failed" | "BackOff" => return None,
        _ => "its Pod waits",
    };
    Some(format!("{what} on {}: {}; it is tried again", facts.node(), note(newest)))
}

/// Which image is being fetched, if that is what goes on. Until it is there, a node may tell nothing of the containers
/// that it has started before.
fn fetching(facts: &Facts<'_>) -> Option<String> {
    let last = facts.about_pod().max_by_key(|event| last_time(event))?;
    let fetched = |one: &&ContainerStatus| facts.about_container(&one.name).any(|event| std::ptr::eq(event, last));
    let whom = IN_ORDER.into_iter().filter_map(|name| facts.container(name)).find(fetched)?;
    (last.reason.as_deref() == Some("Pulling")).then(|| format!("fetching image {}", whose(whom)))
}

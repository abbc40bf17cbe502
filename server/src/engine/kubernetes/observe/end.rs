//! How a worker's containers ended.

use super::facts::{Facts, image_digest, terminated};
use super::loss::Loss;
use super::{End, ended};
use crate::engine::Observation;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use knit_api::label::container;
use knit_api::run::{Exit, exit_code};

/// SIGKILL.
const KILLED: i32 = 9;
/// What kubelet says of a container that was ended for want of memory.
const OUT_OF_MEMORY: &str = "OOMKilled";

/// How main ended, if it did, and if it was its own end: one that the loss of its Pod brought about tells nothing, and
/// a program that ends well when it is asked to end has not done its work.
pub(super) fn of_main(facts: &Facts<'_>, loss: Option<&Loss>) -> Option<Observation> {
    let main = facts.container(container::MAIN);
    let told = main.and_then(terminated);
    let before = |loss: &Loss| told.is_some_and(|told| ended_before(told, loss));
    if loss.is_some_and(|loss| !before(loss)) {
        return None;
    }
    let digest = main.and_then(|main| image_digest(&main.image_id));
    let exit = match (facts.known_end, told) {
        (Some(end), told) => known(facts, end, told)?,
        (None, Some(told)) if never_ran(told) => return Some(ended(not_executed(main, told), digest)),
        (None, Some(told)) => unless_log_is_lost(facts, reported(facts, told)),
        (None, None) => return None,
    };
    Some(ended(exit, digest))
}

/// Whether the container ended before its Pod was lost, to the second in which both are told.
fn ended_before(told: &ContainerStateTerminated, loss: &Loss) -> bool {
    told.finished_at.as_ref().is_some_and(|finished| loss.since.is_some_and(|since| finished.0 < since))
}

/// What the recorder told. Why main was killed only its Pod tells, which comes later.
fn known(facts: &Facts<'_>, end: &End, told: Option<&ContainerStateTerminated>) -> Option<Exit> {
    if end.oom || end.signal != Some(KILLED) {
        return Some(end.exit.clone());
    }
    let exit = match told?.reason.as_deref() {
        Some(OUT_OF_MEMORY) => out_of_memory(facts, end.exit.code),
        _ => end.exit.clone(),
    };
    Some(exit)
}

/// What kubelet told: main's first process ends with the code of the program.
fn reported(facts: &Facts<'_>, told: &ContainerStateTerminated) -> Exit {
    let code = code(told);
    match told.reason.as_deref() {
        Some(OUT_OF_MEMORY) => out_of_memory(facts, code),
        _ => Exit { code, message: String::new() },
    }
}

fn code(told: &ContainerStateTerminated) -> u8 {
    u8::try_from(told.exit_code).unwrap_or(u8::MAX)
}

fn out_of_memory(facts: &Facts<'_>, code: u8) -> Exit {
    let limit = memory_limit(facts).map_or_else(|| "its node has".to_owned(), |limit| format!("its limit of {limit}"));
    let message = match code {
        // A program may survive the loss of a child and end well: then it succeeded.
        0 => format!("one of its processes was ended for using more memory than {limit}"),
        _ => format!("OOMKilled: it used more memory than {limit}"),
    };
    Exit { code, message }
}

fn memory_limit<'a>(facts: &Facts<'a>) -> Option<&'a str> {
    let containers = &facts.pod?.spec.as_ref()?.containers;
    let main = containers.iter().find(|one| one.name == container::MAIN)?;
    Some(main.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.as_str())
}

/// Whether the container runtime could not even execute the first process.
fn never_ran(told: &ContainerStateTerminated) -> bool {
    matches!(told.reason.as_deref(), Some("StartError" | "ContainerCannotRun"))
}

fn not_executed(main: Option<&ContainerStatus>, told: &ContainerStateTerminated) -> Exit {
    let image = main.map_or("", |main| main.image.as_str());
    let why = told.message.as_deref().unwrap_or("the node does not say why");
    let message = format!("image {image} is unusable: its container cannot be started: {why}");
    Exit { code: exit_code::NOT_STARTED, message }
}

/// A Run that ended well and whose log is cut off did not end well: nobody could tell later.
fn unless_log_is_lost(facts: &Facts<'_>, exit: Exit) -> Exit {
    match failed_recorder(facts) {
        Some(how) if exit.code == 0 && facts.pod.is_some_and(has_log) => Exit {
            code: exit_code::NOT_KEPT,
            message: format!("its log is not whole: its recorder, container {}, {how}; retry it", container::RECORDER),
        },
        _ => exit,
    }
}

fn failed_recorder(facts: &Facts<'_>) -> Option<String> {
    let told = terminated(facts.container(container::RECORDER)?)?;
    let reason = told.reason.as_deref().filter(|&reason| reason != "Error");
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    (told.exit_code != 0).then(|| format!("ended with exit code {}{reason}{}", told.exit_code, said(told)))
}

/// What a container of ours wrote last.
fn said(told: &ContainerStateTerminated) -> String {
    let last = told.message.as_deref().unwrap_or("").trim();
    let last = last.strip_prefix("knitd: ").unwrap_or(last);
    if last.is_empty() { String::new() } else { format!(": {last}") }
}

fn has_log(pod: &Pod) -> bool {
    let before = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    before.into_iter().flatten().any(|one| one.name == container::CHECK_LOG)
}

/// The end of a worker through one of the containers beside main.
pub(super) fn of_others(facts: &Facts<'_>, pod: &Pod) -> Option<Observation> {
    let not_empty = [(container::CHECK_OUTPUTS, "outputs"), (container::CHECK_LOG, "log")];
    let refused = not_empty.into_iter().find_map(|(name, what)| {
        let told = terminated(facts.container(name)?).filter(|told| told.exit_code != 0)?;
        let how = if told.message.is_some() { String::new() } else { format!(" with exit code {}", told.exit_code) };
        Some(format!(
            "its {what} could not be prepared: container {name} failed{how}{}; an output must be empty before a Run \
             begins, a retry makes empty ones",
            said(told)
        ))
    });
    if let Some(message) = refused {
        return Some(ended(Exit { code: exit_code::NOT_STARTED, message }, None));
    }
    let how = failed_recorder(facts).filter(|_| has_log(pod) && facts.known_end.is_none())?;
    let message = format!(
        "its recorder, container {}, {how} before main did, so that nothing of what main writes could be kept; retry it",
        container::RECORDER
    );
    Some(ended(Exit { code: exit_code::LOST, message }, None))
}

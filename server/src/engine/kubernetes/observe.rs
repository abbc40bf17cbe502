//! What a Job, its Pods and the Events about them mean: how a worker stands, and why. It only computes.
//!
//! A worker is told by its Job's UID: Pods and Events of another Job of that name do not count. It has one Pod, the
//! first that its Job made. A Job controller may make a second one when the first is deleted; that one would write
//! into outputs that the first has begun to fill, so that the loss of the first is the end of the worker.
//!
//! What is looked at, in this order: how main ended ([`end`]), what took its Pod away ([`loss`]), whether main runs,
//! and else what it waits for ([`start`], [`unmade`]).

mod end;
mod facts;
mod loss;
mod nodes;
mod start;
#[cfg(test)]
mod tests;
mod unmade;

use crate::engine::Observation;
use facts::{Facts, image_digest, is_running, is_terminated};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use knit_api::label::container;
use knit_api::problem::in_words;
use knit_api::run::{Exit, exit_code};
use std::time::{Duration, SystemTime};

/// Most characters of what is told to a person.
const LONGEST: usize = 1000;

/// How main ended, as its recorder knows it from main's own parent process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What is recorded of it, unless its Pod tells a better reason.
    pub exit: Exit,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It, or a process that it started, was ended for using too much memory.
    pub oom: bool,
}

/// What is seen of a worker, and what it means for whoever looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How it stands.
    pub observation: Observation,
    /// When to look again though nothing changes: a grace period is over then.
    pub again: Option<SystemTime>,
    /// The Pod that counts, as long as there is one.
    pub pod: Option<String>,
    /// Nothing of main runs, or ever will in this Pod; its recorder may not know that.
    pub main_gone: bool,
    /// The recorder runs, so that it can be asked.
    pub recorder_runs: bool,
}

/// Looks at a worker: its Job, the Pods and Events of the namespace (those that are not its own are left out here),
/// and what its recorder told of main's end. `grace` is how long what keeps a worker from starting may last before
/// that is its end.
pub fn observe(
    job: Option<&Job>,
    pods: &[&Pod],
    events: &[&Event],
    known_end: Option<&End>,
    grace: Duration,
    now: SystemTime,
) -> Seen {
    let Some(job) = job.filter(|job| job.metadata.deletion_timestamp.is_none()) else {
        return Seen {
            observation: Observation::Absent,
            again: None,
            pod: None,
            main_gone: true,
            recorder_runs: false,
        };
    };
    let facts = Facts::of(job, pods, events, known_end, grace, now);
    let Outlook { observation, again } = look(&facts);
    let main = facts.container(container::MAIN);
    let over = match facts.pod {
        Some(pod) => facts::is_over(pod),
        None => matches!(observation, Observation::Ended { .. }),
    };
    Seen {
        observation: readable(observation),
        again,
        pod: facts.pod.and_then(|pod| pod.metadata.name.clone()),
        main_gone: main.is_some_and(is_terminated) || over && !main.is_some_and(is_running),
        recorder_runs: !over && facts.container(container::RECORDER).is_some_and(is_running),
    }
}

/// What is seen, and when that may change by itself.
#[derive(Debug, PartialEq, Eq)]
struct Outlook {
    observation: Observation,
    again: Option<SystemTime>,
}

impl Outlook {
    /// It waits for something that somebody else tells of.
    fn preparing(reason: impl Into<String>) -> Self {
        Observation::Preparing { reason: reason.into() }.into()
    }

    /// It waits for what will hardly come: until the grace is over, counted from `since`, then that is its end.
    fn in_trouble(facts: &Facts<'_>, since: SystemTime, trouble: String) -> Self {
        let until = since + facts.grace;
        if facts.now >= until {
            return Self::never_started(trouble);
        }
        Self { again: Some(until), ..Self::preparing(trouble) }
    }

    fn never_started(message: impl Into<String>) -> Self {
        ended(Exit { code: exit_code::NOT_STARTED, message: message.into() }, None).into()
    }
}

impl From<Observation> for Outlook {
    fn from(observation: Observation) -> Self {
        Self { observation, again: None }
    }
}

fn ended(exit: Exit, image_digest: Option<String>) -> Observation {
    Observation::Ended { exit, image_digest }
}

/// With what it says to a person in a form that can be shown and kept.
fn readable(observation: Observation) -> Observation {
    let shown = |text: &str| {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        in_words(&line).chars().take(LONGEST).collect()
    };
    match observation {
        Observation::Preparing { reason } => Observation::Preparing { reason: shown(&reason) },
        Observation::Ended { exit, image_digest } => {
            ended(Exit { message: shown(&exit.message), ..exit }, image_digest)
        }
        other => other,
    }
}

fn look(facts: &Facts<'_>) -> Outlook {
    let Some(pod) = facts.pod else { return unmade::look(facts) };
    let loss = loss::of(facts, pod);
    if let Some(observation) = end::of_main(facts, loss.as_ref()) {
        return observation.into();
    }
    if let Some(loss) = loss {
        return loss.observation(facts).into();
    }
    if let Some(observation) = end::of_others(facts, pod) {
        return observation.into();
    }
    match facts.container(container::MAIN).filter(|main| is_running(main) || is_terminated(main)) {
        Some(main) => Observation::Running { image_digest: image_digest(&main.image_id).unwrap_or_default() }.into(),
        None => start::look(facts, pod),
    }
}

//! What a Job, its Pods and the Events about them mean: how a worker stands, and why. It only computes.

use crate::engine::Observation;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use std::time::{Duration, SystemTime};

/// How main ended, as its recorder knows it: by its own parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// With which it exited; 128 and the signal when one ended it.
    pub code: i32,
    /// Which ended it.
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
    /// Main has ended, or will never start, though its recorder may not know.
    pub main_gone: bool,
    /// The recorder runs, so that it can be asked.
    pub recorder_runs: bool,
}

/// Looks at a worker: its Job, the Pods and the Events of the namespace that may be about it (those of others are
/// left out here), and what its recorder told of main's end. `grace` is how long what keeps a worker from starting may
/// last before that is its end.
pub fn observe(
    job: Option<&Job>,
    pods: &[&Pod],
    events: &[&Event],
    known_end: Option<&End>,
    grace: Duration,
    now: SystemTime,
) -> Seen {
    let _ = (job, pods, events, known_end, grace, now);
    Seen { observation: Observation::Absent, again: None, pod: None, main_gone: false, recorder_runs: false }
}

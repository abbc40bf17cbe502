//! The life of a Run: what to do next, given where it stands and what is seen of its worker.

use knit_api::run::{Exit, RunStatus, exit_code};

/// What can be seen of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// There is none by that name.
    Absent,
    /// Accepted, and its image is being fetched or its container made.
    Preparing {
        /// What it is busy with, for a person.
        reason: String,
    },
    /// Its process runs.
    Running {
        /// `sha256:…` of the image's manifest.
        image_digest: String,
    },
    /// Its process has ended, or will never start.
    Ended {
        /// How. Code 0 is success.
        exit: Exit,
        /// Once known.
        image_digest: Option<String>,
    },
}

/// How a user stops a Run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It fails.
    Abort,
    /// It ends well, with what it has made so far.
    Tearoff,
}

/// What the loop that holds a Run does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the output volumes; then the Run is `ready`.
    MakeVolumes,
    /// Ask the engine for a worker; once accepted, the Run is `starting`.
    Start,
    /// Settle the Run with these. `None` leaves a field as it is, an empty reason clears it.
    Become {
        /// Its status from now on; may be the same.
        status: RunStatus,
        /// How its work ended.
        exit: Option<Exit>,
        /// Why it waits.
        reason: Option<String>,
        /// The image that runs.
        image_digest: Option<String>,
    },
    /// Remove the worker, seal the outputs and the log, and end the Run with this status.
    Finish(RunStatus),
    /// Nothing more happens by itself.
    Nothing,
}

/// The next step of a Run in `status` whose worker looks like `seen`.
pub fn next(status: RunStatus, seen: &Observation) -> Step {
    use Observation as O;
    use RunStatus as S;
    match (status, seen) {
        (S::Waiting, _) => Step::MakeVolumes,
        (S::Ready, O::Absent) => Step::Start,
        (S::Starting | S::Running, O::Absent) => Step::Become {
            status: S::Aborting,
            exit: Some(Exit { code: exit_code::LOST, message: "worker for the Run is not found".to_owned() }),
            reason: Some(String::new()),
            image_digest: None,
        },
        (S::Ready | S::Starting, O::Preparing { reason }) => {
            Step::Become { status: S::Starting, exit: None, reason: Some(reason.clone()), image_digest: None }
        }
        // Seen before its process started, told after: nothing is new.
        (S::Running, O::Preparing { .. }) => {
            Step::Become { status: S::Running, exit: None, reason: None, image_digest: None }
        }
        (S::Ready | S::Starting | S::Running, O::Running { image_digest }) => Step::Become {
            status: S::Running,
            exit: None,
            reason: Some(String::new()),
            image_digest: Some(image_digest.clone()),
        },
        (S::Ready | S::Starting | S::Running, O::Ended { exit, image_digest }) => Step::Become {
            status: if exit.code == 0 { S::Completing } else { S::Aborting },
            exit: Some(exit.clone()),
            reason: Some(String::new()),
            image_digest: image_digest.clone(),
        },
        (S::Completing, _) => Step::Finish(S::Done),
        (S::Aborting, _) => Step::Finish(S::Failed),
        (S::Deactivated | S::Done | S::Failed | S::Invalidated, _) => Step::Nothing,
    }
}

/// What a user's request to stop makes of a Run: its new status and the exit to record.
/// None when its status does not allow that. A Run that is stopping that way already only gets its
/// exit recorded anew.
pub fn stopped(status: RunStatus, how: Stop) -> Option<(RunStatus, Exit)> {
    use RunStatus as S;
    match (how, status) {
        (Stop::Abort, S::Deactivated | S::Waiting | S::Ready | S::Starting | S::Running | S::Aborting) => {
            Some((S::Aborting, Exit { code: exit_code::ABORTED, message: "aborted by user".to_owned() }))
        }
        (Stop::Tearoff, S::Ready | S::Starting | S::Running | S::Completing) => {
            Some((S::Completing, Exit { code: 0, message: "stopped by user".to_owned() }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RunStatus as S;

    fn become_(status: RunStatus, exit: Option<(u8, &str)>, reason: Option<&str>, digest: Option<&str>) -> Step {
        Step::Become {
            status,
            exit: exit.map(|(code, message)| Exit { code, message: message.to_owned() }),
            reason: reason.map(str::to_owned),
            image_digest: digest.map(str::to_owned),
        }
    }

    #[test]
    fn each_status_and_each_sight_of_the_worker_has_one_next_step() {
        let absent = Observation::Absent;
        let preparing = Observation::Preparing { reason: "fetching".to_owned() };
        let running = Observation::Running { image_digest: "sha256:1".to_owned() };
        let ended = |code, message: &str| Observation::Ended {
            exit: Exit { code, message: message.to_owned() },
            image_digest: Some("sha256:1".to_owned()),
        };
        let (well, badly) = (ended(0, ""), ended(137, "OOMKilled"));
        let lost = become_(S::Aborting, Some((254, "worker for the Run is not found")), Some(""), None);
        let starts = become_(S::Starting, None, Some("fetching"), None);
        let runs = become_(S::Running, None, Some(""), Some("sha256:1"));
        let completes = become_(S::Completing, Some((0, "")), Some(""), Some("sha256:1"));
        let aborts = become_(S::Aborting, Some((137, "OOMKilled")), Some(""), Some("sha256:1"));
        let stays = become_(S::Running, None, None, None);
        let sights = [&absent, &preparing, &running, &well, &badly];
        let same = |step: &Step| vec![step.clone(); 5];
        for (status, steps) in [
            (S::Deactivated, same(&Step::Nothing)),
            (S::Waiting, same(&Step::MakeVolumes)),
            (S::Ready, vec![Step::Start, starts.clone(), runs.clone(), completes.clone(), aborts.clone()]),
            (S::Starting, vec![lost.clone(), starts, runs.clone(), completes.clone(), aborts.clone()]),
            (S::Running, vec![lost, stays, runs, completes, aborts]),
            (S::Completing, same(&Step::Finish(S::Done))),
            (S::Aborting, same(&Step::Finish(S::Failed))),
            (S::Done, same(&Step::Nothing)),
            (S::Failed, same(&Step::Nothing)),
            (S::Invalidated, same(&Step::Nothing)),
        ] {
            for (seen, step) in sights.iter().zip(steps) {
                assert_eq!(next(status, seen), step, "{status} {seen:?}");
            }
        }
    }

    #[test]
    fn a_user_may_abort_what_is_not_ending_and_tear_off_what_has_begun() {
        for (status, abort, tearoff) in [
            (S::Deactivated, true, false),
            (S::Waiting, true, false),
            (S::Ready, true, true),
            (S::Starting, true, true),
            (S::Running, true, true),
            (S::Completing, false, true),
            (S::Aborting, true, false),
            (S::Done, false, false),
            (S::Failed, false, false),
            (S::Invalidated, false, false),
        ] {
            let aborted = stopped(status, Stop::Abort).map(|(to, exit)| (to, exit.code, exit.message));
            assert_eq!(aborted, abort.then(|| (S::Aborting, 253, "aborted by user".to_owned())), "{status}");
            let torn = stopped(status, Stop::Tearoff).map(|(to, exit)| (to, exit.code, exit.message));
            assert_eq!(torn, tearoff.then(|| (S::Completing, 0, "stopped by user".to_owned())), "{status}");
        }
    }
}

//! Why a Run stands where it stands: causes with a code for programs, and words for people.
//!
//! [`at_a_glance`] is what a Run alone tells of itself, which is all there is towards an original server; a
//! server of ours adds what else it knows.

use crate::run::{Exit, Run, RunStatus, RunSummary, exit_code};
use serde::{Deserialize, Serialize};

/// Answer of `GET <apiRoot>/runs/{id}/why`; not on an original server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The Run.
    #[serde(flatten)]
    pub run: RunSummary,
    /// At least one, the first is the one that counts.
    pub causes: Vec<Cause>,
    /// The last lines of its log, when it has one.
    #[serde(rename = "logTail", default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

/// One reason for where a Run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// One of [`code`]; there may be more in time.
    pub code: String,
    /// What is so, for a person.
    pub text: String,
    /// What to do about it; empty when there is nothing to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Cause {
    /// A cause without advice.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into(), advice: String::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

/// Codes of causes.
pub mod code {
    /// Its Plan is inactive.
    pub const PLAN_INACTIVE: &str = "plan-inactive";
    /// Its outputs are not prepared yet.
    pub const WAITING: &str = "waiting";
    /// It will be started when it is its turn.
    pub const QUEUED: &str = "queued";
    /// Other workers hold what it needs.
    pub const NO_ROOM: &str = "no-room";
    /// It needs more than there is.
    pub const NEVER_FITS: &str = "never-fits";
    /// The server tries to go on with it, in vain so far.
    pub const TROUBLE: &str = "trouble";
    /// Its image is being fetched.
    pub const FETCHING_IMAGE: &str = "fetching-image";
    /// Its container is being made.
    pub const STARTING: &str = "starting";
    /// It runs.
    pub const RUNNING: &str = "running";
    /// Its outputs are being made final.
    pub const FINISHING: &str = "finishing";
    /// It is being ended.
    pub const ENDING: &str = "ending";
    /// It ended well.
    pub const DONE: &str = "done";
    /// It was deleted.
    pub const REMOVED: &str = "removed";
    /// Its image is not there.
    pub const IMAGE_NOT_FOUND: &str = "image-not-found";
    /// The registry of its image does not answer.
    pub const IMAGE_UNREACHABLE: &str = "image-unreachable";
    /// Its image is damaged, or not made for this kind of machine.
    pub const IMAGE_UNUSABLE: &str = "image-unusable";
    /// Its worker could not be started for another reason.
    pub const NOT_STARTED: &str = "not-started";
    /// It had too little memory.
    pub const OUT_OF_MEMORY: &str = "out-of-memory";
    /// Its worker vanished.
    pub const WORKER_LOST: &str = "worker-lost";
    /// It ended well, but what it made cannot be kept.
    pub const OUTPUT_NOT_KEPT: &str = "output-not-kept";
    /// A user stopped it.
    pub const ABORTED: &str = "aborted-by-user";
    /// A signal ended its program.
    pub const SIGNAL: &str = "signal";
    /// Its program said so.
    pub const EXIT_CODE: &str = "exit-code";
    /// Something that it was made from is not usable.
    pub const INPUT: &str = "input";
    /// Workers have no network, and its log speaks of one.
    pub const NO_NETWORK: &str = "no-network";
}

/// What a Run tells of itself.
pub fn at_a_glance(run: &Run) -> Vec<Cause> {
    let RunSummary { id, status, updated_at, exit, plan } = &run.summary;
    let reason = run.reason.as_deref().filter(|reason| !reason.is_empty());
    let because = |text: &str| reason.map_or_else(|| text.to_owned(), |reason| format!("{text}: {reason}"));
    let stop = format!("to end it: knit run stop {id} (with --fail to let it fail)");
    let mut causes = Vec::new();
    match status {
        RunStatus::Deactivated => {
            let text = format!("its Plan {} ({}) is inactive, so it is parked", plan.id, plan.title());
            let advice = format!("to let it go on: knit plan active yes {}", plan.id);
            causes.push(Cause::new(code::PLAN_INACTIVE, text).advice(advice));
        }
        RunStatus::Waiting => causes.push(Cause::new(code::WAITING, because("its outputs are about to be prepared"))),
        RunStatus::Ready => causes.push(Cause::new(code::QUEUED, because("it waits for its worker"))),
        RunStatus::Starting => causes.push(Cause::new(code::STARTING, because("its worker is being started"))),
        RunStatus::Running => {
            causes.push(Cause::new(code::RUNNING, because(&format!("it runs since {updated_at}"))).advice(stop));
        }
        RunStatus::Completing => {
            causes.push(Cause::new(code::FINISHING, because("its work is over, and its outputs are being made final")));
        }
        RunStatus::Aborting => {
            causes.push(Cause::new(code::ENDING, because("it is being ended")));
            causes.extend(exit.as_ref().map(|exit| of_exit(run, exit)));
        }
        RunStatus::Done => {
            let how = exit.as_ref().map(|exit| exit.message.as_str()).filter(|message| !message.is_empty());
            let how = how.map_or_else(String::new, |message| format!(" ({message})"));
            causes.push(Cause::new(code::DONE, because(&format!("it ended well at {updated_at}{how}"))));
        }
        RunStatus::Failed => {
            let none = Exit { code: 1, message: "nothing was recorded of its end".to_owned() };
            causes.push(of_exit(run, exit.as_ref().unwrap_or(&none)));
        }
        RunStatus::Invalidated => {
            let text = "it was deleted; it is kept so that its combination of Data is not run again";
            causes.push(Cause::new(code::REMOVED, text));
        }
    }
    causes
}

/// Why a Run failed, told from how it ended. The system's own codes come with words; a program that happens to end
/// with one of them has none.
fn of_exit(run: &Run, exit: &Exit) -> Cause {
    let retry = format!("knit run retry {}", run.summary.id);
    let log = format!("read its log: knit run show --log {}", run.summary.id);
    let (number, said) = (exit.code, exit.message.trim());
    if number == 137 && said.contains("OOM") {
        return Cause::new(code::OUT_OF_MEMORY, "it needed more memory than its Plan grants, and was ended for it")
            .advice(format!("raise memory in the resources of Plan {}, then {retry}", run.summary.plan.id));
    }
    match number {
        exit_code::NOT_KEPT if !said.is_empty() => {
            let text = format!("its program ended well, but what it made cannot be kept: {said}");
            Cause::new(code::OUTPUT_NOT_KEPT, text).advice("change what the program writes, and apply the new Plan")
        }
        exit_code::ABORTED if !said.is_empty() => {
            Cause::new(code::ABORTED, format!("a user stopped it ({said})")).advice(format!("to repeat it: {retry}"))
        }
        exit_code::LOST if !said.is_empty() => {
            Cause::new(code::WORKER_LOST, format!("its worker vanished before it could tell how it ended ({said})"))
                .advice(format!("that is seldom the program's fault: {retry}"))
        }
        exit_code::NOT_STARTED if !said.is_empty() => not_started(said, &retry),
        129..=159 => Cause::new(code::SIGNAL, by_signal(number - 128, said)).advice(log),
        126 | 127 if said.is_empty() => {
            let text = format!(
                "its program ended with exit code {number}, with which shells say that a command cannot be executed"
            );
            Cause::new(code::EXIT_CODE, text).advice(format!("check entrypoint and args of the Plan; {log}"))
        }
        _ if said.is_empty() => {
            Cause::new(code::EXIT_CODE, format!("its program ended with exit code {number}")).advice(log)
        }
        _ => Cause::new(code::EXIT_CODE, format!("it ended with exit code {number}: {said}")).advice(log),
    }
}

fn by_signal(signal: u8, said: &str) -> String {
    let name = match signal {
        4 => "SIGILL, an instruction that this processor does not know",
        6 => "SIGABRT: it gave up by itself",
        7 => "SIGBUS, a memory access that failed",
        8 => "SIGFPE, a computation that is impossible",
        9 => "SIGKILL: somebody ended it at once",
        11 => "SIGSEGV, an invalid memory access",
        13 => "SIGPIPE",
        15 => "SIGTERM: it was asked to end",
        _ => "",
    };
    let text = match name {
        "" => format!("its program was ended by signal {signal}"),
        name => format!("its program was ended by signal {signal} ({name})"),
    };
    if said.is_empty() { text } else { format!("{text}: {said}") }
}

/// The words with which the engine says what is wrong with an image begin with it.
fn not_started(said: &str, retry: &str) -> Cause {
    let of_image = said.starts_with("image ");
    if of_image && said.contains(" is not there") {
        return Cause::new(code::IMAGE_NOT_FOUND, said.to_owned())
            .advice(format!("push it under that name (knit image push ARCHIVE NAME:TAG), then {retry}"));
    }
    if of_image && said.contains(" cannot be fetched") {
        return Cause::new(code::IMAGE_UNREACHABLE, said.to_owned())
            .advice(format!("check that the registry can be reached from the server, then {retry}"));
    }
    if of_image && said.contains(" is unusable") {
        return Cause::new(code::IMAGE_UNUSABLE, said.to_owned())
            .advice(format!("push it again, or push one made for this kind of machine; then {retry}"));
    }
    Cause::new(code::NOT_STARTED, format!("its worker could not be started: {said}"))
        .advice(format!("check image, entrypoint and args of the Plan; to repeat it: {retry}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanSummary;

    fn run(status: RunStatus, exit: Option<(u8, &str)>, reason: Option<&str>) -> Run {
        Run {
            summary: RunSummary {
                id: "r".into(),
                status,
                updated_at: crate::time::Timestamp::from_micros(0),
                exit: exit.map(|(code, message)| Exit { code, message: message.to_owned() }),
                plan: PlanSummary {
                    id: "p".into(),
                    image: Some("train:v1".parse().unwrap()),
                    entrypoint: vec![],
                    args: vec![],
                    name: None,
                    annotations: vec![],
                },
            },
            inputs: vec![],
            outputs: vec![],
            log: None,
            image_digest: None,
            reason: reason.map(str::to_owned),
        }
    }

    #[test]
    fn each_status_and_each_end_has_its_cause() {
        use RunStatus as S;
        let missing = "image a/b:v1 is not there: it was looked for in the built-in registry";
        for (status, exit, reason, code, says) in [
            (S::Deactivated, None, None, code::PLAN_INACTIVE, "train:v1"),
            (S::Waiting, None, None, code::WAITING, "prepared"),
            (S::Ready, None, Some("waits for cpu 1"), code::QUEUED, "waits for cpu 1"),
            (S::Starting, None, Some("fetching image x"), code::STARTING, "fetching image x"),
            (S::Running, None, None, code::RUNNING, "1970-01-01"),
            (S::Completing, Some((0, "")), None, code::FINISHING, "final"),
            (S::Aborting, Some((253, "aborted by user")), None, code::ENDING, "ended"),
            (S::Done, Some((0, "")), Some("a: a socket is left out"), code::DONE, "socket"),
            (S::Done, Some((0, "stopped by user")), None, code::DONE, "(stopped by user)"),
            (S::Invalidated, None, None, code::REMOVED, "deleted"),
            (S::Failed, None, None, code::EXIT_CODE, "nothing was recorded"),
            (S::Failed, Some((3, "")), None, code::EXIT_CODE, "exit code 3"),
            (S::Failed, Some((127, "")), None, code::EXIT_CODE, "shells"),
            (S::Failed, Some((1, "Error")), None, code::EXIT_CODE, "Error"),
            (S::Failed, Some((137, "OOMKilled")), None, code::OUT_OF_MEMORY, "more memory"),
            (S::Failed, Some((137, "")), None, code::SIGNAL, "SIGKILL"),
            (S::Failed, Some((139, "")), None, code::SIGNAL, "SIGSEGV"),
            (S::Failed, Some((159, "")), None, code::SIGNAL, "signal 31"),
            (S::Failed, Some((252, "output d cannot be kept")), None, code::OUTPUT_NOT_KEPT, "output d"),
            (S::Failed, Some((253, "aborted by user")), None, code::ABORTED, "user"),
            (S::Failed, Some((253, "")), None, code::EXIT_CODE, "exit code 253"),
            (S::Failed, Some((254, "worker for the Run is not found")), None, code::WORKER_LOST, "vanished"),
            (S::Failed, Some((255, missing)), None, code::IMAGE_NOT_FOUND, "a/b:v1"),
            (S::Failed, Some((255, "image x cannot be fetched: refused")), None, code::IMAGE_UNREACHABLE, "refused"),
            (S::Failed, Some((255, "image x is unusable: sha256")), None, code::IMAGE_UNUSABLE, "sha256"),
            (S::Failed, Some((255, "/no/such: not there")), None, code::NOT_STARTED, "/no/such"),
            (S::Failed, Some((255, "")), None, code::EXIT_CODE, "exit code 255"),
        ] {
            let causes = at_a_glance(&run(status, exit, reason));
            assert_eq!(causes[0].code, code, "{status} {exit:?}");
            assert!(causes[0].text.contains(says), "{status} {exit:?}: {}", causes[0].text);
        }
    }

    #[test]
    fn every_failure_says_what_to_do() {
        for code in 1..=u8::MAX {
            for message in ["", "OOMKilled", "image x is not there"] {
                let causes = at_a_glance(&run(RunStatus::Failed, Some((code, message)), None));
                assert!(!causes[0].advice.is_empty(), "{code} {message}");
            }
        }
        let ending = at_a_glance(&run(RunStatus::Aborting, Some((137, "OOMKilled")), None));
        assert_eq!(ending[1].code, code::OUT_OF_MEMORY, "what ends it is told while it ends");
    }
}

//! Every cause, seen on what a cluster told. `testdata` says of each file where it comes from: recorded on a cluster,
//! or written by hand where one node cannot show it.

use super::facts::image_digest;
use super::*;
use serde::Deserialize;
use std::path::Path;

const GRACE: Duration = Duration::from_mins(2);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
/// Of the image of the recordings.
const DIGEST: &str = "sha256:46568c984f0fbdd109d6f47bc02d0d8a7cb02aa71b7e1b9d4365986272bcfb14";

#[derive(Deserialize)]
struct Recording {
    source: String,
    now: k8s_openapi::jiff::Timestamp,
    job: Job,
    pods: Vec<Pod>,
    events: Vec<Event>,
}

impl Recording {
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/kubernetes/observe/testdata");
        let text = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
        let recording: Self = serde_json::from_slice(&text).unwrap();
        let known =
            ["recorded on Kubernetes", "written by hand, from"].iter().any(|say| recording.source.starts_with(say));
        assert!(known, "{name}: {}", recording.source);
        recording
    }

    fn now(&self) -> SystemTime {
        self.now.into()
    }

    /// When its Job was made.
    fn made(&self) -> SystemTime {
        self.job.metadata.creation_timestamp.as_ref().unwrap().0.into()
    }

    fn seen(&self, known_end: Option<&End>, now: SystemTime) -> Seen {
        let pods: Vec<&Pod> = self.pods.iter().collect();
        let events: Vec<&Event> = self.events.iter().collect();
        observe(Some(&self.job), &pods, &events, known_end, GRACE, now)
    }

    fn observed(&self) -> Seen {
        self.seen(None, self.now())
    }
}

fn exit_of(seen: &Seen) -> (u8, &str) {
    match &seen.observation {
        Observation::Ended { exit, .. } => (exit.code, &exit.message),
        other => panic!("it has not ended: {other:?}"),
    }
}

fn reason_of(seen: &Seen) -> &str {
    match &seen.observation {
        Observation::Preparing { reason } => reason,
        other => panic!("it does not wait: {other:?}"),
    }
}

fn end(code: u8, message: &str, signal: Option<i32>, oom: bool) -> End {
    End { exit: Exit { code, message: message.to_owned() }, signal, oom }
}

#[test]
fn a_worker_without_a_job_or_with_one_that_is_being_deleted_is_none() {
    let running = Recording::read("running");
    let pods: Vec<&Pod> = running.pods.iter().collect();
    let none = observe(None, &pods, &[], None, GRACE, running.now());
    assert_eq!(none.observation, Observation::Absent);
    let mut leaving = Recording::read("running");
    leaving.job.metadata.deletion_timestamp = leaving.job.metadata.creation_timestamp.clone();
    assert_eq!(leaving.observed().observation, Observation::Absent);
}

#[test]
fn a_main_that_runs_runs() {
    let seen = Recording::read("running").observed();
    assert_eq!(seen.observation, Observation::Running { image_digest: DIGEST.to_owned() });
    assert_eq!((seen.again, seen.main_gone, seen.recorder_runs), (None, false, true));
    assert!(seen.pod.unwrap().starts_with("worker-run-running-"));
}

#[test]
fn a_main_that_ended_by_itself_has_its_exit_code_and_nothing_is_said_of_it() {
    for (name, code, message) in [
        ("done", 0, ""),
        ("failed-3", 3, ""),
        ("signal", 139, ""),
        ("out-of-memory", 137, "OOMKilled: it used more memory than its limit of 32Mi"),
    ] {
        let seen = Recording::read(name).observed();
        assert_eq!(exit_of(&seen), (code, message), "{name}");
        assert!(seen.main_gone && seen.again.is_none(), "{name}: {seen:?}");
        let Observation::Ended { image_digest, .. } = seen.observation else { unreachable!() };
        assert_eq!(image_digest.as_deref(), Some(DIGEST), "{name}");
    }
}

#[test]
fn what_kept_main_from_starting_is_told_apart() {
    for (name, says) in [
        ("not-executable", &["image localhost/busybox:1 is unusable", "/absent", "no such file"][..]),
        ("image-name-invalid", &["image localhost/UPPER:v1 is unusable", "repository name must be lowercase"]),
        ("output-not-empty", &["its outputs could not be prepared", "/volumes/data-knitid-1 is not empty", "retry"]),
        ("not-admitted", &["OutOfcpu", "requested: 1000"]),
    ] {
        let seen = Recording::read(name).observed();
        let (code, message) = exit_of(&seen);
        assert_eq!(code, exit_code::NOT_STARTED, "{name}: {message}");
        assert!(says.iter().all(|say| message.contains(say)), "{name}: {message}");
        assert!(!message.contains("knitd:"), "{name}: {message}");
        assert!(seen.main_gone || name == "image-name-invalid", "{name}: {seen:?}");
    }
}

#[test]
fn what_may_pass_is_waited_for_and_is_the_end_only_when_the_grace_is_over() {
    let image = "localhost:39555/absent/image:v1";
    for (name, trouble_since, says) in [
        ("image-err-pull", 2, &["image registry.invalid/absent:v1 cannot be fetched: ", "no such host"][..]),
        ("image-back-off", 2, &["image localhost:30503/absent/image:v1 cannot be fetched: ", "connection refused"]),
        ("image-absent", 1, &[&format!("image {image} is not there"), "not found"]),
        ("image-private", 1, &["image localhost:39555/private/image:v1 cannot be fetched", "401", "image pull secret"]),
        ("service-account-absent", 0, &["service account absent is not there", "knit plan serviceaccount"]),
        ("priority-class-absent", 0, &["priority class absent is not there", "--worker-priority"]),
        ("forbidden", 0, &["rules do not let its Pod in", "must specify limits.memory"]),
    ] {
        let recording = Recording::read(name);
        let since = recording.made() + trouble_since * SECOND;
        let early = recording.seen(None, since + 10 * SECOND);
        assert!(says.iter().all(|say| reason_of(&early).contains(say)), "{name}: {early:?}");
        assert_eq!(early.again, Some(since + GRACE), "{name}");
        let almost = recording.seen(None, since + GRACE - SECOND);
        assert_eq!(almost.observation, early.observation, "{name}");
        let late = recording.seen(None, since + GRACE);
        let (code, message) = exit_of(&late);
        assert_eq!((code, message), (exit_code::NOT_STARTED, reason_of(&early)), "{name}");
        assert_eq!(late.again, None, "{name}");
        assert!(!message.contains("rpc error") && message.matches("/v1").count() < 2, "{name}: {message}");
    }
}

#[test]
fn what_comes_when_there_is_room_is_waited_for_without_an_end() {
    for (name, says) in [
        (
            "no-node-cpu",
            "no node can take it now: 1 node has too little cpu left (it asks for 64); it starts by itself",
        ),
        ("no-node-extended-resource", "1 node has too little nvidia.com/gpu left (it asks for 1)"),
        ("no-node-label", "1 node lacks the labels that on_node.must of the Plan names (accelerator=gpu)"),
        (
            "no-node-taint",
            "1 node lacks the labels that on_node.must of the Plan names (objects1=yes), \
             1 node is kept for Plans that name accelerator=gpu in on_node",
        ),
        ("no-node-volume-unbound", "no node can take it now: its volumes are not bound yet"),
        ("no-node-volume-absent", "its volume data-knitid-absent is not there"),
        ("quota-exceeded", "the quota of its namespace is used up: exceeded quota: small, requested: pods=1"),
        ("secret-absent", "a volume cannot be mounted yet on node node1: MountVolume.SetUp failed for volume \"d\""),
        ("image-being-fetched", "fetching image localhost:39555/slow/image:v1"),
    ] {
        let recording = Recording::read(name);
        for now in [recording.now(), recording.now() + HOUR] {
            let seen = recording.seen(None, now);
            assert!(reason_of(&seen).contains(says), "{name}: {seen:?}");
            assert_eq!((seen.again, seen.main_gone), (None, false), "{name}");
        }
    }
}

#[test]
fn a_pod_that_was_taken_away_is_a_lost_worker_with_the_reason() {
    for (name, says) in [
        ("pod-deleted", "was deleted"),
        (
            "evicted",
            "evicted from node node1, which ran short of something or limits it (Usage of EmptyDir volume \"e\"",
        ),
        ("evicted-1.33", "(The node was low on resource: memory."),
        (
            "node-lost-1.20",
            "node node1 was lost: it does not answer, or it was closed to running Pods (Node node1 which",
        ),
        ("node-lost-1.33", "node node1 was lost"),
        (
            "preempted-1.20",
            "preempted on node node1: what is more important needed the place (Preempted by kube-system/",
        ),
        ("preempted-1.33", "preempted on node node1"),
        ("node-shutdown", "node node1 is being shut down"),
        ("deadline", "its deadline is exceeded"),
        ("recorder-gone", "its recorder, container nurse, ended with exit code 7 before main did"),
    ] {
        let recording = with_log(Recording::read(name));
        let seen = recording.observed();
        let (code, message) = exit_of(&seen);
        assert_eq!(code, exit_code::LOST, "{name}: {message}");
        assert!(message.contains(says), "{name}: {message}");
    }
}

/// The same worker, of a Plan with a log.
fn with_log(mut recording: Recording) -> Recording {
    for pod in &mut recording.pods {
        let before = pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap();
        let mut check = before[0].clone();
        container::CHECK_LOG.clone_into(&mut check.name);
        before.push(check);
    }
    recording
}

#[test]
fn a_recorder_that_failed_spoils_a_good_end_only_if_there_is_a_log() {
    let without = Recording::read("recorder-failed");
    assert_eq!(exit_of(&without.observed()), (0, ""));
    let with = with_log(Recording::read("recorder-failed"));
    let seen = with.observed();
    let (code, message) = exit_of(&seen);
    assert_eq!(code, exit_code::NOT_KEPT);
    assert!(message.contains("container nurse, ended with exit code 7"), "{message}");
    let known = end(0, "", None, false);
    assert_eq!(exit_of(&with.seen(Some(&known), with.now())), (0, ""));
    let without = Recording::read("recorder-gone");
    assert!(matches!(without.observed().observation, Observation::Running { .. }));
    assert!(!without.observed().recorder_runs);
}

#[test]
fn what_the_recorder_knows_counts_before_what_the_node_tells() {
    let running = Recording::read("running");
    let now = running.now();
    for (known, code, message) in [
        (end(0, "", None, false), 0, ""),
        (end(4, "", None, false), 4, ""),
        (end(139, "ended by signal SIGSEGV", Some(11), false), 139, "ended by signal SIGSEGV"),
        (end(137, "OOMKilled: it used more", Some(9), true), 137, "OOMKilled: it used more"),
        (end(127, "no such program", None, false), 127, "no such program"),
    ] {
        assert_eq!(exit_of(&running.seen(Some(&known), now)), (code, message));
    }
    let killed = end(137, "ended by signal SIGKILL", Some(9), false);
    let waits = running.seen(Some(&killed), now);
    assert!(matches!(waits.observation, Observation::Running { .. }), "{waits:?}");
    let out_of_memory = Recording::read("out-of-memory");
    let told = out_of_memory.seen(Some(&killed), now);
    assert_eq!(exit_of(&told), (137, "OOMKilled: it used more memory than its limit of 32Mi"));
    let by_somebody = Recording::read("failed-3").seen(Some(&killed), now);
    assert_eq!(exit_of(&by_somebody), (137, "ended by signal SIGKILL"));
}

#[test]
fn a_good_end_that_the_loss_of_the_pod_brought_about_is_none() {
    let ended_at = |recording: &mut Recording, second: i64| {
        let status = recording.pods[0].status.as_mut().unwrap();
        let main = status.container_statuses.as_mut().unwrap().iter_mut().find(|one| one.name == "main").unwrap();
        let at = k8s_openapi::jiff::Timestamp::from_second(second).unwrap();
        let told = serde_json::json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": at}});
        main.state = Some(serde_json::from_value(told).unwrap());
    };
    let mut deleted = Recording::read("preempted-1.20");
    let asked = "2026-11-20T17:26:11Z".parse::<k8s_openapi::jiff::Timestamp>().unwrap().as_second();
    let known = end(0, "", None, false);
    for (finished, code) in [(asked - 1, 0), (asked, exit_code::LOST), (asked + 5, exit_code::LOST)] {
        ended_at(&mut deleted, finished);
        assert_eq!(exit_of(&deleted.observed()).0, code, "{finished}");
        assert_eq!(exit_of(&deleted.seen(Some(&known), deleted.now())).0, code, "{finished}");
    }
}

#[test]
fn a_pod_that_its_job_replaced_is_lost_whatever_becomes_of_the_other() {
    let mut recording = Recording::read("pod-deleted");
    let first = recording.observed().pod.unwrap();
    recording.pods.retain(|pod| pod.metadata.name.as_deref() != Some(&first));
    let (code, message) = {
        let seen = recording.observed();
        let (code, message) = exit_of(&seen);
        (code, message.to_owned())
    };
    assert_eq!(code, exit_code::LOST);
    assert!(message.starts_with(&format!("its Pod {first} is gone")), "{message}");

    // That nothing of the other has begun tells nothing of the first.
    for other in &mut recording.pods {
        other.status = None;
    }
    assert!(!recording.pods.is_empty());
    assert_eq!(exit_of(&recording.observed()).0, exit_code::LOST);
}

#[test]
fn a_pod_of_which_only_an_event_tells_is_awaited_for_a_moment() {
    let mut recording = Recording::read("running");
    recording.pods.clear();
    let made = recording.made();
    let soon = recording.seen(None, made + SECOND);
    assert!(reason_of(&soon).contains("being given to a node"));
    assert_eq!(soon.again, Some(made + 10 * SECOND));
    let late = recording.seen(None, made + 10 * SECOND);
    assert_eq!(exit_of(&late).0, exit_code::LOST);
    recording.events.clear();
    let nothing = recording.seen(None, made + HOUR);
    assert_eq!(reason_of(&nothing), "the cluster is about to make its Pod");
}

#[test]
fn a_job_that_is_over_tells_its_end_when_its_pod_is_gone() {
    let mut done = Recording::read("done");
    done.pods.clear();
    assert_eq!(exit_of(&done.observed()), (0, ""));
    let mut failed = Recording::read("failed-3");
    failed.pods.clear();
    assert_eq!(exit_of(&failed.observed()).0, exit_code::LOST);
    let known = end(3, "", None, false);
    assert_eq!(exit_of(&failed.seen(Some(&known), failed.now())), (3, ""));
}

#[test]
fn pods_and_events_of_an_earlier_worker_of_that_name_do_not_count() {
    let mut recording = Recording::read("running");
    recording.job.metadata.uid = Some("another".to_owned());
    let seen = recording.seen(None, recording.now() + HOUR);
    assert_eq!(reason_of(&seen), "the cluster is about to make its Pod");
    assert_eq!(seen.pod, None);
}

#[test]
fn the_digest_of_an_image_is_found_in_all_names_that_runtimes_give_it() {
    for (name, digest) in [
        ("localhost:30503/a/b@sha256:12", Some("sha256:12")),
        ("docker-pullable://localhost:30503/a/b@sha256:12", Some("sha256:12")),
        ("docker://sha256:12", Some("sha256:12")),
        ("sha256:12", Some("sha256:12")),
        ("localhost:30503/a/b:v1", None),
        ("", None),
    ] {
        assert_eq!(image_digest(name).as_deref(), digest, "{name}");
    }
}

#[test]
fn what_a_scheduler_says_is_made_readable_in_older_and_newer_words() {
    let pod = Pod::default();
    for (said, told) in [
        (
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had taint {gpu: yes}, that the pod didn't tolerate.",
            "1 node has too little cpu left, 2 nodes are kept for Plans that name gpu=yes in on_node",
        ),
        (
            "0/2 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }, \
             1 node(s) were unschedulable. preemption: 0/2 nodes are available: 2 Preemption is not helpful.",
            "1 node is in trouble (disk-pressure), 1 node is closed to new work (cordoned)",
        ),
        (
            "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector.",
            "4 nodes lack the labels that on_node.must of the Plan names",
        ),
        ("0/1 nodes are available: 1 Too many pods.", "1 node has as many Pods as it may"),
        ("0/1 nodes are available: 1 something else, entirely.", "1 something else, entirely"),
    ] {
        let words = nodes::none_takes_it(said, &pod);
        assert_eq!(words, format!("no node can take it now: {told}; it starts by itself when one can"));
    }
    assert_eq!(nodes::none_takes_it("no nodes", &pod), "no node can take it now: no nodes");
}

//! Workers on a cluster: how they look from their start to their end, and that nothing of them is left.

use crate::place::{PATIENCE, Place, START_GRACE, main, work};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use knit_api::id::{DataId, RunId};
use knit_api::label::worker_name;
use knit_server::engine::{Engine as _, EngineEvent, Mount, Observation, Started, Volume};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::timeout;

fn run(name: &str) -> RunId {
    RunId::new(name)
}

fn is_running(seen: &Observation) -> Option<()> {
    matches!(seen, Observation::Running { .. }).then_some(())
}

/// Code and message of what has ended.
fn ending(seen: &Observation) -> Option<(u8, String)> {
    match seen {
        Observation::Ended { exit, .. } => Some((exit.code, exit.message.clone())),
        _ => None,
    }
}

/// The reason for which it waits, if that says so.
fn waits_for(words: &'static str) -> impl FnMut(&Observation) -> Option<String> {
    move |seen| match seen {
        Observation::Preparing { reason } if reason.contains(words) => Some(reason.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_worker_ends_as_its_main_does_and_leaves_nothing() {
    let Some(mut place) = Place::new().await else { return };
    for (name, script, code) in [("well", "exit 0", 0), ("badly", "exit 3", 3)] {
        let run = run(name);
        assert_eq!(place.engine.observe(&run).await.unwrap(), Observation::Absent);
        place.stand_in(&run, script).await;
        assert_ne!(place.engine.observe(&run).await.unwrap(), Observation::Absent, "it is there at once");
        let (seen, message) = place.sees(&run, ending).await;
        assert_eq!(seen, code, "{message}");
        assert_eq!(place.engine.workers().await.unwrap(), std::slice::from_ref(&run));

        place.engine.remove_worker(&run, Duration::ZERO).await.unwrap();
        assert!(place.api::<Job>().get_opt(&worker_name(&run)).await.unwrap().is_none());
        assert_eq!(place.engine.observe(&run).await.unwrap(), Observation::Absent);
        assert_eq!(place.engine.workers().await.unwrap(), []);
        place.event(|event| *event == EngineEvent::Room).await;
        place.engine.remove_worker(&run, Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn a_worker_that_is_removed_has_ended_when_that_is_said() {
    let Some(mut place) = Place::new().await else { return };
    // One that takes its time to end, one that has to be killed.
    for (name, script, grace, takes) in [
        ("slow", "trap 'sleep 3; exit 0' TERM; while true; do sleep 0.1; done", 20, 3..15),
        ("stubborn", "trap '' TERM; while true; do sleep 0.1; done", 0, 0..15),
    ] {
        let run = run(name);
        place.stand_in(&run, script).await;
        place.sees(&run, is_running).await;
        let began = Instant::now();
        place.engine.remove_worker(&run, Duration::from_secs(grace)).await.unwrap();
        let took = began.elapsed();
        assert!(takes.contains(&took.as_secs()), "{name}: {took:?}");
        assert_eq!(place.living(&run).await, [], "{name}");
        assert!(place.api::<Job>().get_opt(&worker_name(&run)).await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test]
async fn an_image_that_cannot_be_had_ends_the_worker_after_a_grace() {
    let Some(mut place) = Place::new().await else { return };
    let run = run("imageless");
    let image = Some("localhost:1/not/there:1".to_owned());
    let began = Instant::now();
    place.stand_in_with(&run, Container { image, ..main("true") }).await;
    place.sees(&run, waits_for("localhost:1/not/there:1")).await;
    let (code, message) = place.sees(&run, ending).await;
    // Events and Pods tell the time in whole seconds.
    let took = began.elapsed() + Duration::from_secs(1);
    assert!(took >= START_GRACE, "a registry may be away for a moment, but it was given {took:?}");
    assert_ne!(code, 0);
    assert!(message.contains("localhost:1/not/there:1"), "{message}");
    place.engine.remove_worker(&run, Duration::ZERO).await.unwrap();
    assert_eq!(place.living(&run).await, []);
}

#[tokio::test]
async fn a_service_account_that_is_not_there_ends_the_worker_after_a_grace() {
    let Some(mut place) = Place::new().await else { return };
    let run = run("unknown-account");
    let mut work = work(&run, "localhost:1/not/there:1");
    work.service_account = "nobody".to_owned();
    assert_eq!(place.engine.start(&work).await.unwrap(), Started::Accepted);
    let (code, message) = place.sees(&run, ending).await;
    assert_ne!(code, 0);
    assert!(message.contains("nobody"), "{message}");
}

#[tokio::test]
async fn a_worker_that_no_node_has_room_for_waits_and_says_for_what() {
    let Some(mut place) = Place::new().await else { return };
    let run = run("huge");
    let mut work = work(&run, "localhost:1/not/there:1");
    work.resources.insert("cpu".to_owned(), "1000".parse().unwrap());
    assert_eq!(place.engine.start(&work).await.unwrap(), Started::Accepted);
    let reason = place.sees(&run, waits_for("cpu")).await;
    tokio::time::sleep(START_GRACE * 2).await;
    let later = place.engine.observe(&run).await.unwrap();
    assert!(matches!(later, Observation::Preparing { .. }), "{reason}, then {later:?}");
    place.engine.remove_worker(&run, Duration::ZERO).await.unwrap();
    assert_eq!(place.living(&run).await, []);
}

#[tokio::test]
async fn a_worker_whose_pod_or_job_is_deleted_by_hand_is_lost() {
    let Some(mut place) = Place::new().await else { return };
    let (podless, jobless) = (run("podless"), run("jobless"));
    for run in [&podless, &jobless] {
        place.stand_in(run, "while true; do sleep 1; done").await;
        place.sees(run, is_running).await;
    }
    let pod = place.living(&podless).await.remove(0).metadata.name.unwrap();
    place.api::<Pod>().delete(&pod, &DeleteParams::default().grace_period(1)).await.unwrap();
    let (code, message) = place.sees(&podless, ending).await;
    assert_ne!(code, 0, "{message}");

    let job = worker_name(&jobless);
    place.api::<Job>().delete(&job, &DeleteParams::background()).await.unwrap();
    place.sees(&jobless, |seen| (*seen == Observation::Absent).then_some(())).await;
    // Its Pod lives on for a while; not when this has returned.
    place.engine.remove_worker(&jobless, Duration::ZERO).await.unwrap();
    assert_eq!(place.living(&jobless).await, []);
}

#[tokio::test]
async fn a_start_may_be_repeated_wherever_it_was_cut_off() {
    let Some(place) = Place::new().await else { return };
    let run = run("again");
    let (name, work) = (worker_name(&run), work(&run, "localhost:1/not/there:1"));
    let (jobs, secrets) = (place.api::<Job>(), place.api::<Secret>());

    assert_eq!(place.engine.start(&work).await.unwrap(), Started::Accepted);
    let (job, secret) = (jobs.get(&name).await.unwrap(), secrets.get(&name).await.unwrap());
    assert_eq!(secret.metadata.owner_references.as_ref().unwrap()[0].uid, job.metadata.uid.clone().unwrap());
    assert_eq!(place.engine.start(&work).await.unwrap(), Started::Accepted);
    assert_eq!(jobs.get(&name).await.unwrap().metadata.uid, job.metadata.uid, "the same worker");
    assert_eq!(secrets.get(&name).await.unwrap().data, secret.data, "it may have read it");

    // After the Secret, before the Job; and after the Job, before the Secret is its own.
    place.engine.remove_worker(&run, Duration::ZERO).await.unwrap();
    assert!(secrets.get_opt(&name).await.unwrap().is_none());
    let mut alone = secret.clone();
    alone.metadata.owner_references = None;
    alone.metadata.resource_version = None;
    secrets.create(&kube::api::PostParams::default(), &alone).await.unwrap();
    place.engine.start(&work).await.unwrap();
    let merge = Patch::Merge(json!({ "metadata": { "ownerReferences": null } }));
    secrets.patch(&name, &PatchParams::default(), &merge).await.unwrap();
    place.engine.start(&work).await.unwrap();
    let (job, secret) = (jobs.get(&name).await.unwrap(), secrets.get(&name).await.unwrap());
    assert_eq!(secret.data, alone.data);
    assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, job.metadata.uid.unwrap());
}

#[tokio::test]
async fn a_new_attempt_waits_until_the_old_worker_is_gone() {
    let Some(mut place) = Place::new().await else { return };
    let run = run("retried");
    let (name, work) = (worker_name(&run), work(&run, "localhost:1/not/there:1"));
    let jobs = place.api::<Job>();
    place.stand_in(&run, "exit 0").await;
    place.sees(&run, ending).await;
    let hold = |finalizers: &[&str]| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    jobs.patch(&name, &PatchParams::default(), &hold(&["knit.test/hold"])).await.unwrap();
    jobs.delete(&name, &DeleteParams::background()).await.unwrap();

    assert_eq!(place.engine.observe(&run).await.unwrap(), Observation::Absent, "it is nobody's worker any more");
    let Started::NoRoom { reason } = place.engine.start(&work).await.unwrap() else { panic!("the old one is there") };
    assert!(reason.contains(&name), "{reason}");
    while place.events.try_recv().is_ok() {}
    jobs.patch(&name, &PatchParams::default(), &hold(&[])).await.unwrap();
    place.event(|event| *event == EngineEvent::Room).await;
    let started = async {
        while place.engine.start(&work).await.unwrap() != Started::Accepted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, started).await.unwrap();
    assert!(!matches!(place.engine.observe(&run).await.unwrap(), Observation::Absent | Observation::Ended { .. }));
}

#[tokio::test]
async fn nodes_tell_what_they_have_and_what_is_taken() {
    let Some(place) = Place::new().await else { return };
    let nodes = place.engine.nodes().await.unwrap();
    let node = nodes.first().expect("a cluster has nodes");
    assert!(node.labels.iter().any(|label| label.key == "kubernetes.io/hostname" && label.value == node.name));
    assert!(node.capacity["cpu"] > "0".parse().unwrap() && node.capacity["memory"] > "1Mi".parse().unwrap());
    let status = place.engine.status();
    assert!(status.cpu_millis > 0 && status.memory_bytes > 0, "{status:?}");
}

#[tokio::test]
async fn a_run_is_executed_its_log_kept_and_its_outputs_made_final() {
    let Some(mut place) = Place::new().await else { return };
    let run = run("whole");
    let (output, log) = (Volume::of(&DataId::new("out")), Volume::of(&DataId::new("log")));
    let mut work = work(&run, "busybox:1");
    work.entrypoint = ["/bin/sh", "-c", "echo working; echo made > /out/file"].map(ToOwned::to_owned).into();
    work.outputs = vec![Mount { path: "/out".to_owned(), volume: output.clone() }];
    work.log = Some(log.clone());
    for volume in [&output, &log] {
        place.engine.create_volume(volume).await.unwrap();
    }
    assert_eq!(place.engine.start(&work).await.unwrap(), Started::Accepted);
    let (code, message) = place.sees(&run, ending).await;
    assert_eq!(code, 0, "{message}");

    let volumes = [output.clone(), log.clone()];
    let sealed = place.engine.conclude(&run, &volumes, Duration::from_secs(10)).await.unwrap();
    let entries: Vec<u64> = sealed.into_iter().map(|sealed| sealed.unwrap().entries).collect();
    assert_eq!(entries, [1, 1], "a file each");
    assert_eq!(place.engine.observe(&run).await.unwrap(), Observation::Absent);
    assert_eq!(place.engine.log_tail(&run, &log, 100).await.unwrap(), b"working\n");
    for volume in &volumes {
        place.engine.remove_volume(volume).await.unwrap();
    }
}

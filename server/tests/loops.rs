//! What Knit does by itself, over a real store and an engine in memory: from a new combination to the
//! end of its Run, and through everything that can go wrong on the way.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use fake::{IMAGE_DIGEST, Server};
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::plan::PlanSpec;
use knit_api::run::{Run, RunStatus};
use knit_api::tag::Tag;
use knit_server::clock;
use knit_server::content::Digest;
use knit_server::engine::{Engine, Observation, Sealed, Volume};
use knit_server::loops::{self, Loops};
use knit_server::rules;
use knit_server::store::{Claim, Registered, RunQuery, Settle, Stop, Upload};
use serde_json::json;
use std::time::{Duration, SystemTime};

const LONG: Duration = Duration::from_secs(20);

async fn push(server: &Server, tag: &str) -> DataId {
    let data = DataId::new(clock::new_id());
    let volume = Volume::of(&data);
    server.engine.state().volumes.insert(volume.to_string(), Vec::new());
    let sealed = Sealed { digest: "d".repeat(64), entries: 0, bytes: 0, left_out: Vec::new() };
    let tags: Vec<Tag> = vec![tag.parse().unwrap()];
    let upload = Upload { data: data.clone(), volume, sealed, tags };
    server.app.store.add_upload(&upload, clock::now()).await.unwrap();
    server.app.wake.project.notify_one();
    data
}

async fn plan(server: &Server, input: &str, output: &str) -> PlanId {
    plan_of(server, "train:v1", input, output).await
}

async fn plan_of(server: &Server, image: &str, input: &str, output: &str) -> PlanId {
    let spec = json!({
        "image": image,
        "inputs": [{"path": "/in", "tags": [input]}],
        "outputs": [{"path": "/out", "tags": [output]}],
        "log": {"tags": ["type:log"]},
    });
    let spec: PlanSpec = serde_json::from_value(spec).unwrap();
    let spec = rules::plan::check(spec).unwrap();
    let Registered::New(id) = server.app.store.register_plan(&spec).await.unwrap() else { panic!("not new") };
    server.app.wake.project.notify_one();
    id
}

async fn runs(server: &Server, plan: &PlanId) -> Vec<Run> {
    let query = RunQuery { plans: vec![plan.clone()], ..RunQuery::default() };
    server.app.store.find_runs(&query).await.unwrap()
}

/// Waits for a change after which `wanted` finds something.
async fn until<T>(server: &Server, what: &str, wanted: impl AsyncFn() -> Option<T>) -> T {
    let mut changes = server.app.wake.subscribe();
    let found = async {
        loop {
            if let Some(found) = wanted().await {
                return found;
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, found).await.unwrap_or_else(|_| panic!("this did not come: {what}"))
}

async fn until_status(server: &Server, plan: &PlanId, status: RunStatus) -> Run {
    until(server, status.as_str(), async || {
        runs(server, plan).await.into_iter().find(|run| run.summary.status == status)
    })
    .await
}

fn status(run: &Run) -> RunStatus {
    run.summary.status
}

struct Working {
    server: Server,
    loops: Loops,
}

impl Working {
    async fn start() -> Self {
        Self::on(fake::server(None).await).await
    }

    async fn on(server: Server) -> Self {
        let loops = Loops::start(&server.app).await.unwrap();
        Self { server, loops }
    }
}

#[tokio::test]
async fn a_push_runs_through_two_plans_to_the_end_by_itself() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().ends_at_once = Some(0);
    let train = plan(&server, "type:digits", "type:model").await;
    let validate = plan(&server, "type:model", "type:metrics").await;
    let data = push(&server, "type:digits").await;

    let second = until_status(&server, &validate, RunStatus::Done).await;
    let first = &runs(&server, &train).await[0];
    assert_eq!(status(first), RunStatus::Done);
    assert_eq!((&first.inputs[0].data, &second.inputs[0].data), (&data, &first.outputs[0].data));
    assert_eq!(first.image_digest.as_deref(), Some(IMAGE_DIGEST));
    assert_eq!(first.summary.exit.as_ref().unwrap().code, 0);
    let made = server.app.store.data(&first.outputs[0].data).await.unwrap().unwrap();
    assert_eq!(
        made.digest.unwrap(),
        blake3::hash(format!("made by {}", first.summary.id).as_bytes()).to_hex().to_string()
    );
    assert!(server.engine.state().workers.is_empty(), "workers are removed");
    let graces: Vec<Duration> = server.engine.state().removed.iter().map(|(_, grace)| *grace).collect();
    assert_eq!(graces, [Duration::ZERO; 2], "nobody waits for what is over");
}

#[tokio::test]
async fn a_failing_container_fails_its_run_with_its_code_and_what_it_wrote_is_sealed() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().left_out = vec!["/out/pipe: a FIFO".to_owned()];
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let run = until_status(&server, &plan, RunStatus::Starting).await;
    server.engine.begin(&run.summary.id);
    until_status(&server, &plan, RunStatus::Running).await;
    server.engine.end(&run.summary.id, 137, "OOMKilled");
    let run = until_status(&server, &plan, RunStatus::Failed).await;
    let exit = run.summary.exit.unwrap();
    assert_eq!(exit.code, 137);
    assert!(exit.message.contains("OOMKilled"), "{exit:?}");
    let said = format!("{:?} {:?}", exit.message, run.reason);
    assert!(said.contains("/out/pipe: a FIFO"), "{said}");
    let log = server.app.store.data(&run.log.unwrap().data).await.unwrap().unwrap();
    assert!(log.digest.is_some());
    assert_eq!(log.transient(), Some("failed"));
}

#[tokio::test]
async fn a_run_whose_outputs_can_never_be_kept_fails_and_says_why() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().ends_at_once = Some(0);
    server.engine.state().refused = Some("deep goes beyond the limit of 256 levels".to_owned());
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let run = until_status(&server, &plan, RunStatus::Failed).await;
    let exit = run.summary.exit.unwrap();
    assert_eq!(exit.code, 252);
    assert!(exit.message.contains("deep goes beyond the limit of 256 levels"), "{exit:?}");
    let output = &run.outputs[0].data;
    assert_eq!(server.app.store.data(output).await.unwrap().unwrap().digest, None);
    assert!(server.engine.state().workers.is_empty(), "its worker is removed all the same");

    server.app.store.remove_run(&run.summary.id, clock::now()).await.unwrap().unwrap();
    server.app.wake.collect.notify_one();
    until(&server, "its volumes are removed", async || {
        let gone = !server.engine.state().volumes.contains_key(Volume::of(output).as_str());
        if !gone {
            tokio::task::yield_now().await;
            server.app.wake.changed();
        }
        gone.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_run_stopped_by_a_user_has_its_worker_ended_with_grace() {
    for (how, end, code) in [(Stop::Abort, RunStatus::Failed, 253), (Stop::Tearoff, RunStatus::Done, 0)] {
        let Working { server, loops: _loops } = Working::start().await;
        let plan = plan(&server, "a:b", "type:model").await;
        push(&server, "a:b").await;
        let run = until_status(&server, &plan, RunStatus::Starting).await.summary.id;
        server.engine.begin(&run);
        until_status(&server, &plan, RunStatus::Running).await;
        server.app.store.stop(&run, how, clock::now()).await.unwrap().unwrap();
        server.app.wake.finish.notify_one();
        let ended = until_status(&server, &plan, end).await;
        assert_eq!(ended.summary.exit.unwrap().code, code);
        assert_eq!(server.engine.state().removed, [(run, server.app.settings.grace)]);
    }
}

#[tokio::test]
async fn a_run_aborted_before_it_had_volumes_fails_without_any() {
    let server = fake::server(None).await;
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    server.app.store.project(&plan, clock::now()).await.unwrap();
    let run = runs(&server, &plan).await[0].summary.id.clone();
    server.app.store.stop(&run, Stop::Abort, clock::now()).await.unwrap().unwrap();
    let Working { server, loops: _loops } = Working::on(server).await;
    until_status(&server, &plan, RunStatus::Failed).await;
    assert!(server.engine.state().started.is_empty());
}

#[tokio::test]
async fn a_retried_run_starts_anew_with_new_outputs_and_the_old_ones_are_collected() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().ends_at_once = Some(3);
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let failed = until_status(&server, &plan, RunStatus::Failed).await;
    server.engine.state().ends_at_once = Some(0);
    server.app.store.retry(&failed.summary.id, clock::now()).await.unwrap().unwrap();
    server.app.wake.initialize.notify_one();
    server.app.wake.collect.notify_one();
    let done = until_status(&server, &plan, RunStatus::Done).await;
    assert_eq!(done.summary.id, failed.summary.id);
    assert_ne!(done.outputs[0].data, failed.outputs[0].data);
    let old = Volume::of(&failed.outputs[0].data);
    tokio::time::timeout(LONG, async {
        while server.engine.state().volumes.contains_key(old.as_str()) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the old output is removed");
}

#[tokio::test]
async fn a_worker_that_vanishes_fails_its_run_with_254() {
    let Working { server, loops: _loops } = Working::start().await;
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let run = until_status(&server, &plan, RunStatus::Starting).await.summary.id;
    server.engine.lose(&run);
    let run = until_status(&server, &plan, RunStatus::Failed).await;
    assert_eq!(run.summary.exit.unwrap().code, 254);
}

#[tokio::test]
async fn a_run_without_room_says_so_and_starts_when_room_is_freed() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().room = 1;
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let first = until_status(&server, &plan, RunStatus::Starting).await.summary.id;
    push(&server, "a:b").await;
    let second = until(&server, "a Run that waits for room", async || {
        runs(&server, &plan).await.into_iter().find(|run| run.reason.as_deref() == Some("all cpus are taken"))
    })
    .await;
    assert_eq!(status(&second), RunStatus::Ready);
    server.engine.end(&first, 0, "");
    until(&server, "the start of the Run that waited", async || {
        let run = server.app.store.run(&second.summary.id).await.unwrap()?;
        (status(&run) == RunStatus::Starting && run.reason.is_none_or(|reason| reason != "all cpus are taken"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_small_run_passes_a_large_one_that_the_freed_room_is_too_small_for() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().room = 2;
    server.engine.state().places.insert("large".to_owned(), 2);
    let small = plan(&server, "for:small", "by:small").await;
    let large = plan_of(&server, "large:v1", "for:large", "by:large").await;
    for _ in 0..2 {
        push(&server, "for:small").await;
    }
    let held = until(&server, "two Runs with workers", async || {
        let all = runs(&server, &small).await;
        (all.len() == 2 && all.iter().all(|run| status(run) == RunStatus::Starting)).then_some(all)
    })
    .await;
    let waits = |run: &Run| run.reason.as_deref() == Some("all cpus are taken");
    push(&server, "for:large").await;
    until(&server, "a large Run that waits", async || runs(&server, &large).await.into_iter().find(waits)).await;
    push(&server, "for:small").await;
    let behind =
        until(&server, "a small Run that waits", async || runs(&server, &small).await.into_iter().find(waits)).await;

    server.engine.end(&held[0].summary.id, 0, "");
    until(&server, "the start of the small Run", async || {
        let run = server.app.store.run(&behind.summary.id).await.unwrap()?;
        (status(&run) == RunStatus::Starting).then_some(())
    })
    .await;
    assert_eq!(status(&runs(&server, &large).await[0]), RunStatus::Ready);
    server.engine.end(&held[1].summary.id, 0, "");
    server.engine.end(&behind.summary.id, 0, "");
    until_status(&server, &large, RunStatus::Starting).await;
}

#[tokio::test]
async fn a_run_that_never_fits_stays_ready_says_why_and_starts_when_its_plan_asks_for_less() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().never_fits = Some("64 cpus are asked for, 2 are there".to_owned());
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let run = until(&server, "a Run with a reason", async || {
        runs(&server, &plan).await.into_iter().find(|run| run.reason.as_deref().is_some_and(|r| !r.is_empty()))
    })
    .await;
    assert_eq!(status(&run), RunStatus::Ready);
    assert!(run.reason.unwrap().contains("64 cpus"));

    server.engine.state().never_fits = None;
    let less = knit_api::json::from_slice(br#"{"set":{"cpu":"2"}}"#).unwrap();
    assert!(server.app.store.change_resources(&plan, &less, clock::now()).await.unwrap());
    server.app.wake.run.notify_one();
    until_status(&server, &plan, RunStatus::Starting).await;
    let started = server.engine.state().started[0].resources["cpu"].to_string();
    assert_eq!(started, "2", "with what the Plan says now");
}

#[tokio::test]
async fn errors_of_the_engine_are_shown_and_overcome_at_every_step() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().ends_at_once = Some(0);
    for operation in ["create_volume", "start", "observe", "remove_worker", "seal"] {
        server.engine.state().failing.insert(operation, 1);
    }
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    until_status(&server, &plan, RunStatus::Done).await;
    let state = server.engine.state();
    assert!(state.failing.values().all(|left| *left == 0), "each was met: {:?}", state.failing);
    assert_eq!(state.started.len(), 1);
}

#[tokio::test]
async fn an_error_stands_on_the_run_until_it_is_overcome() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().failing.insert("start", u32::MAX);
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    tokio::time::timeout(LONG, async {
        loop {
            let found = runs(&server, &plan).await;
            if found.iter().any(|run| run.reason.as_deref().is_some_and(|r| r.contains("the test says so"))) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the error is shown as the reason");
}

/// Makes a Run of a new Plan and brings it into `wanted` as a process would that is killed there, with
/// its claim still held.
async fn left_in(server: &Server, wanted: RunStatus) -> PlanId {
    let plan = plan(server, &format!("for:{wanted}"), &format!("by:{wanted}")).await;
    push(server, &format!("for:{wanted}")).await;
    server.app.store.project(&plan, clock::now()).await.unwrap();
    let mut claim = claim(server, RunStatus::Waiting).await;
    for (from, to) in [
        (RunStatus::Waiting, RunStatus::Ready),
        (RunStatus::Ready, RunStatus::Starting),
        (RunStatus::Starting, RunStatus::Running),
        (RunStatus::Running, if wanted == RunStatus::Aborting { wanted } else { RunStatus::Completing }),
    ] {
        if from == wanted {
            break;
        }
        match to {
            RunStatus::Ready => {
                for (_, volume) in server.app.store.outputs(&claim.run).await.unwrap() {
                    server.engine.create_volume(&volume).await.unwrap();
                }
            }
            RunStatus::Starting => {
                let work = server.app.store.work(&claim.run).await.unwrap().unwrap();
                server.engine.start(&work).await.unwrap();
            }
            _ => {}
        }
        let settle = Settle { status: to, exit: None, due: clock::now(), reason: None, image_digest: None };
        assert!(server.app.store.settle(&claim, &settle, clock::now()).await.unwrap());
        claim = self::claim(server, to).await;
    }
    plan
}

async fn claim(server: &Server, status: RunStatus) -> Claim {
    let until = clock::after(Duration::from_hours(1));
    let claimed = server.app.store.claim(&[status], "a process that is gone", clock::now(), until, 1).await.unwrap();
    claimed.into_iter().next().unwrap_or_else(|| panic!("no Run is {status}"))
}

#[tokio::test]
async fn a_run_left_in_any_status_by_a_killed_process_comes_to_its_end() {
    for wanted in [
        RunStatus::Waiting,
        RunStatus::Ready,
        RunStatus::Starting,
        RunStatus::Running,
        RunStatus::Completing,
        RunStatus::Aborting,
    ] {
        let server = fake::server(None).await;
        let plan = left_in(&server, wanted).await;
        for worker in server.engine.state().workers.values_mut() {
            *worker = Observation::Ended {
                exit: knit_api::run::Exit { code: 0, message: String::new() },
                image_digest: Some(IMAGE_DIGEST.to_owned()),
            };
        }
        server.engine.state().ends_at_once = Some(0);
        let Working { server, loops: _loops } = Working::on(server).await;
        let end = if wanted == RunStatus::Aborting { RunStatus::Failed } else { RunStatus::Done };
        until_status(&server, &plan, end).await;
        assert_eq!(server.engine.state().started.len(), 1, "{wanted}: no second worker");
        assert!(server.engine.state().workers.is_empty(), "{wanted}");
    }
}

#[tokio::test]
async fn a_run_whose_worker_was_asked_for_but_not_recorded_adopts_it() {
    let server = fake::server(None).await;
    let plan = left_in(&server, RunStatus::Ready).await;
    let run = runs(&server, &plan).await[0].summary.id.clone();
    let work = server.app.store.work(&run).await.unwrap().unwrap();
    server.engine.start(&work).await.unwrap();
    let Working { server, loops: _loops } = Working::on(server).await;
    until_status(&server, &plan, RunStatus::Starting).await;
    server.engine.end(&run, 0, "");
    until_status(&server, &plan, RunStatus::Done).await;
    assert_eq!(server.engine.state().started.len(), 1);
}

#[tokio::test]
async fn an_orderly_stop_ends_workers_and_puts_their_runs_back() {
    let Working { server, loops } = Working::start().await;
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let run = until_status(&server, &plan, RunStatus::Starting).await.summary.id;
    server.engine.begin(&run);
    until_status(&server, &plan, RunStatus::Running).await;

    server.app.stopping.cancel();
    loops.ended(LONG).await;
    let stopped = loops::put_back(&server.app).await;
    let layout = server.app.settings.layout.as_ref().unwrap();
    stopped.write(layout).unwrap();
    let written = std::fs::read_to_string(layout.stopped()).unwrap();
    let wanted = json!({"putBack": [{"runId": run, "image": "train:v1"}]});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), wanted);
    assert_eq!(status(&runs(&server, &plan).await[0]), RunStatus::Waiting);
    assert!(server.engine.state().workers.is_empty());
    assert_eq!(server.engine.state().removed, [(run, server.app.settings.grace)]);
}

#[tokio::test]
async fn a_run_whose_worker_outlived_an_orderly_stop_starts_anew_without_it() {
    let Working { server, loops } = Working::start().await;
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let run = until_status(&server, &plan, RunStatus::Starting).await.summary.id;
    server.engine.begin(&run);
    until_status(&server, &plan, RunStatus::Running).await;
    server.app.stopping.cancel();
    loops.ended(LONG).await;
    // As if the process was killed between the two steps of the stop.
    server.engine.state().failing.insert("remove_worker", 1);
    assert_eq!(loops::put_back(&server.app).await.put_back.len(), 1);
    assert_eq!(status(&runs(&server, &plan).await[0]), RunStatus::Waiting);
    assert_eq!(server.engine.state().workers.len(), 1);

    let Working { server, loops: _loops } = Working::on(server.restarted()).await;
    until_status(&server, &plan, RunStatus::Starting).await;
    assert_eq!(server.engine.state().started.len(), 2, "the worker that was left was not taken for the new one");
    server.engine.end(&run, 0, "");
    until_status(&server, &plan, RunStatus::Done).await;
}

#[tokio::test]
async fn an_orderly_stop_keeps_the_end_of_a_worker_that_is_over() {
    let Working { server, loops } = Working::start().await;
    let plan = plan(&server, "a:b", "type:model").await;
    push(&server, "a:b").await;
    let run = until_status(&server, &plan, RunStatus::Starting).await.summary.id;
    server.app.stopping.cancel();
    loops.ended(LONG).await;
    server.engine.end(&run, 0, "");
    assert!(loops::put_back(&server.app).await.put_back.is_empty());
    assert_eq!(status(&runs(&server, &plan).await[0]), RunStatus::Starting);
}

#[tokio::test]
async fn what_no_row_knows_is_removed_at_the_start() {
    let server = fake::server(None).await;
    let kept = push(&server, "a:b").await;
    let stray = Volume::of(&DataId::new("stray"));
    server.engine.create_volume(&stray).await.unwrap();
    server.engine.begin(&RunId::new("nobody's"));
    let Working { server, loops: _loops } = Working::on(server).await;
    tokio::time::timeout(LONG, async {
        while server.engine.state().volumes.len() > 1 || !server.engine.state().workers.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("strays are removed");
    assert!(server.engine.state().volumes.contains_key(Volume::of(&kept).as_str()));
}

#[tokio::test]
async fn what_images_leave_behind_is_removed_after_a_grace() {
    let server = fake::server(None).await;
    let content = server.app.content.clone().unwrap();
    let store = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        let mut writer = content.write_blob().unwrap();
        writer.write(bytes).unwrap();
        writer.finish(&digest).unwrap();
        digest
    };
    let (old, young) = (store(b"old"), store(b"young"));
    let hours = |hours| SystemTime::now() - Duration::from_hours(hours);
    let path = content.root().join("blobs/sha256").join(&old.hex()[..2]).join(old.hex());
    std::fs::File::options().write(true).open(path).unwrap().set_modified(hours(25)).unwrap();
    server.engine.state().failing.insert("tidy", 1);

    let mut tidied = server.engine.tidied.subscribe();
    let Working { server, loops: _loops } = Working::on(server).await;
    let before = tokio::time::timeout(LONG, tidied.wait_for(Option::is_some)).await.unwrap().unwrap().unwrap();
    assert!(hours(100) < before && before < hours(24), "layers that were run today stay");
    tokio::time::timeout(LONG, async {
        while content.blob_size(&old).unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("old content is removed");
    assert_eq!(content.blob_size(&young).unwrap(), Some(5));
    drop(server);
}

#[tokio::test]
async fn many_runs_flow_without_losing_or_doubling_any() {
    let Working { server, loops: _loops } = Working::start().await;
    server.engine.state().ends_at_once = Some(0);
    server.engine.state().room = 3;
    let plan = plan(&server, "a:b", "type:model").await;
    for _ in 0..40 {
        push(&server, "a:b").await;
    }
    let all = until(&server, "40 Runs that are done", async || {
        let all = runs(&server, &plan).await;
        (all.len() == 40 && all.iter().all(|run| status(run) == RunStatus::Done)).then_some(all)
    })
    .await;
    let mut inputs: Vec<&DataId> = all.iter().map(|run| &run.inputs[0].data).collect();
    inputs.sort();
    inputs.dedup();
    assert_eq!(inputs.len(), 40);
    assert_eq!(server.engine.state().started.len(), 40);
}

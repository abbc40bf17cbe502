//! Runs as users see and change them.

use crate::world::{World, at, exit, on_both, simple, to};
use knit_api::id::{PlanId, RunId};
use knit_api::run::RunStatus as S;
use knit_server::engine::Volume;
use knit_server::store::{Refusal, RunQuery, Settle, Stop};

/// A Plan from raw to model (with a log) and one waiting Run of it.
async fn waiting(world: &World) -> (PlanId, RunId) {
    let mut spec = simple("train:v1", &[&["kind:raw"]], &[&["kind:model"]]);
    spec.log = Some(knit_api::plan::LogPoint { tags: vec![] });
    let plan = world.apply(&spec).await;
    world.push(&["kind:raw"]).await;
    assert_eq!(world.project().await, 1);
    let run = world.only_run(&plan).await;
    (plan, run)
}

async fn upload_run(world: &World) -> RunId {
    let data = world.push(&["some:tag"]).await;
    world.store.data(&data).await.unwrap().unwrap().upstream.run.id
}

/// Puts a Run into any status, behind the store's back.
async fn force(world: &World, run: &RunId, status: S) {
    world.place.run(&format!("update run set status = '{status}' where id = '{run}'")).await;
}

on_both! {
    async fn a_run_is_shown_as_on_the_wire(world: World) {
        let (plan, run) = waiting(&world).await;
        let shown = world.store.run(&run).await.unwrap().unwrap();
        let (input, output) = (&shown.inputs[0].data, &shown.outputs[0].data);
        let log = &shown.log.as_ref().unwrap().data;
        let wanted = [
            format!(r#"{{"runId":"{run}","status":"waiting","updatedAt":"{}","#, shown.summary.updated_at),
            format!(r#""plan":{{"planId":"{plan}","image":"train:v1"}},"#),
            format!(r#""inputs":[{{"path":"/in/0","tags":["kind:raw"],"knitId":"{input}"}}],"#),
            format!(r#""outputs":[{{"path":"/out/0","tags":["kind:model"],"knitId":"{output}"}}],"#),
            format!(r#""log":{{"tags":[],"knitId":"{log}"}}}}"#),
        ];
        assert_eq!(serde_json::to_string(&shown).unwrap(), wanted.concat());
        let upload = upload_run(&world).await;
        let shown = world.store.run(&upload).await.unwrap().unwrap();
        assert_eq!((shown.inputs.len(), shown.outputs.len(), shown.log), (0, 1, None));
        assert_eq!(world.store.run(&"none".into()).await.unwrap(), None);
        assert_eq!(world.store.run_status(&"none".into()).await.unwrap(), None);
        assert_eq!(world.store.log_place(&"none".into()).await.unwrap(), None);
        assert_eq!(world.store.log_place(&upload).await.unwrap().unwrap().volume, None);
    }

    async fn runs_are_found_by_what_they_are_and_what_they_touch(world: World) {
        let train = world.apply(&simple("train:v1", &[&["kind:raw"]], &[&["kind:model"]])).await;
        let other = world.apply(&simple("other:v1", &[&["kind:raw"], &["kind:raw"]], &[])).await;
        let data = world.push(&["kind:raw"]).await;
        assert_eq!(world.project().await, 2);
        let (one, two) = (world.only_run(&train).await, world.only_run(&other).await);
        let upload = world.store.data(&data).await.unwrap().unwrap().upstream.run.id;
        world.settle(&one, S::Ready).await;
        let output = world.output(&one).await;
        let log = world.store.run(&two).await.unwrap().unwrap();
        assert!(log.log.is_none());
        let all = RunQuery::default;
        let time = world.store.run(&one).await.unwrap().unwrap().summary.updated_at;
        let none = || knit_api::id::DataId::new("none");
        for (query, found) in [
            (all(), &[&upload, &two, &one][..]),
            (RunQuery { plans: vec![train.clone()], ..all() }, &[&one]),
            (RunQuery { plans: vec![train.clone(), other.clone(), "none".into()], ..all() }, &[&two, &one]),
            (RunQuery { inputs: vec![data.clone()], ..all() }, &[&two, &one]),
            (RunQuery { inputs: vec![output.clone(), none()], ..all() }, &[]),
            (RunQuery { outputs: vec![output.clone(), data.clone()], ..all() }, &[&upload, &one]),
            (RunQuery { outputs: vec![none()], ..all() }, &[]),
            (RunQuery { statuses: vec![S::Ready, S::Done], ..all() }, &[&upload, &one]),
            (RunQuery { statuses: vec![S::Failed], ..all() }, &[]),
            (RunQuery { plans: vec![train.clone()], statuses: vec![S::Waiting], ..all() }, &[]),
            (RunQuery { inputs: vec![data.clone()], outputs: vec![output.clone()], ..all() }, &[&one]),
            (RunQuery { inputs: vec![data.clone()], plans: vec![other], statuses: vec![S::Waiting], ..all() }, &[&two]),
            (RunQuery { since: Some(time), ..all() }, &[&one]),
            (RunQuery { until: Some(time), ..all() }, &[&upload, &two]),
            (RunQuery { since: Some(at(-63_900_000_000)), plans: vec![train], ..all() }, &[&one]),
            (RunQuery { since: Some(time), outputs: vec![data], ..all() }, &[]),
        ] {
            let runs = world.store.find_runs(&query).await.unwrap();
            let ids: Vec<&RunId> = runs.iter().map(|run| &run.summary.id).collect();
            assert_eq!(ids, found, "{query:?}");
        }
        let counts = world.store.count_runs().await.unwrap();
        assert_eq!(counts, [(S::Waiting, 1), (S::Ready, 1), (S::Done, 1)]);
    }

    async fn stopping_follows_the_table_of_statuses(world: World) {
        let (_, run) = waiting(&world).await;
        let not_allowed = |status| Err(Refusal::Status(status));
        for status in S::ALL {
            for (how, allowed, becomes, code) in [
                (Stop::Abort, &S::ALL[..5], S::Aborting, 253),
                (Stop::Tearoff, &S::ALL[2..5], S::Completing, 0),
            ] {
                force(&world, &run, status).await;
                let before = world.store.run(&run).await.unwrap().unwrap().summary.updated_at;
                let now = world.now();
                let answer = world.store.stop(&run, how, now).await.unwrap();
                let shown = world.store.run(&run).await.unwrap().unwrap().summary;
                if allowed.contains(&status) || status == becomes {
                    assert_eq!(answer, Ok(()), "{status}");
                    assert_eq!((shown.status, shown.exit.unwrap().code), (becomes, code), "{status}");
                    assert_eq!(shown.updated_at, if status == becomes { before } else { now });
                } else {
                    assert_eq!(answer, not_allowed(status));
                    assert_eq!((shown.status, shown.updated_at), (status, before));
                }
            }
        }
        assert_eq!(world.store.stop(&"none".into(), Stop::Abort, at(0)).await.unwrap(), Err(Refusal::NotFound));
    }

    async fn a_stopped_run_is_due_at_once(world: World) {
        let (_, run) = waiting(&world).await;
        let claim = world.claim_run(&run).await;
        let waits = Settle { reason: Some("no room".to_owned()), ..to(S::Ready, at(9000)) };
        assert!(world.store.settle(&claim, &waits, at(50)).await.unwrap());
        world.store.stop(&run, Stop::Abort, at(60)).await.unwrap().unwrap();
        assert_eq!(world.store.next_due(&[S::Aborting]).await.unwrap(), Some(at(60)));
        assert_eq!(world.store.run(&run).await.unwrap().unwrap().reason, None);
    }

    async fn a_retried_run_starts_over_with_new_outputs(world: World) {
        let (plan, run) = waiting(&world).await;
        let next = world.apply(&simple("validate:v1", &[&["kind:model"]], &[])).await;
        world.end(&run, true).await;
        let old = world.store.run(&run).await.unwrap().unwrap();
        let (output, log) = (old.outputs[0].data.clone(), old.log.clone().unwrap().data);
        assert!(world.store.change_tags(&output, &crate::world::change(&["more:x"], &[], &[])).await.unwrap());
        assert_eq!(world.nominated(&output).await.len(), 1);
        assert!(world.store.set_active(&plan, false, at(70)).await.unwrap());
        let now = at(80);
        world.store.retry(&run, now).await.unwrap().unwrap();
        let new = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!((new.summary.status, new.summary.updated_at, &new.summary.exit), (S::Waiting, now, &None));
        assert_eq!(new.inputs, old.inputs);
        assert_eq!(new.outputs[0].tags, old.outputs[0].tags);
        assert_ne!(new.outputs[0].data, output);
        assert_ne!(new.log.as_ref().unwrap().data, log);
        assert_eq!(world.store.data(&output).await.unwrap(), None);
        let fresh = world.store.data(&new.outputs[0].data).await.unwrap().unwrap();
        let shown: Vec<String> = fresh.tags.iter().map(|tag| tag.key.clone()).collect();
        assert_eq!(shown, ["kind", "knit#id", "knit#transient"]);
        let mut garbage = world.store.garbage(10).await.unwrap();
        garbage.sort();
        let mut dropped = [Volume::of(&output), Volume::of(&log)];
        dropped.sort();
        assert_eq!(garbage, dropped);
        assert_eq!(world.project().await, 0, "what waited to be projected went with its Data");
        world.end(&run, true).await;
        assert_eq!(world.project().await, 1);
        world.only_run(&next).await;
    }

    async fn retry_and_removal_are_refused_with_their_reason(world: World) {
        let (_, run) = waiting(&world).await;
        for status in S::ALL.into_iter().filter(|status| !status.is_over()) {
            force(&world, &run, status).await;
            assert_eq!(world.store.retry(&run, at(0)).await.unwrap(), Err(Refusal::Status(status)));
            assert_eq!(world.store.remove_run(&run, at(0)).await.unwrap(), Err(Refusal::Status(status)));
        }
        force(&world, &run, S::Invalidated).await;
        for id in [run, "none".into()] {
            assert_eq!(world.store.retry(&id, at(0)).await.unwrap(), Err(Refusal::NotFound));
            assert_eq!(world.store.remove_run(&id, at(0)).await.unwrap(), Err(Refusal::NotFound));
        }
        let upload = upload_run(&world).await;
        assert_eq!(world.store.retry(&upload, at(0)).await.unwrap(), Err(Refusal::BuiltIn));
    }

    async fn what_live_runs_use_stays_and_what_only_removed_runs_used_may_go(world: World) {
        let (_, run) = waiting(&world).await;
        let next = world.apply(&simple("validate:v1", &[&["kind:model"]], &[&[]])).await;
        world.end(&run, true).await;
        assert_eq!(world.project().await, 1);
        let user = world.only_run(&next).await;
        let used = Err(Refusal::HasDownstreams(vec![user.clone()]));
        assert_eq!(world.store.retry(&run, at(50)).await.unwrap(), used);
        assert_eq!(world.store.remove_run(&run, at(50)).await.unwrap(), used);
        let data = world.output(&run).await;
        assert_eq!(world.status(&run).await, S::Done);
        world.end(&user, false).await;
        assert_eq!(world.store.retry(&run, at(50)).await.unwrap(), used, "also by one that failed");
        world.store.remove_run(&user, at(60)).await.unwrap().unwrap();
        let shown = world.store.run(&user).await.unwrap().unwrap();
        assert_eq!((shown.summary.status, shown.summary.updated_at), (S::Invalidated, at(60)));
        assert_eq!(shown.inputs[0].data, data);
        assert!(shown.outputs[0].data.is_empty());
        assert_eq!(world.store.data(&data).await.unwrap().unwrap().downstreams, []);
        assert_eq!(world.project().await, 0, "an invalidated Run still stands for its combination");
        world.store.retry(&run, at(70)).await.unwrap().unwrap();
        assert_eq!(world.store.run(&user).await.unwrap(), None);
        world.end(&run, true).await;
        assert_eq!(world.project().await, 1, "the new output is a new combination");
    }

    async fn a_removed_upload_leaves_nothing_but_garbage(world: World) {
        world.apply(&simple("train:v1", &[&["some:other"]], &[])).await;
        let data = world.push(&["some:tag"]).await;
        let upload = world.store.data(&data).await.unwrap().unwrap().upstream.run.id;
        world.store.remove_run(&upload, at(50)).await.unwrap().unwrap();
        assert_eq!(world.store.run(&upload).await.unwrap(), None);
        assert_eq!(world.store.data(&data).await.unwrap(), None);
        assert_eq!(world.store.garbage(10).await.unwrap(), [Volume::of(&data)]);
        for table in ["data_tag", "nomination", "run", "data", "run_input"] {
            assert_eq!(world.place.number(&format!("select count(*) from {table}")).await, 0, "{table}");
        }
    }

    async fn a_removed_run_with_inputs_keeps_its_place_and_its_log_is_gone(world: World) {
        let (plan, run) = waiting(&world).await;
        world.settle(&run, S::Ready).await;
        let claim = world.claim_run(&run).await;
        let aborting = Settle { exit: Some(exit(3, "bad\0")), ..to(S::Aborting, at(0)) };
        assert!(world.store.settle(&claim, &aborting, at(40)).await.unwrap());
        let claim = world.claim_run(&run).await;
        assert!(world.store.finish(&claim, &[], None, None, at(41)).await.unwrap());
        let shown = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!(shown.summary.exit, Some(exit(3, "bad\u{fffd}")));
        world.store.remove_run(&run, at(50)).await.unwrap().unwrap();
        let shown = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!(shown.summary.exit, None);
        assert!(shown.log.unwrap().data.is_empty());
        let place = world.store.log_place(&run).await.unwrap().unwrap();
        assert_eq!((place.status, place.volume), (S::Invalidated, None));
        assert_eq!(world.store.outputs(&run).await.unwrap(), []);
        assert_eq!(world.store.plan_is_quiet(&plan).await.unwrap(), Some(true));
        assert_eq!(world.store.remove_run(&run, at(51)).await.unwrap(), Err(Refusal::NotFound));
    }

    async fn a_plan_is_quiet_when_nothing_is_left_to_project_or_to_run(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["kind:raw"]], &[])).await;
        let quiet = || world.store.plan_is_quiet(&plan);
        assert_eq!(quiet().await.unwrap(), Some(true));
        world.push(&["kind:raw"]).await;
        assert_eq!(quiet().await.unwrap(), Some(false), "something is left to project");
        world.project().await;
        let run = world.only_run(&plan).await;
        for status in S::ALL {
            force(&world, &run, status).await;
            let expected = status.is_over() || status == S::Deactivated;
            assert_eq!(quiet().await.unwrap(), Some(expected), "{status}");
        }
    }
}

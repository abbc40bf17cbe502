//! What loops do: claim, settle, finish, and what happens when two get in each other's way.

use crate::world::{World, at, exit, on_both, sealed, simple, spec, tags, to};
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::run::RunStatus as S;
use knit_api::time::Timestamp;
use knit_server::engine::Volume;
use knit_server::store::{Settle, Stop, Upload};

/// A Plan from raw to model and one waiting Run of it.
async fn waiting(world: &World) -> (PlanId, RunId) {
    let plan = world.apply(&simple("train:v1", &[&["kind:raw"]], &[&["kind:model"]])).await;
    world.push(&["kind:raw"]).await;
    assert_eq!(world.project().await, 1);
    let run = world.only_run(&plan).await;
    (plan, run)
}

on_both! {
    async fn a_run_goes_from_waiting_to_done_and_its_output_feeds_the_next_plan(world: World) {
        let (_, run) = waiting(&world).await;
        let next = world.apply(&simple("validate:v1", &[&["kind:model"]], &[])).await;
        world.settle(&run, S::Ready).await;
        world.settle(&run, S::Starting).await;
        let claim = world.claim_run(&run).await;
        let running = Settle {
            image_digest: Some("sha256:1".to_owned()),
            reason: Some(String::new()),
            ..to(S::Running, at(0))
        };
        assert!(world.store.settle(&claim, &running, at(50)).await.unwrap());
        let claim = world.claim_run(&run).await;
        let completing = Settle { exit: Some(exit(0, "")), ..to(S::Completing, at(0)) };
        assert!(world.store.settle(&claim, &completing, at(60)).await.unwrap());
        let claim = world.claim_run(&run).await;
        let outputs = world.store.outputs(&run).await.unwrap();
        assert_eq!(outputs.len(), 1);
        let (output, volume) = outputs[0].clone();
        assert_eq!(volume, Volume::of(&output));
        assert_eq!(world.nominated(&output).await, Vec::<String>::new());
        let end = at(70);
        let what = [(output.clone(), sealed("d7"))];
        assert!(world.store.finish(&claim, &what, None, Some("a socket was left out"), end).await.unwrap());
        let shown = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!(shown.summary.status, S::Done);
        assert_eq!(shown.summary.updated_at, end);
        assert_eq!(shown.summary.exit, Some(exit(0, "")));
        assert_eq!(shown.image_digest.as_deref(), Some("sha256:1"));
        assert_eq!(shown.reason.as_deref(), Some("a socket was left out"));
        let data = world.store.data(&output).await.unwrap().unwrap();
        assert_eq!(data.digest.as_deref(), Some("d7"));
        assert_eq!(data.transient(), None);
        let stamp = Timestamp::from_millis(end.millis()).to_string();
        assert!(data.tags.iter().any(|tag| tag.key == "knit#timestamp" && tag.value == stamp), "{stamp}");
        let place = world.store.locate(&output).await.unwrap().unwrap();
        assert_eq!((place.volume, place.status, place.digest.as_deref()), (volume, S::Done, Some("d7")));
        assert_eq!(world.project().await, 1);
        let second = world.only_run(&next).await;
        assert_eq!(world.store.run(&second).await.unwrap().unwrap().inputs[0].data, output);
        assert_eq!(world.place.number("select bytes from data where digest = 'd7'").await, 5_000_000_000);
    }

    async fn a_failed_run_stamps_its_data_and_nominates_nothing(world: World) {
        let (_, run) = waiting(&world).await;
        world.apply(&simple("validate:v1", &[&["kind:model"]], &[])).await;
        world.end(&run, false).await;
        assert_eq!(world.status(&run).await, S::Failed);
        let output = world.store.data(&world.output(&run).await).await.unwrap().unwrap();
        assert_eq!(output.transient(), Some("failed"));
        assert!(output.tags.iter().any(|tag| tag.key == "knit#timestamp"));
        assert_eq!(output.nomination, []);
        assert_eq!(world.project().await, 0);
    }

    async fn the_work_of_a_run_is_its_plan_and_its_volumes(world: World) {
        let plan = world.apply(&spec(
            r#"{"image":"localhost:30503/train:v1","entrypoint":["sh","-c"],"args":["b","a"],
                "inputs":[{"path":"/in/b","tags":["a:b"]},{"path":"/in/a","tags":["a:b"]}],
                "outputs":[{"path":"/out/z","tags":[]},{"path":"/out/y","tags":[]}],"log":{"tags":["l:l"]},
                "resources":{"cpu":"0.5"},"on_node":{"must":["k=v"]},"service_account":"acc"}"#,
        )).await;
        let data = world.push(&["a:b"]).await;
        assert_eq!(world.project().await, 1);
        let run = world.only_run(&plan).await;
        let shown = world.store.run(&run).await.unwrap().unwrap();
        let work = world.store.work(&run).await.unwrap().unwrap();
        assert_eq!((&work.run, &work.plan), (&run, &plan));
        assert_eq!(work.image.to_string(), "localhost:30503/train:v1");
        assert_eq!((work.entrypoint.join(" "), work.args.join(" ")), ("sh -c".to_owned(), "b a".to_owned()));
        let inputs: Vec<(&str, &str)> =
            work.inputs.iter().map(|mount| (mount.path.as_str(), mount.volume.as_str())).collect();
        let volume = Volume::of(&data);
        assert_eq!(inputs, [("/in/b", volume.as_str()), ("/in/a", volume.as_str())]);
        let outputs: Vec<(&str, Volume)> =
            work.outputs.iter().map(|mount| (mount.path.as_str(), mount.volume.clone())).collect();
        let made: Vec<Volume> = shown.outputs.iter().map(|output| Volume::of(&output.data)).collect();
        assert_eq!(outputs, [("/out/z", made[0].clone()), ("/out/y", made[1].clone())]);
        assert_eq!(work.log, Some(Volume::of(&shown.log.unwrap().data)));
        assert_eq!(work.resources["cpu"].to_string(), "500m");
        assert_eq!(work.resources["memory"].to_string(), "1Gi");
        assert_eq!(work.on_node.must[0].to_string(), "k=v");
        assert_eq!(work.service_account, "acc");
        let upload = world.store.data(&data).await.unwrap().unwrap().upstream.run.id;
        assert_eq!(world.store.work(&upload).await.unwrap(), None);
        assert_eq!(world.store.work(&"none".into()).await.unwrap(), None);
    }

    async fn the_longest_due_are_claimed_first_by_one_owner_at_a_time(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        for _ in 0..4 {
            world.push(&["a:b"]).await;
            assert_eq!(world.project().await, 1);
        }
        let runs: Vec<RunId> = world.runs(Some(&plan)).await.into_iter().map(|run| run.summary.id).collect();
        world.settle(&runs[1], S::Ready).await;
        let statuses = [S::Waiting, S::Ready];
        let (now, until) = (at(1000), at(1030));
        let claim = |owner, now, until, limit| world.store.claim(&statuses, owner, now, until, limit);
        assert_eq!(claim("a", at(-1), at(0), 10).await.unwrap(), [], "nothing is due yet");
        let first = claim("a", now, until, 3).await.unwrap();
        // settled with due at(0): before those that wait
        let order: Vec<&RunId> = first.iter().map(|claim| &claim.run).collect();
        assert_eq!(order, [&runs[1], &runs[0], &runs[2]]);
        assert_eq!(first.iter().map(|claim| claim.status).collect::<Vec<_>>(), [S::Ready, S::Waiting, S::Waiting]);
        let second = claim("b", now, until, 10).await.unwrap();
        assert_eq!(second.iter().map(|claim| &claim.run).collect::<Vec<_>>(), [&runs[3]]);
        assert_eq!(claim("c", now, until, 10).await.unwrap(), []);
        assert_eq!(claim("c", until, at(2000), 10).await.unwrap().len(), 4, "leases end");
        assert!(!world.store.settle(&first[0], &to(S::Running, now), now).await.unwrap());
        assert_eq!(world.status(&runs[1]).await, S::Ready);
    }

    async fn a_later_claim_by_the_same_owner_fences_off_the_earlier_one(world: World) {
        let (_, run) = waiting(&world).await;
        let claim = |now, until| world.store.claim(&[S::Waiting], "me", now, until, 1);
        let old = claim(at(100), at(130)).await.unwrap().remove(0);
        let new = claim(at(130), at(160)).await.unwrap().remove(0);
        assert!(new.attempt > old.attempt);
        assert!(!world.store.settle(&old, &to(S::Ready, at(0)), at(131)).await.unwrap());
        assert_eq!(claim(at(140), at(170)).await.unwrap(), [], "the newer lease still holds");
        assert!(world.store.settle(&new, &to(S::Ready, at(0)), at(132)).await.unwrap());
        assert!(!world.store.settle(&new, &to(S::Running, at(0)), at(133)).await.unwrap(), "settled once");
        assert_eq!(world.status(&run).await, S::Ready);
    }

    async fn an_abort_in_between_wins_over_the_loop_and_its_claim_is_free_at_once(world: World) {
        let (_, run) = waiting(&world).await;
        world.settle(&run, S::Running).await;
        let claim = world.claim_run(&run).await;
        world.store.stop(&run, Stop::Abort, at(20)).await.unwrap().unwrap();
        assert_eq!(world.store.claim(&[S::Aborting], "b", at(21), at(51), 1).await.unwrap(), []);
        let completing = Settle { exit: Some(exit(0, "")), ..to(S::Completing, at(0)) };
        assert!(!world.store.settle(&claim, &completing, at(22)).await.unwrap());
        let shown = world.store.run(&run).await.unwrap().unwrap().summary;
        assert_eq!((shown.status, shown.exit), (S::Aborting, Some(exit(253, "aborted by user"))));
        let taken = world.store.claim(&[S::Aborting], "b", at(23), at(53), 1).await.unwrap();
        assert!(world.store.finish(&taken[0], &[], None, None, at(24)).await.unwrap());
        assert_eq!(world.status(&run).await, S::Failed);
    }

    async fn what_is_settled_as_before_keeps_its_time_and_an_empty_reason_clears(world: World) {
        let (_, run) = waiting(&world).await;
        world.settle(&run, S::Ready).await;
        let since = world.store.run(&run).await.unwrap().unwrap().summary.updated_at;
        let claim = world.claim_run(&run).await;
        let waits = Settle { reason: Some("no cpu is free".to_owned()), ..to(S::Ready, at(300)) };
        assert!(world.store.settle(&claim, &waits, at(200)).await.unwrap());
        let shown = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!((shown.summary.updated_at, shown.reason.as_deref()), (since, Some("no cpu is free")));
        assert_eq!(world.store.next_due(&[S::Ready]).await.unwrap(), Some(at(300)));
        assert_eq!(world.store.claim(&[S::Ready], "me", at(299), at(400), 1).await.unwrap(), []);
        let claim = world.claim_run(&run).await;
        assert!(world.store.settle(&claim, &to(S::Ready, at(0)), at(201)).await.unwrap());
        assert_eq!(world.store.run(&run).await.unwrap().unwrap().reason.as_deref(), Some("no cpu is free"));
        let claim = world.claim_run(&run).await;
        let clears = Settle { reason: Some(String::new()), ..to(S::Ready, at(0)) };
        assert!(world.store.settle(&claim, &clears, at(202)).await.unwrap());
        assert_eq!(world.store.run(&run).await.unwrap().unwrap().reason, None);
    }

    async fn errors_are_counted_until_something_works(world: World) {
        let (_, run) = waiting(&world).await;
        for failures in 0..3 {
            let claim = world.claim_run(&run).await;
            assert_eq!(claim.failures, failures);
            world.store.give_back(&claim, at(700), "the disk is gone\0").await.unwrap();
            assert_eq!(world.store.next_due(&[S::Waiting]).await.unwrap(), Some(at(700)));
        }
        let shown = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!(shown.reason.as_deref(), Some("the disk is gone\u{fffd}"));
        world.settle(&run, S::Ready).await;
        assert_eq!(world.claim_run(&run).await.failures, 0);
    }

    async fn giving_back_after_an_abort_does_not_put_the_abort_off(world: World) {
        let (_, run) = waiting(&world).await;
        let claim = world.claim_run(&run).await;
        world.store.stop(&run, Stop::Abort, at(500)).await.unwrap().unwrap();
        world.store.give_back(&claim, at(9000), "an error").await.unwrap();
        assert_eq!(world.store.next_due(&[S::Aborting]).await.unwrap(), Some(at(500)));
        assert_eq!(world.store.run(&run).await.unwrap().unwrap().reason, None);
        assert_eq!(world.claim_run(&run).await.failures, 0);
    }

    async fn claims_are_renewed_as_long_as_they_are_the_owners(world: World) {
        waiting(&world).await;
        world.push(&["kind:raw"]).await;
        world.project().await;
        let claims = world.store.claim(&[S::Waiting], "a", at(1000), at(1030), 9).await.unwrap();
        let runs: Vec<RunId> = claims.into_iter().map(|claim| claim.run).collect();
        assert_eq!(runs.len(), 2);
        let mut leases = world.store.renew("a", &runs, at(1060)).await.unwrap();
        leases.sort_by(|a, b| a.run.cmp(&b.run));
        assert!(leases.iter().all(|lease| (lease.attempt, lease.until) == (1, at(1060))) && leases.len() == 2);
        assert!(world.store.claim(&[S::Waiting], "b", at(1050), at(1080), 9).await.unwrap().is_empty());
        assert!(world.store.renew("b", &runs, at(2000)).await.unwrap().is_empty());

        let taken = world.store.claim(&[S::Waiting], "b", at(1061), at(1090), 1).await.unwrap().remove(0);
        let left = world.store.renew("a", &runs, at(1100)).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_ne!(left[0].run, taken.run);
        assert_eq!(world.store.release_all("a").await.unwrap(), 1);
        assert_eq!(world.store.release_all("a").await.unwrap(), 0);
        assert_eq!(world.store.claim(&[S::Waiting], "c", at(1062), at(1090), 9).await.unwrap().len(), 1);
    }

    async fn a_run_without_work_is_held_against_all_loops_and_keeps_its_claim_when_it_is_retried(world: World) {
        let (_, run) = waiting(&world).await;
        world.end(&run, false).await;
        let held = world.store.hold_idle(&run, "h", at(1000), at(2000)).await.unwrap().unwrap();
        assert_eq!(held.status, S::Failed);
        assert_eq!(world.store.hold_idle(&run, "i", at(1001), at(2000)).await.unwrap(), None);
        world.store.retry(&run, at(1002)).await.unwrap().unwrap();
        assert!(world.store.claim(&[S::Waiting], "a", at(1003), at(1030), 9).await.unwrap().is_empty());
        world.store.release(&held).await.unwrap();
        assert_eq!(world.store.claim(&[S::Waiting], "a", at(1004), at(1030), 9).await.unwrap().len(), 1);
        assert_eq!(world.store.hold_idle(&run, "h", at(1005), at(2000)).await.unwrap(), None);
        assert_eq!(world.store.hold_idle(&"none".into(), "h", at(1005), at(2000)).await.unwrap(), None);
    }

    async fn what_is_done_a_second_time_is_answered_alike(world: World) {
        let plan = simple("image:v1", &[&["a:b"]], &[&[]]);
        world.apply(&plan).await;
        let data = DataId::new("once");
        let upload = Upload { volume: Volume::of(&data), data: data.clone(), sealed: sealed("d"), tags: tags(&["a:b"]) };
        for second in 0..2 {
            world.store.add_upload(&upload, at(second)).await.unwrap();
        }
        assert_eq!(world.project().await, 1);
        assert_eq!(world.place.number("select count(*) from run where signature is null").await, 1);
    }

    async fn only_a_held_ending_run_can_be_finished(world: World) {
        let (_, run) = waiting(&world).await;
        let claim = world.claim_run(&run).await;
        assert!(!world.store.finish(&claim, &[], None, None, at(500)).await.unwrap());
        assert!(world.store.settle(&claim, &to(S::Completing, at(0)), at(501)).await.unwrap());
        let old = world.claim_run(&run).await;
        let taken = world.store.claim(&[S::Completing], "b", at(2000), at(2030), 1).await.unwrap().remove(0);
        assert!(!world.store.finish(&old, &[], None, None, at(2001)).await.unwrap());
        assert!(world.store.finish(&taken, &[], None, None, at(2002)).await.unwrap());
        // As told to whoever did not hear the answer.
        assert!(world.store.finish(&taken, &[], None, None, at(2003)).await.unwrap());
        assert!(!world.store.finish(&old, &[], None, None, at(2004)).await.unwrap());
        assert_eq!(world.status(&run).await, S::Done);
    }

    async fn a_run_whose_outputs_cannot_be_kept_fails_and_nothing_is_made_of_it(world: World) {
        let (_, run) = waiting(&world).await;
        let claim = world.claim_run(&run).await;
        let ended = Settle { exit: Some(exit(0, "")), ..to(S::Completing, at(0)) };
        assert!(world.store.settle(&claim, &ended, at(500)).await.unwrap());
        let claim = world.claim_run(&run).await;
        let why = exit(252, "it is too deep");
        assert!(world.store.finish(&claim, &[], Some(&why), Some("it is too deep"), at(501)).await.unwrap());
        let shown = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!((shown.summary.status, shown.summary.exit), (S::Failed, Some(why)));
        for output in &shown.outputs {
            let data = world.store.data(&output.data).await.unwrap().unwrap();
            assert_eq!(data.digest, None);
        }
        assert_eq!(world.project().await, 0, "no Plan takes it");
    }

    async fn a_run_put_back_looks_as_if_it_had_never_started(world: World) {
        let (_, run) = waiting(&world).await;
        assert!(!world.store.put_back(&run, at(90)).await.unwrap(), "it has not started");
        let fresh = world.store.run(&run).await.unwrap().unwrap();
        let claim = world.claim_run(&run).await;
        let running = Settle {
            image_digest: Some("sha256:1".to_owned()),
            exit: Some(exit(3, "x")),
            reason: Some("r".to_owned()),
            ..to(S::Running, at(9000))
        };
        assert!(world.store.settle(&claim, &running, at(100)).await.unwrap());
        let claim = world.claim_run(&run).await;
        assert!(world.store.put_back(&run, at(101)).await.unwrap());
        let mut back = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!(back.summary.updated_at, at(101));
        back.summary.updated_at = fresh.summary.updated_at;
        assert_eq!(back, fresh);
        assert!(!world.store.settle(&claim, &to(S::Running, at(0)), at(102)).await.unwrap());
        assert_eq!(world.store.next_due(&[S::Waiting]).await.unwrap(), Some(at(101)));
        let upload = fresh.inputs[0].data.clone();
        let upload = world.store.data(&upload).await.unwrap().unwrap().upstream.run.id;
        assert!(!world.store.put_back(&upload, at(103)).await.unwrap());
    }

    async fn back_off_ends_when_someone_hastens(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        for _ in 0..4 {
            world.push(&["a:b"]).await;
        }
        assert_eq!(world.project().await, 4);
        let runs: Vec<RunId> = world.runs(Some(&plan)).await.into_iter().map(|run| run.summary.id).collect();
        for (run, due) in runs.iter().zip([1030, 1050, 1040, 1500]) {
            let claim = world.claim_run(run).await;
            assert!(world.store.settle(&claim, &to(S::Ready, at(due)), world.now()).await.unwrap());
        }
        let due = |now| {
            let world = &world;
            async move {
                let claims = world.store.claim(&[S::Ready], "me", at(now), at(now), 9).await.unwrap();
                claims.into_iter().map(|claim| claim.run).collect::<std::collections::BTreeSet<_>>()
            }
        };
        world.store.hasten_ready(at(1000), 2).await.unwrap();
        assert_eq!(due(1000).await, runs[..2].iter().cloned().collect(), "the two that are ready longest");
        world.store.hasten_ready(at(1000), 9).await.unwrap();
        assert_eq!(due(1000).await, runs[..3].iter().cloned().collect(), "not the one that is far off");
        world.store.hasten(&runs[3], at(1000)).await.unwrap();
        assert_eq!(due(1000).await.len(), 4);
        world.store.hasten(&runs[3], at(1200)).await.unwrap();
        assert_eq!(due(1000).await.len(), 4, "hastening never puts off");
    }

    async fn the_next_time_regards_leases_and_statuses(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        assert_eq!(world.store.next_due(&[S::Waiting]).await.unwrap(), None);
        world.push(&["a:b"]).await;
        world.push(&["a:b"]).await;
        assert_eq!(world.project().await, 2);
        let runs: Vec<RunId> = world.runs(Some(&plan)).await.into_iter().map(|run| run.summary.id).collect();
        for (run, due) in runs.iter().zip([300, 400]) {
            let claim = world.claim_run(run).await;
            assert!(world.store.settle(&claim, &to(S::Ready, at(due)), at(50)).await.unwrap());
        }
        assert_eq!(world.store.next_due(&[S::Waiting]).await.unwrap(), None);
        assert_eq!(world.store.next_due(&[S::Waiting, S::Ready]).await.unwrap(), Some(at(300)));
        let claims = world.store.claim(&[S::Ready], "me", at(300), at(350), 9).await.unwrap();
        assert_eq!(claims.len(), 1);
        assert_eq!(world.store.next_due(&[S::Ready]).await.unwrap(), Some(at(350)), "when the lease ends");
        let claims = world.store.claim(&[S::Ready], "me", at(400), at(600), 9).await.unwrap();
        assert_eq!(claims.len(), 2);
        assert_eq!(world.store.next_due(&[S::Ready]).await.unwrap(), Some(at(600)));
        world.store.take_over(at(450)).await.unwrap();
        assert_eq!(world.store.next_due(&[S::Ready]).await.unwrap(), Some(at(450)));
        assert!(!world.store.settle(&claims[0], &to(S::Running, at(0)), at(451)).await.unwrap());
        assert_eq!(world.store.claim(&[S::Ready], "me", at(450), at(460), 9).await.unwrap().len(), 2);
    }

    async fn runs_of_built_in_plans_are_never_claimed(world: World) {
        let data = world.push(&["a:b"]).await;
        let run = world.store.data(&data).await.unwrap().unwrap().upstream.run.id;
        for status in ["running", "completing", "aborting", "waiting"] {
            world.place.run(&format!("update run set status = '{status}' where id = '{run}'")).await;
            assert_eq!(world.store.claim(&S::ALL, "me", at(99), at(100), 9).await.unwrap(), []);
            assert_eq!(world.store.next_due(&S::ALL).await.unwrap(), None);
        }
    }

    async fn garbage_is_listed_until_it_is_forgotten_and_strange_volumes_are_told_apart(world: World) {
        let data = world.push(&["a:b"]).await;
        let run = world.store.data(&data).await.unwrap().unwrap().upstream.run.id;
        let strange = Volume::from_stored("data-knitid-strange");
        let known = Volume::of(&data);
        let both = [strange.clone(), known.clone()];
        assert_eq!(world.store.unknown_volumes(&both).await.unwrap(), std::slice::from_ref(&strange));
        assert_eq!(world.store.garbage(10).await.unwrap(), []);
        world.store.remove_run(&run, at(50)).await.unwrap().unwrap();
        assert_eq!(world.store.garbage(10).await.unwrap(), std::slice::from_ref(&known));
        let unknown = world.store.unknown_volumes(&both).await.unwrap();
        assert_eq!(unknown, std::slice::from_ref(&strange), "garbage is known");
        world.store.forget_garbage(&known).await.unwrap();
        assert_eq!(world.store.garbage(10).await.unwrap(), []);
        assert_eq!(world.store.unknown_volumes(&both).await.unwrap(), both);
        assert_eq!(world.store.unknown_volumes(&[]).await.unwrap(), []);
    }
}

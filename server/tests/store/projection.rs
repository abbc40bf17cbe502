//! From nominations to Runs, each combination once.

use crate::world::{World, at, change, on_both, simple, spec, tags};
use knit_api::run::RunStatus;
use knit_server::store::Projected;

on_both! {
    async fn a_push_becomes_a_run_with_its_outputs_and_log(world: World) {
        let plan = world.apply(&spec(
            r#"{"image":"train:v1","inputs":[{"path":"/in","tags":["kind:raw"]}],
                "outputs":[{"path":"/b","tags":["kind:model","x:y"]},{"path":"/a","tags":[]}],
                "log":{"tags":["kind:log"]}}"#,
        )).await;
        let data = world.push(&["kind:raw", "more:tags"]).await;
        world.push(&["kind:other"]).await;
        assert_eq!(world.store.plans_to_project().await.unwrap(), std::slice::from_ref(&plan));
        assert_eq!(world.project().await, 1);
        let run = &world.runs(Some(&plan)).await[0];
        assert_eq!(run.summary.status, RunStatus::Waiting);
        assert_eq!(run.inputs[0].data, data);
        let paths: Vec<&str> = run.outputs.iter().map(|output| output.path.as_str()).collect();
        assert_eq!(paths, ["/b", "/a"], "in the order of the Plan");
        let output = world.store.data(&run.outputs[0].data).await.unwrap().unwrap();
        let shown: Vec<String> = output.tags.iter().map(ToString::to_string).collect();
        let own_id = format!("knit#id:{}", output.id);
        assert_eq!(shown, ["kind:model", own_id.as_str(), "knit#transient:processing", "x:y"]);
        let log = run.log.as_ref().unwrap();
        let log = world.store.data(&log.data).await.unwrap().unwrap();
        assert_eq!(log.upstream.log.unwrap().tags, tags(&["kind:log"]));
        assert!(log.upstream.mountpoint.is_none());
        let place = world.store.log_place(&run.summary.id).await.unwrap().unwrap();
        assert_eq!(place.volume.unwrap().as_str(), format!("data-knitid-{}", log.id));
        assert!(world.store.plans_to_project().await.unwrap().is_empty());
    }

    async fn data_that_are_there_already_are_found_by_a_new_plan(world: World) {
        for _ in 0..3 {
            world.push(&["a:b", "c:d"]).await;
        }
        world.push(&["a:b"]).await;
        world.apply(&simple("train:v1", &[&["a:b", "c:d"]], &[])).await;
        assert_eq!(world.project().await, 3);
        assert_eq!(world.project().await, 0);
    }

    async fn every_combination_becomes_one_run_whoever_comes_last(world: World) {
        world.push(&["l:1"]).await;
        let plan = world.apply(&simple("train:v1", &[&["l:1"], &["r:1"]], &[&["o:1"]])).await;
        assert_eq!(world.project().await, 0);
        world.push(&["r:1"]).await;
        assert_eq!(world.project().await, 1);
        world.push(&["l:1"]).await;
        world.push(&["r:1"]).await;
        assert_eq!(world.project().await, 3);
        let pairs: std::collections::BTreeSet<_> = world.runs(Some(&plan)).await.into_iter()
            .map(|run| (run.inputs[0].data.clone(), run.inputs[1].data.clone()))
            .collect();
        assert_eq!(pairs.len(), 4);
    }

    async fn one_data_may_stand_on_two_inputs_and_the_order_of_inputs_counts(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"], &["a:b"]], &[])).await;
        world.push(&["a:b"]).await;
        world.push(&["a:b"]).await;
        assert_eq!(world.project().await, 4);
        let same = world.runs(Some(&plan)).await.iter().filter(|run| run.inputs[0].data == run.inputs[1].data).count();
        assert_eq!(same, 2);
    }

    async fn a_match_taken_away_and_given_again_while_its_spark_waits_stays_a_nomination(world: World) {
        world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        let data = world.push(&["a:b"]).await;
        assert!(world.store.change_tags(&data, &change(&[], &["a:b"], &[])).await.unwrap());
        assert_eq!(world.nominated(&data).await, Vec::<String>::new());
        assert!(world.store.change_tags(&data, &change(&["a:b"], &[], &[])).await.unwrap());
        assert_eq!(world.nominated(&data).await, ["/in/0"]);
        assert_eq!(world.project().await, 1);
        assert!(world.store.change_tags(&data, &change(&[], &[], &["a"])).await.unwrap());
        assert!(world.store.change_tags(&data, &change(&["a:b"], &[], &[])).await.unwrap());
        assert_eq!(world.project().await, 0, "the Run is there already");
    }

    async fn a_spark_without_its_nomination_makes_nothing(world: World) {
        world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        let data = world.push(&["a:b"]).await;
        assert!(world.store.change_tags(&data, &change(&[], &["a:b"], &[])).await.unwrap());
        assert_eq!(world.project().await, 0);
    }

    async fn a_data_of_one_id_or_one_time_is_wanted_by_that(world: World) {
        let one = world.push(&["a:b"]).await;
        let two = world.push(&["a:b"]).await;
        let time = world.store.data(&one).await.unwrap().unwrap().tags.into_iter()
            .find(|tag| tag.key == "knit#timestamp").unwrap();
        let (id, time) = (format!("knit#id:{one}"), time.to_string());
        world.apply(&simple("only-id:v1", &[&[&id]], &[])).await;
        world.apply(&simple("only-time:v1", &[&[&time]], &[])).await;
        world.apply(&simple("id-and-tag:v1", &[&[&id, "a:b"]], &[])).await;
        world.apply(&simple("time-and-tag:v1", &[&[&time, "a:b"]], &[])).await;
        world.apply(&simple("id-and-time:v1", &[&[&id, &time]], &[])).await;
        world.apply(&simple("id-and-wrong-tag:v1", &[&[&id, "a:c"]], &[])).await;
        assert_eq!(world.project().await, 5);
        assert_eq!(world.nominated(&one).await.len(), 5);
        assert_eq!(world.nominated(&two).await.len(), 0);
    }

    async fn a_large_product_comes_in_bounded_steps_that_may_be_repeated(world: World) {
        for _ in 0..51 {
            world.push(&["l:1"]).await;
            world.push(&["r:1"]).await;
        }
        let plan = world.apply(&simple("train:v1", &[&["l:1"], &["r:1"]], &[&["o:1"], &[]])).await;
        let first = world.store.project(&plan, at(1000)).await.unwrap();
        assert_eq!(first, Projected { made: 2000, more: true });
        assert_eq!(world.store.plan_is_quiet(&plan).await.unwrap(), Some(false));
        assert_eq!(world.project().await, 51 * 51 - 2000);
        assert_eq!(world.store.project(&plan, at(2000)).await.unwrap(), Projected { made: 0, more: false });
        let twice = "select count(*) from (select signature from run where signature is not null \
                     group by plan_id, signature having count(*) > 1) x";
        assert_eq!(world.place.number(twice).await, 0);
        let outputs = "select count(*) from data d join mount m on m.id = d.mount_id where m.path like '/out/%'";
        assert_eq!(world.place.number(outputs).await, 2 * 51 * 51);
    }

    async fn more_sparks_than_a_page_are_taken_page_by_page(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        for _ in 0..501 {
            world.push(&["a:b"]).await;
        }
        assert_eq!(world.store.project(&plan, at(1000)).await.unwrap(), Projected { made: 500, more: true });
        assert_eq!(world.store.project(&plan, at(1000)).await.unwrap(), Projected { made: 1, more: false });
    }

    async fn a_plan_without_a_row_or_without_an_image_is_nothing_to_project(world: World) {
        assert_eq!(world.store.project(&"none".into(), at(0)).await.unwrap(), Projected::default());
        let uploaded = "00000000-0000-4000-8000-000000000001".into();
        assert_eq!(world.store.project(&uploaded, at(0)).await.unwrap(), Projected::default());
    }

    async fn runs_of_an_inactive_plan_are_parked_until_it_is_active(world: World) {
        let mut inactive = simple("train:v1", &[&["a:b"]], &[]);
        inactive.active = Some(false);
        let plan = world.apply(&inactive).await;
        world.push(&["a:b"]).await;
        assert_eq!(world.project().await, 1);
        let run = world.only_run(&plan).await;
        let before = world.store.run(&run).await.unwrap().unwrap().summary.updated_at;
        assert_eq!(world.status(&run).await, RunStatus::Deactivated);
        assert_eq!(world.claim(RunStatus::Deactivated).await, []);
        assert_eq!(world.store.plan_is_quiet(&plan).await.unwrap(), Some(true));
        for (active, status) in [
            (true, RunStatus::Waiting), (true, RunStatus::Waiting),
            (false, RunStatus::Deactivated), (true, RunStatus::Waiting),
        ] {
            assert!(world.store.set_active(&plan, active, at(900)).await.unwrap());
            assert_eq!(world.status(&run).await, status);
            assert_eq!(world.store.plan(&plan).await.unwrap().unwrap().active, active);
        }
        assert_eq!(world.store.run(&run).await.unwrap().unwrap().summary.updated_at, before);
        world.settle(&run, RunStatus::Ready).await;
        assert!(world.store.set_active(&plan, false, at(900)).await.unwrap());
        assert_eq!(world.status(&run).await, RunStatus::Ready, "what is past waiting goes on");
    }
}

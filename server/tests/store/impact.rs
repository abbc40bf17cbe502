//! What a change would come to, compared with what it then comes to.

use crate::world::{World, change, on_both, simple};
use knit_api::explain::Count;
use knit_api::id::{PlanId, RunId};
use knit_api::impact::{Deed, Fate, RunImpact};
use knit_api::run::RunStatus as S;
use knit_api::tag::TagChange;
use knit_server::store::Refusal;
use std::collections::BTreeMap;

async fn impact(world: &World, run: &RunId, of: Deed) -> (RunImpact, Option<Refusal>) {
    world.store.run_impact(run, of).await.unwrap().unwrap()
}

/// Everything that a change could touch, as numbers.
async fn rows(world: &World) -> Vec<i64> {
    let mut found = Vec::new();
    for table in ["run", "data", "tag", "data_tag", "nomination", "spark", "garbage", "run_input"] {
        found.push(world.place.number(&format!("select count(*) from {table}")).await);
    }
    found.push(world.place.number("select cast(sum(rev) as bigint) from data").await);
    found
}

/// Number of Runs by Plan.
async fn runs_by_plan(world: &World) -> BTreeMap<PlanId, u64> {
    let mut counts = BTreeMap::new();
    for run in world.runs(None).await {
        *counts.entry(run.summary.plan.id).or_default() += 1;
    }
    counts
}

/// Foresees a change of tags, makes it, and compares.
async fn tags_foreseen_and_changed(world: &World, data: &knit_api::id::DataId, change: &TagChange) -> u64 {
    let before = rows(world).await;
    let foreseen = world.store.tag_impact(data, change).await.unwrap().unwrap();
    assert_eq!(rows(world).await, before, "asking changes nothing");
    let nominated = world.nominated(data).await;
    let runs = runs_by_plan(world).await;

    assert!(world.store.change_tags(data, change).await.unwrap());
    world.project().await;
    let shown = world.store.data(data).await.unwrap().unwrap();
    assert_eq!(shown.user_tags().cloned().collect::<Vec<_>>(), foreseen.tags);
    let mut expected: Vec<String> = nominated;
    for gone in &foreseen.withdrawn.inputs {
        let at = expected.iter().position(|path| *path == gone.mountpoint.path).unwrap();
        expected.remove(at);
    }
    expected.extend(foreseen.nominated.inputs.iter().map(|input| input.mountpoint.path.clone()));
    let mut found = world.nominated(data).await;
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let mut total = 0;
    for (plan, count) in runs_by_plan(world).await {
        let new = count - runs.get(&plan).copied().unwrap_or(0);
        let told = foreseen.runs.iter().find(|runs| runs.plan == plan).map_or(Count::exactly(0), |runs| runs.runs);
        assert_eq!(told, Count::exactly(new), "{plan}");
        total += new;
    }
    total
}

on_both! {
    async fn a_change_of_tags_comes_to_what_was_foreseen(world: World) {
        world.apply(&simple("one:v1", &[&["a:b", "c:d"]], &[])).await;
        world.apply(&simple("pairs:v1", &[&["a:b", "c:d"], &["c:d"], &["x:y"]], &[])).await;
        world.apply(&simple("loses:v1", &[&["e:f"]], &[])).await;
        for _ in 0..2 {
            world.push(&["x:y"]).await;
            world.push(&["a:b", "c:d"]).await;
        }
        let data = world.push(&["a:b", "e:f"]).await;
        world.project().await;
        let add = change(&["c:d"], &[], &["e"]);
        // one: itself; pairs: with it on either or both of two inputs (3 * 3 - 2 * 2), times two of the third.
        assert_eq!(tags_foreseen_and_changed(&world, &data, &add).await, 1 + 5 * 2);
        assert_eq!(tags_foreseen_and_changed(&world, &data, &add).await, 0, "once more changes nothing");
        assert_eq!(tags_foreseen_and_changed(&world, &data, &change(&[], &["c:d"], &[])).await, 0);
        assert_eq!(tags_foreseen_and_changed(&world, &data, &add).await, 0, "the same combinations are not run again");
        assert_eq!(world.store.tag_impact(&"none".into(), &add).await.unwrap(), None);
    }

    async fn removing_comes_to_what_was_foreseen(world: World) {
        let mut train = simple("train:v1", &[&["kind:raw"]], &[&["kind:model"], &["kind:metrics"]]);
        train.log = Some(knit_api::plan::LogPoint { tags: vec![] });
        let train = world.apply(&train).await;
        let eval = world.apply(&simple("eval:v1", &[&["kind:model"]], &[])).await;
        let raw = world.push(&["kind:raw"]).await;
        world.project().await;
        let run = world.only_run(&train).await;
        assert_eq!(impact(&world, &run, Deed::Rm).await.1, Some(Refusal::Status(S::Waiting)));
        world.end(&run, true).await;
        world.project().await;
        let below = world.only_run(&eval).await;

        let (_, refusal) = impact(&world, &run, Deed::Rm).await;
        assert_eq!(refusal, Some(Refusal::HasDownstreams(vec![below.clone()])));
        assert_eq!(refusal, world.store.remove_run(&run, world.now()).await.unwrap().err());
        let upload = world.store.run_of(&raw).await.unwrap().unwrap();
        assert_eq!(impact(&world, &upload, Deed::Retry).await.1, Some(Refusal::BuiltIn));

        world.end(&below, true).await;
        world.store.remove_run(&below, world.now()).await.unwrap().unwrap();
        let before = rows(&world).await;
        let (foreseen, refusal) = impact(&world, &run, Deed::Rm).await;
        assert_eq!(rows(&world).await, before, "asking changes nothing");
        assert_eq!((refusal, foreseen.becomes, foreseen.forgotten), (None, Fate::Invalidated, Count::exactly(1)));
        let paths: Vec<Option<&str>> = foreseen.data.iter().map(|data| data.path.as_deref()).collect();
        assert_eq!(paths, [Some("/out/0"), Some("/out/1"), None], "the log stands last");
        assert!(foreseen.data.iter().all(|data| data.bytes == Some(5_000_000_000)));
        assert_eq!(foreseen.withdrawn.count, Count::exactly(1));
        assert_eq!(foreseen.withdrawn.inputs[0].plan, eval);

        let model = foreseen.data[0].id.clone();
        assert_eq!(world.store.remove_data(&model, world.now()).await.unwrap(), Ok(run.clone()));
        assert_eq!(world.status(&run).await, S::Invalidated);
        for data in &foreseen.data {
            assert_eq!(world.store.data(&data.id).await.unwrap(), None);
        }
        assert_eq!(world.store.run(&below).await.unwrap(), None, "it was forgotten");
        assert_eq!(world.store.run_impact(&run, Deed::Rm).await.unwrap(), None);
    }

    async fn removing_an_upload_erases_it_and_is_refused_while_it_is_used(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        let data = world.push(&["a:b"]).await;
        let upload = world.store.run_of(&data).await.unwrap().unwrap();
        let (foreseen, _) = impact(&world, &upload, Deed::Rm).await;
        assert_eq!((foreseen.becomes, foreseen.data.len()), (Fate::Erased, 1));
        world.project().await;
        let run = world.only_run(&plan).await;
        let refused = world.store.remove_data(&data, world.now()).await.unwrap().unwrap_err();
        assert_eq!(refused, (upload.clone(), Refusal::HasDownstreams(vec![run.clone()])));
        world.end(&run, true).await;
        world.store.remove_run(&run, world.now()).await.unwrap().unwrap();
        assert_eq!(world.store.remove_data(&data, world.now()).await.unwrap(), Ok(upload.clone()));
        assert_eq!(world.store.run(&upload).await.unwrap(), None);
        let gone = world.store.remove_data(&data, world.now()).await.unwrap().unwrap_err();
        assert_eq!(gone.1, Refusal::NotFound);
        assert_eq!(world.store.run_of(&data).await.unwrap(), None);
    }

    async fn a_retry_that_ends_well_comes_to_what_was_foreseen(world: World) {
        let train = world.apply(&simple("train:v1", &[&["kind:raw"]], &[&["kind:model"], &["kind:model", "x:y"]])).await;
        let pairs = world.apply(&simple("pairs:v1", &[&["kind:model"], &["kind:model", "x:y"], &["kind:other"]], &[])).await;
        world.push(&["kind:raw"]).await;
        world.push(&["kind:other"]).await;
        world.push(&["kind:other"]).await;
        world.push(&["kind:model"]).await;
        world.project().await;
        let run = world.only_run(&train).await;
        world.end(&run, true).await;
        world.project().await;
        for below in world.runs(Some(&pairs)).await {
            world.end(&below.summary.id, false).await;
            world.store.remove_run(&below.summary.id, world.now()).await.unwrap().unwrap();
        }
        let (foreseen, refusal) = impact(&world, &run, Deed::Retry).await;
        assert_eq!((refusal, foreseen.becomes, foreseen.data.len()), (None, Fate::Waiting, 2));
        assert_eq!(foreseen.feeds.len(), 1);
        // Three models, one of them with the other tag too, two others.
        assert_eq!((&foreseen.feeds[0].plan, foreseen.feeds[0].runs), (&pairs, Count::exactly(3 * 2)));
        world.store.retry(&run, world.now()).await.unwrap().unwrap();
        world.end(&run, true).await;
        world.project().await;
        assert_eq!(world.runs(Some(&pairs)).await.len(), 6);
    }
}

//! Graphs: what lineage is made of, however it is fetched, and things listed by id.

use crate::world::{World, on_both, simple};
use knit_api::graph::{Depth, Reach};
use knit_api::id::{DataId, RunId};
use knit_server::rules::lineage::{Found, Lineage};

/// The nodes of a lineage, in order.
async fn nodes(world: &World, start: &DataId, upstream: bool, downstream: bool, depth: Depth) -> Vec<String> {
    let reach = Reach { upstream, downstream, depth };
    let facts = world.store.lineage(start, reach).await.unwrap().unwrap();
    let lineage = Lineage::walk(facts, start.as_str(), reach);
    let node = |found: Found<'_>| match found {
        Found::Data(id) | Found::Run(id) => Some(id.to_owned()),
        _ => None,
    };
    lineage.found(0, usize::MAX).filter_map(node).collect()
}

fn plain<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn texts(ids: &[&dyn ToString]) -> Vec<String> {
    ids.iter().map(|id| (**id).to_string()).collect()
}

on_both! {
    async fn lineage_is_followed_in_both_directions_and_as_far_as_asked(world: World) {
        let train = world.apply(&simple("train:v1", &[&["a:b"]], &[&["type:model"], &["type:sum"]])).await;
        let check = world.apply(&simple("check:v1", &[&["type:model"], &["c:d"]], &[&["type:score"]])).await;
        let set = world.push(&["a:b"]).await;
        let other = world.push(&["c:d"]).await;
        world.project().await;
        let trained = world.only_run(&train).await;
        world.end(&trained, true).await;
        world.project().await;
        let checked = world.only_run(&check).await;
        let run = world.store.run(&trained).await.unwrap().unwrap();
        let (model, sum) = (run.outputs[0].data.clone(), run.outputs[1].data.clone());
        let score = world.output(&checked).await;
        let uploaded = async |data: &DataId| world.store.data(data).await.unwrap().unwrap().upstream.run.id;
        let (upload, upload_of_other) = (uploaded(&set).await, uploaded(&other).await);

        let above_score: [&dyn ToString; 9] =
            [&score, &checked, &model, &other, &trained, &sum, &set, &upload_of_other, &upload];
        let below_set: [&dyn ToString; 7] = [&set, &trained, &model, &sum, &checked, &other, &score];
        for depth in [Depth::All, Depth::Steps(3), Depth::Steps(100_000)] {
            assert_eq!(nodes(&world, &score, true, false, depth).await, texts(&above_score), "{depth}");
            assert_eq!(nodes(&world, &set, false, true, depth).await, texts(&below_set), "{depth}");
        }
        assert_eq!(nodes(&world, &score, true, false, Depth::Steps(1)).await, texts(&above_score[..4]));
        assert_eq!(nodes(&world, &set, false, true, Depth::Steps(1)).await, texts(&below_set[..4]));
        let both: [&dyn ToString; 7] = [&model, &trained, &sum, &set, &checked, &other, &score];
        assert_eq!(nodes(&world, &model, true, true, Depth::Steps(1)).await, texts(&both));
        assert_eq!(nodes(&world, &model, false, false, Depth::All).await, texts(&[&model]));
        let all = Reach { upstream: true, downstream: true, depth: Depth::All };
        assert!(world.store.lineage(&"none".into(), all).await.unwrap().is_none());
    }

    async fn runs_are_followed_in_the_order_in_which_a_data_names_them(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"], &["c:d"]], &[&[]])).await;
        let set = world.push(&["a:b"]).await;
        for _ in 0..5 {
            world.push(&["c:d"]).await;
        }
        world.project().await;
        let made = world.runs(Some(&plan)).await;
        world.end(&made[0].summary.id, true).await;
        world.end(&made[3].summary.id, false).await;
        let gone = made[1].summary.id.clone();
        world.end(&gone, false).await;
        world.store.remove_run(&gone, world.now()).await.unwrap().unwrap();
        let shown = world.store.data(&set).await.unwrap().unwrap();
        let named: Vec<String> = shown.downstreams.iter().map(|down| down.run.id.to_string()).collect();
        assert_eq!(named.len(), 4, "an invalidated one is not named");
        for depth in [Depth::All, Depth::Steps(1)] {
            let mut found = nodes(&world, &set, false, true, depth).await;
            found.retain(|id| made.iter().any(|run| run.summary.id.as_str() == id));
            assert_eq!(found, named, "{depth}");
        }
    }

    async fn things_are_listed_in_the_order_of_the_ids_and_missing_ones_left_out(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[&[]])).await;
        let mut data = Vec::new();
        for _ in 0..4 {
            data.push(world.push(&["a:b"]).await);
        }
        world.project().await;
        data.reverse();
        data.insert(1, "none".into());
        let found = world.store.data_of(&plain(&data)).await.unwrap();
        data.remove(1);
        assert_eq!(found.iter().map(|data| &data.id).collect::<Vec<_>>(), data.iter().collect::<Vec<_>>());
        assert_eq!(found[0], world.store.data(&data[0]).await.unwrap().unwrap());

        let mut runs: Vec<RunId> = world.runs(Some(&plan)).await.into_iter().map(|run| run.summary.id).collect();
        runs.reverse();
        let found = world.store.runs_of(&plain(&runs)).await.unwrap();
        assert_eq!(found.iter().map(|run| &run.summary.id).collect::<Vec<_>>(), runs.iter().collect::<Vec<_>>());
        let plans = ["none".to_owned(), plan.to_string()];
        assert_eq!(world.store.plans_of(&plain(&plans)).await.unwrap(), [world.store.plan(&plan).await.unwrap().unwrap()]);
    }
}

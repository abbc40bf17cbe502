//! Data: what is shown of them, how they are found, how their tags change.

use crate::world::{World, at, change, on_both, simple, tags};
use knit_api::id::DataId;
use knit_api::run::RunStatus;
use knit_api::tag::{Tag, TagSet};
use knit_api::time::Timestamp;
use knit_server::engine::Volume;
use knit_server::store::DataQuery;

async fn find(world: &World, with: &[&str]) -> Vec<DataId> {
    find_between(world, with, None, None).await
}

async fn find_between(world: &World, with: &[&str], since: Option<i64>, until: Option<i64>) -> Vec<DataId> {
    let tags: TagSet = with.iter().map(|text| Tag::split(text).unwrap()).collect();
    // The time of a Data is known to the millisecond, and never later than what happened then.
    let bound = |seconds| Timestamp::from_millis(at(seconds).millis());
    let query = DataQuery { tags, since: since.map(bound), until: until.map(bound), transient: None };
    world.store.find_data(&query).await.unwrap().into_iter().map(|data| data.id).collect()
}

on_both! {
    async fn a_data_is_shown_as_on_the_wire(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[&["c:d"]])).await;
        world.apply(&simple("other:v1", &[&["a:b"], &["a:b", "z:z"]], &[])).await;
        let data = world.push(&["z:z", "a:b", "a:b", "\u{65e5}\"\\: "]).await;
        assert!(world.project().await > 0);
        let run = world.only_run(&plan).await;
        let shown = world.store.data(&data).await.unwrap().unwrap();
        let upload = &shown.upstream.run;
        let time = at(0).to_string();
        assert_eq!(shown.nomination.len(), 3);
        assert_eq!(shown.downstreams.len(), 3, "one Run has it on two inputs");
        let downstream = shown.downstreams.iter().find(|down| down.run.id == run).unwrap();
        let mut narrow = shown.clone();
        narrow.downstreams = vec![downstream.clone()];
        narrow.nomination.retain(|nomination| nomination.plan.id == plan);
        let updated = downstream.run.updated_at;
        let train = format!(r#"{{"planId":"{plan}","image":"train:v1"}}"#);
        let wanted = [
            format!(r#"{{"knitId":"{data}","tags":["a:b","knit#id:{data}","knit#timestamp:{time}","z:z","#),
            r#""日\"\\:"],"upstream":{"mountpoint":{"path":"/upload","tags":[]},"#.to_owned(),
            format!(r#""run":{{"runId":"{}","status":"done","updatedAt":"{time}","#, upload.id),
            r#""plan":{"planId":"00000000-0000-4000-8000-000000000001","name":"knit#uploaded"}}},"#.to_owned(),
            r#""downstreams":[{"mountpoint":{"path":"/in/0","tags":["a:b"]},"#.to_owned(),
            format!(r#""run":{{"runId":"{run}","status":"waiting","updatedAt":"{updated}","plan":{train}}}}}],"#),
            format!(r#""nomination":[{{"path":"/in/0","tags":["a:b"],"plan":{train}}}],"digest":"d1"}}"#),
        ];
        assert_eq!(serde_json::to_string(&narrow).unwrap(), wanted.concat());
        assert_eq!(world.store.data(&"none".into()).await.unwrap(), None);
        assert_eq!(world.store.data(&"no\0ne".into()).await.unwrap(), None);
        let place = world.store.locate(&data).await.unwrap().unwrap();
        assert_eq!((place.volume, place.status), (Volume::of(&data), RunStatus::Done));
        assert_eq!(world.store.locate(&"none".into()).await.unwrap(), None);
    }

    async fn data_are_found_by_all_of_their_tags_in_the_order_of_time(world: World) {
        let one = world.push(&["a:b", "c:d"]).await;
        let two = world.push(&["a:b"]).await;
        let three = world.push(&["c:d", "a:b"]).await;
        assert_eq!(find(&world, &[]).await, [one.clone(), two.clone(), three.clone()]);
        assert_eq!(find(&world, &["a:b"]).await, [one.clone(), two, three.clone()]);
        assert_eq!(find(&world, &["a:b", "c:d"]).await, [one, three]);
        assert_eq!(find(&world, &["a:b", "never:seen"]).await, []);
        assert_eq!(find(&world, &["a:B"]).await, []);
    }

    async fn data_without_a_time_come_last_and_are_dated_by_their_run(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[&["x:y"]])).await;
        let one = world.push(&["a:b", "x:y"]).await;
        assert_eq!(world.store.project(&plan, at(5)).await.unwrap().made, 1);
        let run = world.only_run(&plan).await;
        let output = world.output(&run).await;
        for _ in 0..8 {
            world.now();
        }
        let two = world.push(&["x:y"]).await;
        let all = [one.clone(), two.clone(), output.clone()];
        for with in [&[][..], &["x:y"]] {
            assert_eq!(find(&world, with).await, all);
            assert_eq!(find_between(&world, with, Some(0), None).await, all);
            assert_eq!(find_between(&world, with, Some(5), None).await, all[1..]);
            assert_eq!(find_between(&world, with, Some(0), Some(5)).await, all[..1]);
            assert_eq!(find_between(&world, with, Some(1), Some(6)).await, all[2..]);
            assert_eq!(find_between(&world, with, Some(6), Some(6)).await, []);
            assert_eq!(find_between(&world, with, Some(-63_900_000_000), None).await, all);
        }
    }

    async fn data_are_found_by_system_tags(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[&[]])).await;
        let one = world.push(&["a:b"]).await;
        let two = world.push(&["a:b"]).await;
        assert_eq!(world.project().await, 2);
        let runs = world.runs(Some(&plan)).await;
        let (failed, processing) = (runs[0].outputs[0].data.clone(), runs[1].outputs[0].data.clone());
        world.end(&runs[0].summary.id, false).await;
        let (by_one, by_two) = (format!("knit#id:{one}"), format!("knit#id:{two}"));
        let time = |data: &knit_api::data::Data| {
            data.tags.iter().find(|tag| tag.key == "knit#timestamp").unwrap().to_string()
        };
        let shown = world.store.data(&two).await.unwrap().unwrap();
        let updated = world.store.run(&runs[1].summary.id).await.unwrap().unwrap().summary.updated_at;
        let elsewhere = "knit#timestamp:2025-02-03T13:05:06.123+09:00";
        for (with, found) in [
            (&[by_one.as_str()][..], &[&one][..]),
            (&[&by_one, "a:b"], &[&one]),
            (&[&by_one, "a:c"], &[]),
            (&[&by_one, &by_two], &[]),
            (&[&time(&shown)], &[&two]),
            (&[elsewhere], &[&one]),
            (&[elsewhere, &time(&shown)], &[]),
            (&[&format!("knit#timestamp:{updated}")], &[&processing]),
            (&["knit#transient:processing"], &[&processing]),
            (&["knit#transient:failed"], &[&failed]),
            (&["knit#transient:failed", "knit#transient:processing"], &[]),
            (&["knit#transient:other"], &[]),
            (&["knit#other:x"], &[]),
            (&["knit#timestamp:yesterday"], &[]),
        ] {
            assert_eq!(find(&world, with).await.iter().collect::<Vec<_>>(), found, "{with:?}");
        }
    }

    async fn tags_on_very_many_data_are_found_along_the_time_as_well(world: World) {
        let mut all = Vec::new();
        for n in 0..520 {
            all.push(world.push(if n % 2 == 0 { &["a:b", "half:x"] } else { &["a:b"] }).await);
        }
        assert_eq!(find(&world, &["a:b"]).await, all);
        assert_eq!(find_between(&world, &["a:b"], Some(510), None).await, all[510..]);
        assert_eq!(find_between(&world, &["a:b"], Some(500), Some(502)).await, all[500..502]);
        let halves = find_between(&world, &["a:b", "half:x"], Some(515), None).await;
        assert_eq!(halves, [all[516].clone(), all[518].clone()]);
    }

    async fn tags_are_removed_by_pair_and_by_key_before_others_are_added(world: World) {
        let data = world.push(&["a:1", "a:2", "b:1", "c:1"]).await;
        let all = change(&["b:1", "d:1", "d:1", "c:1"], &["b:1", "never:there"], &["a", "nor:this"]);
        assert!(world.store.change_tags(&data, &all).await.unwrap());
        let shown = world.store.data(&data).await.unwrap().unwrap();
        assert_eq!(shown.user_tags().cloned().collect::<Vec<_>>(), tags(&["b:1", "c:1", "d:1"]));
        assert!(world.store.change_tags(&data, &change(&[], &[], &[])).await.unwrap());
        for nothing in [change(&["a:b"], &[], &[]), change(&[], &["a:b"], &[]), change(&[], &[], &[])] {
            assert!(!world.store.change_tags(&"none".into(), &nothing).await.unwrap());
        }
        assert_eq!(world.place.number("select count(*) from tag where key = 'a' and value = 'b'").await, 0);
    }

    async fn a_change_of_tags_matches_again(world: World) {
        world.apply(&simple("one:v1", &[&["a:1"]], &[])).await;
        world.apply(&simple("two:v1", &[&["a:2", "b:1"]], &[])).await;
        let data = world.push(&["a:1", "b:1"]).await;
        assert_eq!(world.nominated(&data).await.len(), 1);
        assert!(world.store.change_tags(&data, &change(&["a:2"], &[], &[])).await.unwrap());
        assert_eq!(world.nominated(&data).await.len(), 2);
        assert!(world.store.change_tags(&data, &change(&[], &["a:1"], &[])).await.unwrap());
        assert_eq!(world.nominated(&data).await.len(), 1);
        assert_eq!(world.project().await, 1, "what was a match and is no more makes no Run");
    }

    async fn tags_of_a_data_that_is_not_done_count_when_it_is(world: World) {
        let plan = world.apply(&simple("one:v1", &[&["a:1"]], &[&[]])).await;
        let next = world.apply(&simple("two:v1", &[&["late:1"]], &[])).await;
        world.push(&["a:1"]).await;
        assert_eq!(world.project().await, 1);
        let run = world.only_run(&plan).await;
        let output = world.output(&run).await;
        assert!(world.store.change_tags(&output, &change(&["late:1"], &[], &[])).await.unwrap());
        assert_eq!(world.nominated(&output).await.len(), 0);
        world.end(&run, true).await;
        assert_eq!(world.nominated(&output).await.len(), 1);
        assert_eq!(world.project().await, 1);
        world.only_run(&next).await;
    }

    async fn long_and_empty_tags_are_tags_too(world: World) {
        let long = Tag::new("k".repeat(1024), "v".repeat(1 << 20));
        let data = world.push(&[":", "a:", ":b", &long.to_string()]).await;
        assert_eq!(find(&world, &[":"]).await, std::slice::from_ref(&data));
        assert_eq!(find(&world, &[&long.to_string(), ":b", "a:"]).await, std::slice::from_ref(&data));
        assert_eq!(find(&world, &["b:"]).await, []);
    }

    async fn new_tags_that_several_bring_at_once_are_lost_by_none(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["x:0", "y:0"]], &[])).await;
        for round in 0..10 {
            let (x, y) = (format!("x:{round}"), format!("y:{round}"));
            let (just_x, both) = ([x.as_str()], [y.as_str(), &x]);
            let (one, two) = tokio::join!(world.push(&just_x), world.push(&both));
            assert_eq!(find(&world, &[&x]).await.len(), 2);
            let (a, b) = (change(&[&y, "n:1"], &[], &[]), change(&["n:1", "n:2"], &[&x], &[]));
            let (a, b) = tokio::join!(world.store.change_tags(&one, &a), world.store.change_tags(&two, &b));
            assert!(a.unwrap() && b.unwrap());
            assert_eq!(find(&world, &[&x, &y]).await, std::slice::from_ref(&one));
            assert_eq!(world.nominated(&one).await.len(), usize::from(round == 0));
        }
        assert_eq!(world.project().await, world.runs(Some(&plan)).await.len());
    }
}

//! Plans: registered once, never in a circle, shown with their neighbours, found.

use crate::world::{World, at, on_both, simple, spec, to};
use knit_api::id::PlanId;
use knit_api::plan::{AnnotationChange, ResourceChange};
use knit_api::run::RunStatus;
use knit_api::tag::{Tag, TagSet};
use knit_server::store::{PlanQuery, Registered};

const UPLOADED: &str = "00000000-0000-4000-8000-000000000001";
const IMPORTED: &str = "00000000-0000-4000-8000-000000000002";

fn set(texts: &[&str]) -> TagSet {
    texts.iter().map(|text| Tag::split(text).unwrap()).collect()
}

async fn find(world: &World, query: PlanQuery) -> Vec<PlanId> {
    world.store.find_plans(&query).await.unwrap().into_iter().map(|plan| plan.summary.id).collect()
}

fn sorted(ids: &[&PlanId]) -> Vec<PlanId> {
    let mut ids: Vec<PlanId> = ids.iter().map(|id| (*id).clone()).collect();
    ids.sort();
    ids
}

fn resources(json: &str) -> ResourceChange {
    knit_api::json::from_slice(json.as_bytes()).unwrap()
}

fn annotations(json: &str) -> AnnotationChange {
    knit_api::json::from_slice(json.as_bytes()).unwrap()
}

on_both! {
    async fn a_plan_is_shown_as_it_was_registered(world: World) {
        let plan = world.apply(&spec(
            r#"{"image":"localhost:30503/train:v1","entrypoint":["sh","-c"],"args":["b","a",""],
                "annotations":["b=2","a=1"],"active":false,
                "inputs":[{"path":"/in/b","tags":["knit#timestamp:2025-02-03T13:05:06.123+09:00","a:b"]},
                    {"path":"/in/a","tags":["knit#id:x"]}],
                "outputs":[{"path":"/out/z","tags":["m:n"]},{"path":"/out/y","tags":[]}],"log":{"tags":["l:l"]},
                "resources":{"cpu":"0.5","example.com/gpu":2},"on_node":{"must":["k=v"],"may":["x=y"]},
                "service_account":"acc"}"#,
        )).await;
        let wanted = [
            format!(r#"{{"planId":"{plan}","image":"localhost:30503/train:v1","entrypoint":["sh","-c"],"#),
            r#""args":["b","a",""],"annotations":["a=1","b=2"],"#.to_owned(),
            r#""inputs":[{"path":"/in/b","tags":["a:b","knit#timestamp:2025-02-03T04:05:06.123+00:00"],"#.to_owned(),
            r#""upstreams":[]},{"path":"/in/a","tags":["knit#id:x"],"upstreams":[]}],"#.to_owned(),
            r#""outputs":[{"path":"/out/z","tags":["m:n"],"downstreams":[]},"#.to_owned(),
            r#"{"path":"/out/y","tags":[],"downstreams":[]}],"log":{"tags":["l:l"],"downstreams":[]},"#.to_owned(),
            r#""active":false,"on_node":{"may":["x=y"],"must":["k=v"]},"#.to_owned(),
            r#""resources":{"cpu":"500m","example.com/gpu":"2","memory":"1Gi"},"service_account":"acc"}"#.to_owned(),
        ];
        let shown = world.store.plan(&plan).await.unwrap().unwrap();
        assert_eq!(serde_json::to_string(&shown).unwrap(), wanted.concat());
        assert_eq!(world.store.plan(&"none".into()).await.unwrap(), None);
        assert_eq!(world.store.plan_is_quiet(&plan).await.unwrap(), Some(true));
        assert_eq!(world.store.plan_is_quiet(&"none".into()).await.unwrap(), None);
    }

    async fn an_equal_plan_is_named_instead_of_registered(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"], &["c:d"]], &[&["e:f"]])).await;
        let mut equal = simple("train:v1", &[&["a:b"], &["c:d"]], &[&["e:f"]]);
        equal.inputs.reverse();
        equal.active = Some(false);
        equal.resources.insert("cpu".to_owned(), "4".parse().unwrap());
        assert_eq!(world.store.register_plan(&equal).await.unwrap(), Registered::Equal(plan));
        world.apply(&simple("train:v2", &[&["a:b"], &["c:d"]], &[&["e:f"]])).await;
        assert_eq!(find(&world, PlanQuery::default()).await.len(), 4);
    }

    async fn of_equal_plans_registered_at_once_one_is_new(world: World) {
        let spec = simple("train:v1", &[&["a:b"]], &[]);
        let register = || world.store.register_plan(&spec);
        let (a, b, c) = tokio::join!(register(), register(), register());
        let outcomes = [a.unwrap(), b.unwrap(), c.unwrap()];
        let new: Vec<&PlanId> = outcomes.iter()
            .filter_map(|outcome| if let Registered::New(id) = outcome { Some(id) } else { None })
            .collect();
        assert_eq!(new.len(), 1);
        let equal = Registered::Equal(new[0].clone());
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == equal).count(), 2);
    }

    async fn a_plan_that_feeds_itself_is_refused_and_leaves_nothing(world: World) {
        let own = simple("own:v1", &[&["a:b"]], &[&["a:b", "c:d"]]);
        match world.store.register_plan(&own).await.unwrap() {
            Registered::Cycle(through) => assert_eq!(through.len(), 1),
            other => panic!("{other:?}"),
        }
        let logs = spec(r#"{"image":"logs:v1","inputs":[{"path":"/in","tags":["a:b"]}],"log":{"tags":["a:b"]}}"#);
        assert!(matches!(world.store.register_plan(&logs).await.unwrap(), Registered::Cycle(_)));
        let one = world.apply(&simple("one:v1", &[&["s:1"]], &[&["s:2", "x:x"]])).await;
        let two = world.apply(&simple("two:v1", &[&["s:2"]], &[&["s:3"]])).await;
        world.apply(&simple("side:v1", &[&["s:2"]], &[&["s:9"]])).await;
        let three = simple("three:v1", &[&["s:3"]], &[&["s:1"]]);
        match world.store.register_plan(&three).await.unwrap() {
            Registered::Cycle(through) => assert_eq!(through[1..], [one, two]),
            other => panic!("{other:?}"),
        }
        assert_eq!(find(&world, PlanQuery::default()).await.len(), 5);
        assert_eq!(world.place.number("select count(*) from mount_tag mt join tag t on t.id = mt.tag_id \
            where t.key = 'c'").await, 0);
    }

    async fn what_needs_more_tags_than_are_made_or_one_certain_data_is_no_circle(world: World) {
        world.apply(&simple("more:v1", &[&["a:b", "c:d"]], &[&["a:b"]])).await;
        world.apply(&simple("apart:v1", &[&["a:b", "c:d"]], &[&["a:b"], &["c:d"]])).await;
        world.apply(&simple("certain:v1", &[&["e:f", "knit#id:x"]], &[&["e:f"]])).await;
        let time = "knit#timestamp:2025-02-03T04:05:06Z";
        world.apply(&simple("dated:v1", &[&["e:f", time]], &[&["e:f"]])).await;
    }

    async fn a_diamond_of_plans_is_walked_once(world: World) {
        for level in 0..12 {
            let (from, to) = (format!("l:{level}"), format!("l:{}", level + 1));
            world.apply(&simple(&format!("left{level}:v1"), &[&[&from]], &[&[&to]])).await;
            world.apply(&simple(&format!("right{level}:v1"), &[&[&from]], &[&[&to]])).await;
        }
        let closing = simple("closing:v1", &[&["l:12"]], &[&["l:0"]]);
        match world.store.register_plan(&closing).await.unwrap() {
            Registered::Cycle(through) => assert_eq!(through.len(), 13),
            other => panic!("{other:?}"),
        }
    }

    async fn neighbours_are_those_whose_output_has_every_tag_of_the_input(world: World) {
        let source = world.apply(&spec(
            r#"{"image":"source:v1","inputs":[{"path":"/in","tags":["raw:1"]}],
                "outputs":[{"path":"/model","tags":["k:model","v:1"]},{"path":"/empty","tags":[]}],
                "log":{"tags":["k:log"]}}"#,
        )).await;
        let model = world.apply(&simple("model:v1", &[&["k:model"], &["k:model", "v:2"]], &[])).await;
        let log = world.apply(&simple("log:v1", &[&["k:log"], &["k:log", "knit#id:x"]], &[])).await;
        let shown = world.store.plan(&source).await.unwrap().unwrap();
        let downstreams = |list: &[knit_api::plan::PlanDownstream]| {
            list.iter().map(|down| (down.plan.id.clone(), down.mountpoint.path.clone())).collect::<Vec<_>>()
        };
        assert_eq!(downstreams(&shown.outputs[0].downstreams), [(model.clone(), "/in/0".to_owned())]);
        assert_eq!(downstreams(&shown.outputs[1].downstreams), []);
        assert_eq!(downstreams(&shown.log.unwrap().downstreams), [(log.clone(), "/in/0".to_owned())]);
        assert_eq!(shown.inputs[0].upstreams, []);
        let shown = world.store.plan(&model).await.unwrap().unwrap();
        let upstream = &shown.inputs[0].upstreams[0];
        assert_eq!(upstream.plan.title(), "source:v1");
        assert_eq!(upstream.mountpoint.as_ref().unwrap().path, "/model");
        assert!(upstream.log.is_none());
        assert_eq!(shown.inputs[1].upstreams, []);
        let shown = world.store.plan(&log).await.unwrap().unwrap();
        let upstream = &shown.inputs[0].upstreams[0];
        assert!(upstream.mountpoint.is_none());
        assert_eq!(upstream.log.as_ref().unwrap().tags, [Tag::new("k", "log")]);
        assert_eq!(shown.inputs[1].upstreams, [], "one that wants a certain Data has none");
    }

    async fn plans_are_found_by_activity_image_and_tags_of_one_mountpoint(world: World) {
        let inputs: [&[&str]; 2] = [&["a:1", "b:1"], &["c:1"]];
        let one = world.apply(&simple("reg.io:5000/a/train:v1", &inputs, &[&["o:1", "p:1"]])).await;
        let mut inactive = simple("train:v2", &[&["a:1", "knit#id:x"]], &[&["o:1"], &["p:1"]]);
        inactive.active = Some(false);
        inactive.log = Some(knit_api::plan::LogPoint { tags: vec![Tag::new("l", "1")] });
        let two = world.apply(&inactive).await;
        let (uploaded, imported) = (PlanId::new(UPLOADED), PlanId::new(IMPORTED));
        let image = |text: &str| PlanQuery { image: Some(text.parse().unwrap()), ..Default::default() };
        let inputs = |tags: &[&str]| PlanQuery { in_tags: set(tags), ..Default::default() };
        let outputs = |tags: &[&str]| PlanQuery { out_tags: set(tags), ..Default::default() };
        let time = "knit#timestamp:2025-02-03T04:05:06Z";
        for (query, found) in [
            (PlanQuery::default(), &[&uploaded, &imported, &one, &two][..]),
            (PlanQuery { active: Some(true), ..Default::default() }, &[&uploaded, &imported, &one]),
            (PlanQuery { active: Some(false), ..Default::default() }, &[&two]),
            (image("train"), &[&two]),
            (image("train:v2"), &[&two]),
            (image("train:v1"), &[]),
            (image("reg.io:5000/a/train"), &[&one]),
            (inputs(&["a:1"]), &[&one, &two]),
            (inputs(&["a:1", "b:1"]), &[&one]),
            (inputs(&["a:1", "c:1"]), &[]),
            (inputs(&["never:seen"]), &[]),
            (inputs(&["knit#id:x"]), &[&two]),
            (inputs(&["knit#id:x", "a:1"]), &[&two]),
            (inputs(&["knit#id:x", "knit#id:y"]), &[]),
            (inputs(&[time]), &[]),
            (inputs(&["knit#timestamp:x"]), &[]),
            (inputs(&["knit#transient:failed"]), &[]),
            (inputs(&["knit#other:x"]), &[]),
            (outputs(&["o:1"]), &[&one, &two]),
            (outputs(&["o:1", "p:1"]), &[&one]),
            (outputs(&["l:1"]), &[&two]),
            (outputs(&["a:1"]), &[]),
            (outputs(&["knit#id:x"]), &[]),
            (PlanQuery { active: Some(true), ..inputs(&["a:1"]) }, &[&one]),
        ] {
            assert_eq!(find(&world, query.clone()).await, sorted(found), "{query:?}");
        }
    }

    async fn only_plans_with_an_image_are_switched_on_and_off(world: World) {
        for id in ["none", UPLOADED, IMPORTED] {
            assert!(!world.store.set_active(&id.into(), false, at(0)).await.unwrap());
        }
        assert!(world.store.plan(&UPLOADED.into()).await.unwrap().unwrap().active);
    }

    async fn resources_annotations_and_service_account_change_also_on_built_in_plans(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        for id in [plan, UPLOADED.into()] {
            let set = resources(r#"{"set":{"cpu":"2","memory":"2Gi","x.y/gpu":1},"unset":["x.y/gpu","none"]}"#);
            assert!(world.store.change_resources(&id, &set, at(0)).await.unwrap());
            assert!(world.store.change_resources(&id, &ResourceChange::default(), at(0)).await.unwrap());
            let add = annotations(r#"{"add":["k=1","k=2","a=b"]}"#);
            assert!(world.store.annotate(&id, &add).await.unwrap());
            let change = annotations(r#"{"remove_key":["k"],"remove":["a=b","a=c"],"add":["k=3","it's=\"x\""]}"#);
            assert!(world.store.annotate(&id, &change).await.unwrap());
            assert!(world.store.annotate(&id, &AnnotationChange::default()).await.unwrap());
            assert!(world.store.set_service_account(&id, "trainer").await.unwrap());
            let shown = world.store.plan(&id).await.unwrap().unwrap();
            assert_eq!(serde_json::to_string(&shown.resources).unwrap(), r#"{"cpu":"2","memory":"2Gi"}"#);
            let pairs: Vec<String> = shown.summary.annotations.iter().map(ToString::to_string).collect();
            assert_eq!(pairs, ["it's=\"x\"", "k=3"]);
            assert_eq!(shown.service_account, "trainer");
            assert!(world.store.set_service_account(&id, "").await.unwrap());
            let unset = resources(r#"{"unset":["cpu","memory"]}"#);
            assert!(world.store.change_resources(&id, &unset, at(0)).await.unwrap());
            let shown = world.store.plan(&id).await.unwrap().unwrap();
            assert!(shown.resources.is_empty() && shown.service_account.is_empty());
        }
        let none = PlanId::new("none");
        assert!(!world.store.change_resources(&none, &resources(r#"{"set":{"cpu":1}}"#), at(0)).await.unwrap());
        assert!(!world.store.annotate(&none, &AnnotationChange::default()).await.unwrap());
        assert!(!world.store.set_service_account(&none, "x").await.unwrap());
    }

    async fn changes_at_the_same_time_are_all_kept(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        let changes = (0..12).map(|n| {
            let (store, plan) = (world.store.clone(), plan.clone());
            tokio::spawn(async move {
                let change = annotations(&format!(r#"{{"add":["n={n}"]}}"#));
                assert!(store.annotate(&plan, &change).await.unwrap());
                let change = resources(&format!(r#"{{"set":{{"type{n}":{n}}}}}"#));
                assert!(store.change_resources(&plan, &change, at(0)).await.unwrap());
            })
        });
        for change in changes.collect::<Vec<_>>() {
            change.await.unwrap();
        }
        let shown = world.store.plan(&plan).await.unwrap().unwrap();
        assert_eq!((shown.summary.annotations.len(), shown.resources.len()), (12, 14));
    }

    async fn a_run_that_was_refused_its_worker_is_due_when_the_resources_change(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        let other = world.apply(&simple("other:v1", &[&["a:b"]], &[])).await;
        world.push(&["a:b"]).await;
        assert_eq!(world.project().await, 2);
        let (run, others) = (world.only_run(&plan).await, world.only_run(&other).await);
        for run in [&run, &others] {
            let claim = world.claim_run(run).await;
            assert!(world.store.settle(&claim, &to(RunStatus::Ready, at(3600)), world.now()).await.unwrap());
        }
        let same = resources(r#"{"set":{"cpu":"1"}}"#);
        assert!(world.store.change_resources(&plan, &same, world.now()).await.unwrap());
        assert!(world.claim(RunStatus::Ready).await.is_empty(), "nothing changed");
        let less = resources(r#"{"set":{"cpu":"500m"}}"#);
        assert!(world.store.change_resources(&plan, &less, world.now()).await.unwrap());
        let due: Vec<_> = world.claim(RunStatus::Ready).await.into_iter().map(|claim| claim.run).collect();
        assert_eq!(due, std::slice::from_ref(&run), "those of other Plans wait on");
        let work = world.store.work(&run).await.unwrap().unwrap();
        assert_eq!(work.resources["cpu"].to_string(), "500m");
    }
}

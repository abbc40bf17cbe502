//! What fits, what nearly does, and what registering a Plan would come to.

use crate::world::{World, change, on_both, simple, spec};
use knit_api::explain::{Count, InputExplained, PlanForeseen};
use knit_api::id::{DataId, PlanId};
use knit_api::plan::PlanSpec;
use knit_api::run::RunStatus as S;
use knit_server::store::Registered;

/// The near misses of an input, each as `id lack`.
fn near(input: &InputExplained) -> Vec<String> {
    input.nearest.iter().map(|near| format!("{} {}", near.data.id, near.lack)).collect()
}

async fn explained(world: &World, plan: &PlanId) -> Vec<InputExplained> {
    world.store.explain_plan(plan).await.unwrap().unwrap().inputs
}

/// Numbers that look like chance and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn tag(&mut self) -> String {
        format!("k{}:{}", self.below(4), self.below(3))
    }

    fn tags(&mut self) -> Vec<String> {
        (0..=self.below(2)).map(|_| self.tag()).collect()
    }
}

/// What a dry run says, which must be what registering then does.
async fn foreseen_and_done(world: &World, spec: &PlanSpec) -> PlanForeseen {
    let foreseen = world.store.foresee_plan(spec).await.unwrap();
    let before = world.runs(None).await.len();
    match world.store.register_plan(spec).await.unwrap() {
        Registered::New(plan) => {
            assert_eq!((&foreseen.equal, &foreseen.cycle), (&None, &None));
            world.project().await;
            let made = (world.runs(None).await.len() - before) as u64;
            assert_eq!(foreseen.runs, Count::exactly(made));
            let runs = world.runs(Some(&plan)).await;
            for combination in &foreseen.combinations {
                let inputs = |run: &knit_api::run::Run| run.inputs.iter().map(|i| i.data.clone()).collect::<Vec<_>>();
                assert!(runs.iter().any(|run| inputs(run) == *combination), "{combination:?}");
            }
        }
        Registered::Equal(plan) => assert_eq!(foreseen.equal, Some(plan)),
        Registered::Cycle(plans) => {
            // The new Plan itself comes first; it has no id before it is registered.
            assert_eq!(foreseen.cycle.as_ref().map(Vec::len), Some(plans.len() - 1), "{foreseen:?} {plans:?}");
        }
    }
    foreseen
}

on_both! {
    async fn an_input_tells_what_fits_and_what_nearly_does(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["project:p", "type:dataset", "split:train"]], &[])).await;
        let fits = world.push(&["project:p", "type:dataset", "split:train", "more:x"]).await;
        let other = world.push(&["project:p", "type:datset", "split:train"]).await;
        let lacks = world.push(&["project:p", "type:dataset"]).await;
        let far = world.push(&["project:q", "x:y"]).await;
        let two = world.push(&["split:train", "type:model"]).await;
        let inputs = explained(&world, &plan).await;
        let [input] = &inputs[..] else { panic!("{inputs:?}") };
        assert_eq!(input.fitting, Count::exactly(1));
        assert_eq!(input.data.iter().map(|data| &data.id).collect::<Vec<_>>(), [&fits]);
        assert_eq!(input.data[0].tags.len(), 4, "with its own tags, without the system's");
        assert_eq!(
            near(input),
            [
                format!("{other} has type:datset, not type:dataset"),
                format!("{lacks} lacks split:train"),
                format!("{two} lacks project:p; has type:model, not type:dataset"),
            ]
        );
        assert!(!near(input).iter().any(|text| text.contains(far.as_str())));
        assert!(input.unused.is_empty() && !input.nearest_capped);
    }

    async fn data_of_runs_that_failed_or_go_on_are_near_but_deleted_ones_are_not(world: World) {
        let make = world.apply(&simple("make:v1", &[&["kind:raw"]], &[&["kind:model"]])).await;
        let plan = world.apply(&simple("use:v1", &[&["kind:model"]], &[])).await;
        world.push(&["kind:raw"]).await;
        world.project().await;
        let run = world.only_run(&make).await;
        let output = world.output(&run).await;
        let near_now = async || near(&explained(&world, &plan).await[0]);
        assert_eq!(near_now().await, [format!("{output} it is still being made")]);
        let data = world.store.explain_data(&output).await.unwrap().unwrap();
        assert_eq!(data.transient.as_deref(), Some("processing"));
        assert_eq!((data.fitting, data.nearest.len()), (Count::exactly(0), 1), "{data:?}");
        world.end(&run, false).await;
        assert_eq!(near_now().await, [format!("{output} its Run failed")]);
        world.store.remove_run(&run, world.now()).await.unwrap().unwrap();
        assert!(!near_now().await.iter().any(|near| near.contains(output.as_str())));
    }

    async fn a_tag_that_nobody_has_is_told_with_the_ones_most_like_it(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["type:datset"], &["project:p", "name:x"]], &[])).await;
        let one = world.push(&["type:dataset", "project:p"]).await;
        world.push(&["type:model"]).await;
        let inputs = explained(&world, &plan).await;
        assert_eq!(near(&inputs[0])[0], format!("{one} has type:dataset, not type:datset"), "although no tag is shared");
        assert_eq!(inputs[0].unused[0].similar[0].to_string(), "type:dataset");
        assert_eq!(near(&inputs[1]), [format!("{one} lacks name:x")]);
        assert_eq!(inputs[1].unused[0].similar, [], "no Data has any name");
    }

    async fn inputs_that_ask_for_one_data_or_one_time_say_what_is_in_its_way(world: World) {
        let data = world.push(&["a:b"]).await;
        let json = format!(
            r#"{{"image":"train:v1","inputs":[{{"path":"/1","tags":["knit#id:{data}","a:c"]}},{{"path":"/2","tags":["knit#id:none"]}},
                {{"path":"/3","tags":["knit#id:{data}"]}},
                {{"path":"/4","tags":["a:b","knit#timestamp:2020-01-01T00:00:00Z"]}}]}}"#
        );
        let spec = spec(&json);
        let plan = world.apply(&spec).await;
        let foreseen = world.store.foresee_plan(&spec).await.unwrap();
        let inputs = explained(&world, &plan).await;
        assert_eq!(foreseen.inputs, inputs, "registered or not, an input is explained alike");
        assert_eq!(near(&inputs[0]), [format!("{data} has a:b, not a:c")]);
        assert!(near(&inputs[1]).is_empty());
        assert_eq!((inputs[2].fitting, near(&inputs[2]).len()), (Count::exactly(1), 0));
        assert!(near(&inputs[3])[0].contains("not knit#timestamp:2020-01-01T00:00:00"), "{:?}", near(&inputs[3]));
    }

    async fn a_plan_tells_its_activity_and_its_runs_by_status(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"], &["a:b"]], &[])).await;
        world.push(&["a:b"]).await;
        world.push(&["a:b"]).await;
        let before = world.store.explain_plan(&plan).await.unwrap().unwrap();
        assert!(before.projecting && before.active && before.runs.is_empty());
        assert_eq!(before.combinations, Count::exactly(4));
        assert_eq!(world.project().await, 4);
        let run = world.runs(Some(&plan)).await[0].summary.id.clone();
        world.end(&run, true).await;
        world.store.set_active(&plan, false, world.now()).await.unwrap();
        let after = world.store.explain_plan(&plan).await.unwrap().unwrap();
        let runs: Vec<(&str, u64)> = after.runs.iter().map(|(status, count)| (status.as_str(), *count)).collect();
        assert_eq!(runs, [("deactivated", 3), ("done", 1)]);
        assert!(!after.active && !after.projecting && !after.runs_capped);
        assert_eq!(world.store.explain_plan(&"none".into()).await.unwrap(), None);
    }

    async fn a_data_tells_the_inputs_that_it_fits_and_nearly_fits(world: World) {
        let fits = world.apply(&simple("fits:v1", &[&["a:b"]], &[])).await;
        let lacks = world.apply(&simple("lacks:v1", &[&["a:b", "c:d"]], &[&["x:y"]])).await;
        let differs = world.apply(&simple("differs:v1", &[&["e:g"]], &[])).await;
        world.apply(&simple("far:v1", &[&["m:n"], &["a:b", "o:p", "q:r", "s:t"]], &[])).await;
        let data = world.push(&["a:b", "e:f"]).await;
        let found = world.store.explain_data(&data).await.unwrap().unwrap();
        assert_eq!((found.fitting, found.transient.as_deref()), (Count::exactly(1), None));
        assert_eq!(found.inputs.iter().map(|input| &input.plan).collect::<Vec<_>>(), [&fits]);
        let near: Vec<_> = found.nearest.iter().map(|near| (&near.input.plan, near.lack.to_string())).collect();
        assert_eq!(near, [(&differs, "has e:f, not e:g".to_owned()), (&lacks, "lacks c:d".to_owned())]);
        assert_eq!(world.store.explain_data(&"none".into()).await.unwrap(), None);
    }

    async fn a_dry_run_says_what_registering_then_does_and_writes_nothing(world: World) {
        for n in 0..3 {
            world.push(&["kind:raw", &format!("n:{n}")]).await;
        }
        world.push(&["kind:params"]).await;
        let train = simple("train:v1", &[&["kind:raw"], &["kind:params"], &["kind:raw"]], &[&["kind:model", "p:1"]]);
        let rows = "select (select count(*) from plan) + (select count(*) from mount) + (select count(*) from spark)";
        let before = world.place.number(rows).await;
        let foreseen = world.store.foresee_plan(&train).await.unwrap();
        assert_eq!(world.place.number(rows).await, before, "nothing is written");
        assert_eq!((foreseen.runs, foreseen.combinations.len()), (Count::exactly(9), 5));
        foreseen_and_done(&world, &train).await;
        let again = foreseen_and_done(&world, &train).await;
        assert!(again.equal.is_some());
        assert_eq!(again.runs, Count::exactly(0), "an equal Plan makes no Runs");
        let nothing = foreseen_and_done(&world, &simple("eval:v1", &[&["kind:model"], &["kind:raw"]], &[])).await;
        assert_eq!((nothing.runs, nothing.combinations), (Count::exactly(0), vec![]));
        let mut parked = simple("parked:v1", &[&["kind:params"]], &[]);
        parked.active = Some(false);
        assert!(!foreseen_and_done(&world, &parked).await.active);
    }

    async fn a_dry_run_finds_the_cycles_that_registering_refuses(world: World) {
        let cycle = async |image: &str, from: &[&str], to: &[&str]| {
            foreseen_and_done(&world, &simple(image, &[from], &[to])).await.cycle
        };
        assert_eq!(cycle("self:v1", &["a:b"], &["a:b", "c:d"]).await, Some(vec![]));
        assert_eq!(cycle("step1:v1", &["s:1"], &["s:2", "x:y"]).await, None);
        assert_eq!(cycle("step2:v1", &["s:2"], &["s:3"]).await, None);
        assert_eq!(cycle("step3:v1", &["s:3"], &["s:4"]).await, None);
        assert_eq!(cycle("step4:v1", &["s:4"], &["s:1"]).await.map(|plans| plans.len()), Some(3));
        assert_eq!(cycle("step5:v1", &["s:4", "z:z"], &["s:1"]).await, None, "it lacks a tag");
        let mut log = simple("step6:v1", &[&["s:4"]], &[]);
        log.log = Some(knit_api::plan::LogPoint { tags: vec!["s:2".parse().unwrap(), "x:z".parse().unwrap()] });
        assert_eq!(foreseen_and_done(&world, &log).await.cycle.map(|plans| plans.len()), Some(2), "logs feed, too");
        let by_id = spec(r#"{"image":"step7:v1","inputs":[{"path":"/in","tags":["a:b","knit#id:x"]}],
            "outputs":[{"path":"/out","tags":["a:b"]}]}"#);
        assert_eq!(foreseen_and_done(&world, &by_id).await.cycle, None, "an input of one Data is fed by nothing");
    }

    async fn whatever_the_plans_a_dry_run_says_what_registering_then_does(world: World) {
        let mut chance = Chance(7);
        for n in 0..4 {
            let with = [chance.tag(), format!("n:{n}")];
            world.push(&with.each_ref().map(String::as_str)).await;
        }
        let (mut cycles, mut made) = (0, 0);
        for n in 0..40 {
            let mut lists = |most: u64| (0..=chance.below(most)).map(|_| chance.tags()).collect::<Vec<_>>();
            let (inputs, outputs) = (lists(2), lists(1));
            let points = |lists: Vec<Vec<String>>, side: &str| -> Vec<serde_json::Value> {
                let point = |(at, tags)| serde_json::json!({"path": format!("/{side}/{at}"), "tags": tags});
                lists.into_iter().enumerate().map(point).collect()
            };
            let (inputs, outputs) = (points(inputs, "in"), points(outputs, "out"));
            let json = serde_json::json!({"image": format!("step{n}:v1"), "inputs": inputs, "outputs": outputs});
            let foreseen = foreseen_and_done(&world, &spec(&json.to_string())).await;
            cycles += usize::from(foreseen.cycle.is_some());
            made += foreseen.runs.count;
        }
        assert!((1..40).contains(&cycles) && made > 0, "{cycles} cycles, {made} Runs: the test would show nothing");
    }

    async fn a_run_knows_what_is_before_it_and_around_it(world: World) {
        let mut train = simple("train:v1", &[&["a:b"]], &[]);
        train.resources.insert("memory".to_owned(), "64Mi".parse().unwrap());
        let plan = world.apply(&train).await;
        let mut data: Vec<DataId> = Vec::new();
        for _ in 0..3 {
            data.push(world.push(&["a:b"]).await);
            world.project().await;
        }
        let runs = world.runs(Some(&plan)).await;
        for (n, run) in runs.iter().enumerate() {
            let around = world.store.circumstances(&run.summary.id).await.unwrap().unwrap();
            assert_eq!((around.before, around.failures), (Count::exactly(n as u64), 0));
            assert_eq!(around.resources["memory"].to_string(), "64Mi");
            assert_eq!((around.unusable.len(), around.on_node.is_empty()), (0, true));
        }
        let first = &runs[0].summary.id;
        world.settle(first, S::Ready).await;
        assert_eq!(world.store.circumstances(first).await.unwrap().unwrap().before, Count::exactly(0));
        world.place.run(&format!("update data set ready = 0 where id = '{}'", runs[0].inputs[0].data)).await;
        let unusable = world.store.circumstances(first).await.unwrap().unwrap().unusable;
        assert_eq!((unusable.len(), &*unusable[0].path), (1, "/in/0"));
        assert_eq!(world.store.circumstances(&"none".into()).await.unwrap(), None);
    }

    async fn a_change_of_tags_moves_a_data_from_near_to_fitting(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b", "c:d"]], &[])).await;
        let data = world.push(&["a:b"]).await;
        assert_eq!(explained(&world, &plan).await[0].nearest.len(), 1);
        assert!(world.store.change_tags(&data, &change(&["c:d"], &[], &[])).await.unwrap());
        let input = &explained(&world, &plan).await[0];
        assert_eq!((input.fitting, input.nearest.len()), (Count::exactly(1), 0));
    }
}

//! Lists in pages: what the pages hold is what the whole holds, in the same order, whatever is searched for, in
//! whichever direction, and whatever happens between two pages.

use crate::world::{Place, World, at, change, on_both, simple, spec, tags};
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::run::RunStatus as S;
use knit_api::tag::Tag;
use knit_api::time::Timestamp;
use knit_server::engine::Volume;
use knit_server::store::{DataQuery, Page, PlanQuery, RunQuery, StoreError, Upload, Window};
use std::collections::BTreeSet;

/// The ids on all pages of this size.
async fn paged<T>(
    size: usize,
    reverse: bool,
    page: impl AsyncFn(&Window) -> Result<Page<T>, StoreError>,
    id: impl Fn(&T) -> String,
) -> Vec<String> {
    let mut ids = Vec::new();
    let mut window = Window { after: None, reverse, limit: size };
    loop {
        let page = page(&window).await.unwrap();
        assert!(page.items.len() <= size);
        ids.extend(page.items.iter().map(&id));
        if page.next.is_none() {
            return ids;
        }
        assert_eq!(page.items.len(), size, "only the last page is shorter");
        window.after = page.next;
    }
}

async fn data_on_pages(world: &World, query: &DataQuery, size: usize, reverse: bool) -> Vec<String> {
    let page = async |window: &Window| world.store.page_of_data(query, window).await;
    paged(size, reverse, page, |data| data.id.to_string()).await
}

async fn runs_on_pages(world: &World, query: &RunQuery, size: usize, reverse: bool) -> Vec<String> {
    let page = async |window: &Window| world.store.page_of_runs(query, window).await;
    paged(size, reverse, page, |run| run.summary.id.to_string()).await
}

async fn plans_on_pages(world: &World, query: &PlanQuery, size: usize, reverse: bool) -> Vec<String> {
    let page = async |window: &Window| world.store.page_of_plans(query, window).await;
    paged(size, reverse, page, |plan| plan.summary.id.to_string()).await
}

/// An upload at this time.
async fn push_at(world: &World, time: Timestamp, with: &[&str]) -> DataId {
    let data = DataId::new(uuid::Uuid::new_v4().to_string());
    let sealed = crate::world::sealed("d1");
    let upload = Upload { volume: Volume::of(&data), data: data.clone(), sealed, tags: tags(with) };
    world.store.add_upload(&upload, time).await.unwrap();
    data
}

/// Many things at few times: 40 uploads, Plans over them, Runs in all statuses.
async fn crowded(world: &World) -> Vec<PlanId> {
    let mut plans = Vec::new();
    for (image, inputs, outputs) in [
        ("train:v1", &[&["kind:raw"][..]][..], &[&["kind:model"][..]][..]),
        ("train:v2", &[&["kind:raw", "odd:yes"]], &[&[]]),
        ("other:v1", &[&["third:yes"], &["kind:raw", "third:yes"]], &[]),
    ] {
        plans.push(world.apply(&simple(image, inputs, outputs)).await);
    }
    for n in 0..40 {
        let mut with = vec!["kind:raw"];
        with.extend((n % 2 == 1).then_some("odd:yes"));
        with.extend((n % 8 == 3).then_some("third:yes"));
        push_at(world, at(n % 3), &with).await;
    }
    world.project().await;
    let runs = world.runs(Some(&plans[0])).await;
    for (n, run) in runs.iter().enumerate().take(20) {
        world.end(&run.summary.id, n % 3 != 0).await;
    }
    world.store.set_active(&plans[1], false, at(500)).await.unwrap();
    // Whole seconds, so that many share one.
    world.place.run("update run set updated_at = updated_at - updated_at % 4000000").await;
    world.place.run("update data set made_at = made_at - made_at % 4000 where made_at is not null").await;
    plans
}

/// The tag is on so many Data that a search does not begin with it, and one Data is an input of as many Runs.
async fn beyond_counting(world: &World, tag: &str) -> DataId {
    let data = world.push(&[tag]).await;
    let tag: Tag = tag.parse().unwrap();
    let series = match &world.place {
        Place::Sqlite(_) => {
            "(with recursive c(n) as (select 1 union all select n + 1 from c where n < 5100) select n from c) c"
        }
        Place::Postgres(_) => "generate_series(1, 5100) c(n)",
    };
    let name = &tag.value;
    world
        .place
        .run(&format!(
            "insert into data (id, run_id, mount_id, volume, ready, made_at) select '{name}' || n, d.run_id, d.mount_id, \
               '{name}' || n, 1, d.made_at - n / 7 from {series}, data d where d.id = '{data}'; \
             insert into data_tag (tag_id, data_id) select t.id, '{name}' || n from {series}, tag t \
               where t.key = '{}' and t.value = '{}'; \
             insert into run (id, plan_id, signature, status, updated_at, due_at) \
               select 'run-{name}' || n, r.plan_id, 'run-{name}' || n, case when n % 2 = 0 then 'done' else 'failed' end, \
               r.updated_at - n / 7, 0 from {series}, run r join data d on d.run_id = r.id where d.id = '{data}'; \
             insert into run_input (run_id, mount_id, data_id) select 'run-{name}' || n, d.mount_id, d.id \
               from {series}, data d where d.id = '{data}'",
            tag.key, tag.value,
        ))
        .await;
    data
}

fn reversed(mut ids: Vec<String>) -> Vec<String> {
    ids.reverse();
    ids
}

on_both! {
    async fn pages_of_data_hold_what_the_whole_holds(world: World) {
        crowded(&world).await;
        let all = world.store.find_data(&DataQuery::default()).await.unwrap();
        let some = &all[all.len() / 2];
        let time = some.tags.iter().find(|tag| tag.key == "knit#timestamp").unwrap().to_string();
        let id = format!("knit#id:{}", some.id);
        for with in [
            &[][..], &["kind:raw"], &["kind:raw", "odd:yes"], &["kind:model"], &["third:yes", "odd:yes"], &["no:such"],
            &["knit#transient:processing"], &["knit#transient:failed"], &[&time], &[&id],
        ] {
            for (since, until) in [(None, None), (Some(at(1)), None), (Some(at(0)), Some(at(20))), (Some(at(9)), None)] {
                for transient in [None, Some(true), Some(false)] {
                    let wanted = tags(&[]).into_iter().chain(with.iter().map(|text| Tag::split(text).unwrap())).collect();
                    let query = DataQuery { tags: wanted, since, until, transient };
                    // What is found can be told from what everything says of itself.
                    let fits = |data: &&knit_api::data::Data| {
                        let stamp = data.tags.iter().find(|tag| tag.key == "knit#timestamp");
                        let dated = stamp.map(|tag| Timestamp::parse_strict(&tag.value).unwrap());
                        let dated = dated.unwrap_or(data.upstream.run.updated_at);
                        query.tags.iter().all(|tag| data.tags.contains(tag))
                            && transient.is_none_or(|wanted| wanted == data.transient().is_some())
                            && since.is_none_or(|since| dated >= since)
                            && until.is_none_or(|until| dated < until)
                    };
                    let expected: Vec<String> = all.iter().filter(fits).map(|data| data.id.to_string()).collect();
                    let whole = world.store.ids_of_data(&query, false).await.unwrap();
                    assert_eq!(whole, expected, "{query:?}");
                    assert_eq!(world.store.ids_of_data(&query, true).await.unwrap(), reversed(expected.clone()));
                    for size in [1, 7, 1000] {
                        assert_eq!(data_on_pages(&world, &query, size, false).await, expected, "{size} {query:?}");
                        let backwards = data_on_pages(&world, &query, size, true).await;
                        assert_eq!(backwards, reversed(expected.clone()), "{size} {query:?}");
                    }
                }
            }
        }
        assert_eq!(world.store.data_of(&[]).await.unwrap(), []);
    }

    async fn pages_of_runs_hold_what_the_whole_holds(world: World) {
        let plans = crowded(&world).await;
        let all = world.store.find_runs(&RunQuery::default()).await.unwrap();
        let used = all.iter().find_map(|run| run.inputs.first()).unwrap().data.clone();
        let made: Vec<DataId> = all.iter().flat_map(|run| &run.outputs).map(|out| out.data.clone()).take(30).collect();
        let many: Vec<PlanId> = plans.iter().cloned().chain((0..60).map(|n| format!("none{n}").into())).collect();
        for of_plans in [&[][..], &plans[..1], &plans, &many] {
            for statuses in [&[][..], &[S::Done], &[S::Waiting, S::Failed, S::Deactivated]] {
                for (inputs, outputs) in
                    [(vec![], vec![]), (vec![used.clone()], vec![]), (vec![], made.clone()), (vec![used.clone()], made.clone())]
                {
                    for (since, until) in [(None, None), (Some(at(0)), Some(at(50))), (Some(at(3)), None)] {
                        let (plans, statuses) = (of_plans.to_vec(), statuses.to_vec());
                        let (inputs, outputs) = (inputs.clone(), outputs.clone());
                        let query = RunQuery { plans, inputs, outputs, statuses, since, until };
                        let touches = |some: &[knit_api::run::Assignment], wanted: &[DataId]| {
                            wanted.is_empty() || some.iter().any(|one| wanted.contains(&one.data))
                        };
                        let fits = |run: &&knit_api::run::Run| {
                            let (head, time) = (&run.summary, run.summary.updated_at);
                            (query.plans.is_empty() || query.plans.contains(&head.plan.id))
                                && (query.statuses.is_empty() || query.statuses.contains(&head.status))
                                && touches(&run.inputs, &query.inputs)
                                && touches(&run.outputs, &query.outputs)
                                && since.is_none_or(|since| time >= since)
                                && until.is_none_or(|until| time < until)
                        };
                        let expected: Vec<String> =
                            all.iter().filter(fits).map(|run| run.summary.id.to_string()).collect();
                        let whole = world.store.ids_of_runs(&query, false).await.unwrap();
                        assert_eq!(whole, expected, "{query:?}");
                        for size in [3, 1000] {
                            assert_eq!(runs_on_pages(&world, &query, size, false).await, expected, "{size} {query:?}");
                            let backwards = runs_on_pages(&world, &query, size, true).await;
                            assert_eq!(backwards, reversed(expected.clone()), "{size} {query:?}");
                        }
                    }
                }
            }
        }
    }

    async fn pages_of_plans_hold_what_the_whole_holds(world: World) {
        for n in 0..9 {
            let kind = format!("kind:{}", n % 3);
            let image = format!("image{}:v{n}", n % 2);
            let plan = world.apply(&simple(&image, &[&[&kind, "all:in"], &["last:one"]], &[&["all:out"]])).await;
            if n % 4 == 0 {
                world.store.set_active(&plan, false, at(0)).await.unwrap();
            }
        }
        let timed = r#"{"image":"timed:v1","inputs":[{"path":"/in","tags":["knit#id:d1","all:in"]}],"outputs":[]}"#;
        world.apply(&spec(timed)).await;
        let set = |texts: &[&str]| texts.iter().map(|text| Tag::split(text).unwrap()).collect();
        for active in [None, Some(true), Some(false)] {
            for image in [None, Some("image1"), Some("image0:v4"), Some("none")] {
                for in_tags in [&[][..], &["all:in"], &["kind:1", "all:in"], &["kind:1", "last:one"], &["knit#id:d1"]] {
                    for out_tags in [&[][..], &["all:out"], &["no:such"]] {
                        let image = image.map(|image| image.parse().unwrap());
                        let query = PlanQuery { active, image, in_tags: set(in_tags), out_tags: set(out_tags) };
                        let whole = world.store.find_plans(&query).await.unwrap();
                        let whole: Vec<String> = whole.iter().map(|plan| plan.summary.id.to_string()).collect();
                        assert!(whole.is_sorted());
                        assert_eq!(plans_on_pages(&world, &query, 2, false).await, whole, "{query:?}");
                        assert_eq!(plans_on_pages(&world, &query, 2, true).await, reversed(whole), "{query:?}");
                    }
                }
            }
        }
        assert_eq!(plans_on_pages(&world, &PlanQuery::default(), 3, false).await.len(), 12);
    }

    async fn what_very_many_have_is_found_along_the_time(world: World) {
        crowded(&world).await;
        let data = beyond_counting(&world, "kind:raw").await;
        let all = DataQuery { tags: [Tag::new("kind", "raw")].into(), ..DataQuery::default() };
        let ids = world.store.ids_of_data(&all, false).await.unwrap();
        assert_eq!(ids.len(), 5100 + 40 + 1);
        assert_eq!(world.store.ids_of_data(&all, true).await.unwrap(), reversed(ids.clone()));
        for reverse in [false, true] {
            let mut window = Window { after: None, reverse, limit: 17 };
            let expected = if reverse { reversed(ids.clone()) } else { ids.clone() };
            for part in expected.chunks(17).take(10) {
                let page = world.store.page_of_data(&all, &window).await.unwrap();
                assert_eq!(page.items.iter().map(|data| data.id.as_str()).collect::<Vec<_>>(), part);
                window.after = page.next;
            }
        }
        let unready = DataQuery { transient: Some(true), ..all.clone() };
        assert_eq!(data_on_pages(&world, &unready, 5, true).await, [""; 0]);
        let both = RunQuery { inputs: vec![data], statuses: vec![S::Failed], ..RunQuery::default() };
        let runs = world.store.ids_of_runs(&both, false).await.unwrap();
        assert_eq!(runs.len(), 2550);
        let page = Window { after: None, reverse: true, limit: 10 };
        let last = world.store.page_of_runs(&both, &page).await.unwrap();
        assert_eq!(last.items.iter().map(|run| run.summary.id.to_string()).collect::<Vec<_>>(), reversed(runs)[..10]);
    }

    async fn two_tags_on_very_many_are_found_where_they_meet(world: World) {
        beyond_counting(&world, "kind:raw").await;
        beyond_counting(&world, "kind:cooked").await;
        let both = DataQuery { tags: tags(&["kind:raw", "kind:cooked"]).into_iter().collect(), ..DataQuery::default() };
        for reverse in [false, true] {
            assert_eq!(data_on_pages(&world, &both, 5, reverse).await, [""; 0]);
        }
        let last = world.push(&["kind:raw", "kind:cooked", "a:b"]).await.to_string();
        for id in ["raw7", "raw5000", "cooked300"] {
            let change = change(&["kind:raw", "kind:cooked"], &[], &[]);
            assert!(world.store.change_tags(&id.into(), &change).await.unwrap());
        }
        let expected = ["raw5000", "cooked300", "raw7", &last].map(str::to_owned).to_vec();
        let sorted = |mut ids: Vec<String>| {
            ids.sort();
            ids
        };
        let ids = world.store.ids_of_data(&both, false).await.unwrap();
        assert_eq!(sorted(ids.clone()), sorted(expected));
        assert_eq!(ids.last(), Some(&last));
        assert_eq!(data_on_pages(&world, &both, 1, false).await, ids);
        assert_eq!(data_on_pages(&world, &both, 2, true).await, reversed(ids));
        let three = tags(&["kind:raw", "kind:cooked", "a:b"]).into_iter().collect();
        let three = DataQuery { tags: three, ..DataQuery::default() };
        assert_eq!(data_on_pages(&world, &three, 2, false).await, [last]);
    }

    async fn a_page_ends_early_when_it_is_heavy_and_none_is_without_an_item(world: World) {
        for n in 0..6 {
            world.apply(&simple(&format!("train:v{n}"), &[&["a:b"]], &[])).await;
        }
        let text = |megabytes: usize| "x".repeat(megabytes << 20);
        world.place.run(&format!("update plan set annotations = '[\"a={}\"]' where image_tag <> 'v3'", text(2))).await;
        world.place.run(&format!("update plan set annotations = '[\"a={}\"]' where image_tag = 'v3'", text(5))).await;
        let all = PlanQuery::default();
        for reverse in [false, true] {
            let mut window = Window { after: None, reverse, limit: 100 };
            let (mut ids, mut sizes) = (Vec::new(), Vec::new());
            loop {
                let page = world.store.page_of_plans(&all, &window).await.unwrap();
                sizes.push(page.items.len());
                ids.extend(page.items.iter().map(|plan| plan.summary.id.to_string()));
                window.after = page.next;
                if window.after.is_none() {
                    break;
                }
            }
            assert_eq!(ids, world.store.ids_of_plans(&all, reverse).await.unwrap());
            assert!(sizes.len() >= 3 && !sizes.contains(&0), "{sizes:?}");
        }
    }

    async fn nothing_is_shown_twice_whatever_happens_between_two_pages(world: World) {
        for reverse in [false, true] {
            let plan = world.apply(&simple(&format!("train:r{reverse}"), &[&["kind:raw"]], &[&["kind:model"]])).await;
            for _ in 0..12 {
                world.push(&["kind:raw"]).await;
            }
            world.project().await;
            let waiting: Vec<RunId> = world.runs(Some(&plan)).await.iter().map(|run| run.summary.id.clone()).collect();
            let mut changing = waiting.iter();
            let (runs, data) = (RunQuery::default(), DataQuery::default());
            let still = world.store.ids_of_data(&DataQuery { transient: Some(false), ..data.clone() }, false).await.unwrap();
            let (mut seen_runs, mut seen_data) = (BTreeSet::new(), BTreeSet::new());
            let mut window_of_runs = Window { after: None, reverse, limit: 3 };
            let mut window_of_data = window_of_runs.clone();
            let mut goes_on = [true, true];
            while goes_on != [false, false] {
                if goes_on[0] {
                    let page = world.store.page_of_runs(&runs, &window_of_runs).await.unwrap();
                    for run in page.items {
                        assert!(seen_runs.insert(run.summary.id.clone()), "{} {reverse}", run.summary.id);
                    }
                    goes_on[0] = page.next.is_some();
                    window_of_runs.after = page.next;
                }
                if goes_on[1] {
                    let page = world.store.page_of_data(&data, &window_of_data).await.unwrap();
                    for data in page.items {
                        assert!(seen_data.insert(data.id.to_string()), "{} {reverse}", data.id);
                    }
                    goes_on[1] = page.next.is_some();
                    window_of_data.after = page.next;
                }
                // One Run ends, whose output so gets a time; an upload comes; another comes and goes.
                if let Some(run) = changing.next() {
                    world.end(run, true).await;
                }
                world.push(&["kind:other"]).await;
                let gone = world.push(&["kind:other"]).await;
                let upload = world.store.data(&gone).await.unwrap().unwrap().upstream.run.id;
                world.store.remove_run(&upload, world.now()).await.unwrap().unwrap();
            }
            for id in still {
                assert!(seen_data.contains(&id), "what did not change is not missing: {id} {reverse}");
            }
        }
    }

    async fn a_page_behind_what_is_gone_goes_on_where_it_was(world: World) {
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(world.push(&["a:b"]).await);
        }
        let query = DataQuery::default();
        let first = world.store.page_of_data(&query, &Window { after: None, reverse: false, limit: 2 }).await.unwrap();
        let upload = first.items[1].upstream.run.id.clone();
        world.store.remove_run(&upload, world.now()).await.unwrap().unwrap();
        let rest = Window { after: first.next, reverse: false, limit: 9 };
        let rest = world.store.page_of_data(&query, &rest).await.unwrap();
        assert_eq!(rest.items.iter().map(|data| &data.id).collect::<Vec<_>>(), all[2..].iter().collect::<Vec<_>>());
        assert!(rest.next.is_none());
        let ids: Vec<String> = all.iter().rev().map(ToString::to_string).collect();
        let read = world.store.data_of(&ids).await.unwrap();
        assert_eq!(read.len(), 4, "what is gone is left out");
        assert!(read.is_sorted_by_key(|data| std::cmp::Reverse(all.iter().position(|id| *id == data.id))));
    }
}

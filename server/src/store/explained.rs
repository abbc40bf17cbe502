//! Tests that need the statements themselves: how databases go about the hot ones, and what the store
//! counts on in both.

use super::engine::{Database, Row, Value, WALK, args, batch, list};
use super::{
    Projected, Registered, Store, Upload, candidates, claims, data, graphs, nominations, plans, runs, tags, watching,
};
use crate::engine::{Sealed, Volume};
use knit_api::id::DataId;
use knit_api::tag::{Tag, TagChange, UserTag};
use knit_tests::postgres;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

async fn sqlite(folder: &Path) -> Store {
    Store::open_sqlite(&folder.join("state.db")).await.unwrap()
}

async fn postgres() -> Option<Store> {
    Some(Store::open_postgres(&postgres::new_database()?).await.unwrap())
}

async fn on_both(story: impl AsyncFn(Store)) {
    let folder = tempfile::tempdir().unwrap();
    story(sqlite(folder.path()).await).await;
    if let Some(store) = postgres().await {
        story(store).await;
    }
}

#[tokio::test]
async fn parameters_go_by_number_not_by_place() {
    on_both(async |store| {
        let sql = "select cast($3 as text) || cast($1 as text), $2 + 1, cast($1 as text) from json_each($4) j";
        let rows = store.db.rows(sql, args!["b", 41, "a", "[[\"x\"], [\"y\"]]"]).await.unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[1].text(0).unwrap().as_str(), rows[1].int(1).unwrap()), ("ab", 42));
        assert_eq!(rows[1].text(2).unwrap(), "b");
    })
    .await;
}

#[tokio::test]
async fn batches_read_alike_whatever_their_texts_hold() {
    on_both(async |store| {
        let odd = ["", "null", "1e3", "\"q\"", "back\\slash", "\\u0000", "\u{1}\n\t", "日本\u{1f600}", "[1]", "nul\0"];
        let rows = odd.iter().map(|text| [*text, "second"]);
        let sql = "select j.value ->> 0, j.value ->> 1, cast($1 as text) from json_each($2) j";
        let rows = store.db.rows(sql, args!["as \0 it is", &batch(rows)]).await.unwrap();
        let read: Vec<String> = rows.iter().map(|row| row.text(0).unwrap()).collect();
        assert_eq!(read[..9], odd[..9]);
        assert_eq!(read[9], "nul\u{fffd}");
        assert!(rows.iter().all(|row| row.text(1).unwrap() == "second"));
        assert!(rows.iter().all(|row| row.text(2).unwrap() == "as \u{fffd} it is"));
        assert!(store.db.rows("select 1 from json_each($1) j", args![&list([""; 0])]).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn numbers_of_all_widths_and_nothing_at_all_are_read_alike() {
    on_both(async |store| {
        let sql = "select active, count(*), min(cast(null as bigint)), max($1), max($2) from plan group by active";
        let row = store.db.row(sql, args![i64::MIN, i64::MAX]).await.unwrap().unwrap();
        assert_eq!((row.int(0).unwrap(), row.int(1).unwrap()), (1, 2));
        assert_eq!(row.opt_int(2).unwrap(), None);
        assert!(row.int(2).is_err());
        assert_eq!((row.int(3).unwrap(), row.int(4).unwrap()), (i64::MIN, i64::MAX));
        let sql = "select exit_code, exit_message, lease_owner from run \
                   union all select want_tags, path, anchor_tag from mount";
        let row = store.db.row(sql, &[]).await.unwrap().unwrap();
        assert_eq!((row.opt_int(0).unwrap(), row.opt_text(2).unwrap()), (Some(0), None));
    })
    .await;
}

#[tokio::test]
async fn connections_that_read_cannot_write_and_a_dropped_transaction_is_undone() {
    on_both(async |store| {
        let insert = "insert into garbage (volume, since) values ('v', 0)";
        let mut reading = store.db.begin_reading().await.unwrap();
        assert!(reading.exec(insert, &[]).await.is_err());
        drop(reading);
        let mut dropped = store.db.begin().await.unwrap();
        dropped.exec(insert, &[]).await.unwrap();
        drop(dropped);
        let mut kept = store.db.begin().await.unwrap();
        kept.exec(insert, &[]).await.unwrap();
        kept.commit().await.unwrap();
        assert_eq!(store.garbage(9).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_embedded_database_is_as_safe_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path()).await;
    for (pragma, value) in [("foreign_keys", 1), ("synchronous", 2)] {
        let sql: &'static str = format!("pragma {pragma}").leak();
        let mut tx = store.db.begin().await.unwrap();
        assert_eq!(tx.row(sql, &[]).await.unwrap().unwrap().int(0).unwrap(), value, "{pragma}");
    }
    assert_eq!(store.db.row("pragma journal_mode", &[]).await.unwrap().unwrap().text(0).unwrap(), "wal");
}

#[tokio::test]
async fn a_nomination_under_way_keeps_its_spark_from_a_projector_that_takes_an_older_one() {
    // Only where two may write at once.
    let Some(store) = postgres().await else { return };
    let tag = Tag::new("a", "b");
    let json = br#"{"image":"train:v1","inputs":[{"path":"/in","tags":["a:b"]}]}"#;
    let spec = crate::rules::plan::check(knit_api::json::from_slice(json).unwrap()).unwrap();
    let Registered::New(plan) = store.register_plan(&spec).await.unwrap() else { panic!("it is new") };
    let data = DataId::new("d");
    let sealed = Sealed { digest: "0".to_owned(), entries: 0, bytes: 0, left_out: Vec::new() };
    let upload = Upload { volume: Volume::of(&data), data: data.clone(), sealed, tags: vec![tag.clone()] };
    let now = crate::clock::now();
    store.add_upload(&upload, now).await.unwrap();
    let remove = TagChange { remove: vec![UserTag(tag.clone())], ..TagChange::default() };
    assert!(store.change_tags(&data, &remove).await.unwrap());

    let mut retag = store.db.begin().await.unwrap();
    retag.exec(tags::ATTACH, args!["d", list([tags::id(&tag)])]).await.unwrap();
    nominations::refresh_data(&mut retag, &data).await.unwrap();
    let before = store.project(&plan, now).await.unwrap();
    assert_eq!(before, Projected { made: 0, more: false }, "the older spark has lost its nomination");
    retag.commit().await.unwrap();
    assert_eq!(store.plans_to_project().await.unwrap(), std::slice::from_ref(&plan));
    assert_eq!(store.project(&plan, now).await.unwrap(), Projected { made: 1, more: false });
}

/// 60 000 Data with two tags each, 4000 Plans of two inputs, 60 000 Runs: enough that no database takes a
/// table for so small that it may as well be read whole.
const FILL: &[&str] = &[
    "insert into tag (id, key, value) select 't' || n, 'key' || (n % 50), 'value' || n from {12000}",
    "insert into plan (id, digest, active, image_repository, image_tag) \
     select 'p' || n, 'p' || n, 1, 'image' || n, 'v1' from {4000}",
    "insert into mount (id, plan_id, kind, ord, path, want_tags, anchor_tag) \
     select 'm' || n, 'p' || (n / 3), case when n % 3 = 2 then 'output' else 'input' end, n % 3, '/in', \
       case when n % 3 = 2 then 0 else 1 end, case when n % 3 = 2 then null else 't' || n end from {12000}",
    "insert into mount_tag (mount_id, tag_id) select 'm' || n, 't' || n from {12000}",
    "insert into run (id, plan_id, signature, status, updated_at, due_at) \
     select 'r' || n, 'p' || (n % 4000), 's' || n, case when n % 100 = 0 then 'waiting' else 'done' end, n, n \
     from {60000}",
    "insert into data (id, run_id, mount_id, volume, ready, made_at) \
     select 'd' || n, 'r' || n, 'm' || ((n % 4000) * 3 + 2), 'v' || n, case when n % 50 = 0 then 0 else 1 end, \
       case when n % 100 = 0 then null else n end from {60000}",
    "insert into data_tag (tag_id, data_id) select 't' || (n % 12000), 'd' || (n / 2) from {120000}",
    "insert into run_input (run_id, mount_id, data_id) \
     select 'r' || n, 'm' || ((n % 4000) * 3), 'd' || (n / 2) from {60000}",
    "insert into nomination (mount_id, data_id) select 'm' || ((n % 4000) * 3), 'd' || n from {60000}",
    "insert into plan_annotation (plan_id, head, pair) select 'p' || n, 'name=' || n, 'name=' || n from {4000}",
    "insert into spark (mount_id, data_id, lit) select 'm' || ((n % 4000) * 3), 'd' || n, 'l' from {60000}",
];

async fn fill(store: &Store) {
    fill_with(store, FILL).await;
}

async fn fill_with(store: &Store, statements: &[&str]) {
    let mut tx = store.db.begin().await.unwrap();
    for sql in statements {
        let numbers = sql.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("0", |(count, _)| count);
        let series = tx.choose(
            format!(
                "(with recursive c(n) as (select 0 union all select n + 1 from c where n + 1 < {numbers}) \
                 select n from c) c"
            ),
            format!("generate_series(0, {numbers} - 1) c(n)"),
        );
        tx.script(sql.replace(&format!("{{{numbers}}}"), &series)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// A name of its own for each prepared statement: the driver keeps what it has prepared by its text, and what is
/// explained drops that.
static NAMES: AtomicUsize = AtomicUsize::new(0);

/// How the database goes about a statement: PostgreSQL without regard to the parameters, as it may from
/// the sixth time on.
async fn explain(store: &Store, sql: &str, args: &[Value<'_>]) -> String {
    explain_after(store, "select 1", sql, args).await
}

/// The same, after a statement for PostgreSQL.
async fn explain_after(store: &Store, first: &str, sql: &str, args: &[Value<'_>]) -> String {
    let (types, literals): (Vec<&str>, Vec<String>) = args
        .iter()
        .map(|value| match value {
            Value::Int(number) => ("bigint", number.map_or("null".to_owned(), |number| format!("({number})::bigint"))),
            Value::Text(text) => ("text", text.as_ref().map_or("null".to_owned(), |text| format!("'{text}'"))),
            Value::Bytes(bytes) => ("bytea", format!("decode('{}', 'hex')", hex::encode(bytes))),
        })
        .unzip();
    let name = format!("q{}", NAMES.fetch_add(1, Ordering::Relaxed));
    let mut tx = store.db.begin().await.unwrap();
    let prepare = format!(
        "{first}; set local plan_cache_mode = force_generic_plan; deallocate all; prepare {name} ({}) as {sql}",
        types.join(", ")
    );
    tx.script(tx.choose(String::new(), prepare)).await.unwrap();
    let execute = format!("explain execute {name} ({})", literals.join(", "));
    let explain: &'static str = tx.choose(format!("explain query plan {sql}"), execute).leak();
    let (args, column) = tx.choose((args, 3), (&[], 0));
    let text = |row: &Row| row.text(column).unwrap();
    tx.rows(explain, args).await.unwrap().iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Tables that a plan reads from end to end.
fn read_whole(plan: &str) -> Vec<&str> {
    let steps = plan.lines().map(str::trim_start);
    steps
        .filter_map(|line| {
            let table = match line.split_once("Seq Scan on ") {
                Some((_, table)) => table,
                None => line.strip_prefix("SCAN ").filter(|step| !step.contains("USING"))?,
            };
            let table = table.split(' ').next()?;
            // Aliases of parameters, and of what was computed before.
            (!["j", "x", "c", "s", "CONSTANT"].contains(&table) && !table.starts_with('(')).then_some(table)
        })
        .collect()
}

/// True when a plan puts rows in order, other than a few that are already at hand.
fn sorts(plan: &str) -> bool {
    plan.contains("Sort") || plan.contains("USE TEMP B-TREE FOR ORDER BY")
}

type Statement = (&'static str, Vec<Value<'static>>);

/// The statements that find out what is in a list: those that walk along an index in the order of the list, and
/// those that put what an index leads to in order; for one of the databases.
fn lists(postgres: usize) -> (Vec<Statement>, Vec<Statement>) {
    let tag = || Value::from(tags::id(&Tag::new("a", "b")));
    let (none, one, two) = (|| list([""; 0]), || list(["d1"]), || list(["t1", "t2"]));
    let some = || list(["done", "failed"]);
    let (mut walks, mut sorts) = (Vec::new(), Vec::new());
    for (way, from) in [
        (data::BY_TIME, None),
        (data::UNREADY, None),
        (data::BY_TAG, Some(tag())),
        (data::OF_THESE, Some(Value::from(one()))),
    ] {
        let [timed @ .., _, _] = way.statements();
        for sql in way.statements() {
            let mut args = if timed.contains(&sql) {
                args![0, "", i64::MAX, "", some(), two(), 501].to_vec()
            } else {
                args!["", 0, i64::MAX, some(), two(), 501].to_vec()
            };
            args.extend(from.clone());
            if from.is_some() { &mut sorts } else { &mut walks }.push((sql, args));
        }
    }
    let bounds = || args![0, "", i64::MAX, "", 501].to_vec();
    let with = |more: &[Value<'static>]| [bounds(), more.to_vec()].concat();
    for direction in 0..2 {
        walks.push((runs::BY_PLAN[direction], with(args!["p1", "done"])));
        walks.push((runs::BY_STATUS[direction], with(args!["done"])));
        walks.push((runs::BY_TIME[postgres][direction], bounds()));
        walks.push((runs::THROUGH_TIME[postgres][direction], with(args![list(["p1"]), one(), one(), some()])));
        sorts.push((runs::FROM_OUTPUTS[direction], with(args![none(), none(), one(), none()])));
        sorts.push((runs::FROM_INPUTS[direction], with(args![none(), one(), none(), some()])));
        sorts.push((runs::FROM_PLANS[direction], with(args![list(["p1"]), none(), none(), some()])));
        let nothing = || Value::from(None::<i64>);
        let no_text = || Value::from(None::<&str>);
        let plans = |image: Value<'static>, more: Option<Value<'static>>| {
            let mut args =
                args!["", nothing(), image, no_text(), 1, no_text(), nothing(), two(), 1, two(), 501].to_vec();
            args.extend(more);
            args
        };
        walks.push((plans::BY_ID[direction], plans(no_text(), None)));
        sorts.push((plans::BY_IMAGE[direction], plans(Value::from("image1"), None)));
        sorts.push((plans::BY_TAG[direction], plans(no_text(), Some(tag()))));
    }
    (walks, sorts)
}

/// The statements for candidates, for one of the databases.
fn candidates(postgres: usize) -> Vec<Statement> {
    let prefix = || args!["d1", 50].to_vec();
    vec![
        (candidates::DATA[postgres], prefix()),
        (candidates::PLANS[postgres], prefix()),
        (candidates::RUNS[postgres], prefix()),
        (candidates::TAGS[postgres], prefix()),
        (candidates::PLAN_NAMES[postgres], prefix()),
        (candidates::NAMED[postgres], args!["name=1", "name=1", 50].to_vec()),
        (candidates::LATEST_RUNS, args![50].to_vec()),
        (candidates::TAGS_OF, args![list(["d1"])].to_vec()),
    ]
}

#[tokio::test]
async fn hot_statements_go_by_indexes_on_both() {
    let one = list(["d1"]);
    let (statuses, late) = (list(["waiting"]), i64::MAX);
    let combinations: &'static str = super::projection::missing_combinations(2, 0);
    let statements: [(&str, Vec<Value<'_>>); 20] = [
        (nominations::NOMINATE_DATA, args!["d1"].to_vec()),
        (nominations::WITHDRAW_DATA, args!["d1"].to_vec()),
        (nominations::NOMINATE_INPUT, args!["m1"].to_vec()),
        (combinations, args!["p1", 500, "m3", "m4", &one].to_vec()),
        (claims::CANDIDATES, args!["waiting", late, 10].to_vec()),
        (claims::NEXT_DUE, args![&statuses].to_vec()),
        (runs::QUIET, args!["p1"].to_vec()),
        (plans::HASTEN_RUNS, args!["p1", 0].to_vec()),
        (plans::FORGET_ANNOTATIONS, args!["p1"].to_vec()),
        (runs::INPUT_USES, args![&one].to_vec()),
        (runs::PLAN_USES, args![&one].to_vec()),
        (data::DOWNSTREAMS, args![&one].to_vec()),
        (data::NOMINATIONS, args![&one].to_vec()),
        (graphs::ABOVE, args!["d1"].to_vec()),
        (graphs::BELOW, args!["d1"].to_vec()),
        (graphs::MAKERS, args![&one].to_vec()),
        (graphs::USERS, args![&one].to_vec()),
        (plans::MOUNT_USES, args![&one].to_vec()),
        (tags::USES, args![&one].to_vec()),
        (tags::SHARED, args!["t1", "t2", "t3", "t3"].to_vec()),
    ];
    on_both(async |store| {
        fill(&store).await;
        if let Database::Postgres(..) = store.db {
            super::migrations::analyze(&store.db, true).await.unwrap();
        }
        let postgres = store.db.begin().await.unwrap().choose(0, 1);
        let (mut walks, sorted) = lists(postgres);
        walks.extend(candidates(postgres));
        // SQLite also while it has no figures yet, as before the first restart.
        for _ in postgres..2 {
            for (sql, args) in statements.iter().chain(&sorted).chain(&walks) {
                let plan = explain(&store, sql, args).await;
                let whole = read_whole(&plan);
                assert!(whole.is_empty(), "{whole:?} in\n{sql}\n{plan}");
                let walks = walks.iter().any(|(walk, _)| walk == sql);
                assert!(!walks || !sorts(&plan), "sorted instead of walked:\n{sql}\n{plan}");
                if std::env::var_os("KNIT_TESTS_SHOW").is_some() {
                    eprintln!("{sql}\n{plan}\n");
                }
            }
            super::migrations::analyze(&store.db, true).await.unwrap();
        }
        let plan = explain(&store, "select * from run where exit_code = $1 order by exit_message", args![1]).await;
        assert_eq!(read_whole(&plan), ["run"], "this test can see it:\n{plan}");
        assert!(sorts(&plan), "this test can see it:\n{plan}");
    })
    .await;
}

#[tokio::test]
async fn looks_at_watched_runs_go_by_indexes_on_both() {
    let (one, plan, none) = (list(["d1"]), list(["p1"]), "[]");
    let recent = 59_900;
    let statements: [(&str, &str, Vec<Value<'_>>); 7] = [
        ("select 1", watching::LIVE, args![none, none, none, none].to_vec()),
        ("select 1", watching::LIVE_OF_PLANS, args![&plan, none, none, none].to_vec()),
        ("select 1", watching::ENDED, args![none, none, none, none, 1000].to_vec()),
        ("select 1", watching::CHANGED, args![none, none, none, none, recent].to_vec()),
        (WALK, watching::CAUSED, args![none, none, none, none, recent, &one, none].to_vec()),
        (WALK, watching::CAUSED, args![none, none, none, none, recent, none, &plan].to_vec()),
        (WALK, watching::LEFT_TO_CAUSE, args![&one, none].to_vec()),
    ];
    on_both(async |store| {
        fill(&store).await;
        super::migrations::analyze(&store.db, true).await.unwrap();
        for (first, sql, args) in &statements {
            let plan = explain_after(&store, first, sql, args).await;
            let whole = read_whole(&plan);
            assert!(whole.is_empty(), "{whole:?} in\n{sql}\n{plan}");
        }
    })
    .await;
}

#[tokio::test]
async fn explanations_and_foresights_go_by_indexes_on_both() {
    use super::{explain, impact};
    let (any_id, any_time) = (None::<&str>, None::<i64>);
    let (two, data) = (list(["t1", "t2"]), list(["d1", "d2"]));
    let statements: [(&str, Vec<Value<'_>>); 17] = [
        (explain::COUNT_FITTING, args!["m3", 100].to_vec()),
        (explain::FITTING, args!["m3", 5].to_vec()),
        (explain::FITTING_BY_TAG, args!["t1", any_id, any_time, &two, 2, 100].to_vec()),
        (explain::FITTING_BY_ID, args!["d1", "d1", any_time, &two, 2, 100].to_vec()),
        (explain::FITTING_BY_TIME, args![59_000, any_id, 59_000, "[]", 0, 100].to_vec()),
        (explain::SHARING, args!["t1", &two, 1, 5000, 50, 2, any_id, any_time].to_vec()),
        (explain::VALUES, args!["key7", 1000].to_vec()),
        (explain::RUNS_BY_STATUS, args!["p1", 100_000].to_vec()),
        (explain::COUNT_INPUTS, args!["d1", 100].to_vec()),
        (explain::INPUTS, args!["d1", 5].to_vec()),
        (explain::NEAR_INPUTS, args!["d1", 2, 5000, 50].to_vec()),
        (explain::COUNT_LINKS, args!["d1", 5000].to_vec()),
        (explain::INPUTS_OF_KEY, args!["key7", 1000, 50].to_vec()),
        (explain::FED_BY_TAGS, args![&two].to_vec()),
        (explain::FEEDING_TAGS, args!["t1", &two, 2].to_vec()),
        (explain::BEFORE, args!["waiting", 59_000, "r1", 1000].to_vec()),
        (impact::COUNT_NOMINATIONS, args![&data, 100].to_vec()),
    ];
    on_both(async |store| {
        fill(&store).await;
        super::migrations::analyze(&store.db, true).await.unwrap();
        for (sql, args) in &statements {
            let plan = explain(&store, sql, args).await;
            let whole = read_whole(&plan);
            assert!(whole.is_empty(), "{whole:?} in\n{sql}\n{plan}");
        }
    })
    .await;
}

/// 20 000 Data that share a tag, and 1000 Plans with an input that asks for it and for one that nobody has; the
/// first Plan has an input, too, that all Data fit.
const MANY: &[&str] = &[
    "insert into plan (id, digest, active, image_repository, image_tag) \
     select 'p' || n, 'p' || n, 1, 'image' || n, 'v1' from {1000}",
    "insert into run (id, plan_id, status, updated_at, due_at) \
     select 'r' || n, '00000000-0000-4000-8000-000000000001', 'done', n, n from {20000}",
    "insert into data (id, run_id, mount_id, volume, ready, made_at) \
     select 'd' || n, 'r' || n, '00000000-0000-4000-8000-000000000011', 'v' || n, 1, n from {20000}",
    "insert into data_tag (tag_id, data_id) \
     select t.id, 'd' || c.n from {20000} join tag t on t.key = 'common'",
    "insert into data_tag (tag_id, data_id) \
     select t.id, 'd' || c.n from {20000} join tag t on t.key = 'kind' and t.value = cast(c.n % 1000 as text)",
    "insert into mount (id, plan_id, kind, ord, path, want_tags, anchor_tag) \
     select 'm' || n, 'p' || n, 'input', 0, '/in', 2, t.id \
     from {1000} join tag t on t.key = 'nobody' and t.value = cast(c.n as text)",
    "insert into mount_tag (mount_id, tag_id) \
     select 'm' || n, t.id from {1000} join tag t on t.key = 'nobody' and t.value = cast(c.n as text)",
    "insert into mount_tag (mount_id, tag_id) select 'm' || n, t.id from {1000} join tag t on t.key = 'common'",
    "insert into mount (id, plan_id, kind, ord, path, want_tags, anchor_tag) \
     select 'all' || n, 'p0', 'input', 1, '/all', 1, t.id from {1} join tag t on t.key = 'common'",
    "insert into mount_tag (mount_id, tag_id) select 'all' || n, t.id from {1} join tag t on t.key = 'common'",
    "insert into nomination (mount_id, data_id) select 'all0', 'd' || n from {20000}",
    "analyze",
];

#[tokio::test]
async fn explanations_stay_bounded_with_very_many_data_and_plans_that_share_a_tag() {
    on_both(async |store| {
        let mut all = vec![Tag::new("common", "x")];
        all.extend((0..1000).map(|n| Tag::new("kind", n.to_string())));
        all.extend((0..1000).map(|n| Tag::new("nobody", n.to_string())));
        let mut tx = store.db.begin().await.unwrap();
        all.iter().collect::<tags::TagRows>().intern(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        fill_with(&store, MANY).await;

        let watch = crate::clock::Stopwatch::start();
        let plan = store.explain_plan(&"p0".into()).await.unwrap().unwrap();
        let [none, all] = &plan.inputs[..] else { panic!("{plan:?}") };
        assert_eq!((none.fitting.count, none.nearest.len(), none.nearest_capped), (0, 5, true));
        assert_eq!((all.fitting.count, all.fitting.capped, all.data.len()), (10_000, true, 5));
        assert_eq!(none.nearest[0].lack.to_string(), "lacks nobody:0");
        let data = store.explain_data(&"d0".into()).await.unwrap().unwrap();
        assert_eq!((data.fitting.count, data.nearest.len(), data.nearest_capped), (1, 5, false));
        let json =
            br#"{"image":"new:v1","inputs":[{"path":"/1","tags":["common:x"]},{"path":"/2","tags":["kind:7"]}]}"#;
        let spec = crate::rules::plan::check(knit_api::json::from_slice(json).unwrap()).unwrap();
        let foreseen = store.foresee_plan(&spec).await.unwrap();
        assert_eq!((foreseen.runs.count, foreseen.runs.capped), (10_000 * 20, true));
        let change = TagChange { add: vec![UserTag(Tag::new("nobody", "3"))], ..TagChange::default() };
        let impact = store.tag_impact(&"d0".into(), &change).await.unwrap().unwrap();
        assert_eq!(impact.runs.iter().map(|new| new.runs.count).sum::<u64>(), 1);
        // Far more than it takes; what is not bounded takes minutes.
        assert!(watch.elapsed().as_secs() < 20, "{:?}", watch.elapsed());
    })
    .await;
}

#[tokio::test]
async fn what_a_change_of_tags_comes_to_is_counted_no_longer_than_others_may_wait() {
    on_both(async |store| {
        let json = br#"{"image":"train:v1","inputs":[{"path":"/in","tags":["a:b"]}]}"#;
        let spec = crate::rules::plan::check(knit_api::json::from_slice(json).unwrap()).unwrap();
        store.register_plan(&spec).await.unwrap();
        let data = DataId::new("d");
        let sealed = Sealed { digest: "0".to_owned(), entries: 0, bytes: 0, left_out: Vec::new() };
        let upload = Upload { volume: Volume::of(&data), data: data.clone(), sealed, tags: Vec::new() };
        store.add_upload(&upload, crate::clock::now()).await.unwrap();
        let change = TagChange { add: vec![UserTag(Tag::new("a", "b"))], ..TagChange::default() };
        let all = store.tag_impact(&data, &change).await.unwrap().unwrap();
        assert_eq!((all.runs.len(), all.runs_capped), (1, false));
        let none = store.try_tag_impact(&data, &change, std::time::Duration::ZERO).await.unwrap().unwrap();
        assert_eq!((none.runs.len(), none.runs_capped), (0, true));
        assert_eq!(none.nominated, all.nominated);
    })
    .await;
}

//! Opening: the first time, again, and what is refused.

use crate::world::{Place, World, at, on_both};
use knit_api::candidate::{Candidate, Kind};
use knit_api::run::RunStatus as S;
use knit_server::store::{DataQuery, PlanQuery, RunQuery, Store, StoreError};
use knit_tests::postgres;

on_both! {
    async fn a_new_database_holds_the_two_built_in_plans(world: World) {
        let plans = world.store.find_plans(&PlanQuery::default()).await.unwrap();
        let json: Vec<String> = plans.iter().map(|plan| serde_json::to_string(plan).unwrap()).collect();
        let expected = |id: u8, name: &str, path: &str| format!(
            r#"{{"planId":"00000000-0000-4000-8000-00000000000{id}","name":"knit#{name}","inputs":[],"#
        ) + &format!(r#""outputs":[{{"path":"{path}","tags":[],"downstreams":[]}}],"active":true}}"#);
        assert_eq!(json, [expected(1, "uploaded", "/upload"), expected(2, "imported", "/imported")]);
        assert!(world.store.is_ready().await);
    }

    async fn a_database_is_opened_again_with_what_it_holds(world: World) {
        let data = world.push(&["a:b"]).await;
        world.store.close().await;
        assert!(!world.store.is_ready().await);
        let again = world.place.open().await.unwrap();
        assert!(again.data(&data).await.unwrap().is_some());
        assert_eq!(again.find_plans(&PlanQuery::default()).await.unwrap().len(), 2);
    }

    async fn a_database_newer_than_the_program_is_refused_and_left_alone(world: World) {
        world.place.run("update schema_version set version = 1000").await;
        match world.place.open().await {
            Err(StoreError::TooNew { found: 1000, known: Store::SCHEMA }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(world.place.number("select version from schema_version").await, 1000);
    }

    async fn a_database_of_knitfab_is_refused_by_name(world: World) {
        world.place.run("update schema_version set version = 3").await;
        let error = world.place.open().await.unwrap_err().to_string();
        assert!(error.contains("database of Knitfab (schema version 3)"), "{error}");
    }

    async fn several_may_open_a_new_database_at_once(world: World) {
        forget_everything(&world).await;
        let (a, b, c) = tokio::join!(world.place.open(), world.place.open(), world.place.open());
        for store in [a.unwrap(), b.unwrap(), c.unwrap()] {
            assert_eq!(store.find_plans(&PlanQuery::default()).await.unwrap().len(), 2);
        }
    }

    async fn the_rows_of_the_first_schema_are_found_in_the_newest(world: World) {
        forget_everything(&world).await;
        make(&world, &files()[..1]).await;
        let long = "日".repeat(5000);
        world.place.run(&format!(
            "insert into plan (id, digest, active, image_repository, image_tag, annotations) values \
               ('p1', 'p1', 1, 'train', 'v1', '[\"by=me\",\"name=digits\"]'), \
               ('p2', 'p2', 0, 'train', 'v1', '[\"name={long}\"]'), ('p3', 'p3', 1, 'other', 'v2', '[]'); \
             insert into run (id, plan_id, signature, status, updated_at, due_at) values \
               ('r1', 'p1', 'd', 'done', 5000, 0), ('r2', 'p1', 'e', 'waiting', 6000, 0), ('r3', 'p3', 'd', 'done', 7, 0); \
             insert into mount (id, plan_id, kind, ord, path) values ('m1', 'p1', 'output', 0, '/out'); \
             insert into data (id, run_id, mount_id, volume, ready, made_at) values \
               ('d1', 'r1', 'm1', 'd1', 1, 5), ('d2', 'r2', 'm1', 'd2', 0, null)"
        ))
        .await;

        let store = world.place.open().await.unwrap();
        assert_eq!(world.place.number("select version from schema_version").await, Store::SCHEMA);
        let ids = |found: Vec<Candidate>| found.into_iter().map(|one| one.value).collect::<Vec<_>>();
        assert_eq!(ids(store.plans_named("digits", 9).await.unwrap()), ["p1"]);
        assert_eq!(ids(store.plans_named(&long, 9).await.unwrap()), ["p2"]);
        assert_eq!(ids(store.plans_named("me", 9).await.unwrap()), [""; 0]);
        assert_eq!(ids(store.candidates(Kind::PlanNames, "dig", 9).await.unwrap()), ["digits"]);
        assert_eq!(ids(store.candidates(Kind::Runs, "r", 9).await.unwrap()), ["r1", "r2", "r3"]);
        let of_plan = RunQuery { plans: vec!["p1".into()], ..RunQuery::default() };
        assert_eq!(store.ids_of_runs(&of_plan, false).await.unwrap(), ["r1", "r2"]);
        assert_eq!(store.ids_of_data(&DataQuery::default(), true).await.unwrap(), ["d2", "d1"]);
        let unready = DataQuery { transient: Some(true), ..DataQuery::default() };
        assert_eq!(store.ids_of_data(&unready, false).await.unwrap(), ["d2"]);
        let image = Some("train".parse().unwrap());
        let trained = store.ids_of_plans(&PlanQuery { image, ..PlanQuery::default() }, false).await.unwrap();
        assert_eq!(trained, ["p1", "p2"]);
    }
}

on_both! {
    async fn data_of_every_earlier_schema_go_on_as_if_nothing_had_been(world: World) {
        let files = files();
        assert_eq!(files.last().unwrap().0, Store::SCHEMA);
        for known in 1..files.len() {
            forget_everything(&world).await;
            make(&world, &files[..known]).await;
            world.place.run(
                "insert into tag (id, key, value) values ('t', 'a', 'b'); \
                 insert into plan (id, digest, active, image_repository, image_tag) values ('p', 'p', 1, 'train', 'v1'); \
                 insert into mount (id, plan_id, kind, ord, path, want_tags, anchor_tag) values \
                   ('in', 'p', 'input', 0, '/in', 1, 't'), ('out', 'p', 'output', 0, '/out', 0, null); \
                 insert into mount_tag (mount_id, tag_id) values ('in', 't'); \
                 insert into run (id, plan_id, status, updated_at, due_at) values \
                   ('u', '00000000-0000-4000-8000-000000000001', 'done', 5000, 0); \
                 insert into data (id, run_id, mount_id, volume, ready, made_at) values \
                   ('d', 'u', '00000000-0000-4000-8000-000000000011', 'd', 1, 5); \
                 insert into data_tag (tag_id, data_id) values ('t', 'd'); \
                 insert into nomination (mount_id, data_id) values ('in', 'd'); \
                 insert into spark (mount_id, data_id, lit) values ('in', 'd', 'l')",
            )
            .await;
            let store = world.place.open().await.unwrap();
            assert_eq!(world.place.number("select version from schema_version").await, Store::SCHEMA);
            assert_eq!(store.plans_to_project().await.unwrap(), ["p".into()], "from {}", files[known - 1].0);
            assert_eq!(store.project(&"p".into(), at(1)).await.unwrap().made, 1);
            let claims = store.claim(&[S::Waiting], "me", at(2), at(3), 9).await.unwrap();
            assert_eq!(claims.len(), 1);
            let data = store.data(&"d".into()).await.unwrap().unwrap();
            assert_eq!((data.nomination.len(), data.downstreams.len()), (1, 1));
            assert!(store.retry(&"u".into(), at(4)).await.unwrap().is_err());
            store.close().await;
        }
    }
}

/// What it was like to open a database as somebody else, or another one.
async fn refused(url: &str) -> String {
    Store::open_postgres(url).await.unwrap_err().to_string()
}

#[tokio::test]
async fn databases_that_knit_cannot_live_in_are_refused_with_what_to_do() {
    let Some(url) = postgres::new_database() else { return };
    let place = Place::Postgres(url.clone());
    let name = url.split(['/', '?']).find(|part| part.starts_with("knit") && !part.contains('-')).unwrap().to_owned();
    place.run("create role nobody_much login; revoke create on schema public from public").await;
    let error = refused(&url.replace("postgres@", "nobody_much@")).await;
    assert!(error.contains("user nobody_much may not create tables in schema public"), "{error}");
    assert!(error.contains("grant create, usage on schema public to nobody_much"), "{error}");
    let odd = format!("{name}_odd");
    place.run(&format!("create database {odd} template template0 encoding 'SQL_ASCII' locale 'C'")).await;
    let error = refused(&url.replace(&format!("/{name}?"), &format!("/{odd}?"))).await;
    assert!(error.contains("has the encoding SQL_ASCII, and Knit needs UTF8"), "{error}");
    let error = refused(&url.replace(&format!("/{name}?"), "/not_there?")).await;
    assert!(error.contains("\"not_there\" does not exist"), "{error}");
    assert!(refused("postgres://me:secret@127.0.0.1:99999/x").await.starts_with("connecting to the database: the URL"));
    place.run("drop role nobody_much").await;
}

#[tokio::test]
async fn migrating_two_at_a_time_is_done_once() {
    let Some(url) = postgres::new_database() else { return };
    let all = futures_util::future::join_all((0..4).map(|_| Store::open_postgres(&url))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let rows = Place::Postgres(url).number("select count(*) from schema_version").await;
    assert_eq!(rows, 1);
}

/// The files of migrations, in their order.
fn files() -> Vec<(i64, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<(i64, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, std::fs::read_to_string(path).unwrap())))
        .collect();
    files.sort();
    files
}

/// Makes the schema of these files behind the store's back.
async fn make(world: &World, files: &[(i64, String)]) {
    let (before, words) = match &world.place {
        Place::Sqlite(_) => (
            "",
            [
                ("{wr}", "without rowid"),
                ("{bytes}", ""),
                ("{blob}", "blob"),
                ("{element}", "j.value"),
                ("{postgres}", "--"),
            ],
        ),
        Place::Postgres(_) => (
            include_str!("../../migrations/postgres.sql"),
            [
                ("{wr}", ""),
                ("{bytes}", "collate \"C\""),
                ("{blob}", "bytea"),
                ("{element}", "j.value #>> '{}'"),
                ("{postgres}", ""),
            ],
        ),
    };
    for (_, text) in files {
        let text = words.iter().fold(text.clone(), |text, (word, replaced)| text.replace(word, replaced));
        world.place.run(&format!("{before}{text}")).await;
    }
    let version = files.last().unwrap().0;
    world.place.run("create table schema_version (version bigint not null)").await;
    world.place.run(&format!("insert into schema_version (version) values ({version})")).await;
}

/// Leaves the database as it is before it is opened for the first time.
async fn forget_everything(world: &World) {
    match &world.place {
        Place::Sqlite(path) => {
            world.store.close().await;
            std::fs::remove_file(path).unwrap();
        }
        Place::Postgres(_) => world.place.run("drop schema public cascade; create schema public").await,
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let path = std::path::Path::new("/nowhere/at/all/state.db");
    let error = knit_server::store::Store::open_sqlite(path).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all/state.db"), "{error}");
}

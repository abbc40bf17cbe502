//! Opening: the first time, again, and what is refused.

use crate::world::{Place, World, on_both};
use knit_api::candidate::{Candidate, Kind};
use knit_server::store::{DataQuery, PlanQuery, RunQuery, StoreError};

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
            Err(StoreError::TooNew { found: 1000, known: 6 }) => {}
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
        let first = include_str!("../../migrations/0004.sql");
        let (before, wr) = match &world.place {
            Place::Sqlite(_) => ("", "without rowid"),
            Place::Postgres(_) => (include_str!("../../migrations/postgres.sql"), ""),
        };
        world.place.run(&format!("{before}{}", first.replace("{wr}", wr))).await;
        world.place.run("create table schema_version (version bigint not null)").await;
        world.place.run("insert into schema_version (version) values (4)").await;
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
        assert_eq!(world.place.number("select version from schema_version").await, 6);
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

/// Leaves the database as it is before it is opened for the first time.
async fn forget_everything(world: &World) {
    world.place.run("drop view matching; drop view feeding").await;
    let tables = "data_tag, run_input, nomination, spark, data, run, mount_tag, mount, plan_annotation, plan, tag, garbage, \
         manifest, manifest_piece, manifest_upload";
    for table in tables.split(", ").chain(["schema_version"]) {
        world.place.run(&format!("drop table {table}")).await;
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let path = std::path::Path::new("/nowhere/at/all/state.db");
    let error = knit_server::store::Store::open_sqlite(path).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all/state.db"), "{error}");
}

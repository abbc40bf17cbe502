//! Opening: the first time, again, and what is refused.

use crate::world::{World, on_both};
use knit_server::store::{PlanQuery, StoreError};

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
            Err(StoreError::TooNew { found: 1000, known: 4 }) => {}
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
        let tables = "data_tag, run_input, nomination, spark, data, run, mount_tag, mount, plan, tag, garbage";
        world.place.run("drop view matching; drop view feeding").await;
        for table in tables.split(", ") {
            world.place.run(&format!("drop table {table}")).await;
        }
        world.place.run("drop table schema_version").await;
        let (a, b, c) = tokio::join!(world.place.open(), world.place.open(), world.place.open());
        for store in [a.unwrap(), b.unwrap(), c.unwrap()] {
            assert_eq!(store.find_plans(&PlanQuery::default()).await.unwrap().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let path = std::path::Path::new("/nowhere/at/all/state.db");
    let error = knit_server::store::Store::open_sqlite(path).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all/state.db"), "{error}");
}

//! What begins as asked.

use crate::world::{World, at, on_both, simple, spec};
use knit_api::candidate::Kind;
use knit_api::run::RunStatus as S;

async fn offered(world: &World, kind: Kind, prefix: &str, limit: usize) -> Vec<(String, String)> {
    let found = world.store.candidates(kind, prefix, limit).await.unwrap();
    found.into_iter().map(|one| (one.value, one.hint)).collect()
}

async fn values(world: &World, kind: Kind, prefix: &str) -> Vec<String> {
    offered(world, kind, prefix, 200).await.into_iter().map(|(value, _)| value).collect()
}

on_both! {
    async fn data_are_offered_with_their_user_tags(world: World) {
        let one = world.push(&["b:2", "a:1"]).await;
        let long = format!("long:{}\nx", "日".repeat(100));
        let two = world.push(&[&long]).await;
        let all = offered(&world, Kind::Data, "", 50).await;
        assert_eq!(all[1], (one.to_string(), "a:1 b:2".to_owned()));
        assert_eq!(all[0].0, two.to_string(), "the newest first");
        assert_eq!(all[0].1, format!("long:{}…", "日".repeat(54)));
        let begun = &one.as_str()[..8];
        assert_eq!(offered(&world, Kind::Data, begun, 50).await, all[1..]);
        assert_eq!(offered(&world, Kind::Data, one.as_str(), 50).await.len(), 1);
        assert_eq!(offered(&world, Kind::Data, "", 1).await.len(), 1);
        for none in ["zzz", "%", "_", "\\", &begun.to_uppercase().replace(char::is_numeric, "G"), "\u{10ffff}", "a\0"] {
            assert_eq!(values(&world, Kind::Data, none).await, [""; 0], "{none:?}");
        }
    }

    async fn ids_are_offered_by_how_they_begin_and_in_order(world: World) {
        for _ in 0..60 {
            world.push(&[]).await;
        }
        let mut all = values(&world, Kind::Data, "").await;
        assert_eq!(all.len(), 60);
        all.sort();
        for first in "0123456789abcdef".chars() {
            let begin = first.to_string();
            let expected: Vec<_> = all.iter().filter(|id| id.starts_with(&begin)).cloned().collect();
            assert_eq!(values(&world, Kind::Data, &begin).await, expected);
        }
    }

    async fn plans_are_offered_with_their_image_and_found_by_name(world: World) {
        let named = |image: &str, name: &str| {
            spec(&serde_json::json!({
                "image": image, "annotations": [format!("name={name}"), "by=me", "named=x"],
                "inputs": [{"path": "/in", "tags": ["a:b"]}],
            }).to_string())
        };
        let train = world.apply(&named("train:v1", "digits")).await;
        let test = world.apply(&named("test:v1", "dig")).await;
        let long = "日".repeat(3000);
        let last = world.apply(&named("last:v1", &long)).await;
        world.apply(&simple("plain:v1", &[&["a:b"]], &[])).await;
        assert_eq!(offered(&world, Kind::Plans, train.as_str(), 50).await, [(train.to_string(), "train:v1".to_owned())]);
        let uploaded = offered(&world, Kind::Plans, "00000000-0000-4000-8000-000000000001", 50).await;
        assert_eq!(uploaded[0].1, "knit#uploaded");
        assert_eq!(values(&world, Kind::Plans, "").await.len(), 6);

        let names = offered(&world, Kind::PlanNames, "d", 50).await;
        assert_eq!(names, [("dig".to_owned(), test.to_string()), ("digits".to_owned(), train.to_string())]);
        assert_eq!(values(&world, Kind::PlanNames, "日").await, std::slice::from_ref(&long));
        assert_eq!(values(&world, Kind::PlanNames, "").await, ["dig", "digits", &long]);
        for (name, found) in [("dig", Some((&test, "test:v1"))), (&long, Some((&last, "last:v1"))), ("digi", None)] {
            let named = world.store.plans_named(name, 50).await.unwrap();
            let named: Vec<_> = named.iter().map(|one| (one.value.as_str(), one.hint.as_str())).collect();
            assert_eq!(named, found.iter().map(|(id, hint)| (id.as_str(), *hint)).collect::<Vec<_>>());
        }
    }

    async fn runs_are_offered_with_status_and_plan_unless_they_were_removed(world: World) {
        let plan = world.apply(&simple("train:v1", &[&["a:b"]], &[])).await;
        let data = world.push(&["a:b"]).await;
        let upload = world.store.data(&data).await.unwrap().unwrap().upstream.run.id.to_string();
        world.project().await;
        let run = world.only_run(&plan).await;
        let both = [(run.to_string(), "waiting train:v1".to_owned()), (upload.clone(), "done knit#uploaded".to_owned())];
        assert_eq!(offered(&world, Kind::Runs, "", 50).await, both);
        assert_eq!(offered(&world, Kind::Runs, run.as_str(), 50).await, both[..1]);
        world.end(&run, false).await;
        assert_eq!(offered(&world, Kind::Runs, run.as_str(), 50).await[0].1, "failed train:v1");
        world.store.remove_run(&run, at(900)).await.unwrap().unwrap();
        assert_eq!(world.status(&run).await, S::Invalidated);
        assert_eq!(values(&world, Kind::Runs, "").await, [upload]);
        assert_eq!(values(&world, Kind::Runs, run.as_str()).await, [""; 0]);
    }

    async fn tags_are_offered_that_data_or_plans_have(world: World) {
        let huge = format!("huge:{}", "x".repeat(5000));
        for with in [&["project:digits", "mode:train"][..], &["project:digits", "Project:x", &huge], &["pro:a\tb"]] {
            world.push(with).await;
        }
        let gone = world.push(&["project:gone"]).await;
        let change = crate::world::change(&[], &["project:gone"], &[]);
        assert!(world.store.change_tags(&gone, &change).await.unwrap());
        world.apply(&simple("train:v1", &[&["project:planned"]], &[])).await;
        let hint = |value: &str, hint: &str| (value.to_owned(), hint.to_owned());
        let project = [hint("project:digits", "2 Data"), hint("project:planned", "0 Data")];
        assert_eq!(offered(&world, Kind::Tags, "project:", 50).await, project);
        assert_eq!(offered(&world, Kind::Tags, "project:d", 50).await, project[..1]);
        assert_eq!(offered(&world, Kind::Tags, "proj", 1).await, project[..1]);
        let all = ["Project:x", "mode:train", "pro:a\tb", "project:digits", "project:planned"];
        assert_eq!(values(&world, Kind::Tags, "").await, all, "byte by byte, without what nobody types");
        assert_eq!(values(&world, Kind::Tags, "knit#").await, [""; 0]);
        assert_eq!(values(&world, Kind::Tags, "huge").await, [""; 0]);
    }
}

//! Why there are Runs or none, why a Run stands where it stands, and what a change would come to - with the real
//! programs, and compared with what then happens.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::{Step, World, able, cluster};
use serde_json::{Value, json};
use std::path::PathBuf;

fn data(world: &World) -> PathBuf {
    world.folder("x", &[("x", b"x")])
}

/// The codes of what `knit run why` tells.
#[track_caller]
fn why(world: &World, run: &str) -> (Vec<String>, Value) {
    let told = world.knit(&["run", "why", run]).ok().json();
    let codes = told["causes"].as_array().expect("causes").iter();
    (codes.map(|cause| cause["code"].as_str().expect("a code").to_owned()).collect(), told)
}

fn id_of(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("there is no {member} in {value:#}")).to_owned()
}

#[test]
fn a_run_that_waits_or_failed_says_why_and_what_to_do() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    world.push(&data(&world), &["a:b"]);
    let step = |script: &str| Step::new(&image, script).input("/in", &["a:b"]).log(&["type:log"]);

    let missing = world.apply(&Step::new("story/not-there:v1", "true").input("/in", &["a:b"]));
    world.failed_run_of(&missing);
    let (codes, told) = why(&world, &world.the_run_of(&missing));
    assert_eq!(codes, ["image-not-found"], "{told:#}");
    assert!(told["causes"][0]["text"].as_str().is_some_and(|text| text.contains("story/not-there:v1")), "{told:#}");

    let hungry = step("echo hungry; awk 'BEGIN { s = \"x\"; while (1) s = s s }'")
        .set("resources", json!({"memory": "32Mi", "cpu": "100m"}));
    let hungry = world.apply(&hungry);
    world.failed_run_of(&hungry);
    let (codes, told) = why(&world, &world.the_run_of(&hungry));
    assert_eq!(codes, ["out-of-memory"], "{told:#}");
    assert!(told["causes"][0]["text"].as_str().is_some_and(|text| text.contains("32Mi")), "{told:#}");
    assert!(told["logTail"].as_str().is_some_and(|tail| tail.starts_with("hungry")), "{told:#}");

    let giant = world.apply(&step("true").set("resources", json!({"memory": "100Ti", "cpu": "1"})));
    let run = world.the_run_once_it_is_there(&giant);
    world.until_answered(&format!("/api/runs/{run}/wait?timeout=5&reason="), 200);
    let (codes, told) = why(&world, &run);
    assert_eq!(codes, ["never-fits"], "{told:#}");
    let text = world.knit(&["run", "why", "-o", "table", &run]).ok().text();
    assert!(text.contains("never-fits: ") && text.contains("100Ti") && text.contains("try: "), "{text}");

    let parked = world.apply(&step("exit 0").set("active", json!(false)));
    let run = world.the_run_once_it_is_there(&parked);
    assert_eq!(why(&world, &run).0, ["plan-inactive"]);
    let explained = world.knit(&["plan", "explain", &parked]).ok().json();
    assert_eq!((&explained["active"], &explained["runs"]["deactivated"]), (&json!(false), &json!(1)), "{explained:#}");

    let fails = world.apply(&step("seq 1 1000; echo wget: bad address >&2; exit 7"));
    world.failed_run_of(&fails);
    let (codes, told) = why(&world, &world.the_run_of(&fails));
    // Workers of a cluster have its network.
    let expected = if cluster::chosen() { &["exit-code"][..] } else { &["exit-code", "no-network"] };
    assert_eq!(codes, expected, "{told:#}");
    let tail = told["logTail"].as_str().expect("a log");
    assert_eq!((tail.lines().count(), tail.lines().next()), (20, Some("982")), "{tail}");

    let begun = world.apply(&step("echo begun; sleep 600"));
    let run = world.the_run_once_it_is_there(&begun);
    world.follow_log(&run).until("begun");
    let (codes, told) = why(&world, &run);
    assert!(codes == ["running"] || codes == ["starting"], "{told:#}");
    world.knit(&["run", "stop", "--fail", &run]).ok();
    world.failed_run_of(&begun);
    assert_eq!(why(&world, &run).0, ["aborted-by-user"]);
    world.knit(&["run", "why", "no-such-run"]).fails(5, &["no-such-run"]);
}

#[test]
fn a_near_miss_by_one_tag_is_named_and_gone_once_the_tag_is_right() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let wrong = world.push(&data(&world), &["project:p", "type:datset"]);
    let step = Step::new(&image, "true").input("/in", &["project:p", "type:dataset"]).output("/out", &["type:model"]);

    let dry = world.try_apply(&step.yaml(), &["--dry-run"]).ok().json();
    assert_eq!(dry["runs"]["count"], 0, "{dry:#}");
    assert!(world.plans().is_empty(), "a dry run registers nothing");
    let plan = world.apply(&step);
    let again = world.try_apply(&step.yaml(), &["--dry-run"]).fails(6, &[&plan]);
    assert_eq!(again.json()["planId"], plan.as_str());
    world.try_apply(&step.yaml(), &["--dry-run", "--if-absent"]).ok();
    let cycle = Step::new(&image, "true").input("/in", &["type:model"]).output("/out", &["project:p", "type:dataset"]);
    world.try_apply(&cycle.yaml(), &["--dry-run"]).fails(6, &["feed itself", &plan]);

    let explained = world.knit(&["plan", "explain", &plan]).ok().json();
    let near = &explained["inputs"][0]["nearest"][0];
    assert_eq!((&near["knitId"], &near["differing"][0]["has"]), (&json!(wrong), &json!(["datset"])), "{explained:#}");
    let text = world.knit(&["plan", "explain", "-o", "table", &plan]).ok().text();
    assert!(text.contains(&format!("near  {wrong}  has type:datset, not type:dataset")), "{text}");
    assert!(text.contains("no Data has the tag type:dataset; there are type:datset"), "{text}");
    let explained = world.knit(&["data", "explain", &wrong]).ok().json();
    assert_eq!(explained["nearest"][0]["planId"], plan.as_str(), "{explained:#}");

    let change = ["data", "tag", "--add", "type:dataset", "--remove", "type:datset"];
    let told = world.knit(&[&change[..], &["--impact", &wrong]].concat()).ok().json();
    assert_eq!((&told["nominated"]["count"], &told["runs"][0]["runs"]["count"]), (&json!(1), &json!(1)), "{told:#}");
    assert!(world.runs_of(&plan).is_empty(), "asking changes nothing");
    world.knit(&[&change[..], &[&wrong]].concat()).ok();
    world.the_run_once_it_is_there(&plan);
    world.all_done(&plan);
    let explained = world.knit(&["plan", "explain", &plan]).ok().json();
    assert_eq!((&explained["inputs"][0]["fitting"]["count"], &explained["runs"]["done"]), (&json!(1), &json!(1)));
}

#[test]
fn data_are_deleted_with_what_was_made_beside_them_and_exactly_as_foreseen() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let raw = world.push(&data(&world), &["kind:raw"]);
    let make = Step::new(&image, "echo m > /out/model/x; echo n > /out/metrics/x").input("/in", &["kind:raw"]);
    let make = make.output("/out/model", &["kind:model"]).output("/out/metrics", &["kind:metrics"]).log(&["kind:log"]);
    let make = world.apply(&make);
    let eval = Step::new(&image, "cp /in/x /out/x").input("/in", &["kind:model"]).output("/out", &["kind:report"]);
    let eval = world.apply(&eval);
    world.the_run_once_it_is_there(&make);
    world.all_done(&make);
    world.the_run_once_it_is_there(&eval);
    world.all_done(&eval);
    let (made, evaluated) = (world.the_run_of(&make), world.the_run_of(&eval));
    let [model, metrics, report] =
        ["model", "metrics", "report"].map(|kind| world.the_data(&[&format!("kind:{kind}")]));

    // What something uses stays, and it is said who uses it.
    world.knit(&["data", "rm", "--yes", &raw]).fails(6, &[&made]);
    world.knit(&["data", "rm", "--yes", &metrics]).fails(6, &[&evaluated]);
    let told = world.knit(&["run", "rm", "--impact", &made]).fails(6, &[&evaluated]).json();
    assert_eq!(told["refused"]["downstreams"], json!([evaluated]), "{told:#}");
    world.knit(&["data", "rm", "no-such-data"]).fails(5, &["no-such-data"]);

    // The report alone goes without a question; of several Data those that can go do.
    world.knit(&["data", "rm", &report, &raw]).fails(3, &[&made, "1 of 2"]);
    assert!(world.find_data(&["kind:report"]).is_empty());
    assert_eq!(world.run_of(&evaluated)["status"], "invalidated");

    // The model does not go alone.
    let told = world.knit(&["run", "rm", "--impact", &made]).ok().json();
    let gone: Vec<String> = told["data"].as_array().expect("a list").iter().map(|data| id_of(data, "knitId")).collect();
    assert_eq!((gone.len(), &gone[0], &gone[1]), (3, &model, &metrics), "{told:#}");
    assert_eq!((&told["withdrawn"]["count"], &told["forgotten"]["count"]), (&json!(1), &json!(1)), "{told:#}");
    assert_eq!(world.knit(&["data", "rm", "--impact", &model]).ok().json(), json!([told]));
    world.knit(&["data", "rm", &model]).fails(2, &["--yes", "3 Data"]);
    assert_eq!(world.find_data(&["kind:model"]).len(), 1, "nothing was deleted");

    // A retry is foreseen as well, with what follows from it.
    let told = world.knit(&["run", "retry", "--impact", &made]).ok().json();
    assert_eq!(
        (&told["feeds"][0]["planId"], &told["feeds"][0]["runs"]["count"]),
        (&json!(eval), &json!(1)),
        "{told:#}"
    );
    world.knit(&["run", "retry", &made]).ok();
    world.all_done(&make);
    world.the_run_once_it_is_there(&eval);
    world.all_done(&eval);
    let anew = world.the_run_of(&eval);
    assert_ne!(anew, evaluated);
    world.knit(&["run", "rm", &anew]).ok();

    // Naming all that goes is as good as confirming it.
    let [model, metrics] = ["model", "metrics"].map(|kind| world.the_data(&[&format!("kind:{kind}")]));
    let all: Vec<Value> = world.find_data(&[]);
    let told = world.knit(&["data", "rm", "--impact", &model]).ok().json();
    let foreseen: Vec<String> =
        told[0]["data"].as_array().expect("a list").iter().map(|data| id_of(data, "knitId")).collect();
    world.knit(&["data", "rm", &model, &metrics]).ok().says(&[&model, &metrics, &made]);
    let left: Vec<String> = world.find_data(&[]).iter().map(|data| id_of(data, "knitId")).collect();
    let expected: Vec<String> =
        all.iter().map(|data| id_of(data, "knitId")).filter(|id| !foreseen.contains(id)).collect();
    assert_eq!(left, expected, "exactly what was foreseen went");
    assert_eq!(world.run_of(&made)["status"], "invalidated");
    world.knit(&["data", "rm", &model]).fails(5, &[&model]);
    world.no_volume_is_left_over();
}

#[test]
fn plans_are_compared_with_each_other_and_with_files() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let step = Step::new("story/train:v1", "true").input("/in", &["a:b"]).output("/out", &["c:d"]);
    let one = world.apply(&step);
    let other = step.clone().input("/more", &["e:f"]).set("image", json!("story/train:v2"));
    let two = world.apply(&other);
    let diff = world.knit(&["plan", "diff", &one, &two]).ok().json();
    let fields: Vec<&str> =
        diff["differences"].as_array().expect("a list").iter().filter_map(|d| d["field"].as_str()).collect();
    assert_eq!((&diff["equal"], &fields[..]), (&json!(false), &["image", "inputs /more"][..]), "{diff:#}");
    world.knit(&["plan", "diff", "--exit-code", &one, &two]).code(1);
    let file = world.plan_file(&step.clone().set("resources", json!({"cpu": "200m", "memory": "64Mi"})).yaml());
    let file = file.to_str().expect("a UTF-8 path");
    let text = world.knit(&["plan", "diff", "-o", "table", &one, file]).ok().text();
    assert!(
        text.contains("@@ resources cpu @@ (can be changed on a Plan)\n-100m\n+200m\nThey count as one Plan"),
        "{text}"
    );
    world.knit(&["plan", "diff", "--exit-code", &one, &one]).ok();
    world.knit(&["plan", "diff", &one, "no-such-plan"]).fails(5, &["no-such-plan"]);
    world.knit(&["plan", "diff", &one, "no-such-file.yaml"]).fails(1, &["no-such-file.yaml"]);
}

//! What `knit cluster` tells is what decides: a Plan that asks for the most that is offered is executed, and one
//! that asks for more is not.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::{Step, World, able, embedded_only};
use serde_json::json;

#[test]
fn a_plan_may_ask_for_what_is_offered_and_for_no_more() {
    if embedded_only("others use a cluster's nodes, too") || !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let offered = world.knit(&["cluster"]).ok().json();
    assert_eq!(offered["nodes"].as_array().map(Vec::len), Some(1), "{offered:#}");
    assert_eq!(offered["registry"]["host"], world.registry(), "{offered:#}");
    let most = |name: &str| offered["resources"][name]["largest"].clone();

    let image = world.busybox();
    world.push(&world.folder("in", &[("a", b"a")]), &["kind:in"]);
    let step = |name: &str| {
        Step::new(&image, "cp /in/a /out/a").input("/in", &["kind:in"]).output("/out", &[&format!("kind:{name}")])
    };
    let fits = step("fits").set("resources", json!({"cpu": most("cpu"), "memory": most("memory")}));
    world.all_done(&world.apply(&fits));

    let cpus: u64 = most("cpu").as_str().and_then(|text| text.parse().ok()).expect("whole cpus");
    for (name, more, why) in [
        ("large", json!({"cpu": cpus + 1, "memory": "64Mi"}), format!("needs cpu {}", cpus + 1)),
        ("strange", json!({"example.com/gpu": 1}), "needs example.com/gpu 1".to_owned()),
    ] {
        let plan = world.apply(&step(name).set("resources", more));
        let run = world.the_run_once_it_is_there(&plan);
        world.knit(&["run", "wait", "--timeout", "2s", &run]).fails(7, &[&why]);
    }
}

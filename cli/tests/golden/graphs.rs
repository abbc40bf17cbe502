//! `knit data lineage` and `knit plan graph`: DOT to the byte.

use crate::fake::Home;
use crate::vectors::Records;
use crate::world;

#[test]
fn graphs_are_drawn_as_recorded() {
    let records = Records::read("graphs.jsonl");
    assert!(records.iter().count() > 50);
    records.replay_all();
}

#[test]
fn a_plan_is_drawn_alone_where_a_direction_is_denied() {
    let served = world::serve(None);
    let home = Home::of(&served.api_root, None);
    let ended = home.knit(&["plan", "graph", "--upstream=false", "plan-valid"]);
    assert_eq!((ended.code, ended.text().matches("subgraph").count()), (Some(0), 1), "{ended:?}");
}

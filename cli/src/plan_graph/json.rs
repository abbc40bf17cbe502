//! Plans as JSON: the Plans as the API has them, and what leads from one to another.

use super::Graph;
use knit_api::id::PlanId;
use knit_api::plan::Plan;
use serde::Serialize;

/// What is printed.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// The Plan that was asked about.
    start: Option<&'a PlanId>,
    plans: &'a [Plan],
    edges: Vec<Arrow<'a>>,
}

#[derive(Debug, Serialize)]
struct Arrow<'a> {
    from: Point<'a>,
    to: Point<'a>,
}

/// An input, output or log of a Plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Point<'a> {
    plan_id: &'a PlanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    log: bool,
}

/// The graph as a document.
pub fn document(graph: &Graph) -> Document<'_> {
    let id = |at: usize| &graph.plans()[at].summary.id;
    let edges = graph.edges().iter().map(|edge| Arrow {
        from: Point { plan_id: id(edge.from), path: edge.output.as_deref(), log: edge.output.is_none() },
        to: Point { plan_id: id(edge.to), path: Some(&edge.input), log: false },
    });
    Document { start: graph.plans().first().map(|plan| &plan.summary.id), plans: graph.plans(), edges: edges.collect() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn arrows_name_points_of_plans() {
        let value = serde_json::to_value(document(&sample())).unwrap();
        assert_eq!(value["start"], "train");
        assert_eq!(value["plans"].as_array().unwrap().len(), 3);
        assert_eq!(
            value["edges"],
            serde_json::json!([
                {"from": {"planId": "train", "path": "/out/model"}, "to": {"planId": "check", "path": "/in/model"}},
                {"from": {"planId": "train", "log": true}, "to": {"planId": "report", "path": "/in/log"}},
            ])
        );
    }
}

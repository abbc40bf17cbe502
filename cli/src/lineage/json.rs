//! Lineage as JSON: the Data and Runs as the API has them, and the arrows by id.

use super::{Graph, Node};
use knit_api::data::Data;
use knit_api::id::DataId;
use knit_api::run::Run;
use serde::Serialize;

/// What is printed.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// The Data whose lineage it is.
    start: &'a DataId,
    data: &'a [Data],
    runs: &'a [Run],
    edges: Vec<Arrow<'a>>,
}

#[derive(Debug, Serialize)]
struct Arrow<'a> {
    from: End<'a>,
    to: End<'a>,
    label: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum End<'a> {
    KnitId(&'a str),
    RunId(&'a str),
}

/// The graph as a document. Roots are left out: a Run without inputs has no arrow to it.
pub fn document(graph: &Graph) -> Document<'_> {
    let end = |node: Node| match node {
        Node::Data(at) => Some(End::KnitId(graph.data()[at].id.as_str())),
        Node::Run(at) => Some(End::RunId(graph.runs()[at].summary.id.as_str())),
        Node::Root(_) => None,
    };
    let edges = graph
        .edges()
        .iter()
        .filter_map(|edge| Some(Arrow { from: end(edge.from)?, to: end(edge.to)?, label: &edge.label }))
        .collect();
    Document { start: graph.start(), data: graph.data(), runs: graph.runs(), edges }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn arrows_name_their_ends_by_id() {
        let graph = sample();
        let value = serde_json::to_value(document(&graph)).unwrap();
        assert_eq!(value["start"], "model");
        assert_eq!(
            value["edges"][0],
            serde_json::json!({"from": {"runId": "train"}, "to": {"knitId": "model"}, "label": "/out"})
        );
        assert_eq!(value["edges"].as_array().unwrap().len(), 4);
    }
}

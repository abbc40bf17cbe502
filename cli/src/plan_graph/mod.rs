//! The Plans around a Plan: which output or log can feed which input.

pub mod dot;
pub mod json;
pub mod picture;
pub mod walk;

use knit_api::id::PlanId;
use knit_api::plan::Plan;
use std::collections::HashMap;

/// Plans in the order in which they were found, and what leads from one to another.
#[derive(Clone, Debug)]
pub struct Graph {
    plans: Vec<Plan>,
    edges: Vec<Edge>,
    places: HashMap<PlanId, usize>,
}

/// An output or log that can feed an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The Plan that feeds, by its place.
    pub from: usize,
    /// The path of its output; none for its log.
    pub output: Option<String>,
    /// The Plan that is fed, by its place.
    pub to: usize,
    /// The path of its input.
    pub input: String,
}

impl Edge {
    /// What stands for the output, for a person.
    pub fn output(&self) -> &str {
        self.output.as_deref().unwrap_or(LOG)
    }
}

/// What stands for a log.
pub const LOG: &str = "(log)";

impl Graph {
    /// A graph that holds the Plan that is asked about.
    pub fn new(start: Plan) -> Self {
        let mut graph = Self { plans: Vec::new(), edges: Vec::new(), places: HashMap::new() };
        graph.add(start);
        graph
    }

    /// All Plans; the first one is the one that was asked about.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// All that feeds something.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Adds a Plan, and what leads from and to those that are there.
    pub fn add(&mut self, plan: Plan) {
        if self.places.contains_key(&plan.summary.id) {
            return;
        }
        let at = self.plans.len();
        self.places.insert(plan.summary.id.clone(), at);
        for input in &plan.inputs {
            for upstream in &input.upstreams {
                if let Some(from) = self.places.get(&upstream.plan.id) {
                    let output = upstream.mountpoint.as_ref().map(|point| point.path.clone());
                    self.edges.push(Edge { from: *from, output, to: at, input: input.mountpoint.path.clone() });
                }
            }
        }
        let outputs = plan.outputs.iter().map(|output| (Some(&output.mountpoint.path), &output.downstreams));
        let log = plan.log.iter().map(|log| (None, &log.downstreams));
        for (output, downstreams) in outputs.chain(log) {
            // What the Plan feeds of itself stands at its inputs already.
            for downstream in downstreams.iter().filter(|down| down.plan.id != plan.summary.id) {
                if let Some(to) = self.places.get(&downstream.plan.id) {
                    let input = downstream.mountpoint.path.clone();
                    self.edges.push(Edge { from: at, output: output.cloned(), to: *to, input });
                }
            }
        }
        self.plans.push(plan);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn plan(value: serde_json::Value) -> Plan {
        serde_json::from_value(value).unwrap()
    }

    /// `train` feeds `check` with a model and `report` with its log.
    pub(crate) fn sample() -> Graph {
        let named = |id: &str| serde_json::json!({"planId": id, "image": format!("{id}:v1")});
        let mut graph = Graph::new(plan(serde_json::json!({
            "planId": "train", "image": "train:v1", "active": true, "annotations": ["team=<a> & \"b\""],
            "inputs": [{"path": "/in", "tags": ["type:dataset"], "upstreams": []}],
            "outputs": [{"path": "/out/model", "tags": ["type:model"],
                         "downstreams": [{"plan": named("check"), "mountpoint": {"path": "/in/model", "tags": []}}]}],
            "log": {"tags": ["type:log"],
                    "downstreams": [{"plan": named("report"), "mountpoint": {"path": "/in/log", "tags": []}}]},
        })));
        for (id, active, input, up) in [
            (
                "check",
                false,
                "/in/model",
                serde_json::json!({"plan": named("train"), "mountpoint": {"path": "/out/model"}}),
            ),
            ("report", true, "/in/log", serde_json::json!({"plan": named("train"), "log": {"tags": []}})),
        ] {
            graph.add(plan(serde_json::json!({
                "planId": id, "image": format!("{id}:v1"), "active": active,
                "inputs": [{"path": input, "tags": [], "upstreams": [up]}], "outputs": [],
            })));
        }
        graph
    }

    #[test]
    fn each_relation_stands_there_once_when_its_second_end_arrives() {
        let edge = |output: Option<&str>, to, input: &str| Edge {
            from: 0,
            output: output.map(str::to_owned),
            to,
            input: input.to_owned(),
        };
        let mut graph = sample();
        let edges = [edge(Some("/out/model"), 1, "/in/model"), edge(None, 2, "/in/log")];
        assert_eq!(graph.edges(), edges);
        let again = graph.plans()[0].clone();
        graph.add(again);
        assert_eq!((graph.plans().len(), graph.edges().len()), (3, 2));

        // The other way round: what was found first is fed.
        let mut backwards = Graph::new(graph.plans()[2].clone());
        backwards.add(graph.plans()[0].clone());
        assert_eq!(backwards.edges(), [Edge { from: 1, output: None, to: 0, input: "/in/log".to_owned() }]);
    }
}

//! Lineage: which Data and Runs a Data comes from and leads to. A server of ours tells it as it walks; what an
//! original one knows is collected step by step. Either way a [`Form`] takes one thing after the other.

pub mod dot;
pub mod json;
pub mod picture;
pub mod walk;

use crate::terminal::Failure;
use knit_api::data::Data;
use knit_api::graph::{LineageEdge, LineageEnd};
use knit_api::id::{DataId, RunId};
use knit_api::plan::PlanSummary;
use knit_api::run::{Run, RunStatus};
use knit_api::tag::{self, Tag};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};

/// Takes a lineage, one thing after the other: the Data that was asked about first, an edge after both its ends.
pub trait Form {
    /// As much of a Data as the form shows.
    type Data: DeserializeOwned + From<Data>;

    /// There is this Data.
    fn data(&mut self, data: Self::Data) -> Result<(), Failure>;
    /// There is this Run.
    fn run(&mut self, run: Run) -> Result<(), Failure>;
    /// There is this relation.
    fn edge(&mut self, edge: LineageEdge) -> Result<(), Failure>;
}

/// What a drawing shows of a Data. Of the Runs that use it there may be very many: they are not even read.
#[derive(Clone, Debug, Deserialize)]
pub struct DataNode {
    /// Its id.
    #[serde(rename = "knitId")]
    pub id: DataId,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

impl DataNode {
    fn user_tags(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|tag| !tag.is_system())
    }

    fn transient(&self) -> Option<&str> {
        self.tags.iter().find(|tag| tag.key == tag::TRANSIENT).map(|tag| tag.value.as_str())
    }
}

impl From<Data> for DataNode {
    fn from(data: Data) -> Self {
        Self { id: data.id, tags: data.tags }
    }
}

/// What is known of the lineage of one Data. Nodes and edges stand in the order in which they were found.
#[derive(Clone, Debug)]
pub struct Graph {
    data: Vec<Data>,
    runs: Vec<Run>,
    edges: Vec<Edge>,
    roots: usize,
    start: DataId,
    data_at: HashMap<DataId, usize>,
    runs_at: HashMap<RunId, usize>,
    /// Runs that name a Data that is not in the graph yet.
    naming: HashMap<DataId, Vec<usize>>,
}

/// One node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// By its place among the Data.
    Data(usize),
    /// By its place among the Runs.
    Run(usize),
    /// Stands before a Run that has no inputs.
    Root(usize),
}

/// One arrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Where it begins.
    pub from: Node,
    /// Where it ends.
    pub to: Node,
    /// Path of the mountpoint, `(log)`, or empty.
    pub label: String,
}

impl Graph {
    /// A graph that holds the Data whose lineage is asked for.
    pub fn new(start: Data) -> Self {
        let mut graph = Self {
            data: Vec::new(),
            runs: Vec::new(),
            edges: Vec::new(),
            roots: 0,
            start: start.id.clone(),
            data_at: HashMap::new(),
            runs_at: HashMap::new(),
            naming: HashMap::new(),
        };
        graph.add_data(start);
        graph
    }

    /// Gives everything to a form: Data, Runs, edges.
    pub fn draw<F: Form>(self, form: &mut F) -> Result<(), Failure> {
        let edges: Vec<LineageEdge> = self.edges.iter().map(|edge| self.named(edge)).collect();
        self.data.into_iter().try_for_each(|data| form.data(data.into()))?;
        self.runs.into_iter().try_for_each(|run| form.run(run))?;
        edges.into_iter().try_for_each(|edge| form.edge(edge))
    }

    fn named(&self, edge: &Edge) -> LineageEdge {
        let end = |node: Node| match node {
            Node::Data(at) => LineageEnd::KnitId(self.data[at].id.clone()),
            Node::Run(at) => LineageEnd::RunId(self.runs[at].summary.id.clone()),
            Node::Root(root) => LineageEnd::Root(root),
        };
        LineageEdge { from: end(edge.from), to: end(edge.to), label: edge.label.clone() }
    }

    /// The Data whose lineage it is.
    pub fn start(&self) -> &DataId {
        &self.start
    }

    /// True when the Data is in the graph.
    pub fn has_data(&self, id: &DataId) -> bool {
        self.data_at.contains_key(id)
    }

    /// True when the Run is in the graph.
    pub fn has_run(&self, id: &RunId) -> bool {
        self.runs_at.contains_key(id)
    }

    /// Adds a Data and its arrows from and to the Runs that are there.
    pub fn add_data(&mut self, data: Data) {
        if self.has_data(&data.id) {
            return;
        }
        let at = self.data.len();
        self.data_at.insert(data.id.clone(), at);
        for run in self.naming.remove(&data.id).unwrap_or_default() {
            let arrows = arrows(&self.runs[run]).filter(|arrow| *arrow.data == data.id);
            self.edges.extend(arrows.map(|arrow| arrow.edge(Node::Run(run), Node::Data(at))));
        }
        self.data.push(data);
    }

    /// Adds a Run and its arrows from and to the Data that is there.
    pub fn add_run(&mut self, run: Run) {
        if self.has_run(&run.summary.id) {
            return;
        }
        let at = self.runs.len();
        self.runs_at.insert(run.summary.id.clone(), at);
        let mut missing: HashSet<&DataId> = HashSet::new();
        for arrow in arrows(&run) {
            match self.data_at.get(arrow.data) {
                Some(data) => self.edges.push(arrow.edge(Node::Run(at), Node::Data(*data))),
                None => {
                    missing.insert(arrow.data);
                }
            }
        }
        for data in missing {
            self.naming.entry(data.clone()).or_default().push(at);
        }
        if run.inputs.is_empty() {
            self.edges.push(Edge { from: Node::Root(self.roots), to: Node::Run(at), label: String::new() });
            self.roots += 1;
        }
        self.runs.push(run);
    }
}

/// One relation of a Run to a Data.
struct Arrow<'a> {
    data: &'a DataId,
    label: &'a str,
    into_run: bool,
}

impl Arrow<'_> {
    fn edge(&self, run: Node, data: Node) -> Edge {
        let (from, to) = if self.into_run { (data, run) } else { (run, data) };
        Edge { from, to, label: self.label.to_owned() }
    }
}

/// All relations of a Run to Data.
fn arrows(run: &Run) -> impl Iterator<Item = Arrow<'_>> {
    let inputs = run.inputs.iter().map(|input| Arrow { data: &input.data, label: &input.path, into_run: true });
    let outputs = run.outputs.iter().map(|output| Arrow { data: &output.data, label: &output.path, into_run: false });
    let log = run.log.iter().map(|log| Arrow { data: &log.data, label: "(log)", into_run: false });
    inputs.chain(outputs).chain(log).filter(|arrow| !arrow.data.is_empty())
}

/// How a status is marked in drawings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Parked,
    Well,
    Badly,
    Plain,
}

fn mark(status: RunStatus) -> Mark {
    match status {
        RunStatus::Deactivated => Mark::Parked,
        RunStatus::Completing | RunStatus::Done => Mark::Well,
        RunStatus::Aborting | RunStatus::Failed => Mark::Badly,
        _ => Mark::Plain,
    }
}

/// What a Plan executes, as drawings say it.
pub fn executes(plan: &PlanSummary) -> String {
    match &plan.image {
        Some(image) => format!("image = {image}"),
        None => plan.title(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A Data by id, the Run that made it and the Runs that use it.
    pub(crate) fn data(id: &str, made_by: &str, used_by: &[&str], tags: &[&str]) -> Data {
        let plan = json!({"planId": "p", "image": "img:v1"});
        let run = |id: &str| json!({"runId": id, "status": "done", "updatedAt": "2024-05-01T10:00:00Z", "plan": plan});
        let used: Vec<Value> =
            used_by.iter().map(|id| json!({"mountpoint": {"path": "/in", "tags": []}, "run": run(id)})).collect();
        let mut all = vec![format!("knit#id:{id}")];
        all.extend(tags.iter().map(|&tag| tag.to_owned()));
        serde_json::from_value(json!({
            "knitId": id, "tags": all, "downstreams": used, "nomination": [],
            "upstream": {"mountpoint": {"path": "/out", "tags": []}, "run": run(made_by)},
        }))
        .unwrap()
    }

    /// A Run by id, with the Data on its inputs and outputs.
    pub(crate) fn run(
        id: &str,
        status: &str,
        inputs: &[(&str, &str)],
        outputs: &[(&str, &str)],
        log: Option<&str>,
    ) -> Run {
        let points = |points: &[(&str, &str)]| -> Vec<Value> {
            points.iter().map(|(path, data)| json!({"path": path, "tags": [], "knitId": data})).collect()
        };
        let plan = if inputs.is_empty() {
            json!({"planId": "u", "name": "knit#uploaded"})
        } else {
            json!({"planId": "p", "image": "img:v1"})
        };
        serde_json::from_value(json!({
            "runId": id, "status": status, "updatedAt": "2024-05-01T10:00:00Z", "plan": plan,
            "inputs": points(inputs), "outputs": points(outputs), "log": log.map(|id| json!({"tags": [], "knitId": id})),
        }))
        .unwrap()
    }

    /// Uploaded `set` → Run `train` → `model` and `log`.
    pub(crate) fn sample() -> Graph {
        let mut graph = Graph::new(data("model", "train", &[], &["type:\"model\" <b> & \\"]));
        graph.add_run(run("train", "done", &[("/in", "set")], &[("/out", "model")], Some("log")));
        graph.add_data(data("log", "train", &[], &[]));
        graph.add_data(data("set", "upl", &["train"], &["type:dataset"]));
        graph.add_run(run("upl", "done", &[], &[("/upload", "set")], None));
        graph
    }

    #[test]
    fn each_relation_is_drawn_once_when_its_second_end_arrives() {
        let graph = sample();
        let labels: Vec<&str> = graph.edges.iter().map(|edge| edge.label.as_str()).collect();
        assert_eq!(labels, ["/out", "(log)", "/in", "/upload", ""]);
        assert_eq!(graph.edges[4].from, Node::Root(0));
    }

    #[test]
    fn one_data_on_two_inputs_has_two_arrows() {
        let mut graph = Graph::new(data("d", "u", &["r"], &[]));
        graph.add_run(run("r", "waiting", &[("/in/1", "d"), ("/in/2", "d")], &[("/out", "")], None));
        assert_eq!(graph.edges.len(), 2);
    }
}

//! Lineage: which Data and Runs a Data comes from and leads to, collected from the server step by step
//! and drawn as DOT, SVG, text or JSON.

pub mod dot;
pub mod json;
pub mod svg;
pub mod tree;
pub mod walk;

use knit_api::data::Data;
use knit_api::id::{DataId, RunId};
use knit_api::run::{Run, RunStatus};
use std::collections::{HashMap, HashSet};

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

    /// All Data.
    pub fn data(&self) -> &[Data] {
        &self.data
    }

    /// All Runs.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// All arrows.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The Data whose lineage it is.
    pub fn start(&self) -> &DataId {
        &self.start
    }

    /// Number of roots.
    fn roots(&self) -> usize {
        self.roots
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

/// What a Run executes, as drawings say it.
fn executes(run: &Run) -> String {
    match &run.summary.plan.image {
        Some(image) => format!("image = {image}"),
        None => run.summary.plan.title(),
    }
}

/// The text with what means something in XML and HTML replaced, and without control characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(' '),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            letter => out.push(letter),
        }
    }
    out
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
        let labels: Vec<&str> = graph.edges().iter().map(|edge| edge.label.as_str()).collect();
        assert_eq!(labels, ["/out", "(log)", "/in", "/upload", ""]);
        assert_eq!(graph.edges()[4].from, Node::Root(0));
    }

    #[test]
    fn one_data_on_two_inputs_has_two_arrows() {
        let mut graph = Graph::new(data("d", "u", &["r"], &[]));
        graph.add_run(run("r", "waiting", &[("/in/1", "d"), ("/in/2", "d")], &[("/out", "")], None));
        assert_eq!(graph.edges().len(), 2);
    }
}

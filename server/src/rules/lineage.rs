//! The walk through lineage: which Data and Runs belong to the lineage of a Data, and in which order.
//!
//! Upstream, a step leads from a Data to the Run that made it, to all else that the Run made, and to what it
//! used; from there the next step begins. Downstream, a step leads from a Data to each Run that uses it, to what
//! else the Run uses, and to all it made; from there the next step begins. A Run is followed once, whichever
//! direction finds it. An edge is drawn when its second end is there.

use knit_api::graph::Reach;
use std::collections::HashMap;
use std::sync::Arc;

/// What is known of Runs and their Data. Names are kept once, and are numbers from then on: a lineage may have
/// very many of them.
#[derive(Debug, Default)]
pub struct Facts {
    data: Names,
    runs: Names,
    labels: Names,
    /// By Run: what it uses, in the order of its inputs.
    used: Vec<Vec<Arrow>>,
    /// By Run: what it made, in the order of its outputs, the log last.
    made: Vec<Vec<Arrow>>,
}

/// A Data at a Run.
#[derive(Clone, Copy, Debug)]
struct Arrow {
    data: u32,
    label: u32,
}

/// The label of a relation to a log.
const LOG: &str = "(log)";

impl Facts {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// There is such a Run. Runs that use one Data are followed in the order in which they are added.
    pub fn add_run(&mut self, run: &str) {
        self.run(run);
    }

    /// A Run uses a Data.
    pub fn add_input(&mut self, run: &str, path: &str, data: &str) {
        let (run, arrow) = (self.run(run), self.arrow(path, data));
        self.used[run].push(arrow);
    }

    /// A Run made a Data.
    pub fn add_output(&mut self, run: &str, path: &str, data: &str) {
        let (run, arrow) = (self.run(run), self.arrow(path, data));
        self.made[run].push(arrow);
    }

    /// A Run made a Data that is its log.
    pub fn add_log(&mut self, run: &str, data: &str) {
        self.add_output(run, LOG, data);
    }

    fn run(&mut self, run: &str) -> usize {
        let at = self.runs.number(run) as usize;
        if at == self.used.len() {
            self.used.push(Vec::new());
            self.made.push(Vec::new());
        }
        at
    }

    fn arrow(&mut self, label: &str, data: &str) -> Arrow {
        Arrow { data: self.data.number(data), label: self.labels.number(label) }
    }
}

/// Texts by number.
#[derive(Debug, Default)]
struct Names {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Names {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).expect("fewer names than a database has rows");
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }
}

/// One thing that the walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A Data; the first thing found is the one that was asked about.
    Data(&'a str),
    /// A Run.
    Run(&'a str),
    /// A Run uses a Data.
    Input {
        /// The Data.
        data: &'a str,
        /// The Run.
        run: &'a str,
        /// The path of the input.
        label: &'a str,
    },
    /// A Run made a Data.
    Output {
        /// The Run.
        run: &'a str,
        /// The Data.
        data: &'a str,
        /// The path of the output, or `(log)`.
        label: &'a str,
    },
    /// A Run has no inputs.
    Root {
        /// Counted from 0.
        root: usize,
        /// The Run.
        run: &'a str,
    },
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Data(u32),
    Run(u32),
    Input { run: u32, arrow: Arrow },
    Output { run: u32, arrow: Arrow },
    Root { root: u32, run: u32 },
}

/// A lineage in the order in which it was found.
#[derive(Debug)]
pub struct Lineage {
    facts: Facts,
    steps: Vec<Step>,
}

impl Lineage {
    /// Walks from a Data, as far as the facts and `reach` go.
    pub fn walk(mut facts: Facts, start: &str, reach: Reach) -> Self {
        let start = facts.data.number(start);
        let mut walk = Walk::new(&facts);
        walk.add_data(start);
        if reach.upstream {
            walk.upstream(start, reach);
        }
        if reach.downstream {
            walk.downstream(start, reach);
        }
        let steps = walk.steps;
        Self { facts, steps }
    }

    /// How many things were found.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Never true: the Data that was asked about is always found.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What was found, from the first of these places on; at most so many.
    pub fn found(&self, from: usize, most: usize) -> impl Iterator<Item = Found<'_>> {
        let Facts { data, runs, labels, .. } = &self.facts;
        self.steps.iter().skip(from).take(most).map(move |step| match *step {
            Step::Data(at) => Found::Data(data.text(at)),
            Step::Run(at) => Found::Run(runs.text(at)),
            Step::Input { run, arrow } => {
                Found::Input { data: data.text(arrow.data), run: runs.text(run), label: labels.text(arrow.label) }
            }
            Step::Output { run, arrow } => {
                Found::Output { run: runs.text(run), data: data.text(arrow.data), label: labels.text(arrow.label) }
            }
            Step::Root { root, run } => Found::Root { root: root as usize, run: runs.text(run) },
        })
    }
}

struct Walk<'a> {
    facts: &'a Facts,
    /// By Data: the Run that made it.
    maker: Vec<Option<u32>>,
    /// By Data: the Runs that use it, each once, in their order.
    users: Vec<Vec<u32>>,
    has_data: Vec<bool>,
    has_run: Vec<bool>,
    /// By Data that is not there yet: the Runs that name it, in the order in which they came.
    naming: HashMap<u32, Vec<u32>>,
    roots: u32,
    steps: Vec<Step>,
}

impl<'a> Walk<'a> {
    fn new(facts: &'a Facts) -> Self {
        let (data, runs) = (facts.data.texts.len(), facts.runs.texts.len());
        let (mut maker, mut users) = (vec![None; data], vec![Vec::new(); data]);
        for run in 0..runs {
            for arrow in &facts.made[run] {
                maker[arrow.data as usize] = Some(run as u32);
            }
            for arrow in &facts.used[run] {
                let users: &mut Vec<u32> = &mut users[arrow.data as usize];
                // One Data on several inputs.
                if users.last() != Some(&(run as u32)) {
                    users.push(run as u32);
                }
            }
        }
        Self {
            facts,
            maker,
            users,
            has_data: vec![false; data],
            has_run: vec![false; runs],
            naming: HashMap::new(),
            roots: 0,
            steps: Vec::new(),
        }
    }

    fn upstream(&mut self, start: u32, reach: Reach) {
        let facts = self.facts;
        let (mut edge, mut steps) = (vec![start], 0);
        while !edge.is_empty() && reach.depth.reaches_beyond(steps) {
            let mut next = Vec::new();
            for data in edge {
                let Some(run) = self.maker[data as usize].filter(|run| !self.has_run[*run as usize]) else { continue };
                self.add_run(run);
                let (used, made) = (&facts.used[run as usize], &facts.made[run as usize]);
                made.iter().chain(used).for_each(|arrow| self.add_data(arrow.data));
                next.extend(used.iter().map(|arrow| arrow.data));
            }
            edge = next;
            steps += 1;
        }
    }

    fn downstream(&mut self, start: u32, reach: Reach) {
        let facts = self.facts;
        let (mut edge, mut steps) = (vec![start], 0);
        while !edge.is_empty() && reach.depth.reaches_beyond(steps) {
            let mut next = Vec::new();
            for data in edge {
                for run in std::mem::take(&mut self.users[data as usize]) {
                    if self.has_run[run as usize] {
                        continue;
                    }
                    self.add_run(run);
                    let (used, made) = (&facts.used[run as usize], &facts.made[run as usize]);
                    used.iter().chain(made).for_each(|arrow| self.add_data(arrow.data));
                    next.extend(made.iter().map(|arrow| arrow.data));
                }
            }
            edge = next;
            steps += 1;
        }
    }

    /// Adds a Data, unless it is there, and its edges from and to the Runs that are.
    fn add_data(&mut self, data: u32) {
        if std::mem::replace(&mut self.has_data[data as usize], true) {
            return;
        }
        self.steps.push(Step::Data(data));
        for run in self.naming.remove(&data).unwrap_or_default() {
            self.steps.extend(edges(self.facts, run).filter(|(of, _)| *of == data).map(|(_, step)| step));
        }
    }

    /// Adds a Run that is not there, and its edges from and to the Data that are.
    fn add_run(&mut self, run: u32) {
        self.has_run[run as usize] = true;
        self.steps.push(Step::Run(run));
        for (data, step) in edges(self.facts, run) {
            if self.has_data[data as usize] {
                self.steps.push(step);
                continue;
            }
            let naming = self.naming.entry(data).or_default();
            if naming.last() != Some(&run) {
                naming.push(run);
            }
        }
        if self.facts.used[run as usize].is_empty() {
            self.steps.push(Step::Root { root: self.roots, run });
            self.roots += 1;
        }
    }
}

/// All edges of a Run with the Data at their other end: inputs, outputs, log.
fn edges(facts: &Facts, run: u32) -> impl Iterator<Item = (u32, Step)> {
    let used = facts.used[run as usize].iter().map(move |arrow| (arrow.data, Step::Input { run, arrow: *arrow }));
    let made = facts.made[run as usize].iter().map(move |arrow| (arrow.data, Step::Output { run, arrow: *arrow }));
    used.chain(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_api::graph::Depth;

    /// `set` (by `upl`) → `train` → `model`, `log`; `model` and `extra` (by `other`) → `check` → `score`;
    /// `score` twice → `sum` → `end`.
    fn world() -> Facts {
        let mut facts = Facts::new();
        facts.add_output("upl", "/upload", "set");
        facts.add_output("other", "/upload", "extra");
        facts.add_input("train", "/in", "set");
        facts.add_output("train", "/out", "model");
        facts.add_log("train", "log");
        facts.add_input("check", "/in/1", "model");
        facts.add_input("check", "/in/2", "extra");
        facts.add_output("check", "/out", "score");
        facts.add_input("sum", "/in/1", "score");
        facts.add_input("sum", "/in/2", "score");
        facts.add_output("sum", "/out", "end");
        facts
    }

    fn walked(start: &str, upstream: bool, downstream: bool, depth: Depth) -> String {
        let lineage = Lineage::walk(world(), start, Reach { upstream, downstream, depth });
        let words = lineage.found(0, usize::MAX).map(|found| match found {
            Found::Data(id) => id.to_owned(),
            Found::Run(id) => format!("[{id}]"),
            Found::Input { data, run, label } => format!("{data}>{run}:{label}"),
            Found::Output { run, data, label } => format!("{run}>{data}:{label}"),
            Found::Root { root, run } => format!("#{root}>{run}"),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_order_is_that_of_the_walk_and_edges_come_with_their_second_end() {
        let all = Depth::All;
        for (start, upstream, downstream, depth, order) in [
            ("set", false, false, all, "set"),
            ("none", true, true, all, "none"),
            (
                "model",
                true,
                false,
                all,
                "model [train] train>model:/out log train>log:(log) set set>train:/in [upl] upl>set:/upload #0>upl",
            ),
            (
                "model",
                true,
                false,
                Depth::Steps(1),
                "model [train] train>model:/out log train>log:(log) set set>train:/in",
            ),
            (
                "log",
                true,
                false,
                Depth::Steps(1),
                "log [train] train>log:(log) model train>model:/out set set>train:/in",
            ),
            (
                "model",
                false,
                true,
                all,
                "model [check] model>check:/in/1 extra extra>check:/in/2 score check>score:/out \
                 [sum] score>sum:/in/1 score>sum:/in/2 end sum>end:/out",
            ),
            (
                "score",
                true,
                true,
                Depth::Steps(1),
                "score [check] check>score:/out model model>check:/in/1 extra extra>check:/in/2 \
                 [sum] score>sum:/in/1 score>sum:/in/2 end sum>end:/out",
            ),
        ] {
            assert_eq!(walked(start, upstream, downstream, depth), order, "{start} {depth}");
        }
    }

    #[test]
    fn a_data_that_two_runs_name_before_it_comes_gets_both_edges_in_the_order_of_the_runs() {
        let mut facts = Facts::new();
        for run in ["b", "a"] {
            facts.add_input(run, "/in", "start");
            facts.add_output(run, "/out", run);
        }
        facts.add_input("a", "/too", "b");
        let lineage = Lineage::walk(facts, "start", Reach { upstream: false, downstream: true, depth: Depth::All });
        let runs: Vec<_> = lineage.found(0, usize::MAX).filter(|found| matches!(found, Found::Run(_))).collect();
        assert_eq!(runs, [Found::Run("b"), Found::Run("a")]);
        assert_eq!(
            lineage.found(1, 2).collect::<Vec<_>>(),
            [Found::Run("b"), Found::Input { data: "start", run: "b", label: "/in" },]
        );
    }

    #[test]
    fn a_circle_ends() {
        let mut facts = Facts::new();
        facts.add_input("r", "/in", "d");
        facts.add_output("r", "/out", "d");
        let reach = Reach { upstream: true, downstream: true, depth: Depth::All };
        assert_eq!(Lineage::walk(facts, "d", reach).len(), 4);
    }

    /// Everything recorded of the original is walked here as well: nodes and edges in its order.
    #[test]
    fn what_v1_6_1_has_drawn_is_walked_alike() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/vectors.jsonl");
        let text = std::fs::read_to_string(file).unwrap();
        let mut lines_of_file = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let world = lines_of_file.next().unwrap()["world"].take();
        let mut walked = 0;
        for record in lines_of_file.filter(|record| record["argv"][1] == "data" && record["argv"][2] == "lineage") {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let drawn = text(&record["stdout"]);
            let argv: Vec<String> = record["argv"].as_array().unwrap().iter().map(text).collect();
            if drawn.is_empty() || !record["server"].is_null() {
                continue;
            }
            let (mut upstream, mut downstream, mut depth, mut start) = (None, None, Depth::DEFAULT, "");
            let mut words = argv[3..].iter();
            while let Some(word) = words.next() {
                match word.as_str() {
                    "-u" => upstream = Some(true),
                    "-d" => downstream = Some(true),
                    "-n" => depth = words.next().unwrap().parse().unwrap(),
                    id => start = id,
                }
            }
            let lineage = Lineage::walk(recorded(&world), start, Reach::new(upstream, downstream, depth));
            assert_eq!(lines(&lineage), drawn_lines(&drawn), "{}", record["id"]);
            walked += 1;
        }
        assert!(walked > 10, "{walked}");
    }

    /// The facts of the recorded world; Runs that use a Data in the order in which the Data names them.
    fn recorded(world: &serde_json::Value) -> Facts {
        let mut facts = Facts::new();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        for data in world["data"].as_array().unwrap() {
            for user in data["downstreams"].as_array().unwrap() {
                facts.add_run(&text(&user["run"]["runId"]));
            }
        }
        for run in world["runs"].as_array().unwrap() {
            let id = run["runId"].as_str().unwrap();
            for input in run["inputs"].as_array().unwrap() {
                facts.add_input(id, &text(&input["path"]), &text(&input["knitId"]));
            }
            for output in run["outputs"].as_array().unwrap() {
                facts.add_output(id, &text(&output["path"]), &text(&output["knitId"]));
            }
            if run["log"].is_object() {
                facts.add_log(id, &text(&run["log"]["knitId"]));
            }
        }
        facts
    }

    /// Data, Runs, roots, edges: as DOT has them.
    fn lines(lineage: &Lineage) -> Vec<String> {
        let (mut data, mut runs, mut roots, mut edges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for found in lineage.found(0, usize::MAX) {
            match found {
                Found::Data(id) => data.push(format!("\"d{id}\"[")),
                Found::Run(id) => runs.push(format!("\"r{id}\"[")),
                Found::Input { data, run, label } => {
                    edges.push(format!("\"d{data}\" -> \"r{run}\" [label=\"{label}\"];"));
                }
                Found::Output { run, data, label } => {
                    edges.push(format!("\"r{run}\" -> \"d{data}\" [label=\"{label}\"];"));
                }
                Found::Root { root, run } => {
                    roots.push(format!("\"root#{root}\"[shape=Mdiamond];"));
                    edges.push(format!("\"root#{root}\" -> \"r{run}\";"));
                }
            }
        }
        [data, runs, roots, edges].concat()
    }

    fn drawn_lines(drawn: &str) -> Vec<String> {
        drawn.lines().filter(|line| line.starts_with("\t\"")).map(|line| line.trim().to_owned()).collect()
    }
}

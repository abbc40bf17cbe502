//! Graphs as they travel: the lineage of a Data and the neighbourhood of a Plan, one JSON value per line.
//!
//! A graph comes in the order in which v1.6.1 walks it: each node when it is found, each edge when its second
//! end is there. The last line says how much it was: without it, a graph is not whole. None of this is on an
//! original server.

use crate::id::{DataId, PlanId, RunId};
use crate::plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// How far a graph is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// So many steps, from Data to Run to Data or from Plan to Plan; at least one.
    Steps(u32),
    /// To the end.
    All,
}

impl Depth {
    /// Where nobody says otherwise.
    pub const DEFAULT: Self = Self::Steps(3);

    /// True when another step is to be taken after so many.
    pub fn reaches_beyond(self, steps: u32) -> bool {
        match self {
            Self::All => true,
            Self::Steps(most) => steps < most,
        }
    }
}

/// Why a text is not a depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a number from 1 on, or all")]
pub struct DepthError;

impl FromStr for Depth {
    type Err = DepthError;
    fn from_str(text: &str) -> Result<Self, DepthError> {
        match text.parse() {
            _ if text == "all" => Ok(Self::All),
            Ok(0) | Err(_) => Err(DepthError),
            Ok(steps) => Ok(Self::Steps(steps)),
        }
    }
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Steps(steps) => write!(f, "{steps}"),
        }
    }
}

/// Which part of a graph is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// What it comes from.
    pub upstream: bool,
    /// What it leads to.
    pub downstream: bool,
    /// How far.
    pub depth: Depth,
}

impl Reach {
    /// Where neither direction is named, both are meant; one that is denied stays out.
    pub fn new(upstream: Option<bool>, downstream: Option<bool>, depth: Depth) -> Self {
        let neither = upstream.is_none() && downstream.is_none();
        Self { upstream: upstream.unwrap_or(neither), downstream: downstream.unwrap_or(neither), depth }
    }

    /// As query parameters.
    pub fn pairs(self) -> [(&'static str, String); 3] {
        [
            ("upstream", self.upstream.to_string()),
            ("downstream", self.downstream.to_string()),
            ("depth", self.depth.to_string()),
        ]
    }
}

/// How much the lines of a lineage say: the value of `view=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Nodes by their ids.
    Ids,
    /// Data and Runs as everywhere else on the wire.
    #[default]
    Full,
}

impl View {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Full => "full",
        }
    }
}

/// Why a text is not a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write ids or full")]
pub struct ViewError;

impl FromStr for View {
    type Err = ViewError;
    fn from_str(text: &str) -> Result<Self, ViewError> {
        [Self::Ids, Self::Full].into_iter().find(|view| view.as_str() == text).ok_or(ViewError)
    }
}

/// One line of `GET <apiRoot>/data/{id}/lineage`. `D` and `R` are ids, or the Data and the Run themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LineageLine<D, R> {
    /// A Data was found; the first one is the Data that was asked about.
    Data(D),
    /// A Run was found.
    Run(R),
    /// Both ends of a relation are there.
    Edge(LineageEdge),
    /// That was all.
    End(LineageSize),
}

/// A relation of a Run to a Data, or the beginning of a Run that has no inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageEdge {
    /// Where it begins.
    pub from: LineageEnd,
    /// Where it ends.
    pub to: LineageEnd,
    /// Path of the mountpoint, `(log)`, or empty.
    pub label: String,
}

/// One end of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LineageEnd {
    /// A Data.
    KnitId(DataId),
    /// A Run.
    RunId(RunId),
    /// Stands before a Run that has no inputs; counted from 0.
    Root(usize),
}

/// How many lines of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageSize {
    /// Data.
    pub data: usize,
    /// Runs.
    pub runs: usize,
    /// Edges.
    pub edges: usize,
}

/// One line of `GET <apiRoot>/plans/{id}/graph`. Which Plan feeds which stands in the Plans themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlanLine<P> {
    /// A Plan was found; the first one is the Plan that was asked about.
    Plan(P),
    /// That was all.
    End(PlanCount),
}

/// How many Plans there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCount {
    /// Plans.
    pub plans: usize,
}

/// The order in which Plans are found around a Plan, level by level: first all it comes from, then all it leads
/// to. Each Plan is found once, and what was found upstream is not followed downstream.
#[derive(Clone, Debug)]
pub struct PlanWalk {
    found: HashSet<PlanId>,
    reach: Reach,
    /// Where the walk downstream begins.
    below_start: Vec<PlanId>,
    upwards: bool,
    steps: u32,
    next: Vec<PlanId>,
}

impl PlanWalk {
    /// Begins at one Plan.
    pub fn new(start: &Plan, reach: Reach) -> Self {
        let mut walk = Self {
            found: HashSet::from([start.summary.id.clone()]),
            reach,
            below_start: neighbours(start, false).into_iter().cloned().collect(),
            upwards: true,
            steps: 0,
            next: Vec::new(),
        };
        if reach.upstream {
            walk.look_at(start);
        }
        walk
    }

    /// The Plans to look at next, in their order; none when the walk is over. Each that is there is to be given to
    /// [`Self::look_at`], in this order, before the next level is asked for.
    pub fn level(&mut self) -> Vec<PlanId> {
        loop {
            if !self.next.is_empty() && self.reach.depth.reaches_beyond(self.steps) {
                self.steps += 1;
                return std::mem::take(&mut self.next);
            }
            self.next.clear();
            if !self.upwards || !self.reach.downstream {
                return Vec::new();
            }
            (self.upwards, self.steps) = (false, 0);
            let below = std::mem::take(&mut self.below_start);
            self.find(below.iter());
        }
    }

    /// Finds the neighbours of a Plan of this level.
    pub fn look_at(&mut self, plan: &Plan) {
        self.find(neighbours(plan, self.upwards).into_iter());
    }

    fn find<'a>(&mut self, ids: impl Iterator<Item = &'a PlanId>) {
        if !self.reach.depth.reaches_beyond(self.steps) {
            return;
        }
        for id in ids {
            if !self.found.contains(id) {
                self.found.insert(id.clone());
                self.next.push(id.clone());
            }
        }
    }
}

/// The Plans that a Plan names as its neighbours in one direction, in the order in which it names them.
fn neighbours(plan: &Plan, upstream: bool) -> Vec<&PlanId> {
    if upstream {
        return plan.inputs.iter().flat_map(|input| &input.upstreams).map(|up| &up.plan.id).collect();
    }
    let outputs = plan.outputs.iter().flat_map(|output| &output.downstreams);
    let log = plan.log.iter().flat_map(|log| &log.downstreams);
    outputs.chain(log).map(|down| &down.plan.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_a_positive_number_or_all() {
        assert_eq!("3".parse(), Ok(Depth::Steps(3)));
        assert_eq!("all".parse(), Ok(Depth::All));
        for text in ["0", "-1", "many", "", "ALL", "4294967296"] {
            assert!(text.parse::<Depth>().is_err(), "{text}");
        }
        assert!(Depth::Steps(2).reaches_beyond(1) && !Depth::Steps(2).reaches_beyond(2));
    }

    #[test]
    fn both_directions_are_meant_where_none_is_named() {
        let reach = |up, down| {
            let reach = Reach::new(up, down, Depth::All);
            (reach.upstream, reach.downstream)
        };
        assert_eq!(reach(None, None), (true, true));
        assert_eq!(reach(Some(true), None), (true, false));
        assert_eq!(reach(Some(false), None), (false, false));
        assert_eq!(reach(None, Some(true)), (false, true));
    }

    #[test]
    fn lines_name_what_they_are() {
        type Line = LineageLine<DataId, RunId>;
        for (line, text) in [
            (Line::Data("d".into()), r#"{"data":"d"}"#),
            (Line::Run("r".into()), r#"{"run":"r"}"#),
            (
                Line::Edge(LineageEdge {
                    from: LineageEnd::KnitId("d".into()),
                    to: LineageEnd::RunId("r".into()),
                    label: "/in".to_owned(),
                }),
                r#"{"edge":{"from":{"knitId":"d"},"to":{"runId":"r"},"label":"/in"}}"#,
            ),
            (
                Line::Edge(LineageEdge {
                    from: LineageEnd::Root(0),
                    to: LineageEnd::RunId("r".into()),
                    label: String::new(),
                }),
                r#"{"edge":{"from":{"root":0},"to":{"runId":"r"},"label":""}}"#,
            ),
            (Line::End(LineageSize { data: 1, runs: 1, edges: 2 }), r#"{"end":{"data":1,"runs":1,"edges":2}}"#),
        ] {
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
            assert_eq!(serde_json::from_str::<Line>(text).unwrap(), line);
        }
    }

    /// A Plan that these feed, and that feeds these.
    fn plan(id: &str, above: &[&str], below: &[&str]) -> Plan {
        let point = |id: &&str| serde_json::json!({"plan": {"planId": id}, "mountpoint": {"path": "/x"}});
        let (above, below): (Vec<_>, Vec<_>) = (above.iter().map(point).collect(), below.iter().map(point).collect());
        serde_json::from_value(serde_json::json!({
            "planId": id, "active": true,
            "inputs": [{"path": "/in", "upstreams": above}],
            "outputs": [{"path": "/out", "downstreams": below}],
        }))
        .unwrap()
    }

    /// a → b → c → d, and a → c.
    fn walked(start: &str, reach: Reach) -> Vec<String> {
        let plans = [
            plan("a", &[], &["b", "c"]),
            plan("b", &["a"], &["c"]),
            plan("c", &["b", "a"], &["d", "d"]),
            plan("d", &["c"], &[]),
        ];
        let of = |id: &str| plans.iter().find(|plan| plan.summary.id.as_str() == id).unwrap();
        let mut walk = PlanWalk::new(of(start), reach);
        let mut order = vec![start.to_owned()];
        loop {
            let level = walk.level();
            if level.is_empty() {
                return order;
            }
            for id in level {
                walk.look_at(of(id.as_str()));
                order.push(id.to_string());
            }
        }
    }

    #[test]
    fn plans_are_found_once_first_upstream_then_downstream() {
        let (up, down) = (Some(true), Some(true));
        for (start, upstream, downstream, depth, order) in [
            ("c", None, None, Depth::All, "c b a d"),
            ("c", up, None, Depth::Steps(1), "c b a"),
            ("b", None, None, Depth::All, "b a c d"),
            ("b", None, None, Depth::Steps(1), "b a c"),
            ("a", None, down, Depth::Steps(1), "a b c"),
            ("a", None, None, Depth::Steps(2), "a b c d"),
            ("d", up, None, Depth::Steps(2), "d c b a"),
            ("b", Some(false), None, Depth::All, "b"),
        ] {
            assert_eq!(walked(start, Reach::new(upstream, downstream, depth)).join(" "), order, "{start} {depth}");
        }
    }
}

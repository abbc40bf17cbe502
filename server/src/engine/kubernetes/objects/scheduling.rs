//! `on_node` of a Plan as tolerations and node affinity.
//!
//! | word     | taints tolerated                 | affinity                                                       |
//! |----------|----------------------------------|----------------------------------------------------------------|
//! | `may`    | `NoSchedule`                     | none                                                           |
//! | `prefer` | `NoSchedule`, `PreferNoSchedule` | preferred: one term of weight 1 for each label                 |
//! | `must`   | `NoSchedule`, `PreferNoSchedule` | required: one term; each key has one of the values named for it |

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredSchedulingTerm,
    Toleration,
};
use knit_api::plan::{NodeLabel, OnNode};
use std::collections::{BTreeMap, BTreeSet};

const NO_SCHEDULE: &str = "NoSchedule";
const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

/// Where a Pod may execute. What is empty is left out of its Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scheduling {
    /// Taints that do not keep it away, each once.
    pub tolerations: Option<Vec<Toleration>>,
    /// Nodes that it prefers or insists on.
    pub affinity: Option<Affinity>,
}

/// What `on_node` means, by the table above.
pub fn scheduling(on_node: &OnNode) -> Scheduling {
    let tolerations = tolerations(on_node);
    let affinity = NodeAffinity {
        preferred_during_scheduling_ignored_during_execution: preferred(&on_node.prefer),
        required_during_scheduling_ignored_during_execution: required(&on_node.must),
    };
    Scheduling {
        tolerations: (!tolerations.is_empty()).then_some(tolerations),
        affinity: (affinity != NodeAffinity::default())
            .then(|| Affinity { node_affinity: Some(affinity), ..Affinity::default() }),
    }
}

fn tolerations(on_node: &OnNode) -> Vec<Toleration> {
    let lenient = on_node.may.iter().map(|label| (label, NO_SCHEDULE));
    let eager = on_node.prefer.iter().chain(&on_node.must);
    let eager = eager.flat_map(|label| [(label, NO_SCHEDULE), (label, PREFER_NO_SCHEDULE)]);
    let each_once: BTreeSet<_> = lenient.chain(eager).collect();
    each_once
        .into_iter()
        .map(|(label, effect)| Toleration {
            key: Some(label.key.clone()),
            operator: Some("Equal".to_owned()),
            value: Some(label.value.clone()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        })
        .collect()
}

fn preferred(prefer: &[NodeLabel]) -> Option<Vec<PreferredSchedulingTerm>> {
    let each_once: BTreeSet<_> = prefer.iter().collect();
    let terms = each_once.into_iter().map(|label| PreferredSchedulingTerm {
        weight: 1,
        preference: term(vec![is_one_of(&label.key, [label.value.as_str()].into())]),
    });
    Some(terms.collect::<Vec<_>>()).filter(|terms| !terms.is_empty())
}

fn required(must: &[NodeLabel]) -> Option<NodeSelector> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for label in must {
        values.entry(&label.key).or_default().insert(&label.value);
    }
    let all: Vec<_> = values.into_iter().map(|(key, values)| is_one_of(key, values)).collect();
    (!all.is_empty()).then(|| NodeSelector { node_selector_terms: vec![term(all)] })
}

fn term(all: Vec<NodeSelectorRequirement>) -> NodeSelectorTerm {
    NodeSelectorTerm { match_expressions: Some(all), ..NodeSelectorTerm::default() }
}

fn is_one_of(key: &str, values: BTreeSet<&str>) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: Some(values.into_iter().map(ToOwned::to_owned).collect()),
    }
}

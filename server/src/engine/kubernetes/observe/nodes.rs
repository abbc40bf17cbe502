//! Why no node takes a Pod: what the scheduler says, made readable.
//!
//! It says `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had taint {gpu: yes}, that the pod didn't tolerate.`,
//! in newer versions followed by what it thinks of preemption.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use knit_api::label::container;

/// Words for it. The Pod tells what was asked for.
pub(super) fn none_takes_it(message: &str, pod: &Pod) -> String {
    let Some((_, reasons)) = message.split_once(" nodes are available: ") else {
        return format!("no node can take it now: {message}");
    };
    let reasons = reasons.split(" preemption: ").next().unwrap_or(reasons).trim().trim_end_matches('.');
    let spec = pod.spec.as_ref();
    let told: Vec<String> = parts(reasons).into_iter().map(|part| readable(part, spec)).collect();
    format!("no node can take it now: {}; it starts by itself when one can", told.join(", "))
}

/// Splits at the commas before numbers: there are others within a reason.
fn parts(reasons: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut rest, mut from) = (reasons, 0);
    while let Some(at) = rest[from..].find(", ").map(|at| from + at) {
        if rest[at + 2..].starts_with(|c: char| c.is_ascii_digit()) {
            parts.push(&rest[..at]);
            (rest, from) = (&rest[at + 2..], 0);
        } else {
            from = at + 2;
        }
    }
    parts.push(rest);
    parts
}

fn readable(part: &str, spec: Option<&PodSpec>) -> String {
    let (count, reason) = part.split_once(' ').filter(|(count, _)| count.parse::<u64>().is_ok()).unwrap_or(("", part));
    let nodes = |verbs: (&str, &str), what: String| match count {
        "1" => format!("1 node {} {what}", verbs.0),
        _ => format!("{count} nodes {} {what}", verbs.1),
    };
    if let Some(resource) = reason.strip_prefix("Insufficient ") {
        let asked = asked(spec, resource).map_or_else(String::new, |asked| format!(" (it asks for {asked})"));
        return nodes(("has", "have"), format!("too little {resource} left{asked}"));
    }
    if let Some(taint) = taint(reason) {
        return tainted(taint, &nodes);
    }
    match reason {
        "Too many pods" => nodes(("has", "have"), "as many Pods as it may".to_owned()),
        "node(s) were unschedulable" => nodes(("is", "are"), "closed to new work (cordoned)".to_owned()),
        "node(s) didn't match Pod's node affinity"
        | "node(s) didn't match Pod's node affinity/selector"
        | "node(s) didn't match node selector" => {
            nodes(("lacks", "lack"), format!("the labels that on_node.must of the Plan names{}", labels(spec)))
        }
        "node(s) had volume node affinity conflict" => nodes(("cannot", "cannot"), "reach its volumes".to_owned()),
        _ if reason.contains("unbound immediate PersistentVolumeClaims") => "its volumes are not bound yet".to_owned(),
        _ => match reason.strip_prefix("persistentvolumeclaim \"").and_then(|rest| rest.split_once("\" not found")) {
            Some((claim, _)) => format!("its volume {claim} is not there"),
            None => part.to_owned(),
        },
    }
}

/// `{key: value}` of a taint that keeps the Pod away, in the words of older and newer schedulers.
fn taint(reason: &str) -> Option<&str> {
    let rest = ["node(s) had taint {", "node(s) had untolerated taint {", "node(s) had taints {"];
    let inside = rest.into_iter().find_map(|begin| reason.strip_prefix(begin))?;
    inside.split_once('}').map(|(taint, _)| taint)
}

fn tainted(taint: &str, nodes: &dyn Fn((&str, &str), String) -> String) -> String {
    let (key, value) = taint.split_once(": ").unwrap_or((taint.trim_end_matches(':'), ""));
    match key.strip_prefix("node.kubernetes.io/") {
        Some("unschedulable") => nodes(("is", "are"), "closed to new work (cordoned)".to_owned()),
        Some(trouble) => nodes(("is", "are"), format!("in trouble ({trouble})")),
        None => nodes(("is", "are"), format!("kept for Plans that name {key}={value} in on_node")),
    }
}

/// How much main asks for.
fn asked<'a>(spec: Option<&'a PodSpec>, resource: &str) -> Option<&'a str> {
    let main = spec?.containers.iter().find(|one| one.name == container::MAIN)?;
    let resources = main.resources.as_ref()?;
    let amount = resources.requests.as_ref().and_then(|all| all.get(resource));
    Some(amount.or_else(|| resources.limits.as_ref()?.get(resource))?.0.as_str())
}

/// The labels that a node must have.
fn labels(spec: Option<&PodSpec>) -> String {
    let affinity = spec.and_then(|spec| spec.affinity.as_ref()).and_then(|all| all.node_affinity.as_ref());
    let required = affinity.and_then(|all| all.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.into_iter().flat_map(|required| &required.node_selector_terms);
    let named: Vec<String> = terms
        .flat_map(|term| term.match_expressions.iter().flatten())
        .map(|one| format!("{}={}", one.key, one.values.iter().flatten().cloned().collect::<Vec<_>>().join(" or ")))
        .collect();
    if named.is_empty() { String::new() } else { format!(" ({})", named.join(" and ")) }
}

//! What the cluster tells of itself: its nodes, and what is taken of them.

use super::Shared;
use super::cache::{is_over, ours};
use super::client::ApiError;
use crate::engine::{EngineError, EngineStatus};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource;
use knit_api::cluster::{Node, Taint};
use knit_api::plan::{NodeLabel, Resources};
use knit_api::quantity::Quantity;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the last look at the nodes found.
#[derive(Default)]
pub(super) struct Capacity {
    cpu_millis: AtomicU64,
    memory_bytes: AtomicU64,
    /// Whether it was said that we may not look.
    said: AtomicBool,
}

impl Shared {
    pub(super) fn status(&self) -> EngineStatus {
        EngineStatus {
            name: "kubernetes".to_owned(),
            detail: format!("Jobs in namespace {}", self.settings.namespace),
            cpu_millis: self.capacity.cpu_millis.load(Ordering::Relaxed),
            memory_bytes: self.capacity.memory_bytes.load(Ordering::Relaxed),
            workers: self.cache.workers(),
        }
    }

    /// The nodes, with what all Pods ask of them, or those of our namespace where we may not look further. None where
    /// we may not look at nodes at all.
    pub(super) async fn nodes(&self) -> Result<Vec<Node>, EngineError> {
        let nodes = match self.client.list_everywhere::<core::Node>("").await {
            Ok(nodes) => nodes,
            Err(error) if error.is_forbidden() => {
                self.say_once(&error);
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let pods = match self.client.list_everywhere("status.phase!=Succeeded,status.phase!=Failed").await {
            Ok(pods) => pods,
            Err(error) if error.is_forbidden() => {
                self.say_once(&error);
                self.client.list::<core::Pod>(&ours()).await?
            }
            Err(error) => return Err(error.into()),
        };
        let mut in_use = in_use(&pods);
        let nodes: Vec<Node> = nodes.iter().map(|node| describe(node, &mut in_use)).collect();
        self.capacity.note(&nodes);
        Ok(nodes)
    }

    fn say_once(&self, error: &ApiError) {
        if !self.capacity.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "what is free on the cluster is shown only in part");
        }
    }
}

impl Capacity {
    fn note(&self, nodes: &[Node]) {
        let all = |name: &'static str| nodes.iter().filter_map(|node| node.capacity.get(name)).copied();
        let cpu: i128 = all("cpu").map(Quantity::millis).sum();
        let memory: i128 = all("memory").map(Quantity::units).sum();
        self.cpu_millis.store(u64::try_from(cpu).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.memory_bytes.store(u64::try_from(memory).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn describe(node: &core::Node, in_use: &mut HashMap<String, Resources>) -> Node {
    let name = node.metadata.name.clone().unwrap_or_default();
    let labels = node.metadata.labels.iter().flatten();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    Node {
        labels: labels.map(|(key, value)| NodeLabel { key: key.clone(), value: value.clone() }).collect(),
        taints: taints.iter().map(taint).collect(),
        capacity: resources(allocatable),
        in_use: in_use.remove(&name).unwrap_or_default(),
        name,
    }
}

fn taint(taint: &core::Taint) -> Taint {
    Taint { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default(), effect: taint.effect.clone() }
}

/// What Pods that have not ended ask for, by node.
fn in_use(pods: &[core::Pod]) -> HashMap<String, Resources> {
    let mut all: HashMap<String, Resources> = HashMap::new();
    for pod in pods.iter().filter(|pod| !is_over(pod)) {
        let Some(spec) = &pod.spec else { continue };
        if let Some(node) = &spec.node_name {
            add(all.entry(node.clone()).or_default(), &requests(spec));
        }
    }
    all
}

/// What a Pod asks for: all of its containers together, or the hungriest of those that go before them.
fn requests(pod: &core::PodSpec) -> Resources {
    let mut sum = Resources::new();
    for container in &pod.containers {
        add(&mut sum, &asked(container));
    }
    for (name, amount) in pod.init_containers.iter().flatten().flat_map(asked) {
        let most = sum.entry(name).or_insert(amount);
        *most = amount.max(*most);
    }
    add(&mut sum, &resources(pod.overhead.as_ref()));
    sum
}

fn asked(container: &core::Container) -> Resources {
    resources(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// What we cannot read, we leave out: there is no such amount.
fn resources(of: Option<&BTreeMap<String, resource::Quantity>>) -> Resources {
    of.into_iter().flatten().filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?))).collect()
}

fn add(sum: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        sum.entry(name.clone()).and_modify(|sum| *sum = *sum + *amount).or_insert(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(requests: &[(&str, &str)]) -> core::Container {
        let requests =
            requests.iter().map(|(name, amount)| ((*name).to_owned(), resource::Quantity((*amount).to_owned())));
        let resources = core::ResourceRequirements { requests: Some(requests.collect()), ..Default::default() };
        core::Container { resources: Some(resources), ..Default::default() }
    }

    fn pod(node: Option<&str>, phase: &str, spec: core::PodSpec) -> core::Pod {
        let spec = core::PodSpec { node_name: node.map(ToOwned::to_owned), ..spec };
        let status = core::PodStatus { phase: Some(phase.to_owned()), ..Default::default() };
        core::Pod { spec: Some(spec), status: Some(status), ..Default::default() }
    }

    #[test]
    fn a_node_holds_what_its_pods_ask_for_that_have_not_ended() {
        let spec = core::PodSpec {
            containers: vec![container(&[("cpu", "500m"), ("memory", "1Gi")]), container(&[("cpu", "1")])],
            init_containers: Some(vec![container(&[("cpu", "2"), ("memory", "1Mi"), ("example.com/gpu", "1")])]),
            overhead: Some([("memory".to_owned(), resource::Quantity("1Gi".to_owned()))].into()),
            ..Default::default()
        };
        let pods = [
            pod(Some("a"), "Running", spec.clone()),
            pod(
                Some("a"),
                "Pending",
                core::PodSpec { containers: vec![container(&[("cpu", "1m")])], ..Default::default() },
            ),
            pod(Some("a"), "Succeeded", spec.clone()),
            pod(None, "Pending", spec),
        ];
        let in_use = in_use(&pods);
        assert_eq!(in_use.len(), 1);
        let said: Vec<String> = in_use["a"].iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        assert_eq!(said, ["cpu=2001m", "example.com/gpu=1", "memory=2Gi"]);
    }
}

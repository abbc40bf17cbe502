//! How full the volumes are that are mounted on a node: what its kubelet tells, through the API server.

use super::TIME_LIMIT;
use crate::rules::expansion::Filling;
use async_trait::async_trait;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A claim: its namespace and its name.
pub type ClaimName = (String, String);

/// Tells how full volumes are.
#[async_trait]
pub trait Stats: Send + Sync + 'static {
    /// The claims that are mounted now; the error is a sentence.
    async fn fillings(&self) -> Result<BTreeMap<ClaimName, Filling>, String>;
}

/// The kubelet of one node.
pub struct Kubelet {
    client: kube::Client,
    node: String,
}

impl std::fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubelet").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Kubelet {
    /// The kubelet of this node.
    pub fn new(client: kube::Client, node: String) -> Self {
        Self { client, node }
    }
}

#[async_trait]
impl Stats for Kubelet {
    async fn fillings(&self) -> Result<BTreeMap<ClaimName, Filling>, String> {
        let failed =
            |why: String| format!("the kubelet of node {} does not tell how full volumes are: {why}", self.node);
        let path = format!("/api/v1/nodes/{}/proxy/stats/summary", self.node);
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| failed(error.to_string()))?;
        let asked = tokio::time::timeout(TIME_LIMIT, self.client.request::<Summary>(request)).await;
        let summary = asked.map_err(|_| failed("it does not answer".to_owned()))?;
        Ok(summary.map_err(|error| failed(error.to_string()))?.fillings())
    }
}

/// The part of `stats/summary` that is needed.
#[derive(Debug, Deserialize)]
struct Summary {
    #[serde(default)]
    pods: Vec<Pod>,
}

#[derive(Debug, Deserialize)]
struct Pod {
    #[serde(default, rename = "volume")]
    volumes: Vec<Volume>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    pvc_ref: Option<Reference>,
    used_bytes: Option<u64>,
    available_bytes: Option<u64>,
    capacity_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    namespace: String,
    name: String,
}

impl Summary {
    /// One that several Pods mount is told of by each; the fullest tale counts, as the latest one.
    fn fillings(self) -> BTreeMap<ClaimName, Filling> {
        let mut all = BTreeMap::new();
        for volume in self.pods.into_iter().flat_map(|pod| pod.volumes) {
            let (Some(of), Some(used)) = (volume.pvc_ref, volume.used_bytes) else { continue };
            let filling = Filling {
                used,
                available: volume.available_bytes.unwrap_or(u64::MAX),
                file_system: volume.capacity_bytes.unwrap_or(u64::MAX),
            };
            let known = all.entry((of.namespace, of.name)).or_insert(filling);
            if filling.used > known.used {
                *known = filling;
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_volumes_with_a_claim_are_taken_from_what_a_kubelet_tells() {
        let summary: Summary = serde_json::from_str(
            r#"{"node": {"nodeName": "node1"}, "pods": [
                {"podRef": {"name": "a"}, "volume": [
                    {"name": "token", "usedBytes": 12, "capacityBytes": 100, "availableBytes": 88},
                    {"name": "out", "usedBytes": 5, "capacityBytes": 10, "availableBytes": 4,
                     "pvcRef": {"name": "data-knitid-1", "namespace": "knit"}}]},
                {"podRef": {"name": "b"}, "volume": [
                    {"name": "in", "usedBytes": 6, "pvcRef": {"name": "data-knitid-1", "namespace": "knit"}},
                    {"name": "new", "pvcRef": {"name": "data-knitid-2", "namespace": "knit"}}]},
                {"podRef": {"name": "c"}}]}"#,
        )
        .unwrap();
        let fillings = summary.fillings();
        let of = ("knit".to_owned(), "data-knitid-1".to_owned());
        let filling = Filling { used: 6, available: u64::MAX, file_system: u64::MAX };
        assert_eq!(fillings, BTreeMap::from([(of, filling)]));
    }
}

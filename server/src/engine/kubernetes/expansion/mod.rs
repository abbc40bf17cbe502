//! Volumes that fill up grow: a helper on each node, for the volumes of Data that are mounted there
//! (`knitd volume-expander`).
//!
//! It looks again and again at how full they are ([`Stats`]), asks for more where [`crate::rules::expansion`] says so,
//! and leaves the rest to the storage class. Nothing that goes wrong ends it: the next look is the next try. What
//! cannot be done is said once, not at each look.

mod stats;

pub use stats::{ClaimName, Kubelet, Stats};

use crate::clock;
use crate::metrics::Metrics;
use crate::rules::expansion::{Claim, Expansion, Filling, expansion};
use anyhow::Context;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knit_api::label;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What one call to the API server may take.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// How long a claim is left alone that could not be given more: its storage class may let it grow by then.
const REFUSED: Duration = Duration::from_mins(10);
/// On a claim, with the value `false`: it is left alone.
const MANAGED: &str = "vex.knitfab/managed";
/// Who asks for more: the field manager of the patch.
const MANAGER: &str = "knit-vex";

/// What an operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node.
    pub node: String,
    /// Where the claims are.
    pub namespaces: Vec<String>,
    /// A volume grows when not more bytes than these are free.
    pub margin: u64,
    /// By how many bytes it grows.
    pub delta: u64,
    /// How often to look.
    pub interval: Duration,
}

/// Connects to the cluster that the file leads to; without one, to that which this process runs on.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<kube::Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let reading = || format!("reading the kubeconfig {}", path.display());
            let file = Kubeconfig::read_from(path).with_context(reading)?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(reading)?
        }
        None => kube::Config::incluster()
            .context("this process is in no Pod with a service account; say --kubeconfig FILE")?,
    };
    config.connect_timeout = Some(TIME_LIMIT);
    config.read_timeout = Some(TIME_LIMIT);
    config.write_timeout = Some(TIME_LIMIT);
    kube::Client::try_from(config).context("connecting to the cluster")
}

/// Makes volumes of one node larger.
pub struct Expander<S> {
    settings: Settings,
    client: kube::Client,
    stats: S,
    metrics: Arc<Metrics>,
    /// How large claims were when they were looked at last: while a volume is not nearly as full, it is not looked at.
    sizes: HashMap<ClaimName, u64>,
    /// Claims that could not be given more, and until when they are left alone.
    refused: HashMap<ClaimName, Instant>,
    complaints: Complaints,
}

impl<S> std::fmt::Debug for Expander<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expander").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<S: Stats> Expander<S> {
    /// Looks at what `stats` tells.
    pub fn new(settings: Settings, client: kube::Client, stats: S, metrics: Arc<Metrics>) -> Self {
        let (sizes, refused) = (HashMap::new(), HashMap::new());
        Self { settings, client, stats, metrics, sizes, refused, complaints: Complaints::default() }
    }

    /// Looks until the process is asked to stop.
    pub async fn run(mut self, stopping: CancellationToken) {
        loop {
            let look = async {
                self.look().await;
                tokio::time::sleep(self.settings.interval).await;
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = look => {}
            }
        }
    }

    /// Looks once at all volumes, and makes larger what has to be.
    pub async fn look(&mut self) {
        self.metrics.round("volume-expander");
        let fillings = match self.stats.fillings().await {
            Ok(fillings) => fillings,
            Err(why) => return self.complaints.tell("kubelet", why),
        };
        self.complaints.settle("kubelet");
        self.forget_all_but(&fillings);
        for namespace in self.settings.namespaces.clone() {
            let full: Vec<(ClaimName, Filling)> = fillings
                .iter()
                .filter(|((of, _), _)| *of == namespace)
                .filter(|(claim, filling)| self.may_be_full(claim, **filling))
                .map(|(claim, filling)| (claim.clone(), *filling))
                .collect();
            if full.is_empty() {
                continue;
            }
            let written = match self.written(&namespace).await {
                Ok(written) => written,
                Err(why) => {
                    self.complaints.tell(&namespace, format!("who writes to volumes is not known: {why}"));
                    continue;
                }
            };
            self.complaints.settle(&namespace);
            for (claim, filling) in full {
                let key = format!("{}/{}", claim.0, claim.1);
                match self.consider(&claim, filling, written.contains(&claim.1)).await {
                    Ok(()) => self.complaints.settle(&key),
                    Err(why) => self.complaints.tell(&key, format!("volume {key} is full and stays as it is: {why}")),
                }
            }
        }
    }

    /// Whether the claim has to be looked at.
    fn may_be_full(&self, claim: &ClaimName, filling: Filling) -> bool {
        if self.refused.get(claim).is_some_and(|until| *until > clock::deadline(Duration::ZERO)) {
            return false;
        }
        let margin = self.settings.margin;
        let is_near = |size: &u64| filling.used.saturating_add(margin) >= *size || filling.available <= margin;
        self.sizes.get(claim).is_none_or(is_near)
    }

    /// Claims that are not mounted any more are not kept in mind.
    fn forget_all_but(&mut self, mounted: &BTreeMap<ClaimName, Filling>) {
        self.sizes.retain(|claim, _| mounted.contains_key(claim));
        self.refused.retain(|claim, _| mounted.contains_key(claim));
    }

    /// The claims that some container on this node may write to.
    async fn written(&self, namespace: &str) -> Result<BTreeSet<String>, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let here = ListParams::default().fields(&format!("spec.nodeName={}", self.settings.node));
        let found = in_time(pods.list(&here)).await?;
        Ok(found.items.into_iter().filter_map(|pod| pod.spec).flat_map(|pod| written_by(&pod)).collect())
    }

    /// Looks at one claim and asks for more if it is time to.
    async fn consider(&mut self, name: &ClaimName, filling: Filling, is_written: bool) -> Result<(), String> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &name.0);
        // Gone since the kubelet saw it.
        let Some(found) = in_time(claims.get_opt(&name.1)).await? else { return Ok(()) };
        let claim = read(&found, is_written);
        self.sizes.insert(name.clone(), claim.requested.max(claim.granted));
        let Expansion::To(size) = expansion(filling, claim, self.settings.margin, self.settings.delta) else {
            return Ok(());
        };
        let patch = serde_json::json!({
            // If somebody has changed it since, this is not what was decided on.
            "metadata": { "resourceVersion": found.metadata.resource_version },
            "spec": { "resources": { "requests": { "storage": quantity(size) } } },
        });
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = tokio::time::timeout(TIME_LIMIT, claims.patch(&name.1, &parameters, &Patch::Merge(&patch))).await;
        match patched {
            Ok(Ok(_)) => {
                self.sizes.insert(name.clone(), size);
                self.metrics.expansion(true);
                let (volume, used) = (&name.1, filling.used);
                tracing::info!(namespace = name.0, volume, used, size, "a volume was full and is made larger");
                Ok(())
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 || status.code == 422 => {
                self.metrics.expansion(false);
                self.refused.insert(name.clone(), clock::deadline(REFUSED));
                Err(status.message.clone())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the API server does not answer".to_owned()),
        }
    }
}

/// Says what is in the way, once, for as long as it is the same.
#[derive(Debug, Default)]
struct Complaints(HashMap<String, String>);

impl Complaints {
    fn tell(&mut self, about: &str, why: String) {
        if self.0.get(about) != Some(&why) {
            tracing::warn!(why, "a volume may not grow");
            self.0.insert(about.to_owned(), why);
        }
    }

    fn settle(&mut self, about: &str) {
        if self.0.remove(about).is_some() {
            tracing::info!(about, "what was in the way is over");
        }
    }
}

async fn in_time<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(TIME_LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}

/// What the rule wants to know of a claim.
fn read(claim: &PersistentVolumeClaim, is_written: bool) -> Claim {
    let (labels, annotations) = (&claim.metadata.labels, &claim.metadata.annotations);
    let labelled =
        |key: &str, value: &str| labels.as_ref().is_some_and(|all| all.get(key).is_some_and(|is| is == value));
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    Claim {
        is_data: labelled(label::COMPONENT, label::component::DATA) && labelled(label::MANAGED_BY, label::MANAGER),
        is_managed: annotations.as_ref().is_none_or(|all| all.get(MANAGED).is_none_or(|value| value != "false")),
        is_written,
        requested: storage(requests),
        granted: storage(capacity),
    }
}

fn storage(resources: Option<&BTreeMap<String, Quantity>>) -> u64 {
    let amount = resources.and_then(|all| all.get("storage")?.0.parse::<knit_api::quantity::Quantity>().ok());
    amount.map_or(0, |amount| u64::try_from(amount.units()).unwrap_or(0))
}

/// An amount of bytes as people write it, where that is exact.
fn quantity(bytes: u64) -> String {
    if bytes.is_multiple_of(1_000_000_000) { format!("{}G", bytes / 1_000_000_000) } else { bytes.to_string() }
}

/// The claims that a container of the Pod may write to.
fn written_by(pod: &PodSpec) -> Vec<String> {
    let containers = || pod.init_containers.iter().flatten().chain(&pod.containers);
    let is_written = |volume: &str| {
        let mut mounts = containers().filter_map(|container| container.volume_mounts.as_ref()).flatten();
        mounts.any(|mount| mount.name == volume && mount.read_only != Some(true))
    };
    let volumes = pod.volumes.iter().flatten().filter(|volume| is_written(&volume.name));
    let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.filter(|claim| claim.read_only != Some(true)).map(|claim| claim.claim_name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(value: serde_json::Value) -> Claim {
        read(&serde_json::from_value(value).unwrap(), true)
    }

    #[test]
    fn a_claim_is_read_with_what_is_missing_in_it() {
        let labels = json!({ "app.kubernetes.io/component": "data", "app.kubernetes.io/managed-by": "knit" });
        let full = claim(json!({
            "metadata": { "labels": labels, "annotations": { "vex.knitfab/managed": "true" } },
            "spec": { "resources": { "requests": { "storage": "1Gi" } } },
            "status": { "capacity": { "storage": "2G" } },
        }));
        let expected =
            Claim { is_data: true, is_managed: true, is_written: true, requested: 1 << 30, granted: 2_000_000_000 };
        assert_eq!(full, expected);
        let unmanaged = claim(json!({ "metadata": { "annotations": { "vex.knitfab/managed": "false" } } }));
        assert!(!unmanaged.is_managed && !unmanaged.is_data && unmanaged.requested == 0 && unmanaged.granted == 0);
        assert!(!claim(json!({ "metadata": { "labels": { "app.kubernetes.io/component": "data" } } })).is_data);
    }

    #[test]
    fn a_claim_is_written_to_only_where_claim_and_mount_let_it() {
        let pod: PodSpec = serde_json::from_value(json!({
            "volumes": [
                { "name": "in", "persistentVolumeClaim": { "claimName": "input", "readOnly": true } },
                { "name": "ro", "persistentVolumeClaim": { "claimName": "mounted-read-only" } },
                { "name": "out", "persistentVolumeClaim": { "claimName": "output" } },
                { "name": "none", "persistentVolumeClaim": { "claimName": "not-mounted" } },
                { "name": "tmp", "emptyDir": {} },
            ],
            "containers": [
                { "name": "main", "volumeMounts": [
                    { "name": "in", "mountPath": "/in" }, { "name": "ro", "mountPath": "/ro", "readOnly": true },
                    { "name": "out", "mountPath": "/out", "readOnly": true }, { "name": "tmp", "mountPath": "/tmp" } ] },
                { "name": "nurse", "volumeMounts": [{ "name": "out", "mountPath": "/volumes/out" }] },
            ],
        }))
        .unwrap();
        assert_eq!(written_by(&pod), ["output"]);
    }

    #[test]
    fn the_same_trouble_is_told_once() {
        let mut complaints = Complaints::default();
        complaints.tell("a", "no".to_owned());
        assert_eq!(complaints.0.len(), 1);
        complaints.tell("a", "no".to_owned());
        complaints.settle("a");
        assert!(complaints.0.is_empty());
    }
}

//! Volumes that fill up, on a real cluster: how full they are is made up, what is done about it is not.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use knit_server::engine::kubernetes::expansion::{ClaimName, Expander, Settings, Stats, connect};
use knit_server::metrics::Metrics;
use knit_server::rules::expansion::Filling;
use kube::api::{Api, DeleteParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_mins(1);
const GI: u64 = 1 << 30;

/// Tells what the test says.
#[derive(Clone, Default)]
struct MadeUp(Arc<Mutex<BTreeMap<ClaimName, Filling>>>);

#[async_trait]
impl Stats for MadeUp {
    async fn fillings(&self) -> Result<BTreeMap<ClaimName, Filling>, String> {
        Ok(self.0.lock().unwrap().clone())
    }
}

/// A namespace and two storage classes, for one test.
struct Place {
    client: kube::Client,
    name: String,
}

impl Place {
    /// None, after one loud line, where there is no cluster.
    async fn new() -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os("KUBECONFIG") else {
            knit_tests::able::skipped("volumes_that_fill_up_on_a_cluster", "KUBECONFIG leads to no cluster");
            return None;
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = connect(Some(kubeconfig.as_ref())).await.unwrap();
        let place = Self { client, name: format!("expansion-{}", std::process::id()) };
        let labels = json!({ "knit-tests/story": "expansion" });
        place.make(&place.all::<Namespace>(), json!({ "metadata": { "name": place.name, "labels": labels } })).await;
        for (suffix, may_grow) in [("grows", true), ("fixed", false)] {
            let class = json!({
                "metadata": { "name": format!("{}-{suffix}", place.name), "labels": labels },
                "provisioner": "kubernetes.io/host-path", "allowVolumeExpansion": may_grow,
            });
            place.make(&place.all::<StorageClass>(), class).await;
        }
        Some(place)
    }

    fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>,
    {
        Api::all(self.client.clone())
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    async fn make<K>(&self, api: &Api<K>, object: Value)
    where
        K: kube::Resource + serde::Serialize + DeserializeOwned + Clone + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        let made = async {
            // The service account of a fresh namespace takes a moment.
            while let Err(error) = api.create(&PostParams::default(), &object).await {
                assert!(error.to_string().contains("serviceaccount"), "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LONG, made).await.unwrap();
    }

    /// A bound claim of 1 Gi, as the server makes it for a Data.
    async fn claim(&self, name: &str, class: &str, annotations: Value) {
        let claim = json!({
            "metadata": { "name": name, "annotations": annotations, "labels": {
                "app.kubernetes.io/component": "data", "app.kubernetes.io/managed-by": "knit" } },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": format!("{}-{class}", self.name),
                "resources": { "requests": { "storage": "1Gi" } } },
        });
        self.make(&self.claims(), claim).await;
        let bound = async {
            while self.claims().get(name).await.unwrap().status.and_then(|status| status.phase).as_deref()
                != Some("Bound")
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LONG, bound).await.expect("it is bound");
    }

    /// A Pod that writes to these claims, on a node that is not there.
    async fn writer(&self, node: &str, claims: &[&str]) {
        let volumes: Vec<Value> =
            claims.iter().map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } })).collect();
        let mounts: Vec<Value> =
            claims.iter().map(|name| json!({ "name": name, "mountPath": format!("/{name}") })).collect();
        let pod = json!({
            "metadata": { "name": "writer" },
            "spec": { "nodeName": node, "volumes": volumes, "automountServiceAccountToken": false,
                "containers": [{ "name": "main", "image": "localhost/busybox:1", "volumeMounts": mounts }] },
        });
        self.make(&Api::<Pod>::namespaced(self.client.clone(), &self.name), pod).await;
    }

    async fn asks_for(&self, name: &str) -> String {
        let claim = self.claims().get(name).await.unwrap();
        claim.spec.unwrap().resources.unwrap().requests.unwrap()["storage"].0.clone()
    }

    async fn remove(&self) {
        let now = DeleteParams::default().grace_period(0);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.name);
        let _ = pods.delete("writer", &now).await;
        self.all::<Namespace>().delete(&self.name, &now).await.unwrap();
        for suffix in ["grows", "fixed"] {
            self.all::<StorageClass>().delete(&format!("{}-{suffix}", self.name), &now).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_full_volume_is_made_larger_where_it_may_be_and_left_alone_where_it_may_not() {
    let Some(place) = Place::new().await else { return };
    place.claim("full", "grows", json!({})).await;
    place.claim("roomy", "grows", json!({})).await;
    place.claim("unmanaged", "grows", json!({ "vex.knitfab/managed": "false" })).await;
    place.claim("read", "grows", json!({})).await;
    place.claim("fixed", "fixed", json!({})).await;
    let node = format!("nowhere-{}", std::process::id());
    place.writer(&node, &["full", "roomy", "unmanaged", "fixed"]).await;

    let stats = MadeUp::default();
    let of = |used| Filling { used, available: 100 * GI, file_system: 500 * GI };
    for (name, used) in [("full", GI), ("roomy", 0), ("unmanaged", GI), ("read", GI), ("fixed", GI), ("gone", GI)] {
        stats.0.lock().unwrap().insert((place.name.clone(), name.to_owned()), of(used));
    }
    let settings = Settings {
        node,
        namespaces: vec![place.name.clone()],
        margin: GI / 2,
        delta: GI,
        interval: Duration::from_secs(1),
    };
    let metrics = Arc::new(Metrics::default());
    let mut expander = Expander::new(settings, place.client.clone(), stats.clone(), Arc::clone(&metrics));
    for _ in 0..3 {
        expander.look().await;
    }

    let mut found = BTreeMap::new();
    for name in ["full", "roomy", "unmanaged", "read", "fixed"] {
        found.insert(name, place.asks_for(name).await);
    }
    let figures = metrics.text();
    place.remove().await;
    let left = |name| (name, "1Gi".to_owned());
    let expected = [left("fixed"), ("full", "3G".to_owned()), left("read"), left("roomy"), left("unmanaged")];
    assert_eq!(found, BTreeMap::from(expected));
    assert!(figures.contains("knitd_volume_expansions_total{outcome=\"ok\"} 1\n"), "made larger once: {figures}");
    assert!(figures.contains("knitd_volume_expansions_total{outcome=\"failed\"} 1\n"), "tried once: {figures}");
}

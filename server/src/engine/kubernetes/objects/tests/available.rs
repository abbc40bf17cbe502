//! The fields that we use, all of them generally available since Kubernetes 1.20 or before. The types that objects
//! are made of know newer ones too, which an older API server would drop without a word.

use super::*;
use std::collections::BTreeSet;

/// Maps with keys of ours or of others: labels, amounts, fields of Secrets.
const MAPS: [&str; 5] = ["labels", "requests", "limits", "data", "matchLabels"];

const METADATA: [&str; 2] = ["metadata.name", "metadata.labels"];

const CLAIM: [&str; 3] = ["spec.accessModes[]", "spec.storageClassName", "spec.resources.requests"];

const SECRET: [&str; 6] = [
    "type",
    "data",
    "metadata.ownerReferences[].apiVersion",
    "metadata.ownerReferences[].kind",
    "metadata.ownerReferences[].name",
    "metadata.ownerReferences[].uid",
];

const JOB: [&str; 4] = ["spec.parallelism", "spec.completions", "spec.backoffLimit", "spec.template.metadata.labels"];

/// Of a Pod, below its `spec`.
const POD: [&str; 28] = [
    "activeDeadlineSeconds",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "priorityClassName",
    "restartPolicy",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].weight",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].preference.matchExpressions[].key",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].preference.matchExpressions[].operator",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].preference.matchExpressions[].values[]",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[].matchExpressions[].key",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[].matchExpressions[].operator",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[].matchExpressions[].values[]",
    "tolerations[].key",
    "tolerations[].operator",
    "tolerations[].value",
    "tolerations[].effect",
    "volumes[].name",
    "volumes[].emptyDir",
    "volumes[].persistentVolumeClaim.claimName",
    "volumes[].secret.secretName",
    "volumes[].secret.defaultMode",
    "containers[].ports[].name",
    "containers[].ports[].containerPort",
    "containers[].ports[].protocol",
    "containers[].readinessProbe.tcpSocket.port",
    "containers[].readinessProbe.periodSeconds",
];

/// The same once more, beyond what one list holds at a glance: of each container.
const CONTAINER: [&str; 15] = [
    "name",
    "image",
    "command[]",
    "args[]",
    "terminationMessagePolicy",
    "resources.requests",
    "resources.limits",
    "securityContext.runAsUser",
    "securityContext.allowPrivilegeEscalation",
    "securityContext.capabilities.add[]",
    "securityContext.capabilities.drop[]",
    "volumeMounts[].name",
    "volumeMounts[].mountPath",
    "volumeMounts[].readOnly",
    "readinessProbe.failureThreshold",
];

/// Every path at which there is a value.
fn paths(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    let last = at.rsplit('.').next().unwrap_or(at);
    match value {
        Value::Object(members) if !members.is_empty() && !MAPS.contains(&last) => {
            for (name, member) in members {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                paths(&at, member, found);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|one| paths(&format!("{at}[]"), one, found)),
        _ => {
            found.insert(at.to_owned());
        }
    }
}

fn of_pod(at: &str) -> Vec<String> {
    let mut all: Vec<String> = POD.iter().map(|field| format!("{at}.{field}")).collect();
    for list in ["containers", "initContainers"] {
        all.extend(CONTAINER.iter().map(|field| format!("{at}.{list}[].{field}")));
    }
    all
}

#[test]
fn only_fields_that_older_and_newer_clusters_have_are_used() {
    let owner = OwnerReference { kind: "Job".to_owned(), ..OwnerReference::default() };
    let data = BTreeMap::from([("token".to_owned(), vec![])]);
    let job: Job = job(&work(), &command(), &settings()).unwrap();
    let objects = [
        (json!(volume::claim(&volume("d"), &settings())), CLAIM.map(ToOwned::to_owned).to_vec()),
        (json!(secret("s", data, Labels::default(), Some(owner))), SECRET.map(ToOwned::to_owned).to_vec()),
        (json!(job), [JOB.map(ToOwned::to_owned).to_vec(), of_pod("spec.template.spec")].concat()),
        (json!(agent::pod(&agent_spec(Mode::Write), &settings())), of_pod("spec")),
    ];
    for (object, fields) in objects {
        let always = ["apiVersion", "kind"].into_iter().chain(METADATA).map(ToOwned::to_owned);
        let available: BTreeSet<String> = always.chain(fields).collect();
        let mut used = BTreeSet::new();
        paths("", &object, &mut used);
        let others: Vec<_> = used.difference(&available).collect();
        assert!(others.is_empty(), "{}: {others:?}", object["kind"]);
    }
}

#[test]
fn a_field_that_is_not_on_the_list_is_found() {
    let mut found = BTreeSet::new();
    let object = json!({"spec": {"a": [{"b": 1}, {"c": []}], "labels": {"x": 1}, "empty": {}}});
    paths("", &object, &mut found);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["spec.a[].b", "spec.empty", "spec.labels"]);
}

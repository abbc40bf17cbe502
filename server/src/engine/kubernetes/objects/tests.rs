//! Each object, member by member.

mod available;
mod scheduling;

use super::agent::{AgentSpec, Mode};
use super::worker::{MainCommand, image_on_node, job};
use super::*;
use crate::engine::{EngineError, Mount, Work};
use crate::settings::{Cluster, Reach};
use k8s_openapi::api::batch::v1::Job;
use knit_api::plan::OnNode;
use serde_json::{Value, json};
use std::time::Duration;

fn settings() -> Cluster {
    Cluster {
        kubeconfig: None,
        namespace: "knit".to_owned(),
        image: "localhost/knitd:1".to_owned(),
        storage_class: Some("shared".to_owned()),
        initial_capacity: "1Gi".parse().unwrap(),
        worker_priority: Some("knit-worker-priority".to_owned()),
        registry: "localhost:30503".to_owned(),
        registry_from_here: "image-registry:5000".to_owned(),
        reach: Reach::Direct,
        agent_idle: Duration::from_secs(30),
        start_grace: Duration::from_mins(2),
        stray_grace: Duration::from_mins(5),
        log_limit: 1 << 20,
    }
}

fn volume(id: &str) -> Volume {
    Volume::of(&id.into())
}

fn at(path: &str, id: &str) -> Mount {
    Mount { path: path.to_owned(), volume: volume(id) }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn resources(pairs: &[(&str, &str)]) -> Resources {
    pairs.iter().map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap())).collect()
}

/// A worker that uses everything.
fn work() -> Work {
    Work {
        run: "r1".into(),
        plan: "p1".into(),
        image: "train:v1".parse().unwrap(),
        entrypoint: vec![],
        args: vec![],
        // One Data on two inputs.
        inputs: vec![at("/in/a", "d1"), at("/in/b", "d1"), at("/in/c", "d2")],
        outputs: vec![at("/out/model", "o1"), at("/out/metrics", "o2")],
        log: Some(volume("l1")),
        resources: resources(&[("cpu", "2"), ("memory", "4Gi"), ("nvidia.com/gpu", "1")]),
        on_node: OnNode {
            may: vec!["a=1".parse().unwrap()],
            prefer: vec!["b=2".parse().unwrap()],
            must: vec!["c=3".parse().unwrap()],
        },
        service_account: "trainer".to_owned(),
    }
}

fn command() -> MainCommand {
    MainCommand { entrypoint: words(&["python", "-c"]), args: words(&["print('$(HOME) $$')"]) }
}

/// The Job of the work that this makes of [`work`], as JSON.
fn job_of(change: impl FnOnce(&mut Work)) -> Value {
    let mut work = work();
    change(&mut work);
    serde_json::to_value(job(&work, &command(), &settings()).unwrap()).unwrap()
}

/// The containers of that name.
fn container<'a>(job: &'a Value, name: &str) -> &'a Value {
    let spec = &job["spec"]["template"]["spec"];
    let all = spec["initContainers"].as_array().into_iter().chain(spec["containers"].as_array()).flatten();
    all.into_iter().find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

fn mounts(container: &Value) -> Vec<(&str, &str, bool)> {
    let all = container["volumeMounts"].as_array().unwrap();
    all.iter()
        .map(|one| {
            let read_only = one["readOnly"].as_bool().unwrap_or(false);
            (one["name"].as_str().unwrap(), one["mountPath"].as_str().unwrap(), read_only)
        })
        .collect()
}

const LABELS: [(&str, &str); 3] = [
    ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
    ("app.kubernetes.io/part-of", "knit"),
    ("app.kubernetes.io/managed-by", "knit"),
];

/// The labels of the reference for one object.
fn labelled(component: &str, instance: &str, own: &[(&str, &str)]) -> Value {
    let mut labels: serde_json::Map<String, Value> =
        LABELS.iter().chain(own).map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    labels.insert("app.kubernetes.io/name".to_owned(), json!(component));
    labels.insert("app.kubernetes.io/component".to_owned(), json!(component));
    labels.insert("app.kubernetes.io/instance".to_owned(), json!(instance));
    Value::Object(labels)
}

#[test]
fn a_volume_is_claimed_by_its_name_with_the_labels_of_the_reference() {
    let claim = serde_json::to_value(volume::claim(&volume("d1"), &settings())).unwrap();
    assert_eq!(
        claim,
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": "data-knitid-d1",
                "labels": labelled("data", "data-knitid-d1", &[("knit/data.knitid", "d1")]),
            },
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "shared",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        })
    );
    let default = volume::claim(&volume("d1"), &Cluster { storage_class: None, ..settings() });
    assert_eq!(default.spec.unwrap().storage_class_name, None);
}

#[test]
fn a_secret_goes_with_its_owner() {
    let owner = OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: "worker-run-r1".to_owned(),
        uid: "u".to_owned(),
        ..OwnerReference::default()
    };
    let data = BTreeMap::from([("token".to_owned(), b"t".to_vec())]);
    let made = secret("worker-run-r1", data.clone(), Labels::default(), Some(owner));
    let made = serde_json::to_value(made).unwrap();
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u");
    assert_eq!((&made["type"], &made["data"]["token"]), (&json!("Opaque"), &json!("dA==")));
    assert_eq!(secret("s", data, Labels::default(), None).metadata.owner_references, None);
}

#[test]
fn a_worker_is_a_job_that_is_never_repeated_with_one_pod_and_the_labels_on_both() {
    let job = job_of(|_| ());
    let own = [("knit/worker.runid", "r1"), ("knit/worker.run", "r1"), ("knit/worker.plan", "p1")];
    let labels = labelled("worker", "worker-run-r1", &own);
    assert_eq!(job["metadata"], json!({"name": "worker-run-r1", "labels": labels}));
    assert_eq!(job["spec"]["template"]["metadata"], json!({"labels": labels}));
    let spec = &job["spec"];
    assert_eq!((&spec["parallelism"], &spec["completions"], &spec["backoffLimit"]), (&json!(1), &json!(1), &json!(0)));
    let pod = &spec["template"]["spec"];
    for (member, value) in [
        ("restartPolicy", json!("Never")),
        ("enableServiceLinks", json!(false)),
        ("automountServiceAccountToken", json!(true)),
        ("serviceAccountName", json!("trainer")),
        ("priorityClassName", json!("knit-worker-priority")),
        ("terminationGracePeriodSeconds", json!(30)),
    ] {
        assert_eq!(pod[member], value, "{member}");
    }
    let claims: Vec<_> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["persistentVolumeClaim"]["claimName"].clone())
        .collect();
    let names = ["d1", "d2", "l1", "o1", "o2"].map(|id| json!(format!("data-knitid-{id}")));
    assert_eq!(claims, [&names[..], &[Value::Null, Value::Null]].concat());
    assert_eq!(pod["volumes"][5], json!({"name": "knit", "emptyDir": {}}));
    let credentials = json!({"secretName": "worker-run-r1", "defaultMode": 0o400});
    assert_eq!(pod["volumes"][6], json!({"name": "credentials", "secret": credentials}));
    assert!(pod["tolerations"].is_array() && pod["affinity"]["nodeAffinity"].is_object());
}

#[test]
fn a_worker_without_account_priority_log_or_nodes_has_no_trace_of_them() {
    let mut work = work();
    (work.service_account, work.log, work.on_node) = (String::new(), None, OnNode::default());
    let settings = Cluster { worker_priority: None, ..settings() };
    let job = serde_json::to_value(job(&work, &command(), &settings).unwrap()).unwrap();
    let pod = &job["spec"]["template"]["spec"];
    for absent in ["serviceAccountName", "priorityClassName", "tolerations", "affinity"] {
        assert_eq!(pod[absent], Value::Null, "{absent}");
    }
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(container(&job, "init-log"), &Value::Null);
    let args = container(&job, "nurse")["args"].as_array().unwrap();
    assert!(args.iter().all(|arg| arg != "--log"), "{args:?}");
}

#[test]
fn the_containers_of_a_worker_start_in_order_and_each_has_what_it_needs() {
    let job = job_of(|_| ());
    let pod = &job["spec"]["template"]["spec"];
    let names =
        |list: &str| -> Vec<Value> { pod[list].as_array().unwrap().iter().map(|one| one["name"].clone()).collect() };
    assert_eq!(names("initContainers"), ["init-main", "init-log"]);
    assert_eq!(names("containers"), ["nurse", "main"]);

    let check = container(&job, "init-main");
    let outputs = ["/volumes/data-knitid-o1", "/volumes/data-knitid-o2"];
    let args = ["check-empty", "--install", "/.knit/knitd", outputs[0], outputs[1]];
    assert_eq!((&check["command"], &check["args"]), (&json!(["/knitd"]), &json!(args)));
    assert_eq!(
        mounts(check),
        [("data-knitid-o1", outputs[0], false), ("data-knitid-o2", outputs[1], false), ("knit", "/.knit", false)]
    );

    let check = container(&job, "init-log");
    assert_eq!(check["args"], json!(["check-empty", "/volumes/data-knitid-l1"]));
    assert_eq!(mounts(check), [("data-knitid-l1", "/volumes/data-knitid-l1", false)]);

    let recorder = container(&job, "nurse");
    let line = "record-log --volumes /volumes --shared /.knit --credentials /credentials --port 18082 \
                --output data-knitid-o1 --output data-knitid-o2 --log data-knitid-l1 --log-limit 1048576";
    assert_eq!(recorder["args"], json!(line.split_whitespace().collect::<Vec<_>>()));
    assert_eq!(recorder["ports"], json!([{"name": "door", "containerPort": 18082, "protocol": "TCP"}]));
    assert_eq!(
        mounts(recorder),
        [
            ("data-knitid-o1", outputs[0], false),
            ("data-knitid-o2", outputs[1], false),
            ("data-knitid-l1", "/volumes/data-knitid-l1", false),
            ("knit", "/.knit", false),
            ("credentials", "/credentials", true),
        ]
    );

    let main = container(&job, "main");
    assert_eq!(main["image"], "localhost:30503/train:v1");
    assert_eq!(
        mounts(main),
        [
            ("data-knitid-d1", "/in/a", true),
            ("data-knitid-d1", "/in/b", true),
            ("data-knitid-d2", "/in/c", true),
            ("data-knitid-o1", "/out/model", false),
            ("data-knitid-o2", "/out/metrics", false),
            ("knit", "/.knit", true),
        ]
    );
}

#[test]
fn main_is_started_through_wrap_with_its_words_as_they_stand() {
    let job = job_of(|_| ());
    let main = container(&job, "main");
    // Kubernetes makes of each two dollars one.
    let told = ["/.knit/knitd", "wrap", "--", "python", "-c", "print('$$(HOME) $$$$')"];
    assert_eq!((&main["command"], &main["args"]), (&json!(told), &Value::Null));
}

#[test]
fn containers_of_ours_may_only_handle_files_and_main_makes_no_devices() {
    let job = job_of(|_| ());
    for name in ["init-main", "init-log", "nurse"] {
        let one = container(&job, name);
        assert_eq!(one["image"], "localhost/knitd:1", "{name}");
        let may = json!({"add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"], "drop": ["ALL"]});
        let confined = json!({"allowPrivilegeEscalation": false, "runAsUser": 0, "capabilities": may});
        assert_eq!(one["securityContext"], confined, "{name}");
        assert_eq!(one["resources"]["requests"], json!({"cpu": "50m", "memory": "100Mi"}), "{name}");
        assert_eq!(one["terminationMessagePolicy"], "FallbackToLogsOnError", "{name}");
    }
    let shut_in = json!({"capabilities": {"drop": ["MKNOD", "NET_RAW"]}});
    assert_eq!(container(&job, "main")["securityContext"], shut_in);
}

#[test]
fn what_a_plan_asks_for_is_set_aside_and_is_the_most_with_defaults_for_what_it_leaves_out() {
    for (asked, granted) in [
        (&[("cpu", "2"), ("memory", "4Gi"), ("nvidia.com/gpu", "1")][..], [("cpu", "2"), ("memory", "4Gi")]),
        (&[("cpu", "500m")], [("cpu", "500m"), ("memory", "1Gi")]),
        (&[], [("cpu", "1"), ("memory", "1Gi")]),
    ] {
        let job = job_of(|work| work.resources = resources(asked));
        let given = &container(&job, "main")["resources"];
        assert_eq!(given["limits"], given["requests"]);
        for (name, amount) in asked.iter().chain(&granted) {
            assert_eq!(given["limits"][name], *amount, "{asked:?}");
        }
    }
    assert_eq!(default_resources(), resources(&[("cpu", "1"), ("memory", "1Gi")]));
}

#[test]
fn an_image_without_a_host_is_fetched_from_the_built_in_registry_as_nodes_call_it() {
    let elsewhere = Cluster { registry: "localhost:31111".to_owned(), ..settings() };
    for (image, on_node) in [
        ("train:v1", "localhost:31111/train:v1"),
        ("team/train", "localhost:31111/team/train:latest"),
        ("localhost:30503/team/train:v1", "localhost:31111/team/train:v1"),
        ("localhost:31111/train:v1", "localhost:31111/train:v1"),
        ("localhost:5000/train:v1", "localhost:5000/train:v1"),
        ("localhost/busybox:1", "localhost/busybox:1"),
        ("ghcr.io/team/train:v1", "ghcr.io/team/train:v1"),
    ] {
        assert_eq!(image_on_node(&image.parse().unwrap(), &elsewhere), on_node, "{image}");
    }
}

type Change = Box<dyn Fn(&mut Work, &mut MainCommand)>;

#[test]
fn work_that_would_harm_data_or_that_no_cluster_takes_is_refused_with_the_reason() {
    let refusal = |change: &dyn Fn(&mut Work, &mut MainCommand)| -> String {
        let (mut work, mut main) = (work(), command());
        change(&mut work, &mut main);
        match job(&work, &main, &settings()) {
            Err(EngineError::Failed { what, cause }) => {
                assert_eq!(what, "making the worker of Run r1");
                cause
            }
            other => panic!("{other:?}"),
        }
    };
    let of_work = |change: fn(&mut Work)| -> Change { Box::new(move |work, _| change(work)) };
    let cases: [(Change, &str); 13] = [
        (of_work(|work| work.image.tag.clear()), "no image with a tag"),
        (of_work(|work| work.image.repository.clear()), "no image with a tag"),
        (Box::new(|_, main| *main = MainCommand::default()), "says what to execute"),
        (of_work(|work| work.inputs[0].path.clear()), "nothing can be mounted at \"\""),
        (of_work(|work| work.inputs[0].path = "in".to_owned()), "nothing can be mounted at \"in\""),
        (of_work(|work| work.outputs[0].path = "/".to_owned()), "nothing can be mounted at \"/\""),
        (of_work(|work| work.outputs[0].path = "/.knit/x".to_owned()), "nothing can be mounted at \"/.knit/x\""),
        (of_work(|work| work.outputs[0].path = "/a:b".to_owned()), "no colon"),
        (of_work(|work| work.outputs[0].path = "/in/a".to_owned()), "two volumes are to be mounted at /in/a"),
        (of_work(|work| work.outputs[0].volume = Volume::from_stored("")), "not the name of a volume"),
        (of_work(|work| work.outputs[1].volume = volume("o1")), "data-knitid-o1 is to be filled by two outputs"),
        (of_work(|work| work.log = Some(volume("o1"))), "data-knitid-o1 is to be filled by two outputs"),
        (of_work(|work| work.inputs[2].volume = volume("o1")), "is an input and an output"),
    ];
    for (n, (change, says)) in cases.iter().enumerate() {
        let cause = refusal(change);
        assert!(cause.contains(says), "{n}: {cause}");
    }
    assert!(job(&work(), &command(), &settings()).is_ok());
}

fn agent_spec(mode: Mode) -> AgentSpec {
    AgentSpec {
        name: "knitid-d1-read-0a1b2c".to_owned(),
        volumes: vec![volume("d1"), volume("d2")],
        mode,
        deadline: Duration::from_hours(1),
    }
}

#[test]
fn an_agent_is_a_pod_beside_its_volumes_that_reads_them_or_writes() {
    for (mode, word, read_only) in [(Mode::Read, "read", true), (Mode::Write, "write", false)] {
        let pod = serde_json::to_value(agent::pod(&agent_spec(mode), &settings())).unwrap();
        let own = [("knit/dataagt.knitid", "d1"), ("knit/dataagt.mode", word)];
        let labels = labelled("dataagt", "knitid-d1-read-0a1b2c", &own);
        assert_eq!(pod["metadata"], json!({"name": "knitid-d1-read-0a1b2c", "labels": labels}));
        let spec = &pod["spec"];
        for (member, value) in [
            ("restartPolicy", json!("Never")),
            ("automountServiceAccountToken", json!(false)),
            ("activeDeadlineSeconds", json!(3600)),
            ("enableServiceLinks", json!(false)),
        ] {
            assert_eq!(spec[member], value, "{member}");
        }
        assert_eq!(spec["volumes"][3]["secret"]["secretName"], "knitid-d1-read-0a1b2c");
        let container = &spec["containers"][0];
        assert_eq!(container["name"], "dataagt");
        let line = format!(
            "agent --volumes /volumes --mode {word} --credentials /credentials --scratch /scratch --port 18082 --idle 150s"
        );
        assert_eq!(container["args"], json!(line.split_whitespace().collect::<Vec<_>>()));
        assert_eq!(
            mounts(container),
            [
                ("data-knitid-d1", "/volumes/data-knitid-d1", read_only),
                ("data-knitid-d2", "/volumes/data-knitid-d2", read_only),
                ("scratch", "/scratch", false),
                ("credentials", "/credentials", true),
            ]
        );
        let probe = json!({"tcpSocket": {"port": "door"}, "periodSeconds": 1, "failureThreshold": 3});
        assert_eq!(container["readinessProbe"], probe);
    }
}

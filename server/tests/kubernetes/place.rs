//! A namespace with an engine on it; both go with the test.

use futures_util::future::BoxFuture;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knit_api::id::{PlanId, RunId};
use knit_api::label::worker_name;
use knit_server::clock;
use knit_server::engine::kubernetes::KubernetesEngine;
use knit_server::engine::kubernetes::objects::worker::worker_labels;
use knit_server::engine::{Engine as _, EngineEvent, Observation, Work};
use knit_server::settings::{Cluster, Reach};
use knit_server::store::Store;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

/// How long the cluster may take for what follows by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The grace of what keeps a worker from starting.
pub(crate) const START_GRACE: Duration = Duration::from_secs(8);
/// On every namespace of a test: what an interrupted run leaves is found by it.
const LABEL: &str = "knit-tests/engine";

/// A namespace with an engine on it.
pub(crate) struct Place {
    pub(crate) engine: KubernetesEngine,
    pub(crate) events: UnboundedReceiver<EngineEvent>,
    pub(crate) kube: kube::Client,
    namespace: String,
    kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    /// A fresh one; none, and a loud line, without a cluster.
    pub(crate) async fn new() -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os("KUBECONFIG").map(PathBuf::from) else {
            let test = std::thread::current().name().unwrap_or("a_test").to_owned();
            knit_tests::able::skipped(&test, "KUBECONFIG leads to no cluster");
            return None;
        };
        let kube = client(&kubeconfig).await;
        let namespace = format!("engine-{}", &clock::new_id()[..8]);
        make_namespace(&kube, &namespace).await;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("state.db")).await.unwrap();
        let engine = KubernetesEngine::open(settings(Some(kubeconfig.clone()), &namespace), store).await.unwrap();
        let events = engine.events();
        Some(Self { engine, events, kube, namespace, kubeconfig, _folder: folder })
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// Makes a Job like a worker's that only executes this in a shell.
    pub(crate) async fn stand_in(&self, run: &RunId, script: &str) -> Job {
        self.stand_in_with(run, main(script)).await
    }

    /// The same, with this as main.
    pub(crate) async fn stand_in_with(&self, run: &RunId, main: Container) -> Job {
        let job = stand_in(run, main);
        self.api::<Job>().create(&PostParams::default(), &job).await.unwrap()
    }

    /// Observes the worker, now and at each sign of it, until it looks like this.
    #[track_caller]
    pub(crate) fn sees<'a, T: Send + 'a>(
        &'a mut self,
        run: &'a RunId,
        mut like: impl FnMut(&Observation) -> Option<T> + Send + 'a,
    ) -> BoxFuture<'a, T> {
        let caller = std::panic::Location::caller();
        Box::pin(async move {
            let mut last = None;
            let seen = timeout(PATIENCE, async {
                loop {
                    let now = self.engine.observe(run).await.unwrap();
                    if let Some(found) = like(&now) {
                        return found;
                    }
                    last = Some(now);
                    self.sign_of(run).await;
                }
            });
            let Ok(found) = seen.await else { panic!("{caller}: the worker never looked so; at last: {last:?}") };
            found
        })
    }

    /// Waits for a sign of this worker.
    pub(crate) async fn sign_of(&mut self, run: &RunId) {
        self.event(|event| *event == EngineEvent::Worker(run.clone())).await;
    }

    /// Waits until the engine says this.
    pub(crate) async fn event(&mut self, is_it: impl Fn(&EngineEvent) -> bool) {
        let wanted = async {
            while let Some(event) = self.events.recv().await {
                if is_it(&event) {
                    return;
                }
            }
            panic!("the engine says no more");
        };
        timeout(PATIENCE, wanted).await.expect("a sign within the time");
    }

    /// The Pods of a worker that have not ended.
    pub(crate) async fn living(&self, run: &RunId) -> Vec<Pod> {
        let which = kube::api::ListParams::default().labels(&format!("knit/worker.runid={run}"));
        let mut pods = self.api::<Pod>().list(&which).await.unwrap().items;
        pods.retain(|pod| !matches!(phase(pod), "Succeeded" | "Failed"));
        pods
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (kubeconfig, namespace) = (self.kubeconfig.clone(), self.namespace.clone());
        // With a client of its own: the connections of the other one rest while this thread waits. No claims here: a
        // second panic would hide the first. The cluster goes on by itself.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let namespaces = Api::<Namespace>::all(client(&kubeconfig).await);
                let removal = namespaces.delete(&namespace, &DeleteParams::default()).await;
                removal.map(drop).map_err(std::io::Error::other)
            })
        });
        let _ = removal.join();
    }
}

/// The settings of an engine in this namespace.
pub(crate) fn settings(kubeconfig: Option<PathBuf>, namespace: &str) -> Cluster {
    Cluster {
        kubeconfig,
        namespace: namespace.to_owned(),
        image: std::env::var("KNIT_TESTS_IMAGE").unwrap_or_else(|_| "localhost/knitd:tests".to_owned()),
        storage_class: None,
        initial_capacity: "16Mi".parse().unwrap(),
        worker_priority: None,
        // So that images which the node has can be named without a registry.
        registry: "localhost".to_owned(),
        registry_from_here: "localhost:30503".to_owned(),
        reach: Reach::Direct,
        agent_idle: Duration::from_secs(10),
        start_grace: START_GRACE,
        stray_grace: Duration::from_mins(5),
        log_limit: 1 << 30,
    }
}

/// A Run that executes this, with nothing in and nothing out.
pub(crate) fn work(run: &RunId, image: &str) -> Work {
    Work {
        run: run.clone(),
        plan: PlanId::new("plan"),
        image: image.parse().unwrap(),
        entrypoint: vec!["/bin/true".to_owned()],
        args: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        log: None,
        resources: knit_api::plan::Resources::new(),
        on_node: knit_api::plan::OnNode::default(),
        service_account: String::new(),
    }
}

/// A container that executes this in a shell.
pub(crate) fn main(script: &str) -> Container {
    Container {
        name: "main".to_owned(),
        image: Some("localhost/busybox:1".to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(["/bin/sh", "-c", script].map(ToOwned::to_owned).into()),
        ..Container::default()
    }
}

fn stand_in(run: &RunId, main: Container) -> Job {
    let labels = worker_labels(run, &PlanId::new("plan"));
    let spec = PodSpec {
        containers: vec![main],
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        ..PodSpec::default()
    };
    Job {
        metadata: ObjectMeta { name: Some(worker_name(run)), labels: Some(labels.clone()), ..ObjectMeta::default() },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(spec),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

async fn client(kubeconfig: &Path) -> kube::Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

async fn make_namespace(kube: &kube::Client, name: &str) {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(LABEL.to_owned(), "yes".to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Api::<Namespace>::all(kube.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    // A namespace takes no Pod before its service account is complete, which is announced nowhere.
    let trial = Pod {
        metadata: ObjectMeta { name: Some("trial".to_owned()), ..ObjectMeta::default() },
        spec: Some(PodSpec { containers: vec![main("true")], ..PodSpec::default() }),
        ..Pod::default()
    };
    let pods: Api<Pod> = Api::namespaced(kube.clone(), name);
    let takes_pods = async {
        while pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &trial).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, takes_pods).await.expect("a namespace that takes Pods");
}

//! An engine in memory, for tests of what uses an engine: volumes are bytes, workers end when a test
//! says so, and everything that was asked of it can be looked at.

#![allow(dead_code, reason = "each test program uses its part")]

use async_trait::async_trait;
use axum::body::Bytes;
use futures_util::{StreamExt, stream};
use knit_api::bundle::Selection;
use knit_api::cluster::{Node, Taint};
use knit_api::content::{Check, Checked};
use knit_api::id::RunId;
use knit_api::plan::Resources;
use knit_api::run::Exit;
use knit_server::app::App;
use knit_server::content::ContentStore;
use knit_server::engine::{
    ByteStream, Checks, Engine, EngineError, EngineEvent, EngineStatus, Entry, Form, Manifest, Observation, Registered,
    Sealed, Started, Volume, Work,
};
use knit_server::metrics::Metrics;
use knit_server::settings::{Cluster, Layout, Reach, Settings, WorkerNetwork};
use knit_server::store::Store;
use knit_server::wake::Wake;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Digest that the fake engine reports for every image.
pub(crate) const IMAGE_DIGEST: &str = "sha256:0123";

pub(crate) struct FakeEngine {
    state: Mutex<State>,
    /// What `tidy` was last asked with.
    pub(crate) tidied: watch::Sender<Option<SystemTime>>,
    /// To each process that uses this engine.
    events: Mutex<Vec<mpsc::UnboundedSender<EngineEvent>>>,
    /// Opened when those who are stuck may go on.
    unstuck: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) volumes: BTreeMap<String, Vec<u8>>,
    pub(crate) workers: BTreeMap<RunId, Observation>,
    /// Everything that was ever started, in order.
    pub(crate) started: Vec<Work>,
    /// Graces with which workers were removed, in order.
    pub(crate) removed: Vec<(RunId, Duration)>,
    /// Places for workers; 0 for any number.
    pub(crate) room: usize,
    /// How many places a worker of an image takes when it is not one.
    pub(crate) places: BTreeMap<String, usize>,
    /// With this code every worker ends as soon as it starts.
    pub(crate) ends_at_once: Option<u8>,
    /// What `start` answers instead.
    pub(crate) never_fits: Option<String>,
    /// Looks at workers that do not come to an end, and how often still.
    pub(crate) stuck: u32,
    /// Operations that fail, and how often still.
    pub(crate) failing: BTreeMap<&'static str, u32>,
    /// What `seal` reports as left out.
    pub(crate) left_out: Vec<String>,
    /// Why `seal` refuses all content, if it does.
    pub(crate) refused: Option<String>,
    /// Streams out of the engine break off after their first bytes.
    pub(crate) breaks_off: bool,
}

impl FakeEngine {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            tidied: watch::Sender::new(None),
            events: Mutex::default(),
            unstuck: Notify::new(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn tell(&self, event: EngineEvent) {
        self.events.lock().unwrap().retain(|process| process.send(event.clone()).is_ok());
    }

    /// Looks that are stuck come to their end.
    pub(crate) fn unstick(&self) {
        self.unstuck.notify_waiters();
    }

    /// The worker's process has begun.
    pub(crate) fn begin(&self, run: &RunId) {
        self.state().workers.insert(run.clone(), running());
        self.tell(EngineEvent::Worker(run.clone()));
    }

    /// The worker's process ends.
    pub(crate) fn end(&self, run: &RunId, code: u8, message: &str) {
        self.state().workers.insert(run.clone(), ended(code, message));
        self.tell(EngineEvent::Worker(run.clone()));
    }

    /// The worker vanishes without a trace.
    pub(crate) fn lose(&self, run: &RunId) {
        self.state().workers.remove(run);
        self.tell(EngineEvent::Worker(run.clone()));
    }

    fn fails(&self, operation: &'static str) -> Result<(), EngineError> {
        match self.state().failing.get_mut(operation) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(EngineError::Failed { what: operation.to_owned(), cause: "the test says so".to_owned() })
            }
            _ => Ok(()),
        }
    }
}

fn running() -> Observation {
    Observation::Running { image_digest: IMAGE_DIGEST.to_owned() }
}

fn ended(code: u8, message: &str) -> Observation {
    Observation::Ended { exit: Exit { code, message: message.to_owned() }, image_digest: Some(IMAGE_DIGEST.to_owned()) }
}

fn sealed(bytes: &[u8], left_out: &[String]) -> Sealed {
    Sealed {
        digest: blake3::hash(bytes).to_hex().to_string(),
        entries: 1,
        bytes: bytes.len() as u64,
        left_out: left_out.to_vec(),
    }
}

fn missing(volume: &Volume) -> EngineError {
    EngineError::NotFound(volume.to_string())
}

#[async_trait]
impl Engine for FakeEngine {
    fn status(&self) -> EngineStatus {
        EngineStatus {
            name: "fake".to_owned(),
            detail: "in memory".to_owned(),
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            workers: self.state().workers.len(),
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>, EngineError> {
        self.fails("nodes")?;
        let amounts = |cpu: &str, memory: &str| {
            Resources::from([("cpu".to_owned(), cpu.parse().unwrap()), ("memory".to_owned(), memory.parse().unwrap())])
        };
        Ok(vec![Node {
            name: "memory".to_owned(),
            labels: vec!["disk=fast".parse().unwrap()],
            taints: vec![Taint { key: "gpu".into(), value: "yes".into(), effect: "NoSchedule".into() }],
            capacity: amounts("2", "1Gi"),
            in_use: amounts(&self.state().workers.len().to_string(), "0"),
        }])
    }

    fn default_resources(&self) -> Resources {
        Resources::from([("cpu".to_owned(), "1".parse().unwrap())])
    }

    async fn check(&self) -> Result<(), EngineError> {
        self.fails("check")
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let (events, receiver) = mpsc::unbounded_channel();
        self.events.lock().unwrap().push(events);
        receiver
    }

    async fn create_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.fails("create_volume")?;
        self.state().volumes.insert(volume.to_string(), Vec::new());
        Ok(())
    }

    async fn receive(&self, volume: &Volume, _: Form, mut body: ByteStream) -> Result<Sealed, EngineError> {
        self.fails("receive")?;
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| EngineError::BadContent(error.to_string()))?;
            bytes.extend_from_slice(&piece);
            // As a reader of an archive does, who stops at its end.
            if bytes.ends_with(b"END") {
                break;
            }
        }
        if bytes.starts_with(b"BAD") {
            return Err(EngineError::BadContent("the archive is damaged".to_owned()));
        }
        if bytes.starts_with(b"FULL") {
            return Err(EngineError::NoSpace(volume.to_string()));
        }
        let sealed = sealed(&bytes, &[]);
        self.state().volumes.insert(volume.to_string(), bytes);
        Ok(sealed)
    }

    async fn send(&self, volume: &Volume, form: Form, _: Option<&Registered>) -> Result<ByteStream, EngineError> {
        self.fails("send")?;
        let state = self.state();
        let bytes = state.volumes.get(volume.as_str()).ok_or_else(|| missing(volume))?;
        let text = [format!("{form:?}:").as_bytes(), bytes].concat();
        let first = stream::iter([Ok(Bytes::from(text))]);
        if !state.breaks_off {
            return Ok(Box::pin(first));
        }
        let broken = stream::once(async {
            // The first bytes leave before the end comes.
            tokio::task::yield_now().await;
            Err(std::io::Error::other("the test says so"))
        });
        Ok(Box::pin(first.chain(broken)))
    }

    async fn send_part(&self, volume: &Volume, form: Form, _: Selection) -> Result<ByteStream, EngineError> {
        self.send(volume, form, None).await
    }

    async fn look_up(&self, _: &str, path: &[u8]) -> Result<Entry, EngineError> {
        self.fails("look_up")?;
        Ok(if path.is_empty() { Entry::Directory } else { Entry::Absent })
    }

    async fn manifest(&self, digest: &str, _: Option<&[u8]>) -> Result<Manifest, EngineError> {
        self.fails("manifest")?;
        let text = Bytes::from(format!("manifest {digest}"));
        Ok(Manifest { length: Some(text.len() as u64), stream: Box::pin(stream::iter([Ok(text)])) })
    }

    async fn read(&self, volume: &Volume, _: &[u8], _: u64, _: Range<u64>) -> Result<ByteStream, EngineError> {
        Err(missing(volume))
    }

    async fn verify(&self, volume: &Volume, _: &str) -> Result<Checks, EngineError> {
        self.fails("verify")?;
        let bytes = self.state().volumes.get(volume.as_str()).ok_or_else(|| missing(volume))?.len() as u64;
        let done = Check::Done(Checked { entries: 1, bytes, differences: 0 });
        Ok(Box::pin(stream::iter([Ok(done)])))
    }

    async fn seal(&self, volume: &Volume) -> Result<Sealed, EngineError> {
        self.fails("seal")?;
        let state = self.state();
        if let Some(why) = &state.refused {
            return Err(EngineError::BadContent(why.clone()));
        }
        let bytes = state.volumes.get(volume.as_str()).ok_or_else(|| missing(volume))?;
        Ok(sealed(bytes, &state.left_out))
    }

    async fn remove_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.fails("remove_volume")?;
        self.state().volumes.remove(volume.as_str());
        Ok(())
    }

    async fn volumes(&self) -> Result<Vec<Volume>, EngineError> {
        Ok(self.state().volumes.keys().cloned().map(Volume::from_stored).collect())
    }

    async fn start(&self, work: &Work) -> Result<Started, EngineError> {
        self.fails("start")?;
        let mut state = self.state();
        if let Some(reason) = &state.never_fits {
            return Ok(Started::NeverFits { reason: reason.clone() });
        }
        if state.workers.contains_key(&work.run) {
            return Ok(Started::Accepted);
        }
        let place = |image: &str| state.places.get(image).copied().unwrap_or(1);
        let alive = state.started.iter().filter(|one| state.workers.contains_key(&one.run));
        let taken: usize = alive.map(|one| place(&one.image.repository)).sum();
        if state.room > 0 && taken + place(&work.image.repository) > state.room {
            return Ok(Started::NoRoom { reason: "all cpus are taken".to_owned() });
        }
        state.started.push(work.clone());
        for output in &work.outputs {
            let text = format!("made by {}", work.run);
            state.volumes.insert(output.volume.to_string(), text.into_bytes());
        }
        let first = state
            .ends_at_once
            .map_or_else(|| Observation::Preparing { reason: "fetching the image".to_owned() }, |code| ended(code, ""));
        state.workers.insert(work.run.clone(), first);
        self.tell(EngineEvent::Worker(work.run.clone()));
        Ok(Started::Accepted)
    }

    async fn observe(&self, run: &RunId) -> Result<Observation, EngineError> {
        self.fails("observe")?;
        let is_stuck = std::mem::replace(&mut self.state().stuck, 0);
        if is_stuck > 0 {
            self.state().stuck = is_stuck - 1;
            self.unstuck.notified().await;
        }
        Ok(self.state().workers.get(run).cloned().unwrap_or(Observation::Absent))
    }

    async fn remove_worker(&self, run: &RunId, grace: Duration) -> Result<(), EngineError> {
        self.fails("remove_worker")?;
        let mut state = self.state();
        state.removed.push((run.clone(), grace));
        if state.workers.remove(run).is_some() {
            self.tell(EngineEvent::Room);
        }
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<RunId>, EngineError> {
        Ok(self.state().workers.keys().cloned().collect())
    }

    async fn tidy(&self, before: SystemTime) -> Result<u64, EngineError> {
        self.tidied.send_replace(Some(before));
        self.fails("tidy")?;
        Ok(1)
    }

    async fn log(&self, _: &RunId, volume: &Volume, follow: bool) -> Result<ByteStream, EngineError> {
        self.fails("log")?;
        let state = self.state();
        if !state.volumes.contains_key(volume.as_str()) {
            return Err(missing(volume));
        }
        let text = if follow { "followed log\n" } else { "log so far\n" };
        Ok(Box::pin(stream::iter([Ok(Bytes::from(text))])))
    }
}

/// A server without sockets: a real store in a temporary folder and the engine in memory.
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) engine: Arc<FakeEngine>,
    _dir: tempfile::TempDir,
}

impl Server {
    /// The next process over the same store and engine.
    pub(crate) fn restarted(mut self) -> Self {
        self.app.stopping = CancellationToken::new();
        self.app.closing = CancellationToken::new();
        self.app.wake = Arc::new(Wake::default());
        self
    }
}

pub(crate) async fn server(token: Option<&str>) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let store = Store::open_sqlite(&layout.database()).await.unwrap();
    server_over(dir, token, store, FakeEngine::new())
}

/// One of several processes over one PostgreSQL database and one engine; `lease` is how long its claims hold.
pub(crate) async fn one_of_many(database: &str, engine: &Arc<FakeEngine>, lease: Duration) -> Server {
    let store = Store::open_postgres(database).await.unwrap();
    let mut server = server_over(tempfile::tempdir().unwrap(), None, store, Arc::clone(engine));
    let cluster = Cluster {
        kubeconfig: None,
        namespace: "default".to_owned(),
        image: "knitd".to_owned(),
        storage_class: None,
        initial_capacity: "1Gi".parse().unwrap(),
        worker_priority: None,
        registry: "localhost:30503".to_owned(),
        registry_from_here: "localhost:30503".to_owned(),
        reach: Reach::Direct,
        agent_idle: Duration::from_secs(30),
        start_grace: Duration::from_mins(2),
        stray_grace: Duration::from_mins(5),
        log_limit: 1 << 20,
    };
    let settings = Settings::clone(&server.app.settings);
    let database = Some(database.to_owned());
    server.app.settings = Arc::new(Settings { database, cluster: Some(cluster), lease, ..settings });
    server
}

fn server_over(dir: tempfile::TempDir, token: Option<&str>, store: Store, engine: Arc<FakeEngine>) -> Server {
    let layout = Layout::new(dir.path());
    let app = App {
        settings: Arc::new(Settings {
            layout: Some(layout.clone()),
            listen: "127.0.0.1:30803".parse().unwrap(),
            registry_listen: "127.0.0.1:30503".parse().unwrap(),
            metrics_listen: None,
            token: token.map(str::to_owned),
            tls: None,
            insecure_http: false,
            anonymous_pull: false,
            drain_delay: Duration::ZERO,
            worker_network: WorkerNetwork::None,
            grace: Duration::from_secs(7),
            log_limit: 1 << 20,
            roles: Settings::all_roles(),
            database: None,
            cluster: None,
            database_connections: knit_server::store::CONNECTIONS,
            lease: knit_server::settings::LEASE,
            housekeeping: knit_server::settings::HOUSEKEEPING,
        }),
        store,
        engine: Arc::clone(&engine) as Arc<dyn Engine>,
        content: Some(Arc::new(ContentStore::open(&layout.content()).unwrap())),
        wake: Arc::new(Wake::default()),
        metrics: Arc::new(Metrics::default()),
        stopping: CancellationToken::new(),
        closing: CancellationToken::new(),
    };
    Server { app, engine, _dir: dir }
}

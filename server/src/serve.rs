//! One server process from its start to its orderly end: `knitd serve`.

use crate::app::App;
use crate::content::ContentStore;
use crate::engine::Engine;
use crate::engine::kubernetes::KubernetesEngine;
use crate::engine::kubernetes::expansion::{self, Expander, Kubelet};
use crate::engine::local::images::Images;
use crate::engine::local::volumes::Volumes;
use crate::engine::local::{LocalEngine, WorkerSettings};
use crate::engine::measured::Measured;
use crate::http::health::Probed;
use crate::http::tls::{Speaks, Tls};
use crate::loops::{self, Loops, Stopped};
use crate::metrics::Metrics;
use crate::relay::Relay;
use crate::settings::{Layout, Role, Settings};
use crate::store::Store;
use crate::wake::Wake;
use crate::{http, private, registry};
use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long work that is neither a worker nor a request may take to end when the server stops.
const LAST_WORK: Duration = Duration::from_secs(10);
/// How long requests may take to end when all else is over.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// Where a started server listens; none for what is not its role.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// The API.
    pub api: Option<SocketAddr>,
    /// The registry.
    pub registry: Option<SocketAddr>,
    /// Probes and figures.
    pub metrics: Option<SocketAddr>,
}

/// The ports of this process, taken before anything is opened.
struct Ports {
    api: Option<TcpListener>,
    registry: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

/// A server process at work.
struct Process {
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    /// Cancelled when the process is asked to stop.
    stopping: CancellationToken,
    /// Cancelled when no request is taken any more.
    closing: CancellationToken,
    /// Cancelled when requests under way are cut off.
    cut: CancellationToken,
    /// Cancelled when nobody needs to be told any more how the process does.
    over: CancellationToken,
    /// Blobs of images, where this process has any.
    content: Option<Arc<ContentStore>>,
    /// All that is not the registry.
    app: Option<App>,
}

/// Serves until SIGTERM or SIGINT, then stops in order; a second signal ends the process at once.
/// `started` is called when requests are answered.
pub async fn serve(mut settings: Settings, started: impl FnOnce(Listening)) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let _lock = match &settings.layout {
        Some(layout) if settings.is_alone() => Some(lock(layout)?),
        _ => None,
    };
    let (ports, listening) = Ports::take(&mut settings).await?;
    let tls = settings.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
    let process = Process::open(settings).await?;
    let relay = process.app.as_ref().map(|app| Relay::start(&app.store, &app.wake));
    let loops = process.start_loops().await?;
    let (served, probes) = process.serve(ports, tls);
    process.announce(listening);
    started(listening);

    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    tokio::spawn(async move { signals.end_at_once().await });
    let stopped = process.stop(loops, relay, served).await;
    process.over.cancel();
    probes.join_all().await;
    stopped
}

/// Makes volumes of a node larger until SIGTERM or SIGINT.
pub async fn expand_volumes(
    settings: expansion::Settings,
    kubeconfig: Option<PathBuf>,
    metrics_listen: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let client = expansion::connect(kubeconfig.as_deref()).await?;
    let (metrics, stopping) = (Arc::new(Metrics::default()), CancellationToken::new());
    let mut work = JoinSet::new();
    if let Some(address) = metrics_listen {
        let port = bind("--metrics-listen", address).await?;
        let (store, content, folder) = (None, None, None);
        let probed = Probed { store, content, folder, metrics: Arc::clone(&metrics), stopping: stopping.clone() };
        work.spawn(http::serve::serve(port, http::health::service(probed), stopping.clone(), stopping.clone()));
    }
    let (node, namespaces) = (settings.node.clone(), settings.namespaces.join(","));
    let kubelet = Kubelet::new(client.clone(), settings.node.clone());
    work.spawn(Expander::new(settings, client, kubelet, metrics).run(stopping.clone()));
    tracing::info!(node, namespaces, "volumes that fill up are made larger");
    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    stopping.cancel();
    work.join_all().await;
    Ok(())
}

impl Ports {
    /// Takes the ports of this process's roles, and notes in the settings which ones they are.
    async fn take(settings: &mut Settings) -> anyhow::Result<(Self, Listening)> {
        let mut ports = Self { api: None, registry: None, metrics: None };
        let mut listening = Listening { api: None, registry: None, metrics: None };
        if settings.has_api() {
            let port = bind("--listen", settings.listen).await?;
            settings.listen = port.local_addr()?;
            (ports.api, listening.api) = (Some(port), Some(settings.listen));
        }
        if settings.plays(Role::Registry) {
            let port = bind("--registry-listen", settings.registry_listen).await?;
            settings.registry_listen = port.local_addr()?;
            (ports.registry, listening.registry) = (Some(port), Some(settings.registry_listen));
        }
        if let Some(address) = settings.metrics_listen {
            let port = bind("--metrics-listen", address).await?;
            listening.metrics = Some(port.local_addr()?);
            ports.metrics = Some(port);
        }
        Ok((ports, listening))
    }
}

impl Process {
    /// Opens everything that the roles need.
    async fn open(settings: Settings) -> anyhow::Result<Self> {
        if let Some(layout) = &settings.layout {
            prepare(layout, &settings)?;
        }
        let settings = Arc::new(settings);
        let content = open_content(&settings)?;
        let mut process = Self {
            settings,
            metrics: Arc::new(Metrics::default()),
            stopping: CancellationToken::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            over: CancellationToken::new(),
            content,
            app: None,
        };
        if !process.settings.is_only_registry() {
            process.app = Some(process.open_app().await?);
        }
        Ok(process)
    }

    async fn open_app(&self) -> anyhow::Result<App> {
        let settings = Arc::clone(&self.settings);
        let store = open_store(&settings).await?;
        let engine = open_engine(&settings, self.content.as_ref(), &store, &self.metrics).await?;
        Ok(App {
            settings,
            store,
            engine,
            content: self.content.clone(),
            wake: Arc::new(Wake::default()),
            metrics: Arc::clone(&self.metrics),
            stopping: self.stopping.clone(),
            closing: self.closing.clone(),
        })
    }

    async fn start_loops(&self) -> anyhow::Result<Loops> {
        match (&self.app, &self.content) {
            (Some(app), _) => Loops::start(app).await.context("taking over what the last process left behind"),
            (None, Some(content)) => Ok(Loops::of_registry(Arc::clone(content), self.stopping.clone())),
            (None, None) => bail!("there is nothing to serve"),
        }
    }

    /// Begins to answer: requests, and probes, which are answered for longer.
    fn serve(&self, ports: Ports, tls: Option<Arc<Tls>>) -> (JoinSet<()>, JoinSet<()>) {
        let (mut served, mut probes) = (JoinSet::new(), JoinSet::new());
        let (closing, cut) = (|| self.closing.clone(), || self.cut.clone());
        if let (Some(port), Some(app)) = (ports.api, &self.app) {
            let speaks = tls.clone().map_or(Speaks::Plain, Speaks::Tls);
            served.spawn(http::serve::serve_as(speaks, port, http::service(app.clone()), closing(), cut()));
        }
        if let (Some(port), Some(content)) = (ports.registry, &self.content) {
            let speaks = tls.map_or(Speaks::Plain, Speaks::Either);
            let auth = registry::Auth::new(self.settings.token.as_deref())
                .pulled_by_all(self.settings.anonymous_pull)
                .trusting_plain(self.settings.insecure_http);
            let registry = registry::router(Arc::clone(content), auth, Arc::clone(&self.metrics));
            served.spawn(http::serve::serve_as(speaks, port, registry, closing(), cut()));
        }
        if let Some(port) = ports.metrics {
            let probed = Probed {
                store: self.app.as_ref().map(|app| app.store.clone()),
                content: self.content.clone(),
                folder: self.settings.layout.as_ref().map(|layout| layout.root().to_owned()),
                metrics: Arc::clone(&self.metrics),
                stopping: self.stopping.clone(),
            };
            let over = self.over.clone();
            probes.spawn(http::serve::serve(port, http::health::service(probed), over.clone(), over));
        }
        (served, probes)
    }

    /// Tells the log what is served, and what its readers should know of it.
    fn announce(&self, listening: Listening) {
        let roles = self.settings.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let address = |of: Option<SocketAddr>| of.map(|address| address.to_string());
        let (api, registry) = (address(listening.api), address(listening.registry));
        let engine = self.app.as_ref().map(|app| app.engine.status());
        let (engine, detail) = engine.map(|engine| (engine.name, engine.detail)).unzip();
        tracing::info!(roles, api, registry, metrics = address(listening.metrics), engine, detail, "serving");
        let leaves = |of: Option<SocketAddr>| of.is_some_and(|address| !address.ip().is_loopback());
        if self.settings.tls.is_none() && (leaves(listening.api) || leaves(listening.registry)) {
            tracing::warn!("plain HTTP is spoken beyond this machine: something in front of it has to speak TLS");
        }
    }

    /// No new work, then no new requests, then (on this machine) no workers, then no requests, then no database.
    /// Readiness is gone from the first of these steps on, and requests are taken for a while after it: until nobody
    /// sends any here.
    async fn stop(&self, loops: Loops, relay: Option<Relay>, served: JoinSet<()>) -> anyhow::Result<()> {
        let grace = self.grace_of_this_stop();
        self.stopping.cancel();
        let close = async {
            tokio::time::sleep(self.settings.drain_delay).await;
            self.closing.cancel();
        };
        let put_back = match &self.app {
            Some(app) if self.settings.is_embedded() => {
                tokio::join!(loops.ended(grace + LAST_WORK), close);
                Some(self.stop_workers(app, grace, served).await)
            }
            _ => {
                let answer = async {
                    close.await;
                    self.last_requests(served, grace).await;
                };
                tokio::join!(loops.ended(grace + LAST_WORK), answer);
                None
            }
        };
        if let (Some(stopped), Some(layout)) = (&put_back, &self.settings.layout) {
            stopped.write(layout).with_context(|| format!("writing {}", layout.stopped().display()))?;
        }
        if let Some(relay) = relay {
            relay.end().await;
        }
        if let Some(app) = &self.app {
            app.store.close().await;
        }
        tracing::info!(runs_put_back = put_back.map_or(0, |stopped| stopped.put_back.len()), "stopped");
        Ok(())
    }

    /// Ends the workers of this machine, and then the last requests. Requests that are in the way of the workers'
    /// end are cut off before.
    async fn stop_workers(&self, app: &App, grace: Duration, served: JoinSet<()>) -> Stopped {
        let mut app = app.clone();
        app.settings = Arc::new(Settings { grace, ..Settings::clone(&app.settings) });
        let putting_back = loops::put_back(&app);
        tokio::pin!(putting_back);
        let in_time = tokio::time::timeout(grace + LAST_REQUESTS, &mut putting_back).await;
        let stopped = if let Ok(stopped) = in_time {
            stopped
        } else {
            self.cut.cancel();
            putting_back.await
        };
        self.last_requests(served, LAST_REQUESTS).await;
        stopped
    }

    /// Waits for requests under way, at most this long.
    async fn last_requests(&self, mut served: JoinSet<()>, longest: Duration) {
        let ended = tokio::time::timeout(longest, async { while served.join_next().await.is_some() {} });
        if ended.await.is_err() {
            self.cut.cancel();
            while served.join_next().await.is_some() {}
        }
    }

    /// The grace that `stop.json` names, which `knitctl down --grace` leaves before it asks for the end; without one,
    /// or with one that cannot be read, what it was at the start.
    fn grace_of_this_stop(&self) -> Duration {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stop {
            grace_milliseconds: u64,
        }
        let layout = self.settings.layout.as_ref();
        let said = layout.and_then(|layout| std::fs::read(layout.root().join("stop.json")).ok());
        let stop = said.and_then(|text| serde_json::from_slice::<Stop>(&text).ok());
        stop.map_or(self.settings.grace, |stop| Duration::from_millis(stop.grace_milliseconds))
    }
}

/// Makes the folders that this process needs, and closes them to other users.
fn prepare(layout: &Layout, settings: &Settings) -> anyhow::Result<()> {
    Stopped::forget(layout).with_context(|| format!("removing {}", layout.stopped().display()))?;
    let folders = if settings.is_embedded() { layout.private_folders().to_vec() } else { vec![layout.content()] };
    for folder in folders {
        private::folder(&folder).with_context(|| format!("closing {} to other users", folder.display()))?;
    }
    Ok(())
}

fn open_content(settings: &Settings) -> anyhow::Result<Option<Arc<ContentStore>>> {
    let layout = settings.layout.as_ref().filter(|_| settings.is_embedded() || settings.plays(Role::Registry));
    let open = |layout: &Layout| {
        ContentStore::open(&layout.content())
            .with_context(|| format!("opening the image store {}", layout.content().display()))
    };
    Ok(layout.map(open).transpose()?.map(Arc::new))
}

async fn open_store(settings: &Settings) -> anyhow::Result<Store> {
    match (&settings.database, &settings.layout) {
        (Some(url), _) => Ok(Store::open_postgres_with(url, settings.database_connections).await?),
        (None, Some(layout)) => {
            let path = layout.database();
            Store::open_sqlite(&path).await.with_context(|| format!("opening the database {}", path.display()))
        }
        (None, None) => bail!("there is neither a database nor a folder for one"),
    }
}

/// Opens the cluster, or the embedded engine over the images that the registry serves.
async fn open_engine(
    settings: &Settings,
    content: Option<&Arc<ContentStore>>,
    store: &Store,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Arc<dyn Engine>> {
    if let Some(cluster) = &settings.cluster {
        let engine = KubernetesEngine::open(cluster.clone(), store.clone()).await?;
        return Ok(Arc::new(Measured::new(engine, Arc::clone(metrics))));
    }
    let (Some(layout), Some(content)) = (&settings.layout, content) else {
        bail!("there is no folder for the engine of this machine");
    };
    let images = Images::new(Arc::clone(content), layout.layers()).with_registry(settings.registry_listen);
    let volumes = Volumes::open(layout.clone())?;
    let workers = WorkerSettings::new(settings.worker_network, settings.log_limit);
    let engine = LocalEngine::open(layout, Arc::new(images), volumes, workers)?;
    Ok(Arc::new(Measured::new(engine, Arc::clone(metrics))))
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("port {} is in use: choose another one with {flag}, or 0 for any free one", address.port())
        }
        Err(error) => Err(error).with_context(|| format!("listening on {address} ({flag})")),
    }
}

/// Makes the installation's folder and takes its lock, which the system drops when this process ends,
/// however it ends.
fn lock(layout: &Layout) -> anyhow::Result<File> {
    let root = layout.root();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .with_context(|| format!("making the folder {}", root.display()))?;
    let path = layout.lock();
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim();
            let by = if holder.is_empty() { String::new() } else { format!(", with the process id {holder}") };
            bail!(
                "a server is running on {} already{by}; stop it first, or use another folder with --dir",
                root.display()
            )
        }
        Err(error) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening to signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Ends the process at the next signal. What is cut off is taken up at the next start, as after a
    /// crash.
    async fn end_at_once(mut self) {
        let code = if self.next().await == "SIGINT" { 130 } else { 143 };
        tracing::warn!("a second signal: ending at once");
        std::process::exit(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_holds_an_installation_and_the_other_is_told_which() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("knit"));
        let held = lock(&layout).unwrap();
        let refused = lock(&layout).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        lock(&layout).unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_flag() {
        let taken = bind("--listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = taken.local_addr().unwrap();
        let refused = bind("--listen", address).await.unwrap_err().to_string();
        assert!(refused.contains(&address.port().to_string()) && refused.contains("--listen"), "{refused}");
    }
}

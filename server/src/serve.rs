//! One server process from its start to its orderly end: `knitd serve`.

use crate::app::App;
use crate::content::ContentStore;
use crate::engine::Engine;
use crate::engine::kubernetes::KubernetesEngine;
use crate::engine::local::images::Images;
use crate::engine::local::volumes::Volumes;
use crate::engine::local::{LocalEngine, OpenError, WorkerSettings};
use crate::loops::{self, Loops, Stopped};
use crate::relay::Relay;
use crate::settings::{Layout, Settings};
use crate::store::Store;
use crate::wake::Wake;
use crate::{http, private, registry};
use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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

/// Where a started server listens.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// The API.
    pub api: SocketAddr,
    /// The registry.
    pub registry: SocketAddr,
}

/// Serves until SIGTERM or SIGINT, then stops in order; a second signal ends the process at once.
/// `started` is called when requests are answered.
pub async fn serve(mut settings: Settings, started: impl FnOnce(Listening)) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    require_loopback("--listen", settings.listen)?;
    require_loopback("--registry-listen", settings.registry_listen)?;
    let _lock = lock(&settings.layout)?;
    let api = bind("--listen", settings.listen).await?;
    let images = bind("--registry-listen", settings.registry_listen).await?;
    let listening = Listening { api: api.local_addr()?, registry: images.local_addr()? };
    (settings.listen, settings.registry_listen) = (listening.api, listening.registry);

    let app = open(settings).await?;
    let relay = Relay::start(&app.store, &app.wake);
    let loops = Loops::start(&app).await.context("taking over what the last process left behind")?;

    let cut = CancellationToken::new();
    let mut ports = JoinSet::new();
    let auth = registry::Auth::new(app.settings.token.as_deref());
    let registry = registry::router(Arc::clone(&app.content), auth);
    ports.spawn(http::serve::serve(api, http::service(app.clone()), app.stopping.clone(), cut.clone()));
    ports.spawn(http::serve::serve(images, registry, app.stopping.clone(), cut.clone()));
    let engine = app.engine.status();
    tracing::info!(
        api = %listening.api, registry = %listening.registry, engine = engine.name, detail = engine.detail, "serving"
    );
    started(listening);

    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    tokio::spawn(async move { signals.end_at_once().await });
    stop(&app, loops, relay, ports, cut).await
}

/// Opens everything that stands on disk.
async fn open(settings: Settings) -> anyhow::Result<App> {
    let layout = settings.layout.clone();
    Stopped::forget(&layout).with_context(|| format!("removing {}", layout.stopped().display()))?;
    for folder in layout.private_folders() {
        private::folder(&folder).with_context(|| format!("closing {} to other users", folder.display()))?;
    }
    let store = match &settings.database {
        Some(url) => Store::open_postgres_with(url, settings.database_connections).await?,
        None => Store::open_sqlite(&layout.database())
            .await
            .with_context(|| format!("opening the database {}", layout.database().display()))?,
    };
    let content = ContentStore::open(&layout.content())
        .with_context(|| format!("opening the image store {}", layout.content().display()))?;
    let content = Arc::new(content);
    let settings = Arc::new(settings);
    let engine = open_engine(&settings, &content, &store).await?;
    Ok(App { settings, store, engine, content, wake: Arc::new(Wake::default()), stopping: CancellationToken::new() })
}

/// Opens the cluster, or the embedded engine over the images that the registry serves.
async fn open_engine(
    settings: &Settings,
    content: &Arc<ContentStore>,
    store: &Store,
) -> Result<Arc<dyn Engine>, OpenError> {
    if let Some(cluster) = &settings.cluster {
        return Ok(Arc::new(KubernetesEngine::open(cluster.clone(), store.clone()).await?));
    }
    let layout = &settings.layout;
    let images = Images::new(Arc::clone(content), layout.layers()).with_registry(settings.registry_listen);
    let volumes = Volumes::open(layout.clone())?;
    let workers = WorkerSettings::new(settings.worker_network, settings.log_limit);
    Ok(Arc::new(LocalEngine::open(layout, Arc::new(images), volumes, workers)?))
}

/// No new work, then no workers, then no requests, then no database. Requests that are in the way of the
/// workers' end are cut off before.
///
/// On a cluster workers go on: others follow them, or the next process does.
async fn stop(
    app: &App,
    loops: Loops,
    relay: Relay,
    mut ports: JoinSet<()>,
    cut: CancellationToken,
) -> anyhow::Result<()> {
    let app = &with_the_grace_of_this_stop(app);
    app.stopping.cancel();
    loops.ended(app.settings.grace + LAST_WORK).await;
    let stopped = if app.settings.is_embedded() { end_workers(app, &cut).await } else { Stopped::default() };
    let last_requests = tokio::time::timeout(LAST_REQUESTS, async { while ports.join_next().await.is_some() {} });
    if last_requests.await.is_err() {
        cut.cancel();
        while ports.join_next().await.is_some() {}
    }
    if app.settings.is_embedded() {
        let path = app.settings.layout.stopped();
        stopped.write(&app.settings.layout).with_context(|| format!("writing {}", path.display()))?;
    }
    relay.end().await;
    app.store.close().await;
    tracing::info!(runs_put_back = stopped.put_back.len(), "stopped");
    Ok(())
}

/// Ends all workers; what that interrupted.
async fn end_workers(app: &App, cut: &CancellationToken) -> Stopped {
    let putting_back = loops::put_back(app);
    tokio::pin!(putting_back);
    let in_time = tokio::time::timeout(app.settings.grace + LAST_REQUESTS, &mut putting_back).await;
    if let Ok(stopped) = in_time {
        return stopped;
    }
    cut.cancel();
    putting_back.await
}

/// Takes the grace from `stop.json`, which `knitctl down --grace` leaves before it asks for the end; without one,
/// or with one that cannot be read, the grace stays what it was at the start.
fn with_the_grace_of_this_stop(app: &App) -> App {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stop {
        grace_milliseconds: u64,
    }
    let mut app = app.clone();
    let said = std::fs::read(app.settings.layout.root().join("stop.json")).ok();
    if let Some(stop) = said.and_then(|text| serde_json::from_slice::<Stop>(&text).ok()) {
        let grace = Duration::from_millis(stop.grace_milliseconds);
        app.settings = Arc::new(Settings { grace, ..Settings::clone(&app.settings) });
    }
    app
}

/// Sockets that leave the machine need TLS, which this server does not speak yet.
fn require_loopback(flag: &str, address: SocketAddr) -> anyhow::Result<()> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    bail!(
        "{flag} {address}: this server listens on loopback addresses only, because it does not speak TLS; \
         use 127.0.0.1:{}",
        address.port()
    )
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

    #[test]
    fn addresses_that_leave_the_machine_are_refused() {
        assert!(require_loopback("--listen", "127.0.0.1:0".parse().unwrap()).is_ok());
        assert!(require_loopback("--listen", "[::1]:0".parse().unwrap()).is_ok());
        let refused = require_loopback("--listen", "0.0.0.0:30803".parse().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("--listen") && refused.contains("127.0.0.1:30803"), "{refused}");
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_flag() {
        let taken = bind("--listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = taken.local_addr().unwrap();
        let refused = bind("--listen", address).await.unwrap_err().to_string();
        assert!(refused.contains(&address.port().to_string()) && refused.contains("--listen"), "{refused}");
    }
}

//! The embedded engine: folders as volumes, containers of our own as workers, on this machine.
//!
//! A worker is a folder, `workers/<run>`. Accepting one means that its folder appears, complete, with
//! the accepted work in it; from then on whoever opens the engine brings it to its end. `life` is
//! that way from accepted to ended, `folder` what stands on disk, [`native`] the containers.

use crate::engine::{
    ByteStream, Checks, Engine, EngineError, EngineEvent, EngineStatus, Entry, Form, Manifest, Observation, Registered,
    Sealed, Started, Volume, Work,
};
use crate::settings::{Layout, WorkerNetwork};
use admission::{Refusal, Room, admit, demand};
use async_trait::async_trait;
use changes::Changes;
use folder::Folder;
use images::{ImageProblem, Images, PreparedImage};
use knit_api::bundle::Selection;
use knit_api::cluster::Node;
use knit_api::id::RunId;
use knit_api::image::ImageRef;
use knit_api::plan::Resources;
use life::{Shared, Stage, Worker};
use native::cgroup::Cgroups;
use native::program::Program;
use native::requirements;
use rustix::fs::Access;
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use volumes::Volumes;

pub mod admission;
mod changes;
mod delete;
mod folder;
pub mod images;
mod life;
pub(in crate::engine) mod log;
pub mod native;
pub mod volumes;

/// Where the engine gets images from.
#[async_trait]
pub trait ImageSource: Send + Sync + 'static {
    /// See [`Images::prepare`].
    async fn prepare(&self, image: &ImageRef) -> Result<PreparedImage, ImageProblem>;

    /// See [`Images::remove_unused`]. Blocks. A source that keeps nothing has nothing to remove.
    fn remove_unused(&self, _in_use: &HashSet<PathBuf>, _before: SystemTime) -> io::Result<u64> {
        Ok(0)
    }
}

#[async_trait]
impl ImageSource for Images {
    async fn prepare(&self, image: &ImageRef) -> Result<PreparedImage, ImageProblem> {
        Self::prepare(self, image).await
    }

    fn remove_unused(&self, in_use: &HashSet<PathBuf>, before: SystemTime) -> io::Result<u64> {
        Self::remove_unused(self, in_use, before)
    }
}

/// What an operator decides for all workers.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Their network.
    pub network: WorkerNetwork,
    /// Bytes of log that are kept of each.
    pub log_limit: u64,
    /// The executable that runs as shim: `knitd`.
    pub executable: PathBuf,
}

impl WorkerSettings {
    /// With this very executable as shim.
    pub fn new(network: WorkerNetwork, log_limit: u64) -> Self {
        Self { network, log_limit, executable: "/proc/self/exe".into() }
    }
}

/// Why the engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This machine lacks what containers need; one sentence each.
    #[error("this machine cannot run containers; what is missing:\n  - {}", .0.join("\n  - "))]
    Unusable(Vec<String>),
    /// A file or folder of the installation is in the way.
    #[error(transparent)]
    Failed(#[from] EngineError),
}

/// The engine of one installation. There must be only one at a time for a folder; the server's own
/// lock sees to that.
pub struct LocalEngine {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for LocalEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalEngine").field("workers", &self.shared.folders).finish_non_exhaustive()
    }
}

impl LocalEngine {
    /// Opens the engine of this installation and takes up the workers that an earlier process left:
    /// those that run are observed again, those that were only accepted are started, those whose shim
    /// vanished are ended. Must be called within a Tokio runtime.
    pub fn open(
        layout: &Layout,
        images: Arc<dyn ImageSource>,
        volumes: Volumes,
        settings: WorkerSettings,
    ) -> Result<Self, OpenError> {
        let folders = layout.workers();
        let failed = |what: &str, cause: io::Error| EngineError::Failed {
            what: format!("{what} {}", folders.display()),
            cause: cause.to_string(),
        };
        std::fs::create_dir_all(&folders).map_err(|cause| failed("making", cause))?;
        let folders = folders.canonicalize().map_err(|cause| failed("finding", cause))?;
        let program = Program::seal(&settings.executable).map_err(|cause| EngineError::Failed {
            what: format!("copying the program {} into memory", settings.executable.display()),
            cause: cause.to_string(),
        })?;
        let missing =
            requirements::missing(&program, &folders).map_err(|cause| failed("trying containers in", cause))?;
        if !missing.is_empty() {
            return Err(OpenError::Unusable(missing));
        }
        let groups = Cgroups::discover().map_err(|cause| failed("finding control groups for", cause))?;
        let shared = Arc::new(Shared {
            group: group_of(&folders),
            folders,
            images,
            volumes,
            program,
            groups,
            network: settings.network,
            log_limit: settings.log_limit,
            changes: Changes::default(),
            capacity: capacity(),
            workers: Mutex::new(HashMap::new()),
            events: Mutex::new(None),
        });
        shared.take_up().map_err(|cause| EngineError::Failed {
            what: format!("taking up the workers in {}", shared.folders.display()),
            cause: cause.to_string(),
        })?;
        Ok(Self { shared })
    }

    /// What workers may hold together.
    pub fn capacity(&self) -> Room {
        self.shared.capacity
    }
}

/// Name of the control group above those of this installation's workers: no other installation has it.
fn group_of(folders: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let digest = blake3::hash(folders.as_os_str().as_bytes()).to_hex();
    format!("/knit/{}", &digest[..16])
}

/// This machine's cpus and memory.
fn capacity() -> Room {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    Room { cpu_millis: cpus as u64 * 1000, memory_bytes: kib * 1024 }
}

/// Why nothing can be made in a folder, if so.
fn obstacle(folder: &Path) -> Option<EngineError> {
    let cause = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(EngineError::Failed { what: format!("writing to {}", folder.display()), cause: cause.to_string() })
}

#[async_trait]
impl Engine for LocalEngine {
    fn status(&self) -> EngineStatus {
        let shared = &self.shared;
        let network = match shared.network {
            WorkerNetwork::None => "workers have no network",
            WorkerNetwork::Host => "workers use the host's network",
        };
        EngineStatus {
            name: "native".to_owned(),
            detail: format!("containers of Knit's own, limited by {}; {network}", shared.groups.kind()),
            cpu_millis: shared.capacity.cpu_millis,
            memory_bytes: shared.capacity.memory_bytes,
            workers: shared.workers().len(),
        }
    }

    async fn check(&self) -> Result<(), EngineError> {
        let mut folders = self.shared.groups.folders("");
        folders.extend([self.shared.folders.clone(), self.shared.volumes.folder()]);
        let looked =
            tokio::task::spawn_blocking(move || folders.into_iter().find_map(|folder| obstacle(&folder))).await;
        match looked {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(found),
            Err(cause) => Err(EngineError::Failed { what: "looking at folders".to_owned(), cause: cause.to_string() }),
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>, EngineError> {
        let held = life::held(&self.shared.workers());
        Ok(vec![Node {
            name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            // There is nothing to choose between: a Plan that insists on a label is refused.
            labels: Vec::new(),
            taints: Vec::new(),
            capacity: self.shared.capacity.resources(),
            in_use: held.resources(),
        }])
    }

    fn default_resources(&self) -> Resources {
        admission::DEFAULT.resources()
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.shared.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(sender);
        receiver
    }

    async fn create_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.shared.volumes.create(volume).await
    }

    async fn receive(&self, volume: &Volume, form: Form, body: ByteStream) -> Result<Sealed, EngineError> {
        self.shared.volumes.receive(volume, form, body).await
    }

    async fn send(
        &self,
        volume: &Volume,
        form: Form,
        registered: Option<&Registered>,
    ) -> Result<ByteStream, EngineError> {
        self.shared.volumes.send(volume, form, registered).await
    }

    async fn send_part(&self, volume: &Volume, form: Form, only: Selection) -> Result<ByteStream, EngineError> {
        self.shared.volumes.send_part(volume, form, only).await
    }

    async fn look_up(&self, digest: &str, path: &[u8]) -> Result<Entry, EngineError> {
        self.shared.volumes.look_up(digest, path).await
    }

    async fn manifest(&self, digest: &str, under: Option<&[u8]>) -> Result<Manifest, EngineError> {
        self.shared.volumes.list_entries(digest, under).await
    }

    async fn read(
        &self,
        volume: &Volume,
        path: &[u8],
        size: u64,
        bytes: Range<u64>,
    ) -> Result<ByteStream, EngineError> {
        self.shared.volumes.read(volume, path, size, bytes).await
    }

    async fn verify(&self, volume: &Volume, digest: &str) -> Result<Checks, EngineError> {
        self.shared.volumes.verify(volume, digest).await
    }

    async fn seal(&self, volume: &Volume) -> Result<Sealed, EngineError> {
        self.shared.volumes.seal(volume).await
    }

    async fn remove_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        self.shared.volumes.remove(volume).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>, EngineError> {
        self.shared.volumes.list().await
    }

    async fn start(&self, work: &Work) -> Result<Started, EngineError> {
        let folder = Folder::of(&self.shared.folders, &work.run)?;
        let demand = match demand(&work.resources, &work.on_node) {
            Ok(demand) => demand,
            Err(reason) => return Ok(Started::NeverFits { reason }),
        };
        let worker = {
            // Decided and taken in one step, so that two starts cannot both take the last room.
            let mut workers = self.shared.workers();
            if workers.contains_key(&work.run) {
                return Ok(Started::Accepted);
            }
            match admit(self.shared.capacity, life::held(&workers), demand) {
                Ok(()) => {}
                Err(Refusal::NotNow(reason)) => return Ok(Started::NoRoom { reason }),
                Err(Refusal::Never(reason)) => return Ok(Started::NeverFits { reason }),
            }
            let worker = Arc::new(Worker::new(demand));
            workers.insert(work.run.clone(), Arc::clone(&worker));
            worker
        };
        if !work.service_account.is_empty() {
            tracing::warn!(run = %work.run, service_account = %work.service_account,
                "the Plan names a service account, which only a cluster has; it is ignored");
        }
        if let Err(cause) = folder.accept(work) {
            self.shared.workers().remove(&work.run);
            return Err(EngineError::Failed {
                what: format!("accepting the worker of Run {}", work.run),
                cause: cause.to_string(),
            });
        }
        self.shared.spawn(work.clone(), folder, worker, Stage::Accepted);
        Ok(Started::Accepted)
    }

    async fn observe(&self, run: &RunId) -> Result<Observation, EngineError> {
        Ok(self.shared.worker(run).map_or(Observation::Absent, |worker| worker.seen()))
    }

    async fn remove_worker(&self, run: &RunId, grace: Duration) -> Result<(), EngineError> {
        self.shared.remove(run, grace).await
    }

    async fn workers(&self) -> Result<Vec<RunId>, EngineError> {
        Ok(self.shared.workers().keys().cloned().collect())
    }

    async fn tidy(&self, before: SystemTime) -> Result<u64, EngineError> {
        self.shared.tidy(before).await
    }

    async fn log(&self, run: &RunId, volume: &Volume, follow: bool) -> Result<ByteStream, EngineError> {
        let worker = if follow { self.shared.worker(run) } else { None };
        let folder = self.shared.volumes.path(volume);
        log::stream(&self.shared.changes, &folder, volume, worker.map(|worker| worker.watch())).await
    }

    async fn log_tail(&self, _: &RunId, volume: &Volume, most: usize) -> Result<Vec<u8>, EngineError> {
        log::tail(&self.shared.volumes.path(volume), volume, most).await
    }
}

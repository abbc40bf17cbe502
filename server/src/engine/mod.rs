//! Where bytes and work live: the plain words that loops and HTTP use for it, and the trait behind
//! which each kind of place stands.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use knit_api::bundle::Selection;
use knit_api::cluster::Node;
use knit_api::content::Check;
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::image::ImageRef;
use knit_api::plan::{OnNode, Resources};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::time::SystemTime;

mod blocking;
pub mod kubernetes;
pub mod local;
mod manifest;
pub mod measured;

pub use crate::rules::lifecycle::Observation;

/// Bytes in flight; an error ends them.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Name of the place that holds one Data: `data-knitid-<id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Volume(String);

impl Volume {
    /// What stands before the id of its Data.
    pub const PREFIX: &str = "data-knitid-";

    /// The volume of this Data.
    pub fn of(data: &DataId) -> Self {
        Self(format!("{}{data}", Self::PREFIX))
    }

    /// A name as the store keeps it. It must be one plain path segment.
    pub fn from_stored(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The form in which a folder travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Ours, plain.
    Bundle,
    /// Ours, compressed with zstd.
    BundleZstd,
    /// The original's tar.gz.
    TarGz,
}

/// What a volume was registered as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its root digest.
    pub digest: String,
    /// Whoever gets the volume compares this digest with the one that a bundle closes with, and is to have it in any
    /// case. To others a volume that differs is never sent to its end.
    pub compared_by_receiver: bool,
}

/// What is known of a folder once it is final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Root digest, 64 lower-case hex digits.
    pub digest: String,
    /// Entries below the root.
    pub entries: u64,
    /// Bytes in regular files.
    pub bytes: u64,
    /// What was left out and why, for the Run's message (sockets, devices, FIFOs); bounded in number.
    pub left_out: Vec<String>,
}

/// What stands at a path of a sealed volume, as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder; the root is one.
    Directory,
    /// A regular file.
    File {
        /// Bytes in it.
        size: u64,
        /// BLAKE3 of them, 64 lower-case hex digits.
        digest: String,
    },
    /// A symlink.
    Link {
        /// Where it points.
        target: Vec<u8>,
    },
    /// The path leads through a symlink, which is not followed.
    Beyond {
        /// Where the link stands.
        link: Vec<u8>,
        /// Where it points.
        target: Vec<u8>,
    },
    /// Nothing.
    Absent,
}

/// A manifest, compressed, on its way.
pub struct Manifest {
    /// Its bytes.
    pub stream: ByteStream,
    /// How many there are, where that is known before they are made.
    pub length: Option<u64>,
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest").field("length", &self.length).finish_non_exhaustive()
    }
}

/// How a comparison goes; it is whole only if [`Check::Done`] comes last.
pub type Checks = Pin<Box<dyn Stream<Item = io::Result<Check>> + Send>>;

/// A worker to start: everything that executing a Run needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The Run.
    pub run: RunId,
    /// Its Plan.
    pub plan: PlanId,
    /// What to execute.
    pub image: ImageRef,
    /// Replaces the image's entrypoint when not empty.
    pub entrypoint: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// Mounted read-only. One volume may stand on several paths.
    pub inputs: Vec<Mount>,
    /// Mounted writable; empty at the start.
    pub outputs: Vec<Mount>,
    /// Where stdout and stderr go, as the file `log` in it.
    pub log: Option<Volume>,
    /// Limits.
    pub resources: Resources,
    /// Where it may execute.
    pub on_node: OnNode,
    /// Only on clusters.
    pub service_account: String,
}

/// A volume at a path of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute and clean.
    pub path: String,
    /// What is there.
    pub volume: Volume,
}

/// Answer to a request to start a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// It is on its way; observe it.
    Accepted,
    /// Not now: other workers hold what it needs. Ask again when room is freed.
    NoRoom {
        /// What is missing, for a person.
        reason: String,
    },
    /// Not ever on this place as it is.
    NeverFits {
        /// Which demand is larger than what there is, for a person.
        reason: String,
    },
}

/// Something happened at the engine that is worth a look; a hint, like every signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// This Run's worker changed.
    Worker(RunId),
    /// Room for further workers was freed.
    Room,
}

/// What an operator wants to know of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Its kind, for example `native`.
    pub name: String,
    /// Why this kind was chosen, and how it is limited here.
    pub detail: String,
    /// Milli-cpus that workers may hold together.
    pub cpu_millis: u64,
    /// Bytes of memory that workers may hold together.
    pub memory_bytes: u64,
    /// Workers at present.
    pub workers: usize,
}

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The bytes received are not what they should be: damaged, incomplete, hostile or too large. The
    /// sender's fault; nothing was kept.
    #[error("{0}")]
    BadContent(String),
    /// There is no such volume, worker or log.
    #[error("{0} is not there")]
    NotFound(String),
    /// What is kept is not what was sealed: the disk, or somebody, has changed it.
    #[error("{0}")]
    Damaged(String),
    /// The disk is full.
    #[error("no space is left on the device that holds {0}")]
    NoSpace(String),
    /// What does it is not there now, or was taken away meanwhile. The same may be done later.
    #[error("{what}: {cause}")]
    Unavailable {
        /// What was being done, on what.
        what: String,
        /// Why it could not be done.
        cause: String,
    },
    /// Anything else, with what was being done.
    #[error("{what}: {cause}")]
    Failed {
        /// What was being done, on what.
        what: String,
        /// Why it did not work.
        cause: String,
    },
}

/// Outputs of one Run that are sealed at one time.
const SEALS: usize = 4;

/// What is a result of one of several volumes; any other error ends them all.
fn one_of_several(sealed: Result<Sealed, EngineError>) -> Result<Result<Sealed, EngineError>, EngineError> {
    match sealed {
        Err(
            error @ (EngineError::Damaged(_)
            | EngineError::NoSpace(_)
            | EngineError::Unavailable { .. }
            | EngineError::Failed { .. }),
        ) => Err(error),
        one => Ok(one),
    }
}

/// Where bytes and work live. All methods may be called again after a crash at any point: doing a
/// thing twice does nothing more. Methods return soon; what takes long is observed. [`measured::Measured`] passes each
/// of them on, those with a default as well.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// For the operator.
    fn status(&self) -> EngineStatus;

    /// Looks, at little cost, whether work can be done now; the error says what is in the way.
    async fn check(&self) -> Result<(), EngineError>;

    /// Where workers may execute, and what is taken there, by name: exactly what decides on [`Engine::start`].
    async fn nodes(&self) -> Result<Vec<Node>, EngineError>;

    /// What a worker holds of resources for which its Plan does not ask.
    fn default_resources(&self) -> Resources;

    /// What happens from now on; only one subscriber (the run loop) is served.
    fn events(&self) -> tokio::sync::mpsc::UnboundedReceiver<EngineEvent>;

    /// Afterwards the volume exists and is empty, writable for the Run's outputs.
    async fn create_volume(&self, volume: &Volume) -> Result<(), EngineError>;

    /// Fills a volume that does not exist yet from a stream. It appears only complete, verified and
    /// synced to disk, with its manifest kept; after an error or a dropped call nothing is left.
    async fn receive(&self, volume: &Volume, form: Form, body: ByteStream) -> Result<Sealed, EngineError>;

    /// Streams the content of a volume, and compares it with what was registered.
    async fn send(
        &self,
        volume: &Volume,
        form: Form,
        registered: Option<&Registered>,
    ) -> Result<ByteStream, EngineError>;

    /// Streams what the selection takes of a volume, and the folders above.
    async fn send_part(&self, volume: &Volume, form: Form, only: Selection) -> Result<ByteStream, EngineError>;

    /// Looks up one path in the manifest with this root digest.
    async fn look_up(&self, digest: &str, path: &[u8]) -> Result<Entry, EngineError>;

    /// Streams the manifest with this root digest; with `under` only what is at this path or below it, as a
    /// manifest of its own.
    async fn manifest(&self, digest: &str, under: Option<&[u8]>) -> Result<Manifest, EngineError>;

    /// Streams these bytes of one regular file of that size, following no link.
    async fn read(&self, volume: &Volume, path: &[u8], size: u64, bytes: Range<u64>)
    -> Result<ByteStream, EngineError>;

    /// Reads all of a volume again and compares it with the manifest with this root digest. Differences are named
    /// up to a bound, and all counted.
    async fn verify(&self, volume: &Volume, digest: &str) -> Result<Checks, EngineError>;

    /// Makes the content of an output final: walks it without following links, computes manifest and
    /// digest, removes what cannot be kept, syncs it to disk.
    async fn seal(&self, volume: &Volume) -> Result<Sealed, EngineError>;

    /// Ends the worker if it still runs (politely for `grace`, then not), makes these outputs of it final as
    /// [`Engine::seal`] does, and removes what belongs to it except its volumes. Nothing can write into them any more
    /// when this returns. One result for each volume, in their order; [`EngineError::NotFound`] and
    /// [`EngineError::BadContent`] are such results, every other error is one of the whole.
    async fn conclude(
        &self,
        run: &RunId,
        outputs: &[Volume],
        grace: std::time::Duration,
    ) -> Result<Vec<Result<Sealed, EngineError>>, EngineError> {
        let seal = async || {
            let all = outputs.iter().map(|output| self.seal(output)).collect::<Vec<_>>();
            let sealed: Vec<_> = futures_util::stream::iter(all).buffered(SEALS).collect().await;
            sealed.into_iter().map(one_of_several).collect::<Result<Vec<_>, _>>()
        };
        match self.observe(run).await? {
            // Its processes are gone and nothing is written any more: both at once.
            Observation::Absent | Observation::Ended { .. } => {
                let (sealed, ()) = futures_util::try_join!(seal(), self.remove_worker(run, std::time::Duration::ZERO))?;
                Ok(sealed)
            }
            // A user stopped it: it may take its time to end.
            Observation::Preparing { .. } | Observation::Running { .. } => {
                self.remove_worker(run, grace).await?;
                seal().await
            }
        }
    }

    /// Removes a volume; one that is not there is fine.
    async fn remove_volume(&self, volume: &Volume) -> Result<(), EngineError>;

    /// All volumes there are, for housekeeping.
    async fn volumes(&self) -> Result<Vec<Volume>, EngineError>;

    /// Asks for a worker. Its request survives a restart of the server.
    async fn start(&self, work: &Work) -> Result<Started, EngineError>;

    /// Looks at a worker.
    async fn observe(&self, run: &RunId) -> Result<Observation, EngineError>;

    /// Ends the worker if it runs (politely for `grace`, then not), waits until nothing of it is
    /// left, and removes what belongs to it except its volumes. One that is not there is fine.
    async fn remove_worker(&self, run: &RunId, grace: std::time::Duration) -> Result<(), EngineError>;

    /// All Runs that have a worker here, for housekeeping.
    async fn workers(&self) -> Result<Vec<RunId>, EngineError>;

    /// Removes what is kept only to be faster the next time, as far as no worker needs it and nobody
    /// used it since `before`; tells how many things went.
    async fn tidy(&self, before: SystemTime) -> Result<u64, EngineError>;

    /// Streams the log in this volume. With `follow` it goes on while the Run's worker lives and ends
    /// with its last byte.
    async fn log(&self, run: &RunId, volume: &Volume, follow: bool) -> Result<ByteStream, EngineError>;

    /// The last bytes of the log in this volume, at most `most`. What an engine can do better than by reading all of
    /// the log, it does.
    async fn log_tail(&self, run: &RunId, volume: &Volume, most: usize) -> Result<Vec<u8>, EngineError> {
        let mut log = self.log(run, volume, false).await?;
        let mut tail = Vec::new();
        while let Some(piece) = log.next().await {
            let failed = |cause: io::Error| EngineError::Failed {
                what: format!("reading the log in {volume}"),
                cause: cause.to_string(),
            };
            tail.extend_from_slice(&piece.map_err(failed)?);
            tail.drain(..tail.len().saturating_sub(most));
        }
        Ok(tail)
    }
}

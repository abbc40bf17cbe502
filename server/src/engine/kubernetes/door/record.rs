//! `knitd record-log`: the recorder of a worker, in a container beside main. It takes what main writes and how it
//! ends from `wrap`, keeps the log in its volume, makes outputs and log final once main is gone, and tells all of that
//! at its door.
//!
//! It ends when a server has what it needs (`POST /done`). Without one it stays long enough for servers to come back.
//! When the Pod is asked to end it waits for main, which takes its time too, and for a server only briefly.

mod routes;
mod take;

use super::super::objects::pod::DOOR_PORT;
use super::Told;
use super::frames::MainEnd;
use super::server::{Door, until_terminated};
use crate::clock;
use crate::engine::local::native::record::Log;
use crate::engine::local::volumes::Volumes;
use crate::engine::{Sealed, Volume};
use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Name of the socket in the folder that the containers of a worker share.
const SOCKET: &str = "main.sock";
/// Every user of main's image may connect.
const FOR_ALL: u32 = 0o666;
/// How long it stays after main's end when nobody asks for anything.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// The same once the Pod was asked to end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Most characters of one thing that was left out.
const LONGEST_NAME: usize = 300;
/// Volumes that are made final at one time.
const AT_ONCE: usize = 2;

/// Records the log of a worker, and makes final what it has written.
#[derive(Debug, clap::Args)]
pub struct RecordLog {
    /// Folder with the volumes of the worker, by name.
    #[arg(long, value_name = "DIR", default_value = "/volumes")]
    volumes: PathBuf,

    /// Folder for manifests, until servers have them.
    #[arg(long, value_name = "DIR", default_value = "/manifests")]
    manifests: PathBuf,

    /// Folder that is shared with main.
    #[arg(long, value_name = "DIR", default_value = "/.knit")]
    shared: PathBuf,

    /// Folder with certificate, key and token.
    #[arg(long, value_name = "DIR", default_value = super::server::CREDENTIALS)]
    credentials: PathBuf,

    /// Where the door listens.
    #[arg(long, value_name = "PORT", default_value_t = DOOR_PORT)]
    port: u16,

    /// A volume that main fills.
    #[arg(long = "output", value_name = "VOLUME", value_parser = volume)]
    outputs: Vec<Volume>,

    /// The volume of the log.
    #[arg(long, value_name = "VOLUME", value_parser = volume)]
    log: Option<Volume>,

    /// Largest log in bytes; what comes after is dropped and said.
    #[arg(long, value_name = "BYTES", default_value_t = u64::MAX)]
    log_limit: u64,
}

fn volume(name: &str) -> Result<Volume, String> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    plain.then(|| Volume::from_stored(name)).ok_or_else(|| "a volume's name is one plain path segment".to_owned())
}

/// What volumes came to, those that are final and those that are not.
pub type Outcomes = Vec<(Volume, Result<Sealed, Told>)>;

/// How a worker ended, as its recorder tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// None when main's first process vanished without a word, as by an end for want of memory: its Pod says more.
    pub main: Option<MainEnd>,
    /// What else a person should know.
    pub notes: Vec<String>,
    /// What outputs and log came to, once they are final.
    pub sealed: Option<Outcomes>,
}

/// How far a worker has come.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Bytes in the log file.
    log: u64,
    main: Main,
    /// What outputs and log came to.
    sealed: Option<Arc<Outcomes>>,
}

/// Whether main can still do something, once it was asked not to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// It has started before.
    pub started: bool,
}

#[derive(Clone, Debug, Default)]
enum Main {
    /// It has not started.
    #[default]
    Awaited,
    /// It has not, and cannot any more.
    Never,
    Running,
    Ended {
        end: Option<MainEnd>,
        notes: Vec<String>,
    },
}

impl Progress {
    /// Main begins; false when it came too late.
    fn begin(&mut self) -> bool {
        let awaited = matches!(self.main, Main::Awaited);
        if awaited {
            self.main = Main::Running;
        }
        awaited
    }

    /// Main does not start any more; false when it has.
    fn close(&mut self) -> bool {
        let awaited = matches!(self.main, Main::Awaited | Main::Never);
        if awaited {
            self.main = Main::Never;
        }
        awaited
    }

    fn has_ended(&self) -> bool {
        matches!(self.main, Main::Ended { .. })
    }

    /// None before main has ended.
    fn end(&self) -> Option<End> {
        let Main::Ended { end, notes } = &self.main else { return None };
        let sealed = self.sealed.as_deref().cloned();
        Some(End { main: end.clone(), notes: notes.clone(), sealed })
    }
}

/// What requests and the recorder's own work share.
#[derive(Clone)]
struct Recorder {
    volumes: Volumes,
    outputs: Vec<Volume>,
    log: Option<Volume>,
    progress: Arc<watch::Sender<Progress>>,
    /// A server knows that nothing of main is left.
    gone: Arc<Notify>,
    /// A server has what it needs.
    done: CancellationToken,
    /// When something was asked last.
    asked: Arc<watch::Sender<Instant>>,
}

impl RecordLog {
    /// Records to the end.
    pub async fn run(self) -> anyhow::Result<()> {
        let terminated = until_terminated()?;
        let listener = listen(&self.shared.join(SOCKET))?;
        let door = Door::open_anywhere(self.port, &self.credentials).await?;
        self.serve(listener, door, terminated).await
    }

    async fn serve(self, listener: UnixListener, door: Door, terminated: CancellationToken) -> anyhow::Result<()> {
        let recorder = Recorder::new(&self)?;
        let log = Log::open(recorder.log_file().as_deref(), self.log_limit);
        let log = log.with_context(|| format!("opening the log in {}", self.volumes.display()))?;
        recorder.progress.send_modify(|progress| progress.log = log.length());
        let closing = CancellationToken::new();
        let serving = tokio::spawn(door.serve(routes::routes(recorder.clone()), None, closing.clone()));
        recorder.record(listener, self.shared.join(SOCKET), log, &terminated).await;
        closing.cancel();
        // Answers under way are still sent.
        serving.await.context("serving the door")?;
        Ok(())
    }
}

/// Listens for main, for every user.
fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    let listening = || -> io::Result<UnixListener> {
        match fs::remove_file(socket) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(FOR_ALL))?;
        Ok(listener)
    };
    listening().with_context(|| format!("listening on {}", socket.display()))
}

impl Recorder {
    fn new(order: &RecordLog) -> anyhow::Result<Self> {
        Ok(Self {
            volumes: Volumes::open_mounted(order.volumes.clone(), order.manifests.clone())?,
            outputs: order.outputs.clone(),
            log: order.log.clone(),
            progress: Arc::new(watch::Sender::new(Progress::default())),
            gone: Arc::new(Notify::new()),
            done: CancellationToken::new(),
            asked: Arc::new(watch::Sender::new(now())),
        })
    }

    fn log_file(&self) -> Option<PathBuf> {
        let log = self.log.as_ref()?;
        Some(self.volumes.path(log).join(crate::engine::local::log::FILE))
    }

    /// From main's start to the moment when nobody needs this process any more.
    async fn record(&self, listener: UnixListener, socket: PathBuf, log: Log, terminated: &CancellationToken) {
        let connected = tokio::select! {
            connected = accept(listener, &socket) => connected,
            // Main never starts any more: it waits for this socket.
            () = terminated.cancelled() => return,
            () = self.done.cancelled() => return,
            () = self.gone.notified() => None,
        };
        if connected.is_some() && !self.progress.send_if_modified(Progress::begin) {
            return;
        }
        let nothing_left = self.take(connected, log).await;
        tokio::select! {
            () = self.make_final(nothing_left) => {}
            () = self.done.cancelled() => {}
            () = self.forgotten(terminated) => {}
        }
    }

    /// Takes what main writes, to its end; true when no process of main's is left then.
    async fn take(&self, connected: Option<UnixStream>, log: Log) -> bool {
        let Some(connected) = connected else {
            self.progress.send_modify(|progress| progress.main = Main::Ended { end: None, notes: Vec::new() });
            return true;
        };
        let (progress, file) = (Arc::clone(&self.progress), self.log_file());
        let taken = tokio::task::spawn_blocking(move || {
            connected.into_std().and_then(|main| {
                main.set_nonblocking(false)?;
                Ok(take::to_the_end(main, log, file.as_deref(), |length| {
                    progress.send_modify(|progress| progress.log = length);
                }))
            })
        });
        let broken = |cause: io::Error| (None, vec![format!("the log is incomplete: {cause}")]);
        let (end, notes) = taken.await.map_err(io::Error::other).flatten().unwrap_or_else(broken);
        let nothing_left = end.as_ref().is_some_and(|end: &MainEnd| end.alone);
        self.progress.send_modify(|progress| progress.main = Main::Ended { end, notes });
        nothing_left
    }

    /// Makes all volumes final, again and again those that failed, whenever a server asks for it.
    async fn make_final(&self, nothing_left: bool) {
        if !nothing_left {
            self.gone.notified().await;
        }
        let mut before: Arc<Outcomes> = Arc::default();
        loop {
            let kept = |volume: &Volume| before.iter().find(|(known, _)| known == volume).cloned();
            let all = self.outputs.iter().chain(&self.log).map(|volume| {
                let kept = kept(volume).filter(|(_, sealed)| !sealed.as_ref().is_err_and(may_pass));
                async move {
                    match kept {
                        Some(kept) => kept,
                        None => (volume.clone(), self.volumes.seal(volume).await.map(in_bounds).map_err(Told::from)),
                    }
                }
            });
            let sealed: Outcomes = stream::iter(all.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
            for (volume, told) in sealed.iter().filter_map(|(volume, sealed)| Some((volume, sealed.as_ref().err()?))) {
                tracing::error!(%volume, ?told, "a volume is not final");
            }
            before = Arc::new(sealed);
            self.progress.send_modify(|progress| progress.sealed = Some(Arc::clone(&before)));
            // What was asked meanwhile was asked before there was an answer.
            self.gone.notified().await;
        }
    }

    /// Ends when nobody has asked for anything for too long.
    async fn forgotten(&self, terminated: &CancellationToken) {
        tokio::select! {
            () = self.unasked(FORGOTTEN) => tracing::warn!("no server has come for this worker's results"),
            () = async {
                terminated.cancelled().await;
                self.asked.send_replace(now());
                // A seal under way is worth to be waited for: the Pod's grace bounds it.
                let _ = self.progress.subscribe().wait_for(|progress| progress.sealed.is_some()).await;
                self.asked.send_replace(now());
                self.unasked(LAST_WORDS).await;
            } => {}
        }
    }

    async fn unasked(&self, patience: Duration) {
        let mut asked = self.asked.subscribe();
        loop {
            let until = *asked.borrow_and_update() + patience;
            // The sender is this recorder's own.
            if tokio::time::timeout_at(until, asked.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// The first one to connect is main, before anything of its own runs; nobody else comes in.
async fn accept(listener: UnixListener, socket: &Path) -> Option<UnixStream> {
    let connected = listener.accept().await;
    drop(listener);
    let _ = fs::remove_file(socket);
    match connected {
        Ok((connected, _)) => Some(connected),
        Err(error) => {
            tracing::error!(%error, "main cannot be recorded");
            None
        }
    }
}

/// With what was left out in words that are not too long: the names are main's own.
fn in_bounds(sealed: Sealed) -> Sealed {
    let shortened = |words: String| match words.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    };
    Sealed { left_out: sealed.left_out.into_iter().map(shortened).collect(), ..sealed }
}

fn now() -> Instant {
    clock::deadline(Duration::ZERO)
}

/// Whether a volume that could not be made final may be later.
fn may_pass(told: &Told) -> bool {
    matches!(told, Told::Failed { .. } | Told::NoSpace { .. } | Told::Damaged { .. })
}

//! What the server asks of a shim, and what the shim answers: two JSON files in the worker's folder.

use crate::engine::local::admission;
use knit_api::problem::in_words;
use knit_api::run::{Exit, exit_code};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Names in a worker's folder.
pub mod file {
    /// The accepted work.
    pub const WORK: &str = "work.json";
    /// The [`super::Order`].
    pub const ORDER: &str = "order.json";
    /// The [`super::Outcome`].
    pub const RESULT: &str = "result.json";
    /// See [`super::super::lock`].
    pub const LOCK: &str = "lock";
    /// What the shim's own stderr said, for finding faults.
    pub const SHIM_ERRORS: &str = "shim.err";
}

/// Everything a shim needs to know; the rest it finds in the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Digest of the image's manifest.
    pub image_digest: String,
    /// Layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// `USER` of the image.
    pub user: String,
    /// `WORKDIR` of the image.
    pub working_dir: String,
    /// `ENV` of the image.
    pub env: Vec<String>,
    /// Program and arguments, decided from Plan and image; empty when neither names any.
    pub command: Vec<String>,
    /// Mounted read-only.
    pub inputs: Vec<Bind>,
    /// Mounted writable, and given to the user.
    pub outputs: Vec<Bind>,
    /// The log file, if one is recorded.
    pub log: Option<PathBuf>,
    /// Bytes of log that are kept.
    pub log_limit: u64,
    /// Limit.
    pub cpu_millis: u64,
    /// Limit.
    pub memory_bytes: u64,
    /// Limit on processes and threads, where the machine can hold it.
    pub pids: Option<i64>,
    /// Path of the container's control group, below each hierarchy's root.
    pub cgroup: String,
    /// Whether the container uses the host's network.
    pub host_network: bool,
    /// Name the container has for itself.
    pub hostname: String,
}

/// A folder of the host at a path of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// In the container.
    pub path: String,
    /// On the host.
    pub source: PathBuf,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What became of its process.
    pub end: End,
    /// What else a person should know, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What became of a worker's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It exited.
    Exited {
        /// With this code.
        code: u8,
    },
    /// It was ended by a signal.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// It, or one of its processes, was ended because it used more memory than it may.
    OutOfMemory {
        /// What it may use, in bytes.
        limit: u64,
        /// Code of its first process, if that lived on and exited itself.
        code: Option<u8>,
    },
    /// It never ran.
    NotStarted {
        /// The code to record.
        code: u8,
        /// Why.
        message: String,
    },
    /// Its shim vanished, so nothing is known.
    Lost,
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        Self { end, notes: Vec::new() }
    }
}

impl Outcome {
    /// A worker that could not be started, for this reason.
    pub fn not_started(message: impl Into<String>) -> Self {
        End::NotStarted { code: exit_code::NOT_STARTED, message: message.into() }.into()
    }

    /// As the Run records it.
    pub fn exit(&self) -> Exit {
        let (code, message) = match &self.end {
            End::Exited { code } => (*code, String::new()),
            End::Signalled { signal } => (code_of_signal(*signal), format!("ended by signal {}", name_of(*signal))),
            // A program may survive the loss of a child and end well: then it succeeded.
            End::OutOfMemory { code: Some(0), limit } => {
                (0, format!("one of its processes was ended for using more than {}", admission::bytes(*limit)))
            }
            End::OutOfMemory { code, limit } => (
                code.unwrap_or_else(|| code_of_signal(libc::SIGKILL)),
                format!("OOMKilled: it used more memory than its limit of {}", admission::bytes(*limit)),
            ),
            End::NotStarted { code, message } => (*code, message.clone()),
            End::Lost => (
                exit_code::LOST,
                "the worker was lost: its shim process vanished before it could say how the container ended; \
                 whatever was left of the container has been ended"
                    .to_owned(),
            ),
        };
        let sentences: Vec<&str> =
            std::iter::once(message.as_str()).chain(self.notes.iter().map(String::as_str)).collect();
        let message = sentences.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        Exit { code, message: in_words(&message).into_owned() }
    }
}

/// What a shell would report.
fn code_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn name_of(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| signal.to_string(), |known| known.as_str().to_owned())
}

/// Writes `value` beside `path`, syncs it and moves it there.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut out = fs::File::create(&beside)?;
    out.write_all(&serde_json::to_vec(value)?)?;
    out.sync_all()?;
    fs::rename(&beside, path)
}

/// Reads what [`write_json`] wrote; `None` when it is not there or, after a power failure, not whole.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_the_code_and_words_that_the_run_records() {
        for (end, code, words) in [
            (End::Exited { code: 0 }, 0, ""),
            (End::Exited { code: 3 }, 3, ""),
            (End::Signalled { signal: libc::SIGKILL }, 137, "ended by signal SIGKILL"),
            (End::Signalled { signal: libc::SIGSEGV }, 139, "ended by signal SIGSEGV"),
            (End::Signalled { signal: 64 }, 192, "ended by signal 64"),
            (
                End::OutOfMemory { limit: 64 << 20, code: None },
                137,
                "OOMKilled: it used more memory than its limit of 64Mi",
            ),
            (
                End::OutOfMemory { limit: 1 << 30, code: Some(5) },
                5,
                "OOMKilled: it used more memory than its limit of 1Gi",
            ),
            (
                End::OutOfMemory { limit: 1 << 30, code: Some(0) },
                0,
                "one of its processes was ended for using more than 1Gi",
            ),
            (End::NotStarted { code: 127, message: "no".to_owned() }, 127, "no"),
        ] {
            let exit = Outcome::from(end.clone()).exit();
            assert_eq!((exit.code, exit.message.as_str()), (code, words), "{end:?}");
        }
        let lost = Outcome::from(End::Lost).exit();
        assert_eq!(lost.code, 254);
        assert!(lost.message.contains("lost"));
    }

    #[test]
    fn notes_follow_the_message() {
        let outcome = Outcome { end: End::Exited { code: 0 }, notes: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(outcome.exit().message, "a; b");
        let told = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Outcome::not_started(format!("x: {told}")).exit().message, "x: No space left on device");
    }
}

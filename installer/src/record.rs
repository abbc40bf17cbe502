//! What was chosen for an installation and what runs now: `installation.json`. It holds no secret,
//! and is the reason why an installation keeps its ports: profiles that were handed out go on working.

use crate::durable;
use crate::folder::Folder;
use crate::problem::{Kind, Problem};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::time::Duration;

/// Port of the API when nothing is said.
pub const DEFAULT_PORT: u16 = 30803;
/// Port of the registry when nothing is said.
pub const DEFAULT_REGISTRY_PORT: u16 = 30503;
/// How long workers may take to end when nothing is said, in seconds.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Network of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerNetwork {
    /// A private network with only a loopback device.
    #[default]
    None,
    /// The host's network.
    Host,
}

impl WorkerNetwork {
    /// As it stands on command lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// What a person asks for; what is not given stays as it was, or takes its default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Port of the API; 0 is any free one.
    pub port: Option<u16>,
    /// Port of the registry; 0 is any free one.
    pub registry_port: Option<u16>,
    /// Whether a token is asked for.
    pub auth: Option<bool>,
    /// Network of workers.
    pub worker_network: Option<WorkerNetwork>,
    /// How long workers may take to end when the server stops.
    pub grace: Option<Duration>,
}

/// What an installation is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choices {
    /// Port of the API; 0 only until the server has chosen one.
    pub port: u16,
    /// Port of the registry; likewise.
    pub registry_port: u16,
    /// Whether a token is asked for.
    pub auth: bool,
    /// Network of workers.
    pub worker_network: WorkerNetwork,
    /// How long workers may take to end when the server stops.
    pub grace_milliseconds: u64,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            registry_port: DEFAULT_REGISTRY_PORT,
            auth: true,
            worker_network: WorkerNetwork::None,
            grace_milliseconds: DEFAULT_GRACE.as_millis() as u64,
        }
    }
}

impl Choices {
    /// How long workers may take to end.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_milliseconds)
    }

    /// These choices with what is wanted anew. "Any free port" is content with the one there is.
    #[must_use]
    pub fn with(&self, wanted: &Wanted, is_free: impl Fn(u16) -> bool) -> Self {
        let port = |old: u16, wanted: Option<u16>| match wanted {
            None => old,
            Some(0) if old != 0 && is_free(old) => old,
            Some(port) => port,
        };
        Self {
            port: port(self.port, wanted.port),
            registry_port: port(self.registry_port, wanted.registry_port),
            auth: wanted.auth.unwrap_or(self.auth),
            worker_network: wanted.worker_network.unwrap_or(self.worker_network),
            grace_milliseconds: wanted.grace.map_or(self.grace_milliseconds, |grace| grace.as_millis() as u64),
        }
    }

    /// What differs from these choices in what is wanted, one sentence each.
    pub fn differences(&self, wanted: &Wanted) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |name: &str, now: &dyn fmt::Display, asked: Option<&dyn fmt::Display>| {
            if let Some(asked) = asked {
                let (now, asked) = (now.to_string(), asked.to_string());
                if now != asked {
                    found.push(format!("{name} is {now}, asked for was {asked}"));
                }
            }
        };
        let shown = |on: bool| if on { "on" } else { "off" };
        let some = |port: Option<u16>| port.filter(|port| *port != 0);
        let (port, registry_port) = (some(wanted.port), some(wanted.registry_port));
        compare("the port", &self.port, port.as_ref().map(|p| p as &dyn fmt::Display));
        compare("the registry's port", &self.registry_port, registry_port.as_ref().map(|p| p as &dyn fmt::Display));
        let auth = wanted.auth.map(shown);
        compare("asking for a token", &shown(self.auth), auth.as_ref().map(|a| a as &dyn fmt::Display));
        let network = wanted.worker_network.map(WorkerNetwork::as_str);
        compare(
            "the network of workers",
            &self.worker_network.as_str(),
            network.as_ref().map(|n| n as &dyn fmt::Display),
        );
        let seconds = |grace: Duration| format!("{} s", grace.as_secs_f64());
        let grace = wanted.grace.map(seconds);
        compare("the grace", &seconds(self.grace()), grace.as_ref().map(|g| g as &dyn fmt::Display));
        found
    }
}

/// The server that was started last and not stopped since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its process id; worth something only together with the server's lock.
    pub pid: i32,
    /// `host:port` of the API.
    pub api: String,
    /// `host:port` of the registry.
    pub registry: String,
}

/// The whole record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the `knitctl` that wrote it.
    pub version: String,
    /// What the installation is set to.
    pub choices: Choices,
    /// What runs, as far as is known.
    pub server: Option<Server>,
}

impl Record {
    /// Reads the record of a folder; none where nothing was installed.
    pub fn read(folder: &Folder) -> Result<Option<Self>, Problem> {
        let path = folder.record();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(Problem::file("read", &path, &e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Problem::new(Kind::Failed, format!("{} is damaged: {e}", path.display()))
                .advise("remove it: the next `knitctl up` writes it anew (give it the ports that were used before)")
        })
    }

    /// Writes it.
    pub fn write(&self, folder: &Folder) -> Result<(), Problem> {
        let path = folder.record();
        let mut text = serde_json::to_vec_pretty(self).expect("a record has only plain members");
        text.push(b'\n');
        durable::write(&path, &text, 0o644).map_err(|e| Problem::file("write", &path, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_anew_stays() {
        let old = Choices { port: 4000, registry_port: 5000, auth: false, ..Choices::default() };
        let free = |_| true;
        assert_eq!(old.with(&Wanted::default(), free), old);
        let any = Wanted { port: Some(0), registry_port: Some(0), ..Wanted::default() };
        assert_eq!(old.with(&any, free), old, "any free port is content with the one there is");
        let taken = old.with(&any, |port| port != 4000);
        assert_eq!((taken.port, taken.registry_port), (0, 5000));
        let new = Wanted { port: Some(4001), auth: Some(true), ..Wanted::default() };
        let new = old.with(&new, free);
        assert_eq!((new.port, new.registry_port, new.auth), (4001, 5000, true));
    }

    #[test]
    fn differences_are_said_only_where_something_else_was_asked_for() {
        let choices = Choices::default();
        for (wanted, said) in [
            (Wanted::default(), vec![]),
            (Wanted { port: Some(0), auth: Some(true), grace: Some(DEFAULT_GRACE), ..Wanted::default() }, vec![]),
            (Wanted { port: Some(1), ..Wanted::default() }, vec!["the port is 30803, asked for was 1"]),
            (Wanted { auth: Some(false), ..Wanted::default() }, vec!["asking for a token is on, asked for was off"]),
            (
                Wanted {
                    worker_network: Some(WorkerNetwork::Host),
                    grace: Some(Duration::from_millis(500)),
                    ..Wanted::default()
                },
                vec!["the network of workers is none, asked for was host", "the grace is 10 s, asked for was 0.5 s"],
            ),
        ] {
            assert_eq!(choices.differences(&wanted), said, "{wanted:?}");
        }
    }

    #[test]
    fn a_record_survives_its_file_and_a_damaged_one_says_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::at(place.path()).unwrap();
        assert_eq!(Record::read(&folder).unwrap(), None);
        let server = Some(Server { pid: 7, api: "127.0.0.1:1".into(), registry: "127.0.0.1:2".into() });
        let record = Record { version: "1".into(), choices: Choices::default(), server };
        record.write(&folder).unwrap();
        assert_eq!(Record::read(&folder).unwrap(), Some(record));
        std::fs::write(folder.record(), b"{").unwrap();
        assert!(Record::read(&folder).unwrap_err().advice.contains("remove it"));
    }
}

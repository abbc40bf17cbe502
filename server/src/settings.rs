//! What the operator decides, and where the embedded installation keeps its files.

use clap::ValueEnum as _;
use knit_api::quantity::Quantity;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Network of workers: an operator's choice, not reachable from a Plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WorkerNetwork {
    /// A private network with only a loopback device.
    #[default]
    None,
    /// The host's network.
    Host,
}

/// A part of the server that a process may play by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Role {
    /// The API for users.
    Api,
    /// The same for what runs inside the cluster, below `/api/backend`.
    Backend,
    /// The image registry.
    Registry,
    /// New combinations become Runs.
    Projection,
    /// Runs get their volumes.
    Initialize,
    /// Workers are started and followed.
    RunManagement,
    /// Runs end.
    Finishing,
    /// Volumes that nothing refers to are removed.
    GarbageCollection,
    /// What no row knows is removed.
    Housekeeping,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// How the doors of agents are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Reach {
    /// At the address of the Pod: from inside the cluster, or on its only node.
    #[default]
    Direct,
    /// Through the API server: from anywhere that it can be reached from.
    Forward,
}

/// What an operator decides for a cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How to reach it; none for what a Pod is given.
    pub kubeconfig: Option<PathBuf>,
    /// Where everything of ours is.
    pub namespace: String,
    /// The image of `knitd`, for agents and for the containers beside main.
    pub image: String,
    /// Storage class of Data; none for the cluster's default.
    pub storage_class: Option<String>,
    /// What a new volume asks for.
    pub initial_capacity: Quantity,
    /// Priority class of workers; none for the cluster's default.
    pub worker_priority: Option<String>,
    /// How the built-in registry is called by nodes: `localhost:30503`.
    pub registry: String,
    /// Where this process reaches the built-in registry, as `host:port` over plain HTTP: to read what an image
    /// executes by itself.
    pub registry_from_here: String,
    /// How agents are reached.
    pub reach: Reach,
    /// How long an agent is kept after its last use.
    pub agent_idle: std::time::Duration,
    /// How long what keeps a worker from starting may last before its Run fails: an image that cannot be pulled, a
    /// service account that is not there.
    pub start_grace: std::time::Duration,
    /// How old must be what no row knows before it is removed: whoever made it may be about to say what it is for.
    pub stray_grace: std::time::Duration,
    /// Largest log of one Run, in bytes.
    pub log_limit: u64,
}

/// Where the certificate of API and registry is, and its key; both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead from it to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Settings of one server process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept; none for a process that keeps nothing on disk.
    pub layout: Option<Layout>,
    /// Where the API listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where the registry listens; port 0 picks a free one.
    pub registry_listen: SocketAddr,
    /// Where probes and metrics are answered; none for nowhere beside the API.
    pub metrics_listen: Option<SocketAddr>,
    /// What API and registry ask for; none lets everyone in.
    pub token: Option<String>,
    /// What API and registry speak TLS with; none for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Plain HTTP is fine beyond loopback: something in front of this process speaks TLS.
    pub insecure_http: bool,
    /// Images may be pulled without the token.
    pub anonymous_pull: bool,
    /// How long to answer on between the request to stop and the end of listening.
    pub drain_delay: std::time::Duration,
    /// Network of workers.
    pub worker_network: WorkerNetwork,
    /// How long workers may take to end when the server stops.
    pub grace: std::time::Duration,
    /// Largest log of one Run, in bytes; what comes after is dropped and said.
    pub log_limit: u64,
    /// What this process does.
    pub roles: BTreeSet<Role>,
    /// URL of the PostgreSQL database; none for SQLite in the installation's folder.
    pub database: Option<String>,
    /// The cluster that Runs execute on; none for this machine.
    pub cluster: Option<Cluster>,
    /// Connections to a PostgreSQL database at one time.
    pub database_connections: u32,
    /// How long a claim on a Run holds that is not renewed: how soon other processes go on with the work of one that
    /// died.
    pub lease: std::time::Duration,
    /// Time between two rounds of housekeeping.
    pub housekeeping: std::time::Duration,
}

/// How long claims hold where many processes work on one database.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(30);
/// Between two rounds of housekeeping.
pub const HOUSEKEEPING: std::time::Duration = std::time::Duration::from_mins(15);

impl Settings {
    /// All roles: an embedded installation, or a cluster served by one process.
    pub fn all_roles() -> BTreeSet<Role> {
        Role::value_variants().iter().copied().collect()
    }

    /// How long a claim holds. One that nobody else could take need not end before its work does, however long the
    /// database may not answer; it is dropped at the next start.
    pub fn lease(&self) -> std::time::Duration {
        if self.is_alone() { std::time::Duration::from_hours(24) } else { self.lease }
    }

    /// Whether this process plays the role.
    pub fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether this process answers the API, for users or for what runs inside the cluster.
    pub fn has_api(&self) -> bool {
        self.plays(Role::Api) || self.plays(Role::Backend)
    }

    /// Whether this process is the registry and nothing else: it needs neither database nor engine.
    pub fn is_only_registry(&self) -> bool {
        self.roles.iter().all(|role| *role == Role::Registry)
    }

    /// Whether Runs execute on this machine.
    pub fn is_embedded(&self) -> bool {
        self.cluster.is_none() && !self.is_only_registry()
    }

    /// Whether no other process may work beside this one: its database or its engine is of one process only.
    pub fn is_alone(&self) -> bool {
        !self.is_only_registry() && (self.cluster.is_none() || self.database.is_none())
    }
}

/// What is wrong with settings that each are fine and together are not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Roles that no process plays: no other one may work beside this one.
    #[error(
        "--roles leaves out {missing}, and no other process could play them: {why}; leave --roles out, or give both \
         --database-file FILE and a cluster (--kubeconfig FILE or --in-cluster)"
    )]
    Unplayed {
        /// The roles, for a person.
        missing: String,
        /// Why no other process may work on the same.
        why: &'static str,
    },
    /// Something is to be kept on disk.
    #[error("--dir DIR is needed: {0}")]
    NoFolder(&'static str),
    /// A token must be asked for, or it must be said that none is.
    #[error("say who may use the API and the registry: --token-file FILE, or --no-auth for everyone on this machine")]
    NoAccess,
    /// Bytes would leave the machine as they are.
    #[error(
        "{flag} {address} is reached from other machines: give --tls-cert FILE and --tls-key FILE, or say \
         --insecure-http if something in front of this process speaks TLS"
    )]
    Readable {
        /// The flag of the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// Everyone on the network would be let in.
    #[error(
        "{flag} {address} is reached from other machines: --no-auth is for loopback addresses, use --token-file FILE"
    )]
    Open {
        /// The flag of the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
    },
}

impl Settings {
    /// Refuses what cannot work or would not be safe. `auth_decided` tells whether somebody said who may come in.
    pub fn check(&self, auth_decided: bool) -> Result<(), Contradiction> {
        self.check_roles()?;
        self.check_folder()?;
        self.check_ports(auth_decided)
    }

    fn check_roles(&self) -> Result<(), Contradiction> {
        if !self.is_alone() {
            return Ok(());
        }
        let needed = Self::all_roles().into_iter().filter(|role| !matches!(role, Role::Backend | Role::Registry));
        let missing: Vec<String> = needed.filter(|role| !self.plays(*role)).map(|role| role.to_string()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let why = match (self.database.is_none(), self.cluster.is_none()) {
            (true, true) => "SQLite and this machine's engine serve one process",
            (true, false) => "SQLite serves one process",
            (false, _) => "this machine's engine serves one process",
        };
        Err(Contradiction::Unplayed { missing: missing.join(", "), why })
    }

    fn check_folder(&self) -> Result<(), Contradiction> {
        let why = if self.layout.is_some() {
            return Ok(());
        } else if self.is_embedded() {
            "this machine's engine keeps Data and images there; with a cluster and --database-file only the registry \
             keeps something"
        } else if self.database.is_none() && !self.is_only_registry() {
            "SQLite keeps its database there; use --database-file FILE for PostgreSQL"
        } else if self.plays(Role::Registry) {
            "the registry keeps images there"
        } else {
            return Ok(());
        };
        Err(Contradiction::NoFolder(why))
    }

    fn check_ports(&self, auth_decided: bool) -> Result<(), Contradiction> {
        let ports = [
            ("--listen", self.listen, self.has_api()),
            ("--registry-listen", self.registry_listen, self.plays(Role::Registry)),
        ];
        for (flag, address, _) in ports.into_iter().filter(|(_, _, is_served)| *is_served) {
            if !auth_decided {
                return Err(Contradiction::NoAccess);
            }
            if address.ip().is_loopback() {
                continue;
            }
            if self.token.is_none() {
                return Err(Contradiction::Open { flag, address });
            }
            if self.tls.is_none() && !self.insecure_http {
                return Err(Contradiction::Readable { flag, address });
            }
        }
        Ok(())
    }
}

/// A PostgreSQL database for a person: without user, password and parameters.
pub fn database_name(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else { return "PostgreSQL".to_owned() };
    let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let host = parameter("host").or_else(|| url.host_str().map(str::to_owned)).unwrap_or_default();
    let port = parameter("port").or_else(|| url.port().map(|port| port.to_string()));
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    format!("PostgreSQL, {} at {host}{port}", url.path().trim_start_matches('/'))
}

/// The folders of an embedded installation.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The installation's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The SQLite database.
    pub fn database(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// Held exclusively by the one server process of this installation.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What the last orderly stop interrupted.
    pub fn stopped(&self) -> PathBuf {
        self.root.join("stopped.json")
    }

    /// One folder per Data, named by its volume.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Manifests by root digest.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// Blobs of images, and the registry's repositories.
    pub fn content(&self) -> PathBuf {
        self.root.join("content")
    }

    /// Unpacked image layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// One folder per worker.
    pub fn workers(&self) -> PathBuf {
        self.root.join("workers")
    }

    /// The folders into which only the server may look: they hold Data, or what Data can be told from.
    pub fn private_folders(&self) -> [PathBuf; 5] {
        [self.volumes(), self.manifests(), self.content(), self.layers(), self.workers()]
    }
}

/// Reads a span of time on a command line, such as `1m30s`.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let span: knit_api::time::Duration = text.parse().map_err(|error| format!("{error}"))?;
    u64::try_from(span.micros()).map(std::time::Duration::from_micros).map_err(|_| "it cannot be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings() -> Settings {
        Settings {
            layout: Some(Layout::new("/srv/knit")),
            listen: "127.0.0.1:30803".parse().unwrap(),
            registry_listen: "127.0.0.1:30503".parse().unwrap(),
            metrics_listen: None,
            token: Some("secret".to_owned()),
            tls: None,
            insecure_http: false,
            anonymous_pull: false,
            drain_delay: Duration::ZERO,
            worker_network: WorkerNetwork::None,
            grace: Duration::ZERO,
            log_limit: 1,
            roles: Settings::all_roles(),
            database: None,
            database_connections: 4,
            lease: LEASE,
            housekeeping: Duration::ZERO,
            cluster: None,
        }
    }

    fn a_cluster() -> Cluster {
        Cluster {
            kubeconfig: None,
            namespace: "knit".to_owned(),
            image: "knitd".to_owned(),
            storage_class: None,
            initial_capacity: "1Gi".parse().unwrap(),
            worker_priority: None,
            registry: "localhost:30503".to_owned(),
            registry_from_here: "127.0.0.1:30503".to_owned(),
            reach: Reach::Direct,
            agent_idle: Duration::ZERO,
            start_grace: Duration::ZERO,
            stray_grace: Duration::ZERO,
            log_limit: 1,
        }
    }

    #[test]
    fn processes_share_the_work_only_with_postgresql_and_a_cluster() {
        let postgres = || Some("postgres://u:p@db/knit".to_owned());
        let cluster = || Some(a_cluster());
        let all = Settings::all_roles;
        let without_doors =
            || all().into_iter().filter(|role| !matches!(role, Role::Backend | Role::Registry)).collect();
        for (roles, database, cluster, layout, refused) in [
            (all(), None, None, true, None),
            (without_doors(), None, None, true, None),
            (all(), postgres(), None, true, None),
            (all(), None, cluster(), true, None),
            (all(), postgres(), cluster(), true, None),
            (without_doors(), postgres(), cluster(), false, None),
            (BTreeSet::from([Role::Projection]), postgres(), cluster(), false, None),
            (BTreeSet::from([Role::Api, Role::Backend]), postgres(), cluster(), false, None),
            (BTreeSet::from([Role::Registry]), None, None, true, None),
            (BTreeSet::from([Role::Projection]), None, None, true, Some("SQLite and this machine's engine")),
            (BTreeSet::from([Role::Projection]), None, cluster(), true, Some("SQLite serves one")),
            (BTreeSet::from([Role::Projection]), postgres(), None, true, Some("this machine's engine serves one")),
            (all(), None, None, false, Some("--dir DIR")),
            (all(), postgres(), cluster(), false, Some("the registry keeps images there")),
            (without_doors(), None, cluster(), false, Some("SQLite keeps its database there")),
            (BTreeSet::from([Role::Registry]), None, None, false, Some("the registry keeps images there")),
        ] {
            let layout = layout.then(|| Layout::new("/srv/knit"));
            let tried = Settings { roles: roles.clone(), database, cluster, layout, ..settings() };
            match (tried.check(true), refused) {
                (Ok(()), None) => {}
                (Err(why), Some(words)) if why.to_string().contains(words) => {}
                (outcome, _) => panic!("{roles:?}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_and_asks_for_a_token() {
        let everywhere: SocketAddr = "0.0.0.0:30803".parse().unwrap();
        let tls = || Some(TlsFiles { certificate: "tls.crt".into(), key: "tls.key".into() });
        let out = || Settings { listen: everywhere, ..settings() };
        assert_eq!(settings().check(true), Ok(()));
        assert_eq!(settings().check(false), Err(Contradiction::NoAccess));
        let flag = "--listen";
        assert_eq!(out().check(true), Err(Contradiction::Readable { flag, address: everywhere }));
        assert_eq!(Settings { insecure_http: true, ..out() }.check(true), Ok(()));
        assert_eq!(Settings { tls: tls(), ..out() }.check(true), Ok(()));
        let open = Settings { tls: tls(), token: None, ..out() }.check(true);
        assert_eq!(open, Err(Contradiction::Open { flag, address: everywhere }));
        // A port that is not served is nobody's concern.
        let roles = BTreeSet::from([Role::Projection]);
        let database = Some("postgres://db/knit".to_owned());
        let quiet = Settings { roles, database, cluster: Some(a_cluster()), token: None, ..out() };
        assert_eq!(quiet.check(false), Ok(()));
    }

    #[test]
    fn a_database_is_named_without_its_password() {
        for (url, name) in [
            ("postgres://knit:secret@database:5432/knit", "PostgreSQL, knit at database:5432"),
            ("postgresql://knit:secret@database/knit?sslmode=require", "PostgreSQL, knit at database"),
            ("postgres://postgres@localhost/knit0?host=/tmp/pg&password=secret", "PostgreSQL, knit0 at /tmp/pg"),
            ("postgres://knit:sec:ret:@:/x", "PostgreSQL"),
        ] {
            assert_eq!(database_name(url), name);
        }
    }
}

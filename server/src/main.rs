//! knitd: the server's process and its roles. `serve` is the server, `volume-expander` a helper of a cluster's node;
//! `shim` is what the server starts beside each container, the others what runs inside Pods, and none of these is
//! anything a person calls.

use anyhow::{Context, bail};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use knit_api::image::BUILT_IN_REGISTRY;
use knit_api::problem::in_words;
use knit_api::quantity::Quantity;
use knit_server::engine::kubernetes::door;
use knit_server::engine::kubernetes::door::agent;
use knit_server::engine::kubernetes::door::check_empty::CheckEmpty;
use knit_server::engine::kubernetes::door::record::RecordLog;
use knit_server::engine::kubernetes::expansion;
use knit_server::log_file::LogFile;
use knit_server::serve::{self, Listening};
use knit_server::settings::{self, Cluster, Layout, Reach, Settings, TlsFiles, WorkerNetwork, duration};
use knit_server::store::{self, Store};
use knit_server::transfers::BLOCKING_THREADS;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// The server of Knit.
#[derive(Debug, Parser)]
#[command(name = "knitd", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Runs the server in the foreground, or the part of it that `--roles` names.
    Serve(Box<Serve>),
    /// Grows the volumes that Pods of one node fill up.
    VolumeExpander(VolumeExpander),
    /// Brings a PostgreSQL database to the schema of this version, and ends.
    Migrate(Migrate),
    /// Serves the volumes of a Pod to servers; nothing that a person calls.
    #[command(hide = true)]
    Agent(agent::Settings),
    /// Makes sure that volumes are empty, before a worker begins.
    #[command(hide = true)]
    CheckEmpty(CheckEmpty),
    /// Records the log of a worker, beside it.
    #[command(hide = true)]
    RecordLog(RecordLog),
}

#[derive(Debug, Args)]
struct Migrate {
    /// File with the URL of the database; only its owner may read it.
    #[arg(long, value_name = "FILE")]
    database_file: PathBuf,
}

/// By itself `knitd serve` is all of an embedded installation. With PostgreSQL and a cluster its roles can be played by
/// any number of processes.
#[derive(Debug, Args)]
struct Serve {
    /// Folder of the installation; made if need be. Needed for SQLite, for this machine's engine, and for the
    /// registry.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// What this process does; everything when nothing is said.
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',')]
    roles: Vec<settings::Role>,

    /// File with the URL of a PostgreSQL database (13 or newer); only its owner may read it. Without one: SQLite in
    /// the installation's folder.
    #[arg(long, value_name = "FILE")]
    database_file: Option<PathBuf>,

    /// Network of the containers on this machine.
    #[arg(long, value_name = "NETWORK", default_value = "none")]
    worker_network: WorkerNetwork,

    /// How long containers may take to end when they are stopped, and requests when the server stops.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    grace: Duration,

    /// How long to take requests on when asked to stop, so that others learn first that none are to be sent here.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    drain_delay: Duration,

    /// Largest log of one Run.
    #[arg(long, value_name = "BYTES", default_value = "1Gi", value_parser = bytes)]
    log_limit: u64,

    /// Connections to the PostgreSQL database at one time.
    #[arg(long, value_name = "NUMBER", default_value_t = store::CONNECTIONS, value_parser = clap::value_parser!(u32).range(4..=1000))]
    database_connections: u32,

    /// How long a Run stays with a process that has died: then others go on with it. Where there are no others,
    /// a restart is enough.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = lease)]
    lease: Duration,

    /// Time between two looks for what no row knows: volumes, workers, content of images.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    housekeeping: Duration,

    #[command(flatten)]
    ports: OnPorts,

    #[command(flatten)]
    cluster: OnCluster,

    #[command(flatten)]
    log: ServerLog,
}

/// Where the server is reached, and by whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Ports")]
struct OnPorts {
    /// Where the API listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:30803")]
    listen: SocketAddr,

    /// Where the image registry listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:30503")]
    registry_listen: SocketAddr,

    /// Where `/healthz`, `/readyz` and `/metrics` are answered, in every role, over plain HTTP and to everyone.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,

    /// File with the token that API and registry ask for; only its owner may read it.
    #[arg(long, value_name = "FILE", conflicts_with = "no_auth")]
    token_file: Option<PathBuf>,

    /// Ask for no token. Whoever reaches the API can start containers: only on loopback addresses.
    #[arg(long)]
    no_auth: bool,

    /// Certificate of API and registry, with those that lead to its authority (PEM). Read anew when it changes. The
    /// registry speaks plain HTTP on the same port as well.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Speak plain HTTP also beyond loopback addresses: something in front of this process speaks TLS.
    #[arg(long, conflicts_with = "tls_cert")]
    insecure_http: bool,

    /// Let everyone pull images by their names; pushing still takes the token. The nodes of a cluster need it.
    #[arg(long)]
    registry_anonymous_pull: bool,
}

/// The server's own log.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Log")]
struct ServerLog {
    /// The server's own log, in place of stderr: at 10 MiB it is put aside as FILE.1, that one as FILE.2.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// Form of the server's own log. What it tells is chosen by KNITD_LOG (such as `debug`).
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// One process on each node, for the volumes of Data that are mounted there.
#[derive(Debug, Args)]
struct VolumeExpander {
    /// The node.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: String,

    /// Namespaces of the volumes.
    #[arg(value_name = "NAMESPACE", required = true)]
    namespaces: Vec<String>,

    /// A volume grows when less than this is free in it.
    #[arg(long, value_name = "BYTES", default_value = "1Gi", env = "MARGIN", value_parser = bytes)]
    margin: u64,

    /// By how much it grows.
    #[arg(long, value_name = "BYTES", default_value = "5Gi", env = "DELTA", value_parser = bytes)]
    delta: u64,

    /// How often to look.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    interval: Duration,

    /// The cluster that this file leads to; else the one that this process runs on.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Where `/healthz`, `/readyz` and `/metrics` are answered.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,

    #[command(flatten)]
    log: ServerLog,
}

/// Executing Runs on Kubernetes in place of this machine.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "On Kubernetes")]
struct OnCluster {
    /// Execute Runs on the cluster that this file leads to.
    #[arg(long, value_name = "FILE", conflicts_with = "in_cluster")]
    kubeconfig: Option<PathBuf>,

    /// Execute Runs on the cluster that this process runs on, as a Pod.
    #[arg(long)]
    in_cluster: bool,

    /// Namespace of volumes and workers.
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,

    /// Image of knitd, for what runs beside volumes and in workers.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// Storage class of Data; else the cluster's default.
    #[arg(long, value_name = "NAME")]
    storage_class: Option<String>,

    /// What a new volume asks for.
    #[arg(long, value_name = "BYTES", default_value = "1Gi")]
    initial_capacity: Quantity,

    /// Priority class of workers; else the cluster's default.
    #[arg(long, value_name = "NAME")]
    worker_priority: Option<String>,

    /// How nodes call the built-in registry.
    #[arg(long, value_name = "HOST:PORT", default_value = BUILT_IN_REGISTRY)]
    registry_name: String,

    /// Where this process reaches the built-in registry; else where it would listen itself.
    #[arg(long, value_name = "HOST:PORT")]
    registry_from_here: Option<String>,

    /// How the Pods beside volumes are reached.
    #[arg(long, value_name = "WAY", default_value = "direct")]
    reach: Reach,

    /// How long a Pod beside a volume is kept after its last use.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    agent_idle: Duration,

    /// How long what keeps a worker from starting may last before its Run fails.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    start_grace: Duration,

    /// How old must be what no row knows before it is removed: volumes, the Pods beside them, Secrets.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    stray_grace: Duration,
}

/// Shorter claims would end under the hands of a process that waits for its turn on a busy machine.
const SHORTEST_LEASE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

fn main() -> ExitCode {
    // These must stay processes of one thread: before anything else.
    let role = std::env::args_os().nth(1).unwrap_or_default();
    if role == "shim" {
        return knit_server::engine::local::native::shim::main();
    }
    if role == "wrap" {
        return door::wrap::main();
    }
    #[cfg(feature = "failpoints")]
    let _scenario = die_at_fail_points();
    // Fails only when a provider is installed already; then there is one, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match Cli::parse().role {
        Role::Serve(serve) => {
            if let Err(refused) = serve.check() {
                refused.exit();
            }
            start_logging(&serve.log).and_then(|()| run(*serve))
        }
        Role::Migrate(migrate) => start_logging(&ServerLog::default()).and_then(|()| block_on(migrate.run())),
        Role::VolumeExpander(expander) => start_logging(&expander.log).and_then(|()| expand(expander)),
        Role::Agent(settings) => start_logging(&ServerLog::default()).and_then(|()| block_on(agent::run(settings))),
        Role::CheckEmpty(check) => check.run(),
        Role::RecordLog(record) => start_logging(&ServerLog::default()).and_then(|()| block_on(record.run())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "knitd: {}", in_words(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Arms the fail-points named in `FAILPOINTS`. Where one of them says `panic`, the process ends at that very
/// instruction, as by SIGKILL: unwinding would clean up behind it, which a crash does not.
#[cfg(feature = "failpoints")]
fn die_at_fail_points() -> fail::FailScenario<'static> {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        if panic.payload_as_str().is_some_and(|words| words.starts_with("failpoint ")) {
            std::process::abort();
        }
    }));
    fail::FailScenario::setup()
}

fn run(serve: Serve) -> anyhow::Result<()> {
    let settings = serve.settings()?;
    block_on(serve::serve(settings, announce))
}

fn expand(expander: VolumeExpander) -> anyhow::Result<()> {
    let kubeconfig = expander.kubeconfig;
    let settings = expansion::Settings {
        node: expander.node_name,
        namespaces: expander.namespaces,
        margin: expander.margin,
        delta: expander.delta,
        interval: expander.interval,
    };
    block_on(serve::expand_volumes(settings, kubeconfig, expander.metrics_listen))
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // Few threads: the work is waiting, and each idle thread costs memory.
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cpus.clamp(2, 4))
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(work);
    // All is settled by now; a blocking call that hangs must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

impl Migrate {
    async fn run(self) -> anyhow::Result<()> {
        let store = Store::open_postgres(&read_database_url(&self.database_file)?).await?;
        store.close().await;
        tracing::info!(version = Store::SCHEMA, "the database has the schema of this version");
        Ok(())
    }
}

impl Serve {
    /// Refuses what the grammar cannot: flags that each are fine and together are not.
    fn check(&self) -> Result<(), clap::Error> {
        let refuse = |why: &str| Err(Cli::command().error(ErrorKind::ArgumentConflict, why));
        if self.ports.no_auth && self.worker_network == WorkerNetwork::Host {
            return refuse(
                "--no-auth and --worker-network host exclude each other: any container could reach the API and \
                 start further ones; use --token-file FILE, or --worker-network none",
            );
        }
        if self.cluster.is_meant() && self.cluster.image.is_none() {
            return refuse("--image IMAGE is needed with a cluster: the image of knitd, for what runs in its Pods");
        }
        let decided = self.ports.token_file.is_some() || self.ports.no_auth;
        // What stands in files does not decide, only that it is there.
        let settings = self.without_secrets().map(|settings| Settings {
            token: self.ports.token_file.as_ref().map(|_| String::new()),
            database: self.database_file.as_ref().map(|_| String::new()),
            ..settings
        });
        match settings {
            Ok(settings) => settings.check(decided).or_else(|why| refuse(&why.to_string())),
            Err(error) => refuse(&format!("{error:#}")),
        }
    }

    fn roles(&self) -> BTreeSet<settings::Role> {
        if self.roles.is_empty() { Settings::all_roles() } else { self.roles.iter().copied().collect() }
    }

    fn settings(self) -> anyhow::Result<Settings> {
        Ok(Settings {
            token: self.ports.token_file.as_deref().map(read_token).transpose()?,
            database: self.database_file.as_deref().map(read_database_url).transpose()?,
            ..self.without_secrets()?
        })
    }

    /// What the command line says, without what stands in files that it names.
    fn without_secrets(&self) -> anyhow::Result<Settings> {
        let root = |dir: &PathBuf| std::path::absolute(dir).with_context(|| format!("--dir {}", dir.display()));
        let ports = &self.ports;
        let tls = ports.tls_cert.clone().zip(ports.tls_key.clone());
        Ok(Settings {
            layout: self.dir.as_ref().map(root).transpose()?.map(Layout::new),
            listen: ports.listen,
            registry_listen: ports.registry_listen,
            metrics_listen: ports.metrics_listen,
            token: None,
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
            insecure_http: ports.insecure_http,
            anonymous_pull: ports.registry_anonymous_pull,
            drain_delay: self.drain_delay,
            worker_network: self.worker_network,
            grace: self.grace,
            log_limit: self.log_limit,
            roles: self.roles(),
            database: None,
            database_connections: self.database_connections,
            lease: self.lease,
            housekeeping: self.housekeeping,
            cluster: self.cluster.settings(self.log_limit, ports.registry_listen),
        })
    }
}

impl OnCluster {
    /// Whether Runs are to execute on a cluster.
    fn is_meant(&self) -> bool {
        self.kubeconfig.is_some() || self.in_cluster
    }

    fn settings(&self, log_limit: u64, registry: SocketAddr) -> Option<Cluster> {
        if !self.is_meant() {
            return None;
        }
        let this = self.clone();
        Some(Cluster {
            kubeconfig: this.kubeconfig,
            namespace: this.namespace,
            image: this.image.unwrap_or_default(),
            storage_class: this.storage_class,
            initial_capacity: this.initial_capacity,
            worker_priority: this.worker_priority,
            registry: this.registry_name,
            registry_from_here: this.registry_from_here.unwrap_or_else(|| registry.to_string()),
            reach: self.reach,
            agent_idle: self.agent_idle,
            start_grace: self.start_grace,
            stray_grace: self.stray_grace,
            log_limit,
        })
    }
}

/// The database's URL has a password in it: it comes in a file that only its owner may read.
fn read_database_url(path: &Path) -> anyhow::Result<String> {
    let url = read_secret(path, "the database's URL")?;
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        bail!("{}: a database is named as postgres://USER:PASSWORD@HOST:PORT/DATABASE", path.display());
    }
    Ok(url)
}

/// Tells whoever started this process where to reach it, in one line of JSON; then nothing more comes.
fn announce(at: Listening) {
    let mut line = serde_json::json!({ "pid": std::process::id() });
    for (port, address) in [("api", at.api), ("registry", at.registry), ("metrics", at.metrics)] {
        if let Some(address) = address {
            line[port] = address.to_string().into();
        }
    }
    let mut stdout = std::io::stdout().lock();
    // Nobody may be listening; that is no reason not to serve.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    if let Ok(nowhere) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(nowhere);
    }
}

/// Reads a file with one secret in it, which nobody else may read.
fn read_secret(path: &Path, what: &str) -> anyhow::Result<String> {
    let reading = || format!("reading {what} in {}", path.display());
    let mode = std::fs::metadata(path).with_context(reading)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{}: others than its owner may read {what}; run `chmod 600 {0}`", path.display());
    }
    Ok(std::fs::read_to_string(path).with_context(reading)?.trim().to_owned())
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let token = read_secret(path, "the token")?;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("{}: a token is one line of printable ASCII without blanks", path.display());
    }
    Ok(token)
}

fn start_logging(ServerLog { log_file: file, log_format: format }: &ServerLog) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("KNITD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, colour) = match file {
        Some(path) => {
            let file = LogFile::open(path).with_context(|| format!("opening the log {}", path.display()))?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
        None => (BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal()),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        // A line that cannot be written, on a full disk for one, is lost. Saying so where it could not be
        // written would end the task that had something to say.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(colour).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// A claim must be renewed a few times before it ends, by a process that may be busy.
fn lease(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if length < SHORTEST_LEASE {
        Err(format!("it must be {} seconds or more", SHORTEST_LEASE.as_secs()))
    } else {
        Ok(length)
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let amount: Quantity = text.parse().map_err(|error| format!("{error}"))?;
    u64::try_from(amount.units()).ok().filter(|&bytes| bytes > 0).ok_or_else(|| "it must be more than 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What becomes of a command line of `knitd serve`: nothing, or the words it is refused with.
    fn refused(line: &str) -> Option<String> {
        let parsed = Cli::try_parse_from(["knitd", "serve"].into_iter().chain(line.split_whitespace()));
        let Role::Serve(serve) = (match parsed {
            Ok(cli) => cli.role,
            Err(error) => return Some(error.to_string()),
        }) else {
            panic!("another role")
        };
        let error = serve.check().err()?;
        assert_eq!(error.exit_code(), 2);
        Some(error.to_string())
    }

    #[test]
    fn only_what_can_work_and_is_safe_is_started() {
        let cluster = "--database-file db --kubeconfig k --image knitd";
        for (line, words) in [
            ("--dir d --no-auth".to_owned(), None),
            ("--dir d --token-file t".to_owned(), None),
            ("--dir d".to_owned(), Some("--token-file FILE, or --no-auth")),
            ("--dir d --no-auth --token-file t".to_owned(), Some("cannot be used with")),
            ("--no-auth".to_owned(), Some("--dir DIR is needed")),
            ("--dir d --no-auth --worker-network host".to_owned(), Some("--token-file")),
            ("--dir d --token-file t --worker-network host".to_owned(), None),
            ("--dir d --token-file t --listen 0.0.0.0:1".to_owned(), Some("--tls-cert FILE")),
            ("--dir d --token-file t --listen 0.0.0.0:1 --insecure-http".to_owned(), None),
            ("--dir d --token-file t --listen 0.0.0.0:1 --tls-cert c --tls-key k".to_owned(), None),
            ("--dir d --token-file t --tls-cert c".to_owned(), Some("--tls-key")),
            ("--dir d --no-auth --listen 0.0.0.0:1 --tls-cert c --tls-key k".to_owned(), Some("use --token-file")),
            ("--dir d --no-auth --roles api".to_owned(), Some("--roles leaves out projection")),
            ("--dir d --no-auth --kubeconfig k".to_owned(), Some("--image IMAGE")),
            ("--dir d --no-auth --kubeconfig k --image knitd".to_owned(), None),
            ("--no-auth --kubeconfig k --image knitd --roles api".to_owned(), Some("SQLite serves one process")),
            (format!("{cluster} --roles projection"), None),
            (format!("{cluster} --roles api,backend --token-file t"), None),
            (format!("{cluster} --roles api"), Some("--token-file FILE, or --no-auth")),
            (format!("{cluster} --roles registry --no-auth"), Some("the registry keeps images there")),
            ("--roles registry --dir d --token-file t --registry-anonymous-pull".to_owned(), None),
        ] {
            match (refused(&line), words) {
                (None, None) => {}
                (Some(why), Some(words)) if why.contains(words) => {}
                (outcome, _) => panic!("{line}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn help_is_read_at_eighty_columns() {
        for role in ["serve", "volume-expander"] {
            let mut command = Cli::command().term_width(80);
            let help = command.find_subcommand_mut(role).unwrap().clone().term_width(80).render_long_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn durations_and_sizes_are_read_with_their_units() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("-1s").is_err() && duration("10").is_err());
        assert!(lease("4s").is_err() && lease("5s").is_ok());
        assert_eq!(bytes("1Mi"), Ok(1 << 20));
        assert!(bytes("0").is_err() && bytes("-1").is_err() && bytes("much").is_err());
    }

    #[test]
    fn a_token_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_token(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_token(&path).unwrap(), "secret");
        std::fs::write(&path, " \n").unwrap();
        assert!(read_token(&path).is_err());
    }
}

//! knitd: the server's process and its roles. `serve` is the server; `shim` is what it starts beside each container,
//! the others what runs inside Pods, and none of them is anything a person calls.

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
use knit_server::log_file::LogFile;
use knit_server::serve::{self, Listening};
use knit_server::settings::{self, Cluster, Layout, Reach, Settings, WorkerNetwork, duration};
use knit_server::transfers::BLOCKING_THREADS;
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
    /// Runs the server of an embedded installation in the foreground.
    Serve(Box<Serve>),
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
struct Serve {
    /// Folder of the installation; made if need be.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Where the API listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:30803")]
    listen: SocketAddr,

    /// Where the image registry listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:30503")]
    registry_listen: SocketAddr,

    #[command(flatten)]
    access: Access,

    /// Network of the containers.
    #[arg(long, value_name = "NETWORK", default_value = "none")]
    worker_network: WorkerNetwork,

    /// How long containers may take to end when they are stopped.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    grace: Duration,

    /// Largest log of one Run.
    #[arg(long, value_name = "BYTES", default_value = "1Gi", value_parser = bytes)]
    log_limit: u64,

    /// What this process does; everything when nothing is said.
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',')]
    roles: Vec<settings::Role>,

    /// File with the URL of a PostgreSQL database (13 or newer); only its owner may read it. Without one: SQLite in
    /// the installation's folder.
    #[arg(long, value_name = "FILE")]
    database_file: Option<PathBuf>,

    #[command(flatten)]
    cluster: OnCluster,

    /// The server's own log, in place of stderr: at 10 MiB it is put aside as FILE.1, that one as FILE.2.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// Form of the server's own log. What it tells is chosen by KNITD_LOG (such as `debug`).
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Executing Runs on Kubernetes in place of this machine.
#[derive(Debug, Args)]
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
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Access {
    /// File with the token that API and registry ask for; only its owner may read it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Ask for no token. Whoever reaches the API can start containers.
    #[arg(long)]
    no_auth: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
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
    let serve = match Cli::parse().role {
        Role::Serve(serve) => serve,
        Role::Agent(settings) => {
            return ended(start_logging(LogFormat::Text, None).and_then(|()| beside(agent::run(settings))));
        }
        Role::CheckEmpty(check) => return ended(check.run()),
        Role::RecordLog(record) => return ended(record_log(record)),
    };
    if let Err(refused) = serve.check() {
        refused.exit();
    }
    #[cfg(feature = "failpoints")]
    let _scenario = die_at_fail_points();
    ended(start_logging(serve.log_format, serve.log_file.as_deref()).and_then(|()| run(*serve)))
}

/// How the process ends.
fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "knitd: {}", in_words(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Plays a role beside volumes, in a Pod.
fn beside(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = start_runtime()?;
    let outcome = runtime.block_on(role);
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
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
    let runtime = start_runtime()?;
    let outcome = runtime.block_on(serve::serve(settings, announce));
    // All is settled by now; a blocking call that hangs must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn start_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Fails only when a provider is installed already; then there is one, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Few threads: the work is waiting, and each idle thread costs memory.
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cpus.clamp(2, 4))
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// One thread waits; what takes long has threads of its own.
fn record_log(record: RecordLog) -> anyhow::Result<()> {
    start_logging(LogFormat::Text, None)?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let outcome = runtime.block_on(record.run());
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

impl Serve {
    /// Refuses what the grammar cannot: flags that each are fine and together are not.
    fn check(&self) -> Result<(), clap::Error> {
        if self.access.no_auth && self.worker_network == WorkerNetwork::Host {
            return Err(Cli::command().error(
                ErrorKind::ArgumentConflict,
                "--no-auth and --worker-network host exclude each other: any container could reach the API and \
                 start further ones; use --token-file FILE, or --worker-network none",
            ));
        }
        Ok(())
    }

    fn settings(self) -> anyhow::Result<Settings> {
        let root = std::path::absolute(&self.dir).with_context(|| format!("--dir {}", self.dir.display()))?;
        Ok(Settings {
            layout: Layout::new(root),
            listen: self.listen,
            registry_listen: self.registry_listen,
            token: self.access.token_file.as_deref().map(read_token).transpose()?,
            worker_network: self.worker_network,
            grace: self.grace,
            log_limit: self.log_limit,
            roles: if self.roles.is_empty() { Settings::all_roles() } else { self.roles.iter().copied().collect() },
            database: self.database_file.as_deref().map(read_database_url).transpose()?,
            cluster: self.cluster.settings(self.log_limit, self.registry_listen)?,
        })
    }
}

impl OnCluster {
    fn settings(self, log_limit: u64, registry: SocketAddr) -> anyhow::Result<Option<Cluster>> {
        if self.kubeconfig.is_none() && !self.in_cluster {
            return Ok(None);
        }
        let image = self.image.context("--image IMAGE is needed with a cluster: the image of knitd, for agents")?;
        Ok(Some(Cluster {
            kubeconfig: self.kubeconfig,
            namespace: self.namespace,
            image,
            storage_class: self.storage_class,
            initial_capacity: self.initial_capacity,
            worker_priority: self.worker_priority,
            registry: self.registry_name,
            registry_from_here: self.registry_from_here.unwrap_or_else(|| registry.to_string()),
            reach: self.reach,
            agent_idle: self.agent_idle,
            start_grace: self.start_grace,
            log_limit,
        }))
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
    let line = serde_json::json!({
        "api": at.api.to_string(),
        "registry": at.registry.to_string(),
        "pid": std::process::id(),
    });
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

fn start_logging(format: LogFormat, file: Option<&Path>) -> anyhow::Result<()> {
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

    #[test]
    fn access_must_be_decided() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["knitd", "serve", "--dir", "d"], args].concat());
        assert!(parse(&["--no-auth"]).is_ok());
        assert!(parse(&["--token-file", "t"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--no-auth", "--token-file", "t"]).is_err());
    }

    #[test]
    fn containers_on_the_network_need_a_token_on_the_api() {
        let check = |args: &[&str]| {
            let line = Cli::try_parse_from([&["knitd", "serve", "--dir", "d"], args].concat()).unwrap();
            let Role::Serve(serve) = line.role else { panic!("it serves") };
            serve.check()
        };
        let refused = check(&["--no-auth", "--worker-network", "host"]).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("--token-file"), "{refused}");
        assert!(check(&["--no-auth"]).is_ok());
        assert!(check(&["--token-file", "t", "--worker-network", "host"]).is_ok());
    }

    #[test]
    fn durations_and_sizes_are_read_with_their_units() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("-1s").is_err() && duration("10").is_err());
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

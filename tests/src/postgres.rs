//! A PostgreSQL server of the tests' own: Debian's, in a temporary folder, as an unprivileged user, on a socket in
//! that folder. One server for each test process, one database for each test.

use crate::able;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

/// A new, empty database: its URL. None, after one loud line, where PostgreSQL is not installed.
pub fn new_database() -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.as_ref()?;
    let name = format!("knit{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut command = server.client("createdb");
    command.arg(&name);
    run(command);
    Some(server.url(&name))
}

/// Removes a database of [`new_database`], whoever is connected to it.
pub fn drop_database(url: &str) {
    let Some(server) = SERVER.as_ref() else { return };
    let name = url.split('?').next().and_then(|place| place.rsplit('/').next()).unwrap_or(url);
    let mut command = server.client("dropdb");
    command.args(["--force", "--if-exists", name]);
    run(command);
}

/// A server for one test alone, which may stop it and start it again.
pub fn own_server() -> Option<Server> {
    Server::start()
}

static SERVER: LazyLock<Option<Server>> = LazyLock::new(|| {
    let server = Server::start();
    if server.is_none() {
        able::skipped("everything_on_postgresql", "PostgreSQL is not installed (apt-get install postgresql)");
    }
    server
});

/// A running server.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    /// Holds the server's life line: when this process ends, however it does, the pipe to its keeper
    /// closes, and the keeper stops the server and removes the folder.
    keeper: Mutex<(Child, BufReader<ChildStdout>)>,
}

const KEEPER: &str = r#"
trap '' INT TERM HUP
"$0/initdb" -D "$1/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >"$1/initdb.log" 2>&1 &&
start() {
    "$0/pg_ctl" -D "$1/data" -l "$1/server.log" -w start \
        -o "-h '' -k '$1' -c fsync=off -c max_connections=400 -c shared_buffers=64MB" >"$1/start.log" 2>&1 && echo ready
}
start "$1" && while read -r word; do
    case $word in
        stop) "$0/pg_ctl" -D "$1/data" -m immediate -w stop >/dev/null 2>&1 && echo ready ;;
        start) start "$1" ;;
    esac
done
"$0/pg_ctl" -D "$1/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$1"
"#;

impl Server {
    fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("knit-pg").tempdir_in("/tmp").expect("a folder").keep();
        let mut command = if rustix::process::geteuid().is_root() {
            // PostgreSQL refuses to run as root.
            let mut own = Command::new("chown");
            own.arg("postgres").arg(&folder);
            run(own);
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", KEEPER]).arg(&programs).arg(&folder).current_dir("/");
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
        let said = BufReader::new(keeper.stdout.take().expect("its output is piped"));
        let server = Self { programs, folder, keeper: Mutex::new((keeper, said)) };
        server.until_ready();
        Some(server)
    }

    fn until_ready(&self) {
        let mut said = String::new();
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        keeper.1.read_line(&mut said).expect("its output can be read");
        assert_eq!(said, "ready\n", "PostgreSQL does not do what it is told; see {}", self.folder.display());
    }

    /// Does `stop`, as a crash does, or `start`.
    pub fn tell(&self, word: &str) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = keeper.0.stdin.as_mut().expect("its input is piped");
        writeln!(stdin, "{word}").expect("its keeper listens");
        drop(keeper);
        self.until_ready();
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(["--username", "postgres", "--host"]).arg(&self.folder);
        command
    }

    /// URL of one of its databases; `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder.display())
    }
}

/// The folder of the newest version's programs, as Debian has them.
fn programs() -> Option<PathBuf> {
    let version = |folder: &Path| folder.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    folders.filter(|folder| folder.join("postgres").exists()).max_by_key(|folder| version(folder))
}

#[track_caller]
fn run(mut command: Command) {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_come_and_go() {
        let Some(one) = new_database() else { return };
        let other = new_database().expect("the server is there");
        assert_ne!(one, other);
        let asked = |url: &str| {
            let psql = SERVER.as_ref().expect("it is there").programs.join("psql");
            Command::new(psql).args([url, "--command", "select 1"]).output().expect("psql").status.success()
        };
        assert!(asked(&one) && asked(&other));
        drop_database(&one);
        assert!(!asked(&one) && asked(&other));
    }
}

//! A PostgreSQL server of the tests' own: in a temporary folder, as an unprivileged user, on a socket in
//! that folder. One server for each test process, one database for each test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

/// A new, empty database: its URL. None, after one loud line, where PostgreSQL is not installed.
pub(crate) async fn new_database() -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.as_ref()?;
    let name = format!("knit{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = <sqlx::PgConnection as sqlx::Connection>::connect(&server.url("postgres")).await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("create database {name}"));
    sqlx::raw_sql(sql).execute(&mut admin).await.unwrap();
    Some(server.url(&name))
}

/// A server for one test alone, which may stop it and start it again.
#[allow(dead_code, reason = "few test programs need one of their own")]
pub(crate) fn own_server() -> Option<Server> {
    Server::start()
}

static SERVER: LazyLock<Option<Server>> = LazyLock::new(|| {
    let server = Server::start();
    if server.is_none() {
        let why = "PostgreSQL is not installed (apt-get install postgresql); it is tested on SQLite alone";
        knit_tests::able::skipped("the_store_on_postgresql", why);
    }
    server
});

pub(crate) struct Server {
    folder: PathBuf,
    /// Holds the server's life line: when this process ends, however it does, the pipe to its keeper
    /// closes, and the keeper stops the server and removes the folder.
    keeper: Mutex<(Child, BufReader<ChildStdout>)>,
}

const KEEPER: &str = r#"
trap '' INT
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
        let folder = tempfile::Builder::new().prefix("knit-pg").tempdir_in("/tmp").unwrap().keep();
        let mut command = if is_root() {
            // PostgreSQL refuses to run as root.
            assert!(Command::new("chown").arg("postgres").arg(&folder).status().unwrap().success());
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", KEEPER]).arg(programs).arg(&folder).current_dir("/");
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(keeper.stdout.take().unwrap());
        let server = Self { folder, keeper: Mutex::new((keeper, said)) };
        server.until_ready();
        Some(server)
    }

    fn until_ready(&self) {
        let mut said = String::new();
        self.keeper.lock().unwrap().1.read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "PostgreSQL does not do what it is told; see {}", self.folder.display());
    }

    /// Does `stop`, as a crash does, or `start`.
    #[allow(dead_code, reason = "few test programs need a server of their own")]
    pub(crate) fn tell(&self, word: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.0.stdin.as_mut().unwrap(), "{word}").unwrap();
        drop(keeper);
        self.until_ready();
    }

    pub(crate) fn url(&self, database: &str) -> String {
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

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

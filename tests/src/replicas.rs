//! Every role of the server as processes of its own, two of each, over one database and one namespace: what a
//! cluster's Deployments are, as far as processes that may die can tell.

use crate::World;
use crate::cluster::{Cluster, free_port};
use crate::ran::Ran;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a process may take until it serves.
const START: Duration = Duration::from_mins(1);
/// How long a command may go on to meet servers that are being killed.
const PATIENCE: Duration = Duration::from_mins(2);
/// How many processes play each role. The registry, which has a folder of its own, is one.
const COPIES: usize = 2;
/// How much of each log a failed story shows, in lines.
const LOG_LINES: usize = 15;
/// The roles; those in one line are played by one process.
const ROLES: [&str; 8] = [
    "registry",
    "api,backend",
    "projection",
    "initialize",
    "run-management",
    "finishing",
    "garbage-collection",
    "housekeeping",
];

/// All processes of one installation. Dropping it ends them.
#[derive(Debug)]
pub struct Replicas {
    members: Vec<Mutex<Member>>,
    /// Profiles of those that answer the API, and the one to be asked next.
    profiles: Vec<String>,
    turn: Mutex<usize>,
    world: World,
}

#[derive(Debug)]
struct Member {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Replicas {
    /// Starts all of them, with these flags for each.
    #[track_caller]
    pub fn start(flags: &[&str]) -> Self {
        let world = World::new();
        let cluster = world.cluster().expect("replicas need a cluster");
        let (program, registry) = (cluster.knitd().to_owned(), cluster.registry_port());
        let (mut members, mut profiles) = (Vec::new(), Map::new());
        for roles in ROLES {
            for copy in 0..if roles == "registry" { 1 } else { COPIES } {
                let name = format!("{}-{copy}", roles.split(',').next().unwrap_or(roles));
                let mut arguments: Vec<String> = ["serve", "--no-auth", "--roles", roles].map(str::to_owned).into();
                arguments.extend(["--registry-from-here".to_owned(), format!("127.0.0.1:{registry}")]);
                arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
                if roles == "registry" {
                    let dir = world.base().join("registry").display().to_string();
                    arguments.extend(["--dir".to_owned(), dir]);
                    arguments.extend(["--registry-listen".to_owned(), format!("127.0.0.1:{registry}")]);
                }
                if roles.starts_with("api") {
                    let address = format!("127.0.0.1:{}", free_port());
                    let registry = json!({"host": format!("localhost:{registry}"), "insecure": true});
                    profiles.insert(
                        name.clone(),
                        json!({"apiRoot": format!("http://{address}/api"), "registry": registry}),
                    );
                    arguments.extend(["--listen".to_owned(), address]);
                }
                let log = world.base().join(format!("{name}.log"));
                members.push(Mutex::new(Member { name, program: program.clone(), arguments, log, child: None }));
            }
        }
        let store = world.home().join(".knit");
        fs::create_dir(&store).expect("a fresh home");
        let names = profiles.keys().cloned().collect();
        // JSON is YAML.
        fs::write(store.join("profile"), Value::Object(profiles).to_string()).expect("room for profiles");
        let replicas = Self { members, profiles: names, turn: Mutex::new(0), world };
        std::thread::scope(|scope| {
            for member in &replicas.members {
                let command = |program: &PathBuf| replicas.world.command(program);
                scope.spawn(move || lock(member).start(command));
            }
        });
        replicas
    }

    /// How many processes there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Ends one of them, as a crash does, and starts it again.
    #[track_caller]
    pub fn kill(&self, which: usize) {
        let mut member = lock(&self.members[which]);
        member.kill();
        member.start(|program| self.world.command(program));
    }

    /// The world that they serve.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The cluster that they work on.
    #[track_caller]
    pub fn cluster(&self) -> &Cluster {
        self.world.cluster().expect("replicas need a cluster")
    }

    /// Runs `knit` as a user does who has two servers: where one dies, the other is asked. Only that may go wrong.
    #[track_caller]
    pub fn knit(&self, arguments: &[&str]) -> Ran {
        let limit = Instant::now() + PATIENCE;
        loop {
            let ran = self.world.knit(&[&["--profile", self.next_profile()], arguments].concat());
            if ran.code == Some(0) || !is_cut_off(&ran) || Instant::now() > limit {
                return ran.ok();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What `knit` prints as a list.
    #[track_caller]
    pub fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let ran = self.knit(arguments);
        ran.json().as_array().unwrap_or_else(|| panic!("a list was expected: {ran}")).clone()
    }

    /// The ids of all Data with this tag.
    #[track_caller]
    pub fn data(&self, tag: &str) -> BTreeSet<String> {
        let id = |data: &Value| data["knitId"].as_str().expect("an id is a string").to_owned();
        self.list(&["data", "find", "--tag", tag]).iter().map(id).collect()
    }

    /// The ends of all logs.
    pub fn log_tails(&self) -> String {
        self.members.iter().map(|member| lock(member).log_tail()).collect()
    }

    fn next_profile(&self) -> &str {
        let mut turn = lock(&self.turn);
        *turn += 1;
        &self.profiles[*turn % self.profiles.len()]
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr().lock(), "{}", self.log_tails());
        }
    }
}

impl Member {
    /// Starts it and waits until it serves.
    #[track_caller]
    fn start(&mut self, command: impl Fn(&PathBuf) -> Command) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let mut command = command(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("knitd starts");
        let stdout = child.stdout.take().expect("its output is piped");
        self.child = Some(child);
        let limit = Timespec { tv_sec: START.as_secs() as i64, tv_nsec: 0 };
        let told = rustix::event::poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&limit));
        let mut line = String::new();
        if told == Ok(1) {
            BufReader::new(stdout).read_line(&mut line).expect("its output is text");
        }
        assert!(!line.is_empty(), "{} does not serve\n{}", self.name, self.log_tail());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("-- the end of the log of {}:\n{}\n", self.name, tail.join("\n"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a command failed because nobody was there to answer it, or went away while answering.
fn is_cut_off(ran: &Ran) -> bool {
    ["cannot be reached", " broke: ", "has not answered"].iter().any(|words| ran.stderr.contains(words))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

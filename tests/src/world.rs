//! A machine of its own as far as Knit can tell: a home, an installation on free ports, a working folder.
//!
//! What the command lines are called and print stands here and nowhere else in the stories.

use crate::cluster::{self, Cluster};
use crate::processes::{self, Process};
use crate::ran::{Following, Ran};
use crate::step::Step;
use crate::wire::{Answer, Request};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a killed process may take to be gone.
const END: Duration = Duration::from_mins(1);
/// The folder of volumes in the embedded installation.
const VOLUMES: &str = "volumes";
/// What the names of workers begin with.
const WORKER: &str = "worker-run-";
/// How much of the server's log a failed story shows, in lines.
const LOG_LINES: usize = 60;
/// Words of busybox that the scripts of stories use.
const APPLETS: [&str; 30] = [
    "awk", "cat", "chmod", "cp", "cut", "date", "dd", "echo", "env", "expr", "false", "find", "grep", "head", "id",
    "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "printf", "rm", "seq", "sh", "sleep", "true", "wc",
];

/// One world. Dropping it stops its server, ends its containers and removes its folders.
#[derive(Debug)]
pub struct World {
    /// Where Runs execute; none for this machine. Removed before the folder.
    cluster: OnceLock<Option<Cluster>>,
    base: tempfile::TempDir,
    dir: PathBuf,
    programs: PathBuf,
    server_flags: Vec<String>,
    server_environment: Vec<(OsString, OsString)>,
}

impl World {
    /// A world in which nothing runs yet.
    pub fn new() -> Self {
        let base = tempfile::Builder::new().prefix("knit-story-").tempdir().expect("a temporary folder");
        for folder in ["home", "work", "data"] {
            fs::create_dir(base.path().join(folder)).expect("a fresh folder takes folders");
        }
        let dir = base.path().join("knit");
        Self {
            cluster: OnceLock::new(),
            base,
            dir,
            programs: programs(),
            server_flags: Vec::new(),
            server_environment: Vec::new(),
        }
    }

    /// A world whose server is up.
    pub fn start() -> Self {
        let world = Self::new();
        world.up(&[]).ok();
        world
    }

    /// A world whose server lets everybody in.
    pub fn start_without_tokens() -> Self {
        let world = Self::new();
        world.up(&["--no-auth"]).ok();
        world
    }

    /// Puts the installation somewhere else; before the first `up`.
    #[must_use]
    pub fn installed_in(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = dir.into();
        self
    }

    /// Sets a variable of the environment in which the server is started from now on.
    pub fn set_for_server(&mut self, name: &str, value: &str) {
        self.server_environment.retain(|(n, _)| n != name);
        self.server_environment.push((name.into(), value.into()));
    }

    /// Adds flags to `knitd`'s command line; before the first `up`.
    pub fn serve_with(&mut self, flags: &[&str]) {
        self.server_flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    /// Starts the server with the fail-points given in `text`, as crate `fail` reads them.
    pub fn set_fail_points(&mut self, text: &str) {
        self.set_for_server("FAILPOINTS", text);
    }

    // Places.

    /// A folder of the story's own.
    pub fn base(&self) -> &Path {
        self.base.path()
    }

    /// The installation's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.base.path().join("home")
    }

    /// Where commands are run.
    pub fn work(&self) -> PathBuf {
        self.base.path().join("work")
    }

    // Programs.

    /// A command in this world; its environment is this world's alone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.work());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("LANG", "C.UTF-8").env("TZ", "UTC");
        command
    }

    /// One of our programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    fn knit_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.programs.join("knit"));
        command.args(arguments);
        command
    }

    /// Runs `knit`.
    pub fn knit(&self, arguments: &[&str]) -> Ran {
        Ran::run(self.knit_command(arguments))
    }

    /// Runs `knit` with this on its standard input.
    pub fn knit_with_input(&self, arguments: &[&str], input: Vec<u8>) -> Ran {
        Ran::with_input(self.knit_command(arguments), input)
    }

    /// Starts `knit` and reads along.
    pub fn follow(&self, arguments: &[&str]) -> Following {
        Following::start(self.knit_command(arguments))
    }

    /// Runs `knitctl` as it is.
    pub fn knitctl(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(self.programs.join("knitctl"));
        command.args(arguments).envs(self.server_environment.iter().map(|(name, value)| (name, value)));
        Ran::run(command)
    }

    /// Runs another program, for instance skopeo.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(program);
        command.args(arguments);
        Ran::run(command)
    }

    // The server.

    fn dir_text(&self) -> &str {
        self.dir.to_str().expect("temporary folders have UTF-8 names")
    }

    /// The place on a cluster, when stories run on one; made when it is asked for first.
    pub fn cluster(&self) -> Option<&Cluster> {
        let make = || cluster::chosen().then(|| Cluster::new(self.base.path(), &self.programs.join("knitd")));
        self.cluster.get_or_init(make).as_ref()
    }

    /// The program that is to be started as `knitd`: a script where that takes flags of this world's own.
    fn knitd(&self) -> PathBuf {
        let knitd = match self.cluster() {
            Some(cluster) => cluster.knitd().to_owned(),
            None => self.programs.join("knitd"),
        };
        if self.server_flags.is_empty() {
            return knitd;
        }
        let script = self.base.path().join("knitd-with-flags");
        let flags = self.server_flags.join(" ");
        fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\" {flags}\n", knitd.display())).expect("a file");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
        script
    }

    /// `knitctl up` on free ports, and on the same ones the next time.
    pub fn up(&self, more: &[&str]) -> Ran {
        let registry_port = self.cluster().map_or(0, Cluster::registry_port);
        let defaults = [
            ("--grace", "2s".to_owned()),
            ("--port", "0".to_owned()),
            ("--registry-port", registry_port.to_string()),
            ("--knitd", self.knitd().to_str().expect("a UTF-8 path").to_owned()),
        ];
        let mut arguments = vec!["up", "--dir", self.dir_text()];
        for (flag, value) in &defaults {
            if !more.contains(flag) {
                arguments.extend([*flag, value]);
            }
        }
        arguments.extend(more);
        self.knitctl(&arguments)
    }

    /// `knitctl down`.
    pub fn down(&self, more: &[&str]) -> Ran {
        // A server of a cluster does not lock its folder, by which `knitctl` knows whom to stop.
        if let Some(server) = self.cluster().and_then(|_| self.server()) {
            server.terminate();
            self.wait_for_the_servers_end(&server);
        }
        self.knitctl(&[&["down", "--dir", self.dir_text()], more].concat())
    }

    /// `knitctl status`.
    pub fn status(&self, more: &[&str]) -> Ran {
        self.knitctl(&[&["status", "--dir", self.dir_text()], more].concat())
    }

    /// What `knitctl` remembers of the installation.
    pub fn installation(&self) -> Value {
        let path = self.dir.join("installation.json");
        let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The server's process, if one runs.
    pub fn server(&self) -> Option<Process> {
        let text = fs::read(self.dir.join("installation.json")).ok()?;
        let record: Value = serde_json::from_slice(&text).ok()?;
        let process = Process::open(record["server"]["pid"].as_i64()? as i32)?;
        // The number may have been given to another process since.
        processes::arguments(process.pid).iter().any(|word| word == self.dir_text()).then_some(process)
    }

    /// Ends the server at once, as a crash does.
    #[track_caller]
    pub fn kill_server(&self) {
        let server = self.server().expect("the server runs");
        server.kill();
        assert!(server.wait(END), "a killed server ends");
    }

    /// Waits until the server has ended by itself.
    #[track_caller]
    pub fn wait_for_the_servers_end(&self, server: &Process) {
        assert!(server.wait(END), "the server should have ended\n{}", self.log_tail());
    }

    /// Ends the server at once and starts it again.
    pub fn crash_and_restart(&self) {
        self.kill_server();
        self.up(&[]).ok();
    }

    /// `host:port` of the API.
    pub fn api(&self) -> String {
        self.installation()["server"]["api"].as_str().expect("the server runs").to_owned()
    }

    /// `host:port` of the registry.
    pub fn registry(&self) -> String {
        self.installation()["server"]["registry"].as_str().expect("the server runs").to_owned()
    }

    /// The handed-out profile.
    pub fn knitprofile(&self) -> PathBuf {
        self.dir.join("handout").join("knitprofile")
    }

    /// The token; none when none is asked for.
    pub fn token(&self) -> Option<String> {
        let text = fs::read_to_string(self.knitprofile()).expect("the handout is there");
        let token = text.lines().find_map(|line| line.strip_prefix("token:"))?;
        Some(token.trim().trim_matches(['"', '\'']).to_owned())
    }

    /// The end of the server's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("knitd.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("-- the end of the server's log:\n{}\n", tail.join("\n"))
    }

    /// A request to the API, with the token if there is one.
    #[track_caller]
    pub fn request(&self, request: Request) -> Answer {
        let request = match self.token() {
            Some(token) => request.bearer(&token),
            None => request,
        };
        request.send(&self.api())
    }

    /// Waits until no container has a process any more.
    #[track_caller]
    pub fn until_containers_have_ended(&self) {
        if self.cluster().is_some() {
            return self.nothing_executes();
        }
        let patience = Instant::now() + END;
        while !processes::contained(&self.dir).is_empty() {
            assert!(Instant::now() < patience, "a container does not end\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks until the answer has this status: for what the server announces nowhere.
    #[track_caller]
    pub fn until_answered(&self, path: &str, status: u16) -> Answer {
        let patience = Instant::now() + END;
        loop {
            let answer = self.request(Request::new("GET", path));
            if answer.status == status {
                return answer;
            }
            assert!(Instant::now() < patience, "{path} stays {}\n{}", answer.status, self.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    // What users do.

    /// A folder with these files in it. A path that ends in `/` is an empty folder.
    pub fn folder(&self, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let root = self.base.path().join("data").join(name);
        fs::create_dir_all(&root).expect("a folder");
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("it is below the root")).expect("a folder");
            if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                fs::create_dir_all(&path).expect("a folder");
            } else {
                fs::write(&path, content).expect("a file");
            }
        }
        root
    }

    /// `knit data push` with tags; the Data's id.
    #[track_caller]
    pub fn push(&self, folder: &Path, tags: &[&str]) -> String {
        let ran = self.try_push(folder, tags).ok();
        id_in(&ran, "knitId")
    }

    /// `knit data push` that may fail.
    pub fn try_push(&self, folder: &Path, tags: &[&str]) -> Ran {
        let mut arguments = vec!["data", "push"];
        for tag in tags {
            arguments.extend(["--tag", tag]);
        }
        arguments.push(folder.to_str().expect("a UTF-8 path"));
        self.knit(&arguments)
    }

    /// `knit data pull -x`; the folder with the files.
    #[track_caller]
    pub fn pull(&self, data: &str) -> PathBuf {
        let into = tempfile::Builder::new().prefix("pulled-").tempdir_in(self.base.path()).expect("a folder").keep();
        self.knit(&["data", "pull", "-x", data, into.to_str().expect("a UTF-8 path")]).ok();
        into.join(data)
    }

    /// All Data that carry these tags, as `knit data find` prints them.
    #[track_caller]
    pub fn find_data(&self, tags: &[&str]) -> Vec<Value> {
        let mut arguments = vec!["data", "find"];
        for tag in tags {
            arguments.extend(["--tag", tag]);
        }
        list(&self.knit(&arguments).ok())
    }

    /// The one usable Data that carries these tags.
    #[track_caller]
    pub fn the_data(&self, tags: &[&str]) -> String {
        let found: Vec<Value> = self.find_data(tags).into_iter().filter(|data| !is_transient(data)).collect();
        assert_eq!(found.len(), 1, "one Data with {tags:?} was expected, found: {found:#?}\n{}", self.log_tail());
        found[0]["knitId"].as_str().expect("an id is a string").to_owned()
    }

    /// The image of the steps: busybox with its shell. Its name for a Plan.
    #[track_caller]
    pub fn busybox(&self) -> String {
        self.pack("story/busybox:v1", &["--entrypoint", "/bin/sh"]).ok();
        "story/busybox:v1".to_owned()
    }

    /// `knit image pack` of busybox under a name.
    pub fn pack(&self, name: &str, more: &[&str]) -> Ran {
        let rootfs = self.rootfs();
        let rootfs = rootfs.to_str().expect("a UTF-8 path");
        self.knit(&[&["image", "pack", rootfs, name], more].concat())
    }

    /// A root file system with busybox in it.
    pub fn rootfs(&self) -> PathBuf {
        let root = self.base.path().join("rootfs");
        if root.exists() {
            return root;
        }
        for folder in ["bin", "etc", "tmp"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let busybox = crate::able::find(crate::able::BUSYBOX).expect("the story needs busybox");
        fs::copy(fs::canonicalize(busybox).expect("it is there"), root.join("bin/busybox")).expect("room for busybox");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nworker:x:1000:1000::/:/bin/sh\n").expect("a file");
        fs::write(root.join("etc/group"), "root:x:0:\nworker:x:1000:\n").expect("a file");
        root
    }

    /// Writes a Plan file.
    pub fn plan_file(&self, yaml: &str) -> PathBuf {
        let mut file =
            tempfile::Builder::new().prefix("plan-").suffix(".yaml").tempfile_in(self.work()).expect("a file");
        file.write_all(yaml.as_bytes()).expect("room for a Plan");
        file.into_temp_path().keep().expect("it stays")
    }

    /// `knit plan apply`; the Plan's id.
    #[track_caller]
    pub fn apply(&self, step: &Step) -> String {
        let ran = self.try_apply(&step.yaml(), &[]).ok();
        id_in(&ran, "planId")
    }

    /// `knit plan apply` of any text.
    pub fn try_apply(&self, yaml: &str, more: &[&str]) -> Ran {
        let file = self.plan_file(yaml);
        self.knit(&[&["plan", "apply"], more, &[file.to_str().expect("a UTF-8 path")]].concat())
    }

    /// All Plans that users have registered, as `knit plan find` prints them.
    #[track_caller]
    pub fn plans(&self) -> Vec<Value> {
        let built_in = |plan: &Value| plan.get("image").is_none();
        list(&self.knit(&["plan", "find"]).ok()).into_iter().filter(|plan| !built_in(plan)).collect()
    }

    /// The Runs of a Plan, as `knit run find` prints them.
    #[track_caller]
    pub fn runs_of(&self, plan: &str) -> Vec<Value> {
        list(&self.knit(&["run", "find", "--planid", plan]).ok())
    }

    /// The only Run of a Plan.
    #[track_caller]
    pub fn the_run_of(&self, plan: &str) -> String {
        let runs = self.runs_of(plan);
        assert_eq!(runs.len(), 1, "one Run of Plan {plan} was expected, found: {runs:#?}\n{}", self.log_tail());
        runs[0]["runId"].as_str().expect("an id is a string").to_owned()
    }

    /// The only Run of a Plan, as soon as it is there. Its birth is announced nowhere, so this looks again and again.
    #[track_caller]
    pub fn the_run_once_it_is_there(&self, plan: &str) -> String {
        let patience = Instant::now() + END;
        while self.runs_of(plan).is_empty() {
            assert!(Instant::now() < patience, "Plan {plan} has no Run\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.the_run_of(plan)
    }

    /// `knit run show`.
    #[track_caller]
    pub fn run_of(&self, run: &str) -> Value {
        self.knit(&["run", "show", run]).ok().json()
    }

    /// Waits until all Runs of a Plan are over; what that came to is the command's.
    pub fn wait_plan(&self, plan: &str) -> Ran {
        self.knit(&["run", "wait", "--plan", plan])
    }

    /// Waits until the Plan's Runs are over, and claims that all are done.
    #[track_caller]
    pub fn all_done(&self, plan: &str) {
        let ran = self.wait_plan(plan);
        let runs = self.runs_of(plan);
        let done = runs.iter().all(|run| run["status"] == "done");
        assert!(ran.code == Some(0) && done, "all Runs should be done: {runs:#?}\n{ran}\n{}", self.log_tail());
    }

    /// Waits until the Plan's only Run is over, claims that it failed, and returns it.
    #[track_caller]
    pub fn failed_run_of(&self, plan: &str) -> Value {
        let ran = self.wait_plan(plan);
        let run = self.run_of(&self.the_run_of(plan));
        assert_eq!(run["status"], "failed", "{run:#}\n{ran}\n{}", self.log_tail());
        assert_ne!(ran.code, Some(0), "waiting for a Run that fails does not succeed: {ran}");
        run
    }

    /// The log of a Run that is over.
    #[track_caller]
    pub fn log_of(&self, run: &str) -> String {
        self.knit(&["run", "show", "--log", run]).ok().text()
    }

    /// Follows the log of a Run from its first byte to its last.
    pub fn follow_log(&self, run: &str) -> Following {
        self.follow(&["run", "show", "--log", "--follow", run])
    }

    // Claims.

    /// Bytes of files that lie in the installation under one of its folders.
    pub fn stored_bytes(&self, below: &str) -> u64 {
        match self.cluster() {
            Some(cluster) if below == VOLUMES => cluster.volumes().values().map(|folder| bytes_below(folder)).sum(),
            _ => bytes_below(&self.dir.join(below)),
        }
    }

    /// Where a Data's files are: as the server sees them, or the node.
    #[track_caller]
    pub fn volume(&self, data: &str) -> PathBuf {
        let name = format!("data-knitid-{data}");
        match self.cluster() {
            Some(cluster) => cluster.volumes().remove(&name).unwrap_or_else(|| panic!("{name} has no folder here")),
            None => self.dir.join(VOLUMES).join(name),
        }
    }

    /// Volumes that belong to no Data yet, or not any more: of pushes that are not over.
    pub fn unfinished(&self) -> Vec<PathBuf> {
        if let Some(cluster) = self.cluster() {
            let known = self.volumes_of_data();
            let volumes = cluster.volumes().into_iter();
            return volumes.filter(|(claim, _)| !known.contains(claim)).map(|(_, folder)| folder).collect();
        }
        let entries = fs::read_dir(self.dir.join(VOLUMES)).into_iter().flatten().filter_map(Result::ok);
        let hidden = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."));
        hidden.map(|entry| entry.path()).collect()
    }

    /// Processes inside containers of Plans.
    #[track_caller]
    pub fn contained(&self) -> Vec<Process> {
        match self.cluster() {
            Some(cluster) => cluster.contained(),
            None => processes::contained(&self.dir),
        }
    }

    /// The volumes that there should be: one for each Data that can be found.
    #[track_caller]
    fn volumes_of_data(&self) -> Vec<String> {
        let name = |data: &Value| Some(format!("data-knitid-{}", data["knitId"].as_str()?));
        self.find_data(&[]).iter().filter_map(name).collect()
    }

    /// The largest blob that the content store holds: a layer.
    #[track_caller]
    pub fn largest_blob(&self) -> PathBuf {
        let mut files: Vec<(u64, PathBuf)> = Vec::new();
        let mut open = vec![self.dir.join("content")];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
                let path = entry.expect("a readable folder").path();
                let meta = fs::symlink_metadata(&path).expect("it was just listed");
                if meta.is_dir() {
                    open.push(path);
                } else {
                    files.push((meta.len(), path));
                }
            }
        }
        files.into_iter().max().expect("an image was pushed").1
    }

    /// Claims that the installation keeps a volume for each Data that can be found, and no other. A cluster is given
    /// time: a claim goes when the last Pod that used it has gone.
    #[track_caller]
    pub fn no_volume_is_left_over(&self) {
        let known = self.volumes_of_data();
        if let Some(cluster) = self.cluster() {
            let gone = cluster.gone("pvc", |volume| !known.iter().any(|known| known == volume));
            return gone.unwrap_or_else(|stays| panic!("{stays:?} belong to no Data: {known:?}\n{}", self.log_tail()));
        }
        let volumes = fs::read_dir(self.dir.join(VOLUMES)).map(|entries| {
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        });
        for volume in volumes.unwrap_or_default() {
            assert!(known.contains(&volume), "{volume} belongs to no Data: {known:?}\n{}", self.log_tail());
        }
    }

    /// Claims that no container and no shim of this world lives; on a cluster, that no worker is left.
    #[track_caller]
    pub fn nothing_executes(&self) {
        if let Some(cluster) = self.cluster() {
            let gone = cluster.gone("jobs,pods", |name| name.starts_with(WORKER));
            return gone.unwrap_or_else(|stays| panic!("{stays:?} still execute\n{}", self.log_tail()));
        }
        for process in processes::shims(&self.dir).iter().chain(&processes::contained(&self.dir)) {
            let words = processes::arguments(process.pid);
            assert!(process.wait(END), "process {} still lives: {words:?}\n{}", process.pid, self.log_tail());
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            let _ = writeln!(std::io::stderr().lock(), "{}", self.log_tail());
            if let Some(cluster) = self.cluster.get().and_then(Option::as_ref) {
                let _ = writeln!(std::io::stderr().lock(), "{}", cluster.describe());
            }
        }
        // First politely, then whatever is left: nothing of a story may live on. No claims here: a second panic would
        // hide the first.
        let mut down = self.command(self.programs.join("knitctl"));
        let _ = down.args(["down", "--dir", self.dir_text(), "--grace", "0s"]).output();
        if let Some(server) = self.server() {
            server.kill();
            server.wait(END);
        }
        for process in processes::shims(&self.dir).iter().chain(&processes::contained(&self.dir)) {
            process.kill();
            process.wait(END);
        }
        processes::unmount_below(self.base.path());
        if failed && std::env::var_os("KNIT_TESTS_KEEP").is_some() {
            self.base.disable_cleanup(true);
            let _ = writeln!(std::io::stderr().lock(), "the world is kept in {}", self.base.path().display());
        }
    }
}

/// The folder of the programs: `KNIT_TESTS_BIN`, or the one that this test was built into.
fn programs() -> PathBuf {
    let folder = std::env::var_os("KNIT_TESTS_BIN").map_or_else(
        || {
            let me = std::env::current_exe().expect("a test knows its own program");
            me.ancestors().nth(2).expect("tests are built into target/PROFILE/deps").to_owned()
        },
        PathBuf::from,
    );
    for program in ["knit", "knitctl", "knitd"] {
        let path = folder.join(program);
        assert!(
            path.is_file(),
            "{} is missing: stories run the real programs, build them with\n  \
             cargo build --workspace --bins --features knit-server/failpoints\nor run tests/run",
            path.display()
        );
    }
    folder
}

/// The id in what a command printed: of one object, or of the only one in a list.
#[track_caller]
fn id_in(ran: &Ran, member: &str) -> String {
    let value = ran.json();
    let object = value.as_array().map_or(&value, |list| list.first().unwrap_or(&Value::Null));
    object[member].as_str().unwrap_or_else(|| panic!("there is no {member} in: {ran}")).to_owned()
}

#[track_caller]
fn list(ran: &Ran) -> Vec<Value> {
    ran.json().as_array().unwrap_or_else(|| panic!("a list was expected: {ran}")).clone()
}

/// True for Data that cannot be used (yet).
pub fn is_transient(data: &Value) -> bool {
    data["tags"]
        .as_array()
        .is_some_and(|tags| tags.iter().any(|tag| tag.as_str().is_some_and(|tag| tag.starts_with("knit#transient:"))))
}

fn bytes_below(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    let entries = fs::read_dir(path).map(|entries| entries.filter_map(Result::ok).collect::<Vec<_>>());
    entries.unwrap_or_default().iter().map(|entry| bytes_below(&entry.path())).sum()
}

/// What is in a folder, by path: `dir`, `link TARGET`, or the permission bits and content of a file. Two folders are equal
/// when these are.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            let meta = fs::symlink_metadata(&path).expect("it was just listed");
            let name = path.strip_prefix(root).expect("it is below").to_owned();
            let kind = if meta.is_dir() {
                open.push(path.clone());
                "dir".to_owned()
            } else if meta.is_symlink() {
                format!("link {}", fs::read_link(&path).expect("a link").display())
            } else if meta.is_file() {
                use sha2::Digest;
                let content = fs::read(&path).expect("a readable file");
                format!("file {:o} {}", meta.mode() & 0o777, hex::encode(sha2::Sha256::digest(content)))
            } else {
                "special".to_owned()
            };
            found.insert(name, kind);
        }
    }
    found
}

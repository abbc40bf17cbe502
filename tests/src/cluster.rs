//! A world's place on a cluster: a namespace of its own, a database of its own, and a `knitd` that works there.
//!
//! The server is started, stopped and asked by `knitctl` as on one machine: what it starts is a script that adds the
//! flags of the cluster. So everything else that a story says of its server stays as it is.

use crate::processes::{self, Process};
use crate::{able, postgres};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the cluster may take for what follows by itself.
const PATIENCE: Duration = Duration::from_mins(2);
/// On every namespace of a story: what an interrupted run leaves is found by it.
pub const LABEL: &str = "knit-tests/story";

/// True when the stories of this process run on a cluster.
pub fn chosen() -> bool {
    std::env::var_os("KNIT_TESTS_ENGINE").is_some_and(|engine| engine == "kubernetes")
}

/// True on a cluster, for a story that is about the insides of the embedded engine: `why` says which. It is no part of
/// what is tried on a cluster, and `tests/run` counts it neither as passed nor as skipped there.
#[must_use]
pub fn embedded_only(why: &str) -> bool {
    if chosen() {
        let test = std::thread::current().name().unwrap_or("a_test").to_owned();
        // A stderr that is gone is no reason to fail.
        let _ = writeln!(std::io::stderr().lock(), "\nEMBEDDED {test}: {why}");
    }
    chosen()
}

/// True when the node is this machine: what stands on its disk and runs on it can be seen.
pub fn node_is_here() -> bool {
    reach() == "direct"
}

/// True on the cluster of `tests/cluster`: its node and its API server are the tests' own.
pub fn is_own() -> bool {
    let asked = Command::new(scripts().join("kubeconfig")).arg("--path").stdin(Stdio::null()).output();
    let path = asked.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default();
    chosen() && std::env::var("KUBECONFIG").is_ok_and(|kubeconfig| kubeconfig == path)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

/// Something about the only node that is not as usual. Dropping it puts it right.
#[derive(Debug)]
#[must_use = "it is put right at once otherwise"]
pub struct NodeChange {
    undo: Vec<String>,
}

impl NodeChange {
    #[track_caller]
    fn of(what: &[&str], undo: &[&str]) -> Self {
        // Before it is done: it may have been left so by an earlier run that was cut off.
        let change = Self { undo: undo.iter().map(|word| (*word).to_owned()).collect() };
        run(what);
        change
    }

    /// No Pod that does not tolerate this is given to the node.
    #[track_caller]
    pub fn taint(key: &str, value: &str) -> Self {
        let (taint, gone) = (format!("{key}={value}:NoSchedule"), format!("{key}:NoSchedule-"));
        let node = node();
        Self::of(&["taint", "node", &node, &taint, "--overwrite"], &["taint", "node", &node, &gone])
    }

    /// The node has this label.
    #[track_caller]
    pub fn label(key: &str, value: &str) -> Self {
        let (label, gone) = (format!("{key}={value}"), format!("{key}-"));
        let node = node();
        Self::of(&["label", "node", &node, &label, "--overwrite"], &["label", "node", &node, &gone])
    }

    /// The node takes no Pods.
    #[track_caller]
    pub fn cordon() -> Self {
        let node = node();
        Self::of(&["cordon", &node], &["uncordon", &node])
    }
}

impl Drop for NodeChange {
    fn drop(&mut self) {
        let words: Vec<&str> = self.undo.iter().map(String::as_str).collect();
        // No claim here: a second panic would hide the first. Said aloud, as whatever comes next waits for it.
        if !kubectl(&words).is_ok_and(|done| done.status.success()) {
            let _ = writeln!(std::io::stderr().lock(), "the node stays changed: kubectl {} failed", words.join(" "));
        }
    }
}

/// The name of the only node.
#[track_caller]
fn node() -> String {
    let said = run(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]);
    String::from_utf8(said.stdout).expect("names are ASCII").trim().to_owned()
}

/// The API server is away. It comes back by itself, whatever happens to the story; dropping this waits for it.
#[derive(Debug)]
pub struct Outage(Child);

impl Outage {
    /// Stops the API server for this long; it is gone when this returns.
    #[track_caller]
    pub fn begin(length: Duration) -> Self {
        let mut command = Command::new(scripts().join("outage"));
        command.arg(length.as_secs().to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut outage = Self(command.spawn().expect("tests/cluster/outage"));
        let mut said = String::new();
        let stdout = outage.0.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut said).expect("its output can be read");
        assert_eq!(said, "gone\n", "the API server cannot be stopped");
        outage
    }

    /// Waits until the API server answers again.
    #[track_caller]
    pub fn end(mut self) {
        assert!(self.0.wait().is_ok_and(|status| status.success()), "the API server has not come back");
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        // Another story would find nothing that answers.
        let _ = self.0.wait();
    }
}

fn reach() -> String {
    std::env::var("KNIT_TESTS_REACH").unwrap_or_else(|_| "direct".to_owned())
}

/// A namespace and a database. Dropping it removes both.
#[derive(Debug)]
pub struct Cluster {
    namespace: String,
    database: String,
    registry_port: u16,
    knitd: PathBuf,
}

impl Cluster {
    /// A fresh place; `folder` takes the files that the server needs for it.
    pub fn new(folder: &Path, knitd: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("story-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        make_namespace(&namespace);
        let database = postgres::new_database().expect("stories on a cluster need PostgreSQL");
        let script = folder.join("knitd-on-cluster");
        let cluster = Self { namespace, database, registry_port: free_port(), knitd: script };
        cluster.write_script(folder, knitd);
        cluster
    }

    /// The program to be started in place of `knitd`.
    pub fn knitd(&self) -> &Path {
        &self.knitd
    }

    /// Where the registry listens: nodes call it by this number, so it is chosen before the server starts.
    pub fn registry_port(&self) -> u16 {
        self.registry_port
    }

    fn write_script(&self, folder: &Path, knitd: &Path) {
        let database = folder.join("database-url");
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&database).expect("a file");
        writeln!(file, "{}", self.database).expect("room for a line");
        let kubeconfig = std::env::var("KUBECONFIG").expect("KUBECONFIG leads to the cluster");
        let image = std::env::var("KNIT_TESTS_IMAGE").unwrap_or_else(|_| "localhost/knitd:tests".to_owned());
        let script = format!(
            r#"#!/bin/sh
# The server must not outlive the test program, however that ends.
(
    exec </dev/null >/dev/null 2>&1
    tail --pid={tests} -f /dev/null
    ! tr '\0' ' ' <"/proc/$$/cmdline" | grep -qF ' {namespace} ' || kill -KILL $$
) &
# What a story sets itself.
case " $* " in *' --database-file '*) ;; *) set -- "$@" --database-file '{database}' ;; esac
case " $* " in *' --start-grace '*) ;; *) set -- "$@" --start-grace 30s ;; esac
exec '{knitd}' "$@" --kubeconfig '{kubeconfig}' --namespace {namespace} --image '{image}' \
    --reach {reach} --registry-name localhost:{port} --registry-anonymous-pull --initial-capacity 64Mi
"#,
            tests = std::process::id(),
            namespace = self.namespace,
            reach = reach(),
            knitd = knitd.display(),
            database = database.display(),
            port = self.registry_port,
        );
        fs::write(&self.knitd, script).expect("room for a script");
        fs::set_permissions(&self.knitd, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// Does in the namespace what somebody with rights there may do by hand.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        run(&[&["-n", &self.namespace], arguments].concat())
    }

    /// What the namespace has of a kind.
    #[track_caller]
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let said = self.kubectl(&["get", kind, "-o", "json"]);
        let list: Value = serde_json::from_slice(&said.stdout).expect("kubectl prints JSON");
        list["items"].as_array().expect("a list has items").clone()
    }

    /// Folders of volumes by the names of their claims, on a node that is this machine.
    #[track_caller]
    pub fn volumes(&self) -> BTreeMap<String, PathBuf> {
        let said = run(&["get", "pv", "-o", "json"]);
        let list: Value = serde_json::from_slice(&said.stdout).expect("kubectl prints JSON");
        let ours = list["items"].as_array().expect("a list has items").iter().filter_map(|volume| {
            let claim = &volume["spec"]["claimRef"];
            let folder = volume["spec"]["hostPath"]["path"].as_str()?;
            (claim["namespace"] == self.namespace.as_str()).then(|| (claim["name"].as_str().map(str::to_owned), folder))
        });
        ours.filter_map(|(claim, folder)| Some((claim?, folder.into()))).collect()
    }

    /// Processes of Plans in Pods, on a node that is this machine: neither the Pods' own nor those of `knitd`.
    #[track_caller]
    pub fn contained(&self) -> Vec<Process> {
        let pods: Vec<String> =
            self.objects("pods").iter().filter_map(|pod| Some(pod["metadata"]["uid"].as_str()?.to_owned())).collect();
        let of_a_plan = |pid: i32| {
            let program = processes::arguments(pid).into_iter().next().unwrap_or_default();
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            !program.is_empty()
                && program != "/pause"
                && !program.ends_with("/knitd")
                && pods.iter().any(|uid| groups.contains(uid.as_str()))
        };
        processes::all(of_a_plan)
    }

    /// Names of what the namespace has of a kind.
    #[track_caller]
    pub fn names(&self, kind: &str) -> BTreeSet<String> {
        let name = |object: &Value| object["metadata"]["name"].as_str().expect("objects have names").to_owned();
        self.objects(kind).iter().map(name).collect()
    }

    /// Waits until the objects of these kinds that `left_over` speaks of are gone; those that stay.
    #[track_caller]
    pub fn gone(&self, kinds: &str, left_over: impl Fn(&str) -> bool) -> Result<(), Vec<String>> {
        let limit = Instant::now() + PATIENCE;
        loop {
            let stays: Vec<String> = self.names(kinds).into_iter().filter(|name| left_over(name)).collect();
            if stays.is_empty() {
                return Ok(());
            }
            if Instant::now() > limit {
                return Err(stays);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What a person would look at first when a story fails.
    pub fn describe(&self) -> String {
        let said = |arguments: &[&str]| {
            let output = kubectl(&[&["-n", &self.namespace], arguments].concat());
            output.map_or_else(|e| e.to_string(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        format!(
            "-- the namespace {}:\n{}-- its events:\n{}",
            self.namespace,
            said(&["get", "jobs,pods,pvc", "-o", "wide"]),
            said(&["get", "events", "--sort-by", ".lastTimestamp"])
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // No claims here: a second panic would hide the first. The cluster goes on by itself.
        let _ = kubectl(&["delete", "namespace", &self.namespace, "--ignore-not-found", "--wait=false"]);
        postgres::drop_database(&self.database);
    }
}

#[track_caller]
fn make_namespace(name: &str) {
    run(&["create", "namespace", name]);
    run(&["label", "namespace", name, &format!("{LABEL}=yes")]);
    // A namespace takes no Pod before its service account is complete, which is announced nowhere.
    let limit = Instant::now() + PATIENCE;
    let trial = ["-n", name, "run", "trial", "--image", "trial", "--restart", "Never", "--dry-run=server"];
    while !kubectl(&trial).is_ok_and(|output| output.status.success()) {
        assert!(Instant::now() < limit, "the namespace {name} takes no Pods");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn kubectl(arguments: &[&str]) -> std::io::Result<Output> {
    let program = able::find("kubectl").unwrap_or_else(|| "kubectl".into());
    Command::new(program).arg("--request-timeout=30s").args(arguments).stdin(Stdio::null()).output()
}

#[track_caller]
fn run(arguments: &[&str]) -> Output {
    let output = kubectl(arguments).unwrap_or_else(|e| panic!("kubectl: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {}: {said}", arguments.join(" "));
    output
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are free ports");
    listener.local_addr().expect("it is bound").port()
}

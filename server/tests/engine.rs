//! The embedded engine with real containers: what a worker sees, what it may do, how its end is told,
//! and that nothing of it is left. Needs root and Debian's busybox-static; says so and passes without.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use knit_api::id::{PlanId, RunId};
use knit_api::image::ImageRef;
use knit_api::plan::OnNode;
use knit_api::run::Exit;
use knit_server::engine::local::images::{ImageProblem, PreparedImage};
use knit_server::engine::local::volumes::Volumes;
use knit_server::engine::local::{ImageSource, LocalEngine, WorkerSettings};
use knit_server::engine::{Engine, EngineEvent, Mount, Observation, Started, Volume, Work};
use knit_server::settings::{Layout, WorkerNetwork};
use knit_tests::able;
use knit_tests::able::ROOT;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::PidfdFlags;
use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";
const DIGEST: &str = "sha256:0123";
const TOOLS: [&str; 28] = [
    "sh", "cat", "echo", "sleep", "touch", "id", "ls", "mount", "dd", "yes", "head", "true", "ifconfig", "hostname",
    "nc", "stat", "env", "pwd", "grep", "kill", "wc", "mkdir", "seq", "unshare", "mknod", "nproc", "ps", "chmod",
];

macro_rules! container_test {
    (async fn $name:ident() $body:block) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if !able(&[ROOT, able::BUSYBOX]) {
                return;
            }
            $body
        }
    };
}

/// Gives every name the same prepared image.
struct Prepared {
    image: PreparedImage,
    /// What it was last asked to remove.
    asked: Mutex<Option<(HashSet<PathBuf>, SystemTime)>>,
}

#[async_trait]
impl ImageSource for Prepared {
    async fn prepare(&self, image: &ImageRef) -> Result<PreparedImage, ImageProblem> {
        if image.repository.contains("missing") {
            return Err(ImageProblem::NotFound { image: image.to_string(), detail: "nobody pushed it".to_owned() });
        }
        Ok(self.image.clone())
    }

    fn remove_unused(&self, in_use: &HashSet<PathBuf>, before: SystemTime) -> std::io::Result<u64> {
        *self.asked.lock().unwrap() = Some((in_use.clone(), before));
        Ok(0)
    }
}

/// An installation of its own.
struct World {
    layout: Layout,
    image: PreparedImage,
    images: Arc<Prepared>,
    engine: Option<LocalEngine>,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With the image changed by `change`, which may write into its one layer.
    fn with(change: impl FnOnce(&mut PreparedImage)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let layer = layout.layers().join("busybox");
        fs::create_dir_all(layer.join("bin")).unwrap();
        fs::copy(BUSYBOX, layer.join("bin/busybox")).unwrap();
        for tool in TOOLS {
            symlink("busybox", layer.join("bin").join(tool)).unwrap();
        }
        fs::create_dir(layer.join("etc")).unwrap();
        fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n").unwrap();
        fs::write(layer.join("etc/group"), "root:x:0:\nann:x:1001:\ndata:x:2000:ann\n").unwrap();
        let mut image = PreparedImage {
            digest: DIGEST.to_owned(),
            layers: vec![layer],
            user: String::new(),
            working_dir: String::new(),
            env: vec!["GREETING=hello".to_owned()],
            entrypoint: Vec::new(),
            cmd: Vec::new(),
        };
        change(&mut image);
        let images = Arc::new(Prepared { image: image.clone(), asked: Mutex::default() });
        let mut world = Self { layout, image, images, engine: None, folder };
        world.open();
        world
    }

    /// Opens the engine as a new server process would.
    fn open(&mut self) {
        let mut settings = WorkerSettings::new(WorkerNetwork::None, 1 << 20);
        settings.executable = env!("CARGO_BIN_EXE_knitd").into();
        let volumes = Volumes::open(self.layout.clone()).unwrap();
        let images = Arc::clone(&self.images);
        self.engine = Some(LocalEngine::open(&self.layout, images, volumes, settings).unwrap());
    }

    fn engine(&self) -> &LocalEngine {
        self.engine.as_ref().unwrap()
    }

    fn volume(&self, name: &str) -> (Volume, PathBuf) {
        let path = self.layout.volumes().join(name);
        fs::create_dir_all(&path).unwrap();
        (Volume::from_stored(name), path)
    }

    /// A worker that runs this shell script, with input `/in`, output `/out` and a log.
    fn script(&self, run: &str, script: &str) -> Work {
        let mount = |path: &str, suffix: &str| Mount {
            path: path.to_owned(),
            volume: self.volume(&format!("{run}-{suffix}")).0,
        };
        Work {
            run: RunId::new(run),
            plan: PlanId::new("plan"),
            image: "test:v1".parse().unwrap(),
            entrypoint: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            args: Vec::new(),
            inputs: vec![mount("/in", "in")],
            outputs: vec![mount("/out", "out")],
            log: Some(self.volume(&format!("{run}-log")).0),
            resources: [("cpu", "100m"), ("memory", "64Mi")]
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .into(),
            on_node: OnNode::default(),
            service_account: String::new(),
        }
    }

    async fn start(&self, work: &Work) {
        assert_eq!(self.engine().start(work).await.unwrap(), Started::Accepted);
    }

    async fn until(&self, run: &str, wanted: impl Fn(&Observation) -> bool) -> Observation {
        let run = RunId::new(run);
        let mut events = self.engine().events();
        loop {
            let seen = self.engine().observe(&run).await.unwrap();
            if wanted(&seen) {
                return seen;
            }
            // Only against hanging forever when an event is missing.
            tokio::time::timeout(Duration::from_mins(2), events.recv()).await.expect("an event comes").unwrap();
        }
    }

    async fn until_running(&self, run: &str) {
        let seen =
            self.until(run, |seen| matches!(seen, Observation::Running { .. } | Observation::Ended { .. })).await;
        assert!(matches!(seen, Observation::Running { .. }), "{seen:?}");
    }

    async fn until_ended(&self, run: &str) -> Exit {
        match self.until(run, |seen| matches!(seen, Observation::Ended { .. })).await {
            Observation::Ended { exit, .. } => exit,
            other => panic!("{other:?}"),
        }
    }

    /// Runs the script to its end; how it ended and what it wrote.
    async fn run(&self, script: &str) -> (Exit, String) {
        self.run_work(self.script("run", script)).await
    }

    async fn run_work(&self, work: Work) -> (Exit, String) {
        let run = work.run.as_str().to_owned();
        self.start(&work).await;
        let exit = self.until_ended(&run).await;
        let log = self.log(&run);
        self.engine().remove_worker(&work.run, Duration::ZERO).await.unwrap();
        self.nothing_is_left(&run);
        (exit, log)
    }

    fn log(&self, run: &str) -> String {
        fs::read_to_string(self.layout.volumes().join(format!("{run}-log/log"))).unwrap_or_default()
    }

    async fn follow(&self, run: &str) -> knit_server::engine::ByteStream {
        let volume = self.volume(&format!("{run}-log")).0;
        self.engine().log(&RunId::new(run), &volume, true).await.unwrap()
    }

    fn worker_folder(&self, run: &str) -> PathBuf {
        self.layout.workers().canonicalize().unwrap().join(run)
    }

    fn shim(&self, run: &str) -> Option<i32> {
        pid_of(&format!("shim {} ", self.worker_folder(run).display()))
    }

    /// No folder, mount, control group or process of this worker.
    fn nothing_is_left(&self, run: &str) {
        let own = self.worker_folder(run);
        assert!(!own.exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(own.to_str().unwrap()), "{mounts}");
        assert_eq!(self.groups(run), Vec::<PathBuf>::new());
        assert_eq!(self.shim(run), None);
    }

    /// Control groups of this worker.
    fn groups(&self, run: &str) -> Vec<PathBuf> {
        let folders = self.layout.workers().canonicalize().unwrap();
        let mine = blake3::hash(folders.to_str().unwrap().as_bytes()).to_hex();
        let name = format!("knit/{}/{run}", &mine[..16]);
        let points = ["", "memory", "cpu", "cpuacct", "pids", "devices", "freezer", "blkio", "cpuset", "unified"];
        points.iter().map(|point| Path::new("/sys/fs/cgroup").join(point).join(&name)).filter(|p| p.exists()).collect()
    }

    fn group_file(&self, run: &str, names: &[&str]) -> String {
        self.groups(run)
            .iter()
            .flat_map(|folder| names.iter().map(|name| folder.join(name)))
            .find_map(|path| fs::read_to_string(path).ok())
            .unwrap_or_else(|| panic!("none of {names:?} in {:?}", self.groups(run)))
            .trim()
            .to_owned()
    }
}

/// A handle on a process.
fn process(pid: i32) -> OwnedFd {
    rustix::process::pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

/// Waits for the end of a process.
fn until_gone(process: &OwnedFd) {
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)), Ok(1), "it goes on");
}

/// Whether the file system here can show files as another user's: tmpfs learnt it late.
fn maps_owners(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(path).unwrap().f_type as u64 != TMPFS
}

/// The process whose command line contains these words, if there is one.
fn pid_of(words: &str) -> Option<i32> {
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let pid = name.parse().ok()?;
        let line = fs::read(format!("/proc/{name}/cmdline")).ok()?;
        String::from_utf8_lossy(&line).replace('\0', " ").contains(words).then_some(pid)
    })
}

fn kill_process(pid: i32) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_machine_that_cannot_run_containers_says_what_is_missing() {
    if !able(&[ROOT, able::BUSYBOX]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let knitd = folder.path().join("knitd");
    fs::copy(env!("CARGO_BIN_EXE_knitd"), &knitd).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let try_as = |user: u32| {
        let answer = std::process::Command::new(&knitd).args(["shim", "--try"]).arg(folder.path()).uid(user).output();
        String::from_utf8(answer.unwrap().stdout).unwrap()
    };
    assert_eq!(try_as(0), "");
    let said = try_as(65534);
    assert!(said.starts_with("root: ") && said.lines().count() == 1, "{said}");
}

container_test! {
    async fn an_engine_that_cannot_keep_workers_says_so() {
        let world = World::new();
        world.engine().check().await.unwrap();
        let folder = world.layout.workers();
        fs::rename(&folder, folder.with_extension("away")).unwrap();
        let said = world.engine().check().await.unwrap_err().to_string();
        assert!(said.contains(folder.to_str().unwrap()), "{said}");
    }
}

container_test! {
    async fn the_exit_code_and_both_outputs_are_recorded() {
        let world = World::new();
        let (exit, log) = world.run("echo to-stdout; echo to-stderr >&2; exit 7").await;
        assert_eq!(exit, Exit { code: 7, message: String::new() }, "{log}");
        assert_eq!(log, "to-stdout\nto-stderr\n");
    }
}

container_test! {
    async fn inputs_are_read_only_and_outputs_are_kept() {
        let world = World::new();
        let work = world.script("run", "cat /in/a /again/a; echo x > /in/b; echo made > /out/c; ls /out");
        let (volume, path) = world.volume("run-in");
        fs::write(path.join("a"), "given\n").unwrap();
        let inputs = ["/in", "/again"].map(|path| Mount { path: path.to_owned(), volume: volume.clone() });
        let (exit, log) = world.run_work(Work { inputs: inputs.into(), ..work }).await;
        assert_eq!(exit.code, 0, "{exit:?} {log}");
        assert_eq!(log, "given\ngiven\nsh: can't create /in/b: Read-only file system\nc\n");
        assert_eq!(fs::read_to_string(world.volume("run-out").1.join("c")).unwrap(), "made\n");
        assert!(!path.join("b").exists());
    }
}

container_test! {
    async fn the_surroundings_are_the_images_and_what_every_program_expects() {
        let world = World::with(|image| image.working_dir = "/place/here".to_owned());
        let script = "pwd; echo $GREETING $HOME; hostname; stat -c %a /tmp /dev/shm; echo $PATH; cat /etc/hosts; \
                      ls -l /proc/self/fd/0 | grep -c /dev/null; yes | head -n 1; cat /proc/1/comm; true";
        let (exit, log) = world.run(script).await;
        assert_eq!(exit.code, 0, "{exit:?} {log}");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines[..5], ["/place/here", "hello /root", "worker-run-run", "1777", "1777"]);
        assert!(lines[5].contains("/usr/bin"));
        assert!(log.contains("127.0.0.1 localhost"), "{log}");
        assert!(log.ends_with("\n1\ny\nsh\n"), "no input, no ignored signals, the program is process 1: {log}");
    }
}

container_test! {
    async fn the_images_user_runs_it_and_owns_the_outputs() {
        let world = World::with(|image| image.user = "ann".to_owned());
        let script = "id; echo $HOME; cat /in/a; echo again > /dev/stdout; \
                      echo mine > /out/file; grep Cap /proc/self/status";
        let work = world.script("run", script);
        let (_, input) = world.volume("run-in");
        fs::write(input.join("a"), "readable\n").unwrap();
        let secret = if maps_owners(&input) { 0o600 } else { 0o644 };
        for (path, mode) in [(input.clone(), 0o700), (input.join("a"), secret)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let (exit, log) = world.run_work(work).await;
        assert_eq!(exit.code, 0, "{exit:?} {log}");
        let expected = "uid=1000(ann) gid=1001(ann) groups=2000(data)\n/home/ann\nreadable\nagain\n";
        assert!(log.replace("gid=1001(ann) groups=1001(ann),", "gid=1001(ann) groups=").starts_with(expected), "{log}");
        assert!(log.contains("CapEff:\t0000000000000000") && log.contains("CapPrm:\t0000000000000000"), "{log}");
        let made = fs::metadata(world.volume("run-out").1.join("file")).unwrap();
        assert_eq!((made.uid(), made.gid()), (1000, 1001));
    }
}

container_test! {
    async fn the_loopback_device_works_and_there_is_no_way_out() {
        let world = World::new();
        let script = "ifconfig | grep -c 'Link encap'; ifconfig lo | grep -o 'inet addr:127.0.0.1'; \
                      (echo through | nc -l -p 7777 &); \
                      while ! grep -q :1E61 /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done; \
                      nc 127.0.0.1 7777 < /dev/null";
        let (exit, log) = world.run(script).await;
        assert_eq!((exit.code, log.as_str()), (0, "1\ninet addr:127.0.0.1\nthrough\n"), "{exit:?}");
    }
}

container_test! {
    async fn what_leads_out_of_the_container_is_denied_also_to_root() {
        let world = World::new();
        let script = "mount -t tmpfs none /tmp; unshare -n true; mknod /tmp/disk b 8 0; hostname other; \
                      echo 1 > /proc/sys/kernel/panic; echo 1 > /sys/kernel/profiling; head -c 1 /proc/kcore | wc -c; \
                      grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; true";
        let (exit, log) = world.run(script).await;
        assert_eq!(exit.code, 0, "{exit:?} {log}");
        for said in [
            "mount: permission denied",
            "unshare: unshare(0x40000000): Operation not permitted",
            "mknod: /tmp/disk: Operation not permitted",
            "hostname: sethostname: Operation not permitted",
            "can't create /proc/sys/kernel/panic: Read-only file system",
            "can't create /sys/kernel/profiling: Read-only file system",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(log.contains(said), "{said} is not in: {log}");
        }
        assert!(log.lines().any(|line| line == "0"), "/proc/kcore is empty: {log}");
    }
}

container_test! {
    async fn a_program_with_threads_works_although_clone3_does_not() {
        // This very test program, which is linked to glibc and starts a thread per test, in a container.
        let world = World::with(|image| {
            let layer = image.layers[0].clone();
            let me = std::env::current_exe().unwrap();
            fs::copy(&me, layer.join("bin/threads")).unwrap();
            for library in libraries() {
                let into = layer.join(library.strip_prefix("/").unwrap());
                fs::create_dir_all(into.parent().unwrap()).unwrap();
                fs::copy(&library, into).unwrap();
            }
        });
        let mut work = world.script("run", "threads --test-threads 4 threads_are_made --nocapture");
        work.resources.insert("memory".to_owned(), "512Mi".parse().unwrap());
        let (exit, log) = world.run_work(work).await;
        assert_eq!(exit.code, 0, "{exit:?} {log}");
        assert!(log.contains("1 passed"), "{log}");
    }
}

/// The files of this program that are libraries, and the loader.
fn libraries() -> std::collections::BTreeSet<PathBuf> {
    let mapped = fs::read_to_string("/proc/self/maps").unwrap();
    let loader = PathBuf::from("/lib64/ld-linux-x86-64.so.2");
    mapped
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains(".so"))
        .map(PathBuf::from)
        .chain(Some(loader).filter(|path| path.exists()))
        .collect()
}

#[test]
fn threads_are_made() {
    let threads: Vec<_> = (0..8).map(|number| std::thread::spawn(move || number)).collect();
    assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>(), 28);
}

container_test! {
    async fn limits_are_set_and_want_of_memory_is_told_apart_from_a_kill() {
        let world = World::new();
        let mut work = world.script("run", "echo ready; sleep 600");
        work.resources.insert("cpu".to_owned(), "250m".parse().unwrap());
        world.start(&work).await;
        world.until_running("run").await;
        let cpu = world.group_file("run", &["cpu.max", "cpu.cfs_quota_us"]);
        assert!(cpu == "25000 100000" || cpu == "25000", "{cpu}");
        assert_eq!(world.group_file("run", &["memory.max", "memory.limit_in_bytes"]), "67108864");
        for pid in world.group_file("run", &["cgroup.procs"]).lines() {
            kill_process(pid.parse().unwrap());
        }
        assert_eq!(world.until_ended("run").await, Exit { code: 137, message: "ended by signal SIGKILL".to_owned() });
        world.engine().remove_worker(&RunId::new("run"), Duration::ZERO).await.unwrap();

        // Its first process is the one that uses too much; then a child of it, which it survives.
        let alone = ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M"].map(ToOwned::to_owned);
        let (exit, log) = world.run_work(Work { entrypoint: alone.into(), ..world.script("alone", "") }).await;
        assert_eq!(exit.code, 137, "{exit:?} {log}");
        assert_eq!(exit.message, "OOMKilled: it used more memory than its limit of 64Mi");
        let (exit, log) = world.run("dd if=/dev/zero of=/dev/null bs=100M; exit 5").await;
        assert_eq!(exit.code, 5, "{exit:?} {log}");
        assert!(exit.message.starts_with("OOMKilled"), "{exit:?} {log}");
    }
}

container_test! {
    async fn a_program_that_cannot_start_says_why() {
        let world = World::with(|image| {
            let bin = image.layers[0].join("bin");
            for (name, content, mode) in
                [("plain", "x", 0o644), ("strange", "\u{1}\u{2}", 0o755), ("orphan", "#!/no/such\n", 0o755)]
            {
                fs::write(bin.join(name), content).unwrap();
                fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).unwrap();
            }
        });
        for (program, code, said) in [
            ("nowhere", 127, "\"nowhere\" is not in the image; it was looked for in /usr/local/sbin"),
            ("/bin/nowhere", 127, "\"/bin/nowhere\" is not in the image"),
            ("plain", 126, "\"/bin/plain\" may not be executed by user 0"),
            ("/etc", 126, "\"/etc\" is a folder"),
            ("strange", 126, "\"/bin/strange\" is no program for this machine"),
            ("orphan", 127, "\"/bin/orphan\" cannot start"),
            ("", 255, "there is nothing to execute"),
        ] {
            let entrypoint = Some(program.to_owned()).filter(|word| !word.is_empty()).into_iter().collect();
            let (exit, _) = world.run_work(Work { entrypoint, ..world.script("run", "") }).await;
            assert_eq!(exit.code, code, "{exit:?}");
            assert!(exit.message.starts_with(said), "{exit:?}");
        }
        let missing = Work { image: "missing:v1".parse().unwrap(), ..world.script("run", "") };
        let (exit, _) = world.run_work(missing).await;
        assert_eq!((exit.code, exit.message.as_str()), (255, "image missing:v1 is not there: nobody pushed it"));
        let unknown = World::with(|image| image.user = "bob".to_owned());
        let (exit, _) = unknown.run("true").await;
        assert_eq!(exit.code, 255);
        assert!(exit.message.contains("\"bob\" is not in its /etc/passwd"), "{exit:?}");
    }
}

container_test! {
    async fn many_layers_are_stacked_in_order() {
        let world = World::with(|image| {
            let above = image.layers[0].parent().unwrap().to_owned();
            for number in 0..120 {
                let layer = above.join(format!("{number:0>64}"));
                fs::create_dir(&layer).unwrap();
                fs::write(layer.join("last"), format!("{number}\n")).unwrap();
                fs::write(layer.join(format!("only-{number}")), "").unwrap();
                image.layers.push(layer);
            }
        });
        let (exit, log) = world.run("cat /last; ls / | grep -c only").await;
        assert_eq!((exit.code, log.as_str()), (0, "119\n120\n"), "{exit:?}");
        assert!(world.folder.path().join("layers/busybox/bin/sh").exists());
    }
}

container_test! {
    async fn layers_that_a_worker_stands_on_are_in_use_until_it_is_removed() {
        let world = World::new();
        let asked = || async {
            let before = SystemTime::now();
            world.engine().tidy(before).await.unwrap();
            let (in_use, limit) = world.images.asked.lock().unwrap().take().unwrap();
            assert_eq!(limit, before);
            in_use
        };
        assert!(asked().await.is_empty());
        let work = world.script("run", "sleep 1000");
        world.start(&work).await;
        world.until_running("run").await;
        assert_eq!(asked().await, world.image.layers.iter().cloned().collect());
        world.engine().remove_worker(&work.run, Duration::ZERO).await.unwrap();
        assert!(asked().await.is_empty());
    }
}

container_test! {
    async fn links_of_an_image_do_not_lead_out_of_it() {
        let outside = tempfile::tempdir().unwrap();
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        let world = World::with(|image| {
            let layer = image.layers[0].clone();
            for (name, to) in [("etc/hosts", "../../../../etc/hosts"), ("etc/resolv.conf", "/gone/away")] {
                symlink(to, layer.join(name)).unwrap();
            }
            symlink(outside.path(), layer.join("work")).unwrap();
            symlink(outside.path(), layer.join("out")).unwrap();
            image.working_dir = "/place/dir".to_owned();
        });
        let (exit, log) = world.run("echo made > /out/x").await;
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none(), "{exit:?} {log}");
        assert_eq!(fs::read_to_string("/etc/hosts").unwrap_or_default(), hosts);
    }
}

container_test! {
    async fn a_worker_is_ended_politely_and_then_not() {
        let world = World::new();
        let polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
        world.start(&world.script("polite", polite)).await;
        let mut log = world.follow("polite").await;
        assert_eq!(log.next().await.unwrap().unwrap(), "ready\n");
        world.engine().remove_worker(&RunId::new("polite"), Duration::from_mins(10)).await.unwrap();
        assert_eq!(log.next().await.unwrap().unwrap(), "bye\n");
        assert!(log.next().await.is_none());
        world.nothing_is_left("polite");

        // One that handles the signal and goes on, then one that cannot even see it.
        for (run, script) in [
            ("deaf", "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done"),
            ("plain", "echo ready; sleep 600"),
        ] {
            world.start(&world.script(run, script)).await;
            assert_eq!(world.follow(run).await.next().await.unwrap().unwrap(), "ready\n");
            let grace = if run == "plain" { Duration::from_mins(10) } else { Duration::from_millis(300) };
            world.engine().remove_worker(&RunId::new(run), grace).await.unwrap();
            world.nothing_is_left(run);
            assert_eq!(world.engine().observe(&RunId::new(run)).await.unwrap(), Observation::Absent);
        }
        assert!(world.engine().workers().await.unwrap().is_empty());
        world.engine().remove_worker(&RunId::new("never"), Duration::ZERO).await.unwrap();
    }
}

container_test! {
    async fn a_lost_shim_ends_the_run_and_takes_the_container_with_it() {
        let world = World::new();
        world.start(&world.script("run", "echo ready; sleep 4242")).await;
        assert_eq!(world.follow("run").await.next().await.unwrap().unwrap(), "ready\n");
        kill_process(world.shim("run").unwrap());
        let exit = world.until_ended("run").await;
        assert_eq!(exit.code, 254);
        assert!(exit.message.contains("lost"), "{exit:?}");
        assert_eq!(world.groups("run"), Vec::<PathBuf>::new());
        assert_eq!(pid_of("sleep 4242"), None);
        world.engine().remove_worker(&RunId::new("run"), Duration::ZERO).await.unwrap();
        world.nothing_is_left("run");
    }
}

#[test]
fn a_new_server_takes_up_what_runs_what_ended_what_was_lost_and_what_was_only_accepted() {
    if !able(&[ROOT, able::BUSYBOX]) {
        return;
    }
    // With its runtime, all that the first server knew and waited for is gone.
    let server = tokio::runtime::Runtime::new().unwrap();
    let mut world = server.block_on(async { World::new() });
    server.block_on(leave_workers(&world));
    world.engine = None;
    server.shutdown_timeout(Duration::from_mins(1));
    // No server sees this: the container must not outlive its shim all the same. Its one process is asked of
    // its group, because what it says comes before it is what it will be in the end.
    let container = process(world.group_file("orphan", &["cgroup.procs"]).parse().unwrap());
    kill_process(world.shim("orphan").unwrap());
    until_gone(&container);
    let server = tokio::runtime::Runtime::new().unwrap();
    server.block_on(async {
        world.open();
        find_workers(&world).await;
    });
}

/// What a server that was killed leaves: a worker that runs, one that ended and is not removed, one it
/// had only accepted, one it was about to accept, and one whose shim vanished unobserved.
async fn leave_workers(world: &World) {
    let waits = "echo before; while [ ! -e /in/go ]; do sleep 0.05; done; echo after; exit 5";
    world.start(&world.script("runs", waits)).await;
    world.start(&world.script("ends", "exit 6")).await;
    assert_eq!(world.until_ended("ends").await.code, 6);
    world.until_running("runs").await;
    world.start(&world.script("orphan", "echo ready; exec sleep 4343")).await;
    assert_eq!(world.follow("orphan").await.next().await.unwrap().unwrap(), "ready\n");
    for (run, script) in [("accepted", "echo fresh; exit 8"), ("lost", "true")] {
        let folder = world.worker_folder(run);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("work.json"), serde_json::to_vec(&world.script(run, script)).unwrap()).unwrap();
    }
    fs::write(world.worker_folder("lost").join("lock"), "").unwrap();
    fs::create_dir(world.worker_folder(".new-half")).unwrap();
}

async fn find_workers(world: &World) {
    assert_eq!(world.until_ended("ends").await.code, 6);
    assert_eq!(world.until_ended("lost").await.code, 254);
    assert_eq!(world.until_ended("orphan").await.code, 254);
    assert_eq!(world.until_ended("accepted").await.code, 8);
    assert_eq!(world.log("accepted"), "fresh\n");
    world.until_running("runs").await;
    let seen = world.engine().observe(&RunId::new("runs")).await.unwrap();
    assert_eq!(seen, Observation::Running { image_digest: DIGEST.to_owned() });
    let mut log = world.follow("runs").await;
    assert_eq!(log.next().await.unwrap().unwrap(), "before\n");
    fs::write(world.volume("runs-in").1.join("go"), "").unwrap();
    assert_eq!(world.until_ended("runs").await.code, 5);
    assert_eq!(log.next().await.unwrap().unwrap(), "after\n");
    assert!(log.next().await.is_none());
    assert!(!world.worker_folder(".new-half").exists());
    for run in ["runs", "ends", "lost", "orphan", "accepted"] {
        world.engine().remove_worker(&RunId::new(run), Duration::ZERO).await.unwrap();
        world.nothing_is_left(run);
    }
}

container_test! {
    async fn a_followed_log_is_whole_to_its_last_byte() {
        let world = World::new();
        let work = world.script("run", "seq 1 20000; sleep 0.2; seq 20001 40000; echo -n end");
        world.start(&work).await;
        let join = |mut all: Vec<u8>, piece: bytes::Bytes| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        };
        let followed = world.follow("run").await.try_fold(Vec::new(), join).await.unwrap();
        let expected: String = (1..=40000).map(|n| format!("{n}\n")).chain(["end".to_owned()]).collect();
        assert!(followed == expected.as_bytes(), "{} of {} bytes", followed.len(), expected.len());
        let volume = work.log.clone().unwrap();
        let whole = world.engine().log(&work.run, &volume, false).await.unwrap();
        assert!(whole.try_fold(Vec::new(), join).await.unwrap() == expected.as_bytes());
        world.engine().remove_worker(&work.run, Duration::ZERO).await.unwrap();
        let nothing = world.engine().log(&RunId::new("none"), &Volume::from_stored("none"), true).await;
        assert!(nothing.is_err());
    }
}

container_test! {
    async fn a_log_over_its_limit_is_cut_and_a_missing_one_is_no_hindrance() {
        let world = World::new();
        let (exit, log) = world.run("yes | head -c 3000000; echo done > /out/done").await;
        assert_eq!(exit.code, 0);
        assert!(exit.message.contains("cut at its limit of 1048576 bytes"), "{exit:?}");
        assert!(log.len() < (1 << 20) + 200 && log.contains("[knit] the log reached its limit"));
        assert!(world.volume("run-out").1.join("done").exists(), "a full log does not stop the program");
        let silent = Work { log: None, ..world.script("silent", "yes | head -c 300000; exit 4") };
        assert_eq!(world.run_work(silent).await.0.code, 4);
    }
}

container_test! {
    async fn room_is_held_until_the_process_has_ended() {
        let world = World::new();
        let whole = format!("{}m", world.engine().status().cpu_millis);
        let mut first = world.script("first", "while [ ! -e /in/go ]; do sleep 0.05; done");
        first.resources.insert("cpu".to_owned(), whole.parse().unwrap());
        let second = Work { run: RunId::new("second"), ..first.clone() };
        world.start(&first).await;
        world.start(&first).await;
        let refused = world.engine().start(&second).await.unwrap();
        assert!(matches!(&refused, Started::NoRoom { reason } if reason.contains("cpu")), "{refused:?}");
        let [node] = &world.engine().nodes().await.unwrap()[..] else { panic!("one machine") };
        assert_eq!(node.in_use["cpu"], node.capacity["cpu"], "what is told is what decides");
        let mut events = world.engine().events();
        fs::write(world.volume("first-in").1.join("go"), "").unwrap();
        while events.recv().await.unwrap() != EngineEvent::Room {}
        world.start(&second).await;
        world.until_ended("second").await;

        let mut huge = world.script("huge", "");
        huge.resources.insert("cpu".to_owned(), "100k".parse().unwrap());
        let refused = world.engine().start(&huge).await.unwrap();
        let Started::NeverFits { reason } = refused else { panic!("{refused:?}") };
        assert!(reason.starts_with("needs cpu 100k"), "{reason}");
        for run in ["first", "second", "huge"] {
            world.engine().remove_worker(&RunId::new(run), Duration::ZERO).await.unwrap();
        }
    }
}

container_test! {
    async fn fifty_containers_eight_at_a_time_leave_nothing() {
        let world = World::new();
        let mut events = world.engine().events();
        let (mut next, mut ended) = (0u8, 0);
        let mut active: Vec<u8> = Vec::new();
        while ended < 50 {
            while active.len() < 8 && next < 50 {
                world.start(&world.script(&format!("n{next}"), &format!("echo {next}; exit {}", next % 5))).await;
                active.push(next);
                next += 1;
            }
            events.recv().await.unwrap();
            let mut still = Vec::new();
            for number in active {
                let run = format!("n{number}");
                let Observation::Ended { exit, image_digest } =
                    world.engine().observe(&RunId::new(&run)).await.unwrap()
                else {
                    still.push(number);
                    continue;
                };
                assert_eq!(exit, Exit { code: number % 5, message: String::new() });
                assert_eq!(image_digest.as_deref(), Some(DIGEST));
                assert_eq!(world.log(&run), format!("{number}\n"));
                world.engine().remove_worker(&RunId::new(&run), Duration::ZERO).await.unwrap();
                world.nothing_is_left(&run);
                ended += 1;
            }
            active = still;
        }
        assert_eq!(fs::read_dir(world.layout.workers()).unwrap().count(), 0);
        assert_eq!(world.groups(""), Vec::<PathBuf>::new());
    }
}

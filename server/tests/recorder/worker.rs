//! A worker without a cluster: the recorder as a process, main as another one in a process namespace of its own, with
//! folders as volumes.

use knit_server::engine::Volume;
use knit_server::engine::kubernetes::door::record::End;
use reqwest::{Client, Response, StatusCode};
use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const KNITD: &str = env!("CARGO_BIN_EXE_knitd");
const NAME: &str = "door.knit.internal";
const TOKEN: &str = "a token";
/// Far more than anything here takes.
const LONGEST: Duration = Duration::from_mins(1);

/// True where main can have processes of its own; says so where it cannot.
pub(crate) fn is_possible() -> bool {
    let possible = Command::new("unshare").args(["--pid", "--fork", "true"]).status().is_ok_and(|s| s.success());
    if !possible {
        eprintln!("SKIPPED: making a process namespace takes root and unshare(1)");
    }
    possible
}

pub(crate) struct Worker {
    pub(crate) recorder: Child,
    client: Client,
    url: String,
    dir: TempDir,
}

impl Worker {
    /// A recorder that waits for main, with an output `out` and a log.
    pub(crate) async fn new(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["volumes/out", "volumes/log", "shared", "credentials"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let files = [("tls.crt", certificate.as_str()), ("tls.key", &key.serialize_pem()), ("token", TOKEN)];
        for (name, text) in files {
            fs::write(path("credentials").join(name), text).unwrap();
        }
        let port = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let recorder = Command::new(KNITD)
            .args(["record-log", "--output", "out", "--log", "log", "--port", &port.to_string()])
            .args(["--volumes".as_ref(), path("volumes").as_os_str(), "--shared".as_ref(), path("shared").as_os_str()])
            .args(["--credentials".as_ref(), path("credentials").as_os_str()])
            .args(["--manifests".as_ref(), path("manifests").as_os_str()])
            .args(more)
            .spawn()
            .unwrap();
        let client = Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap()])
            .resolve(NAME, (Ipv6Addr::LOCALHOST, port).into())
            .no_proxy()
            .build()
            .unwrap();
        let worker = Self { recorder, client, url: format!("https://{NAME}:{port}"), dir };
        until(|| worker.socket().exists());
        worker.until_open().await;
        worker
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("shared/main.sock")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.dir.path().join("volumes/out")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.dir.path().join("volumes/log/log")
    }

    /// A place for whatever a test needs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Main, as its container would start it.
    pub(crate) fn main(&self, program: &str, arguments: &[&str]) -> Main {
        let socket = self.socket();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", KNITD, "wrap", "--socket"]).arg(socket).arg("--").arg(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        Main { child: command.spawn().unwrap() }
    }

    pub(crate) fn shell(&self, script: &str) -> Main {
        self.main("sh", &["-c", script])
    }

    async fn until_open(&self) {
        let deadline = Instant::now() + LONGEST;
        while self.client.get(format!("{}/healthz", self.url)).send().await.is_err() {
            assert!(Instant::now() < deadline, "the door does not open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).bearer_auth(TOKEN).send().await.unwrap()
    }

    pub(crate) async fn get_without_token(&self, path: &str) -> StatusCode {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap().status()
    }

    pub(crate) async fn post(&self, path: &str) -> StatusCode {
        self.client.post(format!("{}{path}", self.url)).bearer_auth(TOKEN).send().await.unwrap().status()
    }

    /// How main ended; none when that takes longer.
    pub(crate) async fn end_within(&self, seconds: u64, sealed: bool) -> Option<End> {
        let answer = self.get(&format!("/end?wait={seconds}&sealed={sealed}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// How main ended, with outputs and log made final.
    pub(crate) async fn end(&self) -> End {
        self.end_within(LONGEST.as_secs(), true).await.expect("main ends")
    }

    pub(crate) async fn log(&self) -> Vec<u8> {
        self.get("/log").await.bytes().await.unwrap().to_vec()
    }

    /// Waits until the recorder has ended.
    pub(crate) fn recorder_ends(&mut self) -> ExitStatus {
        wait(&mut self.recorder)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.recorder.kill();
        let _ = self.recorder.wait();
    }
}

pub(crate) fn sealed<'a>(end: &'a End, volume: &str) -> &'a knit_server::engine::Sealed {
    let all = end.sealed.as_ref().unwrap();
    let (_, sealed) = all.iter().find(|(known, _)| *known == Volume::from_stored(volume)).unwrap();
    sealed.as_ref().unwrap()
}

pub(crate) struct Main {
    pub(crate) child: Child,
}

impl Main {
    /// The process of `wrap`, by its number outside.
    pub(crate) fn wrap(&self) -> i32 {
        let unshare = self.child.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let mut found = None;
        until(|| {
            found = fs::read_to_string(&children).unwrap().split_whitespace().next().and_then(|pid| pid.parse().ok());
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.wrap()).unwrap(), signal).unwrap();
    }

    pub(crate) fn ends(&mut self) -> Option<i32> {
        wait(&mut self.child).code()
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let mut ended = None;
    until(|| {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap()
}

pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !done() {
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

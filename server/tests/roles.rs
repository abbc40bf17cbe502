//! The roles of `knitd` as processes: which of them work together, what each of them answers, and how they end.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use knit_tests::postgres;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_mins(1);
const TOKEN: &str = "s3cr3t-token";

fn knitd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_knitd"));
    command.args(args);
    command
}

/// A process that listens.
struct Knitd {
    child: Child,
    said: Value,
    log: PathBuf,
}

impl Knitd {
    /// Starts `knitd serve` with these flags, and with a port for probes; returns when it answers.
    async fn serve(folder: &Path, name: &str, flags: &[&str]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let mut command = knitd(&["serve", "--metrics-listen", "127.0.0.1:0"]);
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(LONG, line).await.unwrap().unwrap().unwrap();
        let said = serde_json::from_str(&line);
        let said = said.unwrap_or_else(|_| panic!("{name} did not start: {}", std::fs::read_to_string(&log).unwrap()));
        Self { child, said, log }
    }

    /// Where a port of it listens.
    fn at(&self, port: &str) -> &str {
        self.said[port].as_str().unwrap_or_else(|| panic!("{port} in {}", self.said))
    }

    async fn probe(&self, path: &str) -> (u16, String) {
        get(&Client::new(), &format!("http://{}{path}", self.at("metrics"))).await
    }

    fn terminate(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// How it ends by itself.
    async fn ended(mut self) -> (Option<i32>, String) {
        let log = self.log.clone();
        let waiting = tokio::task::spawn_blocking(move || self.child.wait().unwrap().code());
        let code = tokio::time::timeout(LONG, waiting).await.expect("it ends").unwrap();
        (code, std::fs::read_to_string(log).unwrap())
    }
}

impl Drop for Knitd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn get(client: &Client, url: &str) -> (u16, String) {
    let answer = client.get(url).bearer_auth(TOKEN).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// As much of a cluster's API server as a server without work needs: it has nothing, and nothing happens.
async fn empty_cluster(folder: &Path) -> PathBuf {
    async fn answer(request: Request) -> Response {
        let query = request.uri().query().unwrap_or_default();
        if query.contains("watch=true") || query.contains("watch=1") {
            return Body::from_stream(futures_util::stream::pending::<Result<String, std::io::Error>>())
                .into_response();
        }
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
        ([(axum::http::header::CONTENT_TYPE, "application/json")], list.to_string()).into_response()
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let path = folder.join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

/// A file that only its owner may read.
fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Writes a new certificate for `localhost` and its key, and returns who trusts it.
fn issue(folder: &Path) -> (String, String, Client) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = secret(folder, "tls.key", &made.signing_key.serialize_pem());
    let certificate = secret(folder, "tls.crt", &made.cert.pem());
    let trusted = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    (certificate, key, Client::builder().tls_certs_only([trusted]).build().unwrap())
}

fn client() -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::new()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_part_of_the_roles_is_refused_where_no_other_process_could_play_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("knit");
    for (flags, words) in [
        (&["--roles", "api", "--no-auth"][..], "SQLite"),
        (&["--roles", "api", "--database-file", "db", "--no-auth"], "this machine's engine"),
    ] {
        let refused = knitd(&["serve", "--dir", folder.to_str().unwrap()]).args(flags).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
        assert!(text(&refused).contains(words), "{}", text(&refused));
        assert!(!folder.exists(), "nothing is made of what is refused");
    }
}

#[tokio::test]
async fn each_role_is_a_process_of_its_own_on_one_database() {
    let Some(url) = postgres::new_database() else { return };
    let _ = client();
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = empty_cluster(dir.path()).await;
    let database = secret(dir.path(), "database", &url);
    let token = secret(dir.path(), "token", TOKEN);
    let mut all = Vec::new();
    for (role, rounds) in [
        ("api", None),
        ("backend", None),
        ("projection", Some("project")),
        ("initialize", Some("initialize")),
        ("run-management", Some("run")),
        ("finishing", Some("finish")),
        ("garbage-collection", Some("collect")),
        ("housekeeping", Some("housekeep")),
    ] {
        let mut flags = vec!["--roles", role, "--database-file", &database, "--image", "knitd"];
        flags.extend(["--kubeconfig", kubeconfig.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        if rounds.is_none() {
            flags.extend(["--token-file", &token]);
        }
        let process = Knitd::serve(dir.path(), role, &flags).await;
        assert_eq!(process.said.get("api").is_some(), rounds.is_none(), "{role}: {}", process.said);
        assert!(process.said.get("registry").is_none(), "{role}: {}", process.said);
        assert_eq!(process.probe("/healthz").await, (200, "ok\n".to_owned()), "{role}");
        assert_eq!(process.probe("/readyz").await, (200, "ready\n".to_owned()), "{role}");
        let (_, figures) = process.probe("/metrics").await;
        assert!(figures.ends_with("# EOF\n") && figures.contains("knitd_build_info{version="), "{role}: {figures}");
        let told: Vec<&str> = figures.lines().filter(|line| line.starts_with("knitd_loop_rounds_total")).collect();
        let only = rounds.map(|name| format!("knitd_loop_rounds_total{{loop=\"{name}\"}}"));
        assert!(told.iter().all(|line| only.as_ref().is_some_and(|only| line.starts_with(only))), "{role}: {told:?}");
        assert_eq!(told.len(), usize::from(only.is_some()), "{role}: {figures}");
        all.push(process);
    }

    let (api, backend) = (format!("http://{}", all[0].at("api")), format!("http://{}", all[1].at("api")));
    assert_eq!(get(&client(), &format!("{api}/api/data")).await.0, 200);
    assert_eq!(get(&client(), &format!("{api}/api/backend/data")).await.0, 404);
    assert_eq!(get(&client(), &format!("{backend}/api/backend/data/")).await.0, 200);
    assert_eq!(get(&client(), &format!("{backend}/api/data")).await.0, 404);
    let import = client().post(format!("{backend}/api/backend/data/import/begin")).bearer_auth(TOKEN).send().await;
    assert_eq!(import.unwrap().status(), 501);

    let (_, status) = get(&client(), &format!("{api}/api/server/status")).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    let detail = status["database"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("PostgreSQL, knit") && !detail.contains("postgres@"), "{detail}");
    assert!(status.get("disk").is_none(), "{status}");
    assert_eq!(status["workerNetwork"], "cluster");
    let (_, cluster) = get(&client(), &format!("{api}/api/cluster")).await;
    let cluster: Value = serde_json::from_str(&cluster).unwrap();
    assert_eq!(cluster["registry"]["host"], "localhost:30503");

    let (_, figures) = all[0].probe("/metrics").await;
    for series in [
        "knitd_http_requests_total{route=\"/api/data\",method=\"GET\",status=\"2xx\"} 1",
        "knitd_http_requests_total{route=\"unknown\",method=\"GET\",status=\"4xx\"} 1",
        "knitd_http_request_duration_seconds_count{route=\"/api/data\",method=\"GET\"} 1",
        "knitd_engine_calls_total{call=\"nodes\",outcome=\"ok\"} 1",
        "knitd_run_oldest_due_seconds{status=\"waiting\"} 0.0",
    ] {
        assert!(figures.contains(series), "{series}\n{figures}");
    }
    assert!(!figures.contains("backend"), "no label comes from a path that a client makes up: {figures}");

    for process in &all {
        process.terminate();
    }
    for process in all {
        let (code, log) = process.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("panicked") && log.contains("stopped"), "{log}");
    }
}

#[tokio::test]
async fn certificates_are_used_on_both_ports_and_replaced_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = empty_cluster(dir.path()).await;
    let token = secret(dir.path(), "token", TOKEN);
    let (certificate, key, trusting) = issue(dir.path());
    let folder = dir.path().join("knit");
    let mut flags = vec!["--dir", folder.to_str().unwrap(), "--token-file", &token, "--image", "knitd"];
    flags.extend(["--kubeconfig", kubeconfig.to_str().unwrap(), "--tls-cert", &certificate, "--tls-key", &key]);
    flags.extend(["--listen", "127.0.0.1:0", "--registry-listen", "127.0.0.1:0", "--registry-anonymous-pull"]);
    let server = Knitd::serve(dir.path(), "tls", &flags).await;
    let port = |name: &str| server.at(name).rsplit_once(':').unwrap().1.to_owned();
    let (api, registry) = (format!("localhost:{}", port("api")), format!("localhost:{}", port("registry")));

    assert_eq!(get(&trusting, &format!("https://{api}/api/data")).await.0, 200);
    let (status, words) = get(&client(), &format!("http://{api}/api/data")).await;
    assert!(status == 400 && words.contains("https"), "{status} {words}");
    for scheme in ["https", "http"] {
        assert_eq!(get(&trusting, &format!("{scheme}://{registry}/v2/_catalog")).await.0, 200, "{scheme}");
        let anonymous = async |path: &str| {
            trusting.get(format!("{scheme}://{registry}{path}")).send().await.unwrap().status().as_u16()
        };
        assert_eq!(anonymous("/v2/_catalog").await, 401, "{scheme}");
        // Let in, and nothing there.
        assert_eq!(anonymous("/v2/train/manifests/v1").await, 404, "{scheme}");
    }
    let (_, status) = get(&trusting, &format!("https://{api}/api/server/status")).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["registry"]["ok"], true, "{status}");

    let (_, _, trusting_the_next) = issue(dir.path());
    assert_eq!(get(&trusting_the_next, &format!("https://{api}/healthz")).await.0, 200);
    server.terminate();
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_stopping_server_says_so_takes_requests_for_a_while_and_ends_those_under_way() {
    let _ = client();
    let dir = tempfile::tempdir().unwrap();
    let token = secret(dir.path(), "token", TOKEN);
    let folder = dir.path().join("registry");
    let mut flags = vec!["--roles", "registry", "--dir", folder.to_str().unwrap(), "--token-file", &token];
    flags.extend(["--registry-listen", "127.0.0.1:0", "--drain-delay", "3s", "--grace", "30s"]);
    let server = Knitd::serve(dir.path(), "registry", &flags).await;
    let at = server.at("registry").to_owned();

    // A push of which only half has come.
    let mut pushing = TcpStream::connect(&at).await.unwrap();
    let digest = knit_server::content::Digest::of(b"0123456789");
    let head = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\n\
         Connection: close\r\nContent-Length: 10\r\n\r\n01234"
    );
    pushing.write_all(head.as_bytes()).await.unwrap();
    let begun = async {
        // The store has the upload once its head was read.
        while std::fs::read_dir(folder.join("content/incoming")).unwrap().count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, begun).await.unwrap();

    assert_eq!(server.probe("/readyz").await.0, 200);
    server.terminate();
    let unready = async {
        while server.probe("/readyz").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, unready).await.unwrap();
    assert_eq!(server.probe("/healthz").await.0, 200, "it is not to be killed for that");
    assert_eq!(get(&client(), &format!("http://{at}/healthz")).await.0, 200, "others may not have seen it yet");

    let closed = async {
        while TcpStream::connect(&at).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, closed).await.expect("no connection is taken any more");
    assert_eq!(server.probe("/readyz").await.0, 503, "told to the end");
    pushing.write_all(b"56789").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG, pushing.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

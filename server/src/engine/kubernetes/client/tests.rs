//! Calls against an API server that answers by a script: it is busy, says no, falls silent and breaks off.

use super::*;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the API server does with one request.
#[derive(Clone, Debug)]
enum Act {
    /// It answers with this code, this header and this body.
    Answer(u16, &'static str, String),
    /// It answers nothing.
    Silence,
    /// It closes the connection.
    Cut,
    /// It closes the connection in the middle of its answer.
    Half,
}

/// An API server with a script. When that is over, it does the last thing again.
struct Scripted {
    client: Client,
    asked: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

impl Scripted {
    async fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let (script, count) = (Arc::new(Mutex::new(VecDeque::from(script))), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, count) = (Arc::clone(&script), Arc::clone(&count));
                tokio::spawn(async move { act(stream, &script, &count).await });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let mut client = Client::prepare(&settings(&folder, &server)).await.unwrap();
        client.limits =
            Limits { call: Duration::from_secs(4), attempt: Duration::from_millis(700), look: Duration::from_secs(2) };
        Self { client, asked, _folder: folder }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn act(mut stream: TcpStream, script: &Mutex<VecDeque<Act>>, count: &AtomicUsize) {
    read_request(&mut stream).await;
    count.fetch_add(1, Ordering::SeqCst);
    let act = {
        let mut script = script.lock().unwrap();
        let next = script.front().cloned().unwrap();
        if script.len() > 1 {
            script.pop_front();
        }
        next
    };
    match act {
        Act::Answer(code, header, body) => {
            let head =
                format!("HTTP/1.1 {code} X\r\nconnection: close\r\ncontent-length: {}\r\n{header}\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
        Act::Silence => tokio::time::sleep(Duration::from_mins(1)).await,
        Act::Cut => {}
        Act::Half => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"kind\":").await;
        }
    }
}

/// Reads head and body of one request.
async fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).await.unwrap_or(0);
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                return;
            }
        }
        if read == 0 {
            return;
        }
    }
}

fn settings(folder: &tempfile::TempDir, server: &str) -> Cluster {
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "c", "cluster": { "server": server } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
        "current-context": "x",
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    Cluster {
        kubeconfig: Some(kubeconfig),
        namespace: "ours".to_owned(),
        image: "knitd".to_owned(),
        storage_class: None,
        initial_capacity: "1Gi".parse().unwrap(),
        worker_priority: None,
        registry: "localhost:30503".to_owned(),
        registry_from_here: "localhost:30503".to_owned(),
        reach: crate::settings::Reach::Direct,
        agent_idle: Duration::from_mins(1),
        start_grace: Duration::from_mins(1),
        stray_grace: Duration::from_mins(5),
        log_limit: 1,
    }
}

fn pod(name: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod
}

fn found() -> Act {
    Act::Answer(200, "", serde_json::to_string(&pod("p")).unwrap())
}

fn no(code: u16, reason: &str, message: &str) -> Act {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    Act::Answer(code, "", status.to_string())
}

fn page(names: &[&str], next: &str) -> Act {
    let items: Vec<Pod> = names.iter().map(|name| pod(name)).collect();
    let list = json!({
        "kind": "PodList", "apiVersion": "v1", "metadata": { "continue": next, "resourceVersion": "1" }, "items": items,
    });
    Act::Answer(200, "", list.to_string())
}

#[tokio::test]
async fn what_may_pass_is_asked_again_until_there_is_an_answer() {
    let busy = |header, body: &str| Act::Answer(429, header, body.to_owned());
    for (script, at_least) in [
        (vec![found()], 0),
        // As a busy API server says it: plain text, and how long it wants to be left alone.
        (vec![busy("retry-after: 1\r\n", "Too many requests, please try again later.\n"), found()], 1000),
        (vec![no(500, "InternalError", "etcdserver: leader changed"), found()], 0),
        (vec![Act::Answer(502, "", "<html>".to_owned()), no(503, "", "not ready"), no(504, "Timeout", ""), found()], 0),
        (vec![Act::Silence, found()], 700),
        (vec![Act::Cut, Act::Cut, found()], 0),
        (vec![Act::Half, found()], 0),
    ] {
        let (words, attempts) = (format!("{script:?}"), script.len());
        let server = Scripted::start(script).await;
        let began = clock::Stopwatch::start();
        let got = server.client.get::<Pod>("p").await;
        assert!(matches!(got, Ok(Some(_))), "{words}: {got:?}");
        assert_eq!(server.asked(), attempts, "{words}");
        assert!(began.elapsed() >= Duration::from_millis(at_least), "{words}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn what_does_not_pass_is_an_error_at_once_that_says_what_to_do() {
    let rbac = "pods \"p\" is forbidden: User \"knitd\" cannot get resource \"pods\" in API group \"\" in the \
                namespace \"ours\"";
    for (act, words) in [
        (no(403, "Forbidden", rbac), "grant `get` on `pods` in namespace ours to the account of this server"),
        (
            no(403, "Forbidden", "pods \"p\" is forbidden: exceeded quota: q"),
            "remove what uses the quota up, or raise it",
        ),
        (no(401, "Unauthorized", "Unauthorized"), "the credentials are those of "),
        (no(422, "Invalid", "Pod \"p\" is invalid: spec.x"), "(422): Pod \"p\" is invalid: spec.x"),
        (Act::Answer(200, "", "<html>".to_owned()), "answers what is no Pod"),
    ] {
        let server = Scripted::start(vec![act]).await;
        let error = server.client.get::<Pod>("p").await.unwrap_err().to_string();
        assert!(error.starts_with("reading Pod p in namespace ours: "), "{error}");
        assert!(error.contains(words), "{error}");
        assert_eq!(server.asked(), 1, "{error}");
    }
}

#[tokio::test]
async fn no_call_takes_longer_than_its_limit() {
    for act in [
        Act::Silence,
        Act::Cut,
        Act::Half,
        no(500, "InternalError", "broken"),
        Act::Answer(429, "retry-after: 3600\r\n", String::new()),
    ] {
        let words = format!("{act:?}");
        let server = Scripted::start(vec![act]).await;
        let began = clock::Stopwatch::start();
        server.client.get::<Pod>("p").await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5), "{words}: {:?}", began.elapsed());
    }
    let folder = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = Client::prepare(&settings(&folder, &format!("http://{closed}"))).await.unwrap();
    client.limits.look = Duration::from_secs(1);
    let error = client.check().await.unwrap_err().to_string();
    assert!(error.contains(&format!("is the API server http://{closed}/ up")), "{error}");
}

#[tokio::test]
async fn conflicts_mean_what_they_are_about() {
    let there = || no(409, "AlreadyExists", "pods \"p\" already exists");
    let server = Scripted::start(vec![there(), found()]).await;
    assert!(matches!(server.client.create(&pod("p")).await, Ok(Made::Found(_))));
    let missing = no(404, "NotFound", "pods \"p\" not found");
    let server = Scripted::start(vec![there(), missing.clone(), found()]).await;
    assert!(matches!(server.client.create(&pod("p")).await, Ok(Made::New(_))), "it went between the questions");

    let modified =
        || no(409, "Conflict", "the object has been modified; please apply your changes to the latest version");
    let server = Scripted::start(vec![modified(), found()]).await;
    server.client.patch::<Pod>("p", &json!({})).await.unwrap();

    let mine = Delete { uid: Some("1".to_owned()), ..Delete::default() };
    let another = "Precondition failed: UID in precondition: 1, UID in object meta: 2";
    for (script, deleted) in [
        (vec![found()], Deleted::Asked),
        (vec![modified(), found()], Deleted::Asked),
        (vec![no(409, "Conflict", another)], Deleted::Gone),
        (vec![missing], Deleted::Gone),
    ] {
        let server = Scripted::start(script).await;
        assert_eq!(server.client.delete::<Pod>("p", &mine).await.unwrap(), deleted);
    }
}

#[tokio::test]
async fn a_list_is_whole_though_its_pages_expire() {
    let gone = no(410, "Expired", "The provided continue parameter is too old");
    let script = vec![page(&["a"], "next"), gone, page(&["a", "b"], "next"), page(&["c"], "")];
    let server = Scripted::start(script).await;
    let all = server.client.list::<Pod>("x=y").await.unwrap();
    let names: Vec<_> = all.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

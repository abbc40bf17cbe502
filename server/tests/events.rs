//! The stream of events of Runs: how it begins, what it tells, when it is quiet, and how it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, header};
use fake::Server;
use futures_util::StreamExt;
use knit_api::id::RunId;
use knit_server::{clock, http, loops};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// No event of a test takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A watcher's connection.
struct Events {
    body: BodyDataStream,
    text: String,
    next: VecDeque<(String, Value)>,
    number: u64,
}

impl Events {
    /// The next event; none at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        // Signs of life are no events.
        tokio::time::timeout(PATIENCE, self.receive()).await.expect("an event in time")
    }

    async fn receive(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.next.pop_front() {
                return Some(event);
            }
            let piece = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                if let Some(name) = field("event: ") {
                    self.number += 1;
                    assert_eq!(field("id: ").unwrap(), self.number.to_string());
                    self.next.push_back((name.to_owned(), serde_json::from_str(field("data: ").unwrap()).unwrap()));
                }
            }
        }
    }

    /// The events up to one of this name, each as its name and what it says of a Run.
    async fn until(&mut self, name: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let (event, data) = self.next().await.unwrap_or_else(|| panic!("it ended before {name}: {seen:?}"));
            match event.as_str() {
                "run" => seen.push(data["status"].as_str().unwrap().to_owned()),
                "gone" => seen.push(format!("gone {}", data["runId"].as_str().unwrap())),
                other => seen.push(other.to_owned()),
            }
            if event == name {
                return seen;
            }
        }
    }

    /// The next Run in this status.
    async fn run(&mut self, status: &str) -> Value {
        loop {
            let (event, data) = self.next().await.unwrap_or_else(|| panic!("it ended before a Run was {status}"));
            if event == "run" && data["status"] == status {
                return data;
            }
        }
    }
}

async fn get(server: &Server, path: &str) -> axum::response::Response {
    let request = Request::get(path).header(header::HOST, "localhost:30803").body(Body::empty()).unwrap();
    http::service(server.app.clone()).oneshot(request).await.unwrap()
}

async fn events(server: &Server, query: &str) -> Events {
    let response = get(server, &format!("/api/runs/events?{query}")).await;
    assert_eq!(response.status(), 200, "{query}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    Events { body: response.into_body().into_data_stream(), text: String::new(), next: VecDeque::new(), number: 0 }
}

async fn call(server: &Server, method: &str, path: &str, body: String) -> Value {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:30803")
        .header(header::CONTENT_TYPE, "application/json");
    let response = http::service(server.app.clone()).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    assert!(response.status().is_success(), "{method} {path}: {}", response.status());
    let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

async fn pushed(server: &Server, tag: &str) -> Value {
    call(server, "POST", &format!("/api/data?tag={tag}"), "content".to_owned()).await
}

/// A Plan from one tag to another.
async fn registered(server: &Server, from: &str, to: &str) -> String {
    let spec = json!({
        "image": "step:v1",
        "inputs": [{"path": "/in", "tags": [from]}],
        "outputs": [{"path": "/out", "tags": [to]}],
    });
    call(server, "POST", "/api/plans", spec.to_string()).await["planId"].as_str().unwrap().to_owned()
}

/// A server whose loops run.
async fn working() -> Server {
    let server = fake::server(None).await;
    let loops = loops::Loops::start(&server.app).await.unwrap();
    tokio::spawn(loops.ended(Duration::from_hours(1)));
    server
}

fn id(run: &Value) -> RunId {
    RunId::new(run["runId"].as_str().unwrap())
}

#[tokio::test]
async fn it_begins_with_how_things_stand_and_tells_every_change() {
    let server = working().await;
    server.engine.state().never_fits = Some("needs cpu 64".to_owned());
    let plan = registered(&server, "a:b", "c:d").await;
    let mut all = events(&server, &format!("plan={plan}")).await;
    assert_eq!(all.until("quiet").await, ["synced", "quiet"]);
    pushed(&server, "a:b").await;
    let ready = loop {
        let run = all.run("ready").await;
        if run["reason"] == "needs cpu 64" {
            break run;
        }
    };
    let run = id(&ready);
    assert_eq!(ready, call(&server, "GET", &format!("/api/runs/{run}"), String::new()).await);
    let mut late = events(&server, &format!("run={run}")).await;
    assert_eq!(late.until("synced").await, ["ready", "synced"]);

    server.engine.state().never_fits = Some("needs cpu 128".to_owned());
    server.app.store.hasten(&run, clock::now()).await.unwrap();
    server.app.wake.run.notify_one();
    assert_eq!(late.run("ready").await["reason"], "needs cpu 128", "a reason changes without a new time");

    server.engine.state().never_fits = None;
    server.app.store.hasten(&run, clock::now()).await.unwrap();
    server.app.wake.run.notify_one();
    late.run("starting").await;
    server.engine.begin(&run);
    late.run("running").await;
    server.engine.end(&run, 3, "exploded");
    let failed = late.run("failed").await;
    assert_eq!(failed["exit"], json!({"code": 3, "message": "exploded"}));
    late.until("quiet").await;
    all.until("quiet").await;
    let mut again = events(&server, "").await;
    let begins = again.until("quiet").await;
    assert_eq!(begins, ["done", "failed", "synced", "quiet"], "the upload and the Run, by their last change");
    let mut brief = events(&server, "status=starting&ended=0").await;
    assert_eq!(brief.until("quiet").await, ["synced", "quiet"]);
}

#[tokio::test]
async fn what_a_push_has_caused_is_quiet_only_when_the_whole_pipeline_is_over() {
    let server = working().await;
    registered(&server, "kind:raw", "kind:model").await;
    registered(&server, "kind:model", "kind:metrics").await;
    let data = pushed(&server, "kind:raw").await["knitId"].as_str().unwrap().to_owned();
    let mut caused = events(&server, &format!("cause=data:{data}")).await;
    for _ in 0..2 {
        let run = id(&caused.run("starting").await);
        server.engine.end(&run, 0, "");
    }
    let rest = caused.until("quiet").await;
    assert_eq!(rest.iter().filter(|seen| *seen == "done").count(), 1, "{rest:?}");
    assert!(!rest.contains(&"busy".to_owned()), "{rest:?}");
    // Someone else's work is none of its business, until it follows from its own.
    pushed(&server, "kind:raw").await;
    let mut other = events(&server, "status=starting").await;
    let run = id(&other.run("starting").await);
    server.engine.end(&run, 0, "");
    other.run("done").await;
    registered(&server, "kind:metrics", "kind:report").await;
    assert_eq!(caused.until("busy").await.last().unwrap(), "busy");
    let report = caused.run("starting").await;
    assert_eq!(report["plan"]["image"], "step:v1");
}

#[tokio::test]
async fn runs_that_are_no_more_are_told_once() {
    let server = working().await;
    let data = pushed(&server, "a:b").await;
    let upload = data["upstream"]["run"]["runId"].as_str().unwrap().to_owned();
    let mut all = events(&server, "").await;
    assert_eq!(all.until("quiet").await, ["done", "synced", "quiet"]);
    let mut named = events(&server, &format!("run={upload},unknown")).await;
    assert_eq!(named.until("quiet").await, ["gone unknown", "done", "synced", "quiet"]);
    call(&server, "DELETE", &format!("/api/runs/{upload}"), String::new()).await;
    let gone = format!("gone {upload}");
    assert_eq!(all.until("gone").await, [gone.as_str()]);
    assert_eq!(named.until("gone").await, [gone.as_str()]);

    registered(&server, "a:c", "x:y").await;
    pushed(&server, "a:c").await;
    let run = id(&all.run("starting").await);
    call(&server, "PUT", &format!("/api/runs/{run}/abort"), String::new()).await;
    all.run("failed").await;
    call(&server, "DELETE", &format!("/api/runs/{run}"), String::new()).await;
    assert_eq!(id(&all.run("invalidated").await), run, "its combination is kept");
    let mut fresh = events(&server, &format!("run={run}")).await;
    assert_eq!(fresh.until("synced").await, ["invalidated", "synced"]);
    assert_eq!(events(&server, "").await.until("synced").await, ["done", "synced"]);
}

#[tokio::test]
async fn a_run_that_leaves_the_selection_is_told_a_last_time() {
    let server = working().await;
    registered(&server, "a:b", "c:d").await;
    let mut starting = events(&server, "status=starting").await;
    assert_eq!(starting.until("quiet").await, ["synced", "quiet"]);
    pushed(&server, "a:b").await;
    let run = id(&starting.run("starting").await);
    server.engine.begin(&run);
    starting.run("running").await;
    server.engine.end(&run, 0, "");
    let mut done = events(&server, &format!("run={run}")).await;
    done.run("done").await;
    registered(&server, "a:c", "c:d").await;
    pushed(&server, "a:c").await;
    loop {
        let (event, data) = starting.next().await.unwrap();
        assert!(event != "run" || id(&data) != run, "it is out of sight: {data}");
        if event == "run" {
            break;
        }
    }
}

#[tokio::test]
async fn a_wrong_wish_is_refused() {
    let server = fake::server(None).await;
    for (query, status) in [
        ("status=gone", 400),
        ("status=invalidated", 400),
        ("cause=d1", 400),
        ("cause=data:", 400),
        ("cause=data:x&run=y", 400),
        ("ended=-1", 400),
        ("cause=data:unknown", 404),
        ("cause=plan:unknown", 404),
    ] {
        assert_eq!(get(&server, &format!("/api/runs/events?{query}")).await.status(), status, "{query}");
    }
}

#[tokio::test]
async fn many_watchers_all_hear_of_a_change_and_one_that_does_not_read_hinders_nobody() {
    let server = working().await;
    let plan = registered(&server, "a:b", "c:d").await;
    let _idle = events(&server, "").await;
    let mut watchers = Vec::new();
    for _ in 0..100 {
        watchers.push(events(&server, &format!("plan={plan}")).await);
    }
    for watcher in &mut watchers {
        watcher.until("synced").await;
    }
    pushed(&server, "a:b").await;
    for watcher in &mut watchers {
        watcher.run("starting").await;
    }
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let server = fake::server(None).await;
    let mut all = events(&server, "").await;
    all.until("quiet").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (service, stopping) = (http::service(server.app.clone()), server.app.closing.clone());
    let port = tokio::spawn(http::serve::serve(listener, service, stopping, CancellationToken::new()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api/runs/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    let ((), end) = tokio::join!(
        async {
            tokio::task::yield_now().await;
            server.app.closing.cancel();
        },
        all.next()
    );
    assert_eq!(end, None);
    tokio::time::timeout(PATIENCE, port).await.expect("no watcher holds up the end").unwrap();
}

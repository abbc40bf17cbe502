//! Lists over HTTP: in pages, whole, and broken off; and what begins as asked.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use fake::Server;
use http_body_util::BodyExt;
use knit_api::id::DataId;
use knit_api::time::Timestamp;
use knit_server::engine::{Sealed, Volume};
use knit_server::http;
use knit_server::store::Upload;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

async fn response(server: &Server, path: &str) -> axum::http::Response<Body> {
    let request = Request::builder().uri(path).header(header::HOST, "localhost:30803").body(Body::empty()).unwrap();
    http::service(server.app.clone()).oneshot(request).await.unwrap()
}

async fn get(server: &Server, path: &str) -> (u16, HeaderMap, Value) {
    let (head, body) = response(server, path).await.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    assert!(text.ends_with(b"\n"));
    (head.status.as_u16(), head.headers, serde_json::from_slice(&text).unwrap())
}

async fn refused(server: &Server, path: &str) -> String {
    let (status, _, body) = get(server, path).await;
    assert_eq!(status, 400, "{path}: {body}");
    body["message"].as_str().unwrap().to_owned()
}

/// The ids in a list.
fn ids(list: &Value) -> Vec<String> {
    let id = |item: &Value| {
        let id = ["knitId", "runId", "planId", "value"].iter().find_map(|member| item[member].as_str());
        id.unwrap().to_owned()
    };
    list.as_array().unwrap().iter().map(id).collect()
}

/// The ids on all pages, and how many pages there were.
async fn paged(server: &Server, path: &str) -> (Vec<String>, usize) {
    let (mut found, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        let (status, headers, list) = get(server, &format!("{path}{after}")).await;
        assert_eq!(status, 200, "{path}{after}: {list}");
        found.extend(ids(&list));
        pages += 1;
        match headers.get("knit-next") {
            Some(cursor) => after = format!("&after={}", cursor.to_str().unwrap()),
            None => return (found, pages),
        }
    }
}

/// Uploads, two at each time.
async fn pushed(server: &Server, count: i64, tags: &[&str]) {
    for n in 0..count {
        let data = DataId::new(format!("d{n:05}"));
        let sealed = Sealed { digest: "0".to_owned(), entries: 0, bytes: 0, left_out: Vec::new() };
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let upload = Upload { volume: Volume::of(&data), data, sealed, tags };
        let time = Timestamp::from_millis(1_700_000_000_000 + n / 2);
        server.app.store.add_upload(&upload, time).await.unwrap();
    }
}

#[tokio::test]
async fn pages_lead_through_the_whole_list_in_both_directions() {
    let server = fake::server(None).await;
    pushed(&server, 25, &["a:b"]).await;
    for path in ["/api/data?tag=a:b", "/api/runs?status=done", "/api/plans?active=true", "/api/data?tag=no:such"] {
        let (_, headers, whole) = get(&server, path).await;
        assert!(!headers.contains_key("knit-next"));
        let mut whole = ids(&whole);
        assert_eq!(paged(&server, &format!("{path}&limit=10")).await, (whole.clone(), whole.len().div_ceil(10).max(1)));
        assert_eq!(paged(&server, &format!("{path}&limit={}", whole.len().max(1))).await, (whole.clone(), 1));
        let turned = ids(&get(&server, &format!("{path}&reverse")).await.2);
        assert_eq!(paged(&server, &format!("{path}&reverse&limit=7")).await.0, turned);
        whole.reverse();
        assert_eq!(turned, whole, "{path}");
    }
}

#[tokio::test]
async fn what_is_ready_is_told_from_what_is_not() {
    let server = fake::server(None).await;
    pushed(&server, 3, &[]).await;
    for (query, count) in [("", 3), ("?transient=false", 3), ("?transient=true", 0), ("?transient=", 3)] {
        assert_eq!(ids(&get(&server, &format!("/api/data{query}")).await.2).len(), count, "{query}");
    }
    assert!(refused(&server, "/api/data?transient=yes").await.contains("neither true nor false"));
}

#[tokio::test]
async fn wrong_limits_and_cursors_are_refused_with_a_sentence() {
    let server = fake::server(None).await;
    pushed(&server, 3, &[]).await;
    let cursor = |headers: &HeaderMap| headers["knit-next"].to_str().unwrap().to_owned();
    let of_data = cursor(&get(&server, "/api/data?limit=1").await.1);
    let of_runs = cursor(&get(&server, "/api/runs?limit=1").await.1);
    for list in ["data", "runs", "plans"] {
        for limit in ["0", "1001", "-1", "ten", "1e3"] {
            let message = refused(&server, &format!("/api/{list}?limit={limit}")).await;
            assert!(message.starts_with("parameter limit: "), "{message}");
        }
        assert!(refused(&server, &format!("/api/{list}?after={of_data}")).await.contains("needs parameter limit"));
        let other = if list == "runs" { &of_data } else { &of_runs };
        let long = "A".repeat(5000);
        for after in [other, "x", "%00", "ZCB4IDIgMw", "cGxhbnM", "%F0%9F%98%80", &long, &of_data[1..]] {
            let message = refused(&server, &format!("/api/{list}?limit=1&after={after}")).await;
            assert!(message.starts_with("parameter after: ") && message.contains("knit-next"), "{message}");
            assert!(message.len() < 400, "{message}");
        }
    }
    let (_, headers, second) = get(&server, &format!("/api/data?limit=1&after={of_data}")).await;
    assert_eq!(ids(&second), ["d00001"]);
    assert!(headers.contains_key("knit-next"));
}

#[tokio::test]
async fn a_whole_list_leaves_as_it_is_read_and_leaves_out_what_has_gone_meanwhile() {
    let server = fake::server(None).await;
    pushed(&server, 600, &["a:b"]).await;
    let whole = ids(&get(&server, "/api/data").await.2);
    assert_eq!(whole.len(), 600);

    let mut body = response(&server, "/api/data").await.into_body();
    let mut text = Vec::new();
    while text.len() < 100 {
        text.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let last = server.app.store.data(&"d00599".into()).await.unwrap().unwrap();
    server.app.store.remove_run(&last.upstream.run.id, knit_server::clock::now()).await.unwrap().unwrap();
    text.extend_from_slice(&body.collect().await.unwrap().to_bytes());
    assert_eq!(ids(&serde_json::from_slice(&text).unwrap()), whole[..599]);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_to_its_end_cuts_the_connection() {
    let server = fake::server(None).await;
    // Much more than what is on its way between two sockets.
    pushed(&server, 600, &[&format!("long:{}", "x".repeat(64 << 10))]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = http::service(server.app.clone());
    tokio::spawn(http::serve::serve(listener, service, server.app.stopping.clone(), CancellationToken::new()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api/data HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1 << 20];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));

    server.app.store.close().await;
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < 30 << 20, "it was not read ahead: {}", answer.len());
    assert!(!answer.ends_with(b"0\r\n\r\n"), "no orderly end");
    assert_eq!(response(&server, "/api/data").await.status(), 500, "what cannot even begin is an error");
}

#[tokio::test]
async fn candidates_are_offered_by_kind_and_wrong_questions_refused() {
    let server = fake::server(None).await;
    pushed(&server, 60, &["project:digits"]).await;
    let all = get(&server, "/api/candidates/data").await.2;
    assert_eq!(all.as_array().unwrap().len(), 50);
    assert_eq!(all[0], serde_json::json!({"value": "d00059", "hint": "project:digits"}));
    assert_eq!(ids(&get(&server, "/api/candidates/data?prefix=d0001&limit=200").await.2).len(), 10);
    assert_eq!(ids(&get(&server, "/api/candidates/runs?limit=200").await.2).len(), 60);
    let tags = get(&server, "/api/candidates/tags?prefix=project%3A").await.2;
    assert_eq!(tags, serde_json::json!([{"value": "project:digits", "hint": "60 Data"}]));
    assert_eq!(ids(&get(&server, "/api/candidates/plans").await.2).len(), 2);
    for nothing in ["plans?name=none", "plan-names", "plan-names?prefix=x", "data?prefix=%00"] {
        assert_eq!(get(&server, &format!("/api/candidates/{nothing}")).await.2, serde_json::json!([]), "{nothing}");
    }
    for wrong in ["data?limit=0", "data?limit=201", "tags?name=x", "plans?name=x&prefix=y"] {
        refused(&server, &format!("/api/candidates/{wrong}")).await;
    }
    refused(&server, &format!("/api/candidates/data?prefix={}", "x".repeat(129))).await;
    assert_eq!(get(&server, "/api/candidates/volumes").await.0, 404);
}

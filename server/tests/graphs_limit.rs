//! How many graphs may be on their way at one time: a program of its own, because the number is that of the process.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use axum::body::Body;
use axum::http::{Request, Response, header};
use fake::Server;
use http_body_util::BodyExt;
use knit_server::http;
use std::time::Duration;
use tower::ServiceExt;

async fn get(server: &Server, path: &str) -> Response<Body> {
    let request = Request::get(path).header(header::HOST, "localhost:30803").body(Body::empty()).unwrap();
    http::service(server.app.clone()).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn clients_that_do_not_read_their_graphs_are_bounded_and_hold_up_nobody_else() {
    let server = fake::server(None).await;
    let request = Request::post("/api/data?tag=a:b").header(header::HOST, "localhost:30803");
    let pushed = http::service(server.app.clone()).oneshot(request.body(Body::from("content")).unwrap()).await.unwrap();
    let data: serde_json::Value =
        serde_json::from_slice(&pushed.into_body().collect().await.unwrap().to_bytes()).unwrap();
    let path = format!("/api/data/{}/lineage?depth=all&view=full", data["knitId"].as_str().unwrap());
    let mut unread = Vec::new();
    let refused = loop {
        let mut answer = get(&server, &path).await;
        if answer.status() != 200 {
            break answer;
        }
        // Begun, but not gone on with.
        assert!(answer.body_mut().frame().await.unwrap().is_ok());
        unread.push(answer);
        assert!(unread.len() < 1000, "there is a limit");
    };
    assert_eq!((refused.status().as_u16(), unread.len()), (503, 64));
    let text = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("Try again"), "{text:?}");
    let list = tokio::time::timeout(Duration::from_secs(2), get(&server, "/api/data?limit=2")).await.unwrap();
    assert_eq!(list.status(), 200);
    unread.pop();
    assert_eq!(get(&server, &path).await.status(), 200);
}

//! How many may watch Runs at one time: a program of its own, because the number is that of the process.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use axum::body::Body;
use axum::http::{Request, header};
use knit_server::http;
use tower::ServiceExt;

#[tokio::test]
async fn there_is_room_for_so_many_watchers_and_again_when_one_has_gone() {
    let server = fake::server(None).await;
    let watch = async || {
        let request = Request::get("/api/runs/events").header(header::HOST, "localhost:30803");
        http::service(server.app.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    let mut watchers = Vec::new();
    let refused = loop {
        let answer = watch().await;
        if answer.status() != 200 {
            break answer;
        }
        watchers.push(answer);
        assert!(watchers.len() < 1000, "there is a limit");
    };
    assert_eq!((refused.status().as_u16(), watchers.len()), (503, 256));
    watchers.pop();
    assert_eq!(watch().await.status(), 200);
}

//! Every route of the API: what it answers when all is well, and each way in which it refuses.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use fake::Server;
use http_body_util::BodyExt;
use knit_api::id::RunId;
use knit_api::run::RunStatus;
use knit_server::content::ContentStore;
use knit_server::settings::Settings;
use knit_server::{clock, http, loops, registry};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// An answer, taken whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json", "{}", self.text);
        assert!(self.text.ends_with('\n') && !self.text.trim_end().contains('\n'), "one line: {:?}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    /// The message of an error.
    fn refused(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

async fn send(server: &Server, request: Request<Body>) -> Answer {
    let response = http::service(server.app.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(text.to_vec()).unwrap() }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:30803")
}

async fn call(server: &Server, method: &str, path: &str) -> Answer {
    send(server, request(method, path).body(Body::empty()).unwrap()).await
}

async fn call_with(server: &Server, method: &str, path: &str, body: impl Into<Body>) -> Answer {
    let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
    send(server, request.body(body.into()).unwrap()).await
}

async fn push(server: &Server, query: &str, body: &str) -> Answer {
    let request = request("POST", &format!("/api/data{query}")).header(header::CONTENT_TYPE, "application/tar+gzip");
    send(server, request.body(Body::from(body.to_owned())).unwrap()).await
}

async fn pushed(server: &Server, query: &str) -> String {
    let answer = push(server, query, "content").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["knitId"].as_str().unwrap().to_owned()
}

fn plan_of(input: &str) -> Value {
    json!({
        "image": "train:v1",
        "inputs": [{"path": "/in", "tags": [input]}],
        "outputs": [{"path": "/out", "tags": ["type:model"]}],
        "log": {"tags": ["type:log"]},
    })
}

async fn registered(server: &Server, spec: &Value) -> String {
    let answer = call_with(server, "POST", "/api/plans", spec.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["planId"].as_str().unwrap().to_owned()
}

/// Waits until the Run of this Plan has this status; returns its id.
async fn run_of(server: &Server, plan: &str, wanted: RunStatus) -> String {
    let mut changes = server.app.wake.subscribe();
    let found = async {
        loop {
            let runs = call(server, "GET", &format!("/api/runs?plan={plan}")).await.json();
            if runs[0]["status"] == wanted.as_str() {
                return runs[0]["runId"].as_str().unwrap().to_owned();
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("no Run became {wanted}"))
}

/// A server whose loops run.
async fn working() -> Server {
    let server = fake::server(None).await;
    let loops = loops::Loops::start(&server.app).await.unwrap();
    tokio::spawn(loops.ended(Duration::from_hours(1)));
    server
}

#[tokio::test]
async fn paths_are_the_same_with_and_without_a_trailing_slash_and_unknown_ones_are_404() {
    let server = fake::server(None).await;
    for path in ["/api/data", "/api/data/", "/api/plans/", "/api/runs/", "/api/runs?since=0001-01-01T00%3A00%3A00Z"] {
        assert_eq!(call(&server, "GET", path).await.status, 200, "{path}");
    }
    for path in ["/api", "/api/xyz", "/", "/api/data/x/y", "/api/runs/a%2Fb"] {
        assert_eq!(call(&server, "GET", path).await.status, 404, "{path}");
    }
    assert_eq!(call(&server, "GET", "/api/xyz").await.refused(404), "Not Found");
}

#[tokio::test]
async fn a_wrong_method_is_405_with_the_allowed_ones() {
    let server = fake::server(None).await;
    let answer = call(&server, "PATCH", "/api/data").await;
    assert_eq!(answer.refused(405), "Method Not Allowed");
    let allowed = answer.headers[header::ALLOW].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    let answer = call(&server, "HEAD", "/api/data").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (405, ""));
    assert_eq!(call(&server, "OPTIONS", "/api/runs").await.status, 204);
}

#[tokio::test]
async fn with_a_token_all_routes_but_the_health_ones_ask_for_it() {
    let server = fake::server(Some("secret")).await;
    for (method, path) in [
        ("GET", "/api/data"),
        ("POST", "/api/data"),
        ("GET", "/api/data/x"),
        ("PUT", "/api/data/x"),
        ("GET", "/api/plans"),
        ("POST", "/api/plans"),
        ("PUT", "/api/plans/x/active"),
        ("GET", "/api/runs"),
        ("DELETE", "/api/runs/x"),
        ("GET", "/api/runs/x/log"),
        ("GET", "/api/runs/events"),
        ("GET", "/api/server"),
        ("GET", "/api/server/status"),
        ("GET", "/api/cluster"),
        ("GET", "/nowhere"),
        ("HEAD", "/api/data"),
    ] {
        let answer = call(&server, method, path).await;
        assert_eq!(answer.status, 401, "{method} {path}");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
    }
    for (given, status) in [("Bearer secret", 200), ("Bearer other", 401), ("Basic c2VjcmV0", 401)] {
        let request = request("GET", "/api/data").header(header::AUTHORIZATION, given);
        assert_eq!(send(&server, request.body(Body::empty()).unwrap()).await.status, status, "{given}");
    }
    assert_eq!(call(&server, "GET", "/healthz").await.status, 200);
    assert_eq!(call(&server, "GET", "/readyz").await.status, 200);
}

#[tokio::test]
async fn without_a_token_web_pages_and_other_hosts_are_refused() {
    let server = fake::server(None).await;
    let asked = |host: &'static str, origin: Option<&'static str>| {
        let mut request = Request::builder().uri("/api/data").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        send(&server, request.body(Body::empty()).unwrap())
    };
    assert_eq!(asked("127.0.0.1:30803", None).await.status, 200);
    assert_eq!(asked("localhost:30803", Some("http://localhost:30803")).await.status, 200);
    assert_eq!(asked("rebound.example:30803", None).await.status, 403);
    assert_eq!(asked("localhost:30803", Some("http://evil.example")).await.status, 403);
    assert_eq!(asked("localhost:30803", Some("null")).await.status, 403);
}

#[tokio::test]
async fn a_push_is_registered_with_its_tags_and_found_by_them() {
    let server = fake::server(None).await;
    let data = push(&server, "?tag=project:digits&tag=+mode+:training&tag=project:digits", "content").await.json();
    let id = data["knitId"].as_str().unwrap();
    let tags: Vec<&str> = data["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    assert_eq!(tags[0], format!("knit#id:{id}"));
    assert!(tags[1].starts_with("knit#timestamp:"));
    assert_eq!(tags[2..], ["mode:training", "project:digits"]);
    assert_eq!(data["upstream"]["run"]["status"], "done");
    assert_eq!(data["upstream"]["run"]["plan"]["name"], "knit#uploaded");
    assert_eq!(data["digest"], blake3::hash(b"content").to_hex().to_string());

    let found = |query: String| call_ids(&server, query);
    assert_eq!(found("?tag=project:digits&tag=mode:training".to_owned()).await, [id]);
    assert_eq!(found(format!("?tag=knit%23id:{id}")).await, [id]);
    assert_eq!(found("?since=2020-01-01T00:00:00Z".to_owned()).await, [id]);
    assert!(found("?since=2020-01-01T00:00:00Z&duration=24h0m0s".to_owned()).await.is_empty());
    assert!(found("?tag=project:other".to_owned()).await.is_empty());
    assert!(found("?tag=knit%23transient:failed".to_owned()).await.is_empty());
    assert!(found("?tag=knit%23unknown:x".to_owned()).await.is_empty());
}

async fn call_ids(server: &Server, query: String) -> Vec<String> {
    let answer = call(server, "GET", &format!("/api/data{query}")).await;
    let list = answer.json();
    list.as_array().unwrap().iter().map(|data| data["knitId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_wrong_search_for_data_is_400() {
    let server = fake::server(None).await;
    for query in
        ["?tag=x", "?since=now", "?duration=1h", "?since=2024-01-01T00:00:00Z&duration=1", "?tag=knit%23timestamp:x"]
    {
        call(&server, "GET", &format!("/api/data{query}")).await.refused(400);
    }
}

#[tokio::test]
async fn a_push_with_a_wrong_tag_is_refused_before_its_bytes_are_looked_at() {
    let server = fake::server(None).await;
    for tag in ["plain", "knit%23id:x", &format!("{}:v", "k".repeat(1025))] {
        push(&server, &format!("?tag={tag}"), "BAD").await.refused(400);
    }
    assert!(server.engine.state().volumes.is_empty());
}

#[tokio::test]
async fn a_push_that_the_engine_refuses_leaves_nothing() {
    let server = fake::server(None).await;
    assert!(push(&server, "", "BAD").await.refused(400).contains("the archive is damaged"));
    push(&server, "", "FULL").await.refused(507);
    server.engine.state().failing.insert("receive", 1);
    let message = push(&server, "", "content").await.refused(500);
    assert!(!message.contains("the test says so"), "causes stay in the log: {message}");
    assert_eq!(call(&server, "GET", "/api/data").await.text, "[]\n");
}

#[tokio::test]
async fn a_push_whose_checksum_differs_is_refused_and_removed_even_if_the_archive_ended_before() {
    let server = fake::server(None).await;
    for content in ["content", "content END"] {
        let frames = [
            Ok::<_, std::io::Error>(http_body::Frame::data(axum::body::Bytes::from(content))),
            Ok(http_body::Frame::trailers(HeaderMap::from_iter([(
                header::HeaderName::from_static("x-checksum-md5"),
                header::HeaderValue::from_static("00000000000000000000000000000000"),
            )]))),
        ];
        let body = Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
        let answer = send(&server, request("POST", "/api/data").body(body).unwrap()).await;
        assert!(answer.refused(400).contains("x-checksum-md5"), "{}", answer.text);
        assert!(server.engine.state().volumes.is_empty(), "{content}");
    }
}

#[tokio::test]
async fn a_pull_has_the_form_that_was_asked_for() {
    let server = fake::server(None).await;
    let id = pushed(&server, "").await;
    for (accept, form) in [
        (None, "TarGz"),
        (Some("application/vnd.knit.bundle"), "Bundle"),
        (Some("application/vnd.knit.bundle+zstd"), "BundleZstd"),
    ] {
        let mut request = request("GET", &format!("/api/data/{id}"));
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        let answer = send(&server, request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.text), (200, format!("{form}:content")));
        assert_eq!(answer.headers[header::CONTENT_TYPE], accept.unwrap_or("application/tar+gzip"));
        assert!(!answer.headers.contains_key(header::CONTENT_ENCODING));
    }
    call(&server, "GET", "/api/data/unknown").await.refused(404);
}

#[tokio::test]
async fn data_in_the_making_cannot_be_pulled_and_failed_data_can() {
    let server = working().await;
    pushed(&server, "?tag=a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Starting).await;
    let output = call(&server, "GET", &format!("/api/runs/{run}")).await.json()["outputs"][0]["knitId"].clone();
    let path = format!("/api/data/{}", output.as_str().unwrap());
    assert!(call(&server, "GET", &path).await.refused(409).contains("starting"));
    server.engine.end(&RunId::new(run), 3, "");
    run_of(&server, &plan, RunStatus::Failed).await;
    assert_eq!(call(&server, "GET", &path).await.status, 200);
}

#[tokio::test]
async fn tags_change_and_what_is_wrong_changes_nothing() {
    let server = fake::server(None).await;
    let id = pushed(&server, "?tag=a:1&tag=a:2&tag=b:1").await;
    let path = format!("/api/data/{id}");
    let change = r#"{"add":[{"key":"name","value":"d:d"},"x:y\"z"],"remove":["b:1"],"remove_key":["a"]}"#;
    let data = call_with(&server, "PUT", &path, change).await.json();
    assert_eq!(data["tags"].as_array().unwrap()[2..], [json!("name:d:d"), json!("x:y\"z")]);
    assert_eq!(call_with(&server, "PUT", &path, "{}").await.status, 200);
    assert_eq!(call_with(&server, "PUT", &path, r#"{"add":[],"remove":null}"#).await.status, 200);

    let long = json!({"add": [{"key": "k".repeat(1025), "value": ""}]}).to_string();
    let reserved = [r#"{"add":["knit#id:x"]}"#, r#"{"remove":["knit#id:x"]}"#, r#"{"remove_key":["knit#x"]}"#];
    for wrong in reserved.into_iter().chain(["", "{", r#"{"add":["x"]}"#, "[]", &long]) {
        call_with(&server, "PUT", &path, wrong.to_owned()).await.refused(400);
    }
    for body in [r#"{"add":["a:b"]}"#, r#"{"remove":["a:b"]}"#, "{}"] {
        call_with(&server, "PUT", "/api/data/unknown", body).await.refused(404);
    }
    call_with(&server, "PUT", &path, " ".repeat(5 << 20)).await.refused(413);
}

#[tokio::test]
async fn the_longest_value_of_a_tag_fits() {
    let server = fake::server(None).await;
    let id = pushed(&server, "").await;
    let change = |length: usize| json!({"add": [{"key": "k", "value": "v".repeat(length)}]}).to_string();
    let path = format!("/api/data/{id}");
    assert_eq!(call_with(&server, "PUT", &path, change(1_048_576)).await.status, 200);
    call_with(&server, "PUT", &path, change(1_048_577)).await.refused(400);
}

#[tokio::test]
async fn a_plan_is_registered_found_shown_and_switched() {
    let server = fake::server(None).await;
    let id = registered(&server, &plan_of("a:b")).await;
    let path = format!("/api/plans/{id}");
    let plan = call(&server, "GET", &path).await.json();
    assert_eq!((&plan["image"], &plan["active"]), (&json!("train:v1"), &json!(true)));
    assert_eq!(plan["resources"], json!({"cpu": "1", "memory": "1Gi"}));

    let found = async |query: &str| {
        let list = call(&server, "GET", &format!("/api/plans{query}")).await.json();
        list.as_array().unwrap().iter().any(|plan| plan["planId"] == id.as_str())
    };
    for query in ["", "?active=true", "?image=train%3A", "?image=train:v1", "?in_tag=a:b", "?out_tag=type:log"] {
        assert!(found(query).await, "{query}");
    }
    for query in ["?active=false", "?image=train:v2", "?in_tag=a:b&in_tag=c:d", "?out_tag=knit%23id:x"] {
        assert!(!found(query).await, "{query}");
    }
    for query in ["?active=yes", "?image=a/", "?in_tag=x"] {
        call(&server, "GET", &format!("/api/plans{query}")).await.refused(400);
    }
    for (method, active) in [("DELETE", false), ("DELETE", false), ("PUT", true), ("PUT", true)] {
        assert_eq!(call(&server, method, &format!("{path}/active")).await.json()["active"], active);
    }
    call(&server, "PUT", "/api/plans/unknown/active").await.refused(404);
    call(&server, "GET", "/api/plans/unknown").await.refused(404);
}

#[tokio::test]
async fn the_resources_annotations_and_service_account_of_a_plan_change() {
    let server = fake::server(None).await;
    let path = format!("/api/plans/{}", registered(&server, &plan_of("a:b")).await);
    let change = async |part: &str, body: &str| {
        let answer = call_with(&server, "PUT", &format!("{path}/{part}"), body.to_owned()).await;
        assert_eq!(answer.status, 200, "{part} {body}: {}", answer.text);
        answer.json()
    };
    let plan = change("resources", r#"{"Set":{"cpu":0.5,"x.y/gpu":2,"both":1},"UNSET":["both","none"]}"#).await;
    assert_eq!(plan["resources"], json!({"cpu": "500m", "memory": "1Gi", "x.y/gpu": "2"}));
    let plan = change("resources", r#"{"unset":["cpu","memory","x.y/gpu"]}"#).await;
    assert!(plan.get("resources").is_none());
    let plan = change("annotations/", r#"{"add":[" b = 2 ","a=1","a=1","a=2"],"remove":null}"#).await;
    assert_eq!(plan["annotations"], json!(["a=1", "a=2", "b=2"]));
    let plan = change("annotations", r#"{"remove_key":["a"],"remove":["b=2","x=y"],"add":["a=3","b=2"]}"#).await;
    assert_eq!(plan["annotations"], json!(["a=3", "b=2"]));
    let plan = change("serviceaccount", r#"{"Service_Account":"trainer"}"#).await;
    assert_eq!(plan["service_account"], "trainer");
    assert!(change("serviceaccount", "{}").await.get("service_account").is_none());
    for body in ["{}", r#"{"more":1}"#] {
        assert_eq!(change("annotations", body).await["annotations"], json!(["a=3", "b=2"]));
        change("resources", body).await;
    }
    change("serviceaccount", r#"{"service_account":"trainer"}"#).await;
    for _ in 0..2 {
        let plan = call(&server, "DELETE", &format!("{path}/serviceaccount")).await.json();
        assert!(plan.get("service_account").is_none());
    }

    let list = call(&server, "GET", "/api/plans").await.json();
    let built_in = list.as_array().unwrap().iter().find(|plan| plan["name"] == "knit#imported").unwrap();
    let path = format!("/api/plans/{}", built_in["planId"].as_str().unwrap());
    for (part, body) in [
        ("resources", r#"{"set":{"cpu":"1"}}"#),
        ("annotations", r#"{"add":["a=b"]}"#),
        ("serviceaccount", r#"{"service_account":"a"}"#),
    ] {
        assert_eq!(call_with(&server, "PUT", &format!("{path}/{part}"), body).await.status, 200, "{part}");
    }
    let plan = call(&server, "GET", &path).await.json();
    assert_eq!((&plan["annotations"], &plan["service_account"]), (&json!(["a=b"]), &json!("a")));
}

#[tokio::test]
async fn a_wrong_change_of_a_plan_is_refused_and_changes_nothing() {
    let server = fake::server(None).await;
    let path = format!("/api/plans/{}", registered(&server, &plan_of("a:b")).await);
    let before = call(&server, "GET", &path).await.text;
    let long = "a".repeat(64);
    for (part, bodies) in [
        (
            "resources",
            &[
                r#"{"set":{"cpu":"lots"}}"#,
                r#"{"set":{"cpu":0}}"#,
                r#"{"set":{"memory":null}}"#,
                r#"{"set":{"x.y/gpu":-1}}"#,
                r#"{"set":{"a b":1}}"#,
                r#"{"set":[]}"#,
                r#"{"unset":"cpu"}"#,
                r#"{"set":{"cpu":"2"},"unset":[1]}"#,
            ][..],
        ),
        (
            "annotations",
            &[r#"{"add":["plain"]}"#, r#"{"add":"a=b"}"#, r#"{"add":["a\u0000=b"]}"#, r#"{"remove":["x"]}"#],
        ),
        (
            "serviceaccount",
            &[
                r#"{"service_account":"Not_A_Name"}"#,
                r#"{"service_account":1}"#,
                &format!(r#"{{"service_account":"{long}"}}"#),
            ],
        ),
    ] {
        let path = format!("{path}/{part}");
        for body in bodies.iter().copied().chain(["{", "[]", "null", " "]) {
            let message = call_with(&server, "PUT", &path, body.to_owned()).await.refused(400);
            assert!(message.len() > 10, "{part} {body}: {message}");
        }
        for kind in ["text/plain", "", "application/x-www-form-urlencoded"] {
            let wrong = request("PUT", &path).header(header::CONTENT_TYPE, kind);
            assert!(send(&server, wrong.body(Body::from("{}")).unwrap()).await.refused(400).contains("content type"));
            let nothing = request("PUT", &path).header(header::CONTENT_TYPE, kind);
            assert_eq!(send(&server, nothing.body(Body::empty()).unwrap()).await.status, 200, "nothing is no change");
        }
        let unknown = format!("/api/plans/unknown/{part}");
        call_with(&server, "PUT", &unknown, "{}").await.refused(404);
        call(&server, "PUT", &unknown).await.refused(404);
    }
    call(&server, "DELETE", "/api/plans/unknown/serviceaccount").await.refused(404);
    call(&server, "DELETE", &format!("{path}/resources")).await.refused(405);
    assert_eq!(call(&server, "GET", &path).await.text, before);
}

#[tokio::test]
async fn built_in_plans_are_listed_and_cannot_be_switched() {
    let server = fake::server(None).await;
    let list = call(&server, "GET", "/api/plans").await.json();
    let built_in = list.as_array().unwrap().iter().find(|plan| plan["name"] == "knit#uploaded").unwrap();
    let path = format!("/api/plans/{}/active", built_in["planId"].as_str().unwrap());
    call(&server, "DELETE", &path).await.refused(404);
}

#[tokio::test]
async fn an_equal_plan_is_409_with_the_plan_that_is_there() {
    let server = fake::server(None).await;
    let id = registered(&server, &plan_of("a:b")).await;
    let mut same = plan_of("a:b");
    same["active"] = json!(false);
    let answer = call_with(&server, "POST", "/api/plans/", same.to_string()).await;
    assert!(answer.refused(409).contains(&id));
    assert_eq!(answer.json()["planId"], id.as_str());
}

#[tokio::test]
async fn a_plan_that_would_feed_itself_is_409_with_the_plans_on_the_way() {
    let server = fake::server(None).await;
    let first = registered(&server, &plan_of("a:b")).await;
    let back = json!({
        "image": "back:v1",
        "inputs": [{"path": "/in", "tags": ["type:model"]}],
        "outputs": [{"path": "/out", "tags": ["a:b"]}],
    });
    let answer = call_with(&server, "POST", "/api/plans", back.to_string()).await;
    assert!(answer.refused(409).contains(&first), "{}", answer.text);
}

#[tokio::test]
async fn a_wrong_plan_is_400_and_the_content_type_may_have_parameters() {
    let server = fake::server(None).await;
    let no_inputs = json!({"image": "train:v1", "inputs": [], "outputs": []}).to_string();
    let overlap = json!({"image": "train:v1", "inputs": [{"path": "/a", "tags": ["a:b"]}],
        "outputs": [{"path": "/a/b", "tags": []}]});
    for wrong in ["", "{", "null", &no_inputs, &overlap.to_string(), r#"{"image":"UPPER"}"#] {
        call_with(&server, "POST", "/api/plans", wrong.to_owned()).await.refused(400);
    }
    for (kind, status) in [("application/json; charset=utf-8", 200), ("text/plain", 400), ("", 400)] {
        let request = request("POST", "/api/plans").header(header::CONTENT_TYPE, kind);
        let answer = send(&server, request.body(Body::from(plan_of("a:b").to_string())).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{kind}");
    }
}

#[tokio::test]
async fn runs_are_found_and_a_wrong_search_is_400() {
    let server = working().await;
    let data = pushed(&server, "?tag=a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Starting).await;
    let found = async |query: &str| {
        let list = call(&server, "GET", &format!("/api/runs?{query}")).await.json();
        list.as_array().unwrap().iter().any(|found| found["runId"] == run.as_str())
    };
    for query in [
        "since=0001-01-01T00%3A00%3A00Z".to_owned(),
        format!("plan=other,{plan}"),
        format!("knitIdInput={data}&plan="),
        "status=starting,done".to_owned(),
    ] {
        assert!(found(&query).await, "{query}");
    }
    for query in ["plan=other", "knitIdOutput=x", "status=done&status=starting"] {
        assert!(!found(query).await, "{query}");
    }
    for query in ["status=gone", "status=done,", "status=invalidated", "duration=1h", "since=x"] {
        call(&server, "GET", &format!("/api/runs?{query}")).await.refused(400);
    }
    call(&server, "GET", "/api/runs/unknown").await.refused(404);
}

#[tokio::test]
async fn a_run_is_aborted_retried_and_removed_as_its_status_allows() {
    let server = working().await;
    pushed(&server, "?tag=a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Starting).await;
    let path = format!("/api/runs/{run}");
    assert!(call(&server, "PUT", &format!("{path}/retry")).await.refused(409).contains("starting"));
    call(&server, "DELETE", &path).await.refused(409);

    let aborted = call(&server, "PUT", &format!("{path}/abort")).await;
    assert_eq!(aborted.status, 200);
    assert_eq!(aborted.json()["exit"], json!({"code": 253, "message": "aborted by user"}));
    run_of(&server, &plan, RunStatus::Failed).await;
    call(&server, "PUT", &format!("{path}/abort")).await.refused(409);
    call(&server, "PUT", &format!("{path}/tearoff")).await.refused(409);

    let retried = call(&server, "PUT", &format!("{path}/retry")).await;
    assert_eq!((retried.status.as_u16(), retried.text.as_str()), (200, ""));
    assert!(!retried.headers.contains_key(header::CONTENT_TYPE));
    run_of(&server, &plan, RunStatus::Starting).await;

    assert_eq!(call(&server, "PUT", &format!("{path}/tearoff")).await.status, 200);
    run_of(&server, &plan, RunStatus::Done).await;
    let removed = call(&server, "DELETE", &path).await;
    assert_eq!((removed.status.as_u16(), removed.text.as_str()), (204, ""));
    assert_eq!(removed.headers[header::CONTENT_TYPE], "application/json");
    call(&server, "DELETE", &path).await.refused(404);
    for (method, what) in [("PUT", "/abort"), ("PUT", "/tearoff"), ("PUT", "/retry"), ("DELETE", "")] {
        call(&server, method, &format!("/api/runs/unknown{what}")).await.refused(404);
    }
}

#[tokio::test]
async fn an_upload_cannot_be_retried_and_used_data_cannot_be_removed() {
    let server = working().await;
    let data = pushed(&server, "?tag=a:b").await;
    let found = call(&server, "GET", &format!("/api/data?tag=knit%23id:{data}")).await.json();
    let upload = found[0]["upstream"]["run"]["runId"].as_str().unwrap().to_owned();
    call(&server, "PUT", &format!("/api/runs/{upload}/retry")).await.refused(409);
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Starting).await;
    assert!(call(&server, "DELETE", &format!("/api/runs/{upload}")).await.refused(409).contains(&run));
}

#[tokio::test]
async fn a_log_is_503_before_the_start_followed_while_it_runs_and_whole_afterwards() {
    let server = working().await;
    server.engine.state().never_fits = Some("too large".to_owned());
    pushed(&server, "?tag=a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Ready).await;
    let path = format!("/api/runs/{run}/log");
    for query in ["", "?follow"] {
        call(&server, "GET", &format!("{path}{query}")).await.refused(503);
    }
    server.engine.state().never_fits = None;
    server.app.store.hasten(&RunId::new(&run), clock::now()).await.unwrap();
    server.app.wake.run.notify_one();
    run_of(&server, &plan, RunStatus::Starting).await;
    for (query, text) in [("", "log so far\n"), ("?follow", "followed log\n"), ("?follow=false", "followed log\n")] {
        let answer = call(&server, "GET", &format!("{path}{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, text), "{query}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/octet-stream");
    }
    server.engine.end(&RunId::new(&run), 0, "");
    run_of(&server, &plan, RunStatus::Done).await;
    assert_eq!(call(&server, "GET", &format!("{path}?follow")).await.text, "log so far\n");
    call(&server, "GET", "/api/runs/unknown/log").await.refused(404);
}

#[tokio::test]
async fn a_plan_without_a_log_has_none_to_read() {
    let server = working().await;
    pushed(&server, "?tag=a:b").await;
    let mut spec = plan_of("a:b");
    spec["log"] = Value::Null;
    let plan = registered(&server, &spec).await;
    let run = run_of(&server, &plan, RunStatus::Starting).await;
    call(&server, "GET", &format!("/api/runs/{run}/log")).await.refused(404);
}

#[tokio::test]
async fn waiting_for_a_run_answers_when_it_is_over_or_when_the_time_is() {
    let server = working().await;
    pushed(&server, "?tag=a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Starting).await;
    let path = format!("/api/runs/{run}/wait");
    assert_eq!(call(&server, "GET", &format!("{path}?timeout=0")).await.json()["status"], "starting");
    let quiet = call(&server, "GET", &format!("/api/plans/{plan}/wait?timeout=0")).await;
    assert_eq!(quiet.json(), json!({"quiet": false}));
    let waiting = format!("{path}?timeout=300");
    let (over, ()) = tokio::join!(call(&server, "GET", &waiting), async {
        server.engine.end(&RunId::new(&run), 3, "exploded");
    });
    assert_eq!(over.json()["status"], "failed");
    assert_eq!(over.json()["exit"], json!({"code": 3, "message": "exploded"}));
    let quiet = call(&server, "GET", &format!("/api/plans/{plan}/wait?timeout=300")).await;
    assert_eq!(quiet.json(), json!({"quiet": true}));
    call(&server, "GET", &format!("{path}?timeout=soon")).await.refused(400);
    call(&server, "GET", "/api/runs/unknown/wait").await.refused(404);
    call(&server, "GET", "/api/plans/unknown/wait").await.refused(404);
}

#[tokio::test]
async fn waiting_for_the_start_of_a_run_answers_when_its_work_begins_or_never_will() {
    let server = working().await;
    pushed(&server, "?tag=a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Starting).await;
    let path = format!("/api/runs/{run}/wait?until=started");
    assert_eq!(call(&server, "GET", &format!("{path}&timeout=0")).await.json()["status"], "starting");
    let waiting = format!("{path}&timeout=300");
    let (begun, ()) = tokio::join!(call(&server, "GET", &waiting), async { server.engine.begin(&RunId::new(&run)) });
    assert_eq!(begun.json()["status"], "running");
    server.engine.end(&RunId::new(&run), 0, "");
    run_of(&server, &plan, RunStatus::Done).await;
    assert_eq!(call(&server, "GET", &waiting).await.json()["status"], "done");
    call(&server, "GET", &format!("/api/runs/{run}/wait?until=midnight")).await.refused(400);

    server.engine.state().never_fits = Some("needs cpu 64".to_owned());
    pushed(&server, "?tag=a:c").await;
    let plan = registered(&server, &plan_of("a:c")).await;
    let run = run_of(&server, &plan, RunStatus::Ready).await;
    let path = format!("/api/runs/{run}/wait?timeout=300&until=started");
    let abort = format!("/api/runs/{run}/abort");
    let (over, _) = tokio::join!(call(&server, "GET", &path), call(&server, "PUT", &abort));
    let over = over.json();
    assert!(matches!(over["status"].as_str(), Some("aborting" | "failed")), "{over}");
}

#[tokio::test]
async fn a_wait_tells_a_reason_that_the_client_does_not_know_yet() {
    let server = working().await;
    server.engine.state().never_fits = Some("needs cpu 64".to_owned());
    pushed(&server, "?tag=a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Ready).await;
    let told = call(&server, "GET", &format!("/api/runs/{run}/wait?timeout=300&reason=")).await.json();
    assert_eq!((&told["status"], &told["reason"]), (&json!("ready"), &json!("needs cpu 64")));
    let known = format!("/api/runs/{run}/wait?timeout=300&reason=needs+cpu+64");
    let abort = format!("/api/runs/{run}/abort");
    let (told, _) = tokio::join!(call(&server, "GET", &known), call(&server, "PUT", &abort));
    assert_eq!(told.json()["reason"], json!(null));
}

#[tokio::test]
async fn a_wait_ends_when_the_server_stops() {
    let server = working().await;
    pushed(&server, "?tag=a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, RunStatus::Starting).await;
    let waiting = format!("/api/runs/{run}/wait?timeout=300");
    let (answer, ()) = tokio::join!(call(&server, "GET", &waiting), async { server.app.closing.cancel() });
    assert_eq!(answer.json()["status"], "starting");
}

#[tokio::test]
async fn the_server_says_what_it_is_and_how_it_does() {
    let server = fake::server(None).await;
    let info = call(&server, "GET", "/api/server").await.json();
    assert_eq!(
        info["capabilities"],
        json!([
            "bundle",
            "push-tags",
            "wait",
            "wait-until",
            "content",
            "pages",
            "candidates",
            "events",
            "explain",
            "impact",
            "remove-data",
            "lineage",
            "cluster"
        ])
    );
    assert_eq!(info["registry"], json!({"host": "localhost:30503", "insecure": true}));
    pushed(&server, "").await;
    let status = call(&server, "GET", "/api/server/status").await.json();
    assert_eq!(status["runs"], json!({"done": 1}));
    assert_eq!((&status["auth"], &status["workerNetwork"]), (&json!(false), &json!("none")));
    assert!(status["disk"]["free"].as_u64().unwrap() <= status["disk"]["total"].as_u64().unwrap());
    assert!(status["engine"]["detail"].as_str().unwrap().starts_with("fake (in memory)"));
}

#[tokio::test]
async fn what_there_is_to_execute_runs_on_is_told_to_users() {
    let server = fake::server(None).await;
    let cluster = call(&server, "GET", "/api/cluster").await.json();
    assert_eq!(
        cluster["nodes"],
        json!([{
            "name": "memory", "labels": ["disk=fast"],
            "taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}],
            "capacity": {"cpu": "2", "memory": "1Gi"}, "inUse": {"cpu": "0", "memory": "0"},
        }])
    );
    assert_eq!(cluster["registry"], json!({"host": "localhost:30503", "insecure": true}));
    assert_eq!((&cluster["engine"], &cluster["workerNetwork"]), (&json!("fake"), &json!("none")));
    assert_eq!((&cluster["defaultResources"], &cluster["limits"]["logBytes"]), (&json!({"cpu": "1"}), &json!(1 << 20)));
    assert!(cluster["limits"]["uploadBytes"].as_u64().is_some(), "{cluster}");
    let told: knit_api::cluster::Cluster = serde_json::from_value(cluster.clone()).unwrap();
    assert_eq!(serde_json::to_value(&told).unwrap(), cluster);
    server.engine.state().failing.insert("nodes", 1);
    let refused = call(&server, "GET", "/api/cluster").await;
    assert_eq!(refused.status, 500, "{}", refused.text);
}

fn content(server: &Server) -> Arc<ContentStore> {
    server.app.content.clone().expect("every server of these tests has images")
}

/// A server whose registry listens.
async fn with_registry() -> (Server, tokio::task::JoinHandle<()>) {
    let mut server = fake::server(None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings { registry_listen: listener.local_addr().unwrap(), ..(*server.app.settings).clone() };
    server.app.settings = Arc::new(settings);
    let router = registry::router(content(&server), registry::Auth::new(None), Arc::clone(&server.app.metrics));
    let (stopping, cut) = (server.app.stopping.clone(), CancellationToken::new());
    (server, tokio::spawn(http::serve::serve(listener, router, stopping, cut)))
}

#[tokio::test]
async fn each_part_of_the_status_says_for_itself_whether_it_works_and_why_not() {
    let (server, port) = with_registry().await;
    let parts = async || {
        let status = call(&server, "GET", "/api/server/status").await;
        assert_eq!(status.status, 200, "{}", status.text);
        let status = status.json();
        ["database", "engine", "registry"]
            .map(|part| (status[part]["ok"].as_bool().unwrap(), status[part]["detail"].as_str().unwrap().to_owned()))
    };
    let well = parts().await;
    assert!(well.iter().all(|(ok, _)| *ok), "{well:?}");

    server.engine.state().failing.insert("check", 1);
    let [database, engine, registry] = parts().await;
    assert!(database.0 && !engine.0 && registry.0);
    assert!(engine.1.contains("the test says so") && engine.1.contains("fake (in memory)"), "{}", engine.1);

    let blobs = content(&server).root().join("blobs");
    std::fs::rename(&blobs, blobs.with_extension("away")).unwrap();
    let [_, _, registry] = parts().await;
    assert!(!registry.0 && registry.1.contains("blobs"), "{}", registry.1);
    std::fs::rename(blobs.with_extension("away"), &blobs).unwrap();

    port.abort();
    let _ = port.await;
    let [_, _, registry] = parts().await;
    assert!(!registry.0 && registry.1.contains("refused"), "{}", registry.1);

    server.app.store.close().await;
    let [database, engine, _] = parts().await;
    assert!(!database.0 && engine.0);
    assert!(database.1.contains("SQLite"), "{}", database.1);
}

/// A server on a real socket.
async fn listening(server: &Server) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = http::service(server.app.clone());
    tokio::spawn(http::serve::serve(listener, service, server.app.stopping.clone(), CancellationToken::new()));
    TcpStream::connect(address).await.unwrap()
}

/// Sends raw bytes and reads until the server closes.
async fn raw(server: &Server, text: &str) -> String {
    let mut stream = listening(server).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

/// What the original client sends: chunked, with a trailer that nobody announced.
fn original_push(sum: &str) -> String {
    format!(
        "POST /api/data HTTP/1.1\r\nHost: localhost:1\r\nUser-Agent: Go-http-client/1.1\r\n\
         Transfer-Encoding: chunked\r\nContent-Type: application/tar+gzip\r\nAccept-Encoding: gzip\r\n\
         Connection: close\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum-Md5: {sum}\r\n\r\n"
    )
}

#[tokio::test]
async fn the_original_client_pushes_with_an_unannounced_trailer() {
    let server = fake::server(None).await;
    let answer = raw(&server, &original_push("5d41402abc4b2a76b9719d911017c592")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n") && answer.contains("\"knitId\""), "{answer}");
    let answer = raw(&server, &original_push("00000000000000000000000000000000")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.engine.state().volumes.len(), 1);
}

#[tokio::test]
async fn a_push_that_breaks_off_leaves_nothing() {
    let server = fake::server(None).await;
    let mut stream = listening(&server).await;
    let head = "POST /api/data HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    assert!(server.engine.state().volumes.is_empty());
    assert_eq!(call(&server, "GET", "/api/data").await.text, "[]\n");
}

#[tokio::test]
async fn a_pull_carries_its_checksum_when_trailers_are_wanted() {
    let server = fake::server(None).await;
    let id = pushed(&server, "").await;
    let get = |te: &str| format!("GET /api/data/{id} HTTP/1.1\r\nHost: localhost\r\n{te}Connection: close\r\n\r\n");
    let answer = raw(&server, &get("TE: trailers\r\n")).await;
    let sum = hex::encode(<md5::Md5 as md5::Digest>::digest(b"TarGz:content"));
    assert!(answer.contains("trailer: x-checksum-md5\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("0\r\nx-checksum-md5: {sum}\r\n\r\n")), "{answer}");
    let answer = raw(&server, &get("")).await;
    assert!(!answer.contains("x-checksum-md5") && answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_data_is_verified_line_by_line() {
    let server = fake::server(None).await;
    let id = pushed(&server, "").await;
    let answer = call(&server, "POST", &format!("/api/data/{id}/verify")).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/x-ndjson");
    assert_eq!(answer.text, "{\"done\":{\"entries\":1,\"bytes\":7,\"differences\":0}}\n");
    call(&server, "POST", "/api/data/none/verify").await.refused(404);
    server.engine.state().failing.insert("verify", 1);
    call(&server, "POST", &format!("/api/data/{id}/verify")).await.refused(500);
}

#[tokio::test]
async fn a_list_tells_its_digest_and_its_length() {
    let server = fake::server(None).await;
    let id = pushed(&server, "").await;
    let answer = call(&server, "GET", &format!("/api/data/{id}/manifest")).await;
    let digest = answer.headers["x-knit-digest"].to_str().unwrap();
    assert_eq!(answer.text, format!("manifest {digest}"));
    assert_eq!(answer.headers[header::CONTENT_LENGTH], answer.text.len().to_string());
    call(&server, "GET", &format!("/api/data/{id}/manifest?under=x")).await.refused(404);
    server.engine.state().failing.insert("manifest", 1);
    call(&server, "GET", &format!("/api/data/{id}/manifest")).await.refused(500);
}

#[tokio::test]
async fn a_data_without_a_list_says_so() {
    let server = working().await;
    server.engine.state().ends_at_once = Some(0);
    server.engine.state().refused = Some("it is too deep".to_owned());
    let plan = registered(&server, &plan_of("a:b")).await;
    pushed(&server, "?tag=a:b").await;
    let run = run_of(&server, &plan, RunStatus::Failed).await;
    let run = call(&server, "GET", &format!("/api/runs/{run}")).await.json();
    let data = run["outputs"][0]["knitId"].as_str().unwrap();
    for (method, path) in [("GET", "manifest"), ("GET", "files/x"), ("POST", "verify")] {
        let message = call(&server, method, &format!("/api/data/{data}/{path}")).await.refused(409);
        assert!(message.contains("has no list of its content") && message.contains("data pull"), "{message}");
    }
}

#[tokio::test]
async fn a_slash_behind_the_name_of_a_file_is_refused() {
    let server = fake::server(None).await;
    let id = pushed(&server, "").await;
    for slash in ["/", "//", "%2F"] {
        let message = call(&server, "GET", &format!("/api/data/{id}/files/a.txt{slash}")).await.refused(400);
        assert!(message.contains("a.txt/") && message.contains("can be no path"), "{message}");
    }
}

#[tokio::test]
async fn a_pull_that_fails_in_the_middle_cuts_the_connection() {
    let server = fake::server(None).await;
    let id = pushed(&server, "").await;
    server.engine.state().breaks_off = true;
    let answer = raw(&server, &format!("GET /api/data/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("TarGz:content"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "no orderly end: {answer}");
}

#[tokio::test]
async fn a_refused_push_is_answered_while_the_client_still_sends() {
    let server = fake::server(Some("secret")).await;
    let mut stream = listening(&server).await;
    stream.write_all(b"POST /api/data HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sending = tokio::spawn(async move { write.write_all(&vec![0; 20_000_000]).await });
    let mut answer = vec![0; 12];
    read.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 401");
    sending.await.unwrap().expect("the rest is taken, so that no reset swallows the answer");
}

#[tokio::test]
async fn long_lists_are_whole() {
    let server = fake::server(None).await;
    let value = "v".repeat(1000);
    for n in 0..150 {
        pushed(&server, &format!("?tag=n:{n}&tag=long:{value}")).await;
    }
    let answer = call(&server, "GET", "/api/data").await;
    assert!(answer.text.len() > 64 << 10);
    assert_eq!(answer.json().as_array().unwrap().len(), 150);
}

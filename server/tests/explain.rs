//! The routes that explain and foresee, and the removal of Data: what they answer, and how they refuse.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use fake::Server;
use http_body_util::BodyExt;
use knit_api::why::{at_a_glance, code};
use knit_server::engine::local::images::ImageProblem;
use knit_server::{http, loops};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        let body: Value = serde_json::from_str(&self.text).unwrap();
        body["message"].as_str().unwrap().to_owned()
    }
}

async fn call(server: &Server, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost:30803");
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = http::service(server.app.clone()).oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

async fn get(server: &Server, path: &str) -> Value {
    call(server, "GET", path, None).await.json()
}

async fn pushed(server: &Server, tag: &str) -> String {
    let request = Request::builder().method("POST").uri(format!("/api/data?tag={tag}"));
    let request = request.header(header::HOST, "localhost:30803").header(header::CONTENT_TYPE, "application/tar+gzip");
    let response =
        http::service(server.app.clone()).oneshot(request.body(Body::from("content")).unwrap()).await.unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<Value>(&bytes).unwrap()["knitId"].as_str().unwrap().to_owned()
}

fn plan_of(input: &str) -> Value {
    json!({
        "image": "train:v1",
        "inputs": [{"path": "/in", "tags": [input]}],
        "outputs": [{"path": "/out", "tags": ["type:model"]}, {"path": "/metrics", "tags": []}],
        "log": {"tags": ["type:log"]},
    })
}

async fn registered(server: &Server, spec: &Value) -> String {
    call(server, "POST", "/api/plans", Some(spec)).await.json()["planId"].as_str().unwrap().to_owned()
}

/// A server whose loops run.
async fn working() -> Server {
    let server = fake::server(None).await;
    let loops = loops::Loops::start(&server.app).await.unwrap();
    tokio::spawn(loops.ended(Duration::from_hours(1)));
    server
}

/// Waits until the only Run of this Plan has this status and a reason, if it is to have one; returns its id.
async fn run_of(server: &Server, plan: &str, status: &str, with_reason: bool) -> String {
    let mut changes = server.app.wake.subscribe();
    let found = async {
        loop {
            let runs = get(server, &format!("/api/runs?plan={plan}")).await;
            if runs[0]["status"] == status && (!with_reason || runs[0]["reason"].is_string()) {
                return runs[0]["runId"].as_str().unwrap().to_owned();
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("no Run became {status}"))
}

#[tokio::test]
async fn a_dry_run_checks_and_tells_and_registers_nothing() {
    let server = fake::server(None).await;
    let data = pushed(&server, "a:b").await;
    let told = call(&server, "POST", "/api/plans/dry-run", Some(&plan_of("a:b"))).await.json();
    assert_eq!((&told["runs"]["count"], &told["combinations"]), (&json!(1), &json!([[data]])), "{told:#}");
    assert_eq!(told["inputs"][0]["data"][0], json!({"knitId": data, "tags": ["a:b"]}));
    assert_eq!(get(&server, "/api/plans").await.as_array().unwrap().len(), 2, "the built-in ones alone");
    let bad = json!({"image": "train:v1", "inputs": []});
    let refusals = [
        call(&server, "POST", "/api/plans/dry-run", Some(&bad)).await.refused(400),
        call(&server, "POST", "/api/plans", Some(&bad)).await.refused(400),
    ];
    assert_eq!(refusals[0], refusals[1], "the checks are those of registering");
    let plan = registered(&server, &plan_of("a:b")).await;
    let told = call(&server, "POST", "/api/plans/dry-run", Some(&plan_of("a:b"))).await.json();
    assert_eq!((&told["planId"], &told["runs"]["count"]), (&json!(plan), &json!(0)));
    let mut cycle = plan_of("type:model");
    cycle["image"] = json!("other:v1");
    let told = call(&server, "POST", "/api/plans/dry-run", Some(&cycle)).await.json();
    assert_eq!(told["cycle"], json!([]), "{told:#}");
}

#[tokio::test]
async fn plans_and_data_are_explained_and_unknown_ones_are_404() {
    let server = fake::server(None).await;
    let plan = registered(&server, &plan_of("type:dataset")).await;
    let data = pushed(&server, "type:datset").await;
    let explained = get(&server, &format!("/api/plans/{plan}/explain")).await;
    assert_eq!((&explained["planId"], &explained["active"]), (&json!(plan), &json!(true)));
    let near = json!([{"knitId": data, "tags": ["type:datset"],
        "differing": [{"wanted": "type:dataset", "has": ["datset"]}]}]);
    assert_eq!(explained["inputs"][0]["nearest"], near);
    assert_eq!(explained["inputs"][0]["unused"], json!([{"tag": "type:dataset", "similar": ["type:datset"]}]));
    let explained = get(&server, &format!("/api/data/{data}/explain")).await;
    assert_eq!(explained["nearest"][0]["planId"], json!(plan), "{explained:#}");
    for path in ["/api/plans/x/explain", "/api/data/x/explain", "/api/runs/x/why", "/api/runs/x/impact?of=rm"] {
        call(&server, "GET", path, None).await.refused(404);
    }
}

#[tokio::test]
async fn a_run_tells_why_it_waits_and_why_it_failed() {
    let server = working().await;
    server.engine.state().never_fits = Some("needs cpu 64".to_owned());
    pushed(&server, "a:b").await;
    let mut spec = plan_of("a:b");
    spec["resources"] = json!({"cpu": 64});
    let plan = registered(&server, &spec).await;
    let run = run_of(&server, &plan, "ready", true).await;
    let why = get(&server, &format!("/api/runs/{run}/why")).await;
    assert_eq!((&why["runId"], &why["causes"][0]["code"]), (&json!(run), &json!("never-fits")), "{why:#}");
    let text = why["causes"][0]["text"].as_str().unwrap();
    assert!(text.contains("needs cpu 64") && text.contains("offers cpu 2"), "{text}");
    assert_eq!(why.get("logTail"), None, "it has no log yet");

    {
        let mut state = server.engine.state();
        (state.never_fits, state.ends_at_once) = (None, Some(3));
    }
    server.app.store.hasten(&run.as_str().into(), knit_server::clock::now()).await.unwrap();
    server.app.wake.run.notify_one();
    run_of(&server, &plan, "failed", false).await;
    let why = get(&server, &format!("/api/runs/{run}/why")).await;
    assert_eq!(why["causes"][0]["code"], "exit-code", "{why:#}");
    assert_eq!(why["logTail"], "log so far");
    server.engine.state().failing.insert("log", 1);
    server.engine.state().failing.insert("observe", 1);
    let why = get(&server, &format!("/api/runs/{run}/why")).await;
    assert_eq!(why.get("logTail"), None, "what cannot be looked at is left out");
}

#[tokio::test]
async fn impact_names_what_goes_and_who_is_in_the_way() {
    let server = working().await;
    server.engine.state().ends_at_once = Some(0);
    let data = pushed(&server, "a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, "done", false).await;
    let of_upload = get(&server, &format!("/api/data/{data}/impact?of=rm")).await;
    assert_eq!(of_upload["refused"]["downstreams"], json!([run]), "{of_upload:#}");
    let of_run = get(&server, &format!("/api/runs/{run}/impact?of=rm")).await;
    assert_eq!(of_run.get("refused"), None, "{of_run:#}");
    let paths: Vec<&Value> = of_run["data"].as_array().unwrap().iter().map(|data| &data["path"]).collect();
    assert_eq!(paths, [&json!("/out"), &json!("/metrics"), &Value::Null]);
    assert_eq!(of_run["becomes"], "invalidated");
    assert_eq!(get(&server, &format!("/api/runs/{run}/impact?of=retry")).await["becomes"], "waiting");
    let upload = of_upload["runId"].as_str().unwrap();
    let retry = get(&server, &format!("/api/runs/{upload}/impact?of=retry")).await;
    assert!(retry["refused"]["reason"].as_str().unwrap().contains("built-in"), "{retry:#}");
    for path in [format!("/api/runs/{run}/impact"), format!("/api/runs/{run}/impact?of=stop")] {
        assert!(call(&server, "GET", &path, None).await.refused(400).contains("of"));
    }
    let wrong = format!("/api/data/{data}/impact?of=retry");
    call(&server, "GET", &wrong, None).await.refused(400);

    let change = json!({"remove_key": ["a"]});
    let told = call(&server, "POST", &format!("/api/data/{data}/impact"), Some(&change)).await.json();
    assert_eq!((&told["tags"], &told["withdrawn"]["count"]), (&json!([]), &json!(1)), "{told:#}");
    let unchanged = get(&server, &format!("/api/data?tag=knit%23id:{data}")).await;
    assert_eq!(unchanged[0]["tags"][0], "a:b", "nothing was changed");
    call(&server, "POST", "/api/data/x/impact", Some(&change)).await.refused(404);
    let reserved = json!({"remove_key": ["knit#id"]});
    call(&server, "POST", &format!("/api/data/{data}/impact"), Some(&reserved)).await.refused(400);
}

#[tokio::test]
async fn a_data_is_removed_with_its_run_and_not_while_it_is_used() {
    let server = working().await;
    server.engine.state().ends_at_once = Some(0);
    let data = pushed(&server, "a:b").await;
    let plan = registered(&server, &plan_of("a:b")).await;
    let run = run_of(&server, &plan, "done", false).await;
    assert!(call(&server, "DELETE", &format!("/api/data/{data}"), None).await.refused(409).contains(&run));
    let shown = get(&server, &format!("/api/runs/{run}")).await;
    let output = shown["outputs"][1]["knitId"].as_str().unwrap();
    let removed = call(&server, "DELETE", &format!("/api/data/{output}"), None).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    assert_eq!(removed.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(get(&server, &format!("/api/runs/{run}")).await["status"], "invalidated");
    assert!(get(&server, "/api/data?tag=type:model").await.as_array().unwrap().is_empty());
    assert_eq!(call(&server, "DELETE", &format!("/api/data/{data}"), None).await.status, 204);
    call(&server, "DELETE", &format!("/api/data/{data}"), None).await.refused(404);
}

#[test]
fn the_words_of_the_engine_are_understood() {
    let image = || "a/b:v1".to_owned();
    let cause = || "it says so".to_owned();
    for (problem, code) in [
        (ImageProblem::NotFound { image: image(), detail: cause() }, code::IMAGE_NOT_FOUND),
        (ImageProblem::Unreachable { image: image(), cause: cause() }, code::IMAGE_UNREACHABLE),
        (ImageProblem::Bad { image: image(), cause: cause() }, code::IMAGE_UNUSABLE),
        (ImageProblem::Storage { image: image(), cause: cause() }, code::NOT_STARTED),
    ] {
        let failed = json!({"runId": "r", "status": "failed", "updatedAt": "2024-05-01T10:00:00+00:00",
            "exit": {"code": 255, "message": problem.to_string()}, "plan": {"planId": "p", "image": "a/b:v1"}});
        let failed = knit_api::json::from_slice(failed.to_string().as_bytes()).unwrap();
        assert_eq!(at_a_glance(&failed)[0].code, code, "{problem}");
    }
}

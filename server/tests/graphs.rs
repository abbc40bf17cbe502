//! Graphs over HTTP: lines in the order of the walk, with what every other route tells of the same things.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use axum::body::Body;
use axum::http::{Request, header};
use fake::Server;
use http_body_util::BodyExt;
use knit_server::{http, loops};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

/// Status, content type and text of an answer.
async fn call(server: &Server, method: &str, path: &str, body: Body) -> (u16, String, String) {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost:30803");
    let request = request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap();
    let response = http::service(server.app.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let kind = parts.headers[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    let text = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), kind, String::from_utf8(text.to_vec()).unwrap())
}

async fn get(server: &Server, path: &str) -> Value {
    let (status, _, text) = call(server, "GET", path, Body::empty()).await;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

async fn lines(server: &Server, path: &str) -> Vec<Value> {
    let (status, kind, text) = call(server, "GET", path, Body::empty()).await;
    assert_eq!((status, kind.as_str()), (200, "application/x-ndjson"), "{path}: {text}");
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn plan(image: &str, input: &str, output: &str) -> Value {
    json!({
        "image": image,
        "inputs": [{"path": "/in", "tags": [input]}],
        "outputs": [{"path": "/out", "tags": [output]}],
        "log": {"tags": ["type:log"]},
    })
}

async fn registered(server: &Server, spec: &Value) -> String {
    let (status, _, text) = call(server, "POST", "/api/plans", Body::from(spec.to_string())).await;
    assert_eq!(status, 200, "{text}");
    let plan: Value = serde_json::from_str(&text).unwrap();
    plan["planId"].as_str().unwrap().to_owned()
}

/// `set` → `train` → `model` → `check` → `score`, each Run with a log; and the ids of set, train, check.
async fn worked() -> (Server, String, String, String) {
    let server = fake::server(None).await;
    server.engine.state().ends_at_once = Some(0);
    let working = loops::Loops::start(&server.app).await.unwrap();
    tokio::spawn(working.ended(Duration::from_hours(1)));
    let train = registered(&server, &plan("train:v1", "a:b", "type:model")).await;
    let check = registered(&server, &plan("check:v1", "type:model", "type:score")).await;
    let (status, _, text) = call(&server, "POST", "/api/data?tag=a:b", Body::from("content")).await;
    assert_eq!(status, 200, "{text}");
    let set: Value = serde_json::from_str(&text).unwrap();
    let mut changes = server.app.wake.subscribe();
    let done = async {
        while get(&server, &format!("/api/runs?plan={check}")).await[0]["status"] != "done" {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.unwrap();
    (server, set["knitId"].as_str().unwrap().to_owned(), train, check)
}

/// What a line is, in a word.
fn kind(line: &Value) -> &str {
    line.as_object().unwrap().keys().next().unwrap()
}

#[tokio::test]
async fn lineage_comes_line_by_line_in_the_order_of_the_walk() {
    let (server, set, train, check) = worked().await;
    let run = async |plan: &str| get(&server, &format!("/api/runs?plan={plan}")).await[0].clone();
    let (trained, checked) = (run(&train).await, run(&check).await);
    let (train, check) = (trained["runId"].clone(), checked["runId"].clone());
    let (model, score) = (trained["outputs"][0]["knitId"].clone(), checked["outputs"][0]["knitId"].clone());
    let (log, other_log) = (trained["log"]["knitId"].clone(), checked["log"]["knitId"].clone());
    let path = format!("/api/data/{set}/lineage");
    let into = |data: &Value, run: &Value, label: &str| json!({"edge": {"from": {"knitId": data}, "to": {"runId": run}, "label": label}});
    let out_of = |run: &Value, data: &Value, label: &str| json!({"edge": {"from": {"runId": run}, "to": {"knitId": data}, "label": label}});
    let set = json!(set);
    let expected = [
        json!({"data": set}),
        json!({"run": train}),
        into(&set, &train, "/in"),
        json!({"data": model}),
        out_of(&train, &model, "/out"),
        json!({"data": log}),
        out_of(&train, &log, "(log)"),
        json!({"run": check}),
        into(&model, &check, "/in"),
        json!({"data": score}),
        out_of(&check, &score, "/out"),
        json!({"data": other_log}),
        out_of(&check, &other_log, "(log)"),
    ];
    let mut all = expected.to_vec();
    all.push(json!({"end": {"data": 5, "runs": 2, "edges": 6}}));
    for depth in ["all", "2", "3", "4000"] {
        assert_eq!(lines(&server, &format!("{path}?downstream&depth={depth}&view=ids")).await, all, "{depth}");
    }
    let first = lines(&server, &format!("{path}?downstream=true&depth=1&view=ids")).await;
    assert_eq!(first[..7], expected[..7]);
    assert_eq!(first[7], json!({"end": {"data": 3, "runs": 1, "edges": 3}}));
    let up = lines(&server, &format!("/api/data/{}/lineage?upstream&view=ids", score.as_str().unwrap())).await;
    assert_eq!(
        up.iter().map(kind).collect::<String>(),
        "datarunedgedataedgedataedgerunedgedataedgedataedgerunedgeedgeend"
    );
    assert_eq!(up[up.len() - 2]["edge"]["from"], json!({"root": 0}));
    assert_eq!(lines(&server, &format!("{path}?upstream=false&view=ids")).await.len(), 2);

    // The same with everything in it, as other routes tell it.
    let full = lines(&server, &format!("{path}?downstream&depth=all")).await;
    assert_eq!(full.len(), all.len());
    for (line, short) in full.iter().zip(&all) {
        match kind(line) {
            "data" => {
                let id = short["data"].as_str().unwrap();
                assert_eq!(line["data"], get(&server, &format!("/api/data?tag=knit%23id:{id}")).await[0]);
            }
            "run" => {
                let id = short["run"].as_str().unwrap();
                assert_eq!(line["run"], get(&server, &format!("/api/runs/{id}")).await);
            }
            _ => assert_eq!(line, short),
        }
    }
}

#[tokio::test]
async fn plans_come_line_by_line_as_they_are_shown_elsewhere() {
    let server = fake::server(None).await;
    let train = registered(&server, &plan("train:v1", "a:b", "type:model")).await;
    let check = registered(&server, &plan("check:v1", "type:model", "type:score")).await;
    let report = registered(&server, &plan("report:v1", "type:score", "type:report")).await;
    let shown = async |query: &str| {
        let lines = lines(&server, &format!("/api/plans/{check}/graph{query}")).await;
        let (end, plans) = lines.split_last().unwrap();
        assert_eq!(*end, json!({"end": {"plans": plans.len()}}));
        plans.iter().map(|line| line["plan"].clone()).collect::<Vec<_>>()
    };
    let all = [&check, &train, &report];
    let plans = shown("").await;
    assert_eq!(plans.len(), 3);
    for (plan, id) in plans.iter().zip(all) {
        assert_eq!(*plan, get(&server, &format!("/api/plans/{id}")).await);
    }
    for (query, wanted) in
        [("?upstream", &all[..2]), ("?downstream&depth=1", &[&check, &report]), ("?upstream=false", &all[..1])]
    {
        let ids: Vec<Value> = shown(query).await.iter().map(|plan| plan["planId"].clone()).collect();
        assert_eq!(ids, wanted.iter().map(|id| json!(id)).collect::<Vec<_>>(), "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_before_the_first_line() {
    let server = fake::server(None).await;
    let train = registered(&server, &plan("train:v1", "a:b", "type:model")).await;
    for path in ["/api/data/none/lineage", "/api/plans/none/graph"] {
        assert_eq!(call(&server, "GET", path, Body::empty()).await.0, 404, "{path}");
    }
    for query in ["depth=0", "depth=many", "upstream=perhaps", "view=all"] {
        let path = format!("/api/data/none/lineage?{query}");
        assert_eq!(call(&server, "GET", &path, Body::empty()).await.0, 400, "{query}");
    }
    let path = format!("/api/plans/{train}/graph?depth=-1");
    assert_eq!(call(&server, "GET", &path, Body::empty()).await.0, 400);
    let info = get(&server, "/api/server").await;
    assert!(info["capabilities"].as_array().unwrap().contains(&json!("lineage")));
}

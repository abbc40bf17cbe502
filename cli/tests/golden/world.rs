//! The server of the records: a small world of Data, Runs and Plans, and the ways in which it failed.

use crate::fake::{Answer, Fake, Request, json};
use crate::vectors::read;
use serde_json::{Value, json as value};
use std::net::TcpListener;

/// A server that does what a record says.
pub(crate) struct Served {
    pub(crate) api_root: String,
    /// Stops with it; none where nobody listens.
    _fake: Option<Fake>,
}

/// Starts it; `what` is the record's own word for it, none for the small world.
pub(crate) fn serve(what: Option<&str>) -> Served {
    let world: Value = serde_json::from_str(&read("world.json")).unwrap();
    let fake =
        match what {
            Some("connection refused") => {
                // A port that was free a moment ago.
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let api_root = format!("http://{}/api", listener.local_addr().unwrap());
                return Served { api_root, _fake: None };
            }
            None => Fake::start(move |request| small_world(&world, request)),
            Some("data ok, runs 404") => Fake::start(move |request| {
                if request.target.starts_with("/api/runs") { not_found() } else { small_world(&world, request) }
            }),
            Some("Data q with tag  desc:say \"hi\"") => Fake::start(move |request| {
                if !request.target.starts_with("/api/data") {
                    return small_world(&world, request);
                }
                let mut data = world["data"]["data-set"].clone();
                data["knitId"] = value!("q");
                data["tags"] = value!(["desc:say \"hi\""]);
                json(200, &value!([data]))
            }),
            Some(other) => match other.strip_prefix("every request: ") {
                Some(name) => {
                    let answers: Value = serde_json::from_str(&read("answers.json")).unwrap();
                    let answer = failing(name, &answers[name]);
                    // An original server knows no such route, however it does otherwise.
                    Fake::start(move |request| {
                        if request.target == "/api/server" { not_found() } else { Answer::Close(answer.clone()) }
                    })
                }
                None => panic!("nobody has written down what a server does that is \"{other}\""),
            },
        };
    Served { api_root: fake.api_root(), _fake: Some(fake) }
}

fn not_found() -> Answer {
    json(404, &value!({"message": "not found"}))
}

/// The bytes of an answer: status, content type, body.
fn failing(name: &str, answer: &Value) -> Vec<u8> {
    let status = answer[0].as_u64().unwrap_or_else(|| panic!("no such answer: {name}"));
    if status == 302 {
        return b"HTTP/1.1 302 Reason\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    }
    let kind = answer[1].as_str().map_or_else(String::new, |kind| format!("Content-Type: {kind}\r\n"));
    let body = answer[2].as_str().unwrap();
    let head = format!("HTTP/1.1 {status} Reason\r\n{kind}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (head + body).into_bytes()
}

/// What the small world answers.
fn small_world(world: &Value, request: &Request) -> Answer {
    let url = url::Url::parse(&format!("http://x{}", request.target)).unwrap();
    let path: Vec<&str> = url.path().trim_matches('/').split('/').skip(1).collect();
    match (request.method.as_str(), &path[..]) {
        ("GET", ["data"]) => {
            let wanted: Vec<String> =
                url.query_pairs().filter(|(name, _)| name == "tag").map(|(_, tag)| tag.into_owned()).collect();
            let carries = |data: &&Value| {
                wanted.iter().all(|tag| data["tags"].as_array().unwrap().iter().any(|one| one == tag.as_str()))
            };
            let found: Vec<&Value> = world["data"].as_object().unwrap().values().filter(carries).collect();
            json(200, &value!(found))
        }
        ("POST", ["data"]) => json(200, &world["data"]["data-set"]),
        ("GET", ["runs"]) => {
            json(200, &value!(["run-train", "run-running", "run-failed"].map(|id| world["runs"][id].clone())))
        }
        ("GET", ["plans"]) => json(200, &value!(["plan-train", "plan-valid"].map(|id| world["plans"][id].clone()))),
        ("POST", ["plans"]) => json(200, &world["plans"]["plan-train"]),
        ("PUT", ["runs", _, "abort" | "tearoff"]) => {
            let mut run = world["runs"]["run-running"].clone();
            run["status"] = value!(if path[2] == "abort" { "aborting" } else { "completing" });
            json(200, &run)
        }
        ("PUT", ["runs", _, "retry"]) => Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("DELETE", ["runs", _]) => Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        ("GET", ["runs", id]) => one(&world["runs"][*id]),
        ("PUT", ["data", id]) => one(&world["data"][*id]),
        (_, ["plans", id, ..]) => one(&world["plans"][*id]),
        _ => not_found(),
    }
}

fn one(thing: &Value) -> Answer {
    if thing.is_null() { not_found() } else { json(200, thing) }
}

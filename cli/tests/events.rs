//! Waiting and watching by events, with servers that have them, lose them, or never had them.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod fake;

use fake::{Answer, Fake, Home, json, run};
use serde_json::{Value, json as value};
use std::sync::atomic::{AtomicUsize, Ordering};

fn server_info() -> Answer {
    json(200, &value!({"version": "0.1.0", "capabilities": ["bundle", "push-tags", "wait", "wait-until", "events"]}))
}

/// The beginning of a stream, after which the connection is lost.
fn stream(events: &[(&str, Value)]) -> Answer {
    let text: String =
        events.iter().map(|(name, data)| ["event: ", name, "\ndata: ", &data.to_string(), "\n\n"].concat()).collect();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    Answer::Close(format!("{head}{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

fn failed(id: &str, code: u8) -> Value {
    let mut run = run(id, "failed");
    run["exit"] = value!({"code": code, "message": ""});
    run["log"] = value!({"tags": [], "knitId": "d9"});
    run
}

/// A server whose connections of events break off one after the other.
fn breaking(streams: Vec<Vec<(&'static str, Value)>>) -> Fake {
    let asked = AtomicUsize::new(0);
    Fake::start(move |request| match request.target.as_str() {
        "/api/server" => server_info(),
        "/api/plans" | "/api/plans/p1" => json(200, &fake::plan("p1")),
        "/api/runs/r1" => json(200, &run("r1", "waiting")),
        target if target.starts_with("/api/runs/events") => match streams.get(asked.fetch_add(1, Ordering::SeqCst)) {
            Some(events) => stream(events),
            None => json(500, &value!({"message": "no more"})),
        },
        target if target.starts_with("/api/runs?") => json(200, &value!([run("r1", "done")])),
        _ => json(404, &value!({"message": "Not Found"})),
    })
}

const PLAN: &str = "image: train:v1\ninputs:\n  - path: /in\n    tags: [\"a:b\"]\noutputs: []\n";

#[test]
fn waiting_goes_on_where_a_connection_broke() {
    let quiet = || ("quiet", value!({}));
    let server = breaking(vec![vec![("run", run("r1", "running"))], vec![("run", run("r1", "done")), quiet()]]);
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["run", "wait", "r1", "-o", "name"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "r1\n"), "{ended:?}");
    assert_eq!(server.requests().iter().filter(|r| r.target == "/api/runs/events?run=r1").count(), 2);

    let server = breaking(vec![vec![("run", run("r1", "running"))], vec![quiet()]]);
    let ended = Home::of(&server.api_root(), None).knit(&["run", "wait", "--plan", "p1", "-o", "name"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "r1\n"), "{ended:?}");
}

#[test]
fn what_an_applied_plan_has_caused_decides_how_the_command_ends() {
    let synced = || ("synced", value!({}));
    let quiet = || ("quiet", value!({}));
    let events = |more: Vec<(&'static str, Value)>| {
        let mut events = vec![("run", run("r1", "running")), ("run", run("r2", "waiting")), synced()];
        events.extend(more);
        events
    };
    let all_done = vec![events(vec![("run", run("r1", "done")), ("run", run("r2", "done")), quiet()])];
    let one_failed = vec![events(vec![("run", run("r1", "done")), ("run", failed("r2", 3)), quiet()])];
    let two_failed = vec![events(vec![("run", failed("r1", 3)), ("run", failed("r2", 4)), quiet()])];
    let mended = vec![events(vec![
        ("run", failed("r1", 3)),
        ("run", run("r1", "done")),
        ("gone", value!({"runId": "r2"})),
        quiet(),
    ])];
    let told_again = vec![events(vec![("run", failed("r2", 3))]), vec![("run", run("r1", "done")), synced(), quiet()]];
    for (streams, code, says) in [
        (all_done, 0, "run r2: done\n"),
        (one_failed, 1, "the Run r2 failed: exit code 3\n  try: knit run why r2\n       knit run show --log r2"),
        (
            two_failed,
            1,
            "2 of 2 Runs failed:\n  the Run r1 is failed: exit code 3\n  the Run r2 is failed: exit code 4",
        ),
        (mended, 0, "run r1: failed: exit code 3\nrun r1: done\n"),
        (told_again, 0, "run r1: done\n"),
    ] {
        let server = breaking(streams);
        let home = Home::of(&server.api_root(), None);
        home.write("plan.yaml", PLAN);
        let ended = home.knit(&["plan", "apply", "--wait", "plan.yaml", "-o", "name"]);
        assert_eq!((ended.code, ended.text().as_str()), (Some(code), "p1\n"), "{ended:?}");
        assert!(ended.stderr.contains(says), "{ended:?}");
        assert!(server.requests().iter().any(|r| r.target == "/api/runs/events?cause=plan%3Ap1"), "{ended:?}");
    }
    let server = breaking(vec![]);
    let home = Home::of(&server.api_root(), None);
    home.write("plan.yaml", PLAN);
    let ended = home.knit(&["plan", "apply", "--wait", "plan.yaml"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("no more"), "{ended:?}");
}

#[test]
fn changes_are_lines_and_what_a_server_says_cannot_steer_the_terminal() {
    let mut steering = run("r1", "ready");
    steering["reason"] = value!("\u{1b}[2Jgone");
    let events = || vec![vec![("run", steering.clone()), ("gone", value!({"runId": "r1"})), ("news", value!(1))]];
    let watched = |arguments: &[&str]| {
        let server = breaking(events());
        Home::of(&server.api_root(), None).knit(arguments)
    };
    let ended = watched(&["run", "find", "--watch", "--planid", "p1"]);
    assert_eq!(ended.code, Some(1), "it ends only with an error: {ended:?}");
    let lines: Vec<Value> = ended.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["status"], &lines[1]), (&value!("ready"), &value!({"runId": "r1", "gone": true})));
    assert_eq!(lines.len(), 2);
    let named = watched(&["run", "find", "--watch", "--output", "name"]);
    assert_eq!(named.text(), "r1\n", "{named:?}");
    let table = watched(&["run", "find", "--watch", "--output", "table"]).text();
    assert!(table.starts_with("ID") && !table.contains('\u{1b}'), "{table}");
    let top = watched(&["run", "top", "--watch"]);
    let first: Value = serde_json::from_str(top.text().lines().next().unwrap()).unwrap();
    assert_eq!(first["resources"], value!({}), "{top:?}");
}

#[test]
fn a_server_without_events_is_told_of_before_anything_is_done() {
    let server = Fake::start(|_| json(404, &value!({"message": "Not Found"})));
    let home = Home::of(&server.api_root(), None);
    home.write("plan.yaml", PLAN);
    for arguments in [
        &["plan", "apply", "--wait", "plan.yaml"][..],
        &["data", "push", "--wait", "plan.yaml"],
        &["run", "find", "--watch"],
        &["run", "top", "--watch"],
    ] {
        let ended = home.knit(arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("the server at ") && ended.stderr.contains("knit run wait "), "{ended:?}");
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

/// A server that has room for one who follows its events only when it is asked for the second time, or never.
fn crowded(room: bool) -> Fake {
    let asked = AtomicUsize::new(0);
    Fake::start(move |request| match request.target.split('?').next().unwrap() {
        "/api/server" => server_info(),
        "/api/plans" | "/api/plans/p1" => json(200, &fake::plan("p1")),
        "/api/plans/p1/wait" => json(200, &value!({"quiet": true})),
        "/api/runs/events" if room && asked.fetch_add(1, Ordering::SeqCst) > 0 => {
            stream(&[("run", run("r1", "done")), ("synced", value!({})), ("quiet", value!({}))])
        }
        "/api/runs/events" => json(503, &value!({"message": "too many watch"})),
        "/api/runs/r1" => json(200, &run("r1", "waiting")),
        "/api/runs/r1/wait" | "/api/runs/r2" => json(200, &run("r1", "done")),
        "/api/runs" => json(200, &value!([run("r1", "done")])),
        _ => json(404, &value!({"message": "Not Found"})),
    })
}

#[test]
fn where_too_many_follow_events_a_run_and_a_plan_are_waited_for_in_the_older_way() {
    let server = crowded(false);
    let home = Home::of(&server.api_root(), None);
    for arguments in [&["run", "wait", "r1", "-o", "name"][..], &["run", "wait", "--plan", "p1", "-o", "name"]] {
        let ended = home.knit(arguments);
        assert_eq!((ended.code, ended.text().as_str(), ended.stderr.as_str()), (Some(0), "r1\n", ""), "{ended:?}");
    }
    let waits = server.requests().iter().filter(|r| r.target.split('?').next().unwrap().ends_with("/wait")).count();
    assert_eq!(waits, 2);
}

#[test]
fn what_needs_events_tries_again_where_too_many_follow_them() {
    let server = crowded(true);
    let home = Home::of(&server.api_root(), None);
    home.write("plan.yaml", PLAN);
    let ended = home.knit(&["plan", "apply", "--wait", "plan.yaml", "-o", "name"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "p1\n"), "{ended:?}");
    assert_eq!(ended.stderr.matches("trying again until there is room").count(), 1, "{ended:?}");
    let never = crowded(false);
    std::fs::write(home.store(), format!("p:\n    apiRoot: {}\n    cert: {{}}\n", never.api_root())).unwrap();
    let ended = home.knit(&["plan", "apply", "--wait", "--timeout", "1s", "plan.yaml"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
}

#[test]
fn watching_has_no_order_and_no_limit() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    for flag in [&["--limit", "1"][..], &["--sort", "updated"]] {
        let ended = home.knit(&[&["run", "find", "--watch"], flag].concat());
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
}

//! The commands that explain and foresee, and `data rm`, against servers that are told what to say: one of ours, and one
//! that behaves as v1.6.1 does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

mod fake;

use fake::{Answer, Fake, Home, Request, data, json, run};
use serde_json::{Value, json as value};

fn not_found() -> Answer {
    json(404, &value!({"message": "Not Found"}))
}

fn no_content() -> Answer {
    Answer::Bytes(b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n".to_vec())
}

/// A Run of v1.6.1 that made two outputs and a log.
fn run_of_three(id: &str, status: &str) -> Value {
    let mut run = run(id, status);
    run["outputs"] = value!([
        {"path": "/out/model", "tags": [], "knitId": "d1"}, {"path": "/out/metrics", "tags": [], "knitId": "d2"}
    ]);
    run["log"] = value!({"tags": [], "knitId": "d3"});
    run
}

fn original() -> Fake {
    Fake::start(|request: &Request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/api/data?tag=knit%23id%3Ad1") => json(200, &value!([data("d1")])),
        ("GET", "/api/data?tag=knit%23id%3Ad9") => json(200, &value!([])),
        ("GET", "/api/runs/r1") => json(200, &run_of_three("r1", "done")),
        ("GET", "/api/runs/r2") => {
            let mut run = run("r2", "failed");
            run["exit"] = value!({"code": 137, "message": "OOMKilled"});
            json(200, &run)
        }
        ("DELETE", "/api/runs/r1") => no_content(),
        _ => not_found(),
    })
}

/// The methods and targets of all requests.
fn asked(server: &Fake) -> Vec<String> {
    server.requests().iter().map(|request| format!("{} {}", request.method, request.target)).collect()
}

#[test]
fn towards_an_original_server_a_run_tells_what_it_can_of_itself() {
    let server = original();
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["run", "why", "r2"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(told["causes"][0]["code"], "out-of-memory", "{told:#}");
    assert_eq!(asked(&server), ["GET /api/runs/r2"]);
}

#[test]
fn what_an_original_server_cannot_do_is_said_in_one_sentence() {
    let server = original();
    let home = Home::of(&server.api_root(), None);
    home.write("plan.yaml", "image: train:v1\ninputs: [{path: /in, tags: [\"a:b\"]}]\n");
    for arguments in [
        &["plan", "explain", "p1"][..],
        &["data", "explain", "d1"],
        &["plan", "apply", "--dry-run", "plan.yaml"],
        &["run", "rm", "--impact", "r1"],
        &["run", "retry", "--impact", "r1"],
        &["data", "tag", "--add", "a:b", "--impact", "d1"],
        &["data", "rm", "--impact", "d1"],
    ] {
        let ended = home.knit(arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?} {ended:?}");
        assert!(ended.stderr.contains("cannot") && ended.stderr.contains("v1.6.1"), "{}", ended.stderr);
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{}", ended.stderr);
    }
    assert_eq!(asked(&server), [""; 0], "nothing that it does not know is sent to it");
}

#[test]
fn towards_an_original_server_a_data_is_deleted_by_its_run_once_that_is_confirmed() {
    let server = original();
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["data", "rm", "d1"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("d2 (/out/metrics)") && ended.stderr.contains("--yes"), "{}", ended.stderr);
    assert!(!asked(&server).iter().any(|request| request.starts_with("DELETE")));
    let ended = home.knit(&["data", "rm", "--yes", "d1", "d9", "d1"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("deleted d1, with the Run r1") && ended.stderr.contains("d9"), "{}", ended.stderr);
    let deleted: Vec<String> = asked(&server).into_iter().filter(|request| request.starts_with("DELETE")).collect();
    assert_eq!(deleted, ["DELETE /api/runs/r1"], "once");
}

fn ours() -> Fake {
    let impact = |id: &str, refused: bool| {
        let mut impact = value!({"runId": format!("r-{id}"), "status": "done", "of": "rm", "becomes": "erased",
            "data": [{"knitId": id, "path": "/upload", "bytes": 3}],
            "withdrawn": {"count": 0, "inputs": []}, "forgotten": {"count": 0}});
        if refused {
            impact["refused"] =
                value!({"reason": "the outputs are used by other Runs: \u{1b}[2Jr9", "downstreams": ["r9"]});
        }
        json(200, &impact)
    };
    Fake::start(move |request: &Request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/api/server") => {
            json(200, &value!({"version": "1", "capabilities": ["explain", "impact", "remove-data"]}))
        }
        ("GET", "/api/data/free/impact?of=rm") => impact("free", false),
        ("GET", "/api/data/used/impact?of=rm" | "/api/runs/used/impact?of=rm") => impact("used", true),
        ("DELETE", "/api/data/free") => no_content(),
        ("POST", "/api/data/d1/impact") => json(
            200,
            &value!({"knitId": "d1", "tags": [], "nominated": {"count": 0, "inputs": []},
                "withdrawn": {"count": 0, "inputs": []}}),
        ),
        ("POST", "/api/plans/dry-run") => json(
            200,
            &value!({"cycle": ["p7"], "active": true, "inputs": [],
            "runs": {"count": 0}, "combinations": []}),
        ),
        ("GET", "/api/runs/r1/why") => {
            let mut why = run("r1", "failed");
            why["causes"] = value!([{"code": "exit-code", "text": "its program ended \u{1b}[2J with exit code 3", "advice": "look"}]);
            why["logTail"] = value!("one\ntwo\u{7}");
            json(200, &why)
        }
        _ => not_found(),
    })
}

#[test]
fn of_several_data_those_that_can_go_do_and_the_rest_is_told() {
    let server = ours();
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["data", "rm", "used", "free", "gone"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    for said in ["deleted free, with the Run r-free", "cannot delete the Data used", "r9", "Data gone", "1 of 3"] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains('\u{1b}'), "{:?}", ended.stderr);
    assert_eq!(home.knit(&["data", "rm", "used"]).code, Some(6));
    assert_eq!(home.knit(&["data", "rm", "gone"]).code, Some(5));
    let ended = home.knit(&["data", "rm", "--impact", "-o", "table", "free", "used"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.text().contains("would delete the Data free (/upload, 3 bytes)"), "{}", ended.text());
    assert!(!ended.text().contains('\u{1b}'));
}

#[test]
fn causes_and_refusals_are_printed_for_a_person_without_what_steers_a_terminal() {
    let server = ours();
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["run", "why", "-o", "table", "r1"]);
    let text = ended.text();
    assert!(text.contains("exit-code: its program ended \u{fffd}[2J with exit code 3\n    try: look"), "{text}");
    assert!(text.contains("    one\n    two\u{fffd}\n"), "{text}");
    assert_eq!(home.knit(&["run", "why", "-o", "name", "r1"]).text(), "r1\n");
    home.write("plan.yaml", "image: train:v1\ninputs: [{path: /in, tags: [\"a:b\"]}]\n");
    let ended = home.knit(&["plan", "apply", "--dry-run", "plan.yaml"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("feed itself") && ended.stderr.contains("p7"), "{}", ended.stderr);
}

#[test]
fn two_files_are_compared_without_any_server() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    home.write("a.yaml", "image: train:v1\nargs: [x]\ninputs: [{path: /in, tags: [\"a:b\"]}]\n");
    home.write("b.yaml", "image: train:v1\nargs: [y]\ninputs: [{path: /in, tags: [\"a:b\"]}]\n");
    let ended = home.knit(&["plan", "diff", "-o", "table", "a.yaml", "b.yaml"]);
    assert_eq!((ended.code, ended.text().contains("@@ args @@\n-x\n+y\n")), (Some(0), true), "{ended:?}");
    assert_eq!(home.knit(&["plan", "diff", "--exit-code", "a.yaml", "b.yaml"]).code, Some(1));
    assert_eq!(home.knit(&["plan", "diff", "--exit-code", "a.yaml", "a.yaml"]).code, Some(0));
    home.write("bad.yaml", "images: x\n");
    assert_eq!(home.knit(&["plan", "diff", "a.yaml", "bad.yaml"]).code, Some(2));
}

#[test]
fn what_would_be_refused_and_what_would_leave_nothing_is_said_in_words() {
    let server = ours();
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["run", "rm", "--impact", "used"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("error: deleting the Run r-used would be refused: the outputs"), "{}", ended.stderr);
    let ended = home.knit(&["data", "tag", "--remove", "a:b", "--impact", "-o", "table", "d1"]);
    assert!(ended.text().contains("would leave Data d1 with no tags\n"), "{ended:?}");
}

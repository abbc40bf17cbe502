//! What is printed: JSON with the members and order of v1.6.1, and the other forms of the same result.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

mod fake;

use fake::{Fake, Home, json};
use serde_json::json as value;

/// A Run as a server sends it: compact, with members that nobody knows and times as they may come.
const WIRE: &str = r#"{"runId":"r1","status":"done","updatedAt":"2024-05-01T10:30:00.380Z","exit":{"code":0,"message":"a <b> & c"},"plan":{"planId":"p1","image":"train:v1","entrypoint":["a"],"annotations":["z=1","b=2"],"future":1},"inputs":[{"path":"/in","tags":["a:b"],"knitId":"d1"}],"outputs":null,"log":null,"other":{}}"#;

const PRINTED: &str = r#"{
    "runId": "r1",
    "status": "done",
    "updatedAt": "2024-05-01T10:30:00.38+00:00",
    "exit": {
        "code": 0,
        "message": "a <b> & c"
    },
    "plan": {
        "planId": "p1",
        "image": "train:v1",
        "entrypoint": [
            "a"
        ],
        "annotations": [
            "b=2",
            "z=1"
        ]
    },
    "inputs": [
        {
            "path": "/in",
            "tags": [
                "a:b"
            ],
            "knitId": "d1"
        }
    ],
    "outputs": [],
    "log": null
}
"#;

fn with_a_run() -> (Fake, Home) {
    let server = Fake::start(|request| match request.target.as_str() {
        "/api/runs/r1" => json(200, &serde_json::from_str(WIRE).unwrap()),
        "/api/runs?plan=none" => json(200, &value!([])),
        "/api/runs" => json(200, &value!([serde_json::from_str::<serde_json::Value>(WIRE).unwrap()])),
        _ => json(404, &value!({"message": "not found"})),
    });
    let home = Home::of(&server.api_root(), None);
    (server, home)
}

#[test]
fn json_has_the_members_of_v1_6_1_in_their_order() {
    let (_server, home) = with_a_run();
    assert_eq!(home.knit(&["run", "show", "r1"]).text(), PRINTED);
    assert_eq!(home.knit(&["run", "show", "r1", "-o", "json"]).text(), PRINTED);
    assert_eq!(home.knit(&["run", "find", "-p", "none"]).text(), "[]\n");
}

#[test]
fn the_other_forms_say_the_same() {
    let (_server, home) = with_a_run();
    assert_eq!(home.knit(&["run", "find", "--output", "name"]).text(), "r1\n");
    let yaml = home.knit(&["run", "show", "r1", "-o=yaml"]).text();
    assert!(yaml.starts_with("runId: r1\nstatus: done\n"), "{yaml}");
    let table = home.knit(&["run", "find", "--output", "table"]).text();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID  STATUS  PLAN      SINCE"), "{table}");
    assert!(lines[1].starts_with("r1  done    train:v1  2024-05-01 10:30:00  exit code 0: a <b> & c"), "{table}");
    assert_eq!(home.knit(&["run", "find", "-p", "none", "--output", "table"]).text(), "No Runs.\n");
    assert!(home.knit(&["run", "show", "r1", "-o", "wide"]).text().contains("/in d1"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (_server, home) = with_a_run();
    let mut child = home.command(&home.project(), &["run", "find"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

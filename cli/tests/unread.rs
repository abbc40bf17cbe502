//! A reader of the results that goes away, as `| head` does: work is finished, and the exit code tells how it went.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

mod fake;

use fake::{Answer, Ended, Fake, Home, data, json, run};
use serde_json::json as value;

/// Runs the program with a stdout that nobody reads.
fn unread(home: &Home, arguments: &[&str]) -> Ended {
    let mut command = home.command(&home.project(), arguments);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Ended::from(command.stdout(writer).output().unwrap())
}

fn server() -> Fake {
    Fake::start(|request| match (request.method.as_str(), request.target.split('?').next().unwrap()) {
        (_, "/api/server") => json(200, &value!({"version": "0.1.0", "capabilities": ["content", "wait"]})),
        ("POST", "/api/data") | ("PUT", "/api/data/d1") => json(200, &data("d1")),
        ("POST", "/api/data/d1/verify") => {
            let differs = |n: u32| format!("{{\"differs\":{{\"path\":\"{n:0200}\",\"difference\":\"missing\"}}}}\n");
            // More than is printed at once.
            let lines: String = (0..1000).map(differs).collect();
            let done = "{\"done\":{\"entries\":1,\"bytes\":1,\"differences\":1000}}\n";
            fake::chunked("Content-Type: application/x-ndjson\r\n", format!("{lines}{done}").as_bytes(), "")
        }
        ("GET", "/api/plans/p1/wait") => json(200, &value!({"quiet": true})),
        ("GET", "/api/plans/p1") => json(200, &fake::plan("p1")),
        ("GET", "/api/runs") => json(200, &value!([run("r1", "failed")])),
        ("GET", "/api/runs/r1/log") => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlog\n".to_vec()),
        ("GET", "/api/runs/r1") => json(200, &run("r1", "failed")),
        _ => json(404, &value!({"message": "not found"})),
    })
}

#[test]
fn all_sources_are_pushed_though_nobody_reads_their_ids() {
    let server = server();
    let home = Home::of(&server.api_root(), None);
    for source in ["s1", "s2", "s3"] {
        home.write(&format!("{source}/a"), source);
    }
    let ended = unread(&home, &["data", "push", "s1", "s2", "s3", "-o", "name"]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(0), 3), "{ended:?}");
    assert_eq!(server.requests().iter().filter(|request| request.method == "POST").count(), 3);
    let ended = unread(&home, &["data", "push", "s1", "missing", "s3", "-o", "name"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

#[test]
fn how_a_command_ends_does_not_depend_on_who_reads_its_results() {
    let server = server();
    let home = Home::of(&server.api_root(), None);
    home.write("a.yaml", "image: train:v1\ninputs: [{path: /in, tags: [\"a:b\"]}]\n");
    home.write("b.yaml", "image: train:v2\ninputs: [{path: /in, tags: [\"a:b\"]}]\n");
    let ended = home.knit(&["data", "verify", "d1"]);
    assert!(
        ended.stderr.ends_with("error: the Data d1 is not what was registered: 1000 entries differ\n"),
        "{ended:?}"
    );
    for (arguments, code) in [
        (&["run", "wait", "--plan", "p1"][..], 1),
        (&["run", "wait", "r1"], 1),
        (&["run", "show", "--exit-code", "r1"], 1),
        (&["run", "show", "--log", "--exit-code", "r1"], 1),
        (&["data", "verify", "d1"], 8),
        (&["data", "verify", "d1", "-o", "json"], 8),
        (&["plan", "diff", "--exit-code", "a.yaml", "b.yaml"], 1),
        (&["run", "show", "--log", "r1"], 0),
        (&["run", "find"], 0),
        (&["run", "find", "-o", "none"], 0),
        (&["run", "show", "r2"], 5),
    ] {
        let ended = unread(&home, arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.contains("stdout"), "{arguments:?}: {ended:?}");
    }
}

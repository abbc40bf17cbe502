//! Ids as people type them: whole, by their beginning, and Plans by their name; and that a server which cannot
//! tell what is meant is never asked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

mod fake;

use fake::{Answer, Fake, Home, Request, data, json, plan, run};
use serde_json::{Value, json as value};

const RUN: &str = "0b1c2d3e-aaaa-4bbb-8ccc-0123456789ab";
const TWIN: &str = "0b1c2d3e-bbbb-4bbb-8ccc-0123456789ab";
const PLAN: &str = "77aa2d3e-aaaa-4bbb-8ccc-0123456789ab";
const OTHER_PLAN: &str = "88bb2d3e-aaaa-4bbb-8ccc-0123456789ab";
const DATA: &str = "dada2d3e-aaaa-4bbb-8ccc-0123456789ab";

/// The parts of a target: path below the root, and the decoded value of a parameter.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let url = url::Url::parse(&format!("http://x{}", request.target)).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn candidates(of: &[(&str, &str)], request: &Request) -> Answer {
    let prefix = parameter(request, "prefix").unwrap_or_default();
    let limit: usize = parameter(request, "limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let fitting = of.iter().filter(|(id, _)| id.starts_with(&prefix)).take(limit);
    json(200, &fitting.map(|(id, hint)| value!({"value": id, "hint": hint})).collect::<Value>())
}

/// A server with two Runs that begin alike, two Plans (one of them with a name) and a Data.
fn server(announced: bool) -> Fake {
    let capabilities = if announced { value!(["candidates", "wait", "wait-until"]) } else { value!(["wait"]) };
    Fake::start(move |request| {
        let path = request.target.split('?').next().unwrap().strip_prefix("/api/").unwrap().to_owned();
        let named = parameter(request, "name");
        let tag = parameter(request, "tag");
        match (request.method.as_str(), path.split('/').collect::<Vec<_>>()[..].as_ref()) {
            ("GET", ["server"]) => json(200, &value!({"version": "0.1.0", "capabilities": capabilities})),
            ("GET", ["candidates", "runs"]) => {
                candidates(&[(RUN, "done train:v1"), (TWIN, "failed \u{1b}[2Jtrain:v1\nx")], request)
            }
            ("GET", ["candidates", "data"]) => candidates(&[(DATA, "type:model")], request),
            ("GET", ["candidates", "plans"]) => match named.as_deref() {
                Some("train") => json(200, &value!([{"value": PLAN, "hint": "train:v1"}])),
                Some("twice") => json(200, &value!([{"value": PLAN, "hint": ""}, {"value": OTHER_PLAN, "hint": ""}])),
                Some("77aa") => json(200, &value!([{"value": OTHER_PLAN, "hint": "named like an id"}])),
                Some(_) => json(200, &value!([])),
                None => candidates(&[(PLAN, "train:v1"), (OTHER_PLAN, "check:v1")], request),
            },
            ("GET", ["data"]) if tag.as_deref() == Some(&format!("knit#id:{DATA}")) => json(200, &value!([data(DATA)])),
            ("GET", ["data" | "runs"]) => json(200, &value!([])),
            ("PUT", ["data", DATA]) => json(200, &data(DATA)),
            (_, ["runs", id, "retry"]) | ("DELETE", ["runs", id]) if *id == RUN || *id == TWIN => {
                json(200, &value!({}))
            }
            (_, ["runs", id, ..]) if [RUN, TWIN, "r1"].contains(id) => json(200, &run(id, "done")),
            (_, ["plans", _, "wait"]) => json(200, &value!({"quiet": true})),
            (_, ["plans", id, ..]) if *id == PLAN || *id == OTHER_PLAN => json(200, &plan(id)),
            _ => json(404, &value!({"message": "not found"})),
        }
    })
}

#[test]
fn what_a_person_types_for_an_id_finds_the_one_thing_that_is_meant() {
    let server = server(true);
    let home = Home::of(&server.api_root(), None);
    for (arguments, code, said) in [
        (&["run", "show", RUN][..], 0, RUN),
        (&["run", "show", "0b1c2d3e-a"], 0, RUN),
        (&["run", "show", "0b1c2d3e-b"], 0, TWIN),
        (&["run", "show", "0b1c"], 2, "may be any of several Runs"),
        (&["run", "show", "0b1"], 5, "not found"),
        (&["run", "show", "ffff"], 5, "not found"),
        (&["run", "show", "--log", "0b1c2d3e-a"], 0, RUN),
        (&["run", "show", "--log", "--follow", "0b1c2d3e-a"], 0, RUN),
        (&["run", "show", "--log", "--follow", "--exit-code", "0b1c2d3e-a"], 0, RUN),
        (&["run", "stop", "0b1c2d3e-a"], 0, RUN),
        (&["run", "retry", "0b1c2d3e-a"], 0, RUN),
        (&["run", "rm", "0b1c2d3e-b"], 0, TWIN),
        (&["run", "rm", "0b1c"], 2, TWIN),
        (&["run", "wait", "0b1c2d3e-a"], 0, RUN),
        (&["run", "wait", "--plan", "train"], 0, "[]"),
        (&["run", "wait", "--plan", "none"], 5, "not found"),
        (&["plan", "show", "88bb"], 0, OTHER_PLAN),
        (&["plan", "show", "train"], 0, PLAN),
        (&["plan", "show", "name=train"], 0, PLAN),
        (&["plan", "show", "name=77aa"], 0, OTHER_PLAN),
        (&["plan", "show", "77aa"], 2, "may be any of several Plans"),
        (&["plan", "show", "77aa2"], 0, PLAN),
        (&["plan", "show", "name=twice"], 2, OTHER_PLAN),
        (&["plan", "show", "name="], 5, "not found"),
        (&["plan", "active", "no", "train"], 0, PLAN),
        (&["data", "tag", "--add", "a:b", "dada"], 0, DATA),
        (&["data", "lineage", "dada"], 0, DATA),
        (&["data", "lineage", "knit#id:dada2d3e-aaaa-4bbb-8ccc-0123456789ab"], 0, DATA),
        (&["data", "lineage", "dad"], 5, "there is no such Data"),
        (&["data", "lineage", "name=train"], 5, "there is no such Data"),
    ] {
        let ended = home.knit(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(format!("{}{}", ended.text(), ended.stderr).contains(said), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn several_that_may_be_meant_are_named_with_what_they_are_and_nothing_is_done() {
    let server = server(true);
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["run", "rm", "0b1c"]);
    assert_eq!(
        ended.stderr,
        format!(
            "error: cannot delete the Run 0b1c: \"0b1c\" may be any of several Runs:\n  {RUN}  done train:v1\n  \
             {TWIN}  failed \u{fffd}[2Jtrain:v1\n  try: write more of the id\n"
        )
    );
    assert!(server.requests().iter().all(|request| !request.target.contains(TWIN)), "{:?}", server.requests());
}

#[test]
fn advice_on_an_id_fits_what_was_given() {
    let server = server(true);
    let home = Home::of(&server.api_root(), None);
    for (arguments, advice) in [
        (["plan", "show", "name=twice"], "try: write one of these ids\n"),
        (["plan", "show", "twice"], "try: write one of these ids\n"),
        (["run", "show", "0b1c"], "try: write more of the id\n"),
        (["run", "show", "0b1"], "try: give at least 4 characters of the id\n"),
        (["run", "show", "ffff"], "not found\n"),
    ] {
        let ended = home.knit(&arguments);
        assert!(ended.stderr.ends_with(advice), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_thing_that_is_there_under_exactly_that_id_is_asked_for_once() {
    let server = server(true);
    let home = Home::of(&server.api_root(), None);
    home.knit(&["run", "rm", RUN]);
    let targets: Vec<String> = server.all_requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, [format!("/api/runs/{RUN}")]);
}

#[test]
fn a_search_finds_by_the_beginning_of_an_id_too() {
    let server = server(true);
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["run", "find", "-p", "train", "-p", OTHER_PLAN, "-i", "dada", "-o", "ffff"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "[]\n"), "{ended:?}");
    let asked = server.requests().pop().unwrap();
    assert_eq!(parameter(&asked, "plan"), Some(format!("{PLAN},{OTHER_PLAN}")));
    assert_eq!(parameter(&asked, "knitIdInput").as_deref(), Some(DATA));
    assert_eq!(parameter(&asked, "knitIdOutput").as_deref(), Some("ffff"), "what nothing begins with stays");
    let ended = home.knit(&["run", "find", "-p", "77aa"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn a_server_that_cannot_tell_is_not_asked() {
    let server = server(false);
    let home = Home::of(&server.api_root(), None);
    for arguments in [&["run", "show", "0b1c2d3e-a"][..], &["plan", "show", "train"], &["run", "rm", "0b1c2d3e-a"]] {
        let ended = home.knit(arguments);
        assert_eq!(ended.code, Some(5), "{arguments:?}: {ended:?}");
    }
    assert_eq!(home.knit(&["run", "find", "-p", "train"]).code, Some(0));
    assert!(server.requests().iter().all(|request| !request.target.contains("candidates")), "{:?}", server.requests());
}

#[test]
fn a_server_that_names_something_else_is_not_believed() {
    let server = Fake::start(|request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["candidates"]})),
        target if target.starts_with("/api/candidates/") => json(200, &value!([{"value": RUN, "hint": ""}])),
        _ => json(404, &value!({"message": "not found"})),
    });
    let ended = Home::of(&server.api_root(), None).knit(&["run", "rm", "ffff"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(server.requests().iter().all(|request| !request.target.contains(RUN)), "{:?}", server.requests());
}

#[test]
fn what_is_pulled_by_the_beginning_of_its_id_has_its_whole_id() {
    let server = Fake::start(|request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["candidates", "bundle"]})),
        target if target.starts_with("/api/candidates/data") => candidates(&[(DATA, "")], request),
        target if target.ends_with(DATA) => {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("a"), "hello").unwrap();
            let (form, mut sent) = (knit_api::bundle::Form::Bundle, Vec::new());
            knit_api::bundle::pack(folder.path(), form, &mut sent, &knit_api::bundle::PackOptions::default(), &mut ())
                .unwrap();
            fake::chunked("Content-Type: application/vnd.knit.bundle\r\n", &sent, "")
        }
        _ => json(404, &value!({"message": "not found"})),
    });
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["data", "pull", "-x", "dada", "out"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(std::fs::read_to_string(home.project().join(format!("out/{DATA}/a"))).unwrap(), "hello");
    let ended = home.knit(&["data", "pull", "-x", "dada", "out"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains(&format!("{DATA} is there already")), "{ended:?}");
}

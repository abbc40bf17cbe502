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

/// Data `d0`, `d1` and so on, every third of them failed.
fn many(count: usize) -> serde_json::Value {
    let one = |n: usize| {
        let mut data = fake::data(&format!("d{n}"));
        let mut tags = vec![format!("n:{n}"), "knit#timestamp:2024-05-01T10:30:00.5+00:00".to_owned()];
        if n.is_multiple_of(3) {
            tags.push("knit#transient:failed".to_owned());
        }
        data["tags"] = value!(tags);
        data
    };
    (0..count).map(one).collect()
}

fn with_data(count: usize) -> (Fake, Home) {
    let server = Fake::start(move |request| match request.target.as_str() {
        "/api/data" => json(200, &many(count)),
        _ => json(404, &value!({"message": "not found"})),
    });
    let home = Home::of(&server.api_root(), None);
    (server, home)
}

#[test]
fn columns_are_chosen_by_name_and_choosing_them_asks_for_a_table() {
    let (_server, home) = with_data(2);
    for (arguments, printed) in [
        (&["--columns", "id,tags"][..], "ID  TAGS\nd0  n:0\nd1  n:1\n"),
        (
            &["--columns", "Used-By", "--columns=made_by,STATE"],
            "USED BY  MADE BY        STATE\n0        knit#uploaded  failed\n0        knit#uploaded  ready\n",
        ),
        (&["--columns", "id", "--no-headers"], "d0\nd1\n"),
        (&["--no-headers", "-o", "wide", "--columns", "id,time"], "d0  2024-05-01 10:30:00\nd1  2024-05-01 10:30:00\n"),
        (&["--columns", "id", "--no-headers=no"], "ID\nd0\nd1\n"),
    ] {
        let ended = home.knit(&[&["data", "find"], arguments].concat());
        assert_eq!((ended.code, ended.text().as_str()), (Some(0), printed), "{arguments:?}: {ended:?}");
    }
    let table = home.knit(&["data", "find", "--no-headers"]).text();
    assert!(table.starts_with("d0  n:0  failed  knit#uploaded  2024-05-01 10:30:00\n"), "{table}");
}

#[test]
fn what_cannot_be_a_table_is_an_error_of_usage_before_anything_is_asked() {
    let (server, home) = with_data(2);
    for (arguments, said) in [
        (&["data", "find", "--columns", "stat"][..], "there is no column \"stat\": did you mean state?"),
        (&["data", "find", "--columns", "x"], "--columns id,tags,state,made-by,time,run,used-by,digest"),
        (&["data", "find", "--columns", "id", "-o", "json"], "--columns is about a table, and --output json is none"),
        (&["data", "find", "--no-headers", "-o", "name"], "--no-headers is about a table, and --output name is none"),
        (&["run", "stop", "r1", "--columns", "x"], "there is no column \"x\""),
        (&["data", "find", "--sort", "id"], "this list can be sorted by time"),
        (&["run", "find", "--sort", "time"], "this list can be sorted by updated"),
        (&["plan", "find", "--sort", "--id"], "this list can be sorted by id"),
        (&["data", "find", "--limit", "0"], "write a number from 1 on"),
        (&["data", "find", "-o", "tabel"], "[possible values: table, wide, json, yaml, name]"),
    ] {
        let ended = home.knit(arguments);
        assert_eq!((ended.code, ended.text().as_str()), (Some(2), ""), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{arguments:?}: {ended:?}");
    }
    assert!(server.all_requests().is_empty(), "{:?}", server.all_requests());
}

#[test]
fn a_list_is_turned_around_and_ends_where_it_is_told() {
    let (_server, home) = with_data(8);
    for (arguments, printed) in [
        (&["--limit", "2"][..], "d0\nd1\n"),
        (&["--sort", "time", "--limit=2"], "d0\nd1\n"),
        (&["--sort=-time", "--limit", "2"], "d7\nd6\n"),
        (&["--sort", "-time", "--limit", "2", "--transient", "yes"], "d6\nd3\n"),
        (&["--limit", "3", "--transient", "no"], "d1\nd2\nd4\n"),
        (&["--limit", "99", "--transient", "yes"], "d0\nd3\nd6\n"),
    ] {
        let ended = home.knit(&[&["data", "find", "-o", "name"], arguments].concat());
        assert_eq!((ended.code, ended.text().as_str()), (Some(0), printed), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_long_list_is_the_json_of_v1_6_1_to_the_byte() {
    let (_server, home) = with_data(3000);
    let all: Vec<knit_api::data::Data> = serde_json::from_value(many(3000)).unwrap();
    assert_eq!(home.knit(&["data", "find"]).text(), knit_cli::terminal::output::json(&all).unwrap());
    let yaml = home.knit(&["data", "find", "-o", "yaml"]).text();
    assert_eq!(yaml, knit_cli::terminal::output::yaml(&all).unwrap());
}

#[test]
fn tones_are_shown_where_colour_is_wanted_and_nowhere_else() {
    let (_server, home) = with_data(2);
    for (environment, coloured) in
        [(&[][..], false), (&[("CLICOLOR_FORCE", "1")], true), (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false)]
    {
        let mut command = home.command(&home.project(), &["data", "find", "-o", "table"]);
        let ended = fake::Ended::from(command.envs(environment.iter().copied()).output().unwrap());
        assert_eq!(ended.text().contains('\u{1b}'), coloured, "{environment:?}: {ended:?}");
        if coloured {
            assert!(ended.text().contains("\u{1b}[38;5;1mfailed\u{1b}[39m  knit"), "{ended:?}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_in_the_middle_of_a_long_list_is_no_error() {
    let (_server, home) = with_data(3000);
    for form in ["json", "yaml", "name", "table"] {
        let mut child = home.command(&home.project(), &["data", "find", "-o", form]).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut [0]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{form}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (_server, home) = with_a_run();
    let mut child = home.command(&home.project(), &["run", "find"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

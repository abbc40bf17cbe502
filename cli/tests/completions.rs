//! What the program answers a shell that wants to complete a word: from a server, from what it said a moment ago,
//! and from nothing at all.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod fake;

use fake::{Answer, Ended, Fake, Home, json};
use serde_json::json as value;
use std::os::unix::fs::PermissionsExt as _;

/// A server that announces candidates, and has one of each kind.
fn candidates(request: &fake::Request) -> Answer {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match path {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["candidates"]})),
        "/api/candidates/data" => json(200, &value!([{"value": "d1", "hint": "type:model"}, {"value": "d\u{1b}2"}])),
        "/api/candidates/plans" => json(200, &value!([{"value": "p1", "hint": "train:v1"}])),
        "/api/candidates/plan-names" => json(200, &value!([{"value": "pretty", "hint": "p1"}])),
        "/api/candidates/runs" => json(200, &value!([{"value": "r1", "hint": "done, of p1"}])),
        "/api/candidates/tags" if query.contains("prefix=ty") => {
            json(200, &value!([{"value": "type:model", "hint": "2"}, {"value": "type:log", "hint": "1"}]))
        }
        "/api/candidates/tags" => json(200, &value!([])),
        _ => json(500, &value!({"message": "nobody asks for this"})),
    }
}

/// What a shell is told for a line whose last word is not finished.
fn asked(home: &Home, shell: &str, line: &[&str]) -> Ended {
    let mut command = home.command(&home.project(), &[]);
    command.env("_KNIT_COMPLETE", shell).env("PATH", home.project());
    if shell == "bash" {
        command.env("_KNIT_LINE", line.join(" ")).env("_KNIT_WORD", line.last().unwrap());
    } else {
        command.env("_CLAP_COMPLETE_INDEX", (line.len() - 1).to_string()).arg("--").args(line);
    }
    let ended = Ended::from(command.output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended
}

#[test]
fn ids_names_and_tags_come_from_the_server_with_their_hints() {
    let server = Fake::start(candidates);
    let home = Home::of(&server.api_root(), Some("s3cret"));
    let told = |line: &[&str]| asked(&home, "fish", line).text();
    assert_eq!(told(&["knit", "data", "pull", "d"]), "d1\ttype:model");
    assert_eq!(told(&["knit", "plan", "show", "p"]), "pretty\tp1\np1\ttrain:v1");
    assert_eq!(told(&["knit", "run", "wait", "--plan=p"]), "--plan=pretty\tp1\n--plan=p1\ttrain:v1");
    assert_eq!(told(&["knit", "run", "show", ""]), "r1\tdone, of p1");
    assert_eq!(told(&["knit", "data", "find", "-t", "ty"]), "type:model\t2\ntype:log\t1");
    assert_eq!(told(&["knit", "data", "tag", "--remove-key", "ty"]), "type");
    assert_eq!(asked(&home, "zsh", &["knit", "data", "find", "-t=ty"]).text(), "-t=type\\:model:2\n-t=type\\:log:1");
    assert_eq!(asked(&home, "bash", &["knit", "data", "find", "-t", "ty"]).text(), "type:model\ntype:log\n");
    for request in server.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer s3cret"), "{request:?}");
        assert!(request.target.contains("limit=100"), "{request:?}");
    }
}

#[test]
fn what_was_answered_a_moment_ago_is_not_asked_again() {
    let server = Fake::start(candidates);
    let home = Home::of(&server.api_root(), None);
    let line = ["knit", "data", "pull", "d"];
    let first = asked(&home, "fish", &line).text();
    let requests = server.all_requests().len();
    assert_eq!(asked(&home, "zsh", &line).text(), first.replace('\t', ":"));
    assert_eq!(server.all_requests().len(), requests);
    let folder = home.store().parent().unwrap().with_file_name(".cache/knit/completion");
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Another profile is another question.
    std::fs::write(home.store(), "p:\n    apiRoot: http://127.0.0.1:1/api\n    cert: {}\n").unwrap();
    assert_eq!(asked(&home, "fish", &line).text(), "");
}

#[test]
fn a_server_that_knows_no_candidates_is_not_asked_for_them() {
    let server = Fake::start(|_| json(404, &value!({"message": "Not Found"})));
    let home = Home::of(&server.api_root(), None);
    assert_eq!(asked(&home, "bash", &["knit", "data", "pull", "d"]).text(), "");
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

#[test]
fn trouble_of_any_kind_is_an_empty_answer() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    let line = ["knit", "data", "pull", "d"];
    assert_eq!(asked(&home, "bash", &line).text(), "");
    std::fs::write(home.store(), "[").unwrap();
    assert_eq!(asked(&home, "zsh", &line).text(), "");
    std::fs::remove_file(home.store()).unwrap();
    assert_eq!(asked(&home, "fish", &line).text(), "");
    for shell in ["no-shell", "../../sh", "bash"] {
        let mut command = home.command(&home.project(), &["--", "knit"]);
        let ended = Ended::from(command.env("_KNIT_COMPLETE", shell).output().unwrap());
        assert_eq!((ended.code, ended.text().as_str(), ended.stderr.as_str()), (Some(0), "", ""), "{shell}");
    }
}

#[test]
fn profiles_and_extensions_are_offered_without_a_server() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    let program = home.project().join("knit-hello");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let hint = program.display().to_string();
    assert_eq!(asked(&home, "fish", &["knit", "he"]).text(), format!("hello\t{hint}"));
    assert_eq!(asked(&home, "fish", &["knit", "profile", "use", ""]).text(), "p\thttp://127.0.0.1:1/api");
    assert_eq!(asked(&home, "bash", &["knit", "--profile", ""]).text(), "p\n");
    home.write("file-of-mine", "");
    assert!(asked(&home, "bash", &["knit", "hello", "file"]).text().contains("file-of-mine"));
    assert_eq!(asked(&home, "bash", &["knit", "plan", "apply", "file"]).text(), "file-of-mine\n");
}

#[test]
fn files_are_completed_from_here_and_from_the_home_folder() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    home.write("plans/train it.yaml", "");
    let of_home = home.store().parent().unwrap().with_file_name("plans");
    std::fs::create_dir(&of_home).unwrap();
    std::fs::write(of_home.join("a.yaml"), "").unwrap();
    let told = |word: &str| asked(&home, "bash", &["knit", "plan", "apply", word]).text();
    assert_eq!(told("pl"), "plans/\n");
    assert_eq!(told("plans/"), "plans/train\\ it.yaml\n");
    assert_eq!(told("~/plans/a"), "~/plans/a.yaml\n");
    assert_eq!(told("~/no"), "");
}

#[test]
fn a_script_is_printed_for_each_shell() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ended = home.knit(&["completion", shell]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.text().contains("_KNIT_COMPLETE"), "{ended:?}");
    }
    assert_eq!(home.knit(&["completion", "csh"]).code, Some(2));
}

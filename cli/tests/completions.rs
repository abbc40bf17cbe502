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

#[test]
fn paths_in_a_data_come_from_its_list_and_never_from_here() {
    // Folders and links have no content: the list of these can be written by hand.
    let folder = tempfile::tempdir().unwrap();
    for name in ["models/deep", "more"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("t", folder.path().join("models/link")).unwrap();
    for name in ["models/deep", "models", "more"] {
        std::fs::set_permissions(folder.path().join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let options = knit_api::bundle::PackOptions::default();
    let packed =
        knit_api::bundle::pack(folder.path(), knit_api::bundle::Form::Bundle, std::io::sink(), &options, &mut ());
    let digest = packed.unwrap().digest.unwrap().to_string();
    let record = |kind: u8, mode: u16, path: &str, target: &str| {
        let mut record = vec![kind];
        record.extend(mode.to_le_bytes());
        record.extend(u32::try_from(path.len()).unwrap().to_le_bytes());
        record.extend(path.as_bytes());
        record.extend((target.len() as u64).to_le_bytes());
        record.extend(target.as_bytes());
        record
    };
    let below = [record(b'd', 0o755, "models/deep", ""), record(b'l', 0o777, "models/link", "t")].concat();
    // A frame of zstd with one block that is stored as it is.
    let frame = |list: &[u8]| {
        let block = u32::try_from(list.len()).unwrap() << 3 | 1;
        let size = u8::try_from(list.len()).unwrap();
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, size], &block.to_le_bytes()[..3], list].concat()
    };
    let models = [b"knit-manifest 1\n".to_vec(), record(b'd', 0o755, "models", ""), below].concat();
    let all = frame(&[models.clone(), record(b'd', 0o755, "more", "")].concat());
    let models = frame(&models);
    let server = Fake::start(move |request| {
        let head = format!("X-Knit-Digest: {digest}\r\nContent-Type: application/octet-stream\r\n");
        match request.target.as_str() {
            "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["candidates", "content"]})),
            "/api/data/d1/manifest" => fake::chunked(&head, &all, ""),
            "/api/data/d1/manifest?under=models" => fake::chunked(&head, &models, ""),
            _ => candidates(request),
        }
    });
    let home = Home::of(&server.api_root(), None);
    home.write("mine", "");
    let told = |line: &[&str]| asked(&home, "fish", line).text();
    let listed = home.knit(&["data", "ls", "d1", "-o", "name"]);
    assert_eq!(listed.text(), "models\nmore\n", "{listed:?}");
    assert_eq!(told(&["knit", "data", "ls", "d1", "m"]), "models/\nmore/");
    assert_eq!(told(&["knit", "data", "cat", "d1", "mod"]), "models/");
    assert_eq!(
        told(&["knit", "--profile", "p", "data", "du", "-o", "json", "d1", "models/"]),
        "models/deep/\nmodels/link"
    );
    assert_eq!(told(&["knit", "data", "cat", "--head", "9", "d1", "models/l"]), "models/link");
    assert_eq!(told(&["knit", "data", "ls", "none", "m"]), "");
    let away = Home::of("http://127.0.0.1:1/api", None);
    away.write("mine", "");
    assert_eq!(asked(&away, "bash", &["knit", "data", "ls", "d1", "m"]).text(), "");
}

#[test]
fn a_status_that_cannot_be_asked_for_is_not_offered() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    assert_eq!(asked(&home, "fish", &["knit", "run", "find", "-s", "inv"]).text(), "");
}

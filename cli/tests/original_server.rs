//! The program against a server that behaves as v1.6.1 does: no `GET /server`, tar.gz both ways with an
//! MD5 behind it, tags in a request of their own. Nothing that it does not know may ever be sent to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

mod fake;

use fake::{Answer, Fake, Home, Request, chunked, data, json};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use md5::Digest as _;
use serde_json::{Value, json as value};
use std::io::Write as _;
use std::sync::Mutex;

fn not_found() -> Answer {
    json(404, &value!({"message": "Not Found"}))
}

/// Every path in an archive, with its kind, mode and content.
fn entries(archive: &[u8]) -> Vec<(String, u8, u32, String)> {
    let mut entries = Vec::new();
    for entry in tar::Archive::new(GzDecoder::new(archive)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
        let head = entry.header().clone();
        let path = entry.path().unwrap().display().to_string();
        if let Some(target) = entry.link_name().unwrap() {
            content = target.display().to_string();
        }
        entries.push((path, head.entry_type().as_byte(), head.mode().unwrap() & 0o777, content));
    }
    entries
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        // Set by hand, so that a hostile path can be written too.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    let mut gzip = tar.into_inner().unwrap();
    gzip.flush().unwrap();
    gzip.finish().unwrap()
}

fn md5(bytes: &[u8]) -> String {
    hex::encode(md5::Md5::digest(bytes))
}

fn pushed_to() -> Fake {
    Fake::start(|request| match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/api/data") | ("PUT", "/api/data/d1") => json(200, &data("d1")),
        _ => not_found(),
    })
}

#[test]
fn a_push_is_an_archive_with_its_checksum_and_then_the_tags() {
    let server = pushed_to();
    let home = Home::of(&server.api_root(), None);
    home.write("src/a.txt", "hello\n");
    home.write("src/sub/b", "b");
    std::os::unix::fs::symlink("a.txt", home.project().join("src/link")).unwrap();
    home.write("knitenv", "tag:\n  - project:demo\n  - a:b\n");
    let ended = home.knit(&["data", "push", "-t", "a:b", "-n", "src"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let printed: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(printed["knitId"], "d1");

    let requests = server.requests();
    let [push, tag] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(push.header("content-type"), Some("application/tar+gzip"));
    assert_eq!(push.trailers, [("x-checksum-md5".to_owned(), md5(&push.body))]);
    assert_eq!(
        entries(&push.body),
        [
            ("a.txt".to_owned(), b'0', 0o644, "hello\n".to_owned()),
            ("link".to_owned(), b'2', 0o777, "a.txt".to_owned()),
            ("sub/b".to_owned(), b'0', 0o644, "b".to_owned()),
        ]
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&tag.body).unwrap(),
        value!({"add": [{"key": "a", "value": "b"}, {"key": "project", "value": "demo"}, {"key": "name", "value": "src"}],
                "remove": [], "remove_key": []})
    );
}

#[test]
fn nothing_new_is_sent_to_it() {
    let server = pushed_to();
    let home = Home::of(&server.api_root(), None);
    home.write("src/a", "");
    home.knit(&["data", "push", "-t", "a:b", "src"]);
    home.knit(&["data", "pull", "d1"]);
    home.knit(&["run", "wait", "r1"]);
    home.knit(&["data", "find", "--sort=-time", "--limit", "1"]);
    home.knit(&["run", "find", "--sort=-updated", "--limit", "1"]);
    home.knit(&["run", "rm", "0b1c2d3e"]);
    home.knit(&["plan", "show", "name=train"]);
    for request in server.requests() {
        assert!(!request.target.contains(['?']), "{request:?}");
        for name in ["authorization", "accept-encoding", "te"] {
            assert_eq!(request.header(name), None, "{request:?}");
        }
        assert_ne!(request.header("accept"), Some("application/vnd.knit.bundle"), "{request:?}");
        assert!(!request.target.ends_with("/wait"), "{request:?}");
    }
}

#[test]
fn a_single_file_and_a_link_to_a_folder_are_pushed_as_what_they_are() {
    let server = pushed_to();
    let home = Home::of(&server.api_root(), None);
    home.write("src/a.txt", "hello\n");
    std::os::unix::fs::symlink("src", home.project().join("linked")).unwrap();
    let ended = home.knit(&["data", "push", "src/a.txt", "linked"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // One object after the other.
    assert_eq!(serde_json::Deserializer::from_slice(&ended.stdout).into_iter::<Value>().count(), 2);
    for request in server.requests().iter().filter(|r| r.method == "POST") {
        assert_eq!(entries(&request.body)[0].0, "a.txt");
    }
}

#[test]
fn what_cannot_be_read_ends_the_request_in_the_middle_and_the_rest_is_pushed() {
    let server = pushed_to();
    let home = Home::of(&server.api_root(), None);
    home.write("good/a", "a");
    home.write("bad/a", "a");
    std::os::unix::net::UnixListener::bind(home.project().join("bad/socket")).unwrap();
    let ended = home.knit(&["data", "push", "missing", "bad", "good"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("cannot push missing: ") && ended.stderr.contains("bad/socket is a"), "{ended:?}");
    assert!(ended.stderr.contains("1 of 3 sources are pushed"), "{ended:?}");
    // The broken request was never read as a whole one.
    assert_eq!(server.requests().iter().filter(|r| r.method == "POST").count(), 1);
}

#[test]
fn data_whose_tags_were_refused_is_reported_with_the_command_that_helps() {
    let server = Fake::start(|request| match request.method.as_str() {
        "POST" => json(200, &data("d1")),
        "PUT" => json(500, &value!({"message": "tags are down"})),
        _ => not_found(),
    });
    let home = Home::of(&server.api_root(), None);
    home.write("src/a", "");
    let ended = home.knit(&["data", "push", "-t", "k:it's", "src"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("tags are down"), "{ended:?}");
    assert!(ended.stderr.contains(r"knit data tag --add 'k:it'\''s' d1"), "{ended:?}");
    assert!(ended.text().contains("\"d1\""), "{ended:?}");
}

/// A server that answers a download with these bytes.
fn pulled_from(answer: impl Fn() -> Answer + Send + Sync + 'static) -> (Fake, Home) {
    let server = Fake::start(move |request: &Request| match request.target.as_str() {
        "/api/data/d1" => answer(),
        _ => not_found(),
    });
    let home = Home::of(&server.api_root(), None);
    (server, home)
}

#[test]
fn a_pull_is_checked_against_a_checksum_that_nobody_announced() {
    let bytes = archive(&[("a.txt", "hello\n"), ("sub/b", "b")]);
    let sum = md5(&bytes).to_uppercase();
    let (_server, home) = pulled_from({
        let bytes = bytes.clone();
        move || chunked("", &bytes, &format!("X-Checksum-Md5: {sum}\r\n"))
    });
    let ended = home.knit(&["data", "pull", "d1", "out"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(std::fs::read(home.project().join("out/d1.tar.gz")).unwrap(), bytes);
    assert!(!ended.stderr.contains("no checksum"), "{ended:?}");

    let ended = home.knit(&["data", "pull", "-x", "d1", "out"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(std::fs::read_to_string(home.project().join("out/d1/sub/b")).unwrap(), "b");
    assert_eq!(home.names("out"), ["d1", "d1.tar.gz"]);

    let ended = home.knit(&["data", "pull", "d1", "-"]);
    assert_eq!((ended.code, ended.stdout), (Some(0), bytes));
}

#[test]
fn a_folder_that_is_there_is_replaced_only_by_force() {
    let bytes = archive(&[("a.txt", "new")]);
    let (_server, home) = pulled_from(move || chunked("", &bytes, &format!("x-checksum-md5: {}\r\n", md5(&bytes))));
    home.write("d1/a.txt", "old");
    let ended = home.knit(&["data", "pull", "-x", "d1"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert_eq!(std::fs::read_to_string(home.project().join("d1/a.txt")).unwrap(), "old");
    let ended = home.knit(&["data", "pull", "-x", "--force", "d1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(std::fs::read_to_string(home.project().join("d1/a.txt")).unwrap(), "new");
}

/// A name, the bytes of the answer, whether the connection closes behind them, and the exit codes without and with -x.
type Case = (&'static str, Vec<u8>, bool, i32, i32);

#[test]
fn whatever_is_wrong_with_a_download_nothing_of_it_stays() {
    let good = archive(&[("a.txt", "hello\n")]);
    let wrong_sum = format!("x-checksum-md5: {}\r\n", md5(b"other"));
    let announced = "Trailer: X-Checksum-Md5\r\n";
    let cut = good[..good.len() / 2].to_vec();
    let hostile = archive(&[("../../escaped", "x")]);
    let hostile_sum = format!("x-checksum-md5: {}\r\n", md5(&hostile));
    let mut broken_off = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n".to_vec();
    broken_off.extend_from_slice(&good[..20]);
    let bytes = |answer| match answer {
        Answer::Bytes(bytes) => bytes,
        Answer::Close(_) | Answer::Early(_) => unreachable!("chunked answers with bytes"),
    };
    let cases: Vec<Case> = vec![
        ("wrong checksum", bytes(chunked("", &good, &wrong_sum)), false, 8, 8),
        ("announced checksum missing", bytes(chunked(announced, &good, "")), false, 8, 8),
        ("cut, but ended well", bytes(chunked("", &cut, "")), false, 8, 8),
        ("connection broke", broken_off, true, 1, 1),
        ("no archive at all", bytes(chunked("", b"{\"message\":\"x\"}", "")), false, 8, 8),
        ("an entry that leaves the folder", bytes(chunked("", &hostile, &hostile_sum)), false, 0, 8),
    ];
    for (name, bytes, close, saved, extracted) in cases {
        let (_server, home) =
            pulled_from(move || if close { Answer::Close(bytes.clone()) } else { Answer::Bytes(bytes.clone()) });
        let ended = home.knit(&["data", "pull", "d1", "out"]);
        assert_eq!(ended.code, Some(saved), "{name}: {ended:?}");
        let left: Vec<String> = if saved == 0 { vec!["d1.tar.gz".into()] } else { vec![] };
        assert_eq!(home.names("out"), left, "{name}");
        let ended = home.knit(&["data", "pull", "-x", "d1", "x"]);
        assert_eq!(ended.code, Some(extracted), "{name}: {ended:?}");
        assert_eq!(home.names("x"), Vec::<String>::new(), "{name}");
        assert!(!home.project().join("../escaped").exists() && !home.project().join("escaped").exists());
    }
}

#[test]
fn without_a_checksum_the_archive_is_checked_by_itself_and_that_is_said() {
    let bytes = archive(&[("a.txt", "hello\n")]);
    let (_server, home) = pulled_from(move || chunked("", &bytes, ""));
    for arguments in [&["data", "pull", "d1"][..], &["data", "pull", "-x", "d1"]] {
        let ended = home.knit(arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("sent no checksum"), "{ended:?}");
    }
}

#[test]
fn an_equal_plan_is_found_although_the_server_does_not_name_it() {
    let plan = value!({
        "planId": "p7", "image": "train:v1", "inputs": [{"path": "/in", "tags": ["a:b"], "upstreams": []}],
        "outputs": [], "active": true,
    });
    let server = Fake::start(move |request| match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/api/plans") => json(409, &value!({"message": "there is an equivalent plan"})),
        ("GET", "/api/plans?image=train%3Av1") => json(200, &value!([plan])),
        _ => not_found(),
    });
    let home = Home::of(&server.api_root(), None);
    home.write("plan.yaml", "image: train:v1\ninputs: [{path: /in, tags: ['a:b']}]\n");
    let ended = home.knit(&["plan", "apply", "plan.yaml"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("p7") && ended.text().contains("\"p7\""), "{ended:?}");
    let ended = home.knit(&["plan", "apply", "--if-absent", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    home.write("other.yaml", "image: train:v1\ninputs: [{path: /in, tags: ['a:c']}]\n");
    let ended = home.knit(&["plan", "apply", "--if-absent", "other.yaml"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("there is an equivalent plan"), "{ended:?}");
}

#[test]
fn the_end_of_a_run_is_asked_for_when_there_is_no_signal() {
    let left = Mutex::new(2);
    let server = Fake::start(move |request| match request.target.as_str() {
        "/api/runs/r1" => {
            let mut left = left.lock().unwrap();
            *left -= 1;
            json(200, &fake::run("r1", if *left > 0 { "running" } else { "done" }))
        }
        _ => not_found(),
    });
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["run", "wait", "r1", "-o", "name"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "r1\n"), "{ended:?}");
}

#[test]
fn what_is_no_archive_is_refused_at_once_although_more_is_promised() {
    let (_server, home) = pulled_from(|| {
        Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthis is not gzip at all".to_vec())
    });
    let ended = home.knit(&["data", "pull", "-x", "d1", "out"]);
    assert_eq!(ended.code, Some(8), "{ended:?}");
    assert_eq!(home.names("out"), Vec::<String>::new());
}

#[test]
fn a_data_is_looked_into_while_its_archive_passes_by() {
    let bytes = archive(&[("a.txt", "hello\n"), ("sub/b", "b"), ("sub/deep/c", "ccc")]);
    let (server, home) = pulled_from(move || chunked("", &bytes, &format!("x-checksum-md5: {}\r\n", md5(&bytes))));
    for (arguments, code, printed) in [
        (&["ls", "d1", "-o", "name"][..], 0, "a.txt\nsub\n"),
        (&["ls", "-R", "d1", "-o", "name"], 0, "a.txt\nsub\nsub/b\nsub/deep\nsub/deep/c\n"),
        (&["ls", "d1", "sub", "-o", "name"], 0, "sub/b\nsub/deep\n"),
        (&["ls", "d1", "none"], 5, ""),
        (&["cat", "d1", "sub/b"], 0, "b"),
        (&["cat", "d1", "sub"], 1, ""),
        (&["cat", "d1", "none"], 5, ""),
        (&["cat", "--head", "1", "d1", "a.txt"], 1, ""),
        (&["du", "-s", "d1", "-o", "table"], 0, "      SIZE       FILES  PATH\n        10           3  .\n"),
        (&["diff", "d1", "d1"], 0, "[]\n"),
        (&["verify", "d1"], 1, ""),
        (&["pull", "-x", "--include", "b", "d1"], 1, ""),
        (&["ls", "d2"], 5, ""),
    ] {
        let ended = home.knit(&[&["data"], arguments].concat());
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert_eq!(ended.text(), printed, "{arguments:?}: {ended:?}");
        let words = ended.stderr.trim().lines().count();
        assert!(words <= 2 && !ended.stderr.contains("Not Found") || arguments == ["ls", "d2"], "{ended:?}");
    }
    assert_eq!(home.names("."), [".knitprofile"], "nothing is written down");
    for request in server.requests() {
        assert!(request.method == "GET" && ["/api/data/d1", "/api/data/d2"].contains(&&*request.target), "{request:?}");
    }
}

#[test]
fn what_passes_by_is_checked_as_what_is_pulled() {
    let good = archive(&[("a.txt", "hello\n")]);
    let bytes = |answer| match answer {
        Answer::Bytes(bytes) => bytes,
        Answer::Close(_) | Answer::Early(_) => unreachable!("chunked answers with bytes"),
    };
    let wrong_sum = format!("x-checksum-md5: {}\r\n", md5(b"other"));
    let mut broken_off = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n".to_vec();
    broken_off.extend_from_slice(&good[..20]);
    for (name, bytes, close, code) in [
        ("wrong checksum", bytes(chunked("", &good, &wrong_sum)), false, 8),
        ("cut, but ended well", bytes(chunked("", &good[..good.len() / 2], "")), false, 8),
        ("no archive at all", bytes(chunked("", b"<html>", "")), false, 8),
        ("connection broke", broken_off, true, 1),
        ("out of order", bytes(chunked("", &archive(&[("b", ""), ("a", "")]), "")), false, 8),
    ] {
        let (_server, home) =
            pulled_from(move || if close { Answer::Close(bytes.clone()) } else { Answer::Bytes(bytes.clone()) });
        for command in [&["ls", "d1"][..], &["du", "d1"], &["diff", "d1", "d1"], &["cat", "d1", "a.txt"]] {
            if name == "out of order" && command[0] == "cat" {
                continue;
            }
            let ended = home.knit(&[&["data"], command].concat());
            assert_eq!(ended.code, Some(code), "{name}: {command:?}: {ended:?}");
        }
    }
}

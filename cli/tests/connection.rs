//! What the program does when a server refuses, vanishes, redirects or answers early, and that a token
//! goes only where it belongs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

mod fake;

use fake::{Answer, Fake, Home, data, json, run};
use serde_json::json as value;
use std::io::{Read as _, Write as _};

/// What a server of ours says of itself.
fn ours() -> Answer {
    json(200, &value!({"version": "0.1.0", "capabilities": ["bundle", "push-tags", "wait"]}))
}

#[test]
fn every_kind_of_refusal_has_its_exit_code_and_is_told_in_the_servers_words() {
    for (status, code) in [(400, 1), (401, 4), (403, 4), (404, 5), (409, 6), (500, 1), (503, 1)] {
        let server =
            Fake::start(move |_| json(status, &value!({"message": "reason here\nadvice here\n caused by:cause here"})));
        let home = Home::of(&server.api_root(), None);
        let ended = home.knit(&["plan", "show", "p1"]);
        assert_eq!(ended.code, Some(code), "{status}: {ended:?}");
        assert_eq!(
            ended.stderr, "error: cannot show the Plan p1: reason here (cause here)\n  try: advice here\n",
            "{status}"
        );
        assert_eq!(ended.text(), "");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_its_url_profile_and_what_to_do() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    let ended = home.knit(&["data", "find"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["http://127.0.0.1:1/api", "Connection refused", "knitctl status", "profile \"p\"", ".knit/profile"] {
        assert!(ended.stderr.contains(part), "{part} is missing: {ended:?}");
    }
    assert!(!ended.stderr.contains("os error"), "{ended:?}");
}

#[test]
fn a_source_of_an_image_that_is_not_there_is_a_failure_and_no_wrong_command_line() {
    let server = Fake::start(|_| {
        json(
            200,
            &value!({"version": "0.1.0", "capabilities": [], "registry": {"host": "127.0.0.1:1", "insecure": true}}),
        )
    });
    let home = Home::of(&server.api_root(), None);
    let packed = home.knit(&["image", "pack", "nowhere", "a/b:c", "--entrypoint", "/x"]);
    assert_eq!(
        (packed.code, packed.stderr.as_str()),
        (Some(1), "error: cannot pack nowhere: it cannot be read as a folder: No such file or directory\n")
    );
    let pushed = home.knit(&["image", "push", "nowhere", "a/b:c"]);
    let words = "cannot push nowhere as a/b:c: nowhere cannot be read as an image: No such file or directory";
    assert_eq!((pushed.code, pushed.stderr), (Some(1), format!("error: {words}\n")));
}

#[test]
fn a_server_of_another_kind_is_noticed() {
    let server = Fake::start(|_| {
        Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Type: text/html\r\n\r\n<html></html>".to_vec())
    });
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["data", "find"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("does not answer as a Knit server does"), "{ended:?}");
}

#[test]
fn words_of_a_server_cannot_steer_the_terminal() {
    let server = Fake::start(|_| json(400, &value!({"message": "bad \u{1b}[2J"})));
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["data", "find"]);
    assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
}

#[test]
fn what_is_meant_for_this_machine_goes_past_a_proxy() {
    let proxy = Fake::start(|_| json(502, &value!({"message": "a proxy was asked"})));
    let registry = Fake::start(|_| json(200, &value!({"repositories": []})));
    let host = format!("localhost:{}", registry.address.port());
    let server = Fake::start(move |request| {
        let registry = value!({"host": host, "insecure": true});
        match request.target.as_str() {
            "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": [], "registry": registry})),
            _ => json(200, &value!([])),
        }
    });
    let home = Home::of(&server.api_root(), Some("s3cret"));
    for arguments in [&["data", "find"], &["image", "ls"]] {
        let mut command = home.command(&home.project(), arguments);
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env(name, format!("http://{}", proxy.address));
        }
        let ended = fake::Ended::from(command.output().unwrap());
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    }
    assert!(proxy.all_requests().is_empty(), "{:?}", proxy.all_requests());
    assert!(registry.requests()[0].header("authorization").is_some(), "the registry was asked, with the token");
}

#[test]
fn a_token_is_sent_to_its_server_and_never_behind_a_redirect() {
    let stranger = Fake::start(|_| json(200, &value!([])));
    let elsewhere = format!("http://{}/api/data", stranger.address);
    let server = Fake::start(move |request| {
        if request.target == "/api/server" {
            return json(404, &value!({"message": "Not Found"}));
        }
        Answer::Bytes(
            format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n")
                .into_bytes(),
        )
    });
    let home = Home::of(&server.api_root(), Some("s3cret"));
    let ended = home.knit(&["data", "find"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer s3cret"));
    for request in stranger.all_requests() {
        assert_eq!(request.header("authorization"), None, "{request:?}");
        assert!(!format!("{request:?}").contains("s3cret"), "{request:?}");
    }
    assert!(!stranger.all_requests().is_empty());
}

#[test]
fn an_answer_that_comes_before_all_is_sent_is_the_one_that_counts() {
    let server = Fake::start(|request| {
        match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/api/server") => ours(),
        _ => Answer::Early(
            b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 36\r\n\r\n\
              {\"message\":\"the disk has no room.. \"}"
                .to_vec(),
        ),
    }
    });
    let home = Home::of(&server.api_root(), None);
    home.write("src/big", &"x".repeat(64 << 20));
    let ended = home.knit(&["data", "push", "src"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the disk has no room"), "{ended:?}");
}

#[test]
fn tags_travel_with_the_bytes_to_a_server_that_takes_them() {
    let server = Fake::start(|request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/api/server") => ours(),
        ("POST", _) => json(200, &data("d1")),
        _ => json(404, &value!({"message": "Not Found"})),
    });
    let home = Home::of(&server.api_root(), None);
    home.write("src/a", "a");
    let ended = home.knit(&["data", "push", "-t", "a:b c&d", "src"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let requests = server.requests();
    let [push] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(push.target, "/api/data?tag=a%3Ab+c%26d");
    assert_eq!(push.header("content-type"), Some("application/vnd.knit.bundle"));
    assert!(push.trailers.is_empty());
    let into = tempfile::tempdir().unwrap();
    let unpacked = knit_api::bundle::unpack(
        &push.body[..],
        knit_api::bundle::Form::Bundle,
        into.path(),
        &knit_api::bundle::Limits::default(),
        None,
        &mut (),
    );
    assert_eq!(unpacked.unwrap().entries, 1);
}

#[test]
fn waiting_ends_with_the_success_of_the_run_or_when_the_time_is_over() {
    for (status, code) in [("done", 0), ("failed", 1)] {
        let server = Fake::start(move |request| {
            if request.target == "/api/server" {
                return ours();
            }
            let mut run = run("r1", status);
            run["exit"] = value!({"code": 3, "message": "Error"});
            json(200, &run)
        });
        let ended = Home::of(&server.api_root(), None).knit(&["run", "wait", "r1"]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert_eq!(ended.stderr.contains("exit code 3: Error"), code == 1, "{ended:?}");
    }
    let server = Fake::start(|request| match request.target.as_str() {
        "/api/server" => ours(),
        _ => json(200, &run("r1", "running")),
    });
    let ended = Home::of(&server.api_root(), None).knit(&["run", "wait", "r1", "--timeout", "50ms"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
}

#[test]
fn a_log_is_followed_from_before_its_beginning_and_across_a_break() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let server = Fake::start(move |request| match request.target.as_str() {
        "/api/runs/r1/log?follow" => match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => json(503, &value!({"message": "not yet"})),
            1 => Answer::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none\nt\r\n".to_vec()),
            _ => fake::chunked("", b"one\ntwo\n", ""),
        },
        _ => json(404, &value!({"message": "Not Found"})),
    });
    let ended = Home::of(&server.api_root(), None).knit(&["run", "show", "--log", "--follow", "r1"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "one\ntwo\n"), "{ended:?}");
}

/// A Run that stands, with a reason.
fn standing(id: &str, reason: &str) -> serde_json::Value {
    let mut run = run(id, "ready");
    run["reason"] = value!(reason);
    run
}

#[test]
fn a_log_is_awaited_with_one_request_where_the_server_gives_a_signal() {
    let began = std::sync::atomic::AtomicBool::new(false);
    let server = Fake::start(move |request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["wait", "wait-until"]})),
        "/api/runs/r1/wait?until=started" => {
            began.store(true, std::sync::atomic::Ordering::SeqCst);
            json(200, &run("r1", "running"))
        }
        "/api/runs/r1/log?follow" if began.load(std::sync::atomic::Ordering::SeqCst) => fake::chunked("", b"one\n", ""),
        _ => json(503, &value!({"message": "not yet"})),
    });
    let ended = Home::of(&server.api_root(), None).knit(&["run", "show", "--log", "--follow", "r1"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "one\n"), "{ended:?}");
    assert_eq!(server.requests().len(), 3, "{:?}", server.requests());
}

#[test]
fn why_a_run_does_not_go_on_is_told_at_once_and_when_the_time_is_over() {
    let reason = "needs cpu 64, this machine has 2";
    let server = Fake::start(move |request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["wait", "wait-until"]})),
        "/api/runs/r1" => json(200, &run("r1", "ready")),
        _ => json(200, &standing("r1", reason)),
    });
    let ended = Home::of(&server.api_root(), None).knit(&["run", "wait", "r1", "--timeout", "700ms"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(server.requests().iter().any(|request| request.target == "/api/runs/r1/wait?reason="));
    let told = format!("the Run r1 is ready: {reason}\n");
    assert_eq!(ended.stderr.matches(&told).count(), 1, "{ended:?}");
    assert!(ended.stderr.starts_with(&told), "{ended:?}");
}

#[test]
fn runs_of_a_plan_that_do_not_go_on_are_named_up_to_a_bound() {
    let many: Vec<_> =
        (0..40).map(|n| standing(&format!("r{n}"), &format!("needs cpu 64 and more, {}", n % 2))).collect();
    let server = Fake::start(move |request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["wait", "wait-until"]})),
        "/api/plans/p1" => json(200, &fake::plan("p1")),
        target if target.starts_with("/api/plans/p1/wait") => json(200, &value!({"quiet": false})),
        _ => json(200, &value!(many)),
    });
    let ended = Home::of(&server.api_root(), None).knit(&["run", "wait", "--plan", "p1", "--timeout", "700ms"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let (before, after) = ended.stderr.split_once("error: ").unwrap();
    assert_eq!(before.lines().count(), 2, "each reason once: {ended:?}");
    assert_eq!(
        (after.matches("is ready: needs cpu 64").count(), after.contains("and 30 more")),
        (10, true),
        "{ended:?}"
    );
}

#[test]
fn a_log_is_recommended_only_where_there_is_one() {
    for (log, code, message, recommended) in [
        (value!({"tags": [], "knitId": "d9"}), 3, "", true),
        (value!({"tags": [], "knitId": "d9"}), 255, "no such image", false),
        (value!(null), 3, "", false),
    ] {
        let server = Fake::start(move |_| {
            let mut run = run("r1", "failed");
            run["log"] = log.clone();
            run["exit"] = value!({"code": code, "message": message});
            json(200, &run)
        });
        let ended = Home::of(&server.api_root(), None).knit(&["run", "wait", "r1"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stderr.contains("run show --log"), recommended, "{ended:?}");
    }
}

#[test]
fn tables_show_why_a_run_does_not_go_on() {
    let server = Fake::start(|request| match request.target.as_str() {
        "/api/runs/r1" => json(200, &standing("r1", "needs cpu 64")),
        "/api/server" => json(404, &value!({"message": "Not Found"})),
        _ => json(200, &value!([standing("r1", "needs cpu 64")])),
    });
    let home = Home::of(&server.api_root(), None);
    for arguments in [&["run", "show", "r1", "-o", "table"][..], &["run", "find", "--output", "table"]] {
        let ended = home.knit(arguments);
        assert!(ended.text().contains("needs cpu 64"), "{ended:?}");
    }
}

#[test]
fn an_interrupted_pull_leaves_nothing_behind() {
    let server = Fake::start(|request| match request.target.as_str() {
        // The head and the beginning of an archive; then nothing more comes, though more is promised.
        "/api/data/d1" => {
            let mut header = tar::Header::new_gnu();
            header.set_path("big").unwrap();
            header.set_size(1 << 30);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_cksum();
            let mut archive = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            archive.write_all(header.as_bytes()).unwrap();
            archive.write_all(&vec![0; 100_000]).unwrap();
            archive.flush().unwrap();
            let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec();
            bytes.extend(archive.get_ref());
            Answer::Bytes(bytes)
        }
        _ => json(404, &value!({"message": "Not Found"})),
    });
    for arguments in [&["data", "pull", "d1", "out"][..], &["data", "pull", "-x", "d1", "out"]] {
        let home = Home::of(&server.api_root(), None);
        let mut child = home.command(&home.project(), arguments).spawn().unwrap();
        // It is in the middle as soon as something stands in the folder.
        while !home.project().join("out").is_dir() || home.names("out").is_empty() {
            assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
            std::thread::yield_now();
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let status = child.wait().unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(status.code(), Some(130), "{stderr}");
        assert_eq!(home.names("out"), Vec::<String>::new(), "{stderr}");
    }
}

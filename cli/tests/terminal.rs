//! What a person sees: the program on a terminal of its own, which has a width and shows colours.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

mod fake;

use fake::{Answer, Fake, Home, json, run};
use knit_api::time::Timestamp;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json as value;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use unicode_width::UnicodeWidthStr as _;

const RUN: &str = "0b1c2d3e-aaaa-4bbb-8ccc-0123456789ab";

/// What the program writes to a terminal of this width, and how it ends.
fn on_a_terminal(home: &Home, width: u16, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    answering(home, width, environment, arguments, None)
}

/// The same, with somebody who types this as soon as there is a question mark.
fn answering(
    home: &Home,
    width: u16,
    environment: &[(&str, &str)],
    arguments: &[&str],
    mut answer: Option<&str>,
) -> (Option<i32>, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let screen = File::options().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.as_bytes())).unwrap();
    let mut command = home.command(&home.project(), arguments);
    command.env("TERM", "xterm").envs(environment.iter().copied());
    if answer.is_some() {
        command.stdin(screen.try_clone().unwrap());
    }
    command.stdout(screen.try_clone().unwrap()).stderr(screen);
    let mut child = command.spawn().unwrap();
    // Only the child holds the screen then: its end is the end of what can be read.
    drop(command);
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    let mut master = File::from(master);
    while let Ok(count @ 1..) = master.read(&mut part) {
        text.extend_from_slice(&part[..count]);
        // The cursor is hidden shortly before keys are read one by one.
        let is_asked = answer.is_some() && String::from_utf8_lossy(&text).contains("\u{1b}[?25l");
        if let Some(keys) = answer.take_if(|_| is_asked) {
            wait_until_keys_are_read(&master);
            master.write_all(keys.as_bytes()).unwrap();
        }
    }
    (child.wait().unwrap().code(), String::from_utf8(text).unwrap().replace("\r\n", "\n"))
}

/// Waits until the program takes each key as it comes. Before that an interruption is the terminal's own, which drops
/// it, because this terminal controls no session. Nothing tells of it, so this looks again and again.
fn wait_until_keys_are_read(terminal: &File) {
    let patience = Instant::now() + Duration::from_secs(30);
    while tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ICANON) {
        assert!(Instant::now() < patience, "the program asks, and reads no keys");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A server with one Run that failed three minutes ago.
fn with_a_run() -> (Fake, Home) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
    let since = Timestamp::from_micros(now - 190_000_000).to_string();
    let server = Fake::start(move |request| {
        let mut run = run(RUN, "failed");
        run["updatedAt"] = value!(since);
        run["exit"] = value!({"code": 137, "message": "the worker was killed because it was out of memory"});
        match request.target.split('?').next().unwrap() {
            "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["candidates"]})),
            "/api/candidates/runs" => json(200, &value!([{"value": RUN, "hint": "failed train:v1"}])),
            "/api/runs" => json(200, &value!([run])),
            target if target.ends_with(RUN) => json(200, &run),
            _ => json(404, &value!({"message": "not found"})),
        }
    });
    let home = Home::of(&server.api_root(), None);
    (server, home)
}

#[test]
fn a_list_is_a_table_that_fits_with_relative_times_and_colours() {
    let (_server, home) = with_a_run();
    let list = |width, environment: &[_], arguments: &[&str]| {
        on_a_terminal(&home, width, environment, &[&["run", "find"], arguments].concat())
    };
    let (code, text) = list(200, &[("NO_COLOR", "1")], &[]);
    assert_eq!(
        (code, text.as_str()),
        (
            Some(0),
            "\
ID                                    STATUS  PLAN      SINCE   RESULT
0b1c2d3e-aaaa-4bbb-8ccc-0123456789ab  failed  train:v1  3m ago  exit code 137: the worker was killed because it was out of memory
"
        )
    );
    for width in [70, 80, 100, 120] {
        let (_, text) = list(width, &[("NO_COLOR", "1")], &[]);
        assert!(text.lines().all(|line| line.width() <= usize::from(width)), "{width}:\n{text}");
        assert!(text.contains(RUN), "{width}:\n{text}");
    }
    let (_, text) = list(40, &[("TERM", "dumb")], &["--columns", "id,status"]);
    assert_eq!(text, format!("ID      {RUN}\nSTATUS  failed\n"));
    assert!(list(100, &[], &[]).1.contains("\u{1b}[38;5;1mfailed\u{1b}[39m"));
    let (_, text) = list(100, &[], &["--output", "wide"]);
    assert!(!text.contains("ago") && text.contains("out of memory  p1"), "{text}");
    assert_eq!(list(80, &[], &["--output", "name"]).1, format!("{RUN}\n"));
}

#[test]
fn a_single_thing_is_told_line_by_line_and_what_an_abbreviation_stood_for_is_said() {
    let (_server, home) = with_a_run();
    let (code, text) = on_a_terminal(&home, 80, &[("NO_COLOR", "1")], &["run", "show", "0b1c2"]);
    assert_eq!(
        (code, text),
        (
            Some(0),
            format!(
                "0b1c2 is the Run {RUN}  failed train:v1\n\
                 ID            {RUN}\n\
                 STATUS        failed\n\
                 PLAN          train:v1\n\
                 SINCE         3m ago\n\
                 RESULT        exit code 137: the worker was killed because it was out of memory\n\
                 PLAN ID       p1\n"
            )
        )
    );
    let (_, text) = on_a_terminal(&home, 80, &[], &["run", "show", RUN, "-o", "json"]);
    assert!(text.starts_with("{\n    \"runId\""), "{text}");
}

#[test]
fn a_list_that_is_replaced_in_place_has_no_torn_colours_and_fits() {
    let server = Fake::start(|request| match request.target.split('?').next().unwrap() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["events"]})),
        "/api/runs/events" => {
            let mut run = run(RUN, "failed");
            run["exit"] = value!({"code": 137, "message": "the worker was killed because it was out of memory"});
            let text = format!("event: run\ndata: {run}\n\nevent: synced\ndata: {{}}\n\nevent: run\ndata: no\n\n");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            Answer::Bytes(format!("{head}{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).into_bytes())
        }
        _ => json(404, &value!({"message": "not found"})),
    });
    let home = Home::of(&server.api_root(), None);
    for width in [60, 80, 100] {
        let (_, text) = on_a_terminal(&home, width, &[], &["run", "find", "--watch"]);
        assert!(!text.contains(char::REPLACEMENT_CHARACTER) && !text.contains("[38;5;1mfailed"), "{text:?}");
        assert!(text.contains(RUN) && text.contains("failed"), "{text:?}");
        // A board fills its lines up to the edge of the terminal.
        let drawn: Vec<char> = text.split('\u{1b}').next().unwrap().chars().collect();
        let lines: Vec<String> = drawn.chunks(usize::from(width)).map(|line| line.iter().collect()).collect();
        let is_whole =
            |line: &String| line.starts_with("STATUS  failed ") || line.starts_with(&format!("{RUN}  failed "));
        assert!(lines[0].starts_with("ID ") && lines.iter().any(is_whole), "{width}: {lines:?}");
    }
}

#[test]
fn an_interrupted_question_is_an_interruption_and_the_cursor_is_back() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    let (code, text) = answering(&home, 80, &[], &["profile", "rm", "p"], Some("\u{3}"));
    assert_eq!(code, Some(130), "{text:?}");
    assert!(text.contains("interrupted") && !text.contains("IO error"), "{text:?}");
    assert!(text.rfind("\u{1b}[?25h") > text.rfind("\u{1b}[?25l"), "{text:?}");
    let (code, text) = answering(&home, 80, &[], &["profile", "rm", "p"], Some("y"));
    assert_eq!(code, Some(0), "{text:?}");
}

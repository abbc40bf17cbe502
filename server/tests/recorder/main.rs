//! What runs beside main in a worker: `knitd wrap` and `knitd record-log`, as processes on this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "what is skipped is said")]

mod worker;

use futures_util::StreamExt as _;
use knit_server::engine::kubernetes::door::frames::How;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};
use worker::{KNITD, Worker, is_possible, sealed, text, until};

/// As much as a verbose program writes in ten seconds, and far more than any buffer holds.
const MUCH: u64 = 300_000_000;

fn sum_of(mut reader: impl io::Read) -> (u64, blake3::Hash) {
    let mut hasher = blake3::Hasher::new();
    let length = io::copy(&mut reader, &mut hasher).unwrap();
    (length, hasher.finalize())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_reaches_the_log_its_followers_and_stdout() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    let much = worker.path("much");
    let mut random = blake3::Hasher::new().finalize_xof().take(MUCH);
    io::copy(&mut random, &mut File::create(&much).unwrap()).unwrap();
    let written = sum_of(File::open(&much).unwrap());
    let mut followed = worker.get("/log?follow=true").await.bytes_stream();
    let follower = tokio::spawn(async move {
        let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
        while let Some(piece) = followed.next().await {
            let piece = piece.unwrap();
            length += piece.len() as u64;
            hasher.update(&piece);
        }
        (length, hasher.finalize())
    });
    let mut main = worker.main("cat", &[much.to_str().unwrap()]);
    let stdout = main.child.stdout.take().unwrap();
    let stdout = tokio::task::spawn_blocking(move || sum_of(stdout));
    assert_eq!(main.ends(), Some(0));
    let end = worker.end().await;
    assert_eq!(end.main.as_ref().unwrap().how, How::Exited { code: 0 });
    assert!(end.notes.is_empty() && end.main.unwrap().alone);
    assert_eq!(sum_of(File::open(worker.log_file()).unwrap()), written, "the log");
    assert_eq!(follower.await.unwrap(), written, "the follower");
    assert_eq!(stdout.await.unwrap(), written, "stdout");
}

#[tokio::test]
async fn long_lines_binary_bytes_and_a_last_line_without_an_end_are_kept_as_they_are() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    let mut bytes = vec![b'x'; 1 << 20];
    bytes.push(b'\n');
    bytes.extend((0..=255).cycle().take(100_000));
    bytes.extend(b"no end");
    let input = worker.path("input");
    fs::write(&input, &bytes).unwrap();
    let mut main = worker.shell(&format!("cat {0} >&2; exec cat {0}", input.display()));
    let mut stdout = Vec::new();
    main.child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    assert_eq!(main.ends(), Some(0));
    let end = worker.end().await;
    let twice = [&bytes[..], &bytes].concat();
    assert!(worker.log().await == twice && stdout == twice);
    assert_eq!(sealed(&end, "log").bytes, twice.len() as u64);
    let from = worker.get(&format!("/log?from={}", bytes.len() + 10)).await.bytes().await.unwrap();
    assert!(from == bytes[10..]);
    assert_eq!(worker.get("/log?from=-6").await.bytes().await.unwrap(), "no end");
}

#[tokio::test]
async fn what_an_orphan_writes_is_kept_and_nothing_outlives_main() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    let out = worker.output().join("kept");
    let script = format!(
        "sh -c '(trap \"\" TERM; sleep 0.3; echo late; sleep 60; echo never; touch {0}) & echo first'; \
         echo kept > {0}; sleep 1; exit 3",
        out.display()
    );
    let begun = Instant::now();
    let mut main = worker.shell(&script);
    assert_eq!(main.ends(), Some(3));
    assert!(begun.elapsed() < Duration::from_secs(20));
    let end = worker.end().await;
    assert_eq!(end.main.as_ref().unwrap().how, How::Exited { code: 3 });
    assert!(end.main.as_ref().unwrap().alone);
    assert_eq!(worker.log().await, b"first\nlate\n");
    assert_eq!((sealed(&end, "out").bytes, text(&out).as_str()), (5, "kept\n"));
}

#[tokio::test]
async fn outputs_and_log_are_made_final_once_main_has_ended_and_their_manifests_are_given() {
    if !is_possible() {
        return;
    }
    let mut worker = Worker::new(&[]).await;
    assert!(worker.end_within(0, false).await.is_none());
    let mut main = worker.shell(&format!("echo a > {}/file; echo said", worker.output().display()));
    assert_eq!(main.ends(), Some(0));
    let end = worker.end().await;
    let digest = sealed(&end, "out").digest.clone();
    let expected = knit_api::bundle::seal(&worker.output(), None, &knit_api::bundle::SealOptions::default()).unwrap();
    assert_eq!(digest, expected.digest.to_string());
    let manifest = worker.get(&format!("/manifests/{digest}")).await.bytes().await.unwrap();
    let mut entries = knit_api::bundle::ManifestReader::new(&manifest[..], expected.digest).unwrap();
    assert_eq!(entries.next().unwrap().unwrap().path, b"file");
    assert_eq!(worker.get(&format!("/manifests/{}", "0".repeat(64))).await.status(), 409);
    assert_eq!(sealed(&end, "log").bytes, 5);
    assert_eq!(worker.post("/seal").await, 202, "asked again it changes nothing");
    assert_eq!(worker.end().await, end);
    assert_eq!(worker.post("/done").await, 204);
    assert_eq!(worker.recorder_ends().code(), Some(0));
}

#[tokio::test]
async fn a_program_that_a_signal_ends_has_the_code_of_a_shell() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    let mut main = worker.shell("echo x; kill -SEGV $$");
    assert_eq!(main.ends(), Some(128 + 11));
    assert_eq!(worker.end().await.main.unwrap().how, How::Signalled { signal: 11 });
}

#[tokio::test]
async fn a_request_to_end_reaches_the_program_even_while_its_output_is_not_taken() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    // Nobody reads its stdout, so that it stands still when the pipe is full.
    let mut main = worker.shell(
        "trap 'exit 7' TERM; echo ready; (while :; do echo filling filling filling; done) & while :; do sleep 0.05; done",
    );
    until(|| text(&worker.log_file()).len() > 60_000);
    std::thread::sleep(Duration::from_millis(300));
    main.signal(Signal::TERM);
    // What was taken by then has to go somewhere.
    let stdout = main.child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || sum_of(stdout));
    assert_eq!(main.ends(), Some(7));
    assert_eq!(worker.end().await.main.unwrap().how, How::Exited { code: 7 });
    assert_eq!(reading.join().unwrap(), sum_of(File::open(worker.log_file()).unwrap()));
}

#[tokio::test]
async fn a_program_starts_with_no_signal_held_back_or_ignored() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    let mut main = worker.main("grep", &["-E", "^Sig(Blk|Ign):", "/proc/self/status"]);
    assert_eq!(main.ends(), Some(0));
    worker.end().await;
    let said = String::from_utf8(worker.log().await).unwrap();
    // Only of the signals that have names: those between them and the real-time ones belong to the C library.
    let named =
        |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok().map(|mask| mask & 0x7fff_ffff);
    let masks: Vec<_> = said.lines().filter_map(named).collect();
    assert_eq!(masks, [0, 0], "{said}");
}

#[tokio::test]
async fn main_goes_on_without_its_recorder() {
    if !is_possible() {
        return;
    }
    let mut worker = Worker::new(&[]).await;
    let mut main = worker.shell("for i in $(seq 1000); do echo line $i; sleep 0.002; done; exit 5");
    until(|| text(&worker.log_file()).contains("line 100\n"));
    worker.recorder.kill().unwrap();
    worker.recorder_ends();
    let mut stdout = String::new();
    main.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(main.ends(), Some(5));
    assert!(stdout.ends_with("line 1000\n") && stdout.lines().count() == 1000, "{}", stdout.len());
    let log = text(&worker.log_file());
    assert!(stdout.starts_with(&log) && log.len() < stdout.len());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_in_its_log_and_at_its_end() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    let mut main = worker.main("no-such-program", &["x"]);
    assert_eq!(main.ends(), Some(127));
    let end = worker.end().await;
    let exit = end.main.unwrap().exit(&end.notes);
    assert!(exit.code == 127 && exit.message.starts_with("\"no-such-program\" is not in the image"), "{exit:?}");
    assert!(String::from_utf8(worker.log().await).unwrap().starts_with("[knit] \"no-such-program\" is not in"));
}

#[tokio::test]
async fn nothing_is_final_as_long_as_a_first_process_that_vanished_may_have_left_others() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    let main = worker.shell("echo begun; sleep 60");
    until(|| text(&worker.log_file()) == "begun\n");
    main.signal(Signal::KILL);
    let end = worker.end_within(20, false).await.expect("main ends");
    assert!(end.main.is_none() && end.sealed.is_none());
    assert!(worker.end_within(1, true).await.is_none());
    assert_eq!(worker.post("/seal").await, 202);
    assert_eq!(sealed(&worker.end().await, "log").bytes, 6);
}

#[tokio::test]
async fn only_main_itself_is_recorded() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&[]).await;
    let mut main = worker.shell("echo begun; sleep 0.5");
    until(|| text(&worker.log_file()) == "begun\n");
    assert!(UnixStream::connect(worker.socket()).is_err());
    assert_eq!(main.ends(), Some(0));
    assert_eq!(worker.end().await.main.unwrap().how, How::Exited { code: 0 });
}

#[tokio::test]
async fn a_main_that_sends_nonsense_ends_the_log_and_not_the_recorder() {
    let worker = Worker::new(&[]).await;
    let mut liar = UnixStream::connect(worker.socket()).unwrap();
    io::Write::write_all(&mut liar, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let end = worker.end_within(20, false).await.expect("it is cut off");
    assert!(end.main.is_none() && end.notes[0].contains("a frame that cannot be"), "{:?}", end.notes);
}

#[tokio::test]
async fn a_recorder_that_is_asked_to_end_waits_for_main_and_then_for_a_server() {
    if !is_possible() {
        return;
    }
    let mut worker = Worker::new(&[]).await;
    let mut main = worker.shell("echo begun; sleep 1; echo ended");
    until(|| text(&worker.log_file()) == "begun\n");
    terminate(&worker);
    assert_eq!(main.ends(), Some(0));
    let end = worker.end().await;
    assert_eq!(sealed(&end, "log").bytes, 12);
    assert_eq!(worker.recorder_ends().code(), Some(0), "nobody comes for more");
}

#[tokio::test]
async fn a_recorder_that_is_asked_to_end_before_main_has_started_ends() {
    let mut worker = Worker::new(&[]).await;
    terminate(&worker);
    assert_eq!(worker.recorder_ends().code(), Some(0));
    assert!(UnixStream::connect(worker.socket()).is_err(), "main cannot start any more");
}

#[tokio::test]
async fn a_door_asks_for_its_token() {
    let worker = Worker::new(&[]).await;
    assert_eq!(worker.get("/end").await.status(), 200);
    assert_eq!(worker.get_without_token("/end").await, 401);
}

#[tokio::test]
async fn a_log_is_cut_at_its_limit_and_that_is_said_at_its_end() {
    if !is_possible() {
        return;
    }
    let worker = Worker::new(&["--log-limit", "10"]).await;
    let mut main = worker.shell("echo 0123456789abc; sleep 0.2; echo more");
    assert_eq!(main.ends(), Some(0));
    let end = worker.end().await;
    assert_eq!(end.notes, ["the log was cut at its limit of 10 bytes"]);
    let log = String::from_utf8(worker.log().await).unwrap();
    assert!(log.starts_with("0123456789\n[knit] ") && !log.contains("more"), "{log}");
}

#[test]
fn nobody_calls_wrap_by_hand() {
    let called = Command::new(KNITD).args(["wrap", "--", "true"]).output().unwrap();
    assert_eq!(called.status.code(), Some(2));
    assert!(String::from_utf8(called.stdout).unwrap().contains("first process of a container"));
}

fn terminate(worker: &Worker) {
    let recorder = rustix::process::Pid::from_child(&worker.recorder);
    rustix::process::kill_process(recorder, Signal::TERM).unwrap();
}

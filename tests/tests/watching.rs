//! Waiting for what one has set going, and watching it: from the push to the end of the last Run.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::processes::Process;
use knit_tests::{Ran, Step, World, able, cluster, embedded_only};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

/// A step from one tag to the next.
fn step(image: &str, script: &str, from: &str, to: &str) -> Step {
    Step::new(image, script).input("/in", &[from]).output("/out", &[to]).log(&["type:log"])
}

fn push(world: &World, folder: &Path, tag: &str, more: &[&str]) -> Ran {
    world.knit(&[&["data", "push", "--tag", tag, folder.to_str().expect("a UTF-8 path")], more].concat())
}

/// Statuses of the Runs of a Plan.
fn statuses(world: &World, plan: &str) -> Vec<Value> {
    world.runs_of(plan).iter().map(|run| run["status"].clone()).collect()
}

#[test]
fn a_push_waits_for_the_whole_pipeline_and_for_nothing_else() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let first = world.apply(&step(&image, "cp /in/n /out/n", "step:0", "step:1"));
    let second = world.apply(&step(&image, "sleep 1; cp /in/n /out/n", "step:1", "step:2"));
    let endless = world.apply(&step(&image, "sleep 600", "other:0", "other:1"));
    let folder = world.folder("data", &[("n", b"7")]);
    push(&world, &folder, "other:0", &[]).ok();

    let ran = push(&world, &folder, "step:0", &["--wait"]).ok();
    assert!(ran.json()["knitId"].is_string(), "{ran}");
    assert_eq!((statuses(&world, &first), statuses(&world, &second)), (vec!["done".into()], vec!["done".into()]));
    for plan in [&first, &second] {
        let run = world.the_run_of(plan);
        assert_eq!(ran.stderr.matches(&format!("run {run}: done\n")).count(), 1, "{ran}");
    }
    let slow = format!("run {}: running\n", world.the_run_of(&second));
    // A cluster may tell of a short Run's start no sooner than of its end.
    assert!(cluster::chosen() || ran.stderr.contains(&slow), "{ran}");
    let other = world.the_run_once_it_is_there(&endless);
    assert!(!ran.stderr.contains(&other), "{ran}");

    let top = world.knit(&["run", "top"]).ok().json();
    assert_eq!((&top[0]["runId"], top.as_array().map(Vec::len)), (&Value::from(other.as_str()), Some(1)), "{top:#}");
    assert_eq!(top[0]["resources"]["memory"], "64Mi");
    let table = world.knit(&["run", "top", "-o", "table"]).ok().text();
    assert!(table.contains("100m") && table.contains(&image), "{table}");

    let third = step(&image, "cp /in/n /out/n", "step:2", "step:3").yaml();
    let plan = world.try_apply(&third, &["--wait"]).ok().json()["planId"].as_str().expect("an id").to_owned();
    assert_eq!(statuses(&world, &plan), ["done"]);
    world.try_apply(&third, &["--wait", "--if-absent"]).ok();
    push(&world, &folder, "nobody:asks", &["--wait"]).ok().says(&["no run has come of"]);
    world.knit(&["run", "stop", "--fail", &other]).ok();
}

#[test]
fn a_wait_fails_with_a_run_and_gives_up_when_its_time_is_over() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    world.apply(&step(&image, "cp /in/n /out/n", "step:0", "step:1"));
    let failing = world.apply(&step(&image, "exit 3", "step:1", "step:2"));
    let folder = world.folder("data", &[("n", b"7")]);
    let ran = push(&world, &folder, "step:0", &["--wait"]);
    let run = world.the_run_of(&failing);
    let ran = ran.fails(1, &["exit code 3", "knit run why", "knit run show --log", &run]);
    assert!(ran.json()["knitId"].is_string(), "the Data is printed all the same: {ran}");

    let slow = world.apply(&step(&image, "sleep 600", "slow:0", "slow:1"));
    let ran = push(&world, &folder, "slow:0", &["--wait", "--timeout", "2s"]).fails(7, &["not over yet", "go on"]);
    let run = world.the_run_of(&slow);
    assert!(ran.stderr.contains(&run), "{ran}");
    assert_ne!(statuses(&world, &slow), ["failed"]);
    world.knit(&["run", "stop", "--fail", &run]).ok();
    world.knit(&["run", "wait", &run]).code(1);
    world.knit(&["run", "show", "--exit-code", &run]).fails(1, &["failed"]);
}

#[test]
fn a_log_is_followed_from_before_the_start_and_the_fate_of_the_run_is_that_of_the_command() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let folder = world.folder("data", &[("n", b"7")]);
    for (tag, script, code, last) in [
        ("good:0", "echo one; sleep 1; echo two", 0, "two\n"),
        ("bad:0", "echo one; sleep 1; echo three; exit 4", 1, "three\n"),
    ] {
        let plan = world.apply(&step(&image, script, tag, "x:y"));
        push(&world, &folder, tag, &[]).ok();
        let run = world.the_run_once_it_is_there(&plan);
        let ran = world.knit(&["run", "show", "--log", "--follow", "--exit-code", &run]).code(code);
        assert_eq!(ran.text(), format!("one\n{last}"), "{ran}");
        if code == 1 {
            ran.says(&["exit code 4", &run]);
        }
    }
    // It never starts, and so has no log.
    let plan = world.apply(&step("nobody/pushed:v1", "true", "missing:0", "x:y"));
    push(&world, &folder, "missing:0", &[]).ok();
    let run = world.the_run_once_it_is_there(&plan);
    world.knit(&["run", "show", "--log", "--follow", "--exit-code", &run]).fails(1, &["failed", "exit code 255"]);
    world.knit(&["run", "show", "--log", "--follow", "--exit-code", "nosuchrun"]).code(5);
}

#[test]
fn an_interrupted_wait_says_that_the_runs_go_on() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let plan = world.apply(&step(&image, "sleep 600", "slow:0", "slow:1"));
    let folder = world.folder("data", &[("n", b"7")]);
    let mut command = world.command(world.program("knit"));
    command.args(["data", "push", "--wait", "--tag", "slow:0"]).arg(&folder);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("knit");
    let mut watching = world.follow(&["run", "find", "--watch", "--planid", &plan]);
    watching.until("\"running\"");
    let process = Process::open(i32::try_from(child.id()).expect("a process id")).expect("it waits");
    process.interrupt();
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("go on") && said.contains("interrupted"), "{said}");
    let run = world.the_run_of(&plan);
    assert_eq!(statuses(&world, &plan), ["running"]);

    world.knit(&["run", "stop", "--fail", &run]).ok();
    watching.until("\"failed\"");
    world.knit(&["run", "rm", &run]).ok();
    watching.until("\"invalidated\"");
}

#[test]
fn a_wait_outlives_a_restart_of_the_server() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let plan = world.apply(&step(&image, "sleep 6; cp /in/n /out/n", "step:0", "step:1"));
    let folder = world.folder("data", &[("n", b"7")]);
    let mut command = world.command(world.program("knit"));
    command.args(["data", "push", "--wait", "--tag", "step:0"]).arg(&folder);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("knit");
    world.follow(&["run", "find", "--watch", "--planid", &plan]).until("\"running\"");
    world.crash_and_restart();
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{said}\n{}", world.log_tail());
    let run = world.the_run_of(&plan);
    assert_eq!(said.matches(&format!("run {run}: done\n")).count(), 1, "{said}");
}

#[test]
fn a_followed_log_begins_anew_with_a_run_that_was_put_back() {
    if embedded_only("workers of a cluster go on without a server") || !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let plan = world.apply(&step(&image, "echo begun; sleep 4; echo over; exit 5", "step:0", "step:1"));
    push(&world, &world.folder("data", &[("n", b"7")]), "step:0", &[]).ok();
    let run = world.the_run_once_it_is_there(&plan);
    let mut log = world.follow(&["run", "show", "--log", "--follow", "--exit-code", &run]);
    log.until("begun");
    world.down(&[]).ok();
    world.up(&[]).ok();
    let (printed, code) = log.finish();
    assert_eq!(String::from_utf8_lossy(&printed), "begun\nbegun\nover\n", "{}", world.log_tail());
    assert_eq!(code, Some(1));
}

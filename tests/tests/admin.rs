//! What an operator does: up, down, status, and everything that may be in the way.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::{Step, World, able};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_second_up_changes_nothing_and_says_what_is_set_otherwise() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::new();
    world.up(&[]).ok().says(&["is up", "API", "registry", "handout"]);
    let before = (world.installation(), world.server().expect("it runs").pid, world.token());
    world.up(&[]).ok().says(&["runs already"]);
    world.up(&["--no-auth"]).ok().says(&["runs already", "token"]);
    let said = world.up(&["--worker-network", "host"]).ok().says(&["runs already", "network", "host"]);
    world.up(&["--no-auth", "--worker-network", "host"]).fails(2, &["token", "network", "--auth"]);
    assert!(said.stderr.contains("knitctl down"), "it says how to change that: {said}");
    assert_eq!((world.installation(), world.server().expect("it runs").pid, world.token()), before);
}

#[test]
fn ports_and_token_outlive_down_and_up() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let before = (world.api(), world.registry(), world.token());
    let data = world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    world.down(&[]).ok().says(&["has stopped", "no run was under way"]);
    world.down(&[]).ok().says(&["no knit runs"]);
    world.knitctl(&["up", "--dir", world.dir().to_str().expect("UTF-8")]).ok();
    assert_eq!((world.api(), world.registry(), world.token()), before);
    world.pull(&data);
}

#[test]
fn down_puts_back_what_was_under_way_and_it_starts_anew() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    // The output is empty at each start: leftovers of the first attempt would make the second one fail.
    let script = "echo begun; mkdir /out/once || exit 9; [ -e /in/go ] || sleep 600; echo whole";
    let step = Step::new(&image, script).input("/in", &["a:b"]).output("/out", &["c:d"]).log(&["e:f"]);
    let plan = world.apply(&step);
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    world.follow_log(&run).until("begun");
    world.down(&[]).ok().says(&["1 run was under way", &run, &image]);
    world.nothing_executes();
    world.up(&[]).ok();
    world.follow_log(&run).until("begun");
    world.knit(&["run", "stop", &run]).ok();
    world.all_done(&plan);
    assert_eq!(world.the_run_of(&plan), run);
}

#[test]
fn status_is_a_table_for_people_and_json_for_scripts() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::new();
    world.status(&[]).code(1).says(&["no installation"]);
    world.up(&[]).ok();
    let status = world.status(&["-o", "json"]).ok().json();
    assert_eq!(status["running"], true);
    assert_eq!(status["auth"], true);
    assert_eq!(status["workerNetwork"], "none");
    assert_eq!(status["pid"], world.server().expect("it runs").pid);
    for part in ["database", "engine", "registry"] {
        assert_eq!(status[part]["ok"], true, "{part}: {status:#}");
    }
    let table = world.status(&["-o", "table"]).ok().text();
    for part in ["server", "database", "engine", "registry", "disk", "Runs"] {
        assert!(table.lines().any(|line| line.starts_with(part)), "{part} is missing:\n{table}");
    }
    world.down(&[]).ok();
    let down = world.status(&["-o", "json"]).code(1).says(&["is stopped", "knitctl up"]);
    assert_eq!(down.json()["running"], false);
}

#[test]
fn a_killed_server_is_seen_as_stopped_and_comes_up_again() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let data = world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    world.kill_server();
    world.status(&[]).code(1).says(&["is stopped"]);
    world.down(&[]).ok().says(&["no knit runs"]);
    world.up(&[]).ok().says(&["is up"]);
    world.pull(&data);
}

#[test]
fn ports_in_use_are_named_with_the_flag_that_changes_them() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("its address").port().to_string();
    world.up(&["--port", &port]).fails(6, &[&port, "in use", "--port"]);
    world.up(&["--registry-port", &port]).fails(6, &[&port, "in use", "--registry-port"]);
    world.up(&["--port", &port, "--registry-port", &port]).fails(2, &[&port, "both"]);
    assert!(world.server().is_none());
}

#[test]
fn folders_that_cannot_be_used_are_refused() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::new();
    fs::create_dir(world.dir()).expect("a folder");
    fs::write(world.dir().join("thesis.tex"), "x").expect("a file");
    world.up(&[]).fails(6, &["thesis.tex", "--dir"]);
    assert_eq!(fs::read_dir(world.dir()).expect("it is there").count(), 1, "nothing was laid beside it");
    let file = world.base().join("file");
    fs::write(&file, "x").expect("a file");
    let file = file.to_str().expect("UTF-8");
    world.knitctl(&["up", "--dir", file]).fails(1, &["not a directory", "--dir"]);
}

#[test]
fn without_roots_rights_it_says_how_to_get_them() {
    if !able(&[ROOT, "setpriv"]) {
        return;
    }
    let world = World::new();
    let knitctl = world.program("knitctl").to_str().expect("UTF-8").to_owned();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", &knitctl, "up", "--port", "0"];
    world.run("setpriv", &nobody).fails(4, &["root", "sudo knitctl up --port 0"]);
}

#[test]
fn a_server_program_that_is_missing_or_broken_is_said() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::new();
    world.up(&["--knitd", "/no/such/knitd"]).fails(5, &["/no/such/knitd", "--knitd"]);
    let broken = world.base().join("knitd");
    fs::write(&broken, "#!/bin/sh\necho it cannot be >&2\nexit 3\n").expect("a file");
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).expect("its mode");
    world.up(&["--knitd", broken.to_str().expect("UTF-8")]).fails(1, &["it cannot be", "knitd.log"]);
    world.up(&[]).ok();
}

#[test]
fn the_profile_is_registered_and_an_own_choice_is_respected() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::new();
    world.up(&["--no-register"]).ok().says(&["knit init"]);
    assert!(!world.home().join(".knit").exists());
    world.up(&[]).ok();
    assert_eq!(fs::read_to_string(world.home().join(".knit/current")).expect("it is set").trim(), "local");
    world.knit(&["data", "find"]).ok();

    fs::write(world.home().join(".knit/current"), "mine\n").expect("a file");
    world.up(&[]).ok().says(&["mine", "--profile local"]);
    assert_eq!(fs::read_to_string(world.home().join(".knit/current")).expect("it is set").trim(), "mine");
    world.knit(&["--profile", "local", "data", "find"]).ok();
}

#[test]
fn two_installations_stand_beside_each_other() {
    if !able(&[ROOT]) {
        return;
    }
    let (one, other) = (World::start(), World::start());
    one.push(&one.folder("x", &[("x", b"x")]), &["a:b"]);
    assert_eq!(one.find_data(&[]).len(), 1);
    assert!(other.find_data(&[]).is_empty());
    let second = one.run(
        one.program("knitd").to_str().expect("UTF-8"),
        &[
            "serve",
            "--dir",
            one.dir().to_str().expect("UTF-8"),
            "--listen",
            "127.0.0.1:0",
            "--registry-listen",
            "127.0.0.1:0",
            "--no-auth",
        ],
    );
    assert_ne!(second.code, Some(0), "one folder has one server: {second}");
    one.status(&[]).ok();
}

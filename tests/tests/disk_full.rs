//! A disk that is full: what does not fit is refused whole, and everything else goes on.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::wire::Request;
use knit_tests::world::tree;
use knit_tests::{Chance, Step, World, able};
use serde_json::json;
use std::fs;

#[test]
fn a_push_that_does_not_fit_is_refused_and_leaves_its_room() {
    if !able(&[ROOT, "mount"]) {
        return;
    }
    let world = World::new();
    let disk = world.base().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let at = disk.to_str().expect("UTF-8").to_owned();
    world.run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs", &at]).ok();
    let world = world.installed_in(disk.join("knit"));
    world.up(&[]).ok();

    let mut chance = Chance::of("a_push_that_does_not_fit_is_refused_and_leaves_its_room", 7);
    let small = world.folder("small", &[("a", &chance.bytes(1 << 20))]);
    let kept = world.push(&small, &["kept:yes"]);
    let large = world.folder("large", &[("a", &chance.bytes(48 << 20)), ("b", &chance.bytes(48 << 20))]);
    for attempt in 0..3 {
        world.try_push(&large, &["kept:no"]).fails(1, &["disk is full"]);
        assert!(world.find_data(&["kept:no"]).is_empty(), "attempt {attempt}");
        world.no_volume_is_left_over();
    }
    world.status(&[]).ok();
    assert_eq!(tree(&world.pull(&kept)), tree(&small));
    world.push(&small, &["kept:too"]);
    world.crash_and_restart();
    assert_eq!(tree(&world.pull(&kept)), tree(&small));
}

#[test]
fn a_container_that_fills_the_disk_fails_and_the_server_goes_on() {
    if !able(&[ROOT, BUSYBOX, "mount"]) {
        return;
    }
    let world = World::new();
    let disk = world.base().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let at = disk.to_str().expect("UTF-8").to_owned();
    world.run("mount", &["-t", "tmpfs", "-o", "size=48m", "tmpfs", &at]).ok();
    let world = world.installed_in(disk.join("knit"));
    world.up(&[]).ok();
    let image = world.busybox();
    // On this disk, what is written counts as memory.
    let step = Step::new(&image, "cat /dev/zero > /out/zeros; echo could not write more; exit 3")
        .input("/in", &["a:b"])
        .output("/out", &["c:d"])
        .log(&["e:f"])
        .set("resources", json!({"cpu": "100m", "memory": "256Mi"}));
    let plan = world.apply(&step);
    let pushed = world.folder("x", &[("x", b"x")]);
    let data = world.push(&pushed, &["a:b"]);

    let server = world.server().expect("the server runs").pid;
    let refused = world.until_answered("/readyz", 503);
    world.until_containers_have_ended();
    assert!(String::from_utf8_lossy(&refused.body).contains("disk is full"), "it says why");
    world.request(Request::new("GET", "/healthz")).status(200);
    world.status(&[]).fails(1, &[]);
    assert!(world.status(&[]).text().contains("the disk is full"));
    world.try_push(&pushed, &["a:c"]).fails(1, &["disk is full"]);
    // More than the server's own log has room for: it is on the same disk.
    for _ in 0..100 {
        world.request(Request::new("GET", "/api/runs")).status(200);
    }
    assert_eq!(tree(&world.pull(&data)), tree(&pushed), "what is there can be read");

    world.run("mount", &["-o", "remount,size=160m", &at]).ok();
    let run = world.failed_run_of(&plan);
    assert_eq!(run["exit"]["code"], 3, "{run:#}");
    assert!(run["exit"]["message"].as_str().is_some_and(|said| said.contains("disk was full")), "{run:#}");
    assert_eq!(world.server().expect("the server runs").pid, server, "it was the same all the time");
    world.until_answered("/readyz", 200);
    world.status(&[]).ok();
    world.push(&pushed, &["a:c"]);
    world.nothing_executes();
    world.no_volume_is_left_over();
}

#[test]
fn an_installation_without_any_room_says_so() {
    if !able(&[ROOT, "mount"]) {
        return;
    }
    let world = World::new();
    let disk = world.base().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let at = disk.to_str().expect("UTF-8").to_owned();
    world.run("mount", &["-t", "tmpfs", "-o", "size=16k", "tmpfs", &at]).ok();
    let world = world.installed_in(disk.join("knit"));
    world.up(&[]).fails(1, &["no space"]);
    assert!(world.server().is_none());
}

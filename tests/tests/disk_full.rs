//! A disk that is full: what does not fit is refused whole, and everything else goes on.

use knit_tests::able::ROOT;
use knit_tests::world::tree;
use knit_tests::{Chance, World, able};
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

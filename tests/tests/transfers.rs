//! The edges of push and pull: whatever is pushed arrives as it is or not at all, and whatever ends a transfer in the
//! middle leaves nothing half.

use knit_tests::able::{NODE, ROOT};
use knit_tests::ran::Following;
use knit_tests::world::tree;
use knit_tests::{Chance, World, able, cluster};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Long enough that a story can end it while it travels; a hole takes no room at its source.
const ENDLESS: u64 = 16 << 30;
/// Long enough that a story can do something while it is read.
const LONG: u64 = 256 << 20;
/// A Data that takes a while to come back.
const LARGE: usize = 384 << 20;

/// Waits until this is so, looking again and again: nothing announces it.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    // A cluster starts a Pod first, and each look at it costs a process.
    let (limit, pause) = if cluster::chosen() {
        (Duration::from_mins(3), Duration::from_millis(200))
    } else {
        (Duration::from_mins(1), Duration::from_millis(2))
    };
    let patience = Instant::now() + limit;
    while !so() {
        assert!(Instant::now() < patience, "{what} does not happen");
        std::thread::sleep(pause);
    }
}

/// Something with this beginning in a folder, with content in it.
fn grows(folder: &Path, beginning: &str) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut found = names.filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning));
    found.any(|entry| bytes_in(&entry.path()) > 0)
}

fn bytes_in(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            fs::read_dir(path).into_iter().flatten().filter_map(Result::ok).map(|entry| bytes_in(&entry.path())).sum()
        }
        Ok(found) => found.len(),
        Err(_) => 0,
    }
}

/// Starts a push, and returns once the server has begun to receive it.
fn push_under_way(world: &World, folder: &Path, tag: &str) -> Following {
    // What an earlier one left must not be taken for this one.
    until_nothing_is_half(world);
    let push = world.follow(&["data", "push", "-t", tag, folder.to_str().expect("UTF-8")]);
    until("the push", || world.unfinished().iter().any(|volume| bytes_in(volume) > 0));
    push
}

/// A folder with something of this length to read first, then these files.
fn slow_folder(world: &World, name: &str, length: u64, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = world.folder(name, files);
    File::create(folder.join("0-long")).and_then(|file| file.set_len(length)).expect("a hole takes no room");
    folder
}

/// Waits until nothing is left of what the server was receiving.
#[track_caller]
fn until_nothing_is_half(world: &World) {
    until("the end of what was received", || world.unfinished().is_empty());
    world.no_volume_is_left_over();
}

#[test]
fn a_file_an_empty_folder_a_linked_folder_and_several_sources_arrive_as_they_are() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let folder = world.folder("sources", &[("one.txt", b"one"), ("empty/", b""), ("sub/two", b"two")]);
    symlink("sub", folder.join("linked")).expect("a link");
    symlink("one.txt", folder.join("linked.txt")).expect("a link");
    let at = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let names = |pulled: PathBuf| tree(&pulled).into_keys().map(|path| path.display().to_string()).collect::<Vec<_>>();

    for (source, holds) in [
        ("one.txt", &["one.txt"][..]),
        ("empty", &[]),
        ("linked", &["two"]),
        ("linked/", &["two"]),
        ("linked.txt", &["linked.txt"]),
    ] {
        let pushed = world.knit(&["data", "push", "-o", "name", &at(source)]).ok().text();
        assert_eq!(names(world.pull(pushed.trim())), holds, "{source}");
    }
    let all = [at("one.txt"), at("none"), at("empty"), at("linked")];
    let pushed = world.knit(&["data", "push", "-n", "-o", "name", &all[0], &all[1], &all[2], &all[3]]);
    let pushed = pushed.fails(3, &["cannot push", "none", "3 of 4"]).text();
    assert_eq!(pushed.lines().count(), 3, "{pushed}");
    for name in ["one.txt", "empty", "linked"] {
        world.the_data(&[&format!("name:{name}")]);
    }
    world.knit(&["data", "push", &at("none")]).fails(1, &["none", "no such file"]);
    world.knit(&["data", "push", ""]).fails(2, &["source"]);
    world.no_volume_is_left_over();
}

/// What somebody does to a folder while it is read.
type Change = fn(&Path);

#[test]
fn a_folder_that_changes_while_it_is_read_is_refused_or_arrives_as_it_was_read() {
    if !able(&[NODE, ROOT]) {
        return;
    }
    let world = World::start();
    let cases: [(&str, Change, &str); 8] = [
        (
            "grows",
            |at| File::options().append(true).open(at.join("0-long")).and_then(|mut f| f.write_all(b"x")).expect("x"),
            "0-long changed",
        ),
        (
            "shrinks",
            |at| File::options().write(true).open(at.join("0-long")).and_then(|f| f.set_len(1)).expect("x"),
            "0-long changed",
        ),
        ("loses a file", |at| fs::remove_file(at.join("z")).expect("x"), "z: no such file"),
        ("gets a file", |at| fs::write(at.join("new"), b"x").expect("x"), "changed while it was read"),
        ("gets a file for another", |at| fs::rename(at.join("y"), at.join("z")).expect("x"), "y: no such file"),
        (
            "gets a folder for a file",
            |at| {
                fs::remove_file(at.join("y")).and_then(|()| fs::create_dir(at.join("y"))).expect("x");
            },
            "",
        ),
        ("loses a folder", |at| fs::remove_dir_all(at.join("sub")).expect("x"), "sub: no such file"),
        (
            "gets a pipe",
            |at| {
                fs::remove_file(at.join("z")).expect("x");
                rustix::fs::mknodat(rustix::fs::CWD, at.join("z"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
                    .expect("x");
            },
            "",
        ),
    ];
    for (name, change, why) in cases {
        let folder = slow_folder(&world, name, LONG, &[("sub/a", b"a"), ("y", b"y"), ("z", b"z")]);
        let tag = format!("case:{}", name.replace(' ', "-"));
        let push = push_under_way(&world, &folder, &tag);
        change(&folder);
        let (said, code) = push.finish_with_stderr();
        assert_eq!(code, Some(1), "{name}: {said}");
        assert!(said.to_lowercase().contains(why) && said.contains("cannot push"), "{name}: {said}");
        assert!(world.find_data(&[&tag]).is_empty(), "{name}: nothing of it is registered");
    }
    // In place, and as long as before.
    let folder = slow_folder(&world, "is overwritten", LONG, &[]);
    let push = push_under_way(&world, &folder, "case:overwritten");
    let mut file = File::options().write(true).open(folder.join("0-long")).expect("it is there");
    file.seek(SeekFrom::Start(LONG - 100)).and_then(|_| file.write_all(b"changed")).expect("it can be written");
    let (said, code) = push.finish_with_stderr();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("0-long changed while it was read"), "{said}");
    until_nothing_is_half(&world);
}

#[test]
fn a_file_that_is_changed_before_it_is_read_arrives_in_its_new_form() {
    if !able(&[NODE, ROOT]) {
        return;
    }
    let world = World::start();
    let folder = slow_folder(&world, "early", LONG, &[("sub/z", b"old")]);
    let push = push_under_way(&world, &folder, "case:early");
    fs::write(folder.join("sub/z"), b"much newer").expect("it can be written");
    let (said, code) = push.finish_with_stderr();
    assert_eq!(code, Some(0), "{said}");
    let data = world.the_data(&["case:early"]);
    assert_eq!(world.knit(&["data", "cat", &data, "sub/z"]).ok().text(), "much newer");
    world.knit(&["data", "verify", &data, folder.to_str().expect("UTF-8")]).ok();
}

#[test]
fn a_push_that_is_interrupted_leaves_nothing_on_the_server() {
    if !able(&[NODE, ROOT]) {
        return;
    }
    let world = World::start();
    let folder = slow_folder(&world, "long", ENDLESS, &[]);
    for (signal, tag) in [(Signal::INT, "by:int"), (Signal::TERM, "by:term")] {
        let push = push_under_way(&world, &folder, tag);
        push.signal(signal);
        let (said, code) = push.finish_with_stderr();
        assert_eq!(code, Some(130), "{said}");
        assert!(said.contains("interrupted"), "{said}");
        assert!(world.find_data(&[tag]).is_empty());
        until_nothing_is_half(&world);
    }
}

#[test]
fn a_push_whose_server_is_killed_says_so_and_nothing_of_it_is_there_afterwards() {
    if !able(&[NODE, ROOT]) {
        return;
    }
    let mut world = World::new();
    if cluster::chosen() {
        // What a killed server leaves there is housekeeping's, which usually takes its time.
        world.serve_with(&["--housekeeping", "5s", "--stray-grace", "20s"]);
    }
    world.up(&[]).ok();
    let folder = slow_folder(&world, "long", ENDLESS, &[]);
    let push = push_under_way(&world, &folder, "a:b");
    world.kill_server();
    let (said, code) = push.finish_with_stderr();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot push") && said.contains("the connection to"), "{said}");
    world.up(&[]).ok();
    assert!(world.find_data(&["a:b"]).is_empty());
    until_nothing_is_half(&world);
}

/// A Data that takes a while to travel.
fn large(world: &World) -> String {
    let folder = world.folder("large", &[("a", b"first")]);
    let mut file = File::create(folder.join("b")).expect("a file");
    // What does not shrink.
    let piece = Chance::of("large", 5).bytes(1 << 20);
    for _ in 0..LARGE >> 20 {
        file.write_all(&piece).expect("room");
    }
    world.push(&folder, &["a:large"])
}

/// The ways to pull: arguments before the id, and what stands in the destination in the end.
const WAYS: [(&[&str], &str); 3] = [(&[], ".tar.gz"), (&["-x"], ""), (&["--format", "tar"], ".tar")];

/// Starts a pull, and returns once something has arrived.
fn pull_under_way(world: &World, way: &[&str], data: &str, into: &Path) -> Following {
    let into_text = into.to_str().expect("UTF-8");
    let pull = world.follow(&[&["data", "pull"], way, &[data, into_text]].concat());
    until("the pull", || grows(into, ".knit-"));
    pull
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_pull_that_ends_in_the_middle_leaves_nothing_in_its_place() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let data = large(&world);
    let into = world.base().join("into");
    for (way, _) in WAYS {
        for signal in [Signal::INT, Signal::TERM] {
            let pull = pull_under_way(&world, way, &data, &into);
            pull.signal(signal);
            let (said, code) = pull.finish_with_stderr();
            assert_eq!(code, Some(130), "{way:?}: {said}");
            assert_eq!(names_in(&into), Vec::<String>::new(), "{way:?}");
        }
        let pull = pull_under_way(&world, way, &data, &into);
        world.kill_server();
        let (said, code) = pull.finish_with_stderr();
        assert_eq!(code, Some(1), "{way:?}: {said}");
        assert!(said.contains("cannot pull") && said.contains("the connection to"), "{way:?}: {said}");
        assert_eq!(names_in(&into), Vec::<String>::new(), "{way:?}");
        world.up(&[]).ok();
    }
    // A folder that is to be replaced stays until the new one is whole.
    let place = into.join(&data);
    fs::create_dir_all(&place).and_then(|()| fs::write(place.join("old"), "old")).expect("a folder");
    let pull = pull_under_way(&world, &["-x", "--force"], &data, &into);
    pull.signal(Signal::INT);
    assert_eq!(pull.finish_with_stderr().1, Some(130));
    assert_eq!(names_in(&place), ["old"]);
}

#[test]
fn a_pull_to_a_full_disk_says_so_and_leaves_its_room() {
    if !able(&[ROOT, "mount"]) {
        return;
    }
    let world = World::start();
    let folder = world.folder("x", &[("a", &vec![1; 3 << 20]), ("b", &vec![2; 3 << 20])]);
    // What does not shrink.
    let mut chance = Chance::of("a_pull_to_a_full_disk_says_so_and_leaves_its_room", 3);
    fs::write(folder.join("c"), chance.bytes(6 << 20)).expect("room");
    let data = world.push(&folder, &[]);
    let disk = world.base().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let at = disk.to_str().expect("UTF-8");
    world.run("mount", &["-t", "tmpfs", "-o", "size=5m", "tmpfs", at]).ok();
    for (way, suffix) in WAYS {
        let ran = world.knit(&[&["data", "pull"], way, &[&data, at]].concat());
        ran.fails(1, &["cannot pull", "no space"]);
        assert_eq!(names_in(&disk), Vec::<String>::new(), "{way:?}");
        world.run("mount", &["-o", "remount,size=64m", at]).ok();
        world.knit(&[&["data", "pull"], way, &[&data, at]].concat()).ok();
        let name = format!("{data}{suffix}");
        assert_eq!(names_in(&disk), [name.as_str()]);
        let _ = fs::remove_file(disk.join(&name));
        let _ = fs::remove_dir_all(disk.join(&name));
        world.run("mount", &["-o", "remount,size=5m", at]).ok();
    }
}

#[test]
fn an_archive_goes_to_stdout_and_files_do_not() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let data = world.push(&world.folder("x", &[("a", b"alpha")]), &[]);
    let archive = world.knit(&["data", "pull", &data, "-"]).ok().stdout;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&archive[..]).read_to_end(&mut plain).expect("a whole archive");
    let mut tar = tar::Archive::new(&plain[..]);
    let paths: Vec<_> = tar
        .entries()
        .expect("entries")
        .map(|e| e.expect("one").path().expect("a path").display().to_string())
        .collect();
    assert_eq!(paths, ["a"]);
    world.knit(&["data", "pull", "-x", &data, "-"]).fails(2, &["--extract", "stdout"]);
    world.knit(&["data", "pull", "-x", "--include", "a", &data, "-"]).fails(2, &["--extract", "stdout"]);
    let before = SystemTime::now();
    world.knit(&["data", "pull", &data, "new/deep"]).ok();
    let saved = world.work().join("new/deep").join(format!("{data}.tar.gz"));
    assert!(saved.metadata().expect("it is there").modified().expect("a time") + Duration::from_secs(2) > before);
    assert_eq!(fs::read(saved).expect("it is there"), archive, "the same in a file");
}

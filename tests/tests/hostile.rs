//! Containers and clients that mean harm: nothing outside a Data's folder is read or written for
//! them, and the server answers others meanwhile.

use knit_tests::able::{BUSYBOX, NODE, ROOT, long};
use knit_tests::wire::Request;
use knit_tests::{Step, World, able, cluster, embedded_only};
use serde_json::json;
use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

/// Stands in a file of the host that no container may reach.
const SECRET: &str = "the-secret-of-the-host-5f3a";

#[test]
fn links_devices_and_pipes_in_an_output_lead_nowhere() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let secret = world.base().join("secret");
    fs::write(&secret, SECRET).expect("a file");
    let secret = secret.to_str().expect("UTF-8");
    let script = format!(
        "cd /out/traps; echo plain > plain
         ln -s {secret} absolute; ln -s / root; ln -s /proc/self/environ environ; ln -s ../../../../../../../..{secret} upwards
         ln -s plain inside; ln -s loop loop; mkdir sub; ln -s .. sub/up
         mkfifo pipe; mknod null c 1 3 || echo no device; mknod disk b 8 0 || echo no device
         printf x > 'new\nline'; printf x > \"$(printf 'not\\377utf8')\"; printf x > -rf; printf x > ..."
    );
    let step = Step::new(&image, &script).input("/in", &["a:b"]).output("/out/traps", &["c:d"]).log(&["e:f"]);
    let plan = world.apply(&step);
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    world.all_done(&plan);

    let run = world.run_of(&world.the_run_of(&plan));
    assert!(run.to_string().contains("pipe"), "what was left out is named: {run:#}");
    let log = world.log_of(run["runId"].as_str().expect("an id"));
    assert_eq!(log.matches("no device").count(), 2, "{log}");
    let data = world.the_data(&["c:d"]);
    let pulled = world.pull(&data);
    assert_eq!(fs::read_to_string(pulled.join("plain")).expect("it was kept"), "plain\n");
    assert_eq!(fs::read_link(pulled.join("absolute")).expect("a link stays a link").to_str(), Some(secret));
    for special in ["pipe", "null", "disk"] {
        assert!(fs::symlink_metadata(pulled.join(special)).is_err(), "{special} is left out");
    }
    assert!(pulled.join("new\nline").is_file() && pulled.join("-rf").is_file() && pulled.join("...").is_file());

    // The other form of the same Data.
    let old = world.request(Request::new("GET", &format!("/api/data/{data}"))).status(200);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(old.body.as_slice()).read_to_end(&mut plain).expect("a whole archive");
    let secret = SECRET.as_bytes();
    assert!(!plain.windows(secret.len()).any(|window| window == secret), "the host's file got out");
}

#[test]
fn a_container_sees_nothing_of_the_host_and_changes_nothing_of_its_inputs() {
    if embedded_only("how well containers are shut in is the cluster's") || !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    fs::write(world.base().join("secret"), SECRET).expect("a file");
    let base = world.base().display();
    let script = format!(
        "ls {base} && exit 11
         echo x > /in/x && exit 12
         rm /in/x && exit 13
         mount -t tmpfs none /tmp && exit 14
         mknod /tmp/disk b 8 0 && exit 15
         kill -9 1000 2>/dev/null && exit 16
         [ \"$(ls -d /proc/[0-9]* | wc -l)\" -lt 20 ] || exit 17
         grep -q 'NoNewPrivs:.1' /proc/self/status || exit 18
         grep -q 'Seccomp:.2' /proc/self/status || exit 19
         echo 1 > /proc/sys/kernel/panic && exit 20
         [ \"$(ls /sys/class/net 2>/dev/null | grep -v lo)\" = '' ] || exit 21
         exit 0"
    );
    let step = Step::new(&image, &script).input("/in", &["a:b"]).output("/out", &["c:d"]).log(&["e:f"]);
    let plan = world.apply(&step);
    let data = world.push(&world.folder("x", &[("x", b"input")]), &["a:b"]);
    world.all_done(&plan);
    assert_eq!(fs::read(world.pull(&data).join("x")).expect("the input"), b"input");
}

#[test]
fn a_folder_of_very_many_entries_keeps_nobody_waiting() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let entries = if long() { 1_000_000 } else { 50_000 };
    let world = World::start();
    let image = world.busybox();
    let script = format!(
        "awk 'BEGIN {{ for (i = 0; i < {entries}; i++) {{ f = \"/out/many/\" i; printf \"\" > f; close(f) }} }}'; echo written"
    );
    let step = Step::new(&image, &script)
        .input("/in", &["a:b"])
        .output("/out/many", &["c:d"])
        .log(&["e:f"])
        .set("resources", json!({"cpu": "1", "memory": "1Gi"}));
    let plan = world.apply(&step);
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    world.follow_log(&run).until("written");
    // The output is being sealed now, or will be soon: others are served meanwhile.
    if !cluster::chosen() {
        world.status(&[]).ok();
    }
    world.run_of(&run);
    world.push(&world.folder("y", &[("y", b"y")]), &["other:data"]);
    world.all_done(&plan);
    let pulled = world.pull(&world.the_data(&["c:d"]));
    assert_eq!(fs::read_dir(pulled).expect("a folder").count(), entries);
}

#[test]
fn an_output_beyond_the_limits_fails_its_run_and_can_be_removed() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let script = "cd /out; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done";
    let plan = world.apply(&Step::new(&image, script).input("/in", &["a:b"]).output("/out", &["c:d"]).log(&["e:f"]));
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.failed_run_of(&plan);
    assert_eq!(run["exit"]["code"], 252, "{run:#}");
    let message = run["exit"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("cannot be kept") && message.contains("256"), "{run:#}");
    world.knit(&["run", "rm", run["runId"].as_str().expect("an id")]).ok();
    assert_eq!(world.find_data(&["c:d"]), Vec::<serde_json::Value>::new());
    // Another process goes on with what this one is still deleting.
    world.down(&[]).ok();
    world.up(&[]).ok();
    let limit = Instant::now() + Duration::from_mins(1);
    while let Some(name) = thrown_away(&world) {
        assert!(Instant::now() < limit, "{name} is not deleted\n{}", world.log_tail());
        std::thread::sleep(Duration::from_millis(20));
    }
    world.no_volume_is_left_over();
}

/// Something that is still to be deleted.
fn thrown_away(world: &World) -> Option<String> {
    // A cluster keeps them elsewhere: what is left there is told by `no_volume_is_left_over`.
    let entries = (!cluster::chosen()).then(|| fs::read_dir(world.dir().join("volumes")).expect("the volumes"));
    let mut names = entries
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| name.starts_with(".trash-"))
}

#[test]
fn an_endless_log_is_cut_and_the_cut_is_said() {
    if !able(&[NODE, ROOT, BUSYBOX]) {
        return;
    }
    let mut world = World::new();
    let (limit, lines) = if long() { (1_u64 << 30, 400_000_000_u64) } else { (1 << 20, 2_000_000) };
    world.serve_with(&["--log-limit", &limit.to_string()]);
    world.up(&[]).ok();
    let image = world.busybox();
    let step = Step::new(&image, &format!("seq 1 {lines}; echo over >&2; exit 5")).input("/in", &["a:b"]).log(&["e:f"]);
    let plan = world.apply(&step);
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.failed_run_of(&plan);
    assert_eq!(run["exit"]["code"], 5, "{run:#}");
    let said = format!("the log was cut at its limit of {limit} bytes");
    assert!(run["exit"]["message"].as_str().is_some_and(|message| message.contains(&said)), "{run:#}");
    assert!(world.stored_bytes("volumes") < limit + (1 << 20), "the log has a limit");
    if !long() {
        let log = world.log_of(run["runId"].as_str().expect("an id"));
        assert!(log.starts_with("1\n2\n3\n") && !log.contains("over"), "{} bytes", log.len());
        let end = &log[limit as usize..];
        assert!(end.contains(&format!("reached its limit of {limit} bytes")), "{end}");
    }
}

//! What is wrong is refused with a message that says what, why and what to do, and with the
//! documented exit code.

use knit_tests::able::{BUSYBOX, NODE, ROOT};
use knit_tests::processes::Process;
use knit_tests::wire::Request;
use knit_tests::{Step, World, able};
use serde_json::json;
use std::fs;
use std::io::Write;

fn plain(image: &str) -> Step {
    Step::new(image, "true").input("/in/a", &["a:b"]).output("/out/c", &["c:d"])
}

#[test]
fn data_that_cannot_be_pushed() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let folder = world.folder("good", &[("x", b"x")]);
    world.try_push(&world.base().join("not-there"), &["a:b"]).fails(1, &["not-there"]);
    world.try_push(&folder, &["knit#id:mine"]).fails(2, &["knit#id"]);
    world.try_push(&folder, &["no colon"]).fails(2, &["no colon", ":"]);
    assert!(world.find_data(&[]).is_empty(), "nothing of it was kept");
    world.no_volume_is_left_over();
}

#[test]
fn a_folder_that_cannot_be_read() {
    if !able(&[ROOT, "setpriv"]) {
        return;
    }
    let world = World::start();
    let folder = world.folder("secret", &[("open", b"x"), ("closed", b"y")]);
    // Root reads everything: the push is somebody else's.
    let everyone: fn(&std::path::Path, u32) = |path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("its mode");
    };
    everyone(&folder.join("closed"), 0o600);
    for path in [world.base(), &world.home(), &world.home().join(".knit"), &world.work()] {
        everyone(path, 0o777);
    }
    everyone(&world.home().join(".knit/profile"), 0o644);
    everyone(&world.home().join(".knit/current"), 0o644);
    let knit = world.program("knit");
    let knit = knit.to_str().expect("a UTF-8 path");
    let folder = folder.to_str().expect("a UTF-8 path");
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", knit, "data", "push", "--tag", "a:b", folder];
    world.run("setpriv", &nobody).fails(1, &["closed", "permission denied"]);
    assert!(world.find_data(&[]).is_empty(), "nothing of it was kept");
    world.no_volume_is_left_over();
}

#[test]
fn plans_that_cannot_be_meant() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let good = plain("story/none:v1");
    let with = |member: &str, value: serde_json::Value| good.clone().set(member, value).yaml();
    let point = |path: &str, tags: &[&str]| json!({"path": path, "tags": tags});
    for (yaml, says) in [
        (with("logs", json!({"tags": ["a:b"]})), vec!["logs", "log", "line", "column"]),
        (with("annotation", json!(["a=b"])), vec!["annotation", "annotations", "line"]),
        (with("inputs", json!([])), vec!["input"]),
        (with("inputs", json!([point("/in/1", &["a:b"]), point("/in/1/x", &["a:b"])])), vec!["/in/1", "/in/1/x"]),
        (with("outputs", json!([point("/in/a/below", &["c:d"])])), vec!["/in/a", "/in/a/below"]),
        (with("outputs", json!([point("relative", &["c:d"])])), vec!["relative"]),
        (with("outputs", json!([point("/out/../etc", &["c:d"])])), vec!["/out/../etc"]),
        (with("inputs", json!([point("/in/a", &["no colon"])])), vec!["no colon"]),
        (with("outputs", json!([point("/out", &["knit#id:x"])])), vec!["knit#id"]),
        (with("resources", json!({"memory": "much"})), vec!["much", "line"]),
        (with("resources", json!({"cpu": "-1"})), vec!["cpu"]),
        (with("image", json!("UPPER/case:v1")), vec!["UPPER/case"]),
        (with("image", json!(format!("a/b@sha256:{}", "0".repeat(64)))), vec!["digest"]),
        ("image: [\n".to_owned(), vec!["line"]),
        (String::new(), vec!["nothing"]),
        ("image: a/b:c\nimage: a/b:c\n".to_owned(), vec!["image", "second time"]),
        (format!("inputs: {}", "[".repeat(100_000)), vec![]),
    ] {
        world.try_apply(&yaml, &[]).fails(2, &says);
    }
    world.knit(&["plan", "apply", "no-such-file.yaml"]).fails(1, &["no-such-file.yaml"]);
    assert!(world.plans().is_empty());
}

#[test]
fn images_that_cannot_be_used() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let knit = |arguments: &[&str]| world.knit(arguments);
    knit(&["image", "push", "no-such-file.tar", "a/b:c"]).fails(1, &["no-such-file.tar"]);
    fs::write(world.work().join("noise"), [0x55; 5000]).expect("a file");
    knit(&["image", "push", "noise", "a/b:c"]).fails(1, &["noise"]);
    knit(&["image", "pack", "no-such-folder", "a/b:c", "--entrypoint", "/bin/sh"])
        .fails(1, &["no-such-folder", "No such file or directory"]);
    world.pack("UPPER:case", &["--entrypoint", "/bin/sh"]).fails(2, &["UPPER"]);

    let image = world.busybox();
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let missing = world.apply(&plain("story/not-there:v1"));
    let run = world.failed_run_of(&missing);
    assert_eq!(run["exit"]["code"], 255, "{run:#}");
    assert!(run["exit"]["message"].as_str().is_some_and(|m| m.contains("story/not-there:v1")), "{run:#}");

    let no_entry = world.apply(&plain(&image).set("entrypoint", json!(["/no/such/program"])));
    let run = world.failed_run_of(&no_entry);
    assert!(run["exit"]["message"].as_str().is_some_and(|m| m.contains("/no/such/program")), "{run:#}");
}

#[test]
fn an_image_with_a_corrupt_layer_is_not_run() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    // A layer of its own: a node that has another one's does not fetch it.
    let own = world.rootfs().join("etc/own");
    fs::write(own, world.dir().as_os_str().as_encoded_bytes()).expect("a file");
    let image = world.busybox();
    let layer = world.largest_blob();
    let mut bytes = fs::read(&layer).expect("the layer");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&layer, bytes).expect("a damaged layer");
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let plan = world.apply(&plain(&image));
    let run = world.failed_run_of(&plan);
    assert_eq!(run["exit"]["code"], 255, "{run:#}");
    assert!(run["exit"]["message"].as_str().is_some_and(|m| m.contains("sha256:")), "the layer is named: {run:#}");
    world.nothing_executes();
}

#[test]
fn containers_that_fail_say_how() {
    if !able(&[NODE, ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let exit_3 = world.apply(
        &Step::new(&image, "echo partial > /out/c/x; exit 3").input("/in/a", &["a:b"]).output("/out/c", &["c:d"]),
    );
    let run = world.failed_run_of(&exit_3);
    assert_eq!(run["exit"]["code"], 3, "{run:#}");

    let killed = world.apply(&Step::new(&image, "echo begun; sleep 600").input("/in/a", &["a:b"]).log(&["e:f"]));
    world.follow_log(&world.the_run_once_it_is_there(&killed)).until("begun");
    world.contained().iter().for_each(Process::kill);
    let run = world.failed_run_of(&killed);
    assert_eq!(run["exit"]["code"], 137, "{run:#}");
    assert!(run["exit"]["message"].as_str().is_none_or(|m| !m.contains("OOM")), "a kill is no lack of memory: {run:#}");

    let hungry = Step::new(&image, "awk 'BEGIN { s = \"x\"; while (1) s = s s }'")
        .input("/in/a", &["a:b"])
        .set("resources", json!({"memory": "32Mi", "cpu": "100m"}));
    let run = world.failed_run_of(&world.apply(&hungry));
    assert_eq!(run["exit"]["code"], 137, "{run:#}");
    assert!(run["exit"]["message"].as_str().is_some_and(|m| m.contains("OOM")), "lack of memory is said: {run:#}");

    let giant = plain(&image).set("resources", json!({"memory": "100Ti", "cpu": "1"}));
    let run = world.run_of(&world.the_run_once_it_is_there(&world.apply(&giant)));
    assert_ne!(run["status"], "running", "{run:#}");
    // On a cluster its worker waits for a node.
    world.knit(&["run", "stop", "--fail", run["runId"].as_str().expect("an id")]).ok();
    world.nothing_executes();
}

#[test]
fn servers_that_cannot_be_reached_and_profiles_that_are_wrong() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::new();
    world.knit(&["data", "find"]).fails(2, &["profile"]);
    world.up(&[]).ok();
    world.knit(&["--profile", "nobody", "data", "find"]).fails(2, &["nobody"]);
    world.down(&[]).ok();
    world.knit(&["data", "find"]).fails(1, &["127.0.0.1", "cannot be reached", "knitctl status"]);

    fs::write(world.work().join("bad-profile"), "apiRoot: somewhere\n").expect("a file");
    world.knit(&["init", "bad-profile"]).fails(2, &["apiRoot", "somewhere"]);
    world.knit(&["init", "no-such-profile"]).fails(1, &["no-such-profile"]);
}

#[test]
fn ids_that_nobody_has() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    for arguments in [
        &["data", "pull", "no-such-id"][..],
        &["data", "tag", "--add", "a:b", "no-such-id"],
        &["data", "lineage", "no-such-id"],
        &["plan", "show", "no-such-id"],
        &["plan", "graph", "no-such-id"],
        &["plan", "active", "yes", "no-such-id"],
        &["run", "show", "no-such-id"],
        &["run", "show", "--log", "no-such-id"],
        &["run", "stop", "no-such-id"],
        &["run", "retry", "no-such-id"],
        &["run", "rm", "no-such-id"],
        &["run", "wait", "no-such-id"],
        &["run", "wait", "--plan", "no-such-id"],
    ] {
        world.knit(arguments).fails(5, &["no-such-id"]);
    }
    for (id, code) in [("../../etc/passwd", 2), ("a/b", 2), ("..", 2), ("%2e%2e", 5), ("\u{1f600}", 5)] {
        world.knit(&["data", "pull", id]).fails(code, &[id]);
    }
}

#[test]
fn archives_that_break_off_or_lead_outside() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start_without_tokens();
    let outside = world.base().join("escaped");
    let up = format!("{}escaped", "../".repeat(20));
    let escape = outside.to_str().expect("a UTF-8 path").to_owned();
    let whole = targz(&[("a", b"content of a", None)]);
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    for (what, body) in [
        ("half", whole[..whole.len() / 2].to_vec()),
        ("without its end", whole[..whole.len() - 4].to_vec()),
        ("corrupt", corrupt),
        ("noise", vec![0x55; 1000]),
        ("empty", Vec::new()),
        ("upwards", targz(&[(&up, b"x", None)])),
        ("absolute", targz(&[(&escape, b"x", None)])),
        (
            "through a link",
            targz(&[("l", b"", Some(world.base().to_str().expect("UTF-8"))), ("l/escaped", b"x", None)]),
        ),
    ] {
        let request = Request::new("POST", "/api/data").header("Content-Type", "application/tar+gzip");
        let answer = world.request(request.chunked(body, &[]));
        // A path that would lead outside may also have been taken as one inside, but nothing else.
        assert!((400..=599).contains(&answer.status) || what == "absolute", "{what}: {}", answer.status);
        assert!(!outside.exists(), "{what} got out");
    }
    for answer in [
        world.request(
            Request::new("POST", "/api/data")
                .header("Content-Type", "application/tar+gzip")
                .chunked(whole.clone(), &[("X-Checksum-Md5", "00000000000000000000000000000000")]),
        ),
        world.request(Request::new("POST", "/api/plans").json(&json!({"image": 5}))),
        world.request(Request::new("GET", "/api/data?tag=nocolon")),
        world.request(Request::new("GET", "/api/runs?status=sleeping")),
        world.request(Request::new("POST", "/api/plans").header("Content-Type", "application/json").body("{")),
    ] {
        assert!((400..500).contains(&answer.status), "{answer:?}");
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(!message.is_empty() && !message.contains("Error {"), "{message}");
    }
    world.no_volume_is_left_over();
}

/// A tar.gz of files and links, without asking whether their names make sense.
fn targz(entries: &[(&str, &[u8], Option<&str>)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content, link) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        if let Some(target) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(target).expect("a short target");
        }
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tar).expect("memory takes it");
    gzip.finish().expect("memory takes it")
}

//! Plans after their registration, and before it: what they ask for changes, and their file is made of an image.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::wire::Request;
use knit_tests::{Step, World, able, cluster};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;

#[test]
fn a_run_that_asked_for_too_much_starts_when_its_plan_asks_for_less() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let step = Step::new(&world.busybox(), "echo started")
        .input("/in", &["a:b"])
        .log(&["type:log"])
        .set("resources", json!({"cpu": "100m", "memory": "1Pi"}));
    let plan = world.apply(&step);
    world.push(&world.folder("data", &[("x", b"")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    let mut reason = String::new();
    // On a cluster other reasons come before.
    while !(reason.contains("memory") && (reason.contains("1Pi") || reason.contains("1048576Gi"))) {
        let known = reason.bytes().fold(String::new(), |known, byte| format!("{known}%{byte:02x}"));
        let wait = format!("/api/runs/{run}/wait?until=started&reason={known}&timeout=60");
        let refused = world.request(Request::new("GET", &wait)).status(200).json();
        let now = refused["reason"].as_str().unwrap_or_default();
        assert!(now != reason, "nothing else comes: {refused:#}");
        now.clone_into(&mut reason);
    }

    let changed = world.knit(&["plan", "resource", "--set", "memory=64Mi", "-s", "cpu=0.2", &plan]).ok().json();
    assert_eq!(changed["resources"], json!({"cpu": "200m", "memory": "64Mi"}));
    if cluster::chosen() {
        // There the Run has its Job already, which nobody can change: another attempt asks for less.
        world.knit(&["run", "stop", "--fail", &run]).ok();
        world.failed_run_of(&plan);
        world.knit(&["run", "retry", &run]).ok();
    }
    world.all_done(&plan);
    assert_eq!(world.log_of(&run), "started\n");

    let changed = world.knit(&["plan", "annotate", "--add", "owner=me", "--add", "owner=you", &plan]).ok().json();
    assert_eq!(changed["annotations"], json!(["owner=me", "owner=you"]));
    let changed = world.knit(&["plan", "annotate", "--remove", "owner=you", "--add", "k=v", &plan]).ok().json();
    assert_eq!(changed["annotations"], json!(["k=v", "owner=me"]));
    let changed = world.knit(&["plan", "serviceaccount", "--set", "trainer", &plan]).ok().json();
    assert_eq!(changed["service_account"], "trainer");
    world.knit(&["plan", "serviceaccount", "--set", "No Name", &plan]).fails(2, &["no service account", "No Name"]);
    let changed = world.knit(&["plan", "serviceaccount", "--unset", &plan]).ok().json();
    assert!(changed.get("service_account").is_none());
    world.knit(&["plan", "resource", "--set", "memory=0", &plan]).fails(1, &["set.memory", "above zero"]);
    for part in [&["resource", "-u", "x"][..], &["annotate"], &["serviceaccount", "--unset"]] {
        world.knit(&[&["plan"], part, &["no-such-plan"]].concat()).fails(5, &["no-such-plan"]);
    }
    assert_eq!(world.knit(&["plan", "show", &plan]).ok().json()["annotations"], json!(["k=v", "owner=me"]));
}

#[test]
fn the_template_for_an_image_is_a_plan_that_runs() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let mut layer = tar::Builder::new(Vec::new());
    layer.follow_symlinks(false);
    layer.append_dir_all(".", world.rootfs()).expect("memory takes it");
    let layer = layer.into_inner().expect("memory takes it");
    let config = json!({
        "os": "linux", "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "config": {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["wc -w < /in/words/text.txt > /out/count/n; echo \"it's done\""]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
    });
    let list = json!([{"Config": "config.json", "RepoTags": ["story/count:v1"], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("config.json", config.to_string().as_bytes()),
        ("layer.tar", &layer),
        ("manifest.json", list.to_string().as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).expect("memory takes it");
    }
    let archive = archive.into_inner().expect("memory takes it");
    let file = world.work().join("count.tar");
    fs::write(&file, &archive).expect("room for an archive");
    let knitenv = "tag: [\"project:story\"]\nresource: {cpu: 100m, memory: 64Mi}\n";
    fs::write(world.work().join("knitenv"), knitenv).expect("room for a file");

    let template = world.knit(&["plan", "template", "-i", file.to_str().expect("UTF-8")]).ok().text();
    assert_eq!(world.knit_with_input(&["plan", "template"], archive).ok().text(), template);
    world.knit(&["image", "push", file.to_str().expect("UTF-8"), "story/count:v1"]).ok();
    let applied = world.try_apply(&template, &[]).ok().json();
    let plan = applied["planId"].as_str().expect("an id");
    assert_eq!(applied["inputs"][0]["path"], "/in/words");
    world.push(&world.folder("words", &[("text.txt", b"one two three\n")]), &["project:story", "type:words"]);
    world.all_done(plan);
    let count = world.the_data(&["project:story", "type:count"]);
    assert_eq!(fs::read_to_string(world.pull(&count).join("n")).expect("the output").trim(), "3");
    assert_eq!(world.log_of(&world.the_run_of(plan)), "it's done\n");
}

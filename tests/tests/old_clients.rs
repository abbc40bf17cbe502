//! Clients of v1.6.1 work as they are: plain HTTP/1.1, tar.gz, a checksum in a trailer that nothing
//! announces, tags as objects, no token.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::wire::Request;
use knit_tests::{Step, World, able};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// Packs as that client does: files and links only, depth first, no `./`.
fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()));
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        builder.append_data(&mut header, path, *content).expect("memory takes it");
    }
    let mut gzip = builder.into_inner().expect("memory takes it");
    gzip.flush().expect("memory takes it");
    gzip.finish().expect("memory takes it")
}

fn unpack(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let entries = archive.entries().expect("an archive");
    entries
        .map(|entry| {
            let mut entry = entry.expect("a whole archive");
            let kind = entry.header().entry_type();
            assert!(kind.is_file() || kind.is_symlink(), "that client cannot unpack {kind:?}");
            let path = entry.path().expect("a path").display().to_string();
            assert!(!path.starts_with('/') && !path.starts_with("./"), "{path}");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("a whole entry");
            (path, content)
        })
        .collect()
}

fn upload(world: &World, files: &[(&str, &[u8])]) -> Value {
    let body = pack(files);
    let sum = hex::encode(Md5::digest(&body));
    let request = Request::new("POST", "/api/data")
        .header("Content-Type", "application/tar+gzip")
        .chunked(body, &[("X-Checksum-Md5", &sum)]);
    request.send(&world.api()).status(200).json()
}

fn id(object: &Value, member: &str) -> String {
    object[member].as_str().unwrap_or_else(|| panic!("no {member} in {object:#}")).to_owned()
}

#[test]
fn the_whole_line_as_the_original_client_walks_it() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start_without_tokens();
    let image = world.busybox();
    let api = world.api();

    let data = id(&upload(&world, &[("a", b"alpha"), ("sub/b", b"beta")]), "knitId");
    let change =
        json!({"add": [{"key": "project", "value": "digits"}, {"key": "name", "value": "training"}], "remove": []});
    let tagged = Request::new("PUT", &format!("/api/data/{data}")).json(&change).send(&api).status(200).json();
    let tags: Vec<&str> = tagged["tags"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(tags.contains(&"project:digits") && tags.contains(&"name:training"), "{tags:?}");
    assert!(tags.contains(&format!("knit#id:{data}").as_str()), "{tags:?}");
    assert!(tags.is_sorted(), "{tags:?}");
    assert_eq!(tagged["upstream"]["mountpoint"]["path"], "/upload");
    assert_eq!(tagged["upstream"]["run"]["plan"]["name"], "knit#uploaded");
    assert_eq!(tagged["upstream"]["run"]["status"], "done");

    let found = Request::new("GET", "/api/data?tag=project%3Adigits").send(&api).status(200).json();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found:#}");
    assert_eq!(found[0]["knitId"], data.as_str());

    let step = Step::new(&image, "cat /in/data/a /in/data/sub/b > /out/joined/ab; echo joined")
        .input("/in/data", &["project:digits"])
        .output("/out/joined", &["project:joined"])
        .log(&["type:log"])
        // What that client sends for members that the file does not have.
        .set("active", Value::Null)
        .set("annotations", json!(["owner=somebody"]));
    let register = Request::new("POST", "/api/plans").header("Content-Type", "application/json").body(step.body());
    let plan = register.send(&api).status(200).json();
    assert_eq!(plan["active"], true);
    assert_eq!(plan["image"], image.as_str());
    let plan = id(&plan, "planId");
    let again = register.send(&api).status(409).json();
    assert!(again["message"].is_string(), "{again:#}");

    world.all_done(&plan);
    let runs = Request::new("GET", &format!("/api/runs?plan={plan}&status=done")).send(&api).status(200).json();
    let run = id(&runs[0], "runId");
    assert_eq!(runs[0]["exit"], json!({"code": 0, "message": runs[0]["exit"]["message"]}));
    let log = Request::new("GET", &format!("/api/runs/{run}/log?follow")).send(&api).status(200);
    assert_eq!(String::from_utf8_lossy(&log.body), "joined\n");

    let out = id(&runs[0]["outputs"][0], "knitId");
    let pulled = Request::new("GET", &format!("/api/data/{out}")).header("TE", "trailers").send(&api).status(200);
    let sum = pulled.trailers.iter().find(|(name, _)| name == "x-checksum-md5").map(|(_, value)| value.clone());
    assert_eq!(sum, Some(hex::encode(Md5::digest(&pulled.body))));
    assert_eq!(unpack(&pulled.body), BTreeMap::from([("ab".to_owned(), b"alphabeta".to_vec())]));
    let pulled = Request::new("GET", &format!("/api/data/{data}/")).send(&api).status(200);
    assert_eq!(unpack(&pulled.body).keys().collect::<Vec<_>>(), ["a", "sub/b"]);
}

#[test]
fn a_plan_is_changed_as_the_original_client_asks() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start_without_tokens();
    let api = world.api();
    let spec =
        json!({"image": "train:v1", "inputs": [{"path": "/in", "tags": ["a:b"]}], "outputs": null, "active": null});
    let plan = id(&Request::new("POST", "/api/plans").json(&spec).send(&api).status(200).json(), "planId");
    let part = |method: &str, name: &str| Request::new(method, &format!("/api/plans/{plan}/{name}/"));
    let change = |name: &str, body: &str| {
        let request = part("PUT", name).header("Content-Type", "application/json").body(body);
        request.send(&api).status(200).json()
    };
    let changed =
        change("resources", r#"{"set":{"cpu":"500m","memory":"2Gi","nvidia.com/gpu":"1"},"unset":["memory"]}"#);
    assert_eq!(changed["resources"], json!({"cpu": "500m", "nvidia.com/gpu": "1"}));
    let changed = change("annotations", r#"{"add":["k=v","k=w"],"remove":["a=b"],"remove_key":["z"]}"#);
    assert_eq!(changed["annotations"], json!(["k=v", "k=w"]));
    assert_eq!(change("annotations", "{}"), changed);
    let changed = change("serviceaccount", r#"{"service_account":"sa1"}"#);
    assert_eq!(changed["service_account"], "sa1");
    for name in ["resources", "annotations"] {
        assert_eq!(part("PUT", name).body("").send(&api).status(200).json(), changed, "no bytes, no change");
        part("PUT", name).body("{}").send(&api).status(400);
        part("PUT", name).chunked("", &[]).send(&api).status(400);
    }
    let changed = part("DELETE", "serviceaccount").send(&api).status(200).json();
    assert!(changed.get("service_account").is_none(), "{changed:#}");
    part("PUT", "active").body("").send(&api).status(200);
}

#[test]
fn what_the_original_cannot_unpack_is_never_sent_to_it() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start_without_tokens();
    let folder = world.folder("sorts", &[("file", b"x"), ("empty/", b""), ("sub/y", b"y")]);
    std::fs::hard_link(folder.join("file"), folder.join("same")).expect("a hard link");
    std::os::unix::fs::symlink("file", folder.join("link")).expect("a link");
    let data = world.push(&folder, &["a:b"]);
    let pulled = Request::new("GET", &format!("/api/data/{data}")).send(&world.api()).status(200);
    let files = unpack(&pulled.body);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["file", "link", "same", "sub/y"]);
    assert_eq!(files["same"], b"x");
}

#[test]
fn new_members_stand_only_where_they_are_announced() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start_without_tokens();
    let data = upload(&world, &[("a", b"alpha")]);
    let members: Vec<&String> = data.as_object().expect("an object").keys().collect();
    let known = ["knitId", "tags", "upstream", "downstreams", "nomination", "digest"];
    assert!(members.iter().all(|member| known.contains(&member.as_str())), "{members:?}");
}

#[test]
fn errors_have_the_one_shape_that_the_original_client_reads() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start_without_tokens();
    let api = world.api();
    for (method, path, status) in [
        ("GET", "/api/data/no-such-id", 404),
        ("GET", "/api/plans/no-such-id", 404),
        ("GET", "/api/runs/no-such-id", 404),
        ("GET", "/api/nothing", 404),
        ("DELETE", "/api/data", 405),
        ("GET", "/api/runs?status=sleeping", 400),
        ("GET", "/api/data?since=yesterday", 400),
    ] {
        let answer = Request::new(method, path).send(&api).status(status);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {path}");
        let body = answer.json();
        assert!(body["message"].is_string() && body.get("reason").is_none(), "{method} {path}: {body:#}");
    }
}

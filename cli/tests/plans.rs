//! The commands about Plans where v1.6.1 is no example: templates of any image, and what cannot be meant.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

mod fake;

use fake::{Ended, Fake, Home, json, plan};
use serde_json::{Value, json as value};
use std::io::Write as _;
use std::process::Stdio;

/// A server that knows one Plan.
fn server() -> Fake {
    Fake::start(|request| {
        if request.target.starts_with("/api/plans/plan-train/") {
            json(200, &plan("plan-train"))
        } else {
            json(404, &value!({"message": "not found"}))
        }
    })
}

fn with_stdin(home: &Home, arguments: &[&str], stdin: &[u8]) -> Ended {
    let mut child = home.command(&home.project(), arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = stdin.to_owned();
    let writer = std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    let ended = child.wait_with_output().unwrap().into();
    writer.join().unwrap();
    ended
}

/// A tar archive of these files; a content that begins with `->` is a link.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(target) = content.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, std::str::from_utf8(target).unwrap()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, *content).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn config(architecture: &str, words: &[&str]) -> Vec<u8> {
    let config = value!({"os": "linux", "architecture": architecture, "config": {"Cmd": words}});
    config.to_string().into_bytes()
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// An OCI layout: its manifests as they are, and an index of `(digest, annotations)`.
fn layout(blobs: &[&[u8]], entries: &[(&[u8], Value)]) -> Vec<(String, Vec<u8>)> {
    let entry = |(bytes, annotations): &(&[u8], Value)| {
        value!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": bytes.len(),
            "digest": format!("sha256:{}", digest(bytes)), "annotations": annotations})
    };
    let index = value!({"schemaVersion": 2, "manifests": entries.iter().map(entry).collect::<Vec<_>>()});
    let mut files = vec![("index.json".to_owned(), index.to_string().into_bytes())];
    files.extend(blobs.iter().map(|bytes| (format!("blobs/sha256/{}", digest(bytes)), bytes.to_vec())));
    files
}

fn manifest(config: &[u8]) -> Vec<u8> {
    let manifest = value!({"schemaVersion": 2, "layers": [], "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
        "digest": format!("sha256:{}", digest(config))}});
    manifest.to_string().into_bytes()
}

fn index(manifests: &[&[u8]]) -> Vec<u8> {
    let entry = |bytes: &&[u8]| {
        value!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": bytes.len(),
            "digest": format!("sha256:{}", digest(bytes))})
    };
    let index = value!({"schemaVersion": 2, "manifests": manifests.iter().map(entry).collect::<Vec<_>>()});
    index.to_string().into_bytes()
}

fn home() -> Home {
    let home = Home::of("http://127.0.0.1:9/api", None);
    std::fs::remove_file(home.store()).unwrap();
    home
}

fn args_of(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    knit_cli::yaml::from_str::<Value>(&ended.text()).unwrap()["args"].clone()
}

#[test]
fn archives_with_links_empty_entries_and_any_compression_make_templates() {
    let list = value!([{"Config": "config.json", "RepoTags": ["train:v1"], "Layers": ["a/layer.tar"]}]).to_string();
    let plain = tar(&[
        ("a/layer.tar", b""),
        ("b/layer.tar", b"->../a/layer.tar"),
        ("real.json", &config("amd64", &["/in/x"])),
        ("config.json", b"->real.json"),
        ("empty.json", b""),
        ("manifest.json", list.as_bytes()),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    let home = home();
    for bytes in [plain, gzip.finish().unwrap(), zstd] {
        assert_eq!(args_of(&with_stdin(&home, &["plan", "template"], &bytes)), value!(["/in/x"]));
        std::fs::write(home.project().join("image.tar"), bytes).unwrap();
        assert_eq!(args_of(&home.knit(&["plan", "template", "--input", "image.tar"])), value!(["/in/x"]));
    }
}

#[test]
fn of_an_image_for_many_machines_one_is_taken_and_what_is_no_image_is_passed_over() {
    let (amd, arm, odd) = (config("amd64", &["amd64"]), config("arm64", &["arm64"]), config("odd", &["odd"]));
    let attestation = value!({"os": "unknown", "architecture": "unknown", "config": {}}).to_string().into_bytes();
    let artifact = value!({"schemaVersion": 2, "layers": [], "config": {
        "mediaType": "application/vnd.example+json", "size": 2, "digest": format!("sha256:{}", digest(b"{}"))}});
    let artifact = artifact.to_string().into_bytes();
    let [m_amd, m_arm, m_odd, m_attestation] = [&amd, &arm, &odd, &attestation].map(|config| manifest(config));
    let missing = manifest(b"of a platform that was not saved");
    let all = index(&[&m_attestation, &m_odd, &m_arm, &m_amd, &missing, &artifact]);
    let named = value!({"org.opencontainers.image.ref.name": "v1", "io.containerd.image.name": "reg.io/train:v1"});
    let also = value!({"org.opencontainers.image.ref.name": "reg.io/train:v2"});
    let blobs: [&[u8]; 10] = [&amd, &arm, &odd, &attestation, &m_amd, &m_arm, &m_odd, &m_attestation, &artifact, &all];
    let home = home();
    for (name, bytes) in layout(&blobs, &[(&all, named), (&all, also)]) {
        home.write(&format!("layout/{name}"), std::str::from_utf8(&bytes).unwrap());
    }
    let here = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    for (selection, image) in [
        (None, "reg.io/train:v1"),
        (Some("reg.io/train:v2"), "reg.io/train:v2"),
        (Some("reg.io/train:v1"), "reg.io/train:v1"),
    ] {
        let arguments = ["plan", "template", "-i", "layout"].into_iter().chain(selection).collect::<Vec<_>>();
        let ended = home.knit(&arguments);
        assert_eq!(args_of(&ended), value!([here]), "{selection:?}");
        assert!(ended.text().contains(&format!("\nimage: \"{image}\"\n")), "{ended:?}");
    }
    let digest = format!("sha256:{}", digest(&m_odd));
    let ended = home.knit(&["plan", "template", "-i", "layout", &digest]);
    assert_eq!(args_of(&ended), value!(["odd"]));
}

#[test]
fn a_choice_among_images_is_asked_for_with_their_names() {
    let (one, two) = (config("amd64", &["one"]), config("amd64", &["two"]));
    let (m_one, m_two) = (manifest(&one), manifest(&two));
    let files = layout(&[&one, &two, &m_one, &m_two], &[(&m_one, value!({})), (&m_two, value!({}))]);
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let home = home();
    std::fs::write(home.project().join("image.tar"), tar(&files)).unwrap();
    let ended = home.knit(&["plan", "template", "-i", "image.tar"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let (name, other) = (format!("sha256:{}", digest(&m_one)), format!("sha256:{}", digest(&m_two)));
    assert!(ended.stderr.contains(&name) && ended.stderr.contains(&other), "{ended:?}");
    let ended = home.knit(&["plan", "template", "-i", "image.tar", &other]);
    assert_eq!(args_of(&ended), value!(["two"]));
    assert!(ended.text().contains("\nimage: \"image:version\"\n"), "{ended:?}");
}

#[test]
fn what_is_no_image_and_what_fits_into_no_plan_is_refused_with_a_reason() {
    let home = home();
    let list = value!([{"Config": "c.json", "RepoTags": ["train:v1"]}]).to_string();
    let with = |config: &[u8]| tar(&[("c.json", config), ("manifest.json", list.as_bytes())]);
    let (long, longer) = (config("amd64", &[&"\u{80}".repeat(300_000)]), config("amd64", &[&"x".repeat(1 << 20)]));
    let many = config("amd64", &vec!["x"; 60_000]);
    for (bytes, code, reason) in [
        (b"garbage".to_vec(), 1, "no tar archive"),
        (tar(&[("x", b"")]), 1, "neither index.json nor manifest.json"),
        (tar(&[("manifest.json", b"[]")]), 2, "nothing to make a Plan for"),
        (tar(&[("manifest.json", b"{")]), 1, "cannot be read as an image"),
        (tar(&[("manifest.json", list.as_bytes())]), 8, "c.json is missing"),
        (with(b"[]"), 8, "no JSON object"),
        (with(b"{"), 8, "configuration is unreadable"),
        (with(br#"{"config":{"Cmd":[1]}}"#), 8, "a list of words"),
        (with(&long), 1, "more than 1024 KiB"),
        (with(&longer), 8, "1048576 are allowed"),
        (with(&many), 1, "larger or nested deeper"),
    ] {
        let ended = with_stdin(&home, &["plan", "template", "-i", "-"], &bytes);
        assert_eq!(ended.code, Some(code), "{reason}: {ended:?}");
        assert!(ended.stderr.contains(reason) && ended.stdout.is_empty(), "{reason}: {ended:?}");
    }
    // Each index lists the next one many times, and the last one what is missing.
    let mut indexes = vec![index(&vec![&b"missing"[..]; 100])];
    for _ in 0..2 {
        indexes.push(index(&vec![&indexes[indexes.len() - 1][..]; 100]));
    }
    let blobs: Vec<&[u8]> = indexes.iter().map(Vec::as_slice).collect();
    let files = layout(&blobs, &[(&indexes[2], value!({}))]);
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let ended = with_stdin(&home, &["plan", "template"], &tar(&files));
    assert_eq!(ended.code, Some(8), "{ended:?}");
    assert!(ended.stderr.contains("more than 1000 images"), "{ended:?}");

    home.write("knitenv", "resource: {cpu: -1}\n");
    let ended = home.knit(&["plan", "template", "--scratch"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("cpu cannot be less than nothing"), "{ended:?}");
}

#[test]
fn what_cannot_be_meant_is_not_sent() {
    let server = server();
    let home = Home::of(&server.api_root(), None);
    for arguments in [
        &["resource", "--set", "cpu", "plan-train"][..],
        &["resource", "--set", "cpu=", "plan-train"],
        &["annotate", "--add", "plain", "plan-train"],
        &["serviceaccount", "plan-train"],
        &["serviceaccount", "--set", "", "plan-train"],
        &["serviceaccount", "--unset=no", "plan-train"],
        &["serviceaccount", "--set", "a", "--unset", "plan-train"],
    ] {
        let ended = home.knit(&[&["plan"], arguments].concat());
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
    }
    assert!(server.all_requests().is_empty());
    let ended = home.knit(&["plan", "resource", "-u", "cpu", "no-such"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("cannot change the resources of the Plan no-such"), "{ended:?}");
}

#[test]
fn a_set_may_hold_a_value_of_any_look() {
    let server = server();
    let home = Home::of(&server.api_root(), None);
    home.knit(&["plan", "annotate", "--add", "-k=--v", "--remove-key", "-x", "plan-train"]);
    home.knit(&["plan", "resource", "-s= cpu = 1 ", "-u=-x", "plan-train"]);
    let bodies: Vec<String> = server.requests().into_iter().map(|r| String::from_utf8(r.body).unwrap()).collect();
    assert_eq!(bodies, [r#"{"add":["-k=--v"],"remove_key":["-x"]}"#, r#"{"set":{"cpu":"1"},"unset":["-x"]}"#]);
}

#[test]
fn the_licence_and_the_credits_are_printed_without_a_profile() {
    let ended = home().knit(&["license"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = ended.text();
    for part in ["MIT", "Apache License", "Permission is hereby granted", "\nserde 1.", "\nreqwest 0.", "\nblake3 1."] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("\nknit-"));
}

#[test]
fn amounts_and_accounts_that_no_plan_can_have_are_wrong_usage() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    for arguments in [
        &["plan", "resource", "--set", "cpu=-1", "p1"][..],
        &["plan", "serviceaccount", "--set", "A_b", "p1"],
        &["plan", "serviceaccount", "--set", "-a", "p1"],
        &["plan", "serviceaccount", "--set", "a..b", "p1"],
        &["data", "find", "--since", "2024-05-01", "--duration", "-1h"],
        &["run", "find", "--since", "2024-05-01", "--duration", "-1h"],
        &["data", "find", "--columns", "id,tags,id"],
    ] {
        let ended = home.knit(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
    }
    for name in ["a", "a-b.c1", "0"] {
        assert_eq!(home.knit(&["plan", "serviceaccount", "--set", name, "p1"]).code, Some(1), "nobody is there");
    }
}

#[test]
fn help_is_a_command_too() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    let ended = home.knit(&["help", "data", "push"]);
    assert_eq!((ended.code, &ended.text()), (Some(0), &home.knit(&["data", "push", "--help"]).text()), "{ended:?}");
    assert_eq!(home.knit(&["help"]).text(), home.knit(&["--help"]).text());
    assert_eq!(home.knit(&["help", "nothing"]).code, Some(2));
}

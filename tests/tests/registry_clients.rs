//! The registry serves the tools that people have: skopeo and podman push and pull, and what they
//! pushed runs.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::wire::Request;
use knit_tests::{Step, World, able};
use std::path::PathBuf;

/// An OCI layout of the busybox image, fetched with skopeo from where `knit image pack` has put it.
fn layout(world: &World) -> PathBuf {
    let image = world.busybox();
    let layout = world.base().join("layout");
    let from = format!("docker://{}/{image}", world.registry());
    let to = format!("oci:{}:busybox", layout.display());
    let login = credentials(world);
    world.run("skopeo", &["copy", "--src-tls-verify=false", "--src-creds", &login, &from, &to]).ok();
    layout
}

fn credentials(world: &World) -> String {
    format!("knit:{}", world.token().expect("a token is asked for by default"))
}

/// Applies a Plan with this image and claims that it runs.
fn runs(world: &World, image: &str) {
    let step = Step::new(image, "echo it runs > /out/x").input("/in", &["a:b"]).output("/out", &["of:image"]);
    if world.find_data(&["a:b"]).is_empty() {
        world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    }
    let plan = world.apply(&step);
    world.all_done(&plan);
}

#[test]
fn skopeo_pushes_and_pulls_and_its_image_runs() {
    if !able(&[ROOT, BUSYBOX, "skopeo"]) {
        return;
    }
    let world = World::start();
    let layout = layout(&world);
    let (registry, login) = (world.registry(), credentials(&world));
    let from = format!("oci:{}:busybox", layout.display());
    for name in ["one-part:v1", "two/parts:v1", "a/deep/er/name:v1"] {
        let to = format!("docker://{registry}/{name}");
        world.run("skopeo", &["copy", "--dest-tls-verify=false", "--dest-creds", &login, &from, &to]).ok();
    }
    let as_docker = format!("docker://{registry}/two/docker-format:v1");
    let format = ["copy", "--format", "v2s2", "--dest-tls-verify=false", "--dest-creds", &login, &from, &as_docker];
    world.run("skopeo", &format).ok();
    let tags = format!("docker://{registry}/two/parts");
    let listed = world.run("skopeo", &["list-tags", "--tls-verify=false", "--creds", &login, &tags]).ok().json();
    assert_eq!(listed["Tags"], serde_json::json!(["v1"]));
    for name in ["one-part:v1", "a/deep/er/name:v1", "two/docker-format:v1"] {
        runs(&world, name);
    }
    // Names with the host under which the original's users know the registry mean this one.
    runs(&world, "localhost:30503/two/parts:v1");

    let back = format!("oci:{}:again", world.base().join("back").display());
    let from = format!("docker://{registry}/two/parts:v1");
    world.run("skopeo", &["copy", "--src-tls-verify=false", "--src-creds", &login, &from, &back]).ok();
    let delete = ["delete", "--tls-verify=false", "--creds", &login, &from];
    world.run("skopeo", &delete).ok();
    let gone = Request::new("GET", "/v2/two/parts/manifests/v1").basic("knit", &world.token().expect("a token"));
    gone.send(&registry).status(404);
}

#[test]
fn a_pushed_image_is_listed_and_pushed_again_from_its_archive() {
    if !able(&[ROOT, BUSYBOX, "skopeo"]) {
        return;
    }
    let world = World::start();
    let layout = layout(&world);
    let from = format!("oci:{}:busybox", layout.display());
    let text = |path: &PathBuf| path.to_str().expect("a UTF-8 path").to_owned();
    let docker = world.base().join("docker.tar");
    let oci = world.base().join("oci.tar");
    world.run("skopeo", &["copy", &from, &format!("docker-archive:{}:story/saved:v1", docker.display())]).ok();
    world.run("skopeo", &["copy", &from, &format!("oci-archive:{}:v1", oci.display())]).ok();
    for (source, name) in [(&docker, "from/docker:v1"), (&oci, "from/oci:v1"), (&layout, "from/layout:v1")] {
        world.knit(&["image", "push", &text(source), name]).ok();
        runs(&world, name);
    }
    let bytes = std::fs::read(&docker).expect("the archive");
    world.knit_with_input(&["image", "push", "-", "from/stdin:v1"], bytes).ok();
    let listed = world.knit(&["image", "ls"]).ok().text();
    for name in ["from/docker", "from/oci", "from/layout", "from/stdin", "story/busybox"] {
        assert!(listed.contains(name), "{name} is missing:\n{listed}");
    }
}

#[test]
fn podman_pushes_and_pulls() {
    if !able(&[ROOT, BUSYBOX, "podman", "skopeo"]) {
        return;
    }
    let world = World::start();
    let layout = layout(&world);
    let (registry, login) = (world.registry(), credentials(&world));
    let store = world.base().join("podman");
    let (root, run_root) = (store.join("root").display().to_string(), store.join("run").display().to_string());
    let podman = |arguments: &[&str]| {
        let place =
            ["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
        world.run("podman", &[&place, arguments].concat())
    };
    let archive = world.base().join("docker.tar");
    let from = format!("oci:{}:busybox", layout.display());
    world.run("skopeo", &["copy", &from, &format!("docker-archive:{}:story/saved:v1", archive.display())]).ok();
    podman(&["load", "--quiet", "--input", archive.to_str().expect("UTF-8")]).ok();
    let id = "story/saved:v1";
    let name = format!("{registry}/by/podman:v1");
    podman(&["push", "--tls-verify=false", "--creds", &login, id, &format!("docker://{name}")]).ok();
    podman(&["rmi", "--all", "--force"]).ok();
    podman(&["pull", "--tls-verify=false", "--creds", &login, &name]).ok();
    runs(&world, "by/podman:v1");
}

#[test]
fn a_blob_is_read_in_parts() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start_without_tokens();
    world.busybox();
    let registry = world.registry();
    let manifest = Request::new("GET", "/v2/story/busybox/manifests/v1")
        .header("Accept", "application/vnd.oci.image.manifest.v1+json")
        .send(&registry)
        .status(200)
        .json();
    let layer = &manifest["layers"][0];
    let size = layer["size"].as_u64().expect("a size");
    let path = format!("/v2/story/busybox/blobs/{}", layer["digest"].as_str().expect("a digest"));
    let whole = Request::new("GET", &path).send(&registry).status(200).body;
    assert_eq!(whole.len() as u64, size);
    for (range, expected) in [
        ("bytes=0-9".to_owned(), &whole[..10]),
        ("bytes=100-199".to_owned(), &whole[100..200]),
        (format!("bytes={}-", size - 7), &whole[whole.len() - 7..]),
    ] {
        let part = Request::new("GET", &path).header("Range", &range).send(&registry).status(206);
        assert_eq!(part.body, expected, "{range}");
    }
    Request::new("GET", &path).header("Range", &format!("bytes={size}-")).send(&registry).status(416);
    let head = Request::new("HEAD", &path).send(&registry).status(200);
    assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
}

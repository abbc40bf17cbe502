//! What `knit image` does, against the real registry: pack, push from every form, list.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod registry_support;

/// As one who knows the registry's token.
fn access() -> Access {
    Access { token: Some(TOKEN.to_owned()), ca: None }
}

use knit_api::image::ImageRef;
use knit_api::server::Registry as Address;
use knit_cli::image::{Access, ImageError, PackOptions, Place, Progress, Pushed, Source, list, pack, push};
use knit_server::content::Digest;
use knit_server::engine::local::images::Images;
use knit_tests::able;
use knit_tests::able::ROOT;
use registry_support::{Registry, TOKEN, layout, run, small_layers};
use std::path::Path;
use std::sync::Mutex;

fn address(registry: &Registry) -> Address {
    Address { host: registry.address.to_string(), insecure: true }
}

fn source(path: &Path) -> Source {
    Source { place: Place::Path(path.to_owned()), select: None }
}

fn name(text: &str) -> ImageRef {
    text.parse().unwrap()
}

async fn send(registry: &Registry, source: Source, to: &str) -> Result<Pushed, ImageError> {
    push(source, &name(to), &address(registry), &access(), &()).await
}

/// Counts what is sent and what is not.
#[derive(Default)]
struct Watch(Mutex<(Vec<u64>, u64, usize, usize)>);

impl Progress for Watch {
    fn begin(&self, _digest: &str, bytes: u64) {
        self.0.lock().unwrap().0.push(bytes);
    }
    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().1 += bytes;
    }
    fn end(&self) {
        self.0.lock().unwrap().2 += 1;
    }
    fn skip(&self, _digest: &str, _bytes: u64) {
        self.0.lock().unwrap().3 += 1;
    }
}

#[tokio::test]
async fn a_folder_is_packed_pushed_listed_and_run_from() {
    let registry = Registry::start(Some(TOKEN)).await;
    let rootfs = registry.path("rootfs");
    std::fs::create_dir_all(rootfs.join("bin")).unwrap();
    std::fs::write(rootfs.join("bin/train"), b"#!").unwrap();
    std::os::unix::fs::symlink("train", rootfs.join("bin/link")).unwrap();
    std::fs::hard_link(rootfs.join("bin/train"), rootfs.join("bin/zzz")).unwrap();
    let options = PackOptions {
        entrypoint: vec!["/bin/train".to_owned(), "--fast".to_owned()],
        env: vec!["A=b".to_owned()],
        workdir: Some("/work".to_owned()),
        user: Some("7:8".to_owned()),
        ..PackOptions::default()
    };
    let packed = pack(&rootfs, options).await.unwrap();
    let watch = Watch::default();
    let to = name("localhost:30503/first-train/train:v1");
    let pushed = push(packed.source(), &to, &address(&registry), &access(), &watch).await.unwrap();
    assert_eq!(pushed, Pushed { reference: "first-train/train:v1".to_owned(), digest: packed.digest.clone() });
    let (begun, sent, ended, skipped) = watch.0.into_inner().unwrap();
    assert_eq!((begun.len(), begun.iter().sum::<u64>(), ended, skipped), (2, sent, 2, 0));
    let again = Watch::default();
    let to = name("other:v2");
    push(packed.source(), &name("first-train/train:v2"), &address(&registry), &access(), &again).await.unwrap();
    push(packed.source(), &to, &address(&registry), &access(), &()).await.unwrap();
    assert_eq!(again.0.into_inner().unwrap(), (Vec::new(), 0, 0, 2));

    let listed = list(&address(&registry), &access()).await.unwrap();
    let shown: Vec<_> = listed.iter().map(|one| format!("{}:{}", one.repository, one.tag)).collect();
    assert_eq!(shown, ["first-train/train:v1", "first-train/train:v2", "other:v2"]);
    assert!(listed.iter().all(|one| one.digest == packed.digest && one.size == sent));

    if able(&[ROOT]) {
        let images = Images::new(registry.content.clone(), registry.path("layers"));
        let prepared = images.prepare(&name("first-train/train:v1")).await.unwrap();
        assert_eq!(prepared.entrypoint, ["/bin/train", "--fast"]);
        assert_eq!((prepared.user.as_str(), prepared.working_dir.as_str()), ("7:8", "/work"));
        let layer = &prepared.layers[0];
        assert_eq!(std::fs::read(layer.join("bin/zzz")).unwrap(), b"#!");
        assert_eq!(std::fs::read_link(layer.join("bin/link")).unwrap(), Path::new("train"));
    }
}

#[tokio::test]
async fn images_are_pushed_from_every_form_that_tools_write() {
    let registry = Registry::start(Some(TOKEN)).await;
    let folder = registry.path("layout");
    let digest = layout(&folder, "v1", &small_layers(), true);
    let from = format!("oci:{}:v1", folder.display());
    let at = |name: &str| registry.path(name);
    let text = |path: &Path| path.display().to_string();
    let policy = "--insecure-policy";
    let docker = format!("docker-archive:{}:some/name:v1", text(&at("docker.tar")));
    let oci = format!("oci-archive:{}:v1", text(&at("oci.tar")));
    for to in [&docker, &oci] {
        run("skopeo", &[policy, "copy", "-q", &from, to]).await;
    }
    run("sh", &["-c", &format!("gzip -k {0}; zstd -q {0}", text(&at("docker.tar")))]).await;
    run("tar", &["-C", &text(&folder), "-cf", &text(&at("plain.tar")), "."]).await;
    let mut digests = Vec::new();
    for file in ["layout", "oci.tar", "plain.tar", "docker.tar", "docker.tar.gz", "docker.tar.zst"] {
        let to = format!("from/{}:v1", file.to_lowercase().replace('.', "-"));
        let pushed = send(&registry, source(&at(file)), &to).await.unwrap();
        let raw = run(
            "skopeo",
            &[
                policy,
                "inspect",
                "--raw",
                "--tls-verify=false",
                "--creds",
                &format!("x:{TOKEN}"),
                &registry.docker(&to),
            ],
        )
        .await;
        assert_eq!(Digest::of(raw.as_bytes()).to_string(), pushed.digest, "{file}");
        if able(&[ROOT]) {
            let images = Images::new(registry.content.clone(), registry.path("layers"));
            let prepared = images.prepare(&name(&to)).await.unwrap();
            assert!(prepared.layers.len() == 2 && prepared.layers[1].join("etc/new").is_file(), "{file}");
        }
        digests.push(pushed.digest);
    }
    assert!(digests[0] == digest.to_string() && digests[1] == digests[0] && digests[2] == digests[0], "{digests:?}");
    assert!(digests[3] == digests[4] && digests[4] == digests[5], "{digests:?}");
}

#[tokio::test]
async fn of_several_images_one_must_be_named() {
    let registry = Registry::start(Some(TOKEN)).await;
    let folder = registry.path("layout");
    let first = layout(&folder, "one:v1", &small_layers(), true);
    let index =
        || -> serde_json::Value { serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap() };
    let mut both = index();
    layout(&folder, "two:v1", &small_layers()[..1], true);
    let second = index()["manifests"][0].clone();
    both["manifests"].as_array_mut().unwrap().push(second);
    std::fs::write(folder.join("index.json"), both.to_string()).unwrap();
    let error = send(&registry, source(&folder), "x1:v1").await.unwrap_err();
    let ImageError::Selection { names, .. } = &error else { panic!("{error}") };
    let mut names = names.clone();
    names.sort();
    assert_eq!(names, ["one:v1", "two:v1"]);
    for select in ["one:v1".to_owned(), first.to_string()] {
        let chosen = Source { select: Some(select), ..source(&folder) };
        assert_eq!(send(&registry, chosen, "x1:v1").await.unwrap().digest, first.to_string());
    }
    let none = Source { select: Some("three".to_owned()), ..source(&folder) };
    assert!(send(&registry, none, "x1:v1").await.unwrap_err().to_string().contains("one:v1"));
}

#[tokio::test]
async fn an_index_of_which_only_one_image_was_saved_is_pushed_as_that_image() {
    let registry = Registry::start(Some(TOKEN)).await;
    let folder = registry.path("layout");
    let image = layout(&folder, "x", &small_layers(), true);
    let size = std::fs::metadata(folder.join("blobs/sha256").join(image.hex())).unwrap().len();
    let entry = |digest: Digest| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            "platform": { "os": "linux", "architecture": registry_support::architecture() },
        })
    };
    let oci_index = "application/vnd.oci.image.index.v1+json";
    for (absent, alone) in [(vec![entry(Digest::of(b"absent"))], true), (vec![], false)] {
        let listed: Vec<_> = [entry(image)].into_iter().chain(absent).collect();
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": oci_index, "manifests": listed }).to_string();
        let digest = Digest::of(index.as_bytes());
        std::fs::write(folder.join("blobs/sha256").join(digest.hex()), &index).unwrap();
        let top = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{ "mediaType": oci_index, "digest": digest, "size": index.len() }],
        });
        std::fs::write(folder.join("index.json"), top.to_string()).unwrap();
        let pushed = send(&registry, source(&folder), "x1:v1").await.unwrap();
        assert_eq!(pushed.digest, if alone { image } else { digest }.to_string());
    }
    let sizes: Vec<_> = list(&address(&registry), &access()).await.unwrap().iter().map(|one| one.size).collect();
    assert!(sizes.len() == 1 && sizes[0] > 0, "{sizes:?}");
}

#[tokio::test]
async fn what_cannot_be_pushed_says_why_and_leaves_no_tag() {
    let registry = Registry::start(Some(TOKEN)).await;
    let folder = registry.path("layout");
    layout(&folder, "v1", &small_layers(), false);
    let at = address(&registry);
    let wrong =
        push(source(&folder), &name("x1:v1"), &at, &Access { token: Some("wrong".to_owned()), ..access() }, &())
            .await
            .unwrap_err();
    assert!(matches!(wrong, ImageError::NotAuthorised { .. }), "{wrong}");
    let wrong = push(source(&folder), &name("x1:v1"), &at, &Access::default(), &()).await.unwrap_err();
    assert!(matches!(wrong, ImageError::NotAuthorised { .. }), "{wrong}");
    let nobody = Address { host: "127.0.0.1:1".to_owned(), insecure: true };
    let error = push(source(&folder), &name("x1:v1"), &nobody, &access(), &()).await.unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
    let error = send(&registry, source(&folder), "example.com/x1:v1").await.unwrap_err().to_string();
    assert!(error.contains("it names another registry; write x1:v1"), "{error}");
    let error = send(&registry, source(&folder), "x1//y:v1").await.unwrap_err().to_string();
    assert!(error.contains("joined by"), "{error}");

    let layer = Digest::of(&small_layers()[0]);
    let blob = folder.join("blobs/sha256").join(layer.hex());
    let good = std::fs::read(&blob).unwrap();
    let mut bytes = good.clone();
    bytes[700] ^= 1;
    std::fs::write(&blob, &bytes).unwrap();
    let error = send(&registry, source(&folder), "x1:v1").await.unwrap_err();
    assert!(matches!(error, ImageError::Damaged { .. }) && error.to_string().contains(&layer.to_string()), "{error}");
    std::fs::write(&blob, &good[..good.len() - 1]).unwrap();
    assert!(matches!(send(&registry, source(&folder), "x1:v1").await.unwrap_err(), ImageError::Damaged { .. }));
    std::fs::remove_file(&blob).unwrap();
    assert!(matches!(send(&registry, source(&folder), "x1:v1").await.unwrap_err(), ImageError::Damaged { .. }));
    for (content, word) in
        [(&b""[..], "it is empty"), (b"hello", "no tar archive"), (&[0; 1024], "no archive of an image")]
    {
        std::fs::write(registry.path("file"), content).unwrap();
        let error = send(&registry, source(&registry.path("file")), "x1:v1").await.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let error = send(&registry, source(&registry.path("nowhere")), "x1:v1").await.unwrap_err();
    assert!(matches!(error, ImageError::Source { .. }), "{error}");
    assert_eq!(list(&at, &access()).await.unwrap(), []);
}

//! Images from name to layers: from the built-in registry, from other registries, damaged and moved.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod registry_support;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use knit_api::image::ImageRef;
use knit_server::content::{ContentStore, Digest};
use knit_server::engine::local::images::{ImageProblem, Images, PreparedImage};
use knit_tests::able;
use knit_tests::able::ROOT;
use registry_support::{Registry, TOKEN, architecture, entry, gzip, layout, run, small_layers};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Puts an image of these layers into a registry.
async fn push(registry: &Registry, name: &str, layers: &[Vec<u8>], gzipped: bool) -> Digest {
    let folder = tempfile::tempdir().unwrap();
    let digest = layout(folder.path(), "x", layers, gzipped);
    let (from, to) = (format!("oci:{}:x", folder.path().display()), registry.docker(name));
    let creds = format!("x:{TOKEN}");
    let policy = "--insecure-policy";
    run("skopeo", &[policy, "copy", "--dest-tls-verify=false", "--dest-creds", &creds, &from, &to]).await;
    digest
}

fn name(text: &str) -> ImageRef {
    text.parse().unwrap()
}

fn local(registry: &Registry) -> Images {
    Images::new(registry.content.clone(), registry.path("layers")).with_registry(registry.address)
}

/// Images of a machine that only knows other registries.
fn elsewhere(folder: &Path) -> Images {
    let content = Arc::new(ContentStore::open(&folder.join("content")).unwrap());
    Images::new(content, folder.join("layers"))
}

fn one_file(path: &str, content: &[u8]) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    entry(&mut layer, path, tar::EntryType::Regular, 0o644, content);
    layer.into_inner().unwrap()
}

#[tokio::test]
async fn an_image_of_the_built_in_registry_is_stacked_as_it_was_made() {
    if !able(&[ROOT]) {
        return;
    }
    let registry = Registry::start(Some(TOKEN)).await;
    let digest = push(&registry, "first-train/train:v1", &small_layers(), true).await;
    let images = local(&registry);
    let port = registry.address.port();
    let prepared = images.prepare(&name("first-train/train:v1")).await.unwrap();
    for other in [
        "localhost:30503/first-train/train:v1".to_owned(),
        format!("127.0.0.1:{port}/first-train/train:v1"),
        format!("localhost:{port}/first-train/train:v1"),
    ] {
        assert_eq!(images.prepare(&name(&other)).await.unwrap(), prepared, "{other}");
    }
    let layers = prepared.layers.clone();
    assert_eq!(
        prepared,
        PreparedImage {
            digest: digest.to_string(),
            layers: layers.clone(),
            user: "1000:1000".to_owned(),
            working_dir: "/work".to_owned(),
            env: vec!["PATH=/bin".to_owned(), "A=b".to_owned()],
            entrypoint: vec!["/bin/hello".to_owned()],
            cmd: vec!["world".to_owned()],
        }
    );
    assert_eq!(layers.len(), 2);
    assert!(layers[0].join("bin/hello").is_file() && layers[1].join("etc/new").is_file());
    assert!(std::fs::symlink_metadata(layers[1].join("etc/old")).unwrap().file_type().is_char_device());
    let stacked = registry.path("stacked");
    std::fs::create_dir(&stacked).unwrap();
    let options = format!("lowerdir={}:{}", layers[1].display(), layers[0].display());
    run("mount", &["-t", "overlay", "overlay", "-o", &options, stacked.to_str().unwrap()]).await;
    let seen = (
        stacked.join("etc/old").exists(),
        std::fs::read(stacked.join("etc/new")).unwrap(),
        std::fs::metadata(stacked.join("etc")).unwrap().mode() & 0o7777,
        stacked.join("bin/hello").exists(),
    );
    run("umount", &[stacked.to_str().unwrap()]).await;
    assert_eq!(seen, (false, b"new".to_vec(), 0o750, true));
}

#[tokio::test]
async fn many_callers_share_the_work_and_a_restart_keeps_it() {
    if !able(&[ROOT]) {
        return;
    }
    let registry = Registry::start(Some(TOKEN)).await;
    push(&registry, "x1:v1", &small_layers(), false).await;
    let images = Arc::new(local(&registry));
    let calls = (0..8).map(|_| {
        let images = images.clone();
        tokio::spawn(async move { images.prepare(&name("x1:v1")).await.unwrap() })
    });
    let prepared: Vec<_> = futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(prepared.iter().all(|one| *one == prepared[0]));
    let inode = std::fs::metadata(&prepared[0].layers[0]).unwrap().ino();

    let half = registry.path("layers").join(".incoming/half");
    std::fs::create_dir_all(half.join("etc")).unwrap();
    let again = local(&registry);
    assert!(!half.exists());
    assert_eq!(again.prepare(&name("x1:v1")).await.unwrap(), prepared[0]);
    assert_eq!(std::fs::metadata(&prepared[0].layers[0]).unwrap().ino(), inode);

    let hour = std::time::Duration::from_hours(1);
    let past = std::time::SystemTime::now() - hour;
    assert_eq!(again.remove_unused(&std::collections::HashSet::new(), past).unwrap(), 0);
    let future = std::time::SystemTime::now() + hour;
    let in_use = [prepared[0].layers[0].clone()].into();
    assert_eq!(again.remove_unused(&in_use, future).unwrap(), 1);
    assert!(prepared[0].layers[0].exists() && !prepared[0].layers[1].exists());
    assert_eq!(again.prepare(&name("x1:v1")).await.unwrap(), prepared[0]);
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_a_name_is_said() {
    let registry = Registry::start(Some(TOKEN)).await;
    let images = local(&registry);
    for image in ["nothing:v1", "localhost:30503/no/thing:v2", "a//b:v1", "no/-thing:v1"] {
        let problem = images.prepare(&name(image)).await.unwrap_err();
        assert!(matches!(problem, ImageProblem::NotFound { .. }), "{image}: {problem}");
    }
    let problem = images.prepare(&name("nothing:v1")).await.unwrap_err().to_string();
    assert_eq!(
        problem,
        "image nothing:v1 is not there: the built-in registry has no nothing:v1; push it with \
         `knit image push`, or correct the Plan's image"
    );
}

#[tokio::test]
async fn a_damaged_layer_is_named_and_a_new_push_mends_it() {
    if !able(&[ROOT]) {
        return;
    }
    let registry = Registry::start(Some(TOKEN)).await;
    let layer = one_file("a", &vec![7; 100_000]);
    push(&registry, "bad:v1", std::slice::from_ref(&layer), true).await;
    let stored = Digest::of(&gzip(&layer));
    let path = registry.content.root().join("blobs/sha256").join(&stored.hex()[..2]).join(stored.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&path, &bytes).unwrap();
    let images = local(&registry);
    let problem = images.prepare(&name("bad:v1")).await.unwrap_err();
    assert!(matches!(&problem, ImageProblem::Bad { cause, .. } if cause.contains(&stored.to_string())), "{problem}");
    assert!(problem.to_string().contains("push or run the image again"), "{problem}");
    assert_eq!(std::fs::read_dir(registry.path("layers").join(".incoming")).unwrap().count(), 0);
    push(&registry, "bad:v1", &[layer], true).await;
    assert_eq!(images.prepare(&name("bad:v1")).await.unwrap().layers.len(), 1);
}

#[tokio::test]
async fn an_image_for_other_machines_lists_its_platforms() {
    let registry = Registry::start(None).await;
    let repository = registry.content.repository(&"multi".parse().unwrap());
    push(&registry, "multi:mine", &small_layers(), true).await;
    let mine = repository.resolve(&"mine".parse().unwrap()).unwrap();
    let size = repository.manifest(&mine).unwrap().size;
    let index = |platforms: &[&str]| {
        let entries: Vec<_> = platforms
            .iter()
            .map(|platform| {
                let (os, architecture) = platform.split_once('/').unwrap();
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": mine, "size": size,
                    "platform": { "os": os, "architecture": architecture },
                })
            })
            .collect();
        serde_json::json!({ "schemaVersion": 2, "manifests": entries }).to_string()
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let others = index(&["linux/sparc", "unknown/unknown", "windows/amd64"]);
    repository.put_manifest(others.as_bytes(), kind, Some(&"others".parse().unwrap())).unwrap();
    let host = format!("linux/{}", architecture());
    let all = index(&["linux/sparc", "unknown/unknown", &host]);
    repository.put_manifest(all.as_bytes(), kind, Some(&"all".parse().unwrap())).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let port = registry.address.port();
    for (images, prefix) in
        [(local(&registry), String::new()), (elsewhere(folder.path()), format!("127.0.0.1:{port}/"))]
    {
        let problem = images.prepare(&name(&format!("{prefix}multi:others"))).await.unwrap_err();
        let text = problem.to_string();
        assert!(text.contains("its platforms are: linux/sparc, windows/amd64"), "{text}");
        if able(&[ROOT]) {
            let prepared = images.prepare(&name(&format!("{prefix}multi:all"))).await.unwrap();
            assert_eq!(prepared.digest, mine.to_string());
        }
    }
}

#[tokio::test]
async fn other_registries_are_fetched_from_and_a_moved_tag_is_seen() {
    if !able(&[ROOT]) {
        return;
    }
    let remote = Registry::start(None).await;
    let first = push(&remote, "deep/er/image:v1", &small_layers(), true).await;
    let folder = tempfile::tempdir().unwrap();
    let images = elsewhere(folder.path());
    let image = name(&format!("{}/deep/er/image:v1", remote.address));
    let prepared = images.prepare(&image).await.unwrap();
    assert_eq!((prepared.digest.as_str(), prepared.layers.len()), (first.to_string().as_str(), 2));
    let mut layers = small_layers();
    layers.push(one_file("more", b"more"));
    let second = push(&remote, "deep/er/image:v1", &layers, true).await;
    let moved = images.prepare(&image).await.unwrap();
    assert_eq!(moved.digest, second.to_string());
    assert_eq!(moved.layers[..2], prepared.layers[..]);
    let problem = images.prepare(&name(&format!("{}/deep/er/image:none", remote.address))).await.unwrap_err();
    assert!(matches!(problem, ImageProblem::NotFound { .. }), "{problem}");

    let closed = Registry::start(Some(TOKEN)).await;
    push(&closed, "secret:v1", &small_layers(), true).await;
    let problem = images.prepare(&name(&format!("{}/secret:v1", closed.address))).await.unwrap_err();
    let expected = matches!(&problem, ImageProblem::NotFound { detail, .. } if detail.contains("without a login"));
    assert!(expected, "{problem}");
}

/// A registry that answers as `answer` says, given the path and how often it was asked for before.
async fn fake<F>(answer: F) -> SocketAddr
where
    F: Fn(&str, usize, Option<String>) -> Response + Clone + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<std::sync::Mutex<std::collections::HashMap<String, usize>>> = Arc::default();
    let router = axum::Router::new().fallback(move |request: Request| {
        let (answer, asked) = (answer.clone(), asked.clone());
        async move {
            let path = request.uri().path().to_owned();
            let range = request.headers().get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
            let before = {
                let mut asked = asked.lock().unwrap();
                let count = asked.entry(path.clone()).or_default();
                *count += 1;
                *count - 1
            };
            if path == "/v2/" { StatusCode::OK.into_response() } else { answer(&path, before, range) }
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_stops_the_run_even_when_the_image_is_known() {
    if !able(&[ROOT]) {
        return;
    }
    let manifests = tempfile::tempdir().unwrap();
    let digest = layout(manifests.path(), "x", &small_layers(), true);
    let blobs = manifests.path().join("blobs/sha256");
    let up = Arc::new(AtomicUsize::new(1));
    let answer = {
        let up = up.clone();
        move |path: &str, _: usize, _: Option<String>| {
            if up.load(Ordering::SeqCst) == 0 {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            let hex = path.rsplit_once(':').map_or(digest.hex(), |(_, hex)| hex.to_owned());
            std::fs::read(blobs.join(hex)).unwrap().into_response()
        }
    };
    let address = fake(answer).await;
    let folder = tempfile::tempdir().unwrap();
    let images = elsewhere(folder.path());
    let image = name(&format!("{address}/known:v1"));
    assert_eq!(images.prepare(&image).await.unwrap().digest, digest.to_string());
    up.store(0, Ordering::SeqCst);
    let problem = images.prepare(&image).await.unwrap_err();
    assert!(matches!(&problem, ImageProblem::Unreachable { cause, .. } if cause.contains("503")), "{problem}");
    let nobody = images.prepare(&name("127.0.0.1:1/known:v1")).await.unwrap_err();
    assert!(matches!(nobody, ImageProblem::Unreachable { .. }), "{nobody}");
}

#[tokio::test]
async fn a_layer_that_breaks_off_is_continued_and_one_that_lies_is_refused() {
    if !able(&[ROOT]) {
        return;
    }
    let mut noise = 1_u32;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    })
    .take(400_000)
    .collect();
    let layer = one_file("large", &content);
    let manifests = tempfile::tempdir().unwrap();
    let digest = layout(manifests.path(), "x", std::slice::from_ref(&layer), true);
    let large = Digest::of(&gzip(&layer));
    let blobs = manifests.path().join("blobs/sha256");
    let lie = Arc::new(AtomicUsize::new(0));
    let answer = {
        let lie = lie.clone();
        move |path: &str, before: usize, range: Option<String>| {
            let hex = path.rsplit_once(':').map_or(digest.hex(), |(_, hex)| hex.to_owned());
            let mut bytes = std::fs::read(blobs.join(&hex)).unwrap();
            if hex != large.hex() {
                return bytes.into_response();
            }
            match lie.load(Ordering::SeqCst) {
                1 => bytes[1000] ^= 1,
                2 => bytes.extend_from_slice(b"more than was said"),
                _ => {}
            }
            let range = range.unwrap();
            let first: usize = range.strip_prefix("bytes=").unwrap().split('-').next().unwrap().parse().unwrap();
            if before == 1 {
                // This one does not know ranges: all comes again.
                return bytes.into_response();
            }
            let end = if before == 0 { bytes.len() / 3 } else { bytes.len() };
            let full = bytes.len();
            let headers = [(header::CONTENT_RANGE, format!("bytes {first}-{}/{full}", full - 1))];
            (StatusCode::PARTIAL_CONTENT, headers, bytes[first..end].to_vec()).into_response()
        }
    };
    for (kind, image, good) in [(0, "good:v1", true), (1, "altered:v1", false), (2, "longer:v1", false)] {
        lie.store(kind, Ordering::SeqCst);
        let address = fake(answer.clone()).await;
        let folder = tempfile::tempdir().unwrap();
        let ended = elsewhere(folder.path()).prepare(&name(&format!("{address}/{image}"))).await;
        match ended {
            Ok(prepared) => {
                assert!(good, "{image}");
                assert_eq!(std::fs::read(prepared.layers[0].join("large")).unwrap(), content);
            }
            Err(ImageProblem::Bad { cause, .. }) => {
                assert!(!good && cause.contains(&large.to_string()), "{image}: {cause}");
            }
            Err(problem) => panic!("{image}: {problem}"),
        }
        assert_eq!(std::fs::read_dir(folder.path().join("content/incoming")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn an_endless_manifest_is_read_only_up_to_its_bound() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let address = fake(move |_, _, _| {
        let count = count.clone();
        let endless = futures_util::stream::repeat_with(move || {
            count.fetch_add(1 << 16, Ordering::SeqCst);
            Ok::<_, std::io::Error>(axum::body::Bytes::from(vec![b' '; 1 << 16]))
        });
        axum::body::Body::from_stream(endless).into_response()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let problem = elsewhere(folder.path()).prepare(&name(&format!("{address}/endless:v1"))).await.unwrap_err();
    assert!(
        matches!(&problem, ImageProblem::Bad { cause, .. } if cause.contains("more than 4194304 bytes")),
        "{problem}"
    );
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "it is not read on");
}

#[tokio::test]
async fn a_registry_that_hands_out_tokens_is_asked_with_one() {
    if !able(&[ROOT]) {
        return;
    }
    let manifests = tempfile::tempdir().unwrap();
    let digest = layout(manifests.path(), "x", &small_layers(), true);
    let blobs = manifests.path().join("blobs/sha256");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(move |request: Request| {
        let blobs = blobs.clone();
        async move {
            let path = request.uri().path();
            if path == "/token" {
                assert_eq!(request.uri().query(), Some("scope=repository%3Ahanded%2Fout%3Apull&service=x"));
                return r#"{"token":"t0ken"}"#.into_response();
            }
            if request.headers().get(header::AUTHORIZATION).is_none_or(|given| given != "Bearer t0ken") {
                let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"x\"");
                return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
            }
            let hex = path.rsplit_once(':').map_or(digest.hex(), |(_, hex)| hex.to_owned());
            std::fs::read(blobs.join(hex)).unwrap().into_response()
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let folder = tempfile::tempdir().unwrap();
    let prepared = elsewhere(folder.path()).prepare(&name(&format!("{address}/handed/out:v1"))).await.unwrap();
    assert_eq!(prepared.digest, digest.to_string());
}

#[tokio::test]
async fn what_is_no_container_image_is_refused_with_its_kind() {
    let registry = Registry::start(None).await;
    let old = fake(|_, _, _| r#"{"schemaVersion":1,"name":"old","fsLayers":[]}"#.into_response()).await;
    let folder = tempfile::tempdir().unwrap();
    let images = elsewhere(folder.path());
    let problem = images.prepare(&name(&format!("{old}/old:v1"))).await.unwrap_err().to_string();
    assert!(problem.contains("schema 1"), "{problem}");
    let html = fake(|_, _, _| "<html>".into_response()).await;
    let problem = images.prepare(&name(&format!("{html}/page:v1"))).await.unwrap_err();
    assert!(matches!(problem, ImageProblem::Bad { .. }), "{problem}");

    let repository = registry.content.repository(&"chart".parse().unwrap());
    let digest = Digest::of(b"{}");
    registry
        .content
        .store_blob(futures_util::stream::iter([Ok::<_, std::io::Error>("{}".into())]), digest)
        .await
        .unwrap();
    repository.link_blob(&digest).unwrap();
    let chart = format!(
        r#"{{"schemaVersion":2,"layers":[],
        "config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{digest}","size":2}}}}"#
    );
    repository.put_manifest(chart.as_bytes(), "", Some(&"v1".parse().unwrap())).unwrap();
    let problem = local(&registry).prepare(&name("chart:v1")).await.unwrap_err().to_string();
    assert!(problem.contains("it is no container image but \"application/vnd.cncf.helm.config.v1+json\""), "{problem}");
}

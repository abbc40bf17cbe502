//! The registry as real clients see it: skopeo, podman and curl.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod registry_support;

use knit_server::content::{ContentStore, Digest};
use registry_support::{Registry, TOKEN, curl, curl_bare, layout, output, run, small_layers};

#[tokio::test]
async fn without_the_token_everything_but_healthz_is_refused() {
    let registry = Registry::start(Some(TOKEN)).await;
    let blob = format!("/v2/a/blobs/{}", Digest::of(b""));
    for (method, path) in [
        ("GET", "/v2/"),
        ("GET", "/v2"),
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/a/tags/list"),
        ("HEAD", &blob),
        ("GET", &blob),
        ("DELETE", &blob),
        ("POST", "/v2/a/blobs/uploads/"),
        ("PUT", "/v2/a/manifests/x"),
        ("DELETE", "/v2/a/manifests/x"),
        ("GET", "/"),
        ("GET", "/nowhere"),
    ] {
        let seen = curl_bare(&registry, method, path, &[]).await;
        assert_eq!(seen.status, 401, "{method} {path}");
        assert!(seen.header("www-authenticate").unwrap().starts_with("Basic "), "{method} {path}");
        let wrong = curl_bare(&registry, method, path, &["--user", "x:wrong"]).await;
        assert_eq!(wrong.status, 401, "{method} {path}");
    }
    assert_eq!(curl_bare(&registry, "GET", "/healthz", &[]).await.status, 200);
    let version = curl(&registry, "GET", "/v2/", &[]).await;
    assert_eq!((version.status, version.header("docker-distribution-api-version")), (200, Some("registry/2.0")));
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(curl_bare(&registry, "GET", "/v2/", &["-H", &bearer]).await.status, 200);
}

#[tokio::test]
async fn without_a_token_programs_of_this_machine_are_let_in_and_web_pages_are_not() {
    let open = Registry::start(None).await;
    let port = open.address.port();
    let own = format!("Origin: http://127.0.0.1:{port}");
    let name = format!("Host: localhost:{port}");
    for let_in in [&[][..], &["-H", &name], &["-H", &own]] {
        assert_eq!(curl_bare(&open, "GET", "/v2/", let_in).await.status, 200, "{let_in:?}");
    }
    let rebound = format!("Host: evil.example:{port}");
    for refused in [["-H", rebound.as_str()], ["-H", "Origin: http://evil.example"], ["-H", "Origin: null"]] {
        for (method, path) in [("GET", "/v2/"), ("POST", "/v2/a/blobs/uploads/"), ("DELETE", "/v2/a/manifests/x")] {
            let seen = curl_bare(&open, method, path, &refused).await;
            assert_eq!(seen.status, 403, "{method} {path} {refused:?}");
            assert_eq!(seen.json()["errors"][0]["code"], "DENIED");
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_is_read_on_so_that_its_sender_sees_why() {
    let registry = Registry::start(Some(TOKEN)).await;
    let body = registry.path("body");
    std::fs::write(&body, vec![7; 8 << 20]).unwrap();
    let file = format!("@{}", body.display());
    // Without "Expect" curl sends at once, and gives up at a connection that is reset under it.
    let path = "/v2/a/blobs/uploads/?digest=x";
    let seen = curl_bare(&registry, "POST", path, &["-H", "Expect:", "--data-binary", &file]).await;
    assert_eq!(seen.status, 401);
    assert_eq!(seen.json()["errors"][0]["code"], "UNAUTHORIZED");
}

#[tokio::test]
async fn skopeo_copies_images_in_and_out_in_every_form() {
    let registry = Registry::start(Some(TOKEN)).await;
    let digest = layout(&registry.path("in"), "v1", &small_layers(), true);
    let source = format!("oci:{}:v1", registry.path("in").display());
    let creds = format!("x:{TOKEN}");
    let insecure = "--dest-tls-verify=false";
    let policy = "--insecure-policy";
    for name in ["one:v1", "first-train/train:v1", "a/b/c/d:v1.0_x"] {
        let to = registry.docker(name);
        run("skopeo", &[policy, "copy", insecure, "--dest-creds", &creds, &source, &to]).await;
        let raw = run("skopeo", &[policy, "inspect", "--raw", "--tls-verify=false", "--creds", &creds, &to]).await;
        assert_eq!(Digest::of(raw.as_bytes()), digest, "{name}");
    }
    let from = registry.docker("one:v1");
    for form in ["dir", "oci", "docker-archive"] {
        let there = registry.path(&format!("out-{form}"));
        let tag = if form == "dir" { "" } else { ":one:v1" };
        let there = format!("{form}:{}{tag}", there.display());
        run("skopeo", &[policy, "copy", "--src-tls-verify=false", "--src-creds", &creds, &from, &there]).await;
        let back = registry.docker(&format!("back/{form}:v2"));
        run("skopeo", &[policy, "copy", insecure, "--dest-creds", &creds, &there, &back]).await;
        let back = run("skopeo", &[policy, "inspect", "--tls-verify=false", "--creds", &creds, &back]).await;
        let back: serde_json::Value = serde_json::from_str(&back).unwrap();
        assert_eq!(back["Layers"].as_array().unwrap().len(), 2, "{form}");
    }
    let docker = registry.docker("schema2:v1");
    run("skopeo", &[policy, "copy", "-f", "v2s2", insecure, "--dest-creds", &creds, &source, &docker]).await;
    let seen = curl(&registry, "HEAD", "/v2/schema2/manifests/v1", &[]).await;
    assert_eq!(seen.header("content-type"), Some("application/vnd.docker.distribution.manifest.v2+json"));
    let tags = run("skopeo", &["list-tags", "--tls-verify=false", "--creds", &creds, &registry.docker("one")]).await;
    assert!(tags.contains("\"v1\""), "{tags}");
    run("skopeo", &["delete", "--tls-verify=false", "--creds", &creds, &from]).await;
    let gone = output("skopeo", &["inspect", "--tls-verify=false", "--creds", &creds, &from]).await;
    assert!(!gone.status.success());
    let refused = output("skopeo", &[policy, "copy", insecure, "--dest-creds", "x:wrong", &source, &from]).await;
    assert!(!refused.status.success());
}

#[tokio::test]
async fn podman_pushes_and_pulls() {
    let registry = Registry::start(Some(TOKEN)).await;
    let digest = layout(&registry.path("in"), "v1", &small_layers(), true);
    let (root, runroot) = (registry.path("root"), registry.path("run"));
    let (root, runroot) = (root.to_str().unwrap(), runroot.to_str().unwrap());
    let podman = ["--root", root, "--runroot", runroot, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
    let creds = format!("x:{TOKEN}");
    let call = |more: &[&str]| podman.iter().chain(more).map(ToString::to_string).collect::<Vec<_>>();
    let podman = async |more: &[&str]| {
        let args = call(more);
        run("podman", &args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let source = format!("oci:{}:v1", registry.path("in").display());
    let insecure = ["--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-creds", &creds];
    let skopeo: Vec<&str> = insecure.into_iter().chain([source.as_str()]).collect();
    let there = registry.docker("seed:v1");
    run("skopeo", &[&skopeo[..], &[there.as_str()]].concat()).await;
    let seed = format!("{}/seed:v1", registry.address);
    let id = podman(&["pull", "-q", "--tls-verify=false", "--creds", &creds, &seed]).await;
    let name = format!("{}/from/podman:v1", registry.address);
    podman(&["push", "-q", "--tls-verify=false", "--creds", &creds, id.trim(), &name]).await;
    podman(&["rmi", "-f", id.trim()]).await;
    let again = podman(&["pull", "-q", "--tls-verify=false", "--creds", &creds, &name]).await;
    assert_eq!(again.trim(), id.trim());
    podman(&["rmi", "-f", id.trim()]).await;
    let pushed = curl(&registry, "GET", "/v2/from/podman/manifests/v1", &[]).await.json();
    let seeded = curl(&registry, "GET", &format!("/v2/seed/manifests/{digest}"), &[]).await.json();
    assert_eq!(pushed["config"]["digest"], seeded["config"]["digest"]);
}

#[tokio::test]
async fn a_blob_is_uploaded_in_pieces_and_read_in_parts() {
    let registry = Registry::start(Some(TOKEN)).await;
    let content = b"0123456789";
    let digest = Digest::of(content);
    let begun = curl(&registry, "POST", "/v2/a/b/blobs/uploads/", &[]).await;
    assert_eq!(begun.status, 202);
    let session = begun.header("location").unwrap().to_owned();
    let binary = "Content-Type: application/octet-stream";
    let chunk = async |range: &str, bytes: &str| {
        let range = format!("Content-Range: {range}");
        curl(&registry, "PATCH", &session, &["-H", binary, "-H", &range, "--data-binary", bytes]).await
    };
    assert_eq!(chunk("0-3", "0123").await.header("range"), Some("0-3"));
    for (range, bytes, status) in [("5-6", "56", 416), ("0-3", "0123", 416), ("4-9", "45", 400), ("x", "4", 400)] {
        assert_eq!(chunk(range, bytes).await.status, status, "{range}");
    }
    let status = curl(&registry, "GET", &session, &[]).await;
    assert_eq!((status.status, status.header("range")), (204, Some("0-3")));
    let elsewhere = session.replace("/a/b/", "/a/c/");
    assert_eq!(curl(&registry, "GET", &elsewhere, &[]).await.status, 404);
    assert_eq!(chunk("4-5", "45").await.status, 202);
    let end = format!("{session}?digest={digest}");
    let ended = curl(&registry, "PUT", &end, &["-H", binary, "--data-binary", "6789"]).await;
    assert_eq!((ended.status, ended.header("docker-content-digest")), (201, Some(digest.to_string().as_str())));
    assert_eq!(curl(&registry, "GET", &session, &[]).await.code(), "BLOB_UPLOAD_UNKNOWN");

    let blob = ended.header("location").unwrap().to_owned();
    let head = curl(&registry, "HEAD", &blob, &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(curl(&registry, "GET", &blob, &[]).await.body, content);
    for (range, part) in [("2-5", "2345"), ("7-", "789"), ("-2", "89"), ("8-99", "89")] {
        let seen = curl(&registry, "GET", &blob, &["-r", range]).await;
        assert_eq!((seen.status, seen.text().as_str()), (206, part), "{range}");
    }
    let beyond = curl(&registry, "GET", &blob, &["-r", "10-"]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10")));

    let mount = format!("/v2/x/blobs/uploads/?mount={digest}&from=a/b");
    assert_eq!(curl(&registry, "POST", &mount, &[]).await.status, 201);
    assert_eq!(curl(&registry, "GET", &format!("/v2/x/blobs/{digest}"), &[]).await.body, content);
    let not_there = format!("/v2/y/blobs/uploads/?mount={digest}&from=z");
    assert_eq!(curl(&registry, "POST", &not_there, &[]).await.status, 202);
    assert_eq!(curl(&registry, "DELETE", &format!("/v2/x/blobs/{digest}"), &[]).await.status, 202);
    assert_eq!(curl(&registry, "GET", &format!("/v2/x/blobs/{digest}"), &[]).await.code(), "BLOB_UNKNOWN");
    assert_eq!(curl(&registry, "HEAD", &blob, &[]).await.status, 200);
}

#[tokio::test]
async fn an_upload_survives_a_broken_connection_and_a_restart() {
    let registry = Registry::start(Some(TOKEN)).await;
    let repository = registry.content.repository(&"a".parse().unwrap());
    let content = vec![7_u8; 3 << 20];
    let digest = Digest::of(&content);
    let id = repository.begin_upload().unwrap();
    let broken = futures_util::stream::iter([
        Ok(bytes::Bytes::copy_from_slice(&content[..1 << 20])),
        Err(std::io::Error::other("connection reset")),
    ]);
    let error = repository.append_upload(&id, None, broken).await.unwrap_err();
    assert!(error.to_string().contains("connection reset"), "{error}");
    assert_eq!(repository.upload_size(&id).unwrap(), 1 << 20);

    let restarted = ContentStore::open(registry.content.root()).unwrap().repository(&"a".parse().unwrap());
    let rest =
        futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(&content[1 << 20..]))]);
    let size = restarted.append_upload(&id, Some(1 << 20), rest).await.unwrap();
    assert_eq!(size, 3 << 20);
    restarted.finish_upload(&id, &digest).await.unwrap();
    assert_eq!(repository.blob(&digest).unwrap(), Some(3 << 20));
}

#[tokio::test]
async fn what_is_not_as_announced_leaves_nothing() {
    let registry = Registry::start(Some(TOKEN)).await;
    let announced = Digest::of(b"good");
    let at_once = format!("/v2/a/blobs/uploads/?digest={announced}");
    let body = ["-H", "Content-Type: application/octet-stream", "--data-binary", "evil"];
    let seen = curl(&registry, "POST", &at_once, &body).await;
    assert_eq!((seen.status, seen.code().as_str()), (400, "DIGEST_INVALID"));
    let session = curl(&registry, "POST", "/v2/a/blobs/uploads/", &[]).await.header("location").unwrap().to_owned();
    let seen = curl(&registry, "PUT", &format!("{session}?digest={announced}"), &body).await;
    assert_eq!((seen.status, seen.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(curl(&registry, "GET", &session, &[]).await.status, 404);
    let session = curl(&registry, "POST", "/v2/a/blobs/uploads/", &[]).await.header("location").unwrap().to_owned();
    assert_eq!(curl(&registry, "DELETE", &session, &[]).await.status, 204);
    assert_eq!(curl(&registry, "DELETE", &session, &[]).await.status, 404);
    assert_eq!(registry.content.blob_size(&announced).unwrap(), None);
    let left = |folder: &str| std::fs::read_dir(registry.content.root().join(folder)).unwrap().count();
    assert_eq!((left("incoming"), left("blobs/sha256"), left("repositories/a/_uploads")), (0, 0, 0));
}

#[tokio::test]
async fn manifests_are_checked_listed_and_deleted() {
    let registry = Registry::start(Some(TOKEN)).await;
    let put = async |path: &str, kind: &str, body: &str| {
        let kind = format!("Content-Type: {kind}");
        curl(&registry, "PUT", path, &["-H", &kind, "--data-binary", body]).await
    };
    let oci = "application/vnd.oci.image.manifest.v1+json";
    let index = "application/vnd.oci.image.index.v1+json";
    let at_once = format!("/v2/r/blobs/uploads/?digest={}", Digest::of(b"{}"));
    let descriptor = format!(r#"{{"mediaType":"application/x","digest":"{}","size":2}}"#, Digest::of(b"{}"));
    let image = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]}}"#);
    let early = put("/v2/r/manifests/v1", oci, &image).await;
    assert_eq!((early.status, early.code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(curl(&registry, "POST", &at_once, &["--data-binary", "{}"]).await.status, 201);
    for (kind, body, code) in [
        (oci, "{", "MANIFEST_INVALID"),
        (oci, r#"{"schemaVersion":1,"fsLayers":[]}"#, "MANIFEST_INVALID"),
        ("text/plain", image.as_str(), "MANIFEST_INVALID"),
        (oci, &image.replace("\"size\":2", "\"size\":3"), "MANIFEST_INVALID"),
    ] {
        let seen = put("/v2/r/manifests/v1", kind, body).await;
        assert_eq!((seen.status, seen.code().as_str()), (400, code), "{body}");
    }
    let large = registry.path("large");
    std::fs::write(&large, vec![b' '; (4 << 20) + 1]).unwrap();
    assert_eq!(put("/v2/r/manifests/v1", oci, &format!("@{}", large.display())).await.status, 413);

    for tag in ["v1", "v2", "v3", "latest"] {
        assert_eq!(put(&format!("/v2/r/manifests/{tag}"), oci, &image).await.status, 201);
    }
    let digest = Digest::of(image.as_bytes());
    assert_eq!(put(&format!("/v2/r/manifests/{}", Digest::of(b"")), oci, &image).await.code(), "DIGEST_INVALID");
    let page = curl(&registry, "GET", "/v2/r/tags/list?n=2", &[]).await;
    assert_eq!(page.json(), serde_json::json!({"name": "r", "tags": ["latest", "v1"]}));
    assert_eq!(page.header("link"), Some("</v2/r/tags/list?n=2&last=v1>; rel=\"next\""));
    let rest = curl(&registry, "GET", "/v2/r/tags/list?n=2&last=v1", &[]).await;
    assert_eq!((rest.json()["tags"].clone(), rest.header("link")), (serde_json::json!(["v2", "v3"]), None));
    assert_eq!(curl(&registry, "GET", "/v2/none/tags/list", &[]).await.code(), "NAME_UNKNOWN");

    let platform = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{oci}","digest":"{digest}","size":{}}}]}}"#,
        image.len()
    );
    assert_eq!(put("/v2/r/manifests/all", index, &platform).await.status, 201);
    let missing = platform.replace(&digest.to_string(), &Digest::of(b"no").to_string());
    assert_eq!(put("/v2/r/manifests/bad", index, &missing).await.status, 404);
    let signature = image.replace(
        "\"layers\"",
        &format!(
            r#""artifactType":"application/sig",
            "subject":{{"mediaType":"{oci}","digest":"{digest}","size":9}},"layers""#
        ),
    );
    let signed = put(&format!("/v2/r/manifests/{}", Digest::of(signature.as_bytes())), oci, &signature).await;
    assert_eq!((signed.status, signed.header("oci-subject")), (201, Some(digest.to_string().as_str())));
    let referrers = format!("/v2/r/referrers/{digest}");
    let found = curl(&registry, "GET", &referrers, &[]).await.json();
    assert_eq!(found["manifests"][0]["artifactType"], "application/sig");
    let filtered = curl(&registry, "GET", &format!("{referrers}?artifactType=other"), &[]).await;
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 0);
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));

    assert_eq!(put("/v2/q/manifests/x", oci, &image).await.status, 404);
    let catalog = curl(&registry, "GET", "/v2/_catalog?n=1", &[]).await;
    assert_eq!(catalog.json(), serde_json::json!({"repositories": ["r"]}));
    assert_eq!(curl(&registry, "DELETE", "/v2/r/manifests/v1", &[]).await.status, 202);
    assert_eq!(curl(&registry, "GET", "/v2/r/manifests/v1", &[]).await.code(), "MANIFEST_UNKNOWN");
    assert_eq!(curl(&registry, "GET", "/v2/r/manifests/v2", &[]).await.text(), image);
    assert_eq!(curl(&registry, "DELETE", &format!("/v2/r/manifests/{digest}"), &[]).await.status, 202);
    for gone in ["v2", "v3", "latest", &digest.to_string()] {
        assert_eq!(curl(&registry, "HEAD", &format!("/v2/r/manifests/{gone}"), &[]).await.status, 404, "{gone}");
    }
    for (method, path) in [("PUT", "/v2/"), ("POST", "/v2/_catalog"), ("PATCH", "/v2/r/manifests/x")] {
        assert_eq!(curl(&registry, method, path, &[]).await.status, 405, "{method} {path}");
    }
    for path in ["/v2/../etc/manifests/x", "/v2/_uploads/manifests/x", "/v2/A/tags/list", "/v2/r%2f../tags/list"] {
        let seen = curl(&registry, "GET", path, &["--path-as-is"]).await;
        assert_eq!((seen.status, seen.code().as_str()), (400, "NAME_INVALID"), "{path}");
    }
}

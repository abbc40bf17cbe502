//! Data of a cluster through real agents: bytes go in and out unharmed, agents are shared, and nothing is left of
//! them however it ends. Needs a cluster (KUBECONFIG, kubectl) whose nodes have the image named by KNITD_IMAGE;
//! says so and passes without.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use knit_api::bundle::{self, Limits, PackOptions, SealOptions, Selection, pack, seal, unpack};
use knit_api::content::Check;
use knit_api::id::DataId;
use knit_server::engine::kubernetes::KubernetesEngine;
use knit_server::engine::{ByteStream, Engine, EngineError, Entry, Form, Registered, Volume};
use knit_server::settings::{Cluster, Reach};
use knit_server::store::Store;
use knit_tests::able;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a cluster may take to do what it was told.
const SOON: Duration = Duration::from_mins(1);

/// A namespace of a test's own, with an engine.
struct World {
    engine: Arc<KubernetesEngine>,
    namespace: String,
    _folder: TempDir,
}

impl World {
    /// None, after one loud line, where there is no cluster.
    async fn new(name: &str, reach: Reach) -> Option<Self> {
        let (kubeconfig, image) = (std::env::var_os("KUBECONFIG"), std::env::var("KNITD_IMAGE"));
        let (Some(kubeconfig), Ok(image)) = (kubeconfig, image) else {
            able::skipped(name, "KUBECONFIG and KNITD_IMAGE do not name a cluster and an image of knitd on it");
            return None;
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let namespace = format!("agents-{name}-{}", std::process::id());
        assert!(kubectl(&["create", "namespace", &namespace]).status.success());
        // Without it no Pod is let in.
        until("a service account", || kubectl(&["-n", &namespace, "get", "sa", "default"]).status.success()).await;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("db")).await.unwrap();
        let settings = Cluster {
            kubeconfig: Some(kubeconfig.into()),
            namespace: namespace.clone(),
            image,
            storage_class: None,
            initial_capacity: "1Gi".parse().unwrap(),
            worker_priority: None,
            registry: "localhost:30503".to_owned(),
            registry_from_here: "localhost:30503".to_owned(),
            reach,
            agent_idle: Duration::from_secs(5),
            start_grace: Duration::from_secs(90),
            stray_grace: Duration::from_mins(5),
            log_limit: 1 << 20,
        };
        let engine = Arc::new(KubernetesEngine::open(settings, store).await.unwrap());
        Some(Self { engine, namespace, _folder: folder })
    }

    /// Names of what there is of that kind.
    fn names(&self, kind: &str) -> Vec<String> {
        let listed = kubectl(&["-n", &self.namespace, "get", kind, "-o", "name"]);
        assert!(listed.status.success(), "{listed:?}");
        String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    async fn nothing_left(&self) {
        until("nothing to be left", || self.names("pods").is_empty() && self.names("pvc").is_empty()).await;
        let secrets = self.names("secrets").into_iter().filter(|name| name.contains("knitid-")).count();
        assert_eq!(secrets, 0);
    }

    /// Kills the one agent that there is.
    async fn kill_agent(&self) {
        let running = ["get", "pods", "--field-selector=status.phase=Running", "-o", "name"];
        let mut found = String::new();
        until("an agent", || {
            found = String::from_utf8(kubectl(&[&["-n", &self.namespace][..], &running].concat()).stdout).unwrap();
            !found.is_empty()
        })
        .await;
        let killed = kubectl(&["-n", &self.namespace, "delete", found.trim(), "--grace-period=1", "--wait=false"]);
        assert!(killed.status.success(), "{killed:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

fn kubectl(args: &[&str]) -> Output {
    Command::new("kubectl").args(args).output().unwrap()
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < SOON, "waiting for {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn volume(id: &str) -> Volume {
    Volume::of(&DataId::new(id))
}

/// A folder with everything that a folder may hold, and one file of that size that cannot be compressed.
fn folder(size: usize) -> TempDir {
    let made = tempfile::tempdir().unwrap();
    let at = |name: &str| made.path().join(name);
    fs::create_dir_all(at("a/empty")).unwrap();
    let mut noise = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(at("a/noise"), noise).unwrap();
    fs::write(at("program"), "#!").unwrap();
    fs::set_permissions(at("program"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(at("a/empty"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("a/noise", at("link")).unwrap();
    symlink("/nowhere", at("dangling")).unwrap();
    made
}

fn packed(folder: &Path) -> (Vec<Bytes>, String) {
    let mut bytes = Vec::new();
    let summary = pack(folder, bundle::Form::Bundle, &mut bytes, &PackOptions::default(), &mut ()).unwrap();
    let pieces = bytes.chunks(200_000).map(Bytes::copy_from_slice).collect();
    (pieces, summary.digest.unwrap().to_string())
}

fn body(pieces: Vec<Bytes>) -> ByteStream {
    Box::pin(stream::iter(pieces.into_iter().map(Ok)))
}

async fn all(stream: ByteStream) -> io::Result<Vec<u8>> {
    let collect = async |mut all: Vec<u8>, piece: Bytes| {
        all.extend_from_slice(&piece);
        Ok(all)
    };
    stream.try_fold(Vec::new(), collect).await
}

async fn pulled(world: &World, volume: &Volume, digest: &str) -> String {
    let registered = Registered { digest: digest.to_owned(), compared_by_receiver: false };
    let sent = world.engine.send(volume, Form::Bundle, Some(&registered)).await.unwrap();
    let sent = all(sent).await.unwrap();
    let back = tempfile::tempdir().unwrap();
    unpack(&sent[..], bundle::Form::Bundle, back.path(), &Limits::default(), None, &mut ()).unwrap();
    seal(back.path(), None, &SealOptions::default()).unwrap().digest.to_string()
}

async fn goes_in_and_out(name: &str, reach: Reach) {
    let Some(world) = World::new(name, reach).await else { return };
    let (source, data) = (folder(5 << 20), volume("first"));
    let (pieces, digest) = packed(source.path());
    let sealed = world.engine.receive(&data, Form::Bundle, body(pieces.clone())).await.unwrap();
    assert_eq!(sealed.digest, digest);
    assert!(world.names("pods").is_empty(), "the agent of a push is gone before its end is told");

    // Two at one time, and a third one soon after, are served by one agent.
    let (one, other) = tokio::join!(pulled(&world, &data, &digest), pulled(&world, &data, &digest));
    assert_eq!([&one, &other], [&digest; 2]);
    let agents = world.names("pods");
    assert_eq!(agents.len(), 1, "{agents:?}");
    assert_eq!(pulled(&world, &data, &digest).await, digest);
    assert_eq!(world.names("pods"), agents);

    let engine = &world.engine;
    let noise = engine.look_up(&digest, b"a/noise").await.unwrap();
    assert!(matches!(noise, Entry::File { size, .. } if size == 5 << 20), "{noise:?}");
    assert_eq!(engine.look_up(&digest, b"none").await.unwrap(), Entry::Absent);
    assert!(!all(engine.manifest(&digest, None).await.unwrap().stream).await.unwrap().is_empty());
    assert!(!all(engine.manifest(&digest, Some(b"a")).await.unwrap().stream).await.unwrap().is_empty());
    let read = engine.read(&data, b"a/noise", 5 << 20, 1000..3000).await.unwrap();
    assert_eq!(all(read).await.unwrap(), fs::read(source.path().join("a/noise")).unwrap()[1000..3000]);
    let part = engine.send_part(&data, Form::Bundle, Selection::new(&["program"]).unwrap()).await.unwrap();
    assert!(all(part).await.unwrap().len() < 10_000);
    let checks: Vec<Check> = engine.verify(&data, &digest).await.unwrap().try_collect().await.unwrap();
    assert!(matches!(checks.last(), Some(Check::Done(done)) if done.differences == 0), "{checks:?}");
    assert_eq!(engine.seal(&data).await.unwrap().digest, digest);

    assert!(engine.receive(&data, Form::Bundle, body(pieces)).await.is_err(), "it exists already");
    assert_eq!(pulled(&world, &data, &digest).await, digest, "and is as it was");
    let missing = engine.send(&volume("none"), Form::Bundle, None).await.map(drop).unwrap_err();
    assert!(matches!(missing, EngineError::NotFound(_)), "{missing}");

    until("the agent to go when nobody asks", || world.names("pods").is_empty()).await;
    assert_eq!(pulled(&world, &data, &digest).await, digest);
    engine.remove_volume(&data).await.unwrap();
    world.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_goes_in_and_out_directly() {
    goes_in_and_out("direct", Reach::Direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_goes_in_and_out_through_the_api_server() {
    goes_in_and_out("forward", Reach::Forward).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_fails_in_whatever_way_leaves_nothing() {
    let Some(world) = World::new("push", Reach::Direct).await else { return };
    let source = folder(5 << 20);
    let (pieces, _) = packed(source.path());

    let half = pieces[..pieces.len() / 2].to_vec();
    let short = world.engine.receive(&volume("short"), Form::Bundle, body(half.clone())).await;
    assert!(matches!(&short, Err(EngineError::BadContent(_))), "{short:?}");
    world.nothing_left().await;

    let endless = || -> ByteStream { Box::pin(body(half.clone()).chain(stream::pending())) };
    let engine = Arc::clone(&world.engine);
    let body = endless();
    let push = tokio::spawn(async move { engine.receive(&volume("killed"), Form::Bundle, body).await });
    world.kill_agent().await;
    let killed = tokio::time::timeout(SOON, push).await.unwrap().unwrap();
    assert!(matches!(&killed, Err(EngineError::Unavailable { .. })), "{killed:?}");
    world.nothing_left().await;

    let engine = Arc::clone(&world.engine);
    let body = endless();
    let push = tokio::spawn(async move { engine.receive(&volume("dropped"), Form::Bundle, body).await });
    until("an agent", || !world.names("pods").is_empty()).await;
    push.abort();
    assert!(push.await.unwrap_err().is_cancelled());
    world.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_whose_agent_is_killed_ends_with_an_error_and_the_next_one_has_another_agent() {
    let Some(world) = World::new("pull", Reach::Direct).await else { return };
    let (source, data) = (folder(100 << 20), volume("large"));
    let (pieces, digest) = packed(source.path());
    world.engine.receive(&data, Form::Bundle, body(pieces)).await.unwrap();
    let mut sent = world.engine.send(&data, Form::Bundle, None).await.unwrap();
    sent.next().await.unwrap().unwrap();
    world.kill_agent().await;
    until("the agent to go", || world.names("pods").is_empty()).await;
    assert!(tokio::time::timeout(SOON, all(sent)).await.unwrap().is_err());

    assert_eq!(pulled(&world, &data, &digest).await, digest);
    // While nobody uses it: the next one does not notice.
    world.kill_agent().await;
    assert_eq!(pulled(&world, &data, &digest).await, digest);
}

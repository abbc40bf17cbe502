//! Whole workers: with outputs and a log, from their start until they are concluded.

use crate::place::{PATIENCE, Place, work};
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use knit_api::id::{DataId, RunId};
use knit_api::label::worker_name;
use knit_server::engine::{ByteStream, Engine as _, EngineError, Mount, Observation, Sealed, Started, Volume, Work};
use kube::api::{DeleteParams, ListParams};
use std::time::{Duration, Instant};
use tokio::time::timeout;

const IMAGE: &str = "localhost/busybox:1";
/// What is written in about ten seconds: more than the cluster's own log is known to keep.
const MUCH: usize = 300_000_000;
const LINE: &str = "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\n";

/// A Run of this script that writes to `/out`, with a log. Its volumes are there.
async fn prepared(place: &Place, name: &str, script: &str) -> (RunId, Work, [Volume; 2]) {
    let run = RunId::new(name);
    let [out, log] = ["out", "log"].map(|kind| Volume::of(&DataId::new(format!("{name}-{kind}"))));
    for volume in [&out, &log] {
        place.engine.create_volume(volume).await.unwrap();
    }
    let command = ["/bin/sh", "-c", script].map(ToOwned::to_owned).into();
    let outputs = vec![Mount { path: "/out".to_owned(), volume: out.clone() }];
    let work = Work { entrypoint: command, outputs, log: Some(log.clone()), ..work(&run, IMAGE) };
    (run, work, [out, log])
}

fn ending(seen: &Observation) -> Option<(u8, String)> {
    match seen {
        Observation::Ended { exit, .. } => Some((exit.code, exit.message.clone())),
        _ => None,
    }
}

async fn conclude(place: &Place, run: &RunId, outputs: &[Volume], grace: u64) -> Vec<Sealed> {
    let concluded = place.engine.conclude(run, outputs, Duration::from_secs(grace));
    let concluded = timeout(PATIENCE, concluded).await.expect("it is concluded in time").unwrap();
    concluded.into_iter().map(Result::unwrap).collect()
}

/// How many Pods of agents there are.
async fn agents(place: &Place) -> usize {
    let agents = ListParams::default().labels("app.kubernetes.io/component=dataagt");
    place.api::<Pod>().list(&agents).await.unwrap().items.len()
}

async fn whole(log: Result<ByteStream, EngineError>) -> Vec<u8> {
    log.unwrap().try_fold(Vec::new(), async |all, piece| Ok([all, piece.to_vec()].concat())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_300_megabytes_in_ten_seconds_is_whole_for_its_follower_and_in_its_volume() {
    let Some(mut place) = Place::new().await else { return };
    let part = MUCH / 10;
    let script = format!(
        "echo made > /out/file; for i in 0 1 2 3 4 5 6 7 8 9; do yes '{}' | head -c {part}; sleep 0.8; done; exit 3",
        LINE.trim()
    );
    let (run, work, volumes) = prepared(&place, "much", &script).await;
    assert_eq!(place.engine.start(&work).await.unwrap(), Started::Accepted);
    place.sees(&run, |seen| matches!(seen, Observation::Running { .. }).then_some(())).await;
    let mut followed = place.engine.log(&run, &volumes[1], true).await.unwrap();
    let follower = tokio::spawn(async move {
        let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
        while let Some(piece) = followed.next().await {
            let piece = piece.unwrap();
            length += piece.len();
            hasher.update(&piece);
        }
        (length, hasher.finalize())
    });
    let began = Instant::now();
    let (code, message) = place.sees(&run, ending).await;
    assert_eq!((code, message.as_str()), (3, ""), "after {:?}", began.elapsed());

    let mut expected = blake3::Hasher::new();
    let one: Vec<u8> = LINE.bytes().cycle().take(part).collect();
    for _ in 0..10 {
        expected.update(&one);
    }
    let expected = expected.finalize();
    assert_eq!(follower.await.unwrap(), (MUCH, expected), "the follower");

    let began = Instant::now();
    let sealed = conclude(&place, &run, &volumes, 0).await;
    println!("concluded in {:?}", began.elapsed());
    assert_eq!((sealed[0].bytes, sealed[0].entries), (5, 1));
    assert_eq!((sealed[1].bytes, sealed[1].entries), (MUCH as u64, 1));
    assert_eq!(agents(&place).await, 0, "the recorder has done it");
    assert!(place.api::<Job>().get_opt(&worker_name(&run)).await.unwrap().is_none());
    let entry = place.engine.look_up(&sealed[1].digest, b"log").await.unwrap();
    let knit_server::engine::Entry::File { digest, .. } = entry else { panic!("{entry:?}") };
    assert_eq!(digest, expected.to_string(), "in its volume");

    let tail = place.engine.log_tail(&run, &volumes[1], 1000).await.unwrap();
    assert!(tail.len() == 1000 && one.ends_with(&tail), "from an agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_ends_in_its_own_way_and_all_that_it_said_is_kept() {
    let Some(mut place) = Place::new().await else { return };
    let script =
        "trap 'sleep 1; echo bye; echo late > /out/late; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let (run, work, volumes) = prepared(&place, "stopped", script).await;
    place.engine.start(&work).await.unwrap();
    place.sees(&run, |seen| matches!(seen, Observation::Running { .. }).then_some(())).await;
    let mut log = place.engine.log(&run, &volumes[1], true).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), "ready\n");
    assert_eq!(place.engine.log_tail(&run, &volumes[1], 3).await.unwrap(), b"dy\n");

    let began = Instant::now();
    let sealed = conclude(&place, &run, &volumes, 20).await;
    println!("stopped in {:?}", began.elapsed());
    assert_eq!(log.next().await.unwrap().unwrap(), "bye\n");
    assert!(log.next().await.is_none());
    assert_eq!((sealed[0].bytes, sealed[1].bytes), (5, 10));
    assert_eq!(place.living(&run).await, []);
    assert_eq!(agents(&place).await, 0, "the recorder has done it");
    // Once more, as after a crash: agents find the same.
    assert_eq!(conclude(&place, &run, &volumes, 20).await, sealed);
    assert_eq!(whole(place.engine.log(&run, &volumes[1], true).await).await, b"ready\nbye\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_pod_was_killed_leaves_what_it_has_written() {
    let Some(mut place) = Place::new().await else { return };
    let (run, work, volumes) =
        prepared(&place, "killed", "trap '' TERM; echo begun; echo x > /out/x; while :; do sleep 0.1; done").await;
    place.engine.start(&work).await.unwrap();
    place.sees(&run, |seen| matches!(seen, Observation::Running { .. }).then_some(())).await;
    let mut log = place.engine.log(&run, &volumes[1], true).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), "begun\n");
    let pod = place.living(&run).await.remove(0).metadata.name.unwrap();
    place.api::<Pod>().delete(&pod, &DeleteParams::default().grace_period(1)).await.unwrap();
    let (code, message) = place.sees(&run, ending).await;
    assert_ne!(code, 0, "{message}");
    let sealed = conclude(&place, &run, &volumes, 5).await;
    assert_eq!((sealed[0].bytes, sealed[1].bytes), (2, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_never_started_is_concluded_without_an_agent() {
    let Some(mut place) = Place::new().await else { return };
    let (run, mut work, volumes) = prepared(&place, "never", "true").await;
    work.image = "localhost:1/not/there:1".parse().unwrap();
    place.engine.start(&work).await.unwrap();
    place.sees(&run, ending).await;
    let sealed = conclude(&place, &run, &volumes, 5).await;
    assert!(sealed.iter().all(|one| one.entries == 0) && sealed[0].digest == sealed[1].digest, "{sealed:?}");
    assert_eq!(agents(&place).await, 0);
    let manifest = place.engine.manifest(&sealed[0].digest, None).await.unwrap();
    assert!(!whole(Ok(manifest.stream)).await.is_empty());
    // Nothing of it can write; how long the node takes to forget it is the node's.
    let living = place.living(&run).await;
    assert!(living.iter().all(|pod| pod.metadata.deletion_timestamp.is_some()), "{living:#?}");
}

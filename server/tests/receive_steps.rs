//! What is left of a volume when receiving it ends at any of its steps. A program of its own, because
//! fail-points hold for a whole process.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use bytes::Bytes;
use futures_util::stream;
use knit_api::bundle::{self, PackOptions};
use knit_server::engine::local::volumes::Volumes;
use knit_server::engine::{ByteStream, EngineError, Form, Volume};
use knit_server::settings::Layout;
use std::sync::mpsc;
use tempfile::TempDir;

const BEFORE_IT_APPEARS: [&str; 4] = ["receive-begin", "receive-unpacked", "receive-synced", "receive-manifest"];
const IN_PLACE: &str = "receive-renamed";

fn volumes() -> (TempDir, Volumes) {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(Layout::new(dir.path())).unwrap();
    (dir, volumes)
}

fn body() -> ByteStream {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    let mut packed = Vec::new();
    bundle::pack(dir.path(), bundle::Form::Bundle, &mut packed, &PackOptions::default(), &mut ()).unwrap();
    Box::pin(stream::iter([Ok(Bytes::from(packed))]))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

#[test]
fn a_panic_at_any_step_is_an_error_and_leaves_no_volume() {
    let scenario = fail::FailScenario::setup();
    for point in BEFORE_IT_APPEARS.into_iter().chain([IN_PLACE]) {
        let runtime = runtime();
        let (_dir, volumes) = volumes();
        fail::cfg(point, "panic").unwrap();
        let outcome = runtime.block_on(volumes.receive(&Volume::from_stored("v"), Form::Bundle, body()));
        fail::remove(point);
        assert!(matches!(outcome, Err(EngineError::Failed { .. })), "{point}: {outcome:?}");
        assert_eq!(runtime.block_on(volumes.list()).unwrap(), [], "{point}");
    }
    scenario.teardown();
}

/// The body is complete by then, so only the drop says that nobody wants the volume any more.
#[test]
fn a_receive_dropped_at_any_step_leaves_no_volume() {
    let scenario = fail::FailScenario::setup();
    for point in BEFORE_IT_APPEARS.into_iter().chain([IN_PLACE]) {
        let runtime = runtime();
        let ((_dir, volumes), name) = (volumes(), Volume::from_stored("v"));
        let (reached, step) = tokio::sync::oneshot::channel();
        let (go_on, gone_on) = mpsc::channel::<()>();
        let once = std::sync::Mutex::new(Some((reached, gone_on)));
        fail::cfg_callback(point, move || {
            if let Some((reached, gone_on)) = once.lock().unwrap().take() {
                let _ = reached.send(());
                let _ = gone_on.recv();
            }
        })
        .unwrap();
        runtime.block_on(async {
            tokio::select! {
                outcome = volumes.receive(&name, Form::Bundle, body()) => {
                    panic!("it ended by itself: {outcome:?}")
                }
                _ = step => {}
            }
        });
        drop(go_on);
        fail::remove(point);
        // Waits for the blocking side.
        drop(runtime);
        let listed = self::runtime().block_on(volumes.list()).unwrap();
        assert_eq!(listed, [], "{point}");
    }
    scenario.teardown();
}

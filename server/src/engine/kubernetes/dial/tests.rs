//! Doors and their callers, both in this process: who gets in, and that nothing short is taken for whole.

use super::super::credentials::Credentials;
use super::super::door::Refused;
use super::super::door::agent::{routes, streamed};
use super::super::door::server::{Door as Server, Ended};
use super::super::objects::agent::Mode;
use super::*;
use crate::engine::local::volumes::Volumes;
use crate::engine::{Sealed, Volume};
use axum::Router;
use axum::routing::{get, post};
use futures_util::{StreamExt as _, TryStreamExt as _};
use knit_api::bundle::{self, PackOptions, SealOptions, pack, seal, unpack};
use knit_api::content::{Check, Checked};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A door that is open.
struct Opened {
    _folder: TempDir,
    address: SocketAddr,
    credentials: Credentials,
    stopping: CancellationToken,
    served: JoinHandle<Ended>,
}

async fn open(routes: Router, idle: Option<Duration>) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let credentials = Credentials::generate("agent").unwrap();
    for (name, bytes) in credentials.to_secret_data() {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let server = Server::open("127.0.0.1:0".parse().unwrap(), folder.path()).await.unwrap();
    let (address, stopping) = (server.address().unwrap(), CancellationToken::new());
    let served = tokio::spawn(server.serve(routes, idle, stopping.clone()));
    Opened { _folder: folder, address, credentials, stopping, served }
}

impl Opened {
    fn door(&self) -> Door {
        Door::direct("agent", self.address, &self.credentials.pass().unwrap()).unwrap()
    }
}

/// An agent with one volume, `data`.
struct Serving {
    place: TempDir,
    opened: Opened,
}

async fn agent(mode: Mode) -> Serving {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("volumes/data/lost+found")).unwrap();
    fs::create_dir_all(place.path().join("volumes/hidden")).unwrap();
    let volumes = Volumes::open_mounted(place.path().join("volumes"), place.path().join("scratch")).unwrap();
    let opened = open(routes(volumes, mode, [Volume::from_stored("data")]), None).await;
    Serving { place, opened }
}

/// A folder with everything that a folder may hold.
fn folder() -> TempDir {
    let made = tempfile::tempdir().unwrap();
    let at = |name: &str| made.path().join(name);
    fs::create_dir_all(at("a/empty")).unwrap();
    fs::write(at("a/large"), vec![b'x'; 3 << 20]).unwrap();
    fs::write(at("program"), "#!").unwrap();
    fs::set_permissions(at("program"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(at("a/empty"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("a/large", at("link")).unwrap();
    symlink("/nowhere", at("dangling")).unwrap();
    fs::hard_link(at("program"), at("again")).unwrap();
    made
}

fn packed(folder: &Path) -> (ByteStream, String) {
    let mut bytes = Vec::new();
    let summary = pack(folder, bundle::Form::Bundle, &mut bytes, &PackOptions::default(), &mut ()).unwrap();
    let pieces: Vec<_> = bytes.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    (Box::pin(stream::iter(pieces)), summary.digest.unwrap().to_string())
}

async fn all(reply: Reply) -> io::Result<Vec<u8>> {
    reply
        .stream()
        .try_fold(Vec::new(), async |mut all, piece| {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

fn error_of<T>(outcome: Result<T, Unanswered>) -> EngineError {
    outcome.map(drop).unwrap_err().into()
}

#[tokio::test]
async fn only_who_has_the_certificate_and_the_token_gets_in() {
    let opened = open(Router::new().route("/", get(async || "inside")), None).await;
    let pass = opened.credentials.pass().unwrap();
    let other = Credentials::generate("agent").unwrap().pass().unwrap();
    let door = |certificate: &Pass, token: &Pass| {
        let pass = Pass { certificate: certificate.certificate.clone(), token: token.token.clone() };
        Door::direct("agent", opened.address, &pass).unwrap()
    };
    assert_eq!(all(door(&pass, &pass).ask(Ask::get("/")).await.unwrap()).await.unwrap(), b"inside");

    let refused = door(&pass, &other).ask(Ask::get("/")).await;
    assert!(matches!(&refused, Err(Unanswered::Failed(error)) if error.to_string().contains("token")));
    let refused = door(&other, &pass).ask(Ask::get("/")).await;
    assert!(matches!(&refused, Err(Unanswered::Unreached(_))), "nothing was sent to another than expected");
    // Even who holds nothing may ask whether somebody is there, and nothing else.
    assert!(door(&pass, &other).is_there().await);
    assert!(!door(&other, &pass).is_there().await);
    let mut nobody = door(&pass, &pass);
    nobody.token = HeaderValue::from_static("Basic x");
    assert!(error_of(nobody.ask(Ask::get("/")).await).to_string().contains("token"));
    assert!(error_of(nobody.ask(Ask::get("/nowhere")).await).to_string().contains("token"));
}

#[tokio::test]
async fn nobody_behind_the_door_is_told_from_a_failure_behind_it() {
    let opened = open(Router::new().route("/", get(async || StatusCode::IM_A_TEAPOT)), None).await;
    assert!(matches!(opened.door().ask(Ask::get("/")).await, Err(Unanswered::Failed(_))));
    opened.stopping.cancel();
    let door = opened.door();
    assert_eq!(opened.served.await.unwrap(), Ended::Stopped);
    assert!(matches!(door.ask(Ask::get("/")).await, Err(Unanswered::Unreached(_))));
}

#[tokio::test]
async fn an_error_of_the_engine_is_the_same_on_the_other_side() {
    let missing = async || Refused(EngineError::NotFound("volume x".to_owned()));
    let full = async || Refused(EngineError::NoSpace("volume x".to_owned()));
    let opened = open(Router::new().route("/missing", get(missing)).route("/full", post(full)), None).await;
    let missing = error_of(opened.door().ask(Ask::get("/missing")).await);
    assert!(matches!(missing, EngineError::NotFound(what) if what == "volume x"));
    // Said before the body was read.
    let body = stream::repeat_with(|| Ok(Bytes::from_static(&[0; 10_000]))).take(2000);
    let full = error_of(opened.door().ask(Ask::post("/full").with(Box::pin(body))).await);
    assert!(matches!(full, EngineError::NoSpace(what) if what == "volume x"));
}

#[tokio::test]
async fn an_answer_cut_short_is_an_error_and_never_an_end() {
    let pieces = || {
        let fire = stream::once(async {
            // The head of the answer and its beginning are on their way by then.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Err(io::Error::other("the disk is on fire"))
        });
        stream::iter([Ok(Bytes::from_static(b"begin"))]).chain(fire)
    };
    let told = get(async move || streamed(Box::pin(pieces())));
    let cut = get(async move || axum::body::Body::from_stream(pieces()));
    let opened = open(Router::new().route("/told", told).route("/cut", cut), None).await;
    let error = all(opened.door().ask(Ask::get("/told")).await.unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "the disk is on fire");
    assert!(all(opened.door().ask(Ask::get("/cut")).await.unwrap()).await.is_err());
}

#[tokio::test]
async fn an_answer_that_stands_still_is_given_up() {
    let still = get(async || {
        let pieces = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"begin"))]).chain(stream::pending());
        axum::body::Body::from_stream(pieces)
    });
    let opened = open(Router::new().route("/", still), None).await;
    let mut pieces = opened.door().ask(Ask::get("/")).await.unwrap().stream();
    assert_eq!(pieces.next().await.unwrap().unwrap(), "begin");
    assert!(pieces.next().await.unwrap().unwrap_err().to_string().contains("has not moved"));
}

#[tokio::test]
async fn an_answer_may_be_late_while_somebody_is_there() {
    let late = get(async || {
        tokio::time::sleep(STILL * 3).await;
        "late"
    });
    let opened = open(Router::new().route("/", late), None).await;
    assert_eq!(all(opened.door().ask(Ask::get("/")).await.unwrap()).await.unwrap(), b"late");
}

#[tokio::test]
async fn a_door_that_nobody_uses_closes_by_itself_and_not_while_it_is_used() {
    let (sender, receiver) = tokio::sync::watch::channel(false);
    let slow = get(async move || {
        let mut receiver = receiver.clone();
        let last = async move {
            let _ = receiver.wait_for(|over| *over).await;
            Ok(Bytes::from_static(b"end"))
        };
        streamed(Box::pin(stream::once(last)))
    });
    let idle = Duration::from_millis(300);
    let opened = open(Router::new().route("/", slow), Some(idle)).await;
    let reply = opened.door().ask(Ask::get("/")).await.unwrap();
    tokio::time::sleep(idle * 2).await;
    assert!(!opened.served.is_finished());
    sender.send(true).unwrap();
    assert_eq!(all(reply).await.unwrap(), b"end");
    assert_eq!(tokio::time::timeout(idle * 20, opened.served).await.unwrap().unwrap(), Ended::Idle);
}

#[tokio::test]
async fn a_folder_goes_in_and_out_of_an_agent_and_is_the_same() {
    let Serving { place, opened } = agent(Mode::Write).await;
    let (door, source) = (opened.door(), folder());
    let (body, digest) = packed(source.path());
    let sealed: Sealed =
        door.ask(Ask::post("/volumes/data?form=bundle").with(body)).await.unwrap().json().await.unwrap();
    assert_eq!((sealed.digest.as_str(), sealed.bytes), (digest.as_str(), (3 << 20) + 4));

    for (form, name) in [(bundle::Form::Bundle, "bundle"), (bundle::Form::BundleZstd, "bundle-zstd")] {
        let path = format!("/volumes/data?form={name}&digest={digest}&compared_by_receiver=false");
        let sent = all(door.ask(Ask::get(path)).await.unwrap()).await.unwrap();
        let back = tempfile::tempdir().unwrap();
        unpack(&sent[..], form, back.path(), &bundle::Limits::default(), None, &mut ()).unwrap();
        assert_eq!(seal(back.path(), None, &SealOptions::default()).unwrap().digest.to_string(), digest);
    }
    let path = hex::encode("a/large");
    let file = format!("/volumes/data/file?path={path}&size={}&from=10&to=20", 3 << 20);
    assert_eq!(all(door.ask(Ask::get(file)).await.unwrap()).await.unwrap(), b"xxxxxxxxxx");

    let part = Ask::post("/volumes/data/part?form=bundle")
        .with(Box::pin(stream::iter([Ok(Bytes::from_static(br#"["program"]"#))])));
    assert!(all(door.ask(part).await.unwrap()).await.unwrap().len() < 10_000);

    let again: Sealed = door.ask(Ask::post("/volumes/data/seal")).await.unwrap().json().await.unwrap();
    assert_eq!(again, sealed);
    let manifest = all(door.ask(Ask::get(format!("/manifests/{digest}"))).await.unwrap()).await.unwrap();
    fs::write(place.path().join("volumes/data/program"), "!!").unwrap();
    let against = Ask::post(format!("/volumes/data/verify?digest={digest}"))
        .with(Box::pin(stream::iter([Ok(Bytes::from(manifest))])));
    let lines = all(door.ask(against).await.unwrap()).await.unwrap();
    let checks: Vec<Check> =
        lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(checks.last(), Some(&Check::Done(Checked { entries: 7, bytes: (3 << 20) + 4, differences: 2 })));

    // Not twice: what is there would be mixed with what comes.
    let (body, _) = packed(source.path());
    let refused = error_of(door.ask(Ask::post("/volumes/data?form=bundle").with(body)).await);
    assert!(refused.to_string().contains("not empty"), "{refused}");
}

#[tokio::test]
async fn a_push_that_breaks_off_is_an_error_of_its_sender() {
    let Serving { place: _place, opened } = agent(Mode::Write).await;
    let source = folder();
    let (body, _) = packed(source.path());
    let broken = body.take(5).chain(stream::iter([Err(io::Error::other("the client is gone"))]));
    let error = error_of(opened.door().ask(Ask::post("/volumes/data?form=bundle").with(Box::pin(broken))).await);
    assert!(matches!(&error, EngineError::BadContent(why) if why.contains("the client is gone")), "{error}");

    let Serving { place: _place, opened } = agent(Mode::Write).await;
    let (body, _) = packed(source.path());
    let short = opened.door().ask(Ask::post("/volumes/data?form=bundle").with(Box::pin(body.take(5)))).await;
    assert!(matches!(error_of(short), EngineError::BadContent(_)));
}

#[tokio::test]
async fn nothing_from_outside_leads_beyond_the_volumes_that_are_mounted() {
    let Serving { place, opened } = agent(Mode::Read).await;
    fs::write(place.path().join("secret"), "secret").unwrap();
    fs::write(place.path().join("volumes/hidden/secret"), "secret").unwrap();
    symlink("../../secret", place.path().join("volumes/data/link")).unwrap();
    let door = opened.door();
    for name in ["hidden", "..", "%2e%2e", "..%2fsecret", "%2fetc", ".", "data%00", "data%2f..%2fhidden", "x", "DATA"] {
        let answer = door.ask(Ask::get(format!("/volumes/{name}?form=bundle"))).await;
        assert!(answer.is_err(), "{name}");
        let read = format!("/volumes/{name}/file?path={}&size=6&from=0&to=6", hex::encode("secret"));
        assert!(door.ask(Ask::get(read)).await.is_err(), "{name}");
    }
    for path in ["../hidden/secret", "../../secret", "link", "/etc/passwd", "lost+found", "", "a\0b"] {
        let read = format!("/volumes/data/file?path={}&size=6&from=0&to=6", hex::encode(path));
        assert!(door.ask(Ask::get(read)).await.is_err(), "{path:?}");
    }
    for query in ["path=zz&size=1&from=0&to=1", "path=61&size=1&from=1&to=0", "path=61&size=1&from=0&to=2", ""] {
        assert!(door.ask(Ask::get(format!("/volumes/data/file?{query}"))).await.is_err(), "{query}");
    }
    for manifest in ["..%2f..%2fsecret", "x", &"0".repeat(63), &"0".repeat(64)] {
        assert!(door.ask(Ask::get(format!("/manifests/{manifest}"))).await.is_err(), "{manifest}");
    }
    for change in ["/volumes/data?form=bundle", "/volumes/data/seal"] {
        assert!(error_of(door.ask(Ask::post(change)).await).to_string().contains("only reads"), "{change}");
    }
}

//! Volumes on a real disk: what arrives is complete or absent.

use super::*;
use crate::engine::Entry;
use crate::transfers;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use knit_api::content::{Check, Checked, Difference, Differing, EntryPath};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use tempfile::TempDir;
use tokio::task;

const FORMS: [Form; 3] = [Form::Bundle, Form::BundleZstd, Form::TarGz];

fn volumes() -> (TempDir, Volumes) {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(Layout::new(dir.path())).unwrap();
    (dir, volumes)
}

fn volume(name: &str) -> Volume {
    Volume::from_stored(name)
}

/// A folder with a few files, packed.
fn stream_of(form: Form) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/file"), vec![b'x'; 100_000]).unwrap();
    fs::write(dir.path().join("other"), "other").unwrap();
    symlink("a/file", dir.path().join("link")).unwrap();
    let mut stream = Vec::new();
    bundle::pack(dir.path(), travelling(form), &mut stream, &PackOptions::default(), &mut ()).unwrap();
    stream
}

fn body(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(stream::iter(pieces))
}

async fn collected(mut stream: ByteStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// Everything below the installation's folder that is not one of the fixed folders.
fn everything(dir: &TempDir) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["volumes", "manifests"] {
        for entry in fs::read_dir(dir.path().join(folder)).unwrap() {
            found.push(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    found
}

#[tokio::test]
async fn what_was_received_is_sent_back_equal() {
    for form in FORMS {
        let (_dir, volumes) = volumes();
        let name = volume("data-knitid-1");
        let sealed = volumes.receive(&name, form, body(&stream_of(form))).await.unwrap();
        assert_eq!(fs::read_to_string(volumes.path(&name).join("other")).unwrap(), "other");
        assert_eq!(sealed.bytes, 100_005);
        let sent = collected(volumes.send(&name, Form::BundleZstd, None).await.unwrap()).await.unwrap();
        let again = volumes.receive(&volume("again"), Form::BundleZstd, body(&sent)).await.unwrap();
        assert_eq!(again.digest, sealed.digest, "{form:?}");
        let mut names: Vec<_> = volumes.list().await.unwrap().iter().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["again", "data-knitid-1"]);
    }
}

#[tokio::test]
async fn a_manifest_is_kept_under_its_digest() {
    for form in FORMS {
        let (_dir, volumes) = volumes();
        let sealed = volumes.receive(&volume("v"), form, body(&stream_of(form))).await.unwrap();
        let digest: Digest = sealed.digest.parse().unwrap();
        let file = File::open(volumes.manifest(&digest)).unwrap();
        let mut reader = bundle::ManifestReader::new(file, digest).unwrap();
        let mut paths = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            paths.push(String::from_utf8(entry.path.to_vec()).unwrap());
        }
        assert_eq!(paths, ["a", "a/file", "link", "other"]);
        assert_eq!(sealed.entries, 4);
    }
}

#[tokio::test]
async fn an_incomplete_body_leaves_nothing() {
    for form in FORMS {
        let whole = stream_of(form);
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            let (dir, volumes) = volumes();
            let outcome = volumes.receive(&volume("v"), form, body(&whole[..length])).await;
            assert!(matches!(outcome, Err(EngineError::BadContent(_))), "{form:?} {length} {outcome:?}");
            assert_eq!(everything(&dir), [""; 0], "{form:?} {length}");
        }
    }
}

#[tokio::test]
async fn a_body_that_fails_leaves_nothing() {
    let (dir, volumes) = volumes();
    let whole = stream_of(Form::Bundle);
    let pieces = vec![Ok(Bytes::from(whole)), Err(io::Error::other("reset by peer"))];
    let outcome = volumes.receive(&volume("v"), Form::Bundle, Box::pin(stream::iter(pieces))).await;
    let EngineError::BadContent(why) = outcome.unwrap_err() else { panic!("not the sender's fault") };
    assert!(why.contains("reset by peer"), "{why}");
    assert_eq!(everything(&dir), [""; 0]);
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_a_silent_sender() {
    let (dir, volumes) = volumes();
    let garbage = stream::iter([Ok(Bytes::from(vec![b'?'; 2_000_000]))]).chain(stream::pending());
    let outcome = volumes.receive(&volume("v"), Form::Bundle, Box::pin(garbage)).await;
    assert!(matches!(outcome, Err(EngineError::BadContent(_))));
    assert_eq!(everything(&dir), [""; 0]);
}

/// The runtime is dropped before looking: that waits for the blocking side to clean up.
#[test]
fn a_receive_dropped_at_any_piece_leaves_nothing() {
    for form in FORMS {
        let whole = stream_of(form);
        let pieces: Vec<_> = whole.chunks(whole.len().div_ceil(5)).map(Bytes::copy_from_slice).collect();
        for sent in 0..=pieces.len() {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
            let ((dir, volumes), name) = (volumes(), volume("v"));
            let (all_taken, reached) = tokio::sync::oneshot::channel();
            let body = stream::iter(pieces[..sent].to_vec())
                .map(Ok)
                .chain(stream::once(async move { all_taken.send(()) }).then(|_| std::future::pending()));
            runtime.block_on(async {
                tokio::select! {
                    _ = volumes.receive(&name, form, Box::pin(body)) => panic!("it cannot be complete"),
                    _ = reached => {}
                }
            });
            drop(runtime);
            assert_eq!(everything(&dir), [""; 0], "{form:?} after {sent} pieces");
        }
    }
}

#[tokio::test]
async fn a_volume_is_never_received_over() {
    let (_dir, volumes) = volumes();
    let stream = stream_of(Form::Bundle);
    volumes.receive(&volume("v"), Form::Bundle, body(&stream)).await.unwrap();
    let outcome = volumes.receive(&volume("v"), Form::Bundle, body(&stream)).await;
    assert!(matches!(outcome, Err(EngineError::Failed { .. })));
    assert!(volumes.path(&volume("v")).join("other").exists());
}

#[tokio::test]
async fn a_source_that_fails_ends_in_an_error_never_cleanly() {
    for form in FORMS {
        let (_dir, volumes) = volumes();
        let name = volume("v");
        volumes.create(&name).await.unwrap();
        fs::write(volumes.path(&name).join("first"), vec![0; 1_000_000]).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            volumes.path(&name).join("second"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let outcome = collected(volumes.send(&name, form, None).await.unwrap()).await;
        assert!(outcome.unwrap_err().to_string().contains("second"), "{form:?}");
    }
}

#[tokio::test]
async fn what_is_not_what_was_registered_is_never_sent_to_its_end() {
    let (_dir, volumes) = volumes();
    let (name, folder) = (volume("v"), volumes.path(&volume("v")));
    volumes.create(&name).await.unwrap();
    fs::create_dir_all(folder.join("d/empty")).unwrap();
    fs::write(folder.join("d/f"), "content").unwrap();
    fs::hard_link(folder.join("d/f"), folder.join("g")).unwrap();
    let digest = volumes.seal(&name).await.unwrap().digest;
    let registered = |compared_by_receiver| Registered { digest: digest.clone(), compared_by_receiver };
    let send =
        async |form, compared| collected(volumes.send(&name, form, Some(&registered(compared))).await.unwrap()).await;
    let forms = [Form::Bundle, Form::BundleZstd, Form::TarGz];
    for form in forms {
        send(form, false).await.unwrap();
    }
    fs::remove_dir(folder.join("d/empty")).unwrap();
    for form in forms {
        let error = send(form, false).await.unwrap_err().to_string();
        assert!(error.contains("not what was registered") && error.contains(&digest), "{form:?}: {error}");
    }
    // Who compares it gets it whole, with the digest that it has.
    for form in [Form::Bundle, Form::BundleZstd] {
        let sent = send(form, true).await.unwrap();
        let found = bundle::verify(&sent[..], travelling(form), &Limits::default()).unwrap().digest.unwrap();
        assert_ne!(found.to_string(), digest, "{form:?}");
    }
}

#[tokio::test]
async fn sending_what_is_not_there_says_so() {
    let (_dir, volumes) = volumes();
    assert!(matches!(volumes.send(&volume("v"), Form::Bundle, None).await, Err(EngineError::NotFound(_))));
    assert!(matches!(volumes.seal(&volume("v")).await, Err(EngineError::NotFound(_))));
    volumes.remove(&volume("v")).await.unwrap();
}

#[tokio::test]
async fn names_that_are_not_one_plain_segment_are_refused() {
    let (dir, volumes) = volumes();
    for name in ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "nul\0byte"] {
        let name = volume(name);
        assert!(volumes.create(&name).await.is_err());
        assert!(volumes.remove(&name).await.is_err());
        assert!(volumes.seal(&name).await.is_err());
        assert!(volumes.send(&name, Form::Bundle, None).await.is_err());
        assert!(volumes.receive(&name, Form::Bundle, body(b"")).await.is_err());
        assert_eq!(volumes.path(&name), dir.path().join("volumes/.refused"));
    }
    assert_eq!(everything(&dir), [""; 0]);
}

#[tokio::test]
async fn creating_empties_what_is_there() {
    let (_dir, volumes) = volumes();
    let name = volume("v");
    volumes.create(&name).await.unwrap();
    fs::write(volumes.path(&name).join("old"), "old").unwrap();
    volumes.create(&name).await.unwrap();
    assert_eq!(fs::read_dir(volumes.path(&name)).unwrap().count(), 0);
    volumes.remove(&name).await.unwrap();
    assert_eq!(volumes.list().await.unwrap(), []);
}

#[tokio::test]
async fn sealing_leaves_out_specials_and_makes_all_readable() {
    let (_dir, volumes) = volumes();
    let name = volume("v");
    volumes.create(&name).await.unwrap();
    let root = volumes.path(&name);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    fs::write(root.join("secret"), "x").unwrap();
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o4000)).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/inside"), "y").unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    symlink("/etc/passwd", root.join("host")).unwrap();
    let sealed = volumes.seal(&name).await.unwrap();
    assert_eq!(sealed.left_out, ["pipe (FIFO)"]);
    assert_eq!((sealed.entries, sealed.bytes), (4, 2));
    assert!(!root.join("pipe").exists());
    assert_eq!(fs::metadata(root.join("secret")).unwrap().permissions().mode() & 0o7777, 0o400);
    let again = volumes.seal(&name).await.unwrap();
    assert_eq!(again.digest, sealed.digest);
    let sent = collected(volumes.send(&name, Form::Bundle, None).await.unwrap()).await.unwrap();
    let received = volumes.receive(&volume("copy"), Form::Bundle, body(&sent)).await.unwrap();
    assert_eq!(received.digest, sealed.digest);
    assert!(!fs::symlink_metadata(root.join("host")).unwrap().file_type().is_fifo());
}

#[tokio::test]
async fn what_is_sealed_has_one_owner_whoever_wrote_it_and_the_digest_of_before() {
    if !rustix::process::geteuid().is_root() {
        // Only root may give files away.
        return;
    }
    let (_dir, volumes) = volumes();
    let owners = |root: &std::path::Path| {
        let all = ["", "a", "sub", "sub/b", "link"].map(|name| root.join(name));
        all.map(|path| fs::symlink_metadata(path).unwrap()).map(|found| (found.uid(), found.gid()))
    };
    let mut digests = Vec::new();
    for (name, given) in [(volume("v"), true), (volume("w"), false)] {
        volumes.create(&name).await.unwrap();
        let root = volumes.path(&name);
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("a"), "a").unwrap();
        fs::write(root.join("sub/b"), "b").unwrap();
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("/etc/passwd", root.join("link")).unwrap();
        if given {
            for (number, path) in ["", "a", "sub", "sub/b", "link"].iter().enumerate() {
                let number = number as u32;
                std::os::unix::fs::lchown(root.join(path), Some(1000 + number), Some(2000)).unwrap();
            }
        }
        digests.push(volumes.seal(&name).await.unwrap().digest);
        assert_eq!(owners(&root), [(0, 0); 5]);
        assert_eq!(fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    assert_eq!(digests[0], digests[1]);
    let host = fs::metadata("/etc/passwd").unwrap();
    assert_ne!(host.uid(), 1004, "links are not followed");
}

#[tokio::test]
async fn opening_finds_what_a_killed_process_left() {
    let (dir, volumes) = volumes();
    let kept = volume("kept");
    volumes.create(&kept).await.unwrap();
    for leftover in ["volumes/.incoming-1-0", "volumes/.trash-7-7", "volumes/.trash-7-7.1"] {
        fs::create_dir(dir.path().join(leftover)).unwrap();
        fs::write(dir.path().join(leftover).join("file"), "x").unwrap();
    }
    fs::write(dir.path().join("manifests/.incoming-1-0"), "x").unwrap();
    let _next = Volumes::open(Layout::new(dir.path())).unwrap();
    while everything(&dir).len() > 1 {
        std::thread::yield_now();
    }
    assert_eq!(everything(&dir), ["kept"]);
}

/// A volume that no channel and no buffer takes whole.
async fn large(volumes: &Volumes) -> Volume {
    let name = volume("large");
    volumes.create(&name).await.unwrap();
    File::create(volumes.path(&name).join("file")).unwrap().set_len(64 << 20).unwrap();
    name
}

#[test]
fn clients_that_stand_still_leave_room_for_other_work_and_are_given_up() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(transfers::BLOCKING_THREADS);
    runtime.build().unwrap().block_on(async {
        let (_dir, volumes) = volumes();
        let name = large(&volumes).await;
        let mut transfers = task::JoinSet::new();
        for number in 0..transfers::BLOCKING_THREADS + 16 {
            let (volumes, name) = (volumes.clone(), name.clone());
            if number % 2 == 0 {
                transfers.spawn(async move {
                    collected_after_a_rest(volumes.send(&name, Form::Bundle, None).await.unwrap()).await
                });
            } else {
                let silent = volume(&format!("silent-{number}"));
                let body: ByteStream = Box::pin(stream::pending());
                transfers.spawn(async move { volumes.receive(&silent, Form::Bundle, body).await.is_err() });
            }
        }
        for _ in 0..1000 {
            task::yield_now().await;
        }
        assert_eq!(volumes.list().await.unwrap(), [name], "other work goes on");
        while let Some(broke_off) = transfers.join_next().await {
            assert!(broke_off.unwrap());
        }
    });
}

/// Asks for the content only when it has been given up; true if it then breaks off.
async fn collected_after_a_rest(stream: ByteStream) -> bool {
    tokio::time::sleep(transfers::STILL * 2).await;
    collected(stream).await.is_err()
}

/// A volume that holds what [`stream_of`] makes, and its digest.
async fn received(volumes: &Volumes) -> (Volume, String) {
    let name = volume("looked-into");
    let sealed = volumes.receive(&name, Form::Bundle, body(&stream_of(Form::Bundle))).await.unwrap();
    (name, sealed.digest)
}

#[tokio::test]
async fn a_path_is_looked_up_in_the_manifest_and_no_link_is_followed() {
    let (_dir, volumes) = volumes();
    let (_, digest) = received(&volumes).await;
    let target = b"a/file".to_vec();
    for (path, expected) in [
        ("", Entry::Directory),
        ("a", Entry::Directory),
        ("link", Entry::Link { target: target.clone() }),
        ("link/x", Entry::Beyond { link: b"link".to_vec(), target }),
        ("a/none", Entry::Absent),
        ("z", Entry::Absent),
        ("a/file/x", Entry::Absent),
        ("../x", Entry::Absent),
        ("/a", Entry::Absent),
    ] {
        assert_eq!(volumes.look_up(&digest, path.as_bytes()).await.unwrap(), expected, "{path}");
    }
    let Entry::File { size, digest: of_file } = volumes.look_up(&digest, b"other").await.unwrap() else { panic!() };
    assert_eq!((size, of_file), (5, blake3::hash(b"other").to_hex().to_string()));
    let lost = volumes.look_up(&"0".repeat(64), b"a").await;
    assert!(matches!(lost, Err(EngineError::Damaged(_))), "{lost:?}");
    assert!(volumes.look_up("../../etc/passwd", b"a").await.is_err());
}

#[tokio::test]
async fn exactly_the_bytes_that_are_asked_for_are_read() {
    let (_dir, volumes) = volumes();
    let (name, _) = received(&volumes).await;
    for range in [0..5, 1..3, 4..5, 2..2] {
        let stream = volumes.read(&name, b"other", 5, range.clone()).await.unwrap();
        let expected = &b"other"[range.start as usize..range.end as usize];
        assert_eq!(collected(stream).await.unwrap(), expected, "{range:?}");
    }
    let whole = collected(volumes.read(&name, b"a/file", 100_000, 0..100_000).await.unwrap()).await.unwrap();
    assert_eq!(whole, vec![b'x'; 100_000]);
}

#[tokio::test]
async fn what_is_no_longer_a_file_of_its_size_is_not_read() {
    let (dir, volumes) = volumes();
    let (name, _) = received(&volumes).await;
    let root = volumes.path(&name);
    fs::write(dir.path().join("outside"), "outsi").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    symlink(dir.path().join("outside"), root.join("to-outside")).unwrap();
    symlink(dir.path(), root.join("way-out")).unwrap();
    for path in ["none", "a", "link", "pipe", "to-outside", "way-out/outside", "../../outside", "a/file", "a/file/x"] {
        let refused = volumes.read(&name, path.as_bytes(), 5, 0..5).await.err();
        assert!(matches!(refused, Some(EngineError::Damaged(_))), "{path}: {refused:?}");
    }
    assert!(matches!(volumes.read(&volume("none"), b"other", 5, 0..5).await.err(), Some(EngineError::NotFound(_))));
}

#[tokio::test]
async fn a_volume_is_verified_to_its_end_or_not_at_all() {
    let (_dir, volumes) = volumes();
    let (name, digest) = received(&volumes).await;
    let all = async || {
        let mut checks = volumes.verify(&name, &digest).await.unwrap();
        let mut found = Vec::new();
        while let Some(check) = checks.next().await {
            found.push(check.unwrap());
        }
        found
    };
    let done = |differences| Check::Done(Checked { entries: 4, bytes: 100_005, differences });
    assert_eq!(all().await, [done(0)]);
    fs::write(volumes.path(&name).join("other"), "Other").unwrap();
    let differing = Differing { path: EntryPath::of(b"other"), difference: Difference::Content };
    assert_eq!(all().await, [Check::Differs(differing), done(1)]);
    // With a damaged list there is no verdict.
    let list = volumes.manifest(&digest.parse().unwrap());
    let mut bytes = fs::read(&list).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&list, bytes).unwrap();
    let refused = volumes.verify(&name, &digest).await.err();
    assert!(matches!(refused, Some(EngineError::Damaged(_))), "{refused:?}");
}

#[tokio::test]
async fn a_manifest_is_listed_as_a_whole_or_in_part() {
    let (_dir, volumes) = volumes();
    let (_, digest) = received(&volumes).await;
    let listed = volumes.list_entries(&digest, None).await.unwrap();
    let whole = collected(listed.stream).await.unwrap();
    assert_eq!(listed.length, Some(whole.len() as u64));
    let names = |mut reader: bundle::ManifestReader<&[u8]>| {
        let mut names = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            names.push(String::from_utf8(entry.path.to_vec()).unwrap());
        }
        names
    };
    let reader = bundle::ManifestReader::new(&whole[..], digest.parse().unwrap()).unwrap();
    assert_eq!(names(reader), ["a", "a/file", "link", "other"]);
    let listed = volumes.list_entries(&digest, Some(b"a")).await.unwrap();
    let part = collected(listed.stream).await.unwrap();
    assert_eq!(names(bundle::ManifestReader::part(&part[..]).unwrap()), ["a", "a/file"]);
}

//! Streams that are not what they should be: damaged, cut short, or made to leave the root.

use super::super::*;
use super::trees::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use tar::EntryType;

/// A small stream that holds every kind of entry.
fn small(form: Form) -> Vec<u8> {
    let dir = temp();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/f"), "content").unwrap();
    fs::hard_link(dir.path().join("d/f"), dir.path().join("h")).unwrap();
    std::os::unix::fs::symlink("t".repeat(120), dir.path().join("l")).unwrap();
    packed(dir.path(), form).unwrap().0
}

#[test]
fn every_beginning_of_a_stream_is_refused() {
    for form in [Form::Bundle, Form::BundleZstd, Form::TarGz] {
        let stream = small(form);
        for length in 0..stream.len() {
            let outcome = unpacked(&stream[..length], form, temp().path());
            assert!(matches!(outcome, Err(Error::BadContent { .. })), "{form:?} cut at {length}: {outcome:?}");
        }
        unpacked(&stream, form, temp().path()).unwrap();
    }
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing_that_counts() {
    for form in [Form::Bundle, Form::BundleZstd] {
        let stream = small(form);
        let right = {
            let into = temp();
            unpacked(&stream, form, into.path()).unwrap();
            sealed(into.path())
        };
        for bit in 0..stream.len() * 8 {
            // Most of a plain tar is zeros; one bit of each of those stands for the others.
            if form == Form::Bundle && stream[bit / 8] == 0 && bit % 8 != bit / 8 % 8 {
                continue;
            }
            let mut damaged = stream.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let into = temp();
            if unpacked(&damaged, form, into.path()).is_ok() {
                assert_eq!(sealed(into.path()), right, "{form:?} bit {bit}");
            }
        }
    }
}

#[test]
fn anything_after_the_end_is_refused() {
    for form in [Form::Bundle, Form::BundleZstd, Form::TarGz] {
        for rest in [&b"x"[..], &[0], &[0; 100], &small(form)] {
            // Zero blocks are part of a plain tar, and a gzip member may follow another one.
            let stream = [&small(form), rest].concat();
            let outcome = unpacked(&stream, form, temp().path());
            assert!(matches!(outcome, Err(Error::BadContent { .. })), "{form:?} and {} bytes", rest.len());
        }
    }
    let padded = [small(Form::Bundle), vec![0; 512 * 18]].concat();
    unpacked(&padded, Form::Bundle, temp().path()).unwrap();
}

/// Fails after its bytes, as a connection does.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("reset by peer")),
            count => Ok(count),
        }
    }
}

#[test]
fn a_broken_transfer_is_told_apart_from_bad_content() {
    for form in [Form::Bundle, Form::BundleZstd, Form::TarGz] {
        let stream = small(form);
        for length in [0, 10, stream.len() / 2, stream.len()] {
            let input = Broken(&stream[..length]);
            let outcome = unpack(input, form, temp().path(), &Limits::default(), None, &mut ());
            assert!(matches!(outcome, Err(Error::Stream { .. })), "{form:?} {length}: {outcome:?}");
        }
    }
}

/// One entry of a stream that is made by hand.
#[derive(Clone)]
struct Made {
    kind: EntryType,
    path: Vec<u8>,
    target: Vec<u8>,
    content: Vec<u8>,
    size: Option<u64>,
    links: Option<u64>,
    mode: u32,
}

fn entry(kind: EntryType, path: &str) -> Made {
    Made { kind, path: path.into(), target: Vec::new(), content: Vec::new(), size: None, links: None, mode: 0o644 }
}

fn file(path: &str) -> Made {
    Made { content: b"content".to_vec(), ..entry(EntryType::Regular, path) }
}

fn folder(path: &str) -> Made {
    entry(EntryType::Directory, path)
}

fn link(path: &str, target: &str) -> Made {
    Made { target: target.into(), ..entry(EntryType::Symlink, path) }
}

fn hard(path: &str, target: &str) -> Made {
    Made { target: target.into(), ..entry(EntryType::Link, path) }
}

fn write_entries(entries: &[Made]) -> Vec<u8> {
    let mut out = Vec::new();
    for made in entries {
        let head = header::Head {
            kind: made.kind,
            path: &made.path,
            target: &made.target,
            mode: made.mode,
            size: made.size.unwrap_or(made.content.len() as u64),
            mtime: tree::Mtime::default(),
            links: made.links,
        };
        header::write_head(&mut out, &head).unwrap();
        out.extend_from_slice(&made.content);
        header::write_padding(&mut out, made.content.len() as u64).unwrap();
    }
    out
}

/// The digest that an honest sender of these entries would compute, so that only what is hostile
/// about them can be the reason of a refusal.
fn bundle_of(entries: &[Made]) -> Vec<u8> {
    let mut manifest = manifest::ManifestWriter::new(None).unwrap();
    for made in entries {
        let content = match made.kind {
            EntryType::Directory => Content::Directory,
            EntryType::Symlink => Content::Link { target: &made.target },
            EntryType::Link => Content::File { size: 7, hash: blake3::hash(b"content").into() },
            _ => Content::File { size: made.content.len() as u64, hash: blake3::hash(&made.content).into() },
        };
        let path = made.path.strip_suffix(b"/").unwrap_or(&made.path);
        let mode = if made.kind == EntryType::Symlink { 0o777 } else { made.mode };
        manifest.record(Entry { path, mode, content }).unwrap();
    }
    let digest = manifest.finish().unwrap();
    let mut out = write_entries(entries);
    header::write_closing(&mut out, digest, entries.len() as u64).unwrap();
    header::write_end(&mut out).unwrap();
    out
}

fn tar_gz_of(entries: &[Made]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(&write_entries(entries)).unwrap();
    header::write_end(&mut out).unwrap();
    out.finish().unwrap()
}

/// A folder to unpack into, inside one that must stay as it is.
fn in_a_cage(test: impl FnOnce(&Path)) {
    let cage = temp();
    fs::write(cage.path().join("host"), "host").unwrap();
    let into = cage.path().join("into");
    fs::create_dir(&into).unwrap();
    test(&into);
    assert_eq!(fs::read_to_string(cage.path().join("host")).unwrap(), "host");
    assert_eq!(fs::metadata(cage.path().join("host")).unwrap().nlink(), 1);
    assert_eq!(fs::read_dir(cage.path()).unwrap().count(), 2, "something was left outside");
}

#[test]
fn well_made_entries_are_accepted() {
    let first = Made { links: Some(2), ..file("a/f") };
    let entries = [folder("a/"), first, link("a/l", "../../etc"), file("b"), hard("c", "a/f")];
    let into = temp();
    let summary = unpacked(&bundle_of(&entries), Form::Bundle, into.path()).unwrap();
    assert_eq!((summary.entries, summary.bytes), (5, 21));
    assert_eq!(fs::read_to_string(into.path().join("c")).unwrap(), "content");
}

/// Only root can pack such a tree, but anybody must be able to receive it.
#[test]
fn entries_that_nobody_may_open_are_accepted() {
    let closed = |made: Made| Made { mode: 0, ..made };
    let first = Made { links: Some(2), ..closed(file("a/b/f")) };
    let entries = [closed(folder("a/")), closed(folder("a/b/")), first, closed(file("g")), closed(hard("h", "a/b/f"))];
    let into = temp();
    unpacked(&bundle_of(&entries), Form::Bundle, into.path()).unwrap();
    for path in ["a", "a/b", "a/b/f", "g"] {
        let path = into.path().join(path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0, "{}", path.display());
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn hostile_bundles_are_refused_and_stay_inside() {
    let marked = || Made { links: Some(2), ..file("f") };
    let table: Vec<(&str, Vec<Made>)> = vec![
        ("parent", vec![file("../x")]),
        ("parent inside", vec![folder("a/"), file("a/../x")]),
        ("parent as folder", vec![folder("../")]),
        ("absolute", vec![file("/tmp/x")]),
        ("absolute folder", vec![folder("/x/")]),
        ("dot", vec![file(".")]),
        ("dot folder", vec![folder("./")]),
        ("dot inside", vec![folder("a/"), file("a/./x")]),
        ("empty name", vec![file("")]),
        ("root folder", vec![folder("/")]),
        ("empty component", vec![folder("a/"), file("a//x")]),
        ("file with slash", vec![file("a/")]),
        ("folder without slash", vec![folder("a")]),
        ("folder missing", vec![file("a/x")]),
        ("duplicate", vec![file("a"), file("a")]),
        ("file and folder", vec![file("a"), folder("a/")]),
        ("out of order", vec![file("b"), file("a")]),
        ("folder twice", vec![folder("a/"), file("b"), folder("a/")]),
        ("back into a folder", vec![folder("a/"), file("b"), file("a/x")]),
        ("through a link", vec![link("a", ".."), file("a/x")]),
        ("through a link to a folder", vec![folder("a/"), link("b", "a"), file("b/x")]),
        ("folder over a link", vec![link("a", "/tmp"), folder("a/")]),
        ("link over a file", vec![file("a"), link("a", "x")]),
        ("link to nowhere", vec![link("a", "")]),
        ("link target too long", vec![link("a", &"t".repeat(5000))]),
        ("hard link to the outside", vec![hard("a", "../host")]),
        ("hard link to an absolute path", vec![hard("a", "/etc/passwd")]),
        ("hard link to a later file", vec![hard("a", "b"), file("b")]),
        ("hard link to a folder", vec![folder("a/"), hard("b", "a")]),
        ("hard link to a link", vec![link("a", "/etc/passwd"), hard("b", "a")]),
        ("hard link to a file that was not announced", vec![file("a"), hard("b", "a")]),
        ("more hard links than announced", vec![marked(), hard("g", "f"), hard("h", "f")]),
        ("hard link by a crooked path", vec![folder("a/"), marked(), hard("g", "a/../f")]),
        ("character device", vec![entry(EntryType::Char, "a")]),
        ("block device", vec![entry(EntryType::Block, "a")]),
        ("FIFO", vec![entry(EntryType::Fifo, "a")]),
        ("unknown kind", vec![entry(EntryType::new(b'Z'), "a")]),
        ("sparse", vec![entry(EntryType::GNUSparse, "a")]),
        ("link with content", vec![Made { content: vec![1], ..link("a", "b") }]),
        ("folder with content", vec![Made { content: vec![1], ..folder("a/") }]),
        ("marked folder", vec![Made { links: Some(2), ..folder("a/") }]),
        ("lost+found", vec![folder("lost+found/")]),
    ];
    for (what, entries) in table {
        in_a_cage(|into| {
            let outcome = unpacked(&bundle_of(&entries), Form::Bundle, into);
            assert!(matches!(outcome, Err(Error::BadContent { .. } | Error::TooLarge { .. })), "{what}: {outcome:?}");
        });
    }
}

#[test]
fn hostile_archives_of_the_original_form_stay_inside() {
    let refused: Vec<(&str, Vec<Made>)> = vec![
        ("parent", vec![file("../x")]),
        ("parent inside", vec![file("a/../../x")]),
        ("absolute", vec![file("/tmp/x")]),
        ("absolute link", vec![link("/tmp/x", "y")]),
        ("the root itself", vec![file(".")]),
        ("through a link", vec![link("a", ".."), file("a/x")]),
        ("through a link, deeper", vec![link("a", "/tmp"), file("a/b/x")]),
        ("below a file", vec![file("a"), file("a/x")]),
        ("over a folder", vec![file("a/x"), file("a")]),
        ("link over a file", vec![file("a"), link("a", "b")]),
        ("sparse", vec![entry(EntryType::GNUSparse, "a")]),
        ("link to nowhere", vec![link("a", "")]),
    ];
    for (what, entries) in refused {
        in_a_cage(|into| {
            let outcome = unpacked(&tar_gz_of(&entries), Form::TarGz, into);
            assert!(matches!(outcome, Err(Error::BadContent { .. })), "{what}: {outcome:?}");
        });
    }
}

#[test]
fn archives_of_the_original_form_pass_over_what_v1_6_1_passes_over() {
    let entries = [
        folder("./"),
        folder("a/"),
        hard("outside", "../host"),
        entry(EntryType::Char, "device"),
        entry(EntryType::Fifo, "fifo"),
        Made { content: b"later".to_vec(), ..file("x/y") },
        Made { content: b"last".to_vec(), ..file("x/y") },
        file("./x//z"),
        link("l", "/etc/passwd"),
        Made { content: b"replaces".to_vec(), ..file("l") },
        entry(EntryType::Regular, "old/"),
    ];
    in_a_cage(|into| {
        unpacked(&tar_gz_of(&entries), Form::TarGz, into).unwrap();
        let found: Vec<_> = read_tree(into).into_keys().map(|path| String::from_utf8(path).unwrap()).collect();
        assert_eq!(found, ["l", "x", "x/y", "x/z"]);
        assert_eq!(fs::read_to_string(into.join("x/y")).unwrap(), "last");
        assert_eq!(fs::read_to_string(into.join("l")).unwrap(), "replaces");
        assert_eq!(fs::metadata(into.join("x")).unwrap().permissions().mode() & 0o777, 0o755);
    });
}

#[test]
fn an_archive_of_several_gzip_members_is_read_whole() {
    let tar = {
        let mut out = write_entries(&[file("a"), file("b")]);
        header::write_end(&mut out).unwrap();
        out
    };
    let (one, two) = tar.split_at(700);
    let member = |part: &[u8]| {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(part).unwrap();
        out.finish().unwrap()
    };
    let into = temp();
    unpacked(&[member(one), member(two)].concat(), Form::TarGz, into.path()).unwrap();
    assert_eq!(read_tree(into.path()).len(), 2);
}

#[test]
fn a_wrong_gzip_checksum_is_refused() {
    let mut stream = tar_gz_of(&[file("a")]);
    let crc = stream.len() - 8;
    stream[crc] ^= 1;
    assert!(matches!(unpacked(&stream, Form::TarGz, temp().path()), Err(Error::BadContent { .. })));
}

#[test]
fn sizes_that_no_memory_could_hold_are_refused_at_once() {
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName, EntryType::GNULongLink] {
        let stream = write_entries(&[Made { size: Some(1_000_000_000), ..entry(kind, "huge") }]);
        let outcome = unpacked(&stream, Form::Bundle, temp().path());
        assert!(matches!(outcome, Err(Error::BadContent { .. } | Error::TooLarge { .. })), "{kind:?} {outcome:?}");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&stream).unwrap();
        let outcome = unpacked(&gzip.finish().unwrap(), Form::TarGz, temp().path());
        assert!(matches!(outcome, Err(Error::BadContent { .. })), "{kind:?} {outcome:?}");
    }
}

#[test]
fn every_limit_holds_and_is_named() {
    let limits = Limits { entries: 3, bytes: 1000, path: 20, name: 10, depth: 3, link_target: 15 };
    let table: Vec<(&str, Vec<Made>)> = vec![
        ("entries", vec![file("a"), file("b"), file("c"), file("d")]),
        ("bytes in files", vec![Made { size: Some(1 << 60), ..file("a") }]),
        ("bytes in a path", vec![folder("aaaaaaaaaa/"), file("aaaaaaaaaa/bbbbbbbbbb")]),
        ("bytes in a name", vec![file("aaaaaaaaaaa")]),
        ("folders inside each other", vec![folder("a/"), folder("a/b/"), folder("a/b/c/"), file("a/b/c/d")]),
        ("bytes in the target of a link", vec![link("a", "1234567890123456")]),
    ];
    for (what, entries) in table {
        for (form, stream) in [(Form::Bundle, bundle_of(&entries)), (Form::TarGz, tar_gz_of(&entries))] {
            let outcome = unpack(&stream[..], form, temp().path(), &limits, None, &mut ());
            let Err(Error::TooLarge { limit, .. }) = outcome else { panic!("{what} {form:?}: {outcome:?}") };
            assert_eq!(limit, what, "{form:?}");
        }
    }
}

#[test]
fn a_bomb_is_stopped_by_the_limit_on_bytes() {
    let dir = temp();
    fs::File::create(dir.path().join("zeros")).unwrap().set_len(64 << 20).unwrap();
    for form in [Form::BundleZstd, Form::TarGz] {
        let (stream, _) = packed(dir.path(), form).unwrap();
        assert!(stream.len() < 1 << 20);
        let limits = Limits { bytes: 1 << 20, ..Limits::default() };
        let outcome = unpack(&stream[..], form, temp().path(), &limits, None, &mut ());
        assert!(matches!(outcome, Err(Error::TooLarge { limit: "bytes in files", .. })), "{outcome:?}");
    }
}

#[test]
fn a_frame_that_asks_for_much_memory_is_refused() {
    let plain = small(Form::Bundle);
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    // A window is only asked for when the size is not known beforehand.
    for _ in 0..2 {
        encoder.write_all(&plain).unwrap();
        encoder.flush().unwrap();
    }
    let stream = encoder.finish().unwrap();
    let outcome = unpacked(&stream, Form::BundleZstd, temp().path());
    let Err(Error::BadContent { why }) = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("decompressed"), "{why}");
}

#[test]
fn another_digest_or_count_than_the_content_has_is_refused() {
    let entries = [file("a")];
    let plain = write_entries(&entries);
    let right = bundle_of(&entries);
    unpacked(&right, Form::Bundle, temp().path()).unwrap();
    let (_, summary) = {
        let dir = temp();
        fs::write(dir.path().join("a"), "content").unwrap();
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o644)).unwrap();
        packed(dir.path(), Form::Bundle).unwrap()
    };
    let digest = summary.digest.unwrap();
    for (digest, count, fine) in [(digest, 1, true), (digest, 2, false), (Digest::new([0; 32]), 1, false)] {
        let mut stream = plain.clone();
        header::write_closing(&mut stream, digest, count).unwrap();
        header::write_end(&mut stream).unwrap();
        let outcome = unpacked(&stream, Form::Bundle, temp().path());
        assert_eq!(outcome.is_ok(), fine, "{outcome:?}");
    }
}

#[test]
fn control_characters_in_paths_do_not_reach_the_terminal() {
    let outcome = unpacked(&bundle_of(&[file("a\x1b[2Jb/x")]), Form::Bundle, temp().path());
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("a\\u{1b}[2Jb"), "{message}");
}

#[test]
fn a_damaged_manifest_is_refused() {
    let dir = sample();
    let mut manifest = Vec::new();
    let digest = seal(dir.path(), Some(&mut manifest), &SealOptions::default()).unwrap().digest;
    let read = |bytes: &[u8], digest| -> Result<u64, Error> {
        let mut reader = ManifestReader::new(bytes, digest)?;
        let mut count = 0;
        while reader.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    };
    read(&manifest, digest).unwrap();
    assert!(read(&manifest, Digest::new([1; 32])).is_err());
    for length in 0..manifest.len() {
        assert!(read(&manifest[..length], digest).is_err(), "cut at {length}");
    }
    for bit in 0..manifest.len() * 8 {
        let mut damaged = manifest.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A flip that changes nothing of the content may pass.
        if let Ok(count) = read(&damaged, digest) {
            assert_eq!(Ok(count), read(&manifest, digest).map_err(|_| ()), "bit {bit}");
        }
    }
    assert!(read(&[&manifest[..], b"x"].concat(), digest).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for form in [Form::Bundle, Form::BundleZstd, Form::TarGz] {
            in_a_cage(|into| assert!(unpacked(&bytes, form, into).is_err()));
        }
        prop_assert!(ManifestReader::new(&bytes[..], Digest::new([0; 32])).is_err());
    }

    #[test]
    fn entries_with_any_names_stay_inside(
        names in proptest::collection::vec(
            ("[a./]{0,8}", prop_oneof![Just(b'0'), Just(b'1'), Just(b'2'), Just(b'5'), Just(b'6')], "[a./]{0,6}"), 0..8),
    ) {
        let entries: Vec<Made> = names
            .iter()
            .map(|(path, kind, target)| Made { target: target.clone().into_bytes(), ..entry(EntryType::new(*kind), path) })
            .collect();
        in_a_cage(|into| drop(unpacked(&bundle_of(&entries), Form::Bundle, into)));
        in_a_cage(|into| drop(unpacked(&tar_gz_of(&entries), Form::TarGz, into)));
    }
}

//! Parts of folders, lists that pass by, and folders against what they should be.

use super::super::*;
use super::trees::*;
use crate::content::Difference;
use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A folder's manifest, compressed, and its digest.
fn manifest(root: &Path) -> (Vec<u8>, Digest) {
    let mut list = Vec::new();
    let sealed = seal(root, Some(&mut list), &SealOptions::default()).unwrap();
    (list, sealed.digest)
}

/// Paths, and what stands there.
fn all(entries: &mut dyn Entries) -> Result<Vec<(Vec<u8>, String)>, Error> {
    let mut found = Vec::new();
    while let Some(entry) = entries.next()? {
        found.push((entry.path.to_vec(), format!("{:o} {:?}", entry.mode, entry.content)));
    }
    Ok(found)
}

fn paths(entries: &mut dyn Entries) -> Vec<String> {
    all(entries).unwrap().into_iter().map(|(path, _)| String::from_utf8_lossy(&path).into_owned()).collect()
}

fn part_of(root: &Path, globs: &[&str], form: Form) -> (Vec<u8>, Summary) {
    let options = PackOptions { only: Some(Selection::new(globs).unwrap()), ..PackOptions::default() };
    let mut stream = Vec::new();
    let summary = pack(root, form, &mut stream, &options, &mut ()).unwrap();
    (stream, summary)
}

#[test]
fn canonical_order_is_that_of_a_walk() {
    let sorted: [&[u8]; 8] = [b"\x01", b"a", b"a/\x01", b"a/b", b"a/b/c", b"a\x01", b"a.b", b"ab"];
    for (at, one) in sorted.iter().enumerate() {
        for (and, other) in sorted.iter().enumerate() {
            assert_eq!(canonical_order(one, other), at.cmp(&and), "{one:?} {other:?}");
        }
    }
    assert_eq!(canonical_order(b"", b"a"), Ordering::Less);
}

#[test]
fn a_part_of_a_folder_holds_what_is_taken_and_the_folders_above() {
    let dir = sample();
    for form in [Form::Bundle, Form::BundleZstd] {
        for (globs, expected) in [
            (&["text"][..], &["a", "a/b", "a/b/text"][..]),
            (&["a/b"], &["a", "a/b", "a/b/text"]),
            (&["/tool*"], &["tool2", "tool3"]),
            (&["empty", "a.txt"], &["a.txt", "empty"]),
            (&["/*.txt", "tool"], &["a", "a/tool", "a.txt"]),
            (&["nothing"], &[]),
            (&["link"], &["link"]),
        ] {
            let (stream, summary) = part_of(dir.path(), globs, form);
            let into = temp();
            let mut list = Vec::new();
            let received =
                unpack(&stream[..], form, into.path(), &Limits::default(), Some(&mut list), &mut ()).unwrap();
            assert_eq!(received, summary, "{globs:?}");
            let mut reader = ManifestReader::new(&list[..], summary.digest.unwrap()).unwrap();
            assert_eq!(paths(&mut reader), expected, "{globs:?}");
            assert_eq!(sealed(into.path()).digest, summary.digest.unwrap());
        }
    }
    // With everything taken, it is the whole.
    assert_eq!(part_of(dir.path(), &["**"], Form::Bundle), packed(dir.path(), Form::Bundle).unwrap());
}

#[test]
fn a_part_in_the_form_of_v1_6_1_holds_files_and_links() {
    let dir = sample();
    let (stream, summary) = part_of(dir.path(), &["tool", "link"], Form::TarGz);
    assert_eq!(summary.entries, 2);
    assert_eq!(paths(&mut ArchiveReader::new(&stream[..]).unwrap()), ["a", "a/tool", "link"]);
}

#[test]
fn what_is_not_taken_is_not_even_opened() {
    let dir = temp();
    fs::write(dir.path().join("a"), "x").unwrap();
    std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    assert_eq!(part_of(dir.path(), &["a"], Form::Bundle).1.entries, 1);
}

#[test]
fn a_part_of_a_manifest_is_what_is_at_a_path_and_below_it() {
    let dir = sample();
    let (list, digest) = manifest(dir.path());
    for (under, expected) in [
        (&b"a"[..], &["a", "a/b", "a/b/text", "a/tool"][..]),
        (b"a/b", &["a/b", "a/b/text"]),
        (b"a.txt", &["a.txt"]),
        (b"link", &["link"]),
        (b"nothing", &[]),
    ] {
        let mut part = Vec::new();
        copy_part(&mut ManifestReader::new(&list[..], digest).unwrap(), under, &mut part).unwrap();
        assert_eq!(paths(&mut ManifestReader::part(&part[..]).unwrap()), expected, "{under:?}");
        for length in 0..part.len() {
            let read = ManifestReader::part(&part[..length]).and_then(|mut reader| all(&mut reader));
            assert!(read.is_err(), "cut at {length} of {}", part.len());
        }
    }
}

#[test]
fn an_archive_is_listed_as_a_manifest_would_list_it() {
    let dir = sample();
    let (list, digest) = manifest(dir.path());
    let (archive, _) = packed(dir.path(), Form::TarGz).unwrap();
    let mut expected = all(&mut ManifestReader::new(&list[..], digest).unwrap()).unwrap();
    // An archive has no empty folders.
    expected.retain(|(path, _)| path != b"empty");
    assert_eq!(all(&mut ArchiveReader::new(&archive[..]).unwrap()).unwrap(), expected);
    for length in 0..archive.len() {
        let read = ArchiveReader::new(&archive[..length]).and_then(|mut reader| all(&mut reader));
        assert!(read.is_err(), "cut at {length}");
    }
}

/// A tar.gz of these files, in this order.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn an_archive_that_no_walk_can_make_is_not_listed() {
    for files in [
        &[("b", ""), ("a", "")][..],
        &[("a", ""), ("a", "")],
        &[("a", ""), ("a/b", "")],
        &[("d/a", ""), ("e", ""), ("d/b", "")],
        &[("../a", "")],
        &[("/a", "")],
    ] {
        let bytes = archive(files);
        assert!(ArchiveReader::new(&bytes[..]).and_then(|mut reader| all(&mut reader)).is_err(), "{files:?}");
    }
    let bytes = archive(&[("./d/a", ""), ("d//b", ""), ("e", "")]);
    assert_eq!(paths(&mut ArchiveReader::new(&bytes[..]).unwrap()), ["d", "d/a", "d/b", "e"]);
}

#[test]
fn one_file_is_taken_out_of_an_archive_that_passes_by() {
    let dir = sample();
    let (bytes, _) = packed(dir.path(), Form::TarGz).unwrap();
    for (path, expected, content) in [
        (&b"a/b/text"[..], InArchive::File, &b"some text"[..]),
        (b"a.txt", InArchive::File, b""),
        (b"caf\xe9", InArchive::File, b"latin"),
        (b"a", InArchive::Directory, b""),
        (b"link", InArchive::Link(b"a/tool".to_vec()), b""),
        (b"a/none", InArchive::Nothing, b""),
        (b"a/to", InArchive::Nothing, b""),
    ] {
        let mut out = Vec::new();
        assert_eq!(copy_from_archive(&bytes[..], path, &mut out).unwrap(), expected, "{path:?}");
        assert_eq!(out, content);
    }
    assert!(copy_from_archive(&bytes[..bytes.len() - 9], b"a.txt", &mut Vec::new()).is_err());
}

/// How a folder differs from the list.
fn differences(root: &Path, list: &(Vec<u8>, Digest)) -> (Vec<(String, Difference)>, Totals) {
    let mut found = Vec::new();
    let mut reader = ManifestReader::new(&list.0[..], list.1).unwrap();
    let totals = compare(root, &mut reader, &Limits::default(), &mut |compared| {
        if let Compared::Differs { path, how } = compared {
            found.push((String::from_utf8_lossy(path).into_owned(), how));
        }
        ControlFlow::Continue(())
    });
    (found, totals.unwrap())
}

#[test]
fn a_folder_is_what_it_was_or_each_entry_that_differs_is_named() {
    let dir = sample();
    let root = dir.path();
    let list = manifest(root);
    let before = sealed(root);
    let (none, totals) = differences(root, &list);
    assert_eq!(none, []);
    assert_eq!(totals, Totals { entries: before.entries, bytes: before.bytes, differences: 0 });

    // As many bytes as before, and as old.
    let text = root.join("a/b/text");
    let times = fs::metadata(&text).unwrap().modified().unwrap();
    fs::write(&text, b"some tExt").unwrap();
    fs::File::options().write(true).open(&text).unwrap().set_modified(times).unwrap();
    fs::write(root.join("a.txt"), b"more").unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.join("empty/new")).unwrap();
    fs::write(root.join("empty/new/file"), b"12").unwrap();
    fs::remove_file(root.join("z")).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    std::os::unix::fs::symlink("elsewhere", root.join("link")).unwrap();
    fs::remove_file(root.join("to-long")).unwrap();
    fs::create_dir(root.join("to-long")).unwrap();
    let (found, totals) = differences(root, &list);
    let expected = [
        ("a/b/text", Difference::Content),
        ("a.txt", Difference::Size),
        ("empty", Difference::Mode),
        ("empty/new", Difference::Extra),
        ("empty/new/file", Difference::Extra),
        ("link", Difference::Content),
        ("to-long", Difference::Kind),
        ("z", Difference::Missing),
    ];
    assert_eq!(found, expected.map(|(path, how)| (path.to_owned(), how)));
    assert_eq!(totals.differences, expected.len() as u64);
}

#[test]
fn a_folder_that_is_lost_is_missing_with_all_that_was_in_it() {
    let dir = sample();
    let list = manifest(dir.path());
    fs::remove_dir_all(dir.path().join("a")).unwrap();
    let (found, _) = differences(dir.path(), &list);
    let missing: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(missing, ["a", "a/b", "a/b/text", "a/tool"]);
    assert!(found.iter().all(|(_, how)| *how == Difference::Missing));
}

#[test]
fn a_comparison_ends_when_nobody_wants_it_any_more() {
    let dir = sample();
    let (list, digest) = manifest(dir.path());
    let mut asked = 0;
    let mut reader = ManifestReader::new(&list[..], digest).unwrap();
    compare(dir.path(), &mut reader, &Limits::default(), &mut |_| {
        asked += 1;
        if asked == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(asked, 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_list_is_refused_and_never_trusted(at in 0_usize..4000, bit in 0_u8..8, whole: bool) {
        let dir = sample();
        let (mut list, digest) = manifest(dir.path());
        let right = all(&mut ManifestReader::new(&list[..], digest).unwrap()).unwrap();
        let at = at % list.len();
        list[at] ^= 1 << bit;
        let reader = if whole { ManifestReader::new(&list[..], digest) } else { ManifestReader::part(&list[..]) };
        if let Ok(read) = reader.and_then(|mut reader| all(&mut reader)) {
            // A bit that means nothing to zstd.
            prop_assert_eq!(read, right);
        }
    }

    #[test]
    fn any_records_are_read_or_refused(records in proptest::collection::vec(0_u8.., 0..300)) {
        let mut raw = b"knit-manifest 1\n".to_vec();
        raw.extend(records);
        let list = zstd::encode_all(&raw[..], 1).unwrap();
        if let Ok(read) = ManifestReader::part(&list[..]).and_then(|mut reader| all(&mut reader)) {
            for (path, _) in read {
                prop_assert!(is_plain_path(&path));
            }
        }
    }

    #[test]
    fn paths_of_a_list_are_plain_and_in_order(paths in proptest::collection::vec("[a-c./]{0,6}", 1..5)) {
        let mut raw = b"knit-manifest 1\n".to_vec();
        for path in &paths {
            raw.push(b'd');
            raw.extend(0o755_u16.to_le_bytes());
            raw.extend((path.len() as u32).to_le_bytes());
            raw.extend(path.as_bytes());
            raw.extend(0_u64.to_le_bytes());
        }
        let list = zstd::encode_all(&raw[..], 1).unwrap();
        let read = ManifestReader::part(&list[..]).and_then(|mut reader| all(&mut reader));
        let plain = paths.iter().all(|path| is_plain_path(path.as_bytes()));
        let keys: Vec<Vec<&str>> = paths.iter().map(|path| path.split('/').collect()).collect();
        let in_order = keys.is_sorted() && keys.iter().collect::<BTreeSet<_>>().len() == keys.len();
        prop_assert_eq!(read.is_ok(), plain && in_order);
    }

    #[test]
    fn any_bytes_are_an_archive_or_refused(bytes in proptest::collection::vec(0_u8.., 0..600)) {
        prop_assert!(ArchiveReader::new(&bytes[..]).and_then(|mut reader| all(&mut reader)).is_err());
        prop_assert!(copy_from_archive(&bytes[..], b"a", &mut Vec::new()).is_err());
    }
}

//! What goes in comes out.

use super::super::*;
use super::trees::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const OURS: [Form; 2] = [Form::Bundle, Form::BundleZstd];

#[test]
fn a_folder_comes_back_as_it_was() {
    for form in OURS {
        let from = sample();
        let (stream, sent) = packed(from.path(), form).unwrap();
        let into = temp();
        let received = unpacked(&stream, form, into.path()).unwrap();
        assert_eq!(read_tree(into.path()), read_tree(from.path()), "{form:?}");
        assert_eq!(sent, received);
        assert_eq!(sent.digest.unwrap(), sealed(from.path()).digest);
        assert_eq!(sent.digest.unwrap(), sealed(into.path()).digest);
        let inode = |name: &str| fs::metadata(into.path().join(name)).unwrap().ino();
        assert_eq!(inode("a/tool"), inode("tool2"));
        assert_eq!(inode("a/tool"), inode("tool3"));
    }
}

#[test]
fn an_empty_folder_is_a_folder_too() {
    for form in [Form::Bundle, Form::BundleZstd, Form::TarGz] {
        let (from, into) = (temp(), temp());
        let (stream, sent) = packed(from.path(), form).unwrap();
        assert_eq!(unpacked(&stream, form, into.path()).unwrap(), sent);
        assert_eq!((sent.entries, sent.bytes), (0, 0));
    }
}

/// The format is a promise to every stored digest: this one must never change.
#[test]
fn the_root_digest_is_the_documented_one() {
    let dir = temp();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::set_permissions(dir.path().join("d"), Permissions::from_mode(0o750)).unwrap();
    fs::write(dir.path().join("d/f"), "hello").unwrap();
    fs::set_permissions(dir.path().join("d/f"), Permissions::from_mode(0o4640)).unwrap();
    symlink("d/f", dir.path().join("l")).unwrap();
    let mut manifest = b"knit-manifest 1\n".to_vec();
    manifest.extend([b'd', 0xe8, 0x01, 1, 0, 0, 0, b'd', 0, 0, 0, 0, 0, 0, 0, 0]);
    manifest.extend([b'f', 0xa0, 0x01, 3, 0, 0, 0, b'd', b'/', b'f', 5, 0, 0, 0, 0, 0, 0, 0]);
    manifest.extend(blake3::hash(b"hello").as_bytes());
    manifest.extend([b'l', 0xff, 0x01, 1, 0, 0, 0, b'l', 3, 0, 0, 0, 0, 0, 0, 0]);
    manifest.extend(b"d/f");
    let expected = Digest::from(blake3::hash(&manifest));
    assert_eq!(sealed(dir.path()).digest, expected);
    assert_eq!(packed(dir.path(), Form::Bundle).unwrap().1.digest, Some(expected));
    assert_eq!(expected.to_string(), "f289553af10c0434abca4128cd7db5ddeb5fc2e181731a6e6629365cef637ad2");
}

#[test]
fn digests_are_equal_for_equal_folders_whatever_their_times_and_links() {
    let (one, two) = (temp(), temp());
    for (root, age) in [(one.path(), 0), (two.path(), 5000)] {
        fs::create_dir(root.join("d")).unwrap();
        for name in ["d/x", "y"] {
            fs::write(root.join(name), "same").unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            File::open(root.join(name)).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        }
    }
    fs::remove_file(two.path().join("y")).unwrap();
    fs::hard_link(two.path().join("d/x"), two.path().join("y")).unwrap();
    fs::set_permissions(two.path(), Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(two.path().join("lost+found")).unwrap();
    fs::write(two.path().join("lost+found/inode"), "x").unwrap();
    assert_eq!(sealed(one.path()), sealed(two.path()));
    let (_, one) = packed(one.path(), Form::Bundle).unwrap();
    let (_, two) = packed(two.path(), Form::Bundle).unwrap();
    assert_eq!(one, two);
}

#[test]
fn any_difference_that_counts_changes_the_digest() {
    let base = |change: &dyn Fn(&Path)| {
        let dir = temp();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("f"), "content").unwrap();
        symlink("f", dir.path().join("l")).unwrap();
        change(dir.path());
        sealed(dir.path()).digest
    };
    let plain = base(&|_| ());
    assert_eq!(plain, base(&|_| ()));
    let changes: [&dyn Fn(&Path); 6] = [
        &|root| fs::write(root.join("f"), "Content").unwrap(),
        &|root| fs::set_permissions(root.join("f"), Permissions::from_mode(0o600)).unwrap(),
        &|root| fs::set_permissions(root.join("d"), Permissions::from_mode(0o700)).unwrap(),
        &|root| fs::rename(root.join("f"), root.join("g")).unwrap(),
        &|root| fs::remove_dir(root.join("d")).unwrap(),
        &|root| {
            fs::remove_file(root.join("l")).unwrap();
            symlink("g", root.join("l")).unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_ne!(plain, base(change), "change {number}");
    }
}

#[test]
fn a_single_file_is_packed_by_its_name() {
    let dir = temp();
    fs::write(dir.path().join("model.bin"), "weights").unwrap();
    symlink("model.bin", dir.path().join("latest")).unwrap();
    for (form, name) in [(Form::Bundle, "model.bin"), (Form::TarGz, "model.bin"), (Form::BundleZstd, "latest")] {
        let into = temp();
        let (stream, _) = packed(&dir.path().join(name), form).unwrap();
        unpacked(&stream, form, into.path()).unwrap();
        assert_eq!(fs::read_to_string(into.path().join(name)).unwrap(), "weights");
        assert!(!into.path().join(name).is_symlink());
    }
}

#[test]
fn a_link_to_a_folder_given_by_name_means_the_folder() {
    let dir = temp();
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/f"), "x").unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    let (_, direct) = packed(&dir.path().join("real"), Form::Bundle).unwrap();
    let (_, linked) = packed(&dir.path().join("link"), Form::Bundle).unwrap();
    assert_eq!(direct, linked);
}

#[test]
fn dereferencing_replaces_links_by_content() {
    let dir = temp();
    let elsewhere = temp();
    fs::create_dir(elsewhere.path().join("sub")).unwrap();
    fs::write(elsewhere.path().join("sub/file"), "far").unwrap();
    symlink(elsewhere.path(), dir.path().join("folder")).unwrap();
    symlink(elsewhere.path().join("sub/file"), dir.path().join("file")).unwrap();
    for form in [Form::Bundle, Form::TarGz] {
        let mut stream = Vec::new();
        let options = PackOptions { dereference: true, ..PackOptions::default() };
        pack(dir.path(), form, &mut stream, &options, &mut ()).unwrap();
        let into = temp();
        unpacked(&stream, form, into.path()).unwrap();
        assert_eq!(fs::read_to_string(into.path().join("folder/sub/file")).unwrap(), "far");
        assert!(!into.path().join("file").is_symlink());
    }
}

#[test]
fn dereferencing_a_loop_is_an_error_that_names_the_link() {
    let loops: [(&str, &str); 3] = [("a/up", ".."), ("a/self", "self"), ("a/b", "../a")];
    for (link, target) in loops {
        let dir = temp();
        fs::create_dir(dir.path().join("a")).unwrap();
        symlink(target, dir.path().join(link)).unwrap();
        let options = PackOptions { dereference: true, ..PackOptions::default() };
        let error = pack(dir.path(), Form::Bundle, &mut Vec::new(), &options, &mut ()).unwrap_err();
        let Error::LinkLoop { path } = error else { panic!("{link}: {error}") };
        assert_eq!(path, dir.path().join(link));
    }
}

#[test]
fn specials_are_an_error_of_pack_and_left_out_by_seal() {
    let dir = temp();
    fs::write(dir.path().join("file"), "x").unwrap();
    let before = sealed(dir.path());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    for form in [Form::Bundle, Form::TarGz] {
        let error = packed(dir.path(), form).unwrap_err();
        let Error::NotData { path, kind: Special::Fifo } = error else { panic!("{error}") };
        assert_eq!(path, dir.path().join("pipe"));
    }
    let after = sealed(dir.path());
    assert_eq!((after.digest, after.entries, after.left_out_count), (before.digest, before.entries, 2));
    let named: Vec<_> = after.left_out.iter().map(|left| (left.path.to_str().unwrap(), left.kind)).collect();
    assert_eq!(named, [("pipe", Special::Fifo), ("socket", Special::Socket)]);
    let options = SealOptions { remove_specials: true, ..SealOptions::default() };
    seal(dir.path(), None, &options).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_is_left_out_is_counted_without_end_and_named_up_to_a_number() {
    let dir = temp();
    for number in 0..150 {
        let path = dir.path().join(format!("s{number}"));
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }
    let sealed = sealed(dir.path());
    assert_eq!((sealed.left_out.len(), sealed.left_out_count, sealed.entries), (100, 150, 0));
}

/// Changes the file that it is told of once its first bytes were read.
struct Meddler<'a>(&'a Path, Option<fn(&Path)>);

impl Observer for Meddler<'_> {
    fn bytes(&mut self, _count: u64) {
        if let Some(meddle) = self.1.take() {
            meddle(self.0);
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_that_names_it() {
    let meddles: [fn(&Path); 3] = [
        |path| File::options().write(true).open(path).unwrap().set_len(600_000).unwrap(),
        |path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap(),
        |path| {
            let time = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
            File::options().write(true).open(path).unwrap().set_times(time).unwrap();
        },
    ];
    for meddle in meddles {
        for form in [Form::Bundle, Form::BundleZstd, Form::TarGz] {
            let dir = temp();
            let path = dir.path().join("busy");
            fs::write(&path, vec![1; 1_000_000]).unwrap();
            let mut stream = Vec::new();
            let mut meddler = Meddler(&path, Some(meddle));
            let error = pack(dir.path(), form, &mut stream, &PackOptions::default(), &mut meddler).unwrap_err();
            let Error::Changed { path: named } = &error else { panic!("{error}") };
            assert_eq!(named, &path);
            // What was sent by then must not pass for a complete stream.
            let refused = unpacked(&stream, form, temp().path()).unwrap_err();
            assert!(matches!(refused, Error::BadContent { .. }), "{form:?}: {refused}");
        }
    }
}

#[test]
fn a_folder_whose_entries_come_and_go_while_it_is_read_is_an_error_that_names_it() {
    let meddles: [fn(&Path); 3] = [
        |file| fs::write(file.with_file_name("zz"), "").unwrap(),
        |file| fs::remove_file(file.with_file_name("a")).unwrap(),
        |file| fs::rename(file.with_file_name("a"), file.with_file_name("b")).unwrap(),
    ];
    for meddle in meddles {
        for form in [Form::Bundle, Form::TarGz] {
            let dir = temp();
            fs::create_dir(dir.path().join("sub")).unwrap();
            let path = dir.path().join("sub/busy");
            fs::write(path.with_file_name("a"), "").unwrap();
            fs::write(&path, vec![1; 1_000_000]).unwrap();
            // What happens within one tick of the file system's clock looks like one change.
            std::thread::sleep(std::time::Duration::from_millis(20));
            let mut meddler = Meddler(&path, Some(meddle));
            let error = pack(dir.path(), form, &mut Vec::new(), &PackOptions::default(), &mut meddler).unwrap_err();
            let Error::Changed { path: named } = &error else { panic!("{error}") };
            assert_eq!(named, &dir.path().join("sub"));
        }
    }
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let error = packed(Path::new("/does/not/exist"), Form::Bundle).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /does/not/exist: No such file or directory (os error 2)");
}

#[test]
fn a_full_disk_is_told_apart() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let dir = sample();
    let mut out = &full;
    let error = seal(dir.path(), Some(&mut out), &SealOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
}

#[test]
fn unpacking_needs_an_empty_folder() {
    let (stream, _) = packed(sample().path(), Form::Bundle).unwrap();
    let into = temp();
    fs::write(into.path().join("mine"), "precious").unwrap();
    assert!(matches!(unpacked(&stream, Form::Bundle, into.path()), Err(Error::Target { .. })));
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
}

#[test]
fn a_manifest_lists_every_entry_and_is_the_same_from_all_sides() {
    let dir = sample();
    let (stream, summary) = packed(dir.path(), Form::BundleZstd).unwrap();
    let (mut received, mut sealed) = (Vec::new(), Vec::new());
    let into = temp();
    let limits = Limits::default();
    unpack(&stream[..], Form::BundleZstd, into.path(), &limits, Some(&mut received), &mut ()).unwrap();
    seal(dir.path(), Some(&mut sealed), &SealOptions::default()).unwrap();
    assert_eq!(received, sealed);
    let mut reader = ManifestReader::new(&sealed[..], summary.digest.unwrap()).unwrap();
    let mut listed = BTreeMap::new();
    while let Some(entry) = reader.next().unwrap() {
        let size = match entry.content {
            Content::File { size, .. } => size as usize,
            Content::Link { target } => target.len(),
            Content::Directory => 0,
        };
        listed.insert(entry.path.to_vec(), (entry.mode, size));
    }
    let expected: BTreeMap<_, _> = read_tree(dir.path())
        .into_iter()
        .map(|(path, node)| match node {
            Node::Folder { mode, .. } => (path, (mode, 0)),
            Node::File { mode, content, .. } => (path, (mode, content.len())),
            Node::Link { target } => (path, (0o777, target.len())),
        })
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn an_original_archive_is_read_back() {
    let from = sample();
    let (stream, sent) = packed(from.path(), Form::TarGz).unwrap();
    let into = temp();
    let received = unpacked(&stream, Form::TarGz, into.path()).unwrap();
    assert_eq!(sent, received);
    let expected: Tree = read_tree(from.path()).into_iter().filter(|(path, _)| path != b"empty").collect();
    let whole_seconds = |tree: Tree| -> Tree {
        let simple = |(path, node)| match node {
            Node::Folder { .. } => (path, Node::Folder { mode: 0o755, mtime: (0, 0) }),
            Node::File { mode, mtime, content } => (path, Node::File { mode, mtime: (mtime.0, 0), content }),
            link @ Node::Link { .. } => (path, link),
        };
        tree.into_iter().map(simple).collect()
    };
    assert_eq!(whole_seconds(read_tree(into.path())), whole_seconds(expected));
}

#[test]
fn an_original_archive_holds_only_files_and_links() {
    let (stream, _) = packed(sample().path(), Form::TarGz).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&stream[..]));
    for entry in archive.entries().unwrap() {
        let kind = entry.unwrap().header().entry_type();
        assert!(matches!(kind, tar::EntryType::Regular | tar::EntryType::Symlink), "{kind:?}");
    }
}

/// Runs the system's tar program in that folder; nothing if there is none.
fn run_tar(folder: &Path, arguments: &[&str], input: Vec<u8>) -> Option<Vec<u8>> {
    let mut command = Command::new("tar");
    command.arg("-C").arg(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

#[test]
fn a_plain_tar_program_unpacks_a_bundle() {
    let from = sample();
    let (stream, _) = packed(from.path(), Form::Bundle).unwrap();
    let into = temp();
    if run_tar(into.path(), &["-xpf", "-"], stream).is_some() {
        assert_eq!(read_tree(into.path()), read_tree(from.path()));
    }
}

#[test]
fn what_a_plain_tar_program_wrote_is_read() {
    for format in ["--format=gnu", "--format=posix", "--format=ustar"] {
        let from = sample();
        // Hard links are passed over, as v1.6.1 does; long targets do not fit into ustar.
        for name in ["tool2", "tool3", &"long-".repeat(40), "to-long"] {
            if name.starts_with("tool") || format == "--format=ustar" {
                fs::remove_file(from.path().join(name)).unwrap();
            }
        }
        let Some(stream) = run_tar(from.path(), &["-czf", "-", format, "."], Vec::new()) else { return };
        let into = temp();
        unpacked(&stream, Form::TarGz, into.path()).unwrap();
        fs::remove_dir(from.path().join("empty")).unwrap();
        let content = |node| match node {
            Node::File { mode, content, .. } => (mode, content),
            Node::Link { target } => (0, target),
            Node::Folder { .. } => (1, Vec::new()),
        };
        let all =
            |root: &Path| -> Vec<_> { read_tree(root).into_iter().map(|(path, node)| (path, content(node))).collect() };
        assert_eq!(all(into.path()), all(from.path()), "{format}");
    }
}

/// A sparse file of 9 GiB would take a minute to hash, so only its header and first bytes are looked at.
#[test]
fn a_file_over_8_gib_is_announced_with_its_size() {
    struct Stop(Vec<u8>);
    impl std::io::Write for Stop {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() > 2048 {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = temp();
    let size = 9 * 1024 * 1024 * 1024;
    File::create(dir.path().join("large")).unwrap().set_len(size).unwrap();
    let mut out = Stop(Vec::new());
    let error = pack(dir.path(), Form::Bundle, &mut out, &PackOptions::default(), &mut ()).unwrap_err();
    assert!(matches!(error, Error::Stream { .. }), "{error}");
    let mut archive = tar::Archive::new(&out.0[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.header().entry_size().unwrap(), size);
}

#[test]
fn a_sparse_file_travels_as_a_plain_one() {
    let dir = temp();
    let mut file = File::create(dir.path().join("holes")).unwrap();
    file.seek(SeekFrom::Start(3_000_000)).unwrap();
    file.write_all(b"end").unwrap();
    drop(file);
    let (stream, _) = packed(dir.path(), Form::BundleZstd).unwrap();
    let into = temp();
    unpacked(&stream, Form::BundleZstd, into.path()).unwrap();
    assert_eq!(read_tree(into.path()), read_tree(dir.path()));
}

#[test]
fn md5_wrappers_tell_the_checksum_of_what_passed() {
    let mut writer = Md5Writer::new(Vec::new());
    writer.write_all(b"hello").unwrap();
    assert_eq!(writer.checksum(), "5d41402abc4b2a76b9719d911017c592");
    let mut reader = Md5Reader::new(&b"hello"[..]);
    reader.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(reader.checksum(), "5d41402abc4b2a76b9719d911017c592");
}

#[test]
fn more_hard_links_than_can_be_remembered_travel_as_files() {
    let dir = temp();
    // Long paths meet the bound with few files.
    let long = "x".repeat(250);
    let deep = dir.path().join(&long).join(&long).join(&long);
    fs::create_dir_all(&deep).unwrap();
    let count = links::MEMORY / (3 * 251 + 192) + 200;
    for number in 0..count {
        fs::write(deep.join(number.to_string()), number.to_string()).unwrap();
        fs::hard_link(deep.join(number.to_string()), dir.path().join(format!("z{number}"))).unwrap();
    }
    let (stream, sent) = packed(dir.path(), Form::BundleZstd).unwrap();
    let into = temp();
    let received = unpacked(&stream, Form::BundleZstd, into.path()).unwrap();
    assert_eq!(sent, received);
    let alone =
        (0..count).filter(|number| fs::metadata(into.path().join(format!("z{number}"))).unwrap().nlink() == 1).count();
    assert!((150..400).contains(&alone), "{alone}");
}

/// What a random tree is made of.
#[derive(Clone, Debug)]
enum Plant {
    Folder(u32, Vec<(Vec<u8>, Plant)>),
    File(u32, Vec<u8>, i64, u32),
    Link(Vec<u8>),
    /// A hard link to some file made before, if there is one.
    Again(usize),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-c.]{1,3}".prop_map(String::into_bytes),
        proptest::collection::vec(1_u8..=255, 1..12),
        proptest::collection::vec(1_u8..=255, 90..256),
    ]
    .prop_map(|name| name.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect())
    .prop_filter("names that mean something else", |name: &Vec<u8>| {
        name != b"." && name != b".." && name != b"lost+found"
    })
}

fn plant() -> impl Strategy<Value = Plant> {
    let leaf = prop_oneof![
        (
            0_u32..0o1000,
            proptest::collection::vec(any::<u8>(), 0..1200),
            -4_000_000_000_i64..9_000_000_000,
            0_u32..1_000_000_000
        )
            .prop_map(|(mode, content, seconds, nanos)| Plant::File(mode, content, seconds, nanos)),
        proptest::collection::vec(1_u8..=255, 1..150).prop_map(Plant::Link),
        any::<usize>().prop_map(Plant::Again),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        (0_u32..0o1000, proptest::collection::vec((name(), inner), 0..8))
            .prop_map(|(mode, children)| Plant::Folder(mode, children))
    })
}

fn grow(at: &Path, children: &[(Vec<u8>, Plant)], files: &mut Vec<std::path::PathBuf>) {
    for (name, plant) in children {
        let path = at.join(os(name));
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match plant {
            Plant::Folder(mode, children) => {
                fs::create_dir(&path).unwrap();
                grow(&path, children, files);
                // Searchable, so that also a test that is not root can look at the result.
                fs::set_permissions(&path, Permissions::from_mode(mode | 0o500)).unwrap();
            }
            Plant::File(mode, content, seconds, nanos) => {
                fs::write(&path, content).unwrap();
                let whole = Duration::from_secs(seconds.unsigned_abs());
                let epoch = SystemTime::UNIX_EPOCH;
                let time =
                    if *seconds < 0 { epoch - whole } else { epoch + whole } + Duration::from_nanos((*nanos).into());
                File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(mode | 0o400)).unwrap();
                files.push(path);
            }
            Plant::Link(target) => symlink(os(target), &path).unwrap(),
            Plant::Again(number) => {
                if !files.is_empty() {
                    fs::hard_link(&files[number % files.len()], &path).unwrap();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_tree_comes_back_as_it_was(children in proptest::collection::vec((name(), plant()), 0..8)) {
        let from = temp();
        grow(from.path(), &children, &mut Vec::new());
        let expected = sealed(from.path());
        for form in OURS {
            let into = temp();
            let (stream, sent) = packed(from.path(), form).unwrap();
            let received = unpacked(&stream, form, into.path()).unwrap();
            prop_assert_eq!(sent, received);
            prop_assert_eq!(received.digest, Some(expected.digest));
            prop_assert_eq!((received.entries, received.bytes), (expected.entries, expected.bytes));
            prop_assert_eq!(read_tree(into.path()), read_tree(from.path()));
            prop_assert_eq!(sealed(into.path()), expected.clone());
        }
    }
}

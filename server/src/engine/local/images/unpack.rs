//! Unpacks one layer into the form of an overlayfs lower directory, verifying it on the way.

use super::tar_reader::{Entry, Kind, TarReader};
use super::tree::{Attributes, Tree, apply, parts};
use crate::content::{Blob, Digest};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How much one layer may make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes after decompression.
    pub bytes: u64,
    /// Bytes for each compressed byte, once there are more than `ratio_from` of them.
    pub ratio: u64,
    /// See `ratio`.
    pub ratio_from: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // Generous for images of models with their weights, far below what a bomb makes.
        Self { entries: 2_000_000, bytes: 128 << 30, ratio: 200, ratio_from: 2 << 30 }
    }
}

/// Why a layer was not unpacked.
#[derive(Debug)]
pub(super) enum UnpackError {
    /// The layer's fault.
    Bad(String),
    /// This machine's.
    Io(io::Error),
}

impl From<io::Error> for UnpackError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for UnpackError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Unpacks `layer` into the empty folder `into`, above `lowers` (the last is the uppermost). On
/// return all is on disk. What is left after an error is for the caller to remove.
pub(super) fn unpack(
    layer: Blob,
    diff_id: &Digest,
    into: &Path,
    lowers: &[PathBuf],
    limits: Limits,
) -> Result<(), UnpackError> {
    let mut archive = TarReader::new(Verified::open(layer, limits).map_err(unreadable)?);
    let mut tree = Tree::open(into, lowers)?;
    let mut entries = 0;
    while let Some(entry) = archive.next_entry().map_err(unreadable)? {
        entries += 1;
        if entries > limits.entries {
            return Err(UnpackError::Bad(format!("it has more than {} entries", limits.entries)));
        }
        place(&mut tree, &entry, &mut archive)?;
    }
    let actual = archive.into_inner().finish().map_err(unreadable)?;
    if actual != *diff_id {
        return Err(UnpackError::Bad(format!("its content is {actual}, not {diff_id} as the image says")));
    }
    tree.finish()
}

fn unreadable(error: io::Error) -> UnpackError {
    UnpackError::Bad(error.to_string())
}

fn place(tree: &mut Tree, entry: &Entry, archive: &mut TarReader<Verified>) -> Result<(), UnpackError> {
    let path = parts(&entry.path)?;
    let attributes =
        Attributes { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs: &entry.xattrs };
    if let Some(hidden) = path.last().and_then(|name| name.as_bytes().strip_prefix(b".wh.")) {
        return hide(tree, &path, hidden);
    }
    match entry.kind {
        Kind::Folder => tree.folder(&path, &attributes),
        Kind::File => {
            let mut file = tree.file(&path)?;
            copy(archive, &mut file)?;
            apply(&file, &attributes)
        }
        Kind::Symlink => tree.symlink(&path, &entry.link, &attributes),
        Kind::Hardlink => tree.hardlink(&path, &parts(&entry.link)?),
        Kind::Fifo => tree.fifo(&path, &attributes),
        // Workers get their devices from the engine.
        Kind::Device => Ok(()),
    }
}

/// Does what a name that begins with `.wh.` asks for.
fn hide(tree: &mut Tree, path: &[OsString], hidden: &[u8]) -> Result<(), UnpackError> {
    let folder = &path[..path.len() - 1];
    match hidden {
        b".wh..opq" => tree.opaque(folder),
        // Notes of aufs to itself.
        note if note.starts_with(b".wh.") => Ok(()),
        b"" | b"." | b".." => Err(UnpackError::Bad("a whiteout names nothing".to_owned())),
        name => {
            let mut target = folder.to_vec();
            target.push(OsStr::from_bytes(name).to_owned());
            tree.whiteout(&target)
        }
    }
}

/// Copies an entry's content; unlike `io::copy` it knows which side failed.
fn copy(from: &mut impl Read, to: &mut impl io::Write) -> Result<(), UnpackError> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
}

/// The plain bytes of a layer, hashed and counted.
struct Verified {
    plain: Box<dyn Read>,
    packed_bytes: Rc<Cell<u64>>,
    bytes: u64,
    hash: Sha256,
    limits: Limits,
}

impl Verified {
    /// Looks at the first bytes for how the layer is compressed: media types are often wrong about it.
    fn open(layer: Blob, limits: Limits) -> io::Result<Self> {
        let packed_bytes = Rc::new(Cell::new(0));
        let counted = Counted { inner: layer.file, bytes: packed_bytes.clone() };
        let mut packed = BufReader::with_capacity(1 << 17, counted);
        let magic = packed.fill_buf()?;
        let plain: Box<dyn Read> = if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::bufread::MultiGzDecoder::new(packed))
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(zstd::stream::read::Decoder::with_buffer(packed)?)
        } else {
            Box::new(packed)
        };
        Ok(Self { plain, packed_bytes, bytes: 0, hash: Sha256::new(), limits })
    }

    /// Reads what is behind the archive, which belongs to the digest, too.
    fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::finish(self.hash))
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.plain.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        let Limits { bytes, ratio, ratio_from, .. } = self.limits;
        if self.bytes > bytes {
            return Err(io::Error::other(format!("it is larger than {} GiB when unpacked", bytes >> 30)));
        }
        if self.bytes > ratio_from && self.bytes / ratio > self.packed_bytes.get() {
            return Err(io::Error::other(format!("it unpacks to more than {ratio} times its size")));
        }
        Ok(n)
    }
}

/// Counts what is read of the compressed layer.
struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_tests::able;
    use knit_tests::able::ROOT;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    use tar::EntryType;

    /// Appends an entry whose name is written as it is, whatever it is.
    fn add(bytes: &mut Vec<u8>, name: &str, kind: EntryType, link: &str, content: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }

    fn layer(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, link) in entries {
            let content = if *kind == EntryType::Regular { name.as_bytes() } else { b"" };
            add(&mut bytes, name, *kind, link, content);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    /// Unpacks into `<place>/layers/<n>`; whatever happens, only that folder may change.
    fn try_unpack(place: &Path, bytes: &[u8], n: usize, limits: Limits) -> Result<PathBuf, UnpackError> {
        let into = place.join("layers").join(n.to_string());
        fs::create_dir_all(&into).unwrap();
        let path = place.join("blob");
        fs::write(&path, bytes).unwrap();
        let blob = Blob { file: fs::File::open(&path).unwrap(), size: bytes.len() as u64 };
        let lowers: Vec<_> = (0..n).map(|n| place.join("layers").join(n.to_string())).collect();
        let mut plain = Vec::new();
        let read = Verified::open(Blob { file: fs::File::open(&path).unwrap(), size: 0 }, Limits::default())
            .and_then(|mut verified| verified.read_to_end(&mut plain));
        let diff_id = if read.is_ok() { Digest::of(&plain) } else { Digest::of(b"") };
        unpack(blob, &diff_id, &into, &lowers, limits).map(|()| into)
    }

    const FILE: EntryType = EntryType::Regular;
    const DIR: EntryType = EntryType::Directory;
    const LINK: EntryType = EntryType::Symlink;
    const HARD: EntryType = EntryType::Link;

    #[test]
    fn a_layer_keeps_owners_modes_times_links_and_capabilities() {
        if !able(&[ROOT]) {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        let mut records = Vec::new();
        for (key, value) in
            [("security.capability", &capability[..]), ("trusted.overlay.opaque", b"y"), ("user.note", b"n\n")]
        {
            let body = key.len() + value.len() + "SCHILY.xattr.".len() + 3;
            let length = body + (body + 2).to_string().len();
            records.extend_from_slice(format!("{length} SCHILY.xattr.{key}=").as_bytes());
            records.extend_from_slice(value);
            records.push(b'\n');
        }
        add(&mut bytes, "./", DIR, "", b"");
        add(&mut bytes, "./bin/", DIR, "", b"");
        add(&mut bytes, "pax", EntryType::XHeader, "", &records);
        add(&mut bytes, "./bin/tool", FILE, "", b"#!");
        let mode = bytes.len() - 512 - 512 + 100;
        bytes[mode..mode + 7].copy_from_slice(b"0004755");
        let sum: u32 = bytes[bytes.len() - 1024..bytes.len() - 512]
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
            .sum();
        let at = bytes.len() - 1024 + 148;
        bytes[at..at + 8].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        add(&mut bytes, "bin/again", HARD, "./bin/tool", b"");
        add(&mut bytes, "bin/link", LINK, "/nowhere/at/all", b"");
        add(&mut bytes, "dev/null", EntryType::Char, "", b"");
        add(&mut bytes, "run/pipe", EntryType::Fifo, "", b"");
        bytes.resize(bytes.len() + 1024, 0);
        let root = try_unpack(place.path(), &bytes, 0, Limits::default()).unwrap();
        let tool = fs::metadata(root.join("bin/tool")).unwrap();
        assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid(), tool.mtime()), (0o4755, 7, 8, 1_000_000_000));
        assert_eq!(fs::metadata(root.join("bin/again")).unwrap().ino(), tool.ino());
        assert_eq!(fs::metadata(root.join("bin")).unwrap().mtime(), 1_000_000_000);
        assert_eq!(fs::read_link(root.join("bin/link")).unwrap(), Path::new("/nowhere/at/all"));
        assert_eq!(fs::symlink_metadata(root.join("bin/link")).unwrap().uid(), 7);
        assert_eq!(xattr::get(root.join("bin/tool"), "security.capability").unwrap().unwrap(), capability);
        assert_eq!(xattr::get(root.join("bin/tool"), "trusted.overlay.opaque").unwrap(), None);
        assert_eq!(xattr::get(root.join("bin/tool"), "user.note").unwrap().unwrap(), b"n\n");
        assert!(!root.join("dev/null").exists());
        assert!(fs::metadata(root.join("run/pipe")).unwrap().file_type().is_fifo());
    }

    #[test]
    fn whiteouts_take_the_form_that_overlayfs_knows() {
        if !able(&[ROOT]) {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let bytes = layer(&[
            ("a/.wh.gone", FILE, ""),
            ("a/.wh.never-there", FILE, ""),
            ("b/", DIR, ""),
            ("b/.wh..wh..opq", FILE, ""),
            ("b/kept", FILE, ""),
            ("c/own", FILE, ""),
            ("c/.wh.own", FILE, ""),
            (".wh.d", FILE, ""),
            ("d/", DIR, ""),
            ("e/f", FILE, ""),
            (".wh.e", FILE, ""),
            (".wh..wh.plnk/x", FILE, ""),
            (".wh..wh.aufs", FILE, ""),
        ]);
        let root = try_unpack(place.path(), &bytes, 0, Limits::default()).unwrap();
        for hidden in ["a/gone", "a/never-there"] {
            let metadata = fs::symlink_metadata(root.join(hidden)).unwrap();
            assert!(metadata.file_type().is_char_device() && metadata.rdev() == 0, "{hidden}");
        }
        let opaque =
            |path: &str| xattr::get(root.join(path), "trusted.overlay.opaque").unwrap().as_deref() == Some(b"y");
        assert!(opaque("b") && opaque("d") && opaque("e") && !opaque("a") && !opaque("c"));
        assert!(root.join("b/kept").is_file() && root.join("c/own").is_file() && root.join("e/f").is_file());
        assert!(!root.join("b/.wh..wh..opq").exists() && !root.join(".wh..wh.aufs").exists());
    }

    #[test]
    fn hostile_layers_are_refused_or_harmless_and_never_touch_what_is_outside() {
        // What it tries, the entries, and whether it may be unpacked harmlessly.
        type Case<'a> = (&'a str, &'a [(&'a str, EntryType, &'a str)], bool);
        if !able(&[ROOT]) {
            return;
        }
        let cases: &[Case<'_>] = &[
            ("upwards", &[("../escaped", FILE, "")], false),
            ("upwards inside", &[("a/../../escaped", FILE, "")], false),
            ("absolute", &[("/escaped", FILE, "")], true),
            ("through an absolute link", &[("a", LINK, "OUTSIDE"), ("a/escaped", FILE, "")], true),
            ("through a relative link", &[("a", LINK, "../../.."), ("a/escaped", FILE, "")], true),
            ("through two links", &[("a", LINK, ".."), ("b", LINK, "a/.."), ("b/escaped", FILE, "")], true),
            ("over a link", &[("a", LINK, "OUTSIDE/victim"), ("a", FILE, "")], true),
            ("a folder over a link", &[("a", LINK, "OUTSIDE"), ("a/", DIR, ""), ("a/escaped", FILE, "")], true),
            ("a hard link upwards", &[("a", HARD, "../../outside/victim")], false),
            ("a hard link to an absolute name", &[("a", HARD, "OUTSIDE/victim"), ("a", FILE, "")], false),
            ("a hard link through a link", &[("l", LINK, "OUTSIDE"), ("a", HARD, "l/victim")], false),
            ("a hard link to a link", &[("l", LINK, "OUTSIDE/victim"), ("a", HARD, "l"), ("a", FILE, "")], true),
            ("a hard link to nothing", &[("a", HARD, "b")], false),
            ("a hard link to a folder", &[("d/", DIR, ""), ("a", HARD, "d")], false),
            ("a hard link to a whiteout", &[(".wh.w", FILE, ""), ("a", HARD, "w")], false),
            ("a whiteout of the folder above", &[(".wh...", FILE, "")], false),
            ("a whiteout of the folder itself", &[(".wh..", FILE, "")], false),
            ("a whiteout of nothing", &[(".wh.", FILE, "")], false),
            ("a whiteout through a link", &[("a", LINK, "OUTSIDE"), ("a/.wh.victim", FILE, "")], true),
            ("an opaque mark through a link", &[("a", LINK, "OUTSIDE"), ("a/.wh..wh..opq", FILE, "")], true),
            ("links in a circle", &[("a", LINK, "b"), ("b", LINK, "a"), ("a/x", FILE, "")], false),
            ("a link to itself", &[("a", LINK, "a/a"), ("a/x", FILE, "")], false),
            ("below a file", &[("a", FILE, ""), ("a/b", FILE, "")], false),
            ("a file as the root", &[("./", LINK, "OUTSIDE")], false),
            ("an empty link", &[("a", LINK, "")], false),
            ("a folder becomes a link", &[("a/b", FILE, ""), ("a", LINK, "OUTSIDE"), ("a/c", FILE, "")], true),
            ("an unknown type", &[("a", EntryType::new(b'Z'), "")], false),
            ("a sparse file", &[("a", EntryType::GNUSparse, "")], false),
        ];
        for (what, entries, good) in cases {
            let place = tempfile::tempdir().unwrap();
            let outside = place.path().join("outside");
            fs::create_dir(&outside).unwrap();
            fs::write(outside.join("victim"), b"untouched").unwrap();
            let entries: Vec<_> = entries
                .iter()
                .map(|(name, kind, link)| (*name, *kind, link.replace("OUTSIDE", outside.to_str().unwrap())))
                .collect();
            let entries: Vec<_> = entries.iter().map(|(name, kind, link)| (*name, *kind, link.as_str())).collect();
            let ended = try_unpack(place.path(), &layer(&entries), 0, Limits::default());
            match &ended {
                Ok(_) => assert!(*good, "{what} was unpacked"),
                Err(UnpackError::Bad(_)) => assert!(!*good, "{what}: {ended:?}"),
                Err(UnpackError::Io(error)) => panic!("{what}: {error}"),
            }
            assert_eq!(names(place.path()), ["blob", "layers", "outside"], "{what}");
            assert_eq!(names(&place.path().join("layers")), ["0"], "{what}");
            assert_eq!(names(&outside), ["victim"], "{what}");
            assert_eq!(fs::read(outside.join("victim")).unwrap(), b"untouched", "{what}");
            assert_eq!(fs::metadata(outside.join("victim")).unwrap().nlink(), 1, "{what}");
            assert_eq!(xattr::get(&outside, "trusted.overlay.opaque").unwrap(), None, "{what}");
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn parents_that_a_layer_leaves_out_come_from_the_layers_below() {
        if !able(&[ROOT]) {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let lower = layer(&[
            ("usr/lib/", DIR, ""),
            ("lib", LINK, "usr/lib"),
            ("private/", DIR, ""),
            ("hidden/", DIR, ""),
            ("file", FILE, ""),
        ]);
        let lower = try_unpack(place.path(), &lower, 0, Limits::default()).unwrap();
        fs::set_permissions(lower.join("private"), std::os::unix::fs::PermissionsExt::from_mode(0o1700)).unwrap();
        fs::set_permissions(lower.join("hidden"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        try_unpack(place.path(), &layer(&[(".wh.hidden", FILE, "")]), 1, Limits::default()).unwrap();
        let upper = layer(&[
            ("lib/new", FILE, ""),
            ("private/new", FILE, ""),
            ("hidden/new", FILE, ""),
            ("file/new", FILE, ""),
            ("fresh/new", FILE, ""),
        ]);
        let upper = try_unpack(place.path(), &upper, 2, Limits::default()).unwrap();
        assert!(upper.join("usr/lib/new").is_file() && !upper.join("lib").exists());
        let mode = |name: &str| fs::metadata(upper.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("private"), mode("hidden"), mode("fresh"), mode("file")), (0o1700, 0o755, 0o755, 0o755));
        assert_eq!(fs::metadata(upper.join("private")).unwrap().uid(), 7);
    }

    #[test]
    fn compressed_layers_are_told_by_their_first_bytes_and_damage_is_found() {
        use std::io::Write as _;
        if !able(&[ROOT]) {
            return;
        }
        let plain = layer(&[("a", FILE, "")]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for (what, bytes) in [("plain", &plain), ("gzip", &gzip), ("zstd", &zstd)] {
            let place = tempfile::tempdir().unwrap();
            let root = try_unpack(place.path(), bytes, 0, Limits::default()).unwrap();
            assert_eq!(fs::read(root.join("a")).unwrap(), b"a", "{what}");
        }
        for (what, bytes) in [("cut gzip", &gzip[..gzip.len() / 2]), ("cut zstd", &zstd[..zstd.len() / 2])] {
            let place = tempfile::tempdir().unwrap();
            let ended = try_unpack(place.path(), bytes, 0, Limits::default());
            assert!(matches!(ended, Err(UnpackError::Bad(_))), "{what}: {ended:?}");
        }
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("blob"), &plain).unwrap();
        fs::create_dir(place.path().join("into")).unwrap();
        let blob = Blob { file: fs::File::open(place.path().join("blob")).unwrap(), size: 0 };
        let ended = unpack(blob, &Digest::of(b"other"), &place.path().join("into"), &[], Limits::default());
        assert!(matches!(ended, Err(UnpackError::Bad(text)) if text.contains("as the image says")));
    }

    #[test]
    fn bombs_are_refused() {
        if !able(&[ROOT]) {
            return;
        }
        let mut zeros = Vec::new();
        add(&mut zeros, "zeros", FILE, "", &vec![0; 4 << 20]);
        zeros.resize(zeros.len() + 1024, 0);
        let bomb = zstd::encode_all(zeros.as_slice(), 19).unwrap();
        let many = layer(&[("a", FILE, ""); 20]);
        let small = Limits { entries: 10, bytes: 1 << 40, ratio: 100, ratio_from: 1 << 20 };
        for (what, bytes, limits, word) in [
            ("ratio", &bomb, small, "times its size"),
            ("bytes", &zeros, Limits { bytes: 1 << 20, ..small }, "larger than"),
            ("entries", &many, small, "more than 10 entries"),
        ] {
            let place = tempfile::tempdir().unwrap();
            let ended = try_unpack(place.path(), bytes, 0, limits);
            assert!(matches!(&ended, Err(UnpackError::Bad(text)) if text.contains(word)), "{what}: {ended:?}");
        }
    }

    fn any_name() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just(String::new()),
            Just(".wh.a".to_owned()),
            Just(".wh..wh..opq".to_owned()),
            Just(".wh...".to_owned()),
            "[a-c.]{1,3}",
        ];
        prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_layer_changes_anything_outside_its_folder(
            entries in prop::collection::vec(
                (any_name(), prop::sample::select(vec![FILE, DIR, LINK, HARD, EntryType::Fifo]), any_name()), 1..12
            ),
        ) {
            if !able(&[ROOT]) {
                return Ok(());
            }
            let place = tempfile::tempdir().unwrap();
            fs::write(place.path().join("a"), b"untouched").unwrap();
            fs::create_dir(place.path().join("b")).unwrap();
            let entries: Vec<_> = entries.iter().map(|(n, k, l)| (n.as_str(), *k, l.as_str())).collect();
            let ended = try_unpack(place.path(), &layer(&entries), 0, Limits::default());
            prop_assert!(!matches!(&ended, Err(UnpackError::Io(_))), "{:?}", ended);
            prop_assert_eq!(names(place.path()), ["a", "b", "blob", "layers"]);
            prop_assert_eq!(names(&place.path().join("layers")), ["0"]);
            prop_assert_eq!(names(&place.path().join("b")), Vec::<String>::new());
            prop_assert_eq!(fs::read(place.path().join("a")).unwrap(), b"untouched");
            prop_assert_eq!(fs::metadata(place.path().join("a")).unwrap().nlink(), 1);
        }
    }
}

//! Reads images from archives, layouts and stdin.
//!
//! An archive is not unpacked: its entries are found once, and their bytes are read from where they
//! lie. What cannot be read twice (stdin, compressed archives) is written to a temporary file first.

use super::digest::digest_of;
use super::manifest::{MANIFEST_LIMIT, Manifest, OCI_CONFIG, OCI_MANIFEST};
use super::{ImageError, Place, Source};
use knit_api::digest::Digest;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Largest configuration or index that is read whole.
pub(super) const DOCUMENT_LIMIT: u64 = 8 << 20;
/// Entries of an archive; those of an image are few.
const MOST_ENTRIES: usize = 100_000;

/// An image to push: what it consists of, and where that is.
#[derive(Debug)]
pub(super) struct Image {
    /// In the order in which a registry wants them; the last is the image itself.
    pub manifests: Vec<Document>,
    /// Without repetitions.
    pub blobs: Vec<Blob>,
    /// Holds the temporary file for as long as the image is read.
    pub spool: Option<tempfile::NamedTempFile>,
}

/// A manifest or index.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// A configuration or layer.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub digest: Digest,
    pub part: Part,
}

/// A range of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub path: PathBuf,
    pub offset: u64,
    pub size: u64,
}

impl Part {
    /// The bytes of it.
    pub(super) fn open(&self) -> io::Result<io::Take<File>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.take(self.size))
    }

    /// The bytes, if they are not more than these.
    pub(super) fn read(&self, limit: u64) -> Result<Vec<u8>, String> {
        if self.size > limit {
            return Err(format!("one of its documents has {} bytes; {limit} are allowed", self.size));
        }
        let mut bytes = Vec::with_capacity(self.size as usize);
        self.open().and_then(|mut part| part.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// The files of a folder or an archive by name.
pub(super) enum Files {
    Folder(PathBuf),
    Archive(HashMap<String, Entry>),
}

pub(super) enum Entry {
    File(Part),
    /// Another name in the archive.
    Link(String),
}

impl Files {
    pub(super) fn get(&self, name: &str) -> Option<Part> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(plain(Path::new(""), name)?);
                let metadata = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
                Some(Part { path, offset: 0, size: metadata.len() })
            }
            Self::Archive(entries) => {
                let mut name = plain(Path::new(""), name)?;
                // A link to a link is as far as tools go; a circle ends.
                for _ in 0..4 {
                    match entries.get(&name)? {
                        Entry::File(part) => return Some(part.clone()),
                        Entry::Link(target) => name.clone_from(target),
                    }
                }
                None
            }
        }
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<Part> {
        self.get(&format!("blobs/sha256/{}", digest.hex()))
    }
}

/// A relative name without `.` and `..`, beginning in `folder`; nothing if it leads upwards.
fn plain(folder: &Path, name: &str) -> Option<String> {
    let mut path = folder.to_owned();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

/// Opens a source and finds the image in it. Blocks.
pub(super) fn open(source: &Source) -> Result<Image, ImageError> {
    let (files, spool) = files(source)?;
    let mut image = read(&files, source, &source.to_string())?;
    image.spool = spool;
    Ok(image)
}

/// The files of a source, and the temporary file that holds them, if they had to be copied. Blocks.
pub(super) fn files(source: &Source) -> Result<(Files, Option<tempfile::NamedTempFile>), ImageError> {
    let unreadable = |cause: String| ImageError::Source { origin: source.to_string(), cause };
    match &source.place {
        Place::Path(path) if path.is_dir() => Ok((Files::Folder(path.clone()), None)),
        Place::Path(path) => {
            let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
            archive(BufReader::new(file), Some(path)).map_err(unreadable)
        }
        Place::Stdin => archive(BufReader::new(io::stdin().lock()), None).map_err(unreadable),
    }
}

fn read(files: &Files, source: &Source, origin: &str) -> Result<Image, ImageError> {
    if let Some(index) = files.get("index.json") {
        return layout(files, &index, source, origin);
    }
    if let Some(manifest) = files.get("manifest.json") {
        return docker(files, &manifest, source, origin);
    }
    Err(no_image(files, origin))
}

/// There is nothing in it that names an image.
pub(super) fn no_image(files: &Files, origin: &str) -> ImageError {
    let kind = match files {
        Files::Folder(_) => {
            "it holds no index.json, so it is no OCI layout (to make an image of files: knit image pack)"
        }
        Files::Archive(_) => "it holds neither index.json nor manifest.json, so it is no archive of an image",
    };
    ImageError::Source { origin: origin.to_owned(), cause: kind.to_owned() }
}

/// Finds the entries of an archive, which is at `path` if it can be read in any order there.
fn archive(
    mut reader: BufReader<impl Read>,
    path: Option<&Path>,
) -> Result<(Files, Option<tempfile::NamedTempFile>), String> {
    let text = |error: io::Error| error.to_string();
    let magic = reader.fill_buf().map_err(text)?;
    let (gzip, zstd) = (magic.starts_with(&[0x1f, 0x8b]), magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    if magic.is_empty() {
        return Err("it is empty".to_owned());
    }
    let direct = path.filter(|path| !gzip && !zstd && path.is_file());
    if let Some(path) = direct {
        return Ok((Files::Archive(entries(path)?), None));
    }
    let mut spool = tempfile::NamedTempFile::new().map_err(text)?;
    let copied = if gzip {
        io::copy(&mut flate2::bufread::MultiGzDecoder::new(reader), &mut spool)
    } else if zstd {
        zstd::stream::read::Decoder::with_buffer(reader).and_then(|mut plain| io::copy(&mut plain, &mut spool))
    } else {
        io::copy(&mut reader, &mut spool)
    };
    copied.map_err(|error| format!("{error} (while it was copied to {})", spool.path().display()))?;
    Ok((Files::Archive(entries(spool.path())?), Some(spool)))
}

fn entries(path: &Path) -> Result<HashMap<String, Entry>, String> {
    let text = |error: io::Error| format!("it is no tar archive, or a damaged one: {error}");
    let mut archive = tar::Archive::new(File::open(path).map_err(text)?);
    let mut found = HashMap::new();
    for entry in archive.entries_with_seek().map_err(text)? {
        let entry = entry.map_err(text)?;
        if found.len() >= MOST_ENTRIES {
            return Err(format!("it has more than {MOST_ENTRIES} entries"));
        }
        let bytes = entry.path_bytes();
        let Some(name) = std::str::from_utf8(&bytes).ok().and_then(|name| plain(Path::new(""), name)) else { continue };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let part = Part { path: path.to_owned(), offset: entry.raw_file_position(), size: entry.size() };
            found.insert(name, Entry::File(part));
        } else if kind.is_symlink() || kind.is_hard_link() {
            let folder = Path::new(&name).parent().filter(|_| kind.is_symlink()).unwrap_or(Path::new("")).to_owned();
            let link = entry.link_name_bytes();
            let target = link.as_deref().and_then(|link| plain(&folder, std::str::from_utf8(link).ok()?));
            if let Some(target) = target {
                found.insert(name, Entry::Link(target));
            }
        }
    }
    Ok(found)
}

/// Finds the one entry that is meant among `all`, each with its names.
fn select<T>(all: Vec<(BTreeSet<String>, T)>, wanted: Option<&str>, origin: &str) -> Result<T, ImageError> {
    let names: Vec<String> = all.iter().map(|(names, _)| label(names)).collect();
    let refuse = |advice: &str| ImageError::Selection {
        origin: origin.to_owned(),
        names: names.clone(),
        advice: advice.to_owned(),
    };
    let found = all.len();
    let means = |names: &BTreeSet<String>| wanted.is_none_or(|wanted| names.iter().any(|name| is_meant(name, wanted)));
    let mut chosen = all.into_iter().filter(|(names, _)| means(names));
    match (chosen.next(), chosen.next()) {
        (Some((_, one)), None) => Ok(one),
        (None, _) if found == 0 => Err(refuse("there is nothing to push")),
        (None, _) => Err(refuse("none of them has the name that was asked for")),
        (Some(_), Some(_)) => Err(refuse("say which one to push")),
    }
}

/// Whether a person means the image of this name: tools leave away, or add, where Docker looks by itself.
pub(super) fn is_meant(name: &str, wanted: &str) -> bool {
    let short = name.strip_prefix("docker.io/").map(|name| name.strip_prefix("library/").unwrap_or(name));
    name == wanted || short == Some(wanted) || name.strip_prefix("docker.io/") == Some(wanted)
}

/// How one of several images is shown: by its names, or by its digest if that is all it has.
fn label(names: &BTreeSet<String>) -> String {
    let (digests, words): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.starts_with("sha256:"));
    let shown = if words.is_empty() { digests } else { words };
    shown.into_iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
}

/// An OCI layout, as a folder or in an archive.
fn layout(files: &Files, index: &Part, source: &Source, origin: &str) -> Result<Image, ImageError> {
    let unreadable = |cause: String| ImageError::Source { origin: origin.to_owned(), cause };
    let index = Manifest::read(&index.read(DOCUMENT_LIMIT).map_err(unreadable)?).map_err(unreadable)?;
    let mut all: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    for entry in index.manifests() {
        let names = all.entry(entry.digest).or_default();
        names.insert(entry.digest.to_string());
        for key in ["org.opencontainers.image.ref.name", "io.containerd.image.name"] {
            names.extend(entry.annotations.get(key).cloned());
        }
    }
    let all = all.into_iter().map(|(digest, names)| (names, digest)).collect();
    let digest = select(all, source.select.as_deref(), origin)?;
    let mut gathered = Gathered { files, origin, manifests: Vec::new(), blobs: BTreeMap::new() };
    gathered.manifest(&digest, 0)?;
    Ok(Image {
        manifests: gathered.manifests,
        blobs: gathered.blobs.into_iter().map(|(digest, part)| Blob { digest, part }).collect(),
        spool: None,
    })
}

/// What an image in a layout consists of.
struct Gathered<'a> {
    files: &'a Files,
    origin: &'a str,
    manifests: Vec<Document>,
    blobs: BTreeMap<Digest, Part>,
}

impl Gathered<'_> {
    fn damaged(&self, cause: String) -> ImageError {
        ImageError::Damaged { origin: self.origin.to_owned(), cause }
    }

    /// Adds a manifest after all that it refers to.
    fn manifest(&mut self, digest: &Digest, depth: usize) -> Result<(), ImageError> {
        if depth > 3 {
            return Err(self.damaged("its indexes are nested too deeply".to_owned()));
        }
        let part = self.files.blob(digest).ok_or_else(|| self.damaged(format!("{digest} is missing")))?;
        let bytes = part.read(MANIFEST_LIMIT).map_err(|cause| self.damaged(cause))?;
        if Digest::of(&bytes) != *digest {
            return Err(self.damaged(format!("the content of {digest} is {}", Digest::of(&bytes))));
        }
        let manifest = Manifest::read(&bytes).map_err(|cause| self.damaged(cause))?;
        for blob in manifest.blobs() {
            let part = self.files.blob(&blob.digest);
            let part = part.ok_or_else(|| self.damaged(format!("{} is missing", blob.digest)))?;
            if part.size != blob.size {
                let cause = format!("{} has {} bytes, not {} as it says", blob.digest, part.size, blob.size);
                return Err(self.damaged(cause));
            }
            self.blobs.insert(blob.digest, part);
        }
        if !manifest.is_index() {
            self.add(&bytes, manifest.media_type());
            return Ok(());
        }
        // Tools save one platform of an index and keep the index: what is missing cannot be pushed.
        let there: Vec<Digest> =
            manifest.manifests().iter().map(|child| child.digest).filter(|d| self.files.blob(d).is_some()).collect();
        if there.is_empty() {
            return Err(self.damaged(format!("none of the images that {digest} lists is in it")));
        }
        for child in &there {
            self.manifest(child, depth + 1)?;
        }
        if there.len() == manifest.manifests().len() {
            self.add(&bytes, manifest.media_type());
            return Ok(());
        }
        if there.len() == 1 {
            // The image alone says as much.
            return Ok(());
        }
        let mut index: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| self.damaged(error.to_string()))?;
        if let Some(listed) = index.get_mut("manifests").and_then(serde_json::Value::as_array_mut) {
            listed.retain(|entry| {
                let digest = entry.get("digest").and_then(|digest| digest.as_str()?.parse().ok());
                digest.is_some_and(|digest: Digest| there.contains(&digest))
            });
        }
        self.add(index.to_string().as_bytes(), manifest.media_type());
        Ok(())
    }

    fn add(&mut self, bytes: &[u8], media_type: &str) {
        let document =
            Document { digest: Digest::of(bytes), media_type: media_type.to_owned(), bytes: bytes.to_owned() };
        self.manifests.push(document);
    }
}

/// One image in Docker's own list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// What `docker save` wrote before it wrote layouts, and `podman save` still does. A manifest is made for
/// it; layers stay as they are.
fn docker(files: &Files, list: &Part, source: &Source, origin: &str) -> Result<Image, ImageError> {
    let unreadable = |cause: String| ImageError::Source { origin: origin.to_owned(), cause };
    let damaged = |cause: String| ImageError::Damaged { origin: origin.to_owned(), cause };
    let list = list.read(DOCUMENT_LIMIT).map_err(unreadable)?;
    let list: Vec<Saved> = serde_json::from_slice(&list).map_err(|error| unreadable(error.to_string()))?;
    let all = list.into_iter().map(|saved| {
        let id = Path::new(&saved.config).file_stem().map(|id| id.to_string_lossy().into_owned());
        let mut names: BTreeSet<String> = saved.repo_tags.iter().flatten().cloned().collect();
        if names.is_empty() {
            names.extend(id);
        }
        (names, saved)
    });
    let saved = select(all.collect(), source.select.as_deref(), origin)?;
    let find = |name: &str| files.get(name).ok_or_else(|| damaged(format!("{name} is missing")));
    let config = find(&saved.config)?;
    let bytes = config.read(DOCUMENT_LIMIT).map_err(damaged)?;
    let read: Config = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let (layers, diff_ids) = (saved.layers.unwrap_or_default(), read.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        return Err(damaged(format!("it has {} layers, its configuration {}", layers.len(), diff_ids.len())));
    }
    let mut blobs = BTreeMap::from([(Digest::of(&bytes), config.clone())]);
    let mut described = Vec::with_capacity(layers.len());
    for (name, diff_id) in layers.iter().zip(&diff_ids) {
        let part = find(name)?;
        let (digest, suffix) = examine(&part).map_err(|error| unreadable(error.to_string()))?;
        if suffix.is_empty() && digest != *diff_id {
            return Err(damaged(format!("the layer {name} is {digest}, not {diff_id}")));
        }
        described.push(serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
            "digest": digest, "size": part.size,
        }));
        blobs.insert(digest, part);
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": Digest::of(&bytes), "size": bytes.len() },
        "layers": described,
    });
    let bytes = manifest.to_string().into_bytes();
    Ok(Image {
        manifests: vec![Document { digest: Digest::of(&bytes), media_type: OCI_MANIFEST.to_owned(), bytes }],
        blobs: blobs.into_iter().map(|(digest, part)| Blob { digest, part }).collect(),
        spool: None,
    })
}

/// The digest of a layer and what its media type says of its compression.
fn examine(layer: &Part) -> io::Result<(Digest, &'static str)> {
    let mut reader = BufReader::with_capacity(1 << 17, layer.open()?);
    let magic = reader.fill_buf()?;
    let suffix = if magic.starts_with(&[0x1f, 0x8b]) {
        "+gzip"
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        "+zstd"
    } else {
        ""
    };
    Ok((digest_of(reader)?, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_archives_stay_in_the_archive() {
        for (folder, name, expected) in [
            ("", "a/b", Some("a/b")),
            ("", "./a//b/.", Some("a/b")),
            ("", "/a", Some("a")),
            ("x/y", "../z/layer.tar", Some("x/z/layer.tar")),
            ("x", "../../z", None),
            ("", "..", None),
        ] {
            assert_eq!(plain(Path::new(folder), name).as_deref(), expected, "{folder} {name}");
        }
    }

    #[test]
    fn one_image_is_selected_or_the_choice_is_shown() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let two = || vec![(names(&["docker.io/library/a:v1", "v1"]), 1), (names(&["b:v2"]), 2)];
        assert_eq!(select(vec![(names(&["a"]), 1)], None, "x").unwrap(), 1);
        assert_eq!(select(two(), Some("a:v1"), "x").unwrap(), 1);
        assert_eq!(select(two(), Some("b:v2"), "x").unwrap(), 2);
        let text = select(two(), None, "x.tar").unwrap_err().to_string();
        assert_eq!(text, "x.tar holds 2 images, docker.io/library/a:v1 or v1, b:v2: say which one to push");
        assert!(select(two(), Some("c"), "x").is_err());
        assert!(select(Vec::<(BTreeSet<String>, u8)>::new(), None, "x").is_err());
    }

    proptest::proptest! {
        #[test]
        fn reading_an_archive_never_fails_hard(bytes: Vec<u8>, head in 0..4) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let magic: &[u8] = [&b""[..], &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd], b"index.json\0"][head as usize];
            std::fs::write(file.path(), [magic, &bytes].concat()).unwrap();
            let source = Source { place: Place::Path(file.path().to_owned()), select: None };
            proptest::prop_assert!(open(&source).is_err());
        }
    }
}

//! What an image says of the program in it: read from its configuration alone, without its layers.

use super::manifest::{MANIFEST_LIMIT, Manifest};
use super::source::{self, DOCUMENT_LIMIT, Files, Saved, is_meant};
use super::{ImageError, Source};
use knit_api::digest::Digest;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

/// Most manifests and configurations that are looked at, one for each image and platform: indexes can list
/// themselves in circles, and one another without end.
const MOST_LOOKS: usize = 1000;
/// Largest configuration: a Plan of a larger one could not be read again.
const CONFIGURATION_LIMIT: u64 = 1 << 20;
/// Deepest nesting of indexes.
const DEEPEST: usize = 3;
/// Where a layout keeps the names of an image, the whole ones first.
const NAME_KEYS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An image as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// The names that the archive gives it, the one that was asked for first; there may be none.
    pub names: Vec<String>,
    /// The program.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub command: Vec<String>,
    /// Paths that the image wants mounted, sorted.
    pub volumes: Vec<String>,
    /// Where the program starts; empty is the root.
    pub working_dir: String,
}

/// Finds an image in a source and reads its configuration. Of several platforms it is the one of this
/// machine, else one of Linux, else the first by name.
pub async fn describe(source: Source) -> Result<Described, ImageError> {
    let described = tokio::task::spawn_blocking(move || {
        let (files, _spool) = source::files(&source)?;
        choose(find(&files, &source.to_string())?, &source)
    });
    let local = |error| ImageError::Local { what: "reading the image".to_owned(), cause: io::Error::other(error) };
    described.await.map_err(local)?
}

/// One configuration, and what it is called.
#[derive(Debug)]
struct Found {
    /// As people call it.
    names: Vec<String>,
    /// Digests, or Docker's id.
    ids: BTreeSet<String>,
    config: Config,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Config {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default, rename = "config")]
    execution: Option<Execution>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    #[serde(default)]
    entrypoint: Option<Words>,
    #[serde(default)]
    cmd: Option<Words>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    working_dir: Option<String>,
}

/// A list of words; the first tools wrote one word without the list.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a list of words")]
enum Words {
    Many(Vec<String>),
    One(String),
}

impl Words {
    fn list(self) -> Vec<String> {
        match self {
            Self::Many(words) => words,
            Self::One(word) => vec![word],
        }
    }
}

impl Config {
    /// Smaller is better.
    fn rank(&self) -> (u8, &str, &str, &str) {
        let here = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let class = match self.os.as_str() {
            "linux" if self.architecture == here => 0,
            "linux" => 1,
            "" | "unknown" => 3,
            _ => 2,
        };
        (class, &self.os, &self.architecture, &self.variant)
    }
}

/// All configurations in an archive or a folder. Docker's own list is asked first: it has the names as people
/// write them.
fn find(files: &Files, origin: &str) -> Result<Vec<Found>, ImageError> {
    let unreadable = |cause: String| ImageError::Source { origin: origin.to_owned(), cause };
    let mut finder = Finder { files, origin, looks: 0, found: Vec::new() };
    if let Some(list) = files.get("manifest.json") {
        let list = list.read(DOCUMENT_LIMIT).map_err(unreadable)?;
        let list: Vec<Saved> = serde_json::from_slice(&list).map_err(|error| unreadable(error.to_string()))?;
        for saved in list {
            finder.saved(saved)?;
        }
    } else if let Some(index) = files.get("index.json") {
        let index = Manifest::read(&index.read(DOCUMENT_LIMIT).map_err(unreadable)?).map_err(unreadable)?;
        // An image stands there once for each of its names.
        let mut all: Vec<(Digest, Vec<String>)> = Vec::new();
        let mut places: HashMap<Digest, usize> = HashMap::new();
        for entry in index.manifests() {
            let place = *places.entry(entry.digest).or_insert_with(|| {
                all.push((entry.digest, Vec::new()));
                all.len() - 1
            });
            all[place].1.extend(NAME_KEYS.iter().filter_map(|key| entry.annotations.get(*key).cloned()));
        }
        for (digest, names) in all {
            finder.manifest(&digest, &names, &BTreeSet::new(), 0)?;
        }
    } else {
        return Err(source::no_image(files, origin));
    }
    Ok(finder.found)
}

struct Finder<'a> {
    files: &'a Files,
    origin: &'a str,
    looks: usize,
    found: Vec<Found>,
}

impl Finder<'_> {
    fn damaged(&self, cause: impl Into<String>) -> ImageError {
        ImageError::Damaged { origin: self.origin.to_owned(), cause: cause.into() }
    }

    /// Counts a look at something.
    fn look(&mut self) -> Result<(), ImageError> {
        self.looks += 1;
        if self.looks > MOST_LOOKS {
            return Err(self.damaged(format!("it holds more than {MOST_LOOKS} images")));
        }
        Ok(())
    }

    fn add(&mut self, names: Vec<String>, ids: BTreeSet<String>, config: &[u8]) -> Result<(), ImageError> {
        // A list would be read as the members of an object in their order.
        if config.trim_ascii_start().first() != Some(&b'{') {
            return Err(self.damaged("a configuration is no JSON object"));
        }
        let config = serde_json::from_slice(config);
        let config = config.map_err(|error| self.damaged(format!("a configuration is unreadable: {error}")))?;
        self.found.push(Found { names, ids, config });
        Ok(())
    }

    fn saved(&mut self, saved: Saved) -> Result<(), ImageError> {
        self.look()?;
        let part = self.files.get(&saved.config);
        let part = part.ok_or_else(|| self.damaged(format!("{} is missing", saved.config)))?;
        let bytes = part.read(CONFIGURATION_LIMIT).map_err(|cause| self.damaged(cause))?;
        let digest = Digest::of(&bytes);
        self.add(saved.repo_tags.unwrap_or_default(), [digest.to_string(), digest.hex()].into(), &bytes)
    }

    /// What a manifest or an index leads to, as far as it is there: of an index, tools save some platforms.
    fn manifest(
        &mut self,
        digest: &Digest,
        names: &[String],
        ids: &BTreeSet<String>,
        depth: usize,
    ) -> Result<(), ImageError> {
        self.look()?;
        if depth > DEEPEST {
            return Err(self.damaged("its indexes are nested too deeply"));
        }
        let Some(bytes) = self.blob(digest, MANIFEST_LIMIT)? else { return Ok(()) };
        let manifest = Manifest::read(&bytes).map_err(|cause| self.damaged(cause))?;
        let mut ids = ids.clone();
        ids.insert(digest.to_string());
        for entry in manifest.manifests() {
            self.manifest(&entry.digest, names, &ids, depth + 1)?;
        }
        // An index has none; signatures and the like have one of another kind.
        if let Some(config) = manifest.configuration() {
            let bytes = self.blob(&config.digest, CONFIGURATION_LIMIT)?;
            let bytes = bytes.ok_or_else(|| self.damaged(format!("{} is missing", config.digest)))?;
            self.add(names.to_vec(), ids, &bytes)?;
        }
        Ok(())
    }

    fn blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(part) = self.files.blob(digest) else { return Ok(None) };
        let bytes = part.read(limit).map_err(|cause| self.damaged(cause))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(self.damaged(format!("the content of {digest} is {found}")));
        }
        Ok(Some(bytes))
    }
}

/// The one image that is meant, of its platforms the best.
fn choose(mut found: Vec<Found>, source: &Source) -> Result<Described, ImageError> {
    let label = |one: &Found| {
        let id = one.ids.iter().find(|id| id.starts_with("sha256:")).cloned().unwrap_or_default();
        if one.names.is_empty() { id } else { one.names.join(" or ") }
    };
    let refuse = |of: &[Found], advice: &str| {
        let mut names: Vec<String> = of.iter().map(label).collect();
        names.sort();
        names.dedup();
        ImageError::Selection { origin: source.to_string(), names, advice: advice.to_owned() }
    };
    if found.is_empty() {
        return Err(refuse(&found, "there is nothing to make a Plan for"));
    }
    if let Some(wanted) = &source.select {
        let means = |one: &Found| one.ids.contains(wanted) || one.names.iter().any(|name| is_meant(name, wanted));
        if !found.iter().any(means) {
            return Err(refuse(&found, "none of them has the name that was asked for"));
        }
        found.retain(means);
    }
    if found.iter().any(|one| one.names != found[0].names) {
        return Err(refuse(&found, "say which one is meant"));
    }
    found.sort_by(|a, b| a.config.rank().cmp(&b.config.rank()));
    // The same platform twice: these are different images without a name.
    if let [one, other, ..] = &found[..]
        && one.config.rank() == other.config.rank()
        && one.config != other.config
    {
        return Err(refuse(&found, "say which one is meant, by its digest"));
    }
    let Found { mut names, config, .. } = found.swap_remove(0);
    if let Some(wanted) = &source.select
        && let Some(place) = names.iter().position(|name| is_meant(name, wanted))
    {
        names.remove(place);
        names.insert(0, wanted.clone());
    }
    let run = config.execution.unwrap_or_default();
    Ok(Described {
        names,
        entrypoint: run.entrypoint.map(Words::list).unwrap_or_default(),
        command: run.cmd.map(Words::list).unwrap_or_default(),
        volumes: run.volumes.unwrap_or_default().into_keys().collect(),
        working_dir: run.working_dir.unwrap_or_default(),
    })
}

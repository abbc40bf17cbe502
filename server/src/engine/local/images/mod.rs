//! From an image's name to folders that can be stacked: fetched, verified, unpacked layer by layer.
//!
//! Layers lie in `<layers>/<start of the chain id>/`, each in the form of an overlayfs lower
//! directory. The chain id names a layer together with all below it, because what a layer leaves
//! out of its parents it takes from there. They are made in `<layers>/.incoming/` and renamed when
//! they are complete and on disk, so whatever has its name is whole.

mod config;
pub(in crate::engine) mod fetch;
mod platform;
mod tar_reader;
mod tree;
mod unpack;

use super::delete::delete;
use crate::clock;
use crate::content::{
    ContentError, ContentStore, Descriptor, Digest, Manifest, Repository, RepositoryName, StoredManifest, TagName,
};
use config::Config;
use knit_api::image::{BUILT_IN_REGISTRY, ImageRef};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use unpack::{Limits, UnpackError};

/// Hex digits of a chain id in a folder's name: far too many to be met by chance or made to meet, and
/// few enough that many layers fit into the options of a mount.
const SHORT: usize = 24;
/// Layers that are unpacked at the same time; each may hold a large window of its compression.
const UNPACKED_AT_ONCE: usize = 2;

/// An image ready to be stacked into a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedImage {
    /// `sha256:…` of the manifest for this platform.
    pub digest: String,
    /// Unpacked layers, the lowest first, each in the form of an overlayfs lower directory.
    pub layers: Vec<PathBuf>,
    /// `USER`: name or number, optionally with a group; empty for root.
    pub user: String,
    /// `WORKDIR`; empty for `/`.
    pub working_dir: String,
    /// `ENV` as `NAME=value`.
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
}

/// Why an image cannot be used; each is a sentence for the Run's message.
#[derive(Debug, thiserror::Error)]
pub enum ImageProblem {
    /// No such image.
    #[error("image {image} is not there: {detail}")]
    NotFound {
        /// Its name.
        image: String,
        /// Where it was looked for and what to do.
        detail: String,
    },
    /// The registry cannot be reached or answers badly; may pass.
    #[error("image {image} cannot be fetched: {cause}")]
    Unreachable {
        /// Its name.
        image: String,
        /// What the registry or the network said.
        cause: String,
    },
    /// Its content is damaged, hostile or of an unknown kind.
    #[error("image {image} is unusable: {cause}")]
    Bad {
        /// Its name.
        image: String,
        /// What is wrong with it.
        cause: String,
    },
    /// This machine could not store it.
    #[error("image {image} cannot be stored: {cause}")]
    Storage {
        /// Its name.
        image: String,
        /// What the system said.
        cause: String,
    },
}

impl ImageProblem {
    fn no_platform(image: &str, host: &crate::content::Platform, there: &[String]) -> Self {
        const SHOWN: usize = 20;
        let there = match there {
            [] => "none that is named".to_owned(),
            _ => there.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", "),
        };
        let cause = format!("it is not made for {host}, which this machine is; its platforms are: {there}");
        Self::Bad { image: image.to_owned(), cause }
    }
}

/// All images of this machine.
#[derive(Debug)]
pub struct Images {
    content: Arc<ContentStore>,
    layers: PathBuf,
    registry: Option<SocketAddr>,
    remote: fetch::Remote,
    locks: Locks,
    unpacking: Arc<tokio::sync::Semaphore>,
    /// Layers of images that are being prepared, with how many of those need them.
    needed: Mutex<HashMap<PathBuf, usize>>,
}

/// An image as it was found, before its layers are unpacked.
struct Found {
    digest: Digest,
    layers: Vec<Descriptor>,
    config: Config,
}

impl Images {
    /// Images from `content`, unpacked below `layers`, which one process owns. Removes what an earlier
    /// process left half unpacked.
    pub fn new(content: Arc<ContentStore>, layers: PathBuf) -> Self {
        if let Err(error) = begin_anew(&layers) {
            // The first image that needs the folder will fail with the same reason.
            tracing::warn!(folder = %layers.display(), %error, "the folder for image layers is not in order");
        }
        Self {
            content,
            layers,
            registry: None,
            remote: fetch::Remote::default(),
            locks: Locks::default(),
            unpacking: Arc::new(tokio::sync::Semaphore::new(UNPACKED_AT_ONCE)),
            needed: Mutex::default(),
        }
    }

    /// Tells where the built-in registry really listens, so that names with that address mean it, too.
    #[must_use]
    pub fn with_registry(self, address: SocketAddr) -> Self {
        Self { registry: Some(address), ..self }
    }

    /// Resolves the name (the built-in registry for names without a host and for `localhost:30503/…`,
    /// any other registry over https, http only for loopback), fetches what is missing, verifies it
    /// and unpacks each layer once. Several calls for one image share the work.
    pub async fn prepare(&self, image: &ImageRef) -> Result<PreparedImage, ImageProblem> {
        let text = image.to_string();
        let Found { digest, layers, config } = self.find(image, &text).await?;
        let bad = |cause: String| ImageProblem::Bad { image: text.clone(), cause };
        let host = platform::host();
        if platform::is_foreign(&host, &config.platform) {
            return Err(ImageProblem::no_platform(&text, &host, &[config.platform.to_string()]));
        }
        let (diff_ids, process) = config.into_parts();
        if diff_ids.len() != layers.len() {
            return Err(bad(format!(
                "its configuration names {} layers, its manifest {}",
                diff_ids.len(),
                layers.len()
            )));
        }
        let mut folders: Vec<PathBuf> = Vec::with_capacity(layers.len());
        let mut needs = Needs { needed: &self.needed, folders: Vec::with_capacity(layers.len()) };
        let mut chain: Option<Digest> = None;
        for (layer, diff_id) in layers.iter().zip(&diff_ids) {
            let id = config::chain_id(chain.as_ref(), diff_id);
            needs.add(self.folder(&id));
            folders.push(self.layer(&text, layer, diff_id, &id, &folders).await?);
            chain = Some(id);
        }
        Ok(PreparedImage {
            digest: digest.to_string(),
            layers: folders,
            user: process.user.unwrap_or_default(),
            working_dir: process.working_dir.unwrap_or_default(),
            env: process.env.unwrap_or_default(),
            entrypoint: process.entrypoint.unwrap_or_default(),
            cmd: process.cmd.unwrap_or_default(),
        })
    }

    /// Removes unpacked layers that nobody used since `before`, that are not among `in_use`, and that no
    /// image needs which is being prepared now; they are unpacked again when they are needed. Blocks.
    pub fn remove_unused(&self, in_use: &HashSet<PathBuf>, before: SystemTime) -> io::Result<u64> {
        let limit = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let limit = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        // Names, because an installation may be reached by more than one path.
        let in_use: HashSet<&OsStr> = in_use.iter().filter_map(|path| path.file_name()).collect();
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.layers)? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            if name.len() != SHORT || in_use.contains(name.as_os_str()) {
                continue;
            }
            let aside = self.incoming();
            {
                // Whoever needs it says so before looking for it, and then finds it whole or not at all.
                let needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
                if needed.contains_key(&path) || std::fs::symlink_metadata(&path)?.ctime() >= limit {
                    continue;
                }
                std::fs::rename(&path, &aside)?;
            }
            delete(&aside)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Where the layer of this chain id lies once it is unpacked.
    fn folder(&self, chain_id: &Digest) -> PathBuf {
        self.layers.join(&chain_id.hex()[..SHORT])
    }

    fn incoming(&self) -> PathBuf {
        self.layers.join(".incoming").join(clock::new_id())
    }

    /// Finds the manifest for this machine and its configuration, fetching them from another registry
    /// if the name means one.
    async fn find(&self, image: &ImageRef, text: &str) -> Result<Found, ImageProblem> {
        let (host, path) = image.host_and_path();
        let remote = host.filter(|host| !self.is_built_in(host));
        let place = remote.unwrap_or("the built-in registry").to_owned();
        let not_there = |detail: String| ImageProblem::NotFound { image: text.to_owned(), detail };
        let name: RepositoryName = path.parse().map_err(|error| not_there(format!("{error}")))?;
        let tag: TagName = image.tag.parse().map_err(|error| not_there(format!("{error}")))?;
        let fetched = match remote {
            Some(host) => Some(self.remote.fetch(&self.content, &self.locks, text, host, &name, &tag).await?),
            None => None,
        };
        let repository = match remote {
            Some(host) => self.content.remote(host, &name).ok_or_else(|| not_there(format!("not at {place}")))?,
            None => self.content.repository(&name),
        };
        let (content, image) = (self.content.clone(), text.to_owned());
        in_background(&image.clone(), move || {
            let missing = |error: ContentError| match error {
                ContentError::NotFound(_) => ImageProblem::NotFound {
                    image: image.clone(),
                    detail: format!(
                        "{place} has no {name}:{tag}; push it with `knit image push`, or correct the Plan's image"
                    ),
                },
                other => problem(&image, other),
            };
            let digest = match fetched {
                Some(digest) => digest,
                None => repository.resolve(&tag).map_err(missing)?,
            };
            let stored = repository.manifest(&digest).map_err(missing)?;
            read_image(&content, &repository, stored, &image)
        })
        .await
    }

    fn is_built_in(&self, host: &str) -> bool {
        let real = |address: SocketAddr| {
            fetch::is_loopback(host)
                && host.rsplit_once(':').is_some_and(|(_, port)| port == address.port().to_string())
        };
        host == BUILT_IN_REGISTRY || self.registry.is_some_and(real)
    }

    /// The folder of a layer, unpacked if it is not there yet.
    async fn layer(
        &self,
        image: &str,
        layer: &Descriptor,
        diff_id: &Digest,
        chain_id: &Digest,
        lowers: &[PathBuf],
    ) -> Result<PathBuf, ImageProblem> {
        let storage = |error: io::Error| ImageProblem::Storage { image: image.to_owned(), cause: error.to_string() };
        if !config::is_tar(&layer.media_type) {
            let kind: String = layer.media_type.chars().filter(|c| !c.is_control()).take(120).collect();
            let cause = format!("its layer {} is \"{kind}\", which is no tar archive", layer.digest);
            return Err(ImageProblem::Bad { image: image.to_owned(), cause });
        }
        let folder = self.folder(chain_id);
        let alone = self.locks.hold(&chain_id.hex()).await;
        if mark_used(&folder).map_err(storage)? {
            return Ok(folder);
        }
        let turn = self.unpacking.clone().acquire_owned().await.map_err(io::Error::other).map_err(storage)?;
        let making = Making {
            content: self.content.clone(),
            image: image.to_owned(),
            layer: layer.clone(),
            diff_id: *diff_id,
            beside: self.incoming(),
            folder: folder.clone(),
            lowers: lowers.to_vec(),
        };
        in_background(image, move || {
            // Both go on to be held when the caller does not wait any longer.
            let _held = (alone, turn);
            making.run()
        })
        .await?;
        Ok(folder)
    }
}

/// The layers that one preparation needs, until it is over.
struct Needs<'a> {
    needed: &'a Mutex<HashMap<PathBuf, usize>>,
    folders: Vec<PathBuf>,
}

impl Needs<'_> {
    fn add(&mut self, folder: PathBuf) {
        *self.needed.lock().unwrap_or_else(PoisonError::into_inner).entry(folder.clone()).or_default() += 1;
        self.folders.push(folder);
    }
}

impl Drop for Needs<'_> {
    fn drop(&mut self) {
        let mut needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in self.folders.drain(..) {
            if let Entry::Occupied(mut count) = needed.entry(folder) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// Marks a layer as used now; false when it is not there. Setting the time of access sets the time of
/// change as well, which is the one that counts: the others are the layer's own.
fn mark_used(folder: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
    let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps { last_access: time(UTIME_NOW), last_modification: time(UTIME_OMIT) };
    match utimensat(CWD, folder, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// One layer that is being unpacked.
struct Making {
    content: Arc<ContentStore>,
    image: String,
    layer: Descriptor,
    diff_id: Digest,
    beside: PathBuf,
    folder: PathBuf,
    lowers: Vec<PathBuf>,
}

impl Making {
    fn run(self) -> Result<(), ImageProblem> {
        let made = self.unpack();
        if made.is_err()
            && let Err(error) = delete(&self.beside)
        {
            tracing::warn!(folder = %self.beside.display(), %error, "a half unpacked layer was left behind");
        }
        made.map_err(|error| match error {
            UnpackError::Bad(cause) => {
                let advice = match self.content.discard_damaged(&self.layer.digest) {
                    Ok(false) => "",
                    Ok(true) => " (its stored copy was damaged and is removed: push or run the image again)",
                    Err(error) => {
                        tracing::warn!(blob = %self.layer.digest, %error, "a bad layer was not looked at again");
                        ""
                    }
                };
                let cause = format!("layer {} cannot be unpacked: {cause}{advice}", self.layer.digest);
                ImageProblem::Bad { image: self.image.clone(), cause }
            }
            UnpackError::Io(error) => ImageProblem::Storage {
                image: self.image.clone(),
                cause: format!("unpacking layer {} failed: {error}", self.layer.digest),
            },
        })
    }

    fn unpack(&self) -> Result<(), UnpackError> {
        let blob = self.content.open_blob(&self.layer.digest).map_err(|error| match error {
            ContentError::NotFound(_) => UnpackError::Bad("it is not in the store; push the image again".to_owned()),
            ContentError::Io(error) => UnpackError::Io(error),
            other => UnpackError::Bad(other.to_string()),
        })?;
        std::fs::create_dir_all(&self.beside)?;
        std::fs::set_permissions(&self.beside, std::fs::Permissions::from_mode(0o755))?;
        unpack::unpack(blob, &self.diff_id, &self.beside, &self.lowers, Limits::default())?;
        std::fs::rename(&self.beside, &self.folder)?;
        let parent = self.folder.parent().expect("a layer's folder lies below that of all layers");
        Ok(File::open(parent)?.sync_all()?)
    }
}

/// Makes the folder for layers and removes what is half unpacked in it. Only root may look inside:
/// images hold programs with setuid.
fn begin_anew(layers: &Path) -> io::Result<()> {
    let incoming = layers.join(".incoming");
    std::fs::create_dir_all(layers)?;
    std::fs::set_permissions(layers, std::fs::Permissions::from_mode(0o700))?;
    delete(&incoming)?;
    std::fs::create_dir(&incoming)
}

/// Reads the manifest for this machine, through indexes, and its configuration.
fn read_image(
    content: &ContentStore,
    repository: &Repository,
    mut stored: StoredManifest,
    image: &str,
) -> Result<Found, ImageProblem> {
    const DEEPEST_INDEX: usize = 3;
    let bad = |cause: String| ImageProblem::Bad { image: image.to_owned(), cause };
    let host = platform::host();
    for _ in 0..DEEPEST_INDEX {
        let bytes = repository.read_manifest(&stored).map_err(|error| problem(image, error))?;
        let (manifest, _) = Manifest::read(&bytes, &stored.media_type).map_err(|error| bad(error.to_string()))?;
        match manifest {
            Manifest::Index { manifests, .. } => {
                let chosen = platform::choose(&host, &manifests)
                    .map_err(|there| ImageProblem::no_platform(image, &host, &there))?;
                stored = repository.manifest(&chosen.digest).map_err(|error| problem(image, error))?;
            }
            Manifest::Image { config, layers, .. } => {
                if !config::is_image(&config.media_type) {
                    let kind: String = config.media_type.chars().filter(|c| !c.is_control()).take(120).collect();
                    return Err(bad(format!("it is no container image but \"{kind}\"")));
                }
                let bytes =
                    content.read_blob(&config.digest, config::CONFIG_LIMIT).map_err(|error| problem(image, error))?;
                let read = Config::read(&bytes);
                let config = read.map_err(|error| bad(format!("its configuration is not valid: {error}")))?;
                return Ok(Found { digest: stored.digest, layers, config });
            }
        }
    }
    Err(bad("its indexes are nested too deeply".to_owned()))
}

/// What trouble with content that must be there means for an image.
fn problem(image: &str, error: ContentError) -> ImageProblem {
    let image = image.to_owned();
    match error {
        ContentError::Io(error) => ImageProblem::Storage { image, cause: error.to_string() },
        ContentError::NotFound(what) => {
            ImageProblem::Bad { image, cause: format!("{what} of it is not in the registry; push the image again") }
        }
        other => ImageProblem::Bad { image, cause: other.to_string() },
    }
}

/// Runs what blocks on a thread where it may.
async fn in_background<T: Send + 'static>(
    image: &str,
    work: impl FnOnce() -> Result<T, ImageProblem> + Send + 'static,
) -> Result<T, ImageProblem> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(ImageProblem::Storage { image: image.to_owned(), cause: error.to_string() }))
}

/// One lock for each piece of work that must not be done twice at once, by name.
#[derive(Debug, Default)]
struct Locks {
    held: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    async fn hold(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that only stand here are held by nobody.
            held.retain(|_, lock| Arc::strong_count(lock) > 1);
            held.entry(name.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_layer_stays_while_an_image_is_prepared_that_needs_it() {
        let place = tempfile::tempdir().unwrap();
        let content = Arc::new(ContentStore::open(&place.path().join("content")).unwrap());
        let images = Images::new(content, place.path().join("layers"));
        let id = Digest::of(b"a layer");
        std::fs::create_dir_all(images.folder(&id).join("bin")).unwrap();
        let remove = || images.remove_unused(&HashSet::new(), SystemTime::now() + Duration::from_hours(1)).unwrap();

        let mut first = Needs { needed: &images.needed, folders: Vec::new() };
        first.add(images.folder(&id));
        let mut second = Needs { needed: &images.needed, folders: Vec::new() };
        second.add(images.folder(&id));
        drop(first);
        assert_eq!(remove(), 0);
        drop(second);
        assert!(mark_used(&images.folder(&id)).unwrap());
        assert_eq!(remove(), 1);
        assert!(!mark_used(&images.folder(&id)).unwrap() && images.needed.lock().unwrap().is_empty());
    }
}

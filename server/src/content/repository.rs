//! One repository: which blobs and manifests it may serve, and what its tags name.

use super::manifest::{MANIFEST_LIMIT, Manifest, ManifestError};
use super::{Blob, ContentError, ContentStore, Digest, RepositoryName, TagName, absent, entries, remove_file, touch};
use super::sync_folder;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// A repository, whether or not anything is in it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    store: ContentStore,
    dir: PathBuf,
}

/// What is known of a manifest without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// The kind it was pushed as.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A manifest that says something about another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest.
    pub stored: StoredManifest,
    /// Kind of artifact; may be empty.
    pub artifact_type: String,
    /// Its free words.
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Repository {
    pub(super) fn new(store: ContentStore, dir: PathBuf) -> Self {
        Self { store, dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn store(&self) -> &ContentStore {
        &self.store
    }

    pub(super) fn blob_link(&self, digest: &Digest) -> PathBuf {
        self.dir.join("_blobs").join(digest.hex())
    }

    pub(super) fn manifest_link(&self, digest: &Digest) -> PathBuf {
        self.dir.join("_manifests").join(digest.hex())
    }

    fn referrers_of(&self, subject: &Digest) -> PathBuf {
        self.dir.join("_referrers").join(subject.hex())
    }

    pub(super) fn tag_path(&self, tag: &TagName) -> PathBuf {
        self.dir.join("_tags").join(tag.as_str())
    }

    /// True when something was ever pushed here.
    pub fn exists(&self) -> bool {
        self.dir.join("_manifests").is_dir() || self.dir.join("_blobs").is_dir()
    }

    /// Length of a blob that this repository may serve. It will not be collected for a grace period,
    /// because whoever asks may rely on it from now on.
    pub fn blob(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let _naming = self.store.while_naming();
        let link = self.blob_link(digest);
        if !link.is_file() {
            return Ok(None);
        }
        let Some(size) = self.store.blob_size(digest)? else { return Ok(None) };
        touch(&self.store.blob_path(digest))?;
        touch(&link)?;
        Ok(Some(size))
    }

    /// Opens a blob that this repository may serve.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob, ContentError> {
        if self.blob_link(digest).is_file() {
            self.store.open_blob(digest)
        } else {
            Err(ContentError::NotFound(digest.to_string()))
        }
    }

    /// Lets this repository serve a blob; false when the store does not have it.
    pub fn link_blob(&self, digest: &Digest) -> io::Result<bool> {
        let _naming = self.store.while_naming();
        if self.store.blob_size(digest)?.is_none() {
            return Ok(false);
        }
        touch(&self.store.blob_path(digest))?;
        self.mark(&self.blob_link(digest))?;
        Ok(true)
    }

    /// Takes a blob out of this repository; false when it was not in it.
    pub fn unlink_blob(&self, digest: &Digest) -> io::Result<bool> {
        remove_file(&self.blob_link(digest))
    }

    /// Makes an empty file, or makes it young again.
    fn mark(&self, path: &Path) -> io::Result<()> {
        match touch(path) {
            Err(error) if absent(&error) => self.store.write_whole(path, b""),
            other => other,
        }
    }

    /// Stores a manifest that was announced as `media_type`, and lets `tag` name it. All it refers to
    /// must be in the repository.
    pub fn put_manifest(
        &self,
        bytes: &[u8],
        media_type: &str,
        tag: Option<&TagName>,
    ) -> Result<(StoredManifest, Manifest), ContentError> {
        let (manifest, kind) = Manifest::read(bytes, media_type)?;
        let digest = Digest::of(bytes);
        for blob in manifest.blobs() {
            match self.blob(&blob.digest)? {
                None => return Err(ContentError::BlobUnknown(blob.digest)),
                Some(size) if size != blob.size => {
                    let what = format!("{} has {size} bytes, not {} as it says", blob.digest, blob.size);
                    return Err(ManifestError::Invalid(what).into());
                }
                Some(_) => {}
            }
        }
        for child in manifest.children() {
            match touch(&self.manifest_link(&child.digest)) {
                Err(error) if absent(&error) => return Err(ContentError::BlobUnknown(child.digest)),
                other => other?,
            }
        }
        let mut writer = self.store.write_blob()?;
        writer.write(bytes)?;
        writer.finish(&digest)?;
        if let Some(subject) = manifest.subject() {
            self.mark(&self.referrers_of(&subject.digest).join(digest.hex()))?;
        }
        self.store.write_whole(&self.manifest_link(&digest), kind.as_bytes())?;
        if let Some(tag) = tag {
            self.store.write_whole(&self.tag_path(tag), digest.to_string().as_bytes())?;
        }
        Ok((StoredManifest { digest, media_type: kind.to_owned(), size: bytes.len() as u64 }, manifest))
    }

    /// What a tag names.
    pub fn resolve(&self, tag: &TagName) -> Result<Digest, ContentError> {
        match std::fs::read_to_string(self.tag_path(tag)) {
            Ok(text) => Ok(text.trim().parse().map_err(io::Error::other)?),
            Err(error) if absent(&error) => Err(ContentError::NotFound(format!("tag {tag}"))),
            Err(error) => Err(error.into()),
        }
    }

    /// A manifest by its digest.
    pub fn manifest(&self, digest: &Digest) -> Result<StoredManifest, ContentError> {
        let media_type = match std::fs::read_to_string(self.manifest_link(digest)) {
            Ok(text) => text,
            Err(error) if absent(&error) => return Err(ContentError::NotFound(digest.to_string())),
            Err(error) => return Err(error.into()),
        };
        let size = self.store.blob_size(digest)?.ok_or_else(|| ContentError::NotFound(digest.to_string()))?;
        Ok(StoredManifest { digest: *digest, media_type, size })
    }

    /// The bytes of a manifest of this repository, verified.
    pub fn read_manifest(&self, stored: &StoredManifest) -> Result<Vec<u8>, ContentError> {
        self.store.read_blob(&stored.digest, MANIFEST_LIMIT)
    }

    /// Removes a tag; false when it was not there.
    pub fn remove_tag(&self, tag: &TagName) -> io::Result<bool> {
        let removed = remove_file(&self.tag_path(tag))?;
        if removed {
            sync_folder(&self.dir.join("_tags"))?;
        }
        Ok(removed)
    }

    /// Removes a manifest and every tag that names it; false when it was not there.
    pub fn remove_manifest(&self, digest: &Digest) -> Result<bool, ContentError> {
        if !self.manifest_link(digest).is_file() {
            return Ok(false);
        }
        for tag in self.all_tags()? {
            let tag = tag?;
            if self.resolve(&tag).is_ok_and(|named| named == *digest) {
                self.remove_tag(&tag)?;
            }
        }
        if let Ok(bytes) = self.store.read_blob(digest, MANIFEST_LIMIT)
            && let Ok((manifest, _)) = Manifest::read(&bytes, "")
            && let Some(subject) = manifest.subject()
        {
            remove_file(&self.referrers_of(&subject.digest).join(digest.hex()))?;
        }
        let removed = remove_file(&self.manifest_link(digest))?;
        sync_folder(&self.dir.join("_manifests"))?;
        Ok(removed)
    }

    pub(super) fn all_tags(&self) -> io::Result<impl Iterator<Item = io::Result<TagName>> + use<>> {
        named(&self.dir.join("_tags"))
    }

    pub(super) fn all_manifests(&self) -> io::Result<impl Iterator<Item = io::Result<Digest>> + use<>> {
        digests(&self.dir.join("_manifests"))
    }

    pub(super) fn all_blobs(&self) -> io::Result<impl Iterator<Item = io::Result<Digest>> + use<>> {
        digests(&self.dir.join("_blobs"))
    }

    /// At most `n` tags after `last`, in order, and whether there are more.
    pub fn tags(&self, n: usize, last: &str) -> io::Result<(Vec<TagName>, bool)> {
        let mut page = Page::new(n, last);
        for tag in self.all_tags()? {
            page.offer(tag?.as_str());
        }
        let (tags, more) = page.done();
        Ok((tags.iter().filter_map(|tag| tag.parse().ok()).collect(), more))
    }

    /// The manifests that say something about `subject`, by digest.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Referrer>, ContentError> {
        /// Referrers beyond this many are not listed: the answer is one document.
        const MOST: usize = 1000;
        let mut found = BTreeSet::new();
        for digest in digests(&self.referrers_of(subject))?.take(MOST) {
            found.insert(digest?);
        }
        let mut referrers = Vec::with_capacity(found.len());
        for digest in found {
            // One that is being removed is not there.
            let Ok(stored) = self.manifest(&digest) else { continue };
            let Ok((manifest, _)) = Manifest::read(&self.read_manifest(&stored)?, &stored.media_type) else { continue };
            let (Manifest::Image { artifact_type, annotations, .. } | Manifest::Index { artifact_type, annotations, .. }) =
                manifest;
            referrers.push(Referrer { stored, artifact_type, annotations });
        }
        Ok(referrers)
    }
}

impl ContentStore {
    /// At most `n` names of repositories after `last`, in order, and whether there are more.
    pub fn repositories(&self, n: usize, last: &str) -> io::Result<(Vec<RepositoryName>, bool)> {
        let mut page = Page::new(n, last);
        for name in self.repository_names()? {
            page.offer(&name?);
        }
        let (names, more) = page.done();
        Ok((names.iter().filter_map(|name| name.parse().ok()).collect(), more))
    }

    /// The names of all repositories that hold a manifest, in no order.
    fn repository_names(&self) -> io::Result<impl Iterator<Item = io::Result<String>>> {
        let base = self.root().join("repositories");
        Ok(repository_folders(base.clone()).filter_map(move |folder| match folder {
            Ok(folder) => {
                let name = folder.strip_prefix(&base).ok()?.to_str()?.to_owned();
                holds_manifest(&folder).then_some(Ok(name))
            }
            Err(error) => Some(Err(error)),
        }))
    }

    /// Every repository there is, of the built-in registry and of others.
    pub(super) fn all_repositories(&self) -> impl Iterator<Item = io::Result<Repository>> + '_ {
        let roots = [self.root().join("repositories"), self.root().join("remote")];
        let folders = roots.into_iter().flat_map(repository_folders);
        folders.map(|folder| Ok(Repository::new(self.clone(), folder?)))
    }
}

fn holds_manifest(folder: &Path) -> bool {
    entries(&folder.join("_manifests")).is_ok_and(|mut found| found.next().is_some())
}

/// Every folder below `base` that has a folder of ours in it. Only the path to where it is is held.
fn repository_folders(base: PathBuf) -> impl Iterator<Item = io::Result<PathBuf>> {
    let mut waiting = vec![base];
    std::iter::from_fn(move || {
        loop {
            let folder = waiting.pop()?;
            let mut ours = false;
            let listed = entries(&folder).and_then(|mut found| {
                found.try_for_each(|entry| {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        if entry.file_name().to_string_lossy().starts_with('_') {
                            ours = true;
                        } else {
                            waiting.push(entry.path());
                        }
                    }
                    Ok(())
                })
            });
            match listed {
                Err(error) => return Some(Err(error)),
                Ok(()) if ours => return Some(Ok(folder)),
                Ok(()) => {}
            }
        }
    })
}

fn named(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<TagName>> + use<>> {
    let parse = |entry: io::Result<std::fs::DirEntry>| match entry {
        Ok(entry) => entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Ok),
        Err(error) => Some(Err(error)),
    };
    Ok(entries(folder)?.filter_map(parse))
}

fn digests(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<Digest>> + use<>> {
    let parse = |entry: io::Result<std::fs::DirEntry>| match entry {
        Ok(entry) => entry.file_name().to_str().and_then(Digest::from_hex).map(Ok),
        Err(error) => Some(Err(error)),
    };
    Ok(entries(folder)?.filter_map(parse))
}

/// The first `n` names after `last` of any number of names in any order.
struct Page<'a> {
    n: usize,
    last: &'a str,
    first: BTreeSet<String>,
}

impl<'a> Page<'a> {
    fn new(n: usize, last: &'a str) -> Self {
        Self { n, last, first: BTreeSet::new() }
    }

    fn offer(&mut self, name: &str) {
        if name > self.last {
            self.first.insert(name.to_owned());
            // One more than asked for tells that there are more.
            if self.first.len() > self.n + 1 {
                self.first.pop_last();
            }
        }
    }

    fn done(mut self) -> (Vec<String>, bool) {
        let more = self.first.len() > self.n;
        if more {
            self.first.pop_last();
        }
        (self.first.into_iter().collect(), more)
    }
}

//! Collection: what nothing names any more is removed, after a grace period.
//!
//! Marks are made from tags, what they name, and young manifests; the rest is swept. What is being
//! uploaded or was asked for lately is young, and the young stay.

use super::manifest::{MANIFEST_LIMIT, Manifest};
use super::{ContentError, ContentStore, Digest, Repository, UploadId, entries, remove_file};
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs, manifests among them.
    pub blobs: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Manifests that no tag, index or subject led to.
    pub manifests: u64,
    /// Upload sessions that nobody continued.
    pub uploads: u64,
}

impl ContentStore {
    /// Removes what nothing names and nobody touched since `before`. Blocks; may run beside anything.
    /// Untagged manifests go as well: a tag that was pushed again leaves its old image behind.
    pub fn collect(&self, before: SystemTime) -> Result<Collected, ContentError> {
        let mut collected = Collected::default();
        let mut marked = HashSet::new();
        for repository in self.all_repositories() {
            let repository = repository?;
            collected.uploads += repository.drop_uploads(before)?;
            let live = repository.mark_live(before, &mut marked)?;
            collected.manifests += repository.drop_manifests(&live, before)?;
            repository.drop_blob_links(&marked, before)?;
        }
        for folder in entries(&self.root().join("blobs/sha256"))? {
            for blob in entries(&folder?.path())? {
                let path = blob?.path();
                let digest = path.file_name().and_then(|name| name.to_str()).and_then(Digest::from_hex);
                if digest.is_none_or(|digest| marked.contains(&digest)) {
                    continue;
                }
                if let Some(bytes) = self.drop_old(&path, before)? {
                    collected.blobs += 1;
                    collected.bytes += bytes;
                }
            }
        }
        Ok(collected)
    }

    /// Removes a file that is older than `before`, while nobody is about to name it; tells its length.
    fn drop_old(&self, path: &Path, before: SystemTime) -> io::Result<Option<u64>> {
        let _alone = self.inner.naming.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if is_young(path, before)? {
            return Ok(None);
        }
        let bytes = path.metadata()?.len();
        Ok(remove_file(path)?.then_some(bytes))
    }
}

/// A file that is gone counts as young: there is nothing to remove.
fn is_young(path: &Path, before: SystemTime) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.modified()? >= before),
        Err(error) if super::absent(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

impl Repository {
    fn drop_uploads(&self, before: SystemTime) -> io::Result<u64> {
        let mut dropped = 0;
        for upload in entries(&self.dir().join("_uploads"))? {
            let upload = upload?;
            let id = upload.file_name().to_str().and_then(UploadId::parse);
            let at_work = id.is_some_and(|id| self.store().is_uploading(&id));
            if !at_work && !is_young(&upload.path(), before)? {
                dropped += u64::from(remove_file(&upload.path())?);
            }
        }
        Ok(dropped)
    }

    /// The manifests that stay: tagged or young ones, what they list, and what speaks about those. All
    /// that they refer to is marked.
    fn mark_live(&self, before: SystemTime, marked: &mut HashSet<Digest>) -> Result<HashSet<Digest>, ContentError> {
        let mut waiting = Vec::new();
        for tag in self.all_tags()? {
            waiting.extend(self.resolve(&tag?));
        }
        for manifest in self.all_manifests()? {
            let manifest = manifest?;
            if is_young(&self.manifest_link(&manifest), before)? {
                waiting.push(manifest);
            }
        }
        let mut live = HashSet::new();
        while let Some(digest) = waiting.pop() {
            if !live.insert(digest) {
                continue;
            }
            marked.insert(digest);
            for referrer in self.referrers(&digest)? {
                waiting.push(referrer.stored.digest);
            }
            let Ok(bytes) = self.store().read_blob(&digest, MANIFEST_LIMIT) else { continue };
            let Ok((manifest, _)) = Manifest::read(&bytes, "") else { continue };
            marked.extend(manifest.blobs().map(|blob| blob.digest));
            waiting.extend(manifest.children().iter().map(|child| child.digest));
        }
        Ok(live)
    }

    fn drop_manifests(&self, live: &HashSet<Digest>, before: SystemTime) -> Result<u64, ContentError> {
        let mut dropped = 0;
        for manifest in self.all_manifests()? {
            let manifest = manifest?;
            if !live.contains(&manifest) && !is_young(&self.manifest_link(&manifest), before)? {
                dropped += u64::from(self.remove_manifest(&manifest)?);
            }
        }
        Ok(dropped)
    }

    fn drop_blob_links(&self, marked: &HashSet<Digest>, before: SystemTime) -> io::Result<()> {
        for blob in self.all_blobs()? {
            let blob = blob?;
            if !marked.contains(&blob) {
                self.store().drop_old(&self.blob_link(&blob), before)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ContentStore, Digest, TagName};
    use super::*;
    use std::time::Duration;

    fn put(store: &ContentStore, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut writer = store.write_blob().unwrap();
        writer.write(bytes).unwrap();
        writer.finish(&digest).unwrap();
        digest
    }

    fn image(store: &ContentStore, repository: &Repository, layer: &[u8], tag: &str) -> Digest {
        let descriptor = |bytes: &[u8]| {
            let digest = put(store, bytes);
            assert!(repository.link_blob(&digest).unwrap());
            format!(r#"{{"mediaType":"x","digest":"{digest}","size":{}}}"#, bytes.len())
        };
        let (config, layer) = (descriptor(b"{}"), descriptor(layer));
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
        let tag: TagName = tag.parse().unwrap();
        repository.put_manifest(text.as_bytes(), "", Some(&tag)).unwrap().0.digest
    }

    #[test]
    fn collection_keeps_what_tags_lead_to_and_what_is_young() {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        let repository = store.repository(&"a/b".parse().unwrap());
        let old = image(&store, &repository, b"old", "v1");
        let new = image(&store, &repository, b"new", "v1");
        let loose = put(&store, b"loose");
        let upload = repository.begin_upload().unwrap();

        let past = SystemTime::now() - Duration::from_hours(1);
        assert_eq!(store.collect(past).unwrap(), Collected::default());
        assert!(repository.manifest(&old).is_ok() && store.blob_size(&loose).unwrap().is_some());

        let future = SystemTime::now() + Duration::from_hours(1);
        let collected = store.collect(future).unwrap();
        assert_eq!((collected.manifests, collected.uploads, collected.blobs), (1, 1, 3));
        assert!(repository.manifest(&old).is_err() && repository.manifest(&new).is_ok());
        assert_eq!(repository.blob(&Digest::of(b"old")).unwrap(), None);
        assert_eq!(repository.blob(&Digest::of(b"new")).unwrap(), Some(3));
        assert_eq!(store.blob_size(&loose).unwrap(), None);
        assert!(repository.upload_size(&upload).is_err());
    }

    #[test]
    fn a_blob_that_another_repository_needs_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        let (first, second) = (store.repository(&"a".parse().unwrap()), store.repository(&"b".parse().unwrap()));
        let gone = image(&store, &first, b"shared", "v1");
        image(&store, &second, b"shared", "v1");
        assert!(first.remove_manifest(&gone).unwrap());
        assert!(first.resolve(&"v1".parse().unwrap()).is_err());
        store.collect(SystemTime::now() + Duration::from_hours(1)).unwrap();
        assert_eq!(second.blob(&Digest::of(b"shared")).unwrap(), Some(6));
    }
}

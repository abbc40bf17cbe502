//! What the server has offered a moment ago, so that repeated TABs do not ask it again: small files in the user's
//! cache folder, for the user alone, few and short-lived. Every trouble with it is as if nothing were there.

use knit_api::candidate::Candidate;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long an answer is used.
const LIFE: Duration = Duration::from_secs(30);
/// How long a server that did not answer is left alone.
const LIFE_OF_SILENCE: Duration = Duration::from_secs(3);
/// Most files.
const MOST: usize = 64;
/// Largest file, in bytes.
const LARGEST: u64 = 64 * 1024;

/// The cache of one user.
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// In the user's cache folder, if there is one.
    pub(super) fn for_user() -> Option<Self> {
        Some(Self { folder: dirs::cache_dir()?.join("knit").join("completion") })
    }

    /// The name under which the answer to a question is kept.
    pub(super) fn key(question: &[&str]) -> String {
        let mut digest = Sha256::new();
        for part in question {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        hex::encode(digest.finalize())
    }

    /// The answer, if there is one that is not too old.
    pub(super) fn read(&self, key: &str) -> Option<Vec<Candidate>> {
        let file = File::open(self.folder.join(key)).ok()?;
        let age = age(&file.metadata().ok()?)?;
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text).ok()?;
        let answer: Option<Vec<Candidate>> = serde_json::from_slice(&text).ok()?;
        let life = if answer.is_some() { LIFE } else { LIFE_OF_SILENCE };
        (age < life).then(|| answer.unwrap_or_default())
    }

    /// Keeps an answer, or that there was none.
    pub(super) fn write(&self, key: &str, answer: Option<&[Candidate]>) {
        let _ = self.try_write(key, answer);
    }

    fn try_write(&self, key: &str, answer: Option<&[Candidate]>) -> std::io::Result<()> {
        let text = serde_json::to_vec(&answer)?;
        if text.len() as u64 > LARGEST {
            return Ok(());
        }
        crate::replace::private_folder(&self.folder)?;
        self.make_room()?;
        // Not synced: what a crash takes is asked anew. A temporary file is made with mode 0600.
        let mut beside = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder)?;
        beside.write_all(&text)?;
        beside.persist(self.folder.join(key))?;
        Ok(())
    }

    /// Removes what is too old, and the oldest as long as there are too many; also what a program that was ended
    /// in the middle has left.
    fn make_room(&self) -> std::io::Result<()> {
        let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&self.folder)?.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            match age(&metadata) {
                Some(age) if age < LIFE => kept.extend(metadata.modified().ok().map(|time| (time, entry.path()))),
                _ => remove(&entry.path()),
            }
        }
        kept.sort();
        let surplus = (kept.len() + 1).saturating_sub(MOST);
        kept.iter().take(surplus).for_each(|(_, path)| remove(path));
        Ok(())
    }
}

/// `None` for what is from the future.
fn age(metadata: &std::fs::Metadata) -> Option<Duration> {
    SystemTime::now().duration_since(metadata.modified().ok()?).ok()
}

fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { folder: folder.path().join("knit/completion") };
        (folder, cache)
    }

    fn candidates() -> Vec<Candidate> {
        vec![Candidate { value: "abc".to_owned(), hint: "x:y".to_owned() }]
    }

    #[test]
    fn an_answer_is_found_again_until_it_is_old() {
        let (_folder, cache) = cache();
        assert_eq!(cache.read("k"), None);
        cache.write("k", Some(&candidates()));
        assert_eq!(cache.read("k"), Some(candidates()));
        let file = File::options().write(true).open(cache.folder.join("k")).unwrap();
        file.set_modified(SystemTime::now() - LIFE).unwrap();
        assert_eq!(cache.read("k"), None);
        cache.write("silent", None);
        assert_eq!(cache.read("silent"), Some(Vec::new()));
        let file = File::options().write(true).open(cache.folder.join("silent")).unwrap();
        file.set_modified(SystemTime::now() - LIFE_OF_SILENCE).unwrap();
        assert_eq!(cache.read("silent"), None);
    }

    #[test]
    fn it_stays_small_and_its_owners_alone() {
        let (_folder, cache) = cache();
        for n in 0..MOST + 10 {
            cache.write(&format!("{n}"), Some(&candidates()));
        }
        assert_eq!(std::fs::read_dir(&cache.folder).unwrap().count(), MOST);
        let large = vec![Candidate { value: "x".repeat(LARGEST as usize), hint: String::new() }];
        cache.write("large", Some(&large));
        assert_eq!(cache.read("large"), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            for entry in std::fs::read_dir(&cache.folder).unwrap().flatten() {
                assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
    }

    #[test]
    fn damage_is_as_if_nothing_were_there() {
        let (_folder, cache) = cache();
        cache.write("k", Some(&candidates()));
        std::fs::write(cache.folder.join("k"), "[{").unwrap();
        assert_eq!(cache.read("k"), None);
    }

    #[test]
    fn questions_do_not_run_into_each_other() {
        assert_ne!(Cache::key(&["ab", "c"]), Cache::key(&["a", "bc"]));
    }
}

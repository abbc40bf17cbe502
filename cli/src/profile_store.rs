//! The profile store: a YAML map from profile name to how that server is reached, in `~/.knit/profile`,
//! and beside it `~/.knit/current`, the name to use where no project names one.

use crate::terminal::Failure;
use crate::{replace, yaml};
use knit_api::profile::Profile;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A profile store that was read.
#[derive(Clone, Debug, Default)]
pub struct ProfileStore {
    path: PathBuf,
    profiles: BTreeMap<String, Profile>,
    exists: bool,
}

/// Where the store is unless another place is given: `~/.knit/profile`.
pub fn default_path() -> Result<PathBuf, Failure> {
    dirs::home_dir().map(|home| home.join(".knit").join("profile")).ok_or_else(|| {
        Failure::new("cannot find the profile store")
            .why("there is no home folder")
            .advice("set HOME, or say --profile-store PATH")
    })
}

impl ProfileStore {
    /// A store without profiles, as if there were no file.
    pub fn empty(path: &Path) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// Reads the store; a missing file reads as an empty store.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::empty(path));
            }
            _ => {}
        }
        let wrong = |why: String| Failure::usage(format!("cannot read the profile store {}", path.display())).why(why);
        let text = yaml::read_text(path, false).map_err(wrong)?;
        let profiles: Option<BTreeMap<String, Profile>> = yaml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { path: path.to_owned(), profiles: profiles.unwrap_or_default(), exists: true })
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// False when there was no file.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// The profile of that name.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// All profiles with their names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.profiles.iter().map(|(name, profile)| (name.as_str(), profile))
    }

    /// Puts a profile under a name into the store at `path`, replacing one of that name. Two programs
    /// that do this at once both succeed; a reader never sees half a store. True when one was replaced.
    pub fn insert(path: &Path, name: &str, profile: &Profile) -> Result<bool, Failure> {
        Self::change(path, |profiles| profiles.insert(name.to_owned(), profile.clone()).is_some())
    }

    /// Takes the profile of that name out of the store at `path`. False when there is none.
    pub fn remove(path: &Path, name: &str) -> Result<bool, Failure> {
        Self::change(path, |profiles| profiles.remove(name).is_some())
    }

    /// Reads, changes and writes a store while nobody else does.
    fn change<T>(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Profile>) -> T) -> Result<T, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::new(format!("cannot write the profile store {}", path.display())).why(why)
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            replace::private_folder(folder).map_err(|e| failed(&e))?;
        }
        let _lock = lock(path).map_err(|e| failed(&e))?;
        let mut store = Self::load(path)?;
        let outcome = change(&mut store.profiles);
        let text = serde_saphyr::to_string(&store.profiles).map_err(|e| failed(&e))?;
        replace::private_file(path, text.as_bytes()).map_err(|e| failed(&e))?;
        Ok(outcome)
    }
}

/// Holds the store for one writer; released when dropped, or when the program dies.
fn lock(path: &Path) -> std::io::Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let file = File::options().create(true).append(true).open(path.with_file_name(name))?;
    file.lock()?;
    Ok(file)
}

/// The file beside a store that names the current profile.
pub fn current_path(store: &Path) -> PathBuf {
    store.with_file_name("current")
}

/// The name of the current profile, if one is set.
pub fn current(store: &Path) -> Result<Option<String>, Failure> {
    let path = current_path(store);
    match yaml::read_text(&path, false) {
        Ok(text) => Ok(text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())),
        Err(_) if !path.exists() => Ok(None),
        Err(why) => Err(Failure::new(format!("cannot read {}", path.display())).why(why)),
    }
}

/// Makes `name` the current profile.
pub fn set_current(store: &Path, name: &str) -> Result<(), Failure> {
    let path = current_path(store);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        replace::private_folder(folder)
            .map_err(|e| Failure::new(format!("cannot create {}", folder.display())).why(e))?;
    }
    replace::private_file(&path, format!("{name}\n").as_bytes())
        .map_err(|e| Failure::new(format!("cannot write {}", path.display())).why(e))
}

/// Leaves no profile current, if `name` is. True when it was.
pub fn unset_current(store: &Path, name: &str) -> Result<bool, Failure> {
    if current(store)?.as_deref() != Some(name) {
        return Ok(false);
    }
    let path = current_path(store);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("cannot remove {}", path.display())).why(e))
        }
        _ => Ok(true),
    }
}

/// Refuses what cannot stand on one line as the name of a profile.
pub fn check_name(name: &str) -> Result<(), Failure> {
    if name.trim() == name && !name.is_empty() && !name.contains(['\n', '\r']) {
        return Ok(());
    }
    Err(Failure::usage(format!("\"{name}\" cannot be the name of a profile"))
        .why("it is empty, has several lines, or begins or ends with a space"))
}

/// Reads a `knitprofile`, the file that an administrator hands out, and checks it.
pub fn read_knitprofile(path: &Path) -> Result<Profile, Failure> {
    let wrong = |why: String| Failure::usage(format!("cannot use {} as a knitprofile", path.display())).why(why);
    let text = yaml::read_text(path, false).map_err(|why| {
        Failure::new(format!("cannot read the knitprofile {}", path.display()))
            .why(why)
            .advice("give the file that your administrator handed out (knitctl up writes it to handout/knitprofile)")
    })?;
    let profile: Profile = yaml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    profile.check().map_err(|e| wrong(e.to_string()))?;
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(root: &str) -> Profile {
        Profile { api_root: root.to_owned(), cert: knit_api::profile::Cert::default(), token: None, registry: None }
    }

    #[test]
    fn a_profile_that_was_put_in_is_found_again_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/.knit/profile");
        assert!(!ProfileStore::insert(&path, "/home/me/a", &profile("https://a/api")).unwrap());
        assert!(!ProfileStore::insert(&path, "b: c #", &profile("https://b/api")).unwrap());
        assert!(ProfileStore::insert(&path, "b: c #", &profile("https://c/api")).unwrap());
        let store = ProfileStore::load(&path).unwrap();
        assert_eq!(store.names().collect::<Vec<_>>(), ["/home/me/a", "b: c #"]);
        assert_eq!(store.get("b: c #").unwrap().api_root, "https://c/api");
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    ProfileStore::insert(path, &format!("kept {n}"), &profile("https://x/api")).unwrap();
                    ProfileStore::insert(path, &format!("gone {n}"), &profile("https://x/api")).unwrap();
                    assert!(ProfileStore::remove(path, &format!("gone {n}")).unwrap());
                });
            }
        });
        let store = ProfileStore::load(&path).unwrap();
        assert_eq!((store.names().count(), store.names().all(|name| name.starts_with("kept "))), (8, true));
        assert!(!ProfileStore::remove(&path, "gone 1").unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_store_is_its_owners_alone_even_if_it_was_not_before() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile");
        std::fs::write(&path, "a:\n    apiRoot: http://x/api\n    cert: {}\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        ProfileStore::insert(&path, "b", &profile("https://b/api")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ProfileStore::load(&path).unwrap().names().count(), 2);
    }

    #[test]
    fn a_missing_store_is_empty_and_a_broken_one_is_refused_by_name_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile");
        assert!(!ProfileStore::load(&path).unwrap().exists());
        std::fs::write(&path, "a:\n  cert: {}\n").unwrap();
        let failure = ProfileStore::load(&path).unwrap_err().to_string();
        assert!(
            failure.contains(&path.display().to_string()) && failure.contains("\"apiRoot\" is missing"),
            "{failure}"
        );
    }

    #[test]
    fn the_current_profile_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("k/profile");
        assert_eq!(current(&store).unwrap(), None);
        set_current(&store, "local").unwrap();
        assert_eq!(current(&store).unwrap().as_deref(), Some("local"));
        assert!(!unset_current(&store, "other").unwrap());
        assert!(unset_current(&store, "local").unwrap());
        assert_eq!(current(&store).unwrap(), None);
    }

    #[test]
    fn a_knitprofile_is_checked_before_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("knitprofile");
        for (text, why) in [
            ("", "nothing"),
            ("apiRoot: here\n", "not an absolute"),
            ("cert: {}\n", "\"apiRoot\" is missing"),
            ("apiRoot: http://x/api\ncert:\n  ca: \"!!\"\n", "cert.ca"),
            ("apiRoot: [\n", "line"),
        ] {
            std::fs::write(&path, text).unwrap();
            let failure = read_knitprofile(&path).unwrap_err().to_string();
            assert!(failure.contains(why), "{text:?} gave: {failure}");
        }
        std::fs::write(&path, "apiRoot: https://x:1/api # c\nother: 1\ntoken: 123\n").unwrap();
        assert_eq!(read_knitprofile(&path).unwrap().token.as_deref(), Some("123"));
    }

    proptest::proptest! {
        #[test]
        fn any_profile_store_text_gives_a_store_or_an_error(text in "([ \n]|[a-z]{1,3}|apiRoot|cert|: |\\{|\\}|-|\"|#){0,40}") {
            let _ = yaml::from_str::<Option<BTreeMap<String, Profile>>>(&text);
        }
    }
}

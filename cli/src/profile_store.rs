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
    /// Reads the store; a missing file reads as an empty store.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path: path.to_owned(), ..Self::default() });
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

    /// Puts a profile under a name into the store at `path`, replacing one of that name. Two programs
    /// that do this at once both succeed; a reader never sees half a store. True when one was replaced.
    pub fn insert(path: &Path, name: &str, profile: &Profile) -> Result<bool, Failure> {
        let failed =
            |e: std::io::Error| Failure::new(format!("cannot write the profile store {}", path.display())).why(e);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            replace::private_folder(folder).map_err(failed)?;
        }
        let _lock = lock(path).map_err(failed)?;
        let mut store = Self::load(path)?;
        let replaced = store.profiles.insert(name.to_owned(), profile.clone()).is_some();
        let text = serde_saphyr::to_string(&store.profiles)
            .map_err(|e| Failure::new(format!("cannot write the profile store {}", path.display())).why(e))?;
        replace::private_file(path, text.as_bytes()).map_err(failed)?;
        Ok(replaced)
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

//! `knitd check-empty`: what a worker's Pod does before anything is written. Its volumes must be empty, and open for
//! whichever user the image names; the program that main is started through is put where main can execute it.

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What file systems make in their own root.
const FILE_SYSTEMS_OWN: &str = "lost+found";
/// Makes folders for this container to write to be usable by every user of main's.
const OPEN: u32 = 0o777;
/// Of the installed program: all may execute it.
const PROGRAM: u32 = 0o755;

/// Looks before a worker begins.
#[derive(Debug, clap::Args)]
pub struct CheckEmpty {
    /// Copies this program there.
    #[arg(long, value_name = "FILE")]
    install: Option<PathBuf>,

    /// Folders that must be empty.
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
}

impl CheckEmpty {
    /// Does it; the error says which folder is not empty, and what is in it.
    pub fn run(&self) -> anyhow::Result<()> {
        for folder in &self.folders {
            check(folder)?;
        }
        match &self.install {
            Some(place) => install(place),
            None => Ok(()),
        }
    }
}

/// Makes sure that the folder is empty, and opens it.
fn check(folder: &Path) -> anyhow::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, flags, Mode::empty())
        .with_context(|| format!("opening the volume's folder {}", folder.display()))?;
    let entries = fs::read_dir(folder).with_context(|| format!("reading the volume's folder {}", folder.display()))?;
    for entry in entries {
        let name = entry.with_context(|| format!("reading the volume's folder {}", folder.display()))?.file_name();
        if name != FILE_SYSTEMS_OWN {
            bail!("{} is not empty: \"{}\" is in it", folder.display(), shown(&name));
        }
    }
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(OPEN))
        .with_context(|| format!("opening the volume's folder {} for all users", folder.display()))
}

/// A name as a log may have it.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().escape_debug().collect()
}

/// Copies this very program, whatever its file is called now. It appears whole.
fn install(place: &Path) -> anyhow::Result<()> {
    let beside = place.with_extension("new");
    let copy = || -> io::Result<()> {
        let mut out = File::create(&beside)?;
        io::copy(&mut File::open("/proc/self/exe")?, &mut out)?;
        out.set_permissions(fs::Permissions::from_mode(PROGRAM))?;
        fs::rename(&beside, place)
    };
    copy().with_context(|| format!("copying knitd to {}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn an_empty_folder_is_opened_for_all_and_one_that_is_not_is_named_with_its_entry() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = place.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (empty, own, full) = (folder("empty"), folder("own"), folder("full"));
        fs::create_dir(own.join("lost+found")).unwrap();
        fs::write(full.join(".hidden\n"), "").unwrap();
        let check = |folders: &[&PathBuf]| {
            let folders = folders.iter().map(|folder| (*folder).clone()).collect();
            CheckEmpty { install: None, folders }.run().map_err(|error| format!("{error:#}"))
        };
        check(&[&empty, &own]).unwrap();
        assert_eq!((mode(&empty), mode(&own)), (0o777, 0o777));
        let refused = check(&[&empty, &full]).unwrap_err();
        assert_eq!(refused, format!("{} is not empty: \".hidden\\n\" is in it", full.display()));
        assert!(check(&[&place.path().join("none")]).unwrap_err().contains("/none"));
        assert!(check(&[&full.join(".hidden\n")]).is_err(), "a file is no folder");
        std::os::unix::fs::symlink(&empty, place.path().join("link")).unwrap();
        assert!(check(&[&place.path().join("link")]).is_err(), "no link is followed");
    }

    #[test]
    fn the_program_installs_itself_for_all_to_execute() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("knitd");
        CheckEmpty { install: Some(program.clone()), folders: Vec::new() }.run().unwrap();
        assert_eq!(mode(&program), 0o755);
        assert_eq!(fs::metadata(&program).unwrap().len(), fs::metadata("/proc/self/exe").unwrap().len());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}

//! `knit profile rm`.

use crate::args;
use crate::profile_store::{self, ProfileStore};
use crate::project::{PROJECT_FILE, Project, current_folder, name_in, nearest_file, not_in};
use crate::terminal::ask::confirm;
use crate::terminal::{ExitCode, Failure, note};

/// Forget a profile.
///
/// The server and everything on it stay. On a terminal this asks first, and --yes answers.
#[derive(Debug, clap::Args)]
pub struct Rm {
    /// The profile
    #[arg(value_name = "PROFILE")]
    name: String,
    /// Do not ask
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    yes: bool,
}

impl Rm {
    /// Takes it out of the store, and leaves no profile current if it was.
    pub fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let name = &self.name;
        let store = ProfileStore::load(&project.store_path()?)?;
        let Some(profile) = store.get(name) else { return Err(not_in(&store, name).exit(ExitCode::NotFound)) };
        let question = format!("Forget the profile \"{name}\" for {}?", profile.api_root);
        if !confirm(&question, self.yes)? {
            note("nothing is changed");
            return Ok(ExitCode::Failure);
        }
        // In this order: the current name never stays behind alone.
        let was_current = profile_store::unset_current(store.path(), name)?;
        ProfileStore::remove(store.path(), name)?;
        note(&format!("forgot the profile \"{name}\" in {}", store.path().display()));
        if was_current {
            note("  it was the current one: choose another with knit profile use NAME");
        }
        let file = nearest_file(&current_folder()?, PROJECT_FILE);
        if let Some(file) = file.filter(|file| name_in(file).is_ok_and(|named| named == *name)) {
            note(&format!("  {} still names it", file.display()));
        }
        Ok(ExitCode::Ok)
    }
}

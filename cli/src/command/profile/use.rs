//! `knit profile use`.

use crate::args;
use crate::command::init::write_project_file;
use crate::profile_store::{self, ProfileStore};
use crate::project::{PROJECT_FILE, Project, current_folder, not_in};
use crate::terminal::{ExitCode, Failure, note};

/// Use a profile from now on, everywhere or in this folder.
///
/// It counts wherever no folder, flag or environment variable names another one. With --here, this folder and those below use it: its name is written into a file .knitprofile.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Everywhere, or in this project
  knit profile use lab
  knit profile use --here lab")]
pub struct Use {
    /// The profile
    #[arg(value_name = "PROFILE")]
    name: String,
    /// Use it in this folder and those below, instead of everywhere
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    here: bool,
}

impl Use {
    /// Writes the name where it is looked up, and tells when something else is stronger here.
    pub fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let store = ProfileStore::load(&project.store_path()?)?;
        if store.get(&self.name).is_none() {
            return Err(not_in(&store, &self.name).exit(ExitCode::NotFound));
        }
        profile_store::check_name(&self.name)?;
        if self.here {
            let file = current_folder()?.join(PROJECT_FILE);
            write_project_file(&file, &self.name)?;
            note(&format!("{} names the profile \"{}\" now", file.display(), self.name));
        } else {
            profile_store::set_current(store.path(), &self.name)?;
            note(&format!("the profile \"{}\" is the current one now", self.name));
        }
        // A file that cannot be read must not make a failure of what is done.
        if let Ok(Some(chosen)) = project.chosen_profile(&store)
            && chosen.what != self.name
        {
            note(&format!("  in this folder, \"{}\" is still used: {}", chosen.what, chosen.rule));
        }
        Ok(ExitCode::Ok)
    }
}

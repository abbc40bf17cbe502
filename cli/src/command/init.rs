//! `knit init`: registers a server for a folder.

use crate::profile_store::{self, ProfileStore};
use crate::project::{PROJECT_FILE, Project, current_folder};
use crate::replace;
use crate::terminal::{ExitCode, Failure, note};
use std::path::PathBuf;

/// Register a server for this folder, from the file that an administrator handed out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The profile is stored under the name given with --profile, or else under the path of this folder, and a file \
.knitprofile that names it is written here: all folders below use it.

Examples:
  # Use the server of this handout in this folder and below
  knit init ~/handout/knitprofile

  # The same under a name, for use elsewhere with --profile
  knit init --profile lab ~/handout/knitprofile")]
pub struct Init {
    /// The file that your administrator handed out
    #[arg(value_name = "KNITPROFILE")]
    file: PathBuf,
}

impl Init {
    /// Stores the profile first, so that the folder never names one that is not there.
    pub fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let profile = profile_store::read_knitprofile(&self.file)?;
        let here = current_folder()?;
        let name = match project.named_profile() {
            Some(name) => name.to_owned(),
            None => here.display().to_string(),
        };
        if name.trim() != name || name.is_empty() || name.contains(['\n', '\r']) {
            return Err(Failure::usage(format!("\"{name}\" cannot be the name of a profile"))
                .why("it is empty, has several lines, or begins or ends with a space"));
        }
        let store = project.store_path()?;
        let replaced = ProfileStore::insert(&store, &name, &profile)?;
        let file = here.join(PROJECT_FILE);
        replace::private_file(&file, name.as_bytes())
            .map_err(|e| Failure::new(format!("cannot write {}", file.display())).why(e))?;
        let verb = if replaced { "replaced" } else { "registered" };
        note(&format!("{verb} the profile \"{name}\" in {} for {}", store.display(), profile.api_root));
        Ok(ExitCode::Ok)
    }
}

//! `knit init`: registers a server for a folder.

use crate::args;
use crate::profile_store::{self, ProfileStore};
use crate::project::{Found, PROJECT_FILE, Project, Rule, Server, current_folder, name_in};
use crate::replace;
use crate::terminal::{ExitCode, Failure, note};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the server may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Register a server for this folder, from an administrator's file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The profile is stored under the name given with --profile, else under the one that a .knitprofile in this folder \
names, else under the path of this folder; and a file .knitprofile that names it is written here: all folders below \
use it. Then the server is asked whether it is there, and a warning is given if it does not answer.

Examples:
  # Use the server of this handout in this folder and below
  knit init ~/handout/knitprofile

  # The same under a name, for use elsewhere with --profile
  knit init --profile lab ~/handout/knitprofile")]
pub struct Init {
    /// The file that your administrator handed out
    #[arg(value_name = "KNITPROFILE")]
    file: PathBuf,
    /// Do not ask whether the server can be reached
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    no_check: bool,
}

impl Init {
    /// Stores the profile first, so that the folder never names one that is not there.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let profile = profile_store::read_knitprofile(&self.file)?;
        let here = current_folder()?;
        let file = here.join(PROJECT_FILE);
        let name = match project.named_profile() {
            Some(named) => named.what,
            // One in a folder above is of another project, whose profile stays as it is.
            None if file.is_file() => name_in(&file)?,
            None => here.display().to_string(),
        };
        profile_store::check_name(&name)?;
        let store = project.store_path()?;
        let replaced = ProfileStore::insert(&store, &name, &profile)?;
        write_project_file(&file, &name)?;
        let verb = if replaced { "replaced" } else { "registered" };
        note(&format!("{verb} the profile \"{name}\" in {} for {}", store.display(), profile.api_root));
        if !self.no_check {
            warn_unless_reached(Found { name, rule: Rule::File(file), store, profile }).await;
        }
        Ok(ExitCode::Ok)
    }
}

/// Lets a folder, and those below, use the profile of that name.
pub fn write_project_file(file: &Path, name: &str) -> Result<(), Failure> {
    replace::private_file(file, name.as_bytes())
        .map_err(|e| Failure::new(format!("cannot write {}", file.display())).why(e))
}

/// What is registered stays so: the server may be down today, or reached only from elsewhere.
async fn warn_unless_reached(found: Found) {
    let warn = |failure: &dyn std::fmt::Display| note(&format!("warning: {failure}"));
    let server = match Server::of(found) {
        Ok(server) => server,
        Err(failure) => return warn(&failure),
    };
    let what = "the profile is registered, but its server cannot be asked";
    match tokio::time::timeout(PATIENCE, server.client.server()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => warn(&server.failed(what, &error)),
        Err(_) => warn(&Failure::new(what).why(format!(
            "{} has not answered for {} s",
            server.client.root(),
            PATIENCE.as_secs()
        ))),
    }
}

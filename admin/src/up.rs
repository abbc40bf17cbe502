//! `knitctl up`: starts the server of an installation, and makes its user able to work at once.

use crate::place::{Place, failure, span};
use knit_api::profile::Profile;
use knit_cli::profile_store::{self, ProfileStore};
use knit_cli::terminal::{ExitCode, Failure, note};
use knit_installer::caller::Caller;
use knit_installer::embedded;
use knit_installer::folder::Folder;
use knit_installer::record::{Wanted, WorkerNetwork};
use std::path::PathBuf;
use std::time::Duration;

/// Name under which the user's profile store knows the embedded installation.
const PROFILE: &str = "local";

/// Start the server, making the installation if there is none.
///
/// The server listens on this machine alone. What is not given stays as it was at the last `up`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # For everyday use
  sudo knitctl up

  # Beside it, to try something
  sudo knitctl up --dir /tmp/trial --port 0 --registry-port 0 --no-register")]
pub(crate) struct Up {
    #[command(flatten)]
    place: Place,
    /// Port of the API; 0 picks a free one [default: the one of last time, at first 30803]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Port of the image registry; 0 picks a free one [default: the one of last time, at first 30503]
    #[arg(long, value_name = "PORT")]
    registry_port: Option<u16>,
    /// Let everyone on this machine in without a token: for clients that know none
    #[arg(long, overrides_with = "auth")]
    no_auth: bool,
    /// Ask for the token again after --no-auth
    #[arg(long, overrides_with = "no_auth")]
    auth: bool,
    /// Leave the user's profile store alone
    #[arg(long)]
    no_register: bool,
    /// What the containers of Runs see of the network: nothing, or all that this machine sees
    #[arg(long, value_name = "NETWORK", value_enum)]
    worker_network: Option<Network>,
    /// How long containers may take to end when the server stops, such as 10s or 1m
    #[arg(long, value_name = "TIME", value_parser = span)]
    grace: Option<Duration>,
    /// The server's program [default: knitd beside knitctl, then on PATH]
    #[arg(long, value_name = "PATH")]
    knitd: Option<PathBuf>,
}

/// Network of workers as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    /// A private network with only a loopback device
    None,
    /// The network of this machine
    Host,
}

impl Up {
    /// Brings the server up, or says that it runs.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let caller = Caller::find();
        let folder = self.place.folder(&caller)?;
        let up = embedded::up(&folder, &caller, &self.wanted(), self.knitd.as_deref()).map_err(failure)?;
        let registered = if self.no_register { None } else { Some(register(&caller, &up.profile)?) };
        if up.started {
            note(&format!("Knit is up in {}.", folder.root().display()));
        } else {
            note(&format!("Knit runs already in {}; nothing was changed.", folder.root().display()));
            for difference in &up.differences {
                note(&format!("  It is set otherwise: {difference}."));
            }
            if !up.differences.is_empty() {
                let flag = self.place.flag();
                note(&format!("  To change that: `knitctl down{flag}`, then this command again."));
            }
        }
        note(&format!("  API       {}", up.profile.api_root));
        note(&format!("  registry  {}", up.server.registry));
        say_how_to_use(&folder, registered);
        Ok(ExitCode::Ok)
    }

    fn wanted(&self) -> Wanted {
        let auth = match (self.auth, self.no_auth) {
            (false, false) => None,
            (auth, _) => Some(auth),
        };
        let worker_network = self.worker_network.map(|network| match network {
            Network::None => WorkerNetwork::None,
            Network::Host => WorkerNetwork::Host,
        });
        Wanted { port: self.port, registry_port: self.registry_port, auth, worker_network, grace: self.grace }
    }
}

/// Whether the profile is the one that is used where no project names one.
enum Registered {
    Current,
    Beside { current: String },
}

/// Puts the profile into the caller's store with the caller's rights, and makes it current if none is.
fn register(caller: &Caller, profile: &Profile) -> Result<Registered, Failure> {
    let home = caller.home().ok_or_else(|| {
        Failure::new("cannot register the profile")
            .why("there is no home folder")
            .advice("set HOME, or say --no-register")
    })?;
    let store = home.join(".knit").join("profile");
    caller.acting(|| {
        if ProfileStore::load(&store)?.get(PROFILE) != Some(profile) {
            ProfileStore::insert(&store, PROFILE, profile)?;
        }
        match profile_store::current(&store)? {
            None => profile_store::set_current(&store, PROFILE).map(|()| Registered::Current),
            Some(current) if current == PROFILE => Ok(Registered::Current),
            Some(current) => Ok(Registered::Beside { current }),
        }
    })
}

fn say_how_to_use(folder: &Folder, registered: Option<Registered>) {
    let handout = folder.knitprofile();
    note(&format!("  handout   {}", handout.display()));
    match registered {
        Some(Registered::Current) => note("`knit` works from here at once, for instance: knit data find"),
        Some(Registered::Beside { current }) => note(&format!(
            "The current profile stays \"{current}\"; say `knit --profile {PROFILE} ...` to use this server."
        )),
        None => note(&format!("To use it from a project's folder: knit init {}", handout.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        up: Up,
    }

    #[test]
    fn the_last_word_on_tokens_counts_and_silence_leaves_them_as_they_are() {
        for (line, auth) in [
            ("up", None),
            ("up --no-auth", Some(false)),
            ("up --auth", Some(true)),
            ("up --no-auth --auth", Some(true)),
            ("up --auth --no-auth", Some(false)),
        ] {
            let line = Line::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(line.up.wanted().auth, auth);
        }
    }
}

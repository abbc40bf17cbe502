//! `knitctl down`: stops the server of an installation; the profile and everything else stays.

use crate::place::{Place, failure, span};
use knit_cli::terminal::{ExitCode, Failure, note};
use knit_installer::caller::Caller;
use knit_installer::embedded;
use std::time::Duration;

/// Stop the server.
///
/// No new work is begun, containers get their grace and then end, and their Runs are put back: they
/// start anew at the next `knitctl up`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Nothing is deleted: the next `knitctl up` goes on from here.")]
pub(crate) struct Down {
    #[command(flatten)]
    place: Place,
    /// How long containers may take to end, such as 10s or 1m [default: what was given to `up`]
    #[arg(long, value_name = "TIME", value_parser = span)]
    grace: Option<Duration>,
}

impl Down {
    /// Takes the server down, or says that none runs.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let folder = self.place.folder(&Caller::find())?;
        match embedded::down(&folder, self.grace).map_err(failure)? {
            embedded::Down::NothingRan => note(&format!("No Knit runs in {}.", folder.root().display())),
            embedded::Down::Stopped { put_back } => {
                note(&format!("Knit in {} has stopped.", folder.root().display()));
                if put_back.is_empty() {
                    note("No Run was under way.");
                } else {
                    note(&format!(
                        "{} under way, put back to start anew at the next `knitctl up`:",
                        count(put_back.len())
                    ));
                    for run in put_back {
                        note(&format!("  {}  {}", run.run, run.image));
                    }
                }
            }
        }
        Ok(ExitCode::Ok)
    }
}

fn count(runs: usize) -> String {
    if runs == 1 { "1 Run was".to_owned() } else { format!("{runs} Runs were") }
}

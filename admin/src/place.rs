//! What all commands on an embedded installation share: where it is, and how its problems are said.

use knit_api::time;
use knit_cli::terminal::{ExitCode, Failure};
use knit_installer::caller::Caller;
use knit_installer::folder::Folder;
use knit_installer::{Kind, Problem};
use std::path::PathBuf;
use std::time::Duration;

/// `--dir`, to be flattened into commands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// Folder of the installation [default: knit in the user's data directory, ~/.local/share/knit]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    /// The folder that is meant.
    pub(crate) fn folder(&self, caller: &Caller) -> Result<Folder, Failure> {
        let root = self.dir.clone().or_else(|| caller.default_folder()).ok_or_else(|| {
            Failure::usage("cannot tell where the installation is")
                .why("there is no home folder")
                .advice("set HOME, or say --dir DIR")
        })?;
        Folder::at(&root).map_err(failure)
    }

    /// How to name this installation to another `knitctl` command; empty for the default one.
    pub(crate) fn flag(&self) -> String {
        self.dir.as_ref().map_or_else(String::new, |dir| format!(" --dir {}", dir.display()))
    }
}

/// A problem with an installation as the command line says it.
pub(crate) fn failure(problem: Problem) -> Failure {
    let exit = match problem.kind {
        Kind::Failed => ExitCode::Failure,
        Kind::Usage => ExitCode::Usage,
        Kind::NotAllowed => ExitCode::NotAuthorised,
        Kind::NotFound => ExitCode::NotFound,
        Kind::Conflict => ExitCode::Conflict,
        Kind::TimedOut => ExitCode::TimedOut,
    };
    Failure::new(problem.what).advice(problem.advice).exit(exit)
}

/// Longest grace, so that sums of times stay small.
const LONGEST: Duration = Duration::from_hours(24);

/// Reads a span of time as `10s`, `500ms` or `1m30s`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "write a time such as 10s, 500ms or 1m30s, up to 24h".to_owned();
    let micros = text.parse::<time::Duration>().map_err(|_| wrong())?.micros();
    let span = Duration::from_micros(u64::try_from(micros).map_err(|_| wrong())?);
    if span > LONGEST { Err(wrong()) } else { Ok(span) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_unit() {
        assert_eq!(span("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(span("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("0"), Ok(Duration::ZERO));
        for wrong in ["", "10", "-1s", "25h", "ten", "9999999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}

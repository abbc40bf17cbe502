//! `knit run stop`.

use crate::args;
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, TableOutput};
use knit_api::id::RunId;

/// Stop a Run.
///
/// What it has made so far is kept as its result; with --fail it counts as failed instead.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Enough: keep what it has made so far
  knit run stop 0b1c2d3e

  # Something is wrong: let it fail
  knit run stop --fail 0b1c2d3e")]
pub struct Stop {
    /// Let the Run fail: what it has made cannot be used
    #[arg(short = 'x', long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    fail: bool,
    /// Id of the Run, or its beginning
    #[arg(value_name = "RUN_ID")]
    id: RunId,
    #[command(flatten)]
    output: TableOutput,
}

impl Stop {
    /// Asks for it, and prints the Run as it is then.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        let run = server
            .by_id(&self.id, async |id| server.client.stop_run(id, self.fail).await)
            .await
            .map_err(|e| server.failed(format!("cannot stop the Run {}", self.id), &e))?;
        super::print(&run, look)?;
        Ok(ExitCode::Ok)
    }
}

//! `knit run rm`.

use super::impact;
use crate::args;
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Output, note};
use knit_api::id::RunId;
use knit_api::impact::Deed;

/// Delete a Run and the Data it made.
///
/// Only a Run that is over, and whose Data no other Run uses, can be deleted. The same combination of Data is not run
/// again by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Delete a Run, its outputs and its log
  knit run rm 0b1c2d3e")]
pub struct Rm {
    /// Only tell what deleting it would come to and who would be in the way, and end as deleting would
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    impact: bool,
    /// Id of the Run, or its beginning
    #[arg(value_name = "RUN_ID")]
    id: RunId,
    #[command(flatten)]
    output: Output,
}

impl Rm {
    /// Asks for it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        if self.impact {
            return impact::foresee(&server, &self.id, Deed::Rm, self.output.format).await;
        }
        let id = server
            .by_id(&self.id, async |id| server.client.remove_run(id).await.map(|()| id.clone()))
            .await
            .map_err(|e| server.failed(format!("cannot delete the Run {}", self.id), &e))?;
        note(&format!("deleted the Run {id}"));
        Ok(ExitCode::Ok)
    }
}

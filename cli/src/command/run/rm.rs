//! `knit run rm`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, note};
use knit_api::id::RunId;

/// Delete a Run and the Data it made: the way to delete Data. Only a Run that is over, and whose Data
/// no other Run uses, can be deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Deleting the Run is the way to delete Data. Only a Run that is over, and whose Data no other Run uses, can be \
deleted. The same combination of Data is not run again by itself.

Examples:
  # Delete a Run, its outputs and its log
  knit run rm 0b1c2d3e")]
pub struct Rm {
    /// Id of the Run, or its beginning
    #[arg(value_name = "RUN_ID")]
    id: RunId,
}

impl Rm {
    /// Asks for it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let id = server
            .by_id(&self.id, async |id| server.client.remove_run(id).await.map(|()| id.clone()))
            .await
            .map_err(|e| server.failed(format!("cannot delete the Run {}", self.id), &e))?;
        note(&format!("deleted the Run {id}"));
        Ok(ExitCode::Ok)
    }
}

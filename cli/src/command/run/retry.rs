//! `knit run retry`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, note};
use knit_api::id::RunId;

/// Execute a Run again that is done or failed. What it had made is replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A Run whose Data other Runs use already cannot be executed again.

Examples:
  knit run retry 0b1c2d3e")]
pub struct Retry {
    /// Id of the Run, or its beginning
    #[arg(value_name = "RUN_ID")]
    id: RunId,
}

impl Retry {
    /// Asks for it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let id = server
            .by_id(&self.id, async |id| server.client.retry_run(id).await.map(|()| id.clone()))
            .await
            .map_err(|e| server.failed(format!("cannot retry the Run {}", self.id), &e))?;
        note(&format!("the Run {id} will be executed again"));
        Ok(ExitCode::Ok)
    }
}

//! `knit run retry`.

use super::impact;
use crate::args;
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Output, note};
use knit_api::id::RunId;
use knit_api::impact::Deed;

/// Execute a Run again.
///
/// It must be done or failed, and what it had made is replaced. A Run whose Data other Runs use already cannot be
/// executed again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knit run retry 0b1c2d3e")]
pub struct Retry {
    /// Only tell what retrying it would come to and who would be in the way, and end as retrying would
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    impact: bool,
    /// Id of the Run, or its beginning
    #[arg(value_name = "RUN_ID")]
    id: RunId,
    #[command(flatten)]
    output: Output,
}

impl Retry {
    /// Asks for it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        if self.impact {
            return impact::foresee(&server, &self.id, Deed::Retry, self.output.format).await;
        }
        let id = server
            .by_id(&self.id, async |id| server.client.retry_run(id).await.map(|()| id.clone()))
            .await
            .map_err(|e| server.failed(format!("cannot retry the Run {}", self.id), &e))?;
        note(&format!("the Run {id} will be executed again"));
        Ok(ExitCode::Ok)
    }
}

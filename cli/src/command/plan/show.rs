//! `knit plan show`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, TableOutput};
use knit_api::id::PlanId;

/// Print one Plan.
///
/// JSON and YAML also name the Plans that feed it and those that it feeds.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # By the beginning of its id, or by its name
  knit plan show 0b1c2d3e
  knit plan show name=train

  # With its neighbours, for a script
  knit plan show 0b1c2d3e -o json")]
pub struct PlanShow {
    /// Id of the Plan, its beginning, or its name
    #[arg(value_name = "PLAN_ID")]
    id: PlanId,
    #[command(flatten)]
    output: TableOutput,
}

impl PlanShow {
    /// Asks for it, and prints it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        let plan = server
            .by_id(&self.id, async |id| server.client.plan(id).await)
            .await
            .map_err(|e| server.failed(format!("cannot show the Plan {}", self.id), &e))?;
        super::print(&plan, look)?;
        Ok(ExitCode::Ok)
    }
}

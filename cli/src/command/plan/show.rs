//! `knit plan show`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Output};
use knit_api::id::PlanId;

/// Print one Plan, with the Plans that feed it and that it feeds.
#[derive(Debug, clap::Args)]
pub struct PlanShow {
    /// The Plan
    #[arg(value_name = "PLAN_ID")]
    id: PlanId,
    #[command(flatten)]
    output: Output,
}

impl PlanShow {
    /// Asks for it, and prints it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let plan = server
            .client
            .plan(&self.id)
            .await
            .map_err(|e| server.failed(format!("cannot show the Plan {}", self.id), &e))?;
        super::print(&plan, self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

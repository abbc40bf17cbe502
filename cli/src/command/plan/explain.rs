//! `knit plan explain`.

use crate::explained::{self, show};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Output};
use knit_api::id::PlanId;
use knit_api::server::capability;

/// Tell why a Plan has the Runs that it has, or none.
///
/// For each input: which Data fit, and which come nearest to fitting and what they lack: tags that are missing, tags
/// with another value, a Run that failed. For the Plan: whether it is active, and its Runs by status.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Why is nothing run?
  knit plan explain 0b1c2d3e")]
pub struct Explain {
    /// Id of the Plan, its beginning, or its name
    #[arg(value_name = "PLAN_ID")]
    id: PlanId,
    #[command(flatten)]
    output: Output,
}

impl Explain {
    /// Asks, and prints the answer.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        server.requires(capability::EXPLAIN, "explain a Plan").await?;
        let asked = server.by_id(&self.id, async |id| server.client.explain_plan(id).await).await;
        let plan = asked.map_err(|e| server.failed(format!("cannot explain the Plan {}", self.id), &e))?;
        show(&plan, || explained::plan(&plan), &[plan.id.to_string()], self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

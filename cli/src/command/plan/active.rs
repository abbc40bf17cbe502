//! `knit plan active`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, TableOutput};
use knit_api::id::PlanId;

/// Let a Plan make new Runs, or stop it from doing so.
///
/// Runs that are under way go on. Those that wait, and those for Data that come meanwhile, are parked (deactivated)
/// until the Plan is active again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # No new Runs for now
  knit plan active no 0b1c2d3e")]
pub struct Active {
    /// Whether it makes new Runs
    #[arg(value_name = "yes|no", value_parser = mode, action = clap::ArgAction::Set)]
    mode: bool,
    /// Id of the Plan, its beginning, or its name
    #[arg(value_name = "PLAN_ID")]
    id: PlanId,
    #[command(flatten)]
    output: TableOutput,
}

fn mode(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

impl Active {
    /// Sets it, and prints the Plan.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        let verb = if self.mode { "activate" } else { "deactivate" };
        let plan = server
            .by_id(&self.id, async |id| server.client.set_plan_active(id, self.mode).await)
            .await
            .map_err(|e| server.failed(format!("cannot {verb} the Plan {}", self.id), &e))?;
        super::print(&plan, look)?;
        Ok(ExitCode::Ok)
    }
}

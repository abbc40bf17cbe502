//! `knit plan annotate`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, TableOutput};
use knit_api::id::PlanId;
use knit_api::plan::{Annotation, AnnotationChange};

/// Add and remove notes on a Plan.
///
/// Notes are pairs KEY=VALUE for people and scripts. Knit acts on none of them, but name=NAME gives the Plan a name that
/// stands wherever a PLAN_ID is asked for. A key may have several values. First all removals are done, then all
/// additions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Give it a name, and use that
  knit plan annotate --add name=train 0b1c2d3e
  knit plan show name=train")]
pub struct Annotate {
    /// Add this pair; it may be there already
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    add: Vec<Annotation>,
    /// Remove this pair; it need not be there
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    remove: Vec<Annotation>,
    /// Remove all pairs with this key
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    remove_key: Vec<String>,
    /// Id of the Plan, its beginning, or its name
    #[arg(value_name = "PLAN_ID")]
    id: PlanId,
    #[command(flatten)]
    output: TableOutput,
}

impl Annotate {
    /// Sends the change, and prints the Plan after it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let mut change = AnnotationChange { add: self.add, remove: self.remove, remove_key: self.remove_key };
        change.add.sort();
        change.remove.sort();
        let server = project.server()?;
        let plan = server
            .by_id(&self.id, async |id| server.client.annotate_plan(id, &change).await)
            .await
            .map_err(|e| server.failed(format!("cannot annotate the Plan {}", self.id), &e))?;
        super::print(&plan, look)?;
        Ok(ExitCode::Ok)
    }
}

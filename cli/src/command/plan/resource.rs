//! `knit plan resource`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, TableOutput, note};
use knit_api::id::PlanId;
use knit_api::plan::ResourceChange;
use knit_api::quantity::{Quantity, QuantityError};

/// Change how much cpu, memory and the like the Runs of a Plan get: those that start from now on.
#[derive(Debug, clap::Args)]
pub struct Resource {
    /// Ask for this much of a type: cpu=500m, memory=2Gi, nvidia.com/gpu=1
    #[arg(short, long, value_name = "TYPE=QUANTITY", value_parser = amount, allow_hyphen_values = true)]
    set: Vec<(String, Quantity)>,
    /// Ask for nothing of this type any more
    #[arg(short, long, value_name = "TYPE", allow_hyphen_values = true)]
    unset: Vec<String>,
    /// The Plan
    #[arg(value_name = "PLAN_ID")]
    id: PlanId,
    #[command(flatten)]
    output: TableOutput,
}

fn amount(text: &str) -> Result<(String, Quantity), String> {
    let (kind, amount) = text.split_once('=').ok_or_else(|| format!("\"{text}\" has no \"=\": write TYPE=QUANTITY"))?;
    let amount: Quantity = amount.trim().parse().map_err(|e: QuantityError| e.to_string())?;
    if amount.is_negative() {
        return Err(format!("{amount} is negative: nothing can run on that"));
    }
    Ok((kind.trim().to_owned(), amount))
}

impl Resource {
    /// Sends the change, and prints the Plan after it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        if self.set.is_empty() && self.unset.is_empty() {
            note("nothing to do: name what to change with --set or --unset");
            return Ok(ExitCode::Ok);
        }
        let change = ResourceChange { set: self.set.into_iter().collect(), unset: self.unset };
        let server = project.server()?;
        let plan = server
            .by_id(&self.id, async |id| server.client.change_plan_resources(id, &change).await)
            .await
            .map_err(|e| server.failed(format!("cannot change the resources of the Plan {}", self.id), &e))?;
        super::print(&plan, look)?;
        Ok(ExitCode::Ok)
    }
}

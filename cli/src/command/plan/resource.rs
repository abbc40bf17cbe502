//! `knit plan resource`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, TableOutput, note};
use knit_api::id::PlanId;
use knit_api::plan::ResourceChange;
use knit_api::quantity::{Quantity, QuantityError};

/// Change how much cpu, memory and the like a Plan's Runs get.
///
/// Runs that start from now on get it, also those that wait because they asked for too much. Of a type that is set
/// twice the last amount counts; one that is both set and unset ends up unset. Where a Plan says nothing of cpu and
/// memory, its Runs count as asking for 1 and 1Gi.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # More memory, and no GPU
  knit plan resource --set memory=4Gi --unset nvidia.com/gpu 0b1c2d3e")]
pub struct Resource {
    /// Ask for this much of a type: cpu=500m, memory=2Gi, nvidia.com/gpu=1
    #[arg(short, long, value_name = "TYPE=QUANTITY", value_parser = amount, allow_hyphen_values = true)]
    set: Vec<(String, Quantity)>,
    /// Ask for nothing of this type any more
    #[arg(short, long, value_name = "TYPE", allow_hyphen_values = true)]
    unset: Vec<String>,
    /// Id of the Plan, its beginning, or its name
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

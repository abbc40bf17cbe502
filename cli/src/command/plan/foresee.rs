//! `knit plan apply --dry-run`.

use crate::explained::{self, show};
use crate::project::Server;
use crate::terminal::{ExitCode, Failure, Format};
use knit_api::plan::PlanSpec;
use knit_api::server::capability;

/// Asks what registering the Plan of the file `name` would come to, prints it, and ends as registering it would.
pub(super) async fn foresee(
    server: &Server,
    name: &str,
    spec: &PlanSpec,
    if_absent: bool,
    format: Option<Format>,
) -> Result<ExitCode, Failure> {
    server.requires(capability::EXPLAIN, "tell beforehand what a Plan would come to").await?;
    let plan = server
        .client
        .foresee_plan(spec)
        .await
        .map_err(|e| server.failed(format!("the Plan of {name} would not be registered"), &e))?;
    let names: Vec<String> = plan.equal.iter().map(ToString::to_string).collect();
    show(&plan, || explained::foreseen(name, &plan), &names, format)?;
    let refused = Failure::new(format!("the Plan of {name} would not be registered")).exit(ExitCode::Conflict);
    match (&plan.equal, &plan.cycle) {
        (Some(_), _) if if_absent => Ok(ExitCode::Ok),
        (Some(id), _) => Err(refused.why(format!("an equal Plan is there already: {id}"))),
        (None, Some(through)) => {
            let through: Vec<String> = through.iter().map(ToString::to_string).collect();
            let why = if through.is_empty() {
                "its outputs would feed its own inputs".to_owned()
            } else {
                format!("it would feed itself, through these Plans: {}", through.join(", "))
            };
            let advice = "give the outputs or the log a tag that none of these Plans' inputs ask for";
            Err(refused.why(why).advice(advice))
        }
        (None, None) => Ok(ExitCode::Ok),
    }
}

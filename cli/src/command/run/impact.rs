//! `--impact` on `knit run rm` and `knit run retry`.

use crate::explained::{self, show};
use crate::project::Server;
use crate::terminal::{ExitCode, Failure, Format};
use knit_api::id::RunId;
use knit_api::impact::{Deed, RunImpact};
use knit_api::server::capability;

/// Asks what a deed on a Run would come to, prints it, and ends as the deed would.
pub async fn foresee(server: &Server, id: &RunId, of: Deed, format: Option<Format>) -> Result<ExitCode, Failure> {
    server.requires(capability::IMPACT, "tell beforehand what a change would come to").await?;
    let asked = server.by_id(id, async |id| server.client.run_impact(id, of).await).await;
    let impact = asked.map_err(|e| server.failed(format!("cannot tell what would become of the Run {id}"), &e))?;
    show(&impact, || explained::run_impact(&impact), &going(&impact), format)?;
    match &impact.refused {
        None => Ok(ExitCode::Ok),
        Some(refused) => Err(Failure::new(format!("{} the Run {} would be refused", deed(of), impact.run))
            .why(&refused.reason)
            .exit(ExitCode::Conflict)),
    }
}

fn deed(of: Deed) -> &'static str {
    match of {
        Deed::Rm => "deleting",
        Deed::Retry => "retrying",
    }
}

/// The ids of the Data that would go.
pub fn going(impact: &RunImpact) -> Vec<String> {
    impact.data.iter().map(|data| data.id.to_string()).collect()
}

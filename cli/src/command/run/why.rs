//! `knit run why`.

use crate::explained::{self, show};
use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, Output};
use knit_api::client::ClientError;
use knit_api::id::RunId;
use knit_api::server::capability;
use knit_api::why::{self, Why};

/// Tell why a Run stands where it stands, and what to do about it.
///
/// Why it waits, or what made it fail, each with a code for scripts; and the end of its log, when it has one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # What is wrong with it?
  knit run why 0b1c2d3e")]
pub struct RunWhy {
    /// Id of the Run, or its beginning
    #[arg(value_name = "RUN_ID")]
    id: RunId,
    #[command(flatten)]
    output: Output,
}

impl RunWhy {
    /// Asks, and prints the answer.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let asked = server.by_id(&self.id, async |id| ask(&server, id).await).await;
        let why = asked.map_err(|e| server.failed(format!("cannot tell why of the Run {}", self.id), &e))?;
        show(&why, || explained::why(&why), &[why.run.id.to_string()], self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

/// An original server explains nothing: what the Run tells of itself must do.
async fn ask(server: &Server, id: &RunId) -> Result<Why, ClientError> {
    if server.client.can(capability::EXPLAIN).await? {
        return server.client.why_run(id).await;
    }
    let run = server.client.run(id).await?;
    Ok(Why { causes: why::at_a_glance(&run), run: run.summary, log_tail: None })
}

//! `knit data explain`.

use crate::explained::{self, show};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Output};
use knit_api::id::DataId;
use knit_api::server::capability;

/// Tell which inputs of Plans a Data fits, and what it lacks for others.
///
/// The others are those that it comes nearest to fitting, each with the tags that are missing or have another value, or
/// with what else keeps the Data from being used.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Why is this dataset not used?
  knit data explain 0b1c2d3e")]
pub struct Explain {
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
    #[command(flatten)]
    output: Output,
}

impl Explain {
    /// Asks, and prints the answer.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        server.requires(capability::EXPLAIN, "explain a Data").await?;
        let asked = server.by_id(&self.id, async |id| server.client.explain_data(id).await).await;
        let data = asked.map_err(|e| server.failed(format!("cannot explain the Data {}", self.id), &e))?;
        show(&data, || explained::data(&data), &[data.data.id.to_string()], self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

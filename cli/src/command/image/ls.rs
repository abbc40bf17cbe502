//! `knit image ls`.

use super::failed;
use crate::image::{Listed, list};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Show, Table, TableOutput};
use serde::Serialize;

/// List the images in the registry.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Names alone
  knit image ls -o name")]
pub struct Ls {
    #[command(flatten)]
    output: TableOutput,
}

#[derive(Serialize)]
struct Line {
    image: String,
    digest: String,
    size: u64,
}

impl Ls {
    /// Asks, and prints a list, which may be empty.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&columns())?;
        let server = project.server()?;
        let registry = server.registry().await?;
        let found = list(&registry, &server.access())
            .await
            .map_err(|e| failed(format!("cannot list the images of {}", registry.host), &e))?;
        let lines: Vec<Line> = found
            .into_iter()
            .map(|Listed { repository, tag, digest, size }| Line { image: format!("{repository}:{tag}"), digest, size })
            .collect();
        Show {
            value: &lines,
            table: &|| table(&lines),
            names: &|| lines.iter().map(|line| line.image.clone()).collect(),
        }
        .print(&look)?;
        Ok(ExitCode::Ok)
    }
}

fn columns() -> Table {
    Table::new().column("IMAGE").whole("SIZE").column("DIGEST").when_empty("No images.")
}

fn table(lines: &[Line]) -> Table {
    let mut table = columns();
    for line in lines {
        table.row([line.image.clone(), indicatif::HumanBytes(line.size).to_string(), line.digest.clone()]);
    }
    table
}

//! `knit data`.

pub mod find;
pub mod lineage;
pub mod pull;
pub mod push;
pub mod tag;

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Format, Show, Table};
use clap::Subcommand;
use knit_api::data::Data;

/// The commands about Data.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register folders or files as Data
    Push(push::Push),
    /// Fetch a Data
    Pull(pull::Pull),
    /// List Data by tags and time
    Find(find::Find),
    /// Add and remove tags of a Data
    Tag(tag::Change),
    /// Draw what a Data was made from, and what was made from it
    ///
    /// A step leads from a Data to the Run that made it, or to each Run that uses it, and on to the other Data of
    /// that Run. Without -u and -d both directions are drawn. The svg needs no Graphviz; dot and json may be of any
    /// size, a tree stops after 1000 lines and a picture is drawn of up to 5000 nodes.
    Lineage(lineage::Lineage),
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Push(command) => command.run(project).await,
            Self::Pull(command) => command.run(project).await,
            Self::Find(command) => command.run(project).await,
            Self::Tag(command) => command.run(project).await,
            Self::Lineage(command) => command.run(project).await,
        }
    }
}

/// Data as a table.
pub fn table(list: &[&Data]) -> Table {
    let mut table = Table::new()
        .whole("ID")
        .column("TAGS")
        .whole("STATE")
        .column("MADE BY")
        .whole("TIME")
        .wide("RUN")
        .wide("USED BY")
        .wide("DIGEST")
        .when_empty("No Data.");
    for data in list {
        let system = |key: &str| data.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
        table.row([
            data.id.to_string(),
            data.user_tags().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            data.transient().unwrap_or("ready").to_owned(),
            data.upstream.run.plan.title(),
            local_time(system(knit_api::tag::TIMESTAMP)),
            data.upstream.run.id.to_string(),
            data.downstreams.len().to_string(),
            data.digest.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// A time as the wire has it, in the zone of this machine and without its offset.
fn local_time(text: Option<&str>) -> String {
    let Some(text) = text else { return String::new() };
    match knit_api::time::Timestamp::parse_strict(text) {
        Ok(time) => crate::command::run::shown_time(time),
        Err(_) => text.to_owned(),
    }
}

/// Prints one Data.
pub fn print(data: &Data, format: Option<Format>) -> Result<(), Failure> {
    Show { value: data, table: &|| table(&[data]), names: &|| vec![data.id.to_string()] }.print(format)
}

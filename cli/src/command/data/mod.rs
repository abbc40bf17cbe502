//! `knit data`.

pub mod explain;
pub mod find;
pub mod lineage;
pub mod pull;
pub mod push;
pub mod rm;
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
    Lineage(lineage::Lineage),
    /// Tell which inputs of Plans a Data fits, and what it lacks for others
    Explain(explain::Explain),
    /// Delete Data, with the Runs that made them
    ///
    /// Data go with the Run that made them and with everything else that this Run made. An upload is erased. A Run of a
    /// Plan is kept as deleted, so that its combination of Data is not run again (to make its outputs anew: knit run
    /// retry). Data that another Run uses cannot be deleted before that Run.
    ///
    /// On a terminal this asks first, and --yes answers. Without a terminal it does what was asked for; but where Data
    /// would go that were not named, other than the log of the same Run, it does so only with --yes.
    Rm(rm::Rm),
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
            Self::Explain(command) => command.run(project).await,
            Self::Rm(command) => command.run(project).await,
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

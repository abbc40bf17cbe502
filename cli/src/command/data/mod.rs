//! `knit data`.

pub mod cat;
pub mod diff;
pub mod du;
pub mod find;
pub mod lineage;
pub mod ls;
pub mod pull;
pub mod push;
pub mod tag;
pub mod verify;

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
    /// List what is in a Data
    ///
    /// Nothing of it is fetched. Without PATH, its root is listed. Paths are printed as the other commands take them, from
    /// the root of the Data on; what could steer a terminal is escaped, and exact in JSON.
    Ls(ls::Ls),
    /// Print one file of a Data
    ///
    /// The others are not fetched. The whole file is compared with what was registered: the command ends with 8 when
    /// it differs. On a terminal, what could steer it is replaced.
    Cat(cat::Cat),
    /// Sum up the sizes of files in a Data
    ///
    /// Folder by folder, each with all that is in it, without fetching the Data. Links count for nothing, hard links as
    /// files of their own.
    Du(du::Du),
    /// Show how two Data differ
    ///
    /// Neither is fetched. A line begins with + for what only B has, - for what only A has, ~ for what differs in kind,
    /// content or mode.
    Diff(diff::Diff),
    /// Compare a Data, or a folder, with what was registered
    ///
    /// The server reads the Data again, every byte of it; with FOLDER, that folder on this machine is read instead.
    /// What differs is named with the way in which it does: missing, extra, kind, unreadable, size, content or mode.
    /// The command ends with 8 when anything differs.
    Verify(verify::Verify),
    /// Draw what a Data was made from, and what was made from it
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
            Self::Ls(command) => command.run(project).await,
            Self::Cat(command) => command.run(project).await,
            Self::Du(command) => command.run(project).await,
            Self::Diff(command) => command.run(project).await,
            Self::Verify(command) => command.run(project).await,
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

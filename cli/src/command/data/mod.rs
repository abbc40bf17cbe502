//! `knit data`.

pub mod cat;
pub mod diff;
pub mod du;
pub mod explain;
pub mod find;
pub mod lineage;
pub mod ls;
pub mod pull;
pub mod push;
pub mod rm;
pub mod tag;
pub mod verify;

use crate::project::Project;
use crate::terminal::{Cell, ExitCode, Failure, Look, Show, Table, Tone};
use clap::Subcommand;
use knit_api::data::Data;
use knit_api::tag::{PROCESSING, TIMESTAMP};
use knit_api::time::Timestamp;

/// The commands about Data.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A Data is a folder with tags (KEY:VALUE). Its content never changes; its tags may. Plans choose what they read \
by tags. Where a DATA_ID is asked for, its beginning does.")]
#[allow(missing_docs, reason = "their own words are their help, long and short")]
pub enum Command {
    Push(push::Push),
    Pull(pull::Pull),
    Find(find::Find),
    Tag(tag::Change),
    Ls(ls::Ls),
    Cat(cat::Cat),
    Du(du::Du),
    Diff(diff::Diff),
    Verify(verify::Verify),
    Lineage(lineage::Lineage),
    Explain(explain::Explain),
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
            Self::Ls(command) => command.run(project).await,
            Self::Cat(command) => command.run(project).await,
            Self::Du(command) => command.run(project).await,
            Self::Diff(command) => command.run(project).await,
            Self::Verify(command) => command.run(project).await,
            Self::Lineage(command) => command.run(project).await,
            Self::Explain(command) => command.run(project).await,
            Self::Rm(command) => command.run(project).await,
        }
    }
}

/// The columns of Data, without rows.
pub fn columns() -> Table {
    Table::new()
        .whole("ID")
        .column("TAGS")
        .whole("STATE")
        .spare("MADE BY")
        .whole("TIME")
        .wide("RUN")
        .wide("USED BY")
        .wide("DIGEST")
        .when_empty("No Data.")
}

/// One Data in these columns.
pub fn row(data: &Data) -> Vec<Cell> {
    let tone = match data.transient() {
        None => Tone::Good,
        Some(PROCESSING) => Tone::Busy,
        Some(_) => Tone::Bad,
    };
    let time = data.tags.iter().find(|tag| tag.key == TIMESTAMP).map(|tag| tag.value.as_str());
    vec![
        data.id.to_string().into(),
        data.user_tags().map(ToString::to_string).collect::<Vec<_>>().join("\n").into(),
        Cell::toned(data.transient().unwrap_or("ready"), tone),
        data.upstream.run.plan.title().into(),
        match Timestamp::parse_strict(time.unwrap_or_default()) {
            Ok(time) => Cell::time(time),
            Err(_) => time.unwrap_or_default().into(),
        },
        data.upstream.run.id.to_string().into(),
        data.downstreams.len().to_string().into(),
        data.digest.clone().unwrap_or_default().into(),
    ]
}

/// Data as a table.
pub fn table(list: &[&Data]) -> Table {
    let mut table = columns();
    for data in list {
        table.row(row(data));
    }
    table
}

/// Prints one Data.
pub fn print(data: &Data, look: impl Into<Look>) -> Result<(), Failure> {
    Show { value: data, table: &|| table(&[data]), names: &|| vec![data.id.to_string()] }.print_one(look)
}

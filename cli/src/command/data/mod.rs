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
    ///
    /// A step leads from a Data to the Run that made it, or to each Run that uses it, and on to the other Data of
    /// that Run. Without -u and -d both directions are drawn. The svg needs no Graphviz; dot and json may be of any
    /// size, a tree stops after 1000 lines and a picture is drawn of up to 5000 nodes.
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

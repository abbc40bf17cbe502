//! `knit run`.

pub mod find;
pub mod impact;
pub mod retry;
pub mod rm;
pub mod show;
pub mod stop;
pub mod top;
pub mod wait;
pub mod why;

use crate::project::Project;
use crate::terminal::{Cell, ExitCode, Failure, Look, Show, Table, Tone};
use clap::Subcommand;
use knit_api::run::{Assignment, Run, RunStatus};

/// The commands about Runs.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A Run is one execution of a Plan with one combination of Data. Its life: waiting, ready, starting, running, \
completing, done; or aborting, failed. deactivated: its Plan is inactive. Where a RUN_ID is asked for, its \
beginning does.")]
#[allow(missing_docs, reason = "their own words are their help, long and short")]
pub enum Command {
    Find(find::Find),
    Show(show::RunShow),
    Stop(stop::Stop),
    Retry(retry::Retry),
    Rm(rm::Rm),
    Wait(wait::Wait),
    Top(top::Top),
    Why(why::RunWhy),
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Find(command) => command.run(project).await,
            Self::Show(command) => command.run(project).await,
            Self::Stop(command) => command.run(project).await,
            Self::Retry(command) => command.run(project).await,
            Self::Rm(command) => command.run(project).await,
            Self::Wait(command) => command.run(project).await,
            Self::Top(command) => command.run(project).await,
            Self::Why(command) => command.run(project).await,
        }
    }
}

/// The columns of Runs, without rows.
pub fn columns() -> Table {
    Table::new()
        .whole("ID")
        .whole("STATUS")
        .column("PLAN")
        .whole("SINCE")
        .brief("RESULT")
        .wide("PLAN ID")
        .wide("INPUTS")
        .wide("OUTPUTS")
        .wide("IMAGE DIGEST")
        .when_empty("No Runs.")
}

/// One Run in these columns.
pub fn row(run: &Run) -> Vec<Cell> {
    let points = |assignments: &[Assignment]| {
        assignments.iter().map(|a| format!("{} {}", a.path, a.data).trim_end().to_owned()).collect::<Vec<_>>()
    };
    let mut outputs = points(&run.outputs);
    outputs.extend(run.log.iter().map(|log| format!("(log) {}", log.data)));
    vec![
        run.summary.id.to_string().into(),
        Cell::toned(run.summary.status.as_str(), tone(run.summary.status)),
        run.summary.plan.title().into(),
        Cell::time(run.summary.updated_at),
        result(run).into(),
        run.summary.plan.id.to_string().into(),
        points(&run.inputs).join("\n").into(),
        outputs.join("\n").into(),
        run.image_digest.clone().unwrap_or_default().into(),
    ]
}

/// Runs as a table.
pub fn table(list: &[&Run]) -> Table {
    let mut table = columns();
    for run in list {
        table.row(row(run));
    }
    table
}

/// What a status means to whoever looks over many.
fn tone(status: RunStatus) -> Tone {
    match status {
        RunStatus::Waiting | RunStatus::Ready => Tone::Waiting,
        RunStatus::Starting | RunStatus::Running | RunStatus::Completing => Tone::Busy,
        RunStatus::Aborting | RunStatus::Failed => Tone::Bad,
        RunStatus::Done => Tone::Good,
        RunStatus::Deactivated | RunStatus::Invalidated => Tone::Faint,
    }
}

/// How a Run ended, or what it waits for.
pub fn result(run: &Run) -> String {
    let exit = run.summary.exit.as_ref().map(|exit| match exit.message.as_str() {
        "" => format!("exit code {}", exit.code),
        message => format!("exit code {}: {message}", exit.code),
    });
    [exit, run.reason.clone()].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Prints one Run.
pub fn print(run: &Run, look: impl Into<Look>) -> Result<(), Failure> {
    Show { value: run, table: &|| table(&[run]), names: &|| vec![run.summary.id.to_string()] }.print_one(look)
}

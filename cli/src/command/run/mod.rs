//! `knit run`.

pub mod find;
pub mod impact;
pub mod retry;
pub mod rm;
pub mod show;
pub mod stop;
pub mod wait;
pub mod why;

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Format, Show, Table};
use clap::Subcommand;
use knit_api::run::{Assignment, Run};
use knit_api::time::Timestamp;

/// The commands about Runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List Runs by Plan, Data, status and time
    Find(find::Find),
    /// Print one Run, or its log
    Show(show::RunShow),
    /// Stop a Run
    Stop(stop::Stop),
    /// Execute a Run again
    Retry(retry::Retry),
    /// Delete a Run and what it made
    Rm(rm::Rm),
    /// Wait for the end of a Run, or of all Runs of a Plan
    Wait(wait::Wait),
    /// Tell why a Run stands where it stands, and what to do about it
    ///
    /// Why it waits, or what made it fail, each with a code for scripts; and the end of its log, when it has one.
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
            Self::Why(command) => command.run(project).await,
        }
    }
}

/// Runs as a table.
pub fn table(list: &[&Run]) -> Table {
    let points = |assignments: &[Assignment]| {
        assignments.iter().map(|a| format!("{} {}", a.path, a.data).trim_end().to_owned()).collect::<Vec<_>>()
    };
    let mut table = Table::new()
        .whole("ID")
        .whole("STATUS")
        .column("PLAN")
        .whole("SINCE")
        .column("RESULT")
        .wide("PLAN ID")
        .wide("INPUTS")
        .wide("OUTPUTS")
        .wide("IMAGE DIGEST")
        .when_empty("No Runs.");
    for run in list {
        let mut outputs = points(&run.outputs);
        outputs.extend(run.log.iter().map(|log| format!("(log) {}", log.data)));
        table.row([
            run.summary.id.to_string(),
            run.summary.status.to_string(),
            run.summary.plan.title(),
            shown_time(run.summary.updated_at),
            result(run),
            run.summary.plan.id.to_string(),
            points(&run.inputs).join("\n"),
            outputs.join("\n"),
            run.image_digest.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// How a Run ended, or what it waits for.
pub fn result(run: &Run) -> String {
    let exit = run.summary.exit.as_ref().map(|exit| match exit.message.as_str() {
        "" => format!("exit code {}", exit.code),
        message => format!("exit code {}: {message}", exit.code),
    });
    [exit, run.reason.clone()].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// A time for a person: in the zone of this machine, to the second.
pub fn shown_time(time: Timestamp) -> String {
    let text = time.in_local_zone().to_string();
    match text.get(..19) {
        Some(second) => second.replacen('T', " ", 1),
        None => text,
    }
}

/// Prints one Run.
pub fn print(run: &Run, format: Option<Format>) -> Result<(), Failure> {
    Show { value: run, table: &|| table(&[run]), names: &|| vec![run.summary.id.to_string()] }.print(format)
}

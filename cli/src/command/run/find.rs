//! `knit run find`.

use crate::args;
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, LongOutput, Show, Table, other_than_a_format};
use crate::watch::{self, View};
use knit_api::client::{RunQuery, RunWatch};
use knit_api::id::{DataId, PlanId};
use knit_api::run::{Run, RunStatus};
use knit_api::time::{Duration, Timestamp};
use serde::Serialize;

/// List Runs in the order of their last change. A flag that stands several times asks for any of its
/// values, different flags must all hold.
#[derive(Debug, clap::Args)]
pub struct Find {
    /// Find Runs of this Plan
    #[arg(short, long = "planid", value_name = "PLAN_ID", allow_hyphen_values = true)]
    plans: Vec<PlanId>,
    /// Find Runs that use this Data
    #[arg(short, long = "in-knitid", value_name = "DATA_ID", allow_hyphen_values = true)]
    inputs: Vec<DataId>,
    /// Find Runs that made this Data
    #[arg(short, long = "out-knitid", value_name = "DATA_ID", value_parser = other_than_a_format::<DataId>, allow_hyphen_values = true)]
    outputs: Vec<DataId>,
    /// Find Runs in this status: deactivated, waiting, ready, starting, running, completing, aborting, done, failed
    #[arg(short, long = "status", value_name = "STATUS", value_parser = status, allow_hyphen_values = true)]
    statuses: Vec<RunStatus>,
    /// Find Runs changed from this time on: RFC 3339, or less (2025-02-03, "2025-02-03 04:05")
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_loose, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// Find Runs changed before --since plus this (90s, 1h30m)
    #[arg(long, value_name = "DURATION", requires = "since", allow_hyphen_values = true)]
    duration: Option<Duration>,
    /// Go on after the list: on a terminal the table is replaced in place, elsewhere each change of a Run is one
    /// line of JSON. After a broken connection everything is told again
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set,
          conflicts_with = "since")]
    watch: bool,
    #[command(flatten)]
    output: LongOutput,
}

/// Deleted Runs cannot be asked for.
fn status(text: &str) -> Result<RunStatus, String> {
    match text.parse() {
        Ok(RunStatus::Invalidated) => Err("deleted Runs cannot be found".to_owned()),
        Ok(status) => Ok(status),
        Err(e) => Err(e.to_string()),
    }
}

impl Find {
    /// Asks, and prints a list, which may be empty.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let query = RunQuery {
            plans: self.plans,
            inputs: self.inputs,
            outputs: self.outputs,
            statuses: self.statuses,
            since: self.since,
            duration: self.duration,
        };
        if self.watch {
            let watch = RunWatch { query, ..RunWatch::default() };
            return watch::show_changes(&server, watch, self.output.format, Found).await;
        }
        let found = server.client.find_runs(&query).await.map_err(|e| server.failed("cannot find Runs", &e))?;
        Show {
            value: &found,
            table: &|| super::table(&found.iter().collect::<Vec<_>>()),
            names: &|| found.iter().map(|run| run.summary.id.to_string()).collect(),
        }
        .print(self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

/// Runs as a search finds them, for as long as somebody looks.
struct Found;

impl View for Found {
    async fn learn(&mut self, _: &Run) -> Result<(), Failure> {
        Ok(())
    }

    fn table(&self, runs: &[&Run]) -> Table {
        super::table(runs)
    }

    fn value<'a>(&'a self, run: &'a Run) -> impl Serialize + 'a {
        run
    }
}

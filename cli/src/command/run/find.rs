//! `knit run find`.

use crate::args::{self, Order, count, order};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, LongTableOutput, Pages, Table, other_than_a_format};
use crate::watch::{self, View};
use crate::yaml::nearest;
use futures_util::TryStreamExt as _;
use knit_api::client::{ClientError, Listing, RunQuery, RunWatch};
use knit_api::id::{DataId, PlanId};
use knit_api::run::{Run, RunStatus};
use knit_api::time::{Duration, Timestamp};
use serde::Serialize;

/// List Runs by Plan, Data, status and time.
///
/// In the order of their last change; without conditions, all Runs. A flag that stands several times asks for any of
/// its values; different flags must all hold.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
STATUS is one of \
deactivated, waiting, ready, starting, running, completing, aborting, done, failed.

Examples:
  # What is going on
  knit run find -s starting -s running

  # The ten Runs of a Plan that changed last
  knit run find -p 0b1c2d3e --sort=-updated --limit 10

  # Which Run made this Data?
  knit run find -o dada2d3e")]
pub struct Find {
    /// Of this Plan
    #[arg(short, long = "planid", value_name = "PLAN_ID", allow_hyphen_values = true)]
    plans: Vec<PlanId>,
    /// That use this Data
    #[arg(short, long = "in-knitid", value_name = "DATA_ID", allow_hyphen_values = true)]
    inputs: Vec<DataId>,
    /// That made this Data
    #[arg(short, long = "out-knitid", value_name = "DATA_ID", value_parser = other_than_a_format::<DataId>, allow_hyphen_values = true)]
    outputs: Vec<DataId>,
    /// In this status
    #[arg(short, long = "status", value_name = "STATUS", value_parser = status, allow_hyphen_values = true)]
    statuses: Vec<RunStatus>,
    /// Changed from this time on: 2025-02-03, "2025-02-03 04:05" or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_loose, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// And changed before --since plus this (90s, 1h30m)
    #[arg(long, value_name = "DURATION", value_parser = args::span, requires = "since", allow_hyphen_values = true)]
    duration: Option<Duration>,
    /// Go on after the list: on a terminal the table is replaced in place, elsewhere each change of a Run is one
    /// line of JSON. After a broken connection everything is told again
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set,
          conflicts_with_all = ["since", "sort", "limit"])]
    watch: bool,
    #[command(flatten)]
    output: LongTableOutput,
    /// Order of the list: updated (last changed last) or -updated (last changed first)
    #[arg(long, value_name = "updated|-updated", value_parser = order("updated"), allow_hyphen_values = true)]
    sort: Option<Order>,
    /// Print no more than this many
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    limit: Option<usize>,
}

/// Deleted Runs cannot be asked for.
fn status(text: &str) -> Result<RunStatus, String> {
    match text.parse() {
        Ok(RunStatus::Invalidated) => Err("deleted Runs cannot be asked for".to_owned()),
        Ok(status) => Ok(status),
        Err(e) => Err(match nearest(text, &RunStatus::ALL.map(RunStatus::as_str)) {
            Some(near) => format!("there is no such status of a Run: did you mean {near}?"),
            None => e.to_string(),
        }),
    }
}

impl Find {
    /// Asks, and prints a list as it comes, which may be empty.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        let failed = |e: ClientError| server.failed("cannot find Runs", &e);
        let query = RunQuery {
            plans: server.whole_ids(self.plans).await.map_err(failed)?,
            inputs: server.whole_ids(self.inputs).await.map_err(failed)?,
            outputs: server.whole_ids(self.outputs).await.map_err(failed)?,
            statuses: self.statuses,
            since: self.since,
            duration: self.duration,
        };
        if self.watch {
            let watch = RunWatch { query, ..RunWatch::default() };
            return watch::show_changes(&server, watch, look, Found).await;
        }
        let listing = Listing { reverse: self.sort.unwrap_or_default().reverse, limit: self.limit };
        let pages = server.client.list_runs(query, listing).map_err(failed);
        let name = |run: &Run| run.summary.id.to_string();
        Pages { table: super::columns(), row: super::row, name, limit: self.limit }.print(&look, pages).await?;
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

//! `knit run find`.

use crate::args::{Order, count, order};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, LongTableOutput, Pages, other_than_a_format};
use crate::yaml::nearest;
use futures_util::TryStreamExt as _;
use knit_api::client::{ClientError, Listing, RunQuery};
use knit_api::id::{DataId, PlanId};
use knit_api::run::{Run, RunStatus};
use knit_api::time::{Duration, Timestamp};

/// List Runs in the order of their last change.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A flag that stands several times asks for any of its values; different flags must all hold. STATUS is one of \
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
    #[arg(long, value_name = "DURATION", requires = "since", allow_hyphen_values = true)]
    duration: Option<Duration>,
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
        Ok(RunStatus::Invalidated) => Err("deleted Runs cannot be found".to_owned()),
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
        let listing = Listing { reverse: self.sort.unwrap_or_default().reverse, limit: self.limit };
        let pages = server.client.list_runs(query, listing).map_err(failed);
        let name = |run: &Run| run.summary.id.to_string();
        Pages { table: super::columns(), row: super::row, name, limit: self.limit }.print(&look, pages).await?;
        Ok(ExitCode::Ok)
    }
}

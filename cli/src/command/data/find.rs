//! `knit data find`.

use crate::args::{self, Choice, Order, count, order, yes_no_both};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Pages, TableOutput};
use futures_util::StreamExt as _;
use knit_api::client::{DataQuery, Listing};
use knit_api::data::Data;
use knit_api::tag::Tag;
use knit_api::time::{Duration, Timestamp};

/// List Data by tags and time.
///
/// Oldest first; without conditions, all there are. Different conditions must all hold.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
TIME may be short: 2025-02-03, \"2025-02-03 04:05\"; without an offset it is the time of this machine.

Examples:
  # The five newest Data with two tags
  knit data find -t project:digits -t type:model --sort=-time --limit 5

  # What failed since yesterday, as a table with columns of your choice
  knit data find --transient yes --since 2025-02-03 --columns id,state,tags

  # Ids alone, for a script
  knit data find -t project:digits -o name")]
pub struct Find {
    /// With this tag; repeat it to ask for several. knit#id and knit#timestamp work too
    #[arg(short, long = "tag", value_name = "KEY:VALUE", allow_hyphen_values = true)]
    tags: Vec<Tag>,
    /// yes: still being made, or failed; no: ready for use
    #[arg(long, value_name = "both|yes|no", default_value = "both", hide_default_value = true, value_parser = yes_no_both, allow_hyphen_values = true)]
    transient: Choice,
    /// From this time on
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_loose, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// And before --since plus this (90s, 1h30m)
    #[arg(long, value_name = "DURATION", value_parser = args::span, requires = "since", allow_hyphen_values = true)]
    duration: Option<Duration>,
    #[command(flatten)]
    output: TableOutput,
    /// Order of the list: time (oldest first) or -time (newest first)
    #[arg(long, value_name = "time|-time", value_parser = order("time"), allow_hyphen_values = true)]
    sort: Option<Order>,
    /// Print no more than this many
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    limit: Option<usize>,
}

impl Find {
    /// Asks, and prints a list as it comes, which may be empty.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        let transient = self.transient.wanted();
        let query = DataQuery { tags: self.tags, since: self.since, duration: self.duration, transient };
        let listing = Listing { reverse: self.sort.unwrap_or_default().reverse, limit: self.limit };
        let pages = server.client.list_data(query, listing);
        let pages = pages.map(|page| page.map_err(|e| server.failed("cannot find Data", &e)));
        let name = |data: &Data| data.id.to_string();
        Pages { table: super::columns(), row: super::row, name, limit: self.limit }.print(&look, pages).await?;
        Ok(ExitCode::Ok)
    }
}

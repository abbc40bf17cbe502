//! `knit data find`.

use crate::args::{Choice, yes_no_both};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Output, Show};
use knit_api::client::DataQuery;
use knit_api::tag::Tag;
use knit_api::time::{Duration, Timestamp};

/// List Data by tags and time, oldest first.
#[derive(Debug, clap::Args)]
pub struct Find {
    /// Find Data with this tag; repeat it to ask for several. knit#id and knit#timestamp work too
    #[arg(short, long = "tag", value_name = "KEY:VALUE", allow_hyphen_values = true)]
    tags: Vec<Tag>,
    /// Find Data that is still being made or has failed (yes), that is ready (no), or both
    #[arg(long, value_name = "both|yes|no", default_value = "both", hide_default_value = true, value_parser = yes_no_both, allow_hyphen_values = true)]
    transient: Choice,
    /// Find Data from this time on: RFC 3339, or less (2025-02-03, "2025-02-03 04:05")
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_loose, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// Find Data from before --since plus this (90s, 1h30m)
    #[arg(long, value_name = "DURATION", requires = "since", allow_hyphen_values = true)]
    duration: Option<Duration>,
    #[command(flatten)]
    output: Output,
}

impl Find {
    /// Asks, and prints a list, which may be empty.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let transient = self.transient.wanted();
        let query = DataQuery { tags: self.tags, since: self.since, duration: self.duration, transient };
        let found = server.client.find_data(&query).await.map_err(|e| server.failed("cannot find Data", &e))?;
        Show {
            value: &found,
            table: &|| super::table(&found.iter().collect::<Vec<_>>()),
            names: &|| found.iter().map(|data| data.id.to_string()).collect(),
        }
        .print(self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

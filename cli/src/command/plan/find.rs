//! `knit plan find`.

use crate::args::{Choice, Order, count, order, yes_no_both};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, LongTableOutput, Pages, other_than_a_format};
use futures_util::TryStreamExt as _;
use knit_api::client::{Listing, PlanQuery};
use knit_api::image::ImageQuery;
use knit_api::plan::Plan;
use knit_api::tag::Tag;

/// List Plans by image, tags and activity.
///
/// Different conditions must all hold; without conditions, all Plans are listed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Active Plans of an image, whatever its tag
  knit plan find --active yes --image train

  # Which Plans make models?
  knit plan find -o type:model --columns id,image,outputs")]
pub struct Find {
    /// yes: those that make new Runs; no: the others
    #[arg(long, value_name = "both|yes|no", default_value = "both", hide_default_value = true, value_parser = yes_no_both, allow_hyphen_values = true)]
    active: Choice,
    /// With this image; without a tag, with any
    #[arg(long, value_name = "IMAGE[:TAG]", value_parser = image, allow_hyphen_values = true)]
    image: Option<ImageQuery>,
    /// With an input that has this tag; repeat it to ask for one input with all of them
    #[arg(short, long = "in-tag", value_name = "KEY:VALUE", allow_hyphen_values = true)]
    in_tags: Vec<Tag>,
    /// With an output or log that has this tag; repeat it to ask for one with all of them
    #[arg(short, long = "out-tag", value_name = "KEY:VALUE", value_parser = other_than_a_format::<Tag>, allow_hyphen_values = true)]
    out_tags: Vec<Tag>,
    #[command(flatten)]
    output: LongTableOutput,
    /// Order of the list: id or -id
    #[arg(long, value_name = "id|-id", value_parser = order("id"), allow_hyphen_values = true)]
    sort: Option<Order>,
    /// Print no more than this many
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    limit: Option<usize>,
}

fn image(text: &str) -> Result<ImageQuery, String> {
    text.parse().map_err(|e: knit_api::image::ImageError| e.to_string())
}

impl Find {
    /// Asks, and prints a list as it comes, which may be empty.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        let query = PlanQuery {
            active: self.active.wanted(),
            image: self.image,
            in_tags: self.in_tags,
            out_tags: self.out_tags,
        };
        let listing = Listing { reverse: self.sort.unwrap_or_default().reverse, limit: self.limit };
        let pages = server.client.list_plans(query, listing).map_err(|e| server.failed("cannot find Plans", &e));
        let name = |plan: &Plan| plan.summary.id.to_string();
        Pages { table: super::columns(), row: super::row, name, limit: self.limit }.print(&look, pages).await?;
        Ok(ExitCode::Ok)
    }
}

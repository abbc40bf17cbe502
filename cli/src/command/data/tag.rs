//! `knit data tag`.

use crate::args;
use crate::explained::{self, show};
use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, Format, TableOutput};
use knit_api::id::DataId;
use knit_api::server::capability;
use knit_api::tag::{Tag, TagChange, UserTag};

/// Add and remove tags of a Data.
///
/// First removals are done, then additions. Plans look at the Data anew: where it fits now, Runs are made.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Mark a model as the one in use
  knit data tag --add stage:production 0b1c2d3e

  # Give a tag another value
  knit data tag --remove stage:trial --add stage:production 0b1c2d3e

  # Remove all tags with a key
  knit data tag --remove-key stage 0b1c2d3e")]
pub struct Change {
    /// Add this tag; repeat it for several. It may be there already
    #[arg(long, value_name = "KEY:VALUE", value_parser = Tag::parse_user, allow_hyphen_values = true)]
    add: Vec<Tag>,
    /// Remove this tag; repeat it for several. It need not be there
    #[arg(long, value_name = "KEY:VALUE", value_parser = Tag::parse_user, allow_hyphen_values = true)]
    remove: Vec<Tag>,
    /// Remove all tags with this key
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    remove_key: Vec<String>,
    /// Only tell what the change would come to: the inputs of Plans that the Data would begin or cease to fit, and the
    /// Runs that would be made
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    impact: bool,
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
    #[command(flatten)]
    output: TableOutput,
}

impl Change {
    /// Sends the change, and prints the Data after it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let user = |tags: Vec<Tag>| tags.into_iter().map(UserTag).collect();
        let change = TagChange { add: user(self.add), remove: user(self.remove), remove_key: self.remove_key };
        change.check().map_err(|e| Failure::usage(format!("cannot change the tags of {}", self.id)).why(e))?;
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        if self.impact {
            return foresee(&server, &self.id, &change, Some(look.format())).await;
        }
        let data = server
            .by_id(&self.id, async |id| server.client.change_tags(id, &change).await)
            .await
            .map_err(|e| server.failed(format!("cannot change the tags of {}", self.id), &e))?;
        super::print(&data, look)?;
        Ok(ExitCode::Ok)
    }
}

async fn foresee(
    server: &Server,
    id: &DataId,
    change: &TagChange,
    format: Option<Format>,
) -> Result<ExitCode, Failure> {
    server.requires(capability::IMPACT, "tell beforehand what a change would come to").await?;
    let asked = server.by_id(id, async |id| server.client.tag_impact(id, change).await).await;
    let impact = asked.map_err(|e| server.failed(format!("cannot tell what would become of the Data {id}"), &e))?;
    show(&impact, || explained::tag_impact(&impact), &[impact.data.to_string()], format)?;
    Ok(ExitCode::Ok)
}

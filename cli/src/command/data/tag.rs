//! `knit data tag`.

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, TableOutput};
use knit_api::id::DataId;
use knit_api::tag::{Tag, TagChange, UserTag};

/// Add and remove tags of a Data: first removals, then additions.
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
        let data = server
            .by_id(&self.id, async |id| server.client.change_tags(id, &change).await)
            .await
            .map_err(|e| server.failed(format!("cannot change the tags of {}", self.id), &e))?;
        super::print(&data, look)?;
        Ok(ExitCode::Ok)
    }
}

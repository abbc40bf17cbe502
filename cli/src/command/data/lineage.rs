//! `knit data lineage`.

use crate::args::{self, Depth};
use crate::lineage::walk::Walk;
use crate::lineage::{Graph, dot, json, svg, tree};
use crate::project::Project;
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, note, print, print_json, stdout_is_terminal};
use knit_api::candidate::Kind;
use knit_api::client::ClientError;
use knit_api::id::DataId;

/// Draw what a Data was made from, and what was made from it. Without -u and -d, both.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Where does this model come from?
  knit data lineage -u 0b1c2d3e

  # Everything that was made from this dataset, as a picture
  knit data lineage -d -n all -o svg 0b1c2d3e > lineage.svg")]
pub struct Lineage {
    /// Follow what it was made from
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    upstream: Option<bool>,
    /// Follow what was made from it
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    downstream: Option<bool>,
    /// How many steps from Data to Data are followed: a number, or all
    #[arg(short, long = "numbers", value_name = "N|all", default_value = "3", allow_hyphen_values = true)]
    numbers: Depth,
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
    /// How to draw it: tree, dot (for Graphviz), svg or json [default: tree on a terminal, dot elsewhere]
    #[arg(short, long, value_name = "FORM", value_enum, hide_possible_values = true)]
    output: Option<Form>,
}

/// The forms in which lineage can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Text for Graphviz.
    Dot,
    /// Text for a terminal.
    Tree,
    /// A picture.
    Svg,
    /// Data, Runs and arrows.
    Json,
}

impl Lineage {
    /// Follows lineage on the server, and prints the drawing.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let what = format!("cannot draw the lineage of {}", self.id);
        let failed = |e: &ClientError| server.failed(&what, e);
        let ask = async |id: &DataId| server.client.data(id).await?.ok_or(ClientError::Missing(Kind::Data));
        let start = server.by_id(&self.id, ask).await.map_err(|error| match error {
            ClientError::Missing(_) => failed(&error).advice("find it by its tags: knit data find -t KEY:VALUE"),
            _ => failed(&error),
        })?;
        let neither = self.upstream.is_none() && self.downstream.is_none();
        let progress = Progress::waiting(&format!("following {}", self.id));
        let mut walk = Walk::new(&server.client, start);
        if self.upstream.unwrap_or(neither) {
            walk.upstream(self.numbers).await.map_err(|e| failed(&e))?;
        }
        if self.downstream.unwrap_or(neither) {
            walk.downstream(self.numbers).await.map_err(|e| failed(&e))?;
        }
        progress.clear();
        let (graph, missing) = walk.finish();
        self.print(&graph)?;
        if missing.is_empty() {
            return Ok(ExitCode::Ok);
        }
        note(&format!("left out, because it is not there any more: {}", missing.join(", ")));
        Ok(ExitCode::Partial)
    }

    fn print(&self, graph: &Graph) -> Result<(), Failure> {
        match self.output.unwrap_or(if stdout_is_terminal() { Form::Tree } else { Form::Dot }) {
            Form::Dot => print(&dot::draw(graph)),
            Form::Tree => print(&tree::draw(graph)),
            Form::Svg => print(&svg::draw(graph)),
            Form::Json => print_json(&json::document(graph)),
        }
    }
}

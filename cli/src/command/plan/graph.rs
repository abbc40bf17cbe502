//! `knit plan graph`.

use crate::drawing::{Flags, Form};
use crate::plan_graph::{dot, json, picture, walk};
use crate::project::Project;
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, note, print, print_json};
use knit_api::id::PlanId;

/// Draw which Plans can feed a Plan, and which it can feed.
///
/// An output or log can feed an input if it has all tags that the input asks for. A step leads from a Plan to its
/// neighbours. Without -u and -d both directions are drawn; --upstream=false alone draws the Plan by itself. The svg
/// needs no Graphviz; dot and json may be of any size, a tree stops after 1000 lines and a picture is drawn of up to
/// 5000 nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # The Plans next to one
  knit plan graph 0b1c2d3e

  # Everything that hangs together, as a picture
  knit plan graph -n all -o svg 0b1c2d3e > plans.svg")]
pub struct PlanGraph {
    #[command(flatten)]
    flags: Flags,
    /// Id of the Plan, its beginning, or its name
    #[arg(value_name = "PLAN_ID")]
    id: PlanId,
}

impl PlanGraph {
    /// Follows Plans on the server, and prints the drawing.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let what = format!("cannot draw the Plans around {}", self.id);
        let progress = Progress::waiting(&format!("following {}", self.id));
        let collected = walk::collect(&server, &self.id, self.flags.reach()).await;
        progress.clear();
        let (graph, missing) = collected.map_err(|error| {
            let failure = server.failed(&what, &error);
            if failure.exit_code() == ExitCode::NotFound {
                failure.advice("list them: knit plan find")
            } else {
                failure
            }
        })?;
        match self.flags.form() {
            Form::Dot => print(&dot::draw(&graph))?,
            Form::Json => print_json(&json::document(&graph))?,
            form => form.print(&picture::picture(&graph, form, &what)?)?,
        }
        if missing.is_empty() {
            return Ok(ExitCode::Ok);
        }
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        note(&format!("left out, because they are not there any more: {}", missing.join(", ")));
        Ok(ExitCode::Partial)
    }
}

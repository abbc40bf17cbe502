//! `knit plan diff`.

use crate::explained::show;
use crate::plan_diff::{self, PlanDiff};
use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, Format, Output, print, stdout_has_colour};
use crate::{args, plan_file, yaml};
use knit_api::id::PlanId;
use knit_api::plan::PlanSpec;
use std::path::Path;

/// Show what two Plans, or a Plan and a Plan file, differ in.
///
/// A name with a slash, or one that ends in .yaml, .yml or .json, is a file; so is the name of a file that is there,
/// and - is stdin. Everything else is the id of a Plan. Image, entrypoint, args, inputs, outputs, log and on_node make
/// two Plans of them; the rest can be changed on a registered Plan.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Would this file be the Plan that is registered?
  knit plan diff 0b1c2d3e train.yaml

  # The same in a script
  knit plan diff --exit-code 0b1c2d3e train.yaml")]
pub struct Diff {
    /// A Plan, by id or name, or a Plan file
    #[arg(value_name = "PLAN_ID|FILE", allow_hyphen_values = true)]
    before: String,
    /// The one to compare it with
    #[arg(value_name = "PLAN_ID|FILE", allow_hyphen_values = true)]
    after: String,
    /// End with 1 when they differ in anything
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    exit_code: bool,
    #[command(flatten)]
    output: Output,
}

impl Diff {
    /// Reads both, and prints what differs.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let mut server = None;
        let before = side(&self.before, project, &mut server).await?;
        let after = side(&self.after, project, &mut server).await?;
        let diff = plan_diff::compare((before.0, &before.1), (after.0, &after.1));
        match Format::or_fitting(self.output.format) {
            // The text brings its own colours.
            Format::Table | Format::Wide => print(&diff.text(stdout_has_colour()))?,
            format => show(&diff, String::new, &fields(&diff), Some(format))?,
        }
        let differ = self.exit_code && !diff.differences.is_empty();
        Ok(if differ { ExitCode::Failure } else { ExitCode::Ok })
    }
}

fn fields(diff: &PlanDiff) -> Vec<String> {
    diff.differences.iter().map(|difference| difference.field.clone()).collect()
}

fn is_file(name: &str) -> bool {
    let path = Path::new(name);
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    name == "-" || name.contains('/') || ["yaml", "yml", "json"].contains(&ending) || path.is_file()
}

/// What is compared, in normal form, and what to call it. The server is looked for only when it is needed.
async fn side(name: &str, project: &Project, server: &mut Option<Server>) -> Result<(String, PlanSpec), Failure> {
    if is_file(name) {
        let shown = if name == "-" { "stdin" } else { name };
        let text = yaml::read_text(Path::new(name), true)
            .map_err(|why| Failure::new(format!("cannot read {shown}")).why(why))?;
        let spec = plan_file::parse(&text).map_err(|e| Failure::usage(format!("{shown} is not a Plan")).why(e))?;
        return Ok((shown.to_owned(), plan_diff::normal(spec)));
    }
    let server = match server {
        Some(server) => server,
        None => server.insert(project.server()?),
    };
    let id = PlanId::new(name);
    let asked = server.by_id(&id, async |id| server.client.plan(id).await).await;
    let plan = asked.map_err(|e| server.failed(format!("cannot show the Plan {id}"), &e))?;
    let spec = plan_diff::spec_of(&plan).ok_or_else(|| {
        Failure::usage(format!("cannot compare the Plan {id}"))
            .why("it is built in and has no image, inputs or outputs of its own")
    })?;
    Ok((format!("Plan {}", plan.summary.id), plan_diff::normal(spec)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_ids_by_their_names() {
        for name in ["-", "./train", "plans/train", "train.yaml", "t.yml", "t.json", "Cargo.toml"] {
            assert!(is_file(name), "{name}");
        }
        for name in ["0b1c", "00000000-0000-4000-8000-000000000001", "train", "v1.2"] {
            assert!(!is_file(name), "{name}");
        }
    }
}

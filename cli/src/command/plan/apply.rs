//! `knit plan apply`.

use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, TableOutput, note};
use crate::watch::WaitFlags;
use crate::{args, plan_file, yaml};
use knit_api::client::{ClientError, PlanQuery};
use knit_api::event::Cause;
use knit_api::image::ImageQuery;
use knit_api::plan::{Plan, PlanSpec};
use knit_api::tag::TagSet;
use std::path::PathBuf;

/// Register the Plan that a file describes.
///
/// From then on Knit makes a Run of every new combination of Data that fits its inputs. A Plan that is equal to one that
/// is there already is not registered again: the command names that one and ends with 6.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A Plan file:
  image: train:v1
  args: [\"--dataset\", \"/in/dataset\", \"--model\", \"/out/model\"]
  inputs:
    - path: /in/dataset
      tags: [\"project:digits\", \"type:dataset\"]
  outputs:
    - path: /out/model
      tags: [\"project:digits\", \"type:model\"]
  log:
    tags: [\"project:digits\", \"type:log\"]

Examples:
  # Register it, and wait for its Runs
  knit plan apply train.yaml
  knit run wait --plan PLAN_ID

  # In a script that may be repeated
  knit plan apply --if-absent -o name train.yaml")]
pub struct Apply {
    /// The file, in YAML; - reads stdin
    #[arg(value_name = "PLAN_FILE")]
    file: PathBuf,
    /// An equal Plan that is there already is no failure: print that one
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    if_absent: bool,
    /// Change nothing: tell which Runs would be made, which Data would fit, and whether an equal Plan is there
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    output: TableOutput,
}

impl Apply {
    /// Reads the file strictly, registers it, and prints the Plan. Of an equal Plan that is there
    /// already, that Plan is printed.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let name = if self.file.as_os_str() == "-" { "stdin".to_owned() } else { self.file.display().to_string() };
        let text =
            yaml::read_text(&self.file, true).map_err(|why| Failure::new(format!("cannot read {name}")).why(why))?;
        let spec = plan_file::parse(&text).map_err(|e| Failure::usage(format!("{name} is not a Plan")).why(e))?;
        let server = project.server()?;
        if self.dry_run {
            return super::foresee::foresee(&server, &name, &spec, self.if_absent, Some(look.format())).await;
        }
        self.wait.check(&server).await?;
        let error = match server.client.register_plan(&spec).await {
            Ok(plan) => {
                super::print(&plan, &look)?;
                return self.wait(&server, &plan).await;
            }
            Err(error) => error,
        };
        let Some(plan) = equal_plan(&server, &spec, &error).await? else {
            return Err(server.failed(format!("cannot register the Plan of {name}"), &error));
        };
        super::print(&plan, &look)?;
        if self.if_absent {
            note(&format!("an equal Plan is there already: {}", plan.summary.id));
            return self.wait(&server, &plan).await;
        }
        Err(Failure::new(format!("the Plan of {name} is not registered"))
            .why(format!("an equal Plan is there already: {}", plan.summary.id))
            .advice("use that Plan, or repeat the command with --if-absent if that is what you want")
            .exit(ExitCode::Conflict))
    }

    /// Waits for what comes of the Plan, if that is asked for.
    async fn wait(&self, server: &Server, plan: &Plan) -> Result<ExitCode, Failure> {
        let id = &plan.summary.id;
        self.wait.wait(server, Cause::Plans(vec![id.clone()]), &format!("the Plan {id}")).await?;
        Ok(ExitCode::Ok)
    }
}

/// The Plan because of which the server refused this one. An original server does not name it: it is
/// looked for among the Plans of the same image.
async fn equal_plan(server: &Server, spec: &PlanSpec, error: &ClientError) -> Result<Option<Plan>, Failure> {
    if error.status() != Some(409) {
        return Ok(None);
    }
    if let Some(id) = error.equal_plan() {
        let plan = server.client.plan(id).await;
        return plan.map(Some).map_err(|e| server.failed(format!("cannot show the Plan {id}, which is equal"), &e));
    }
    let image = ImageQuery { repository: spec.image.repository.clone(), tag: Some(spec.image.tag.clone()) };
    let query = PlanQuery { image: Some(image), ..PlanQuery::default() };
    let found = server.client.find_plans(&query).await.unwrap_or_default();
    Ok(found.into_iter().find(|plan| is_equal(plan, spec)))
}

/// What makes two Plans equal: all but activity, resources, annotations and service account.
fn is_equal(plan: &Plan, spec: &PlanSpec) -> bool {
    let set = |tags: &[knit_api::tag::Tag]| tags.iter().cloned().collect::<TagSet>();
    let mut inputs: Vec<_> = plan.inputs.iter().map(|i| (i.mountpoint.path.clone(), set(&i.mountpoint.tags))).collect();
    let mut outputs: Vec<_> =
        plan.outputs.iter().map(|o| (o.mountpoint.path.clone(), set(&o.mountpoint.tags))).collect();
    let mut wanted_inputs: Vec<_> = spec.inputs.iter().map(|i| (i.path.clone(), set(&i.tags))).collect();
    let mut wanted_outputs: Vec<_> = spec.outputs.iter().map(|o| (o.path.clone(), set(&o.tags))).collect();
    for list in [&mut inputs, &mut outputs, &mut wanted_inputs, &mut wanted_outputs] {
        list.sort();
    }
    plan.summary.image.as_ref() == Some(&spec.image)
        && plan.summary.entrypoint == spec.entrypoint
        && plan.summary.args == spec.args
        && inputs == wanted_inputs
        && outputs == wanted_outputs
        && plan.log.as_ref().map(|log| set(&log.log.tags)) == spec.log.as_ref().map(|log| set(&log.tags))
        && plan.on_node == spec.on_node
}

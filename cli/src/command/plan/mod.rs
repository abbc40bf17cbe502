//! `knit plan`.

pub mod active;
pub mod apply;
pub mod diff;
pub mod explain;
pub mod find;
mod foresee;
pub mod show;

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Format, Show, Table};
use clap::Subcommand;
use knit_api::plan::Plan;
use knit_api::tag::Tag;

/// The commands about Plans.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register the Plan that a file describes
    Apply(apply::Apply),
    /// List Plans by image, tags and activity
    Find(find::Find),
    /// Print one Plan
    Show(show::PlanShow),
    /// Let a Plan make new Runs, or stop it from doing so
    Active(active::Active),
    /// Tell why a Plan has the Runs that it has, or none
    ///
    /// For each input: which Data fit, and which come nearest to fitting and what they lack: tags that are missing, tags
    /// with another value, a Run that failed. For the Plan: whether it is active, and its Runs by status.
    Explain(explain::Explain),
    /// Show what two Plans, or a Plan and a Plan file, differ in
    ///
    /// A name with a slash, or one that ends in .yaml, .yml or .json, is a file; so is the name of a file that is there,
    /// and - is stdin. Everything else is the id of a Plan. Image, entrypoint, args, inputs, outputs, log and on_node
    /// make two Plans of them; the rest can be changed on a registered Plan.
    Diff(diff::Diff),
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Apply(command) => command.run(project).await,
            Self::Find(command) => command.run(project).await,
            Self::Show(command) => command.run(project).await,
            Self::Active(command) => command.run(project).await,
            Self::Explain(command) => command.run(project).await,
            Self::Diff(command) => command.run(project).await,
        }
    }
}

/// Plans as a table.
pub fn table(list: &[&Plan]) -> Table {
    let point = |path: &str, tags: &[Tag]| {
        format!("{path} {}", tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")).trim_end().to_owned()
    };
    let mut table = Table::new()
        .whole("ID")
        .column("IMAGE")
        .whole("ACTIVE")
        .column("INPUTS")
        .column("OUTPUTS")
        .wide("RESOURCES")
        .wide("COMMAND")
        .wide("ANNOTATIONS")
        .when_empty("No Plans.");
    for plan in list {
        let mut outputs: Vec<String> =
            plan.outputs.iter().map(|o| point(&o.mountpoint.path, &o.mountpoint.tags)).collect();
        outputs.extend(plan.log.iter().map(|log| point("(log)", &log.log.tags)));
        table.row([
            plan.summary.id.to_string(),
            plan.summary.title(),
            if plan.active { "yes" } else { "no" }.to_owned(),
            plan.inputs.iter().map(|i| point(&i.mountpoint.path, &i.mountpoint.tags)).collect::<Vec<_>>().join("\n"),
            outputs.join("\n"),
            plan.resources.iter().map(|(kind, amount)| format!("{kind}={amount}")).collect::<Vec<_>>().join(" "),
            [plan.summary.entrypoint.join(" "), plan.summary.args.join(" ")].join(" ").trim().to_owned(),
            plan.summary.annotations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        ]);
    }
    table
}

/// Prints one Plan.
pub fn print(plan: &Plan, format: Option<Format>) -> Result<(), Failure> {
    Show { value: plan, table: &|| table(&[plan]), names: &|| vec![plan.summary.id.to_string()] }.print(format)
}

//! `knit plan`.

pub mod active;
pub mod apply;
pub mod find;
pub mod graph;
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
    /// Draw which Plans can feed a Plan, and which it can feed
    ///
    /// An output or log can feed an input if it has all tags that the input asks for. A step leads from a Plan to its
    /// neighbours. Without -u and -d both directions are drawn; --upstream=false alone draws the Plan by itself.
    /// The svg needs no Graphviz; dot and json may be of any size, a tree stops after 1000 lines and a picture is
    /// drawn of up to 5000 nodes.
    Graph(graph::PlanGraph),
    /// Let a Plan make new Runs, or stop it from doing so
    Active(active::Active),
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Apply(command) => command.run(project).await,
            Self::Find(command) => command.run(project).await,
            Self::Show(command) => command.run(project).await,
            Self::Graph(command) => command.run(project).await,
            Self::Active(command) => command.run(project).await,
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

//! `knit plan`.

pub mod active;
pub mod annotate;
pub mod apply;
pub mod diff;
pub mod explain;
pub mod find;
mod foresee;
pub mod graph;
pub mod resource;
pub mod service_account;
pub mod show;
pub mod template;

use crate::project::Project;
use crate::terminal::{Cell, ExitCode, Failure, Look, Show, Table, Tone};
use clap::Subcommand;
use knit_api::plan::Plan;
use knit_api::tag::Tag;

/// The commands about Plans.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A Plan is a container image with inputs and outputs: paths with tags. For every new combination of Data whose \
tags fit its inputs, Knit makes one Run. Where a PLAN_ID is asked for, its beginning does, or the Plan's name: \
an annotation name=NAME.")]
#[allow(missing_docs, reason = "their own words are their help, long and short")]
pub enum Command {
    Template(template::Template),
    Apply(apply::Apply),
    Find(find::Find),
    Show(show::PlanShow),
    Graph(graph::PlanGraph),
    Active(active::Active),
    Resource(resource::Resource),
    Annotate(annotate::Annotate),
    #[command(name = "serviceaccount")]
    ServiceAccount(service_account::ServiceAccount),
    Explain(explain::Explain),
    Diff(diff::Diff),
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Template(command) => command.run(project).await,
            Self::Apply(command) => command.run(project).await,
            Self::Find(command) => command.run(project).await,
            Self::Show(command) => command.run(project).await,
            Self::Graph(command) => command.run(project).await,
            Self::Active(command) => command.run(project).await,
            Self::Resource(command) => command.run(project).await,
            Self::Annotate(command) => command.run(project).await,
            Self::ServiceAccount(command) => command.run(project).await,
            Self::Explain(command) => command.run(project).await,
            Self::Diff(command) => command.run(project).await,
        }
    }
}

/// The columns of Plans, without rows.
pub fn columns() -> Table {
    Table::new()
        .whole("ID")
        .column("IMAGE")
        .whole("ACTIVE")
        .column("INPUTS")
        .column("OUTPUTS")
        .wide("RESOURCES")
        .wide("COMMAND")
        .wide("ANNOTATIONS")
        .when_empty("No Plans.")
}

/// One Plan in these columns.
pub fn row(plan: &Plan) -> Vec<Cell> {
    let point = |path: &str, tags: &[Tag]| {
        format!("{path} {}", tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")).trim_end().to_owned()
    };
    let inputs: Vec<String> = plan.inputs.iter().map(|i| point(&i.mountpoint.path, &i.mountpoint.tags)).collect();
    let mut outputs: Vec<String> = plan.outputs.iter().map(|o| point(&o.mountpoint.path, &o.mountpoint.tags)).collect();
    outputs.extend(plan.log.iter().map(|log| point("(log)", &log.log.tags)));
    let resources: Vec<String> = plan.resources.iter().map(|(kind, amount)| format!("{kind}={amount}")).collect();
    let annotations: Vec<String> = plan.summary.annotations.iter().map(ToString::to_string).collect();
    let command = [plan.summary.entrypoint.join(" "), plan.summary.args.join(" ")].join(" ");
    vec![
        plan.summary.id.to_string().into(),
        plan.summary.title().into(),
        if plan.active { Cell::toned("yes", Tone::Good) } else { Cell::toned("no", Tone::Faint) },
        inputs.join("\n").into(),
        outputs.join("\n").into(),
        resources.join(" ").into(),
        command.trim().into(),
        annotations.join(" ").into(),
    ]
}

/// Plans as a table.
pub fn table(list: &[&Plan]) -> Table {
    let mut table = columns();
    for plan in list {
        table.row(row(plan));
    }
    table
}

/// Prints one Plan.
pub fn print(plan: &Plan, look: impl Into<Look>) -> Result<(), Failure> {
    Show { value: plan, table: &|| table(&[plan]), names: &|| vec![plan.summary.id.to_string()] }.print_one(look)
}

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
pub enum Command {
    /// Write a Plan file for an image, to be completed
    ///
    /// The file is printed; no server is asked. It takes over the program and the arguments of the image. Paths
    /// in them with a part named "in" or "out" become inputs and outputs, with tags made of their names; tags
    /// and resources of the environment file (knitenv) are added. With --scratch no image is needed.
    ///
    /// docker save train:v1 | knit plan template > train.yaml
    Template(template::Template),
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
    /// Change how much cpu, memory and the like a Plan's Runs get
    ///
    /// Runs that start from now on get it, also those that wait because they asked for too much. Of a type that is
    /// set twice the last amount counts; one that is both set and unset ends up unset. Where a Plan says nothing
    /// of cpu and memory, its Runs count as asking for 1 and 1Gi.
    Resource(resource::Resource),
    /// Add and remove notes on a Plan
    ///
    /// Notes are pairs KEY=VALUE for people and scripts; Knit acts on none of them. A key may have several values.
    /// First all removals are done, then all additions.
    Annotate(annotate::Annotate),
    /// Choose the service account of a Plan's Runs
    ///
    /// Runs that start from now on have it. It means something on clusters only: on one machine it is kept, and
    /// does nothing.
    #[command(name = "serviceaccount")]
    ServiceAccount(service_account::ServiceAccount),
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

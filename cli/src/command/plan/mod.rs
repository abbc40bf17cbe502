//! `knit plan`.

pub mod active;
pub mod annotate;
pub mod apply;
pub mod find;
pub mod resource;
pub mod service_account;
pub mod show;
pub mod template;

use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Format, Show, Table};
use clap::Subcommand;
use knit_api::plan::Plan;
use knit_api::tag::Tag;

/// The commands about Plans.
#[derive(Debug, Subcommand)]
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
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Template(command) => command.run(project).await,
            Self::Apply(command) => command.run(project).await,
            Self::Find(command) => command.run(project).await,
            Self::Show(command) => command.run(project).await,
            Self::Active(command) => command.run(project).await,
            Self::Resource(command) => command.run(project).await,
            Self::Annotate(command) => command.run(project).await,
            Self::ServiceAccount(command) => command.run(project).await,
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

//! `knit run top`: what runs now.

use crate::args;
use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, Show, Table, TableOutput};
use crate::watch::{self, View};
use knit_api::client::{RunQuery, RunWatch};
use knit_api::id::PlanId;
use knit_api::plan::Resources;
use knit_api::run::{Run, RunStatus};
use serde::Serialize;
use std::collections::HashMap;

/// The statuses in which a Run has, or asks for, a worker.
const AT_WORK: [RunStatus; 4] = [RunStatus::Starting, RunStatus::Running, RunStatus::Completing, RunStatus::Aborting];

/// List what runs now, and the resources it asks for.
///
/// That is: all Runs that are starting, running, completing or aborting.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Until Ctrl-C
  knit run top --watch")]
pub struct Top {
    /// Go on: on a terminal the table is replaced in place, elsewhere each change is one line of JSON
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    watch: bool,
    #[command(flatten)]
    output: TableOutput,
}

impl Top {
    /// Asks, and prints a list, which may be empty.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&columns())?;
        let server = project.server()?;
        let query = RunQuery { statuses: AT_WORK.to_vec(), ..RunQuery::default() };
        let mut working = Working { server: &server, plans: HashMap::new() };
        if self.watch {
            let watch = RunWatch { query, ended: Some(0), ..RunWatch::default() };
            return watch::show_changes(&server, watch, look, working).await;
        }
        let found = server.client.find_runs(&query).await.map_err(|e| server.failed("cannot find Runs", &e))?;
        for run in &found {
            working.learn(run).await?;
        }
        let runs: Vec<&Run> = found.iter().collect();
        Show {
            value: &runs.iter().map(|run| working.with_resources(run)).collect::<Vec<_>>(),
            table: &|| working.table(&runs),
            names: &|| runs.iter().map(|run| run.summary.id.to_string()).collect(),
        }
        .print(look)?;
        Ok(ExitCode::Ok)
    }
}

/// The columns of what runs.
fn columns() -> Table {
    Table::new()
        .whole("RUN")
        .column("PLAN")
        .whole("STATUS")
        .whole("FOR")
        .whole("CPU")
        .whole("MEMORY")
        .column("IMAGE")
        .wide("OTHER RESOURCES")
        .wide("REASON")
        .when_empty("Nothing runs.")
}

/// Runs at work, and what their Plans ask for.
struct Working<'a> {
    server: &'a Server,
    plans: HashMap<PlanId, Resources>,
}

/// A Run with what its Plan asks for.
#[derive(Serialize)]
struct WithResources<'a> {
    #[serde(flatten)]
    run: &'a Run,
    resources: Option<&'a Resources>,
}

impl Working<'_> {
    fn with_resources<'a>(&'a self, run: &'a Run) -> WithResources<'a> {
        WithResources { run, resources: self.plans.get(&run.summary.plan.id) }
    }
}

impl View for Working<'_> {
    async fn learn(&mut self, run: &Run) -> Result<(), Failure> {
        let id = &run.summary.plan.id;
        if !self.plans.contains_key(id) {
            let plan = self.server.client.plan(id).await;
            let plan = plan.map_err(|e| self.server.failed(format!("cannot show the Plan {id}"), &e))?;
            self.plans.insert(id.clone(), plan.resources);
        }
        Ok(())
    }

    fn table(&self, runs: &[&Run]) -> Table {
        let now = watch::now();
        let mut table = columns();
        for run in runs {
            let plan = &run.summary.plan;
            let named = plan.annotations.iter().find(|annotation| annotation.key == "name");
            let resources = self.plans.get(&plan.id);
            let amount =
                |kind: &str| resources.and_then(|all| all.get(kind)).map_or_else(String::new, ToString::to_string);
            let others = resources.into_iter().flatten().filter(|(kind, _)| *kind != "cpu" && *kind != "memory");
            table.row([
                run.summary.id.to_string(),
                named.map_or_else(|| plan.id.to_string(), |annotation| annotation.value.clone()),
                run.summary.status.to_string(),
                watch::how_long(run.summary.updated_at, now),
                amount("cpu"),
                amount("memory"),
                plan.title(),
                others.map(|(kind, amount)| format!("{kind}={amount}")).collect::<Vec<_>>().join(" "),
                run.reason.clone().unwrap_or_default(),
            ]);
        }
        table
    }

    fn value<'a>(&'a self, run: &'a Run) -> impl Serialize + 'a {
        self.with_resources(run)
    }
}

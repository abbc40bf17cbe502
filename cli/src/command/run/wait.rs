//! `knit run wait`.

use crate::project::{Project, Server};
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, Output, Show};
use knit_api::client::RunQuery;
use knit_api::id::{PlanId, RunId};
use knit_api::run::{Run, RunStatus};
use knit_api::time::Duration;

/// Wait for the end of a Run, or until a Plan has no Run under way. Ends with 0 when all went well,
/// with 1 when a Run failed, with 7 when the time is over.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// The Run
    #[arg(value_name = "RUN_ID", required_unless_present = "plan", conflicts_with = "plan")]
    run: Option<RunId>,
    /// Wait for the Runs of this Plan
    #[arg(long, value_name = "PLAN_ID", allow_hyphen_values = true)]
    plan: Option<PlanId>,
    /// Wait no longer than this (90s, 1h30m)
    #[arg(long, value_name = "DURATION", value_parser = patience, allow_hyphen_values = true)]
    timeout: Option<std::time::Duration>,
    #[command(flatten)]
    output: Output,
}

fn patience(text: &str) -> Result<std::time::Duration, String> {
    let duration: Duration = text.parse().map_err(|e: knit_api::time::TimeError| e.to_string())?;
    u64::try_from(duration.micros())
        .map(std::time::Duration::from_micros)
        .map_err(|_| "a time to wait cannot be negative".to_owned())
}

impl Wait {
    /// Waits, prints the Run or Runs, and ends with their success.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let what = match (&self.run, &self.plan) {
            (_, Some(plan)) => format!("the Runs of the Plan {plan}"),
            (Some(run), None) => format!("the Run {run}"),
            (None, None) => return Err(Failure::usage("nothing to wait for").advice("name a Run, or --plan PLAN_ID")),
        };
        let waiting = Progress::waiting(&format!("waiting for {what}"));
        let ended = self.ended(&server, &what);
        let ended = match self.timeout {
            None => ended.await,
            Some(patience) => tokio::time::timeout(patience, ended).await.unwrap_or_else(|_| {
                Err(Failure::new(format!("{what}: not over yet"))
                    .why(format!("it took longer than {}", shown(patience)))
                    .exit(ExitCode::TimedOut))
            }),
        };
        waiting.clear();
        let runs = ended?;
        self.print(&runs)?;
        match runs.iter().find(|run| run.summary.status != RunStatus::Done && run.summary.status.is_over()) {
            None => Ok(ExitCode::Ok),
            Some(run) => {
                let failed = runs.iter().filter(|run| run.summary.status == RunStatus::Failed).count();
                let others = if failed > 1 { format!(" (and {} more)", failed - 1) } else { String::new() };
                Err(Failure::new(format!("the Run {} {}{others}", run.summary.id, run.summary.status))
                    .why(super::result(run))
                    .advice(format!("knit run show --log {}", run.summary.id)))
            }
        }
    }

    /// The Runs that count, once all of them are over.
    async fn ended(&self, server: &Server, what: &str) -> Result<Vec<Run>, Failure> {
        let failed = |e: &knit_api::client::ClientError| server.failed(format!("cannot wait for {what}"), e);
        match (&self.run, &self.plan) {
            (Some(run), _) => Ok(vec![server.client.wait_for_run(run).await.map_err(|e| failed(&e))?]),
            (None, Some(plan)) => {
                server.client.wait_for_plan(plan).await.map_err(|e| failed(&e))?;
                let query = RunQuery { plans: vec![plan.clone()], ..RunQuery::default() };
                let mut runs = server.client.find_runs(&query).await.map_err(|e| failed(&e))?;
                // A deleted Run has no say.
                runs.retain(|run| run.summary.status != RunStatus::Invalidated);
                Ok(runs)
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    fn print(&self, runs: &[Run]) -> Result<(), Failure> {
        match (&self.plan, runs) {
            (None, [run]) => super::print(run, self.output.format),
            _ => Show {
                value: runs,
                table: &|| super::table(&runs.iter().collect::<Vec<_>>()),
                names: &|| runs.iter().map(|run| run.summary.id.to_string()).collect(),
            }
            .print(self.output.format),
        }
    }
}

fn shown(patience: std::time::Duration) -> String {
    format!("{} s", patience.as_secs_f64())
}

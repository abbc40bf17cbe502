//! `knit run wait`.

use crate::project::{Project, Server};
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, Show, TableOutput};
use knit_api::client::{ClientError, RunQuery};
use knit_api::id::{PlanId, RunId};
use knit_api::run::{Run, RunStatus, exit_code};
use knit_api::time::Duration;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::fmt;

/// How many different reasons are told while waiting, and how many Runs are named when the time is over.
const MOST_TOLD: usize = 10;
/// How long to ask what is unfinished when the time is over.
const LAST_LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// Wait for the end of a Run, or of all Runs of a Plan.
///
/// Ends with 0 when all went well, with 1 when a Run failed, with 7 when the time is over.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Wait for a Run
  knit run wait 0b1c2d3e

  # In a script: all Runs of a Plan, but no longer than an hour
  knit run wait --plan dada2d3e --timeout 1h")]
pub struct Wait {
    /// Id of the Run, or its beginning
    #[arg(value_name = "RUN_ID", required_unless_present = "plan", conflicts_with = "plan")]
    run: Option<RunId>,
    /// Wait for the Runs of this Plan: its id, its beginning, or its name
    #[arg(long, value_name = "PLAN_ID", allow_hyphen_values = true)]
    plan: Option<PlanId>,
    /// Wait no longer than this (90s, 1h30m)
    #[arg(long, value_name = "DURATION", value_parser = patience, allow_hyphen_values = true)]
    timeout: Option<std::time::Duration>,
    #[command(flatten)]
    output: TableOutput,
}

pub(crate) fn patience(text: &str) -> Result<std::time::Duration, String> {
    let duration: Duration = text.parse().map_err(|e: knit_api::time::TimeError| e.to_string())?;
    u64::try_from(duration.micros())
        .map(std::time::Duration::from_micros)
        .map_err(|_| "a time to wait cannot be negative".to_owned())
}

/// What is waited for.
enum Awaited {
    /// A Run.
    Run(RunId),
    /// The Runs of a Plan.
    RunsOf(PlanId),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => write!(f, "the Run {run}"),
            Self::RunsOf(plan) => write!(f, "the Runs of the Plan {plan}"),
        }
    }
}

impl Wait {
    /// Waits, prints the Run or Runs, and ends with their success.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        let given = match (self.run, self.plan) {
            (_, Some(plan)) => Awaited::RunsOf(plan),
            (Some(run), None) => Awaited::Run(run),
            (None, None) => return Err(Failure::usage("nothing to wait for").advice("name a Run, or --plan PLAN_ID")),
        };
        let waiting = Progress::waiting(&format!("waiting for {given}"));
        let whole = OnceCell::new();
        let ended = async {
            let failed = |e: ClientError| server.failed(format!("cannot wait for {given}"), &e);
            let found = given.found(&server).await.map_err(failed)?;
            whole.get_or_init(|| found).ended(&server, Reasons::new(&waiting)).await.map_err(failed)
        };
        let ended = match self.timeout {
            None => ended.await,
            Some(patience) => {
                if let Ok(ended) = tokio::time::timeout(patience, ended).await {
                    ended
                } else {
                    let unfinished = match whole.get() {
                        Some(found) => found.unfinished(&server).await,
                        None => String::new(),
                    };
                    Err(Failure::new(format!("{given}: not over yet"))
                        .why(format!("it took longer than {}{unfinished}", shown(patience)))
                        .exit(ExitCode::TimedOut))
                }
            }
        };
        waiting.clear();
        let runs = ended?;
        match (&given, &runs[..]) {
            (Awaited::Run(_), [run]) => super::print(run, look)?,
            _ => Show {
                value: &runs,
                table: &|| super::table(&runs.iter().collect::<Vec<_>>()),
                names: &|| runs.iter().map(|run| run.summary.id.to_string()).collect(),
            }
            .print(look)?,
        }
        match runs.iter().find(|run| run.summary.status != RunStatus::Done && run.summary.status.is_over()) {
            None => Ok(ExitCode::Ok),
            Some(run) => {
                let failed = runs.iter().filter(|run| run.summary.status == RunStatus::Failed).count();
                let others = if failed > 1 { format!(" (and {} more)", failed - 1) } else { String::new() };
                let failure = Failure::new(format!("the Run {} {}{others}", run.summary.id, run.summary.status))
                    .why(super::result(run));
                let id = &run.summary.id;
                Err(if has_log(run) { failure.advice(format!("knit run show --log {id}")) } else { failure })
            }
        }
    }
}

impl Awaited {
    /// The same by its whole id.
    async fn found(&self, server: &Server) -> Result<Self, ClientError> {
        Ok(match self {
            Self::Run(run) => Self::Run(server.by_id(run, async |id| server.client.run(id).await).await?.summary.id),
            Self::RunsOf(plan) => {
                Self::RunsOf(server.by_id(plan, async |id| server.client.plan(id).await).await?.summary.id)
            }
        })
    }

    /// The Runs that count, once all of them are over.
    async fn ended(&self, server: &Server, mut reasons: Reasons<'_>) -> Result<Vec<Run>, ClientError> {
        match self {
            Self::Run(run) => Ok(vec![server.client.wait_for_run(run, |run| reasons.tell(run)).await?]),
            Self::RunsOf(plan) => {
                let look = |runs: &[Run]| runs.iter().for_each(|run| reasons.tell(run));
                server.client.wait_for_plan(plan, look).await?;
                let mut runs = server.client.find_runs(&of_plan(plan)).await?;
                // A deleted Run has no say.
                runs.retain(|run| run.summary.status != RunStatus::Invalidated);
                Ok(runs)
            }
        }
    }

    /// The Runs that are not over, a few of them, each on a line with why it waits; empty when the server
    /// does not tell.
    async fn unfinished(&self, server: &Server) -> String {
        let asked = async {
            match self {
                Self::Run(run) => server.client.run(run).await.map(|run| vec![run]),
                Self::RunsOf(plan) => server.client.find_runs(&of_plan(plan)).await,
            }
        };
        let Ok(Ok(mut runs)) = tokio::time::timeout(LAST_LOOK, asked).await else { return String::new() };
        // Those that are parked are not waited for.
        runs.retain(|run| !run.summary.status.is_over() && run.summary.status != RunStatus::Deactivated);
        let more = runs.len().saturating_sub(MOST_TOLD);
        let mut lines: Vec<String> = runs.iter().take(MOST_TOLD).map(standing).collect();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines.iter().flat_map(|line| ["\n  ", line]).collect()
    }
}

fn of_plan(plan: &PlanId) -> RunQuery {
    RunQuery { plans: vec![plan.clone()], ..RunQuery::default() }
}

fn shown(patience: std::time::Duration) -> String {
    format!("{} s", patience.as_secs_f64())
}

/// Where a Run stands, and why it does not go on.
pub(crate) fn standing(run: &Run) -> String {
    let (id, status) = (&run.summary.id, run.summary.status);
    match run.reason.as_deref() {
        None | Some("") => format!("the Run {id} is {status}"),
        Some(reason) => format!("the Run {id} is {status}: {reason}"),
    }
}

/// Whether there is a log to look into: the Plan asks for one, and the worker was started.
pub(crate) fn has_log(run: &Run) -> bool {
    let not_started = |exit: &knit_api::run::Exit| exit.code == exit_code::NOT_STARTED && !exit.message.is_empty();
    run.log.is_some() && !run.summary.exit.as_ref().is_some_and(not_started)
}

/// Tells why Runs do not go on, each reason once.
struct Reasons<'a> {
    beside: &'a Progress,
    told: HashSet<String>,
}

impl<'a> Reasons<'a> {
    fn new(beside: &'a Progress) -> Self {
        Self { beside, told: HashSet::new() }
    }

    fn tell(&mut self, run: &Run) {
        let Some(reason) = run.reason.as_deref().filter(|reason| !reason.is_empty()) else { return };
        // The others are at work.
        let stands = matches!(
            run.summary.status,
            RunStatus::Waiting | RunStatus::Ready | RunStatus::Completing | RunStatus::Aborting
        );
        if stands && self.told.len() < MOST_TOLD && self.told.insert(reason.to_owned()) {
            self.beside.say(&standing(run));
        }
    }
}

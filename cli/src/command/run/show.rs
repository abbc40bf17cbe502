//! `knit run show`: a Run, or its log, also while it is written.

use crate::args;
use crate::project::{Project, Server};
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, TableOutput, note};
use knit_api::client::{Class, ClientError};
use knit_api::id::RunId;
use knit_api::run::{Run, RunStatus};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// How often in a row a broken connection is made anew, a second after it broke.
const MOST_BREAKS: u32 = 30;

/// Print one Run, or its log.
///
/// How it stands and how it ended, which Data went in and came out, and the digest of the image that ran.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # How does it stand, and what does it wait for?
  knit run show 0b1c2d3e

  # Watch it work
  knit run show --log --follow 0b1c2d3e")]
pub struct RunShow {
    /// Print the log instead of the Run
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    log: bool,
    /// With --log: wait until the Run starts, and print its log until it ends
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    follow: bool,
    /// End with the fate of the Run: 0 when it is done, 1 when it failed (its own exit code stands in the
    /// message) or, without --follow, when it is not over
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    exit_code: bool,
    /// Id of the Run, or its beginning
    #[arg(value_name = "RUN_ID")]
    id: RunId,
    #[command(flatten)]
    output: TableOutput,
}

impl RunShow {
    /// Prints one or the other.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let server = project.server()?;
        if self.log {
            return match self.print_log(&server).await {
                printed if !self.exit_code => printed,
                // A Run may well fail before it has a log.
                Err(failure) if failure.exit_code() == ExitCode::NotFound => {
                    let run = self.seen(&server).await?;
                    note(&failure.to_string());
                    fate(&run)
                }
                Err(failure) => Err(failure),
                Ok(_) => fate(&self.seen(&server).await?),
            };
        }
        if self.follow && !self.exit_code {
            note("--follow has no effect without --log");
        }
        let run = self.seen(&server).await?;
        super::print(&run, look)?;
        if self.exit_code { fate(&run) } else { Ok(ExitCode::Ok) }
    }

    /// The Run; when its fate is to be followed, once it is over.
    async fn seen(&self, server: &Server) -> Result<Run, Failure> {
        let seen = server.by_id(&self.id, async |id| {
            if self.follow && self.exit_code {
                server.client.wait_for_run(id, |_| {}).await
            } else {
                server.client.run(id).await
            }
        });
        seen.await.map_err(|e| server.failed(format!("cannot show the Run {}", self.id), &e))
    }

    /// The log is printed as it is. When the connection breaks while it is followed, it is taken up
    /// again where it broke.
    async fn print_log(&self, server: &Server) -> Result<ExitCode, Failure> {
        let failed = |e: &ClientError| server.failed(format!("cannot show the log of the Run {}", self.id), e);
        let mut stdout = tokio::io::stdout();
        let mut printed: u64 = 0;
        let mut begun = false;
        let mut breaks = 0;
        let open = server.by_id(&self.id, async |id| Ok((id.clone(), self.open_log(server, id).await?)));
        let (id, log) = open.await.map_err(|e| failed(&e))?;
        let mut opened = Some(log);
        loop {
            let open = match opened.take() {
                Some(log) => Ok(log),
                None => self.open_log(server, &id).await,
            };
            let mut log = match open {
                Ok(log) => log,
                Err(error) if self.follow && begun && breaks < MOST_BREAKS && is_break(&error) => {
                    breaks += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Err(error) => return Err(failed(&error)),
            };
            begun = true;
            let mut passed: u64 = 0;
            loop {
                match log.next().await {
                    Ok(None) if self.follow && Self::starts_anew(server, &id).await.map_err(|e| failed(&e))? => {
                        printed = 0;
                        break;
                    }
                    Ok(None) => return Ok(ExitCode::Ok),
                    Ok(Some(part)) => {
                        let known = printed.saturating_sub(passed).min(part.len() as u64) as usize;
                        passed += part.len() as u64;
                        let write = async {
                            stdout.write_all(&part[known..]).await?;
                            stdout.flush().await
                        };
                        match write.await {
                            // Nobody reads it; the fate of the Run is still asked for.
                            Err(e) if self.exit_code && e.kind() == std::io::ErrorKind::BrokenPipe => {
                                return Ok(ExitCode::Ok);
                            }
                            written => written.map_err(|e| Failure::stdout(&e))?,
                        }
                        printed = printed.max(passed);
                        if known < part.len() {
                            breaks = 0;
                        }
                    }
                    Err(error) if self.follow && breaks < MOST_BREAKS && is_break(&error) => {
                        breaks += 1;
                        break;
                    }
                    Err(error) => return Err(failed(&error)),
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Whether the log ended although the Run goes on: a server that stops puts its Runs back.
    async fn starts_anew(server: &Server, id: &RunId) -> Result<bool, ClientError> {
        let mut breaks = 0;
        let run = loop {
            let seen = if breaks == 0 {
                server.client.wait_while_at_work(id).await
            } else {
                // The server was away: what is at work now is not what this log was of.
                server.client.run(id).await.map(Some)
            };
            match seen {
                Err(error) if breaks < MOST_BREAKS && is_break(&error) => {
                    breaks += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                seen => break seen?,
            }
        };
        let Some(status) = run.map(|run| run.summary.status) else { return Ok(false) };
        let anew = !status.has_started() || status == RunStatus::Running;
        if anew {
            note(&format!("the Run {id} was put back and starts anew"));
        }
        Ok(anew)
    }

    /// Opens the log; with `follow` waits until there is one.
    async fn open_log(&self, server: &Server, id: &RunId) -> Result<knit_api::client::RunLog, ClientError> {
        let mut waiting: Option<Progress> = None;
        let mut pause = Duration::from_millis(100);
        let mut again = false;
        loop {
            match server.client.run_log(id, self.follow).await {
                Err(error) if self.follow && error.class() == Class::NotNow => {
                    waiting.get_or_insert_with(|| Progress::waiting(&format!("waiting for the Run {id} to start")));
                    let signalled = server.client.wait_for_start(id).await?;
                    if signalled && !again {
                        again = true;
                        continue;
                    }
                    // Without a signal, or should it be wrong, the server is asked less and less often.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                other => return other,
            }
        }
    }
}

/// How the command ends that is to end as the Run did.
fn fate(run: &Run) -> Result<ExitCode, Failure> {
    let (id, status) = (&run.summary.id, run.summary.status);
    let failure = Failure::new(format!(
        "the Run {id} {}",
        if status.is_over() { "" } else { "is " }.to_owned() + status.as_str()
    ));
    match status {
        RunStatus::Done => Ok(ExitCode::Ok),
        status if status.is_over() => Err(failure.why(super::result(run))),
        _ => Err(failure.why("it is not over").advice("--follow waits for its end")),
    }
}

/// True for an error that only means that the connection is gone.
fn is_break(error: &ClientError) -> bool {
    matches!(error, ClientError::Lost { .. } | ClientError::Unreachable { .. })
}

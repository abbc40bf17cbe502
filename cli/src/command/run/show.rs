//! `knit run show`: a Run, or its log, also while it is written.

use crate::args;
use crate::project::{Project, Server};
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, TableOutput, note};
use knit_api::client::{Class, ClientError};
use knit_api::id::RunId;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// Print one Run, or its log.
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
            return self.print_log(&server).await;
        }
        if self.follow {
            note("--follow has no effect without --log");
        }
        let run = server
            .by_id(&self.id, async |id| server.client.run(id).await)
            .await
            .map_err(|e| server.failed(format!("cannot show the Run {}", self.id), &e))?;
        super::print(&run, look)?;
        Ok(ExitCode::Ok)
    }

    /// The log is printed as it is. When the connection breaks while it is followed, it is taken up
    /// again where it broke.
    async fn print_log(&self, server: &Server) -> Result<ExitCode, Failure> {
        let failed = |e: &ClientError| server.failed(format!("cannot show the log of the Run {}", self.id), e);
        let mut stdout = tokio::io::stdout();
        let mut printed: u64 = 0;
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
                Err(error) if self.follow && printed > 0 && breaks < 30 && is_break(&error) => {
                    breaks += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Err(error) => return Err(failed(&error)),
            };
            let mut passed: u64 = 0;
            loop {
                match log.next().await {
                    Ok(None) => return Ok(ExitCode::Ok),
                    Ok(Some(part)) => {
                        let known = printed.saturating_sub(passed).min(part.len() as u64) as usize;
                        passed += part.len() as u64;
                        let write = async {
                            stdout.write_all(&part[known..]).await?;
                            stdout.flush().await
                        };
                        write.await.map_err(|e| Failure::stdout(&e))?;
                        printed = printed.max(passed);
                        if known < part.len() {
                            breaks = 0;
                        }
                    }
                    Err(error) if self.follow && breaks < 30 && is_break(&error) => {
                        breaks += 1;
                        break;
                    }
                    Err(error) => return Err(failed(&error)),
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
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

/// True for an error that only means that the connection is gone.
fn is_break(error: &ClientError) -> bool {
    matches!(error, ClientError::Lost { .. } | ClientError::Unreachable { .. })
}

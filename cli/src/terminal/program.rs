//! Running a program: one thread, one task, and an orderly end when it is interrupted.

use super::{ExitCode, Failure, finish};
use std::future::Future;
use std::time::Duration;

/// How long an interrupted program may take to clean up behind itself.
const CLEAN_UP: Duration = Duration::from_secs(20);

/// Runs `program` to its end. Ctrl-C and SIGTERM drop it instead, whereupon everything unfinished
/// cleans up behind itself, and the program ends with [`ExitCode::Interrupted`].
pub fn run<F>(program: F) -> std::process::ExitCode
where
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return finish(Err(Failure::new("cannot start").why(e))),
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            // First, so that signals are ours before the program does anything: a question must end in order.
            biased;
            () = interrupted() => {
                Err(Failure::new("interrupted").exit(ExitCode::Interrupted))
            }
            outcome = program => outcome,
        }
    });
    // Work on other threads notices that its channel is closed, and removes what it left unfinished.
    runtime.shutdown_timeout(CLEAN_UP);
    finish(outcome)
}

/// Completes when the program is asked to stop.
async fn interrupted() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        let terminated = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => {
                    signal.recv().await;
                }
                Err(_) => std::future::pending::<()>().await,
            }
        };
        tokio::select! { () = ctrl_c => {}, () = terminated => {} }
    }
    #[cfg(not(unix))]
    ctrl_c.await;
}

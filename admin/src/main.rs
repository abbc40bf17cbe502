//! `knitctl`, the administrators' command line: one file per command.
//!
//! It speaks with the terminal kit of `knit`, and leaves the work on an installation to
//! `knit_installer`.

mod down;
mod place;
mod status;
mod up;
mod version;

use clap::{CommandFactory as _, Parser, Subcommand};
use knit_cli::command::completion::Completion;
use knit_cli::completion;
use knit_cli::terminal::program;
use knit_cli::terminal::{ExitCode, Failure};

/// Runs Knit on this machine: an MLOps system that executes Plans on Data and records lineage.
#[derive(Debug, Parser)]
#[command(name = "knitctl", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 4 not authorised, 5 not found, 6 conflict, 7 timed out.")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Down(down::Down),
    Status(status::Status),
    Completion(Completion),
    /// Print the version
    Version,
}

fn main() -> std::process::ExitCode {
    if completion::is_asked() {
        return completion::answer(|_| CommandLine::command());
    }
    let line = CommandLine::parse();
    program::run(async move {
        match line.command {
            Command::Up(up) => blocking(|| up.run()).await,
            Command::Down(down) => blocking(|| down.run()).await,
            Command::Status(status) => status.run().await,
            Command::Completion(completion) => completion.print_for("knitctl"),
            Command::Version => version::run(),
        }
    })
}

/// Work that waits in system calls, on a thread of its own, so that an interrupt is answered.
async fn blocking<F>(work: F) -> Result<ExitCode, Failure>
where
    F: FnOnce() -> Result<ExitCode, Failure> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(e) => Err(Failure::new("the command broke off inside").why(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn completions_and_man_pages_are_what_the_grammar_says() {
        completion::pages_are_fresh(CommandLine::command());
    }

    #[test]
    fn the_documented_command_lines_are_understood() {
        for line in [
            "knitctl up",
            "knitctl up --dir /srv/knit --port 0 --registry-port=0 --no-register",
            "knitctl up --auth --worker-network host --grace 1m --knitd /opt/knitd",
            "knitctl down --grace 500ms",
            "knitctl status -o json",
            "knitctl version",
        ] {
            CommandLine::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn wrong_command_lines_are_refused_as_usage() {
        for line in [
            "knitctl",
            "knitctl up --port 70000",
            "knitctl up --port http",
            "knitctl up --grace 10",
            "knitctl up --grace -1s",
            "knitctl up --worker-network bridge",
            "knitctl status -o dot",
            "knitctl up extra",
        ] {
            let error = CommandLine::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), i32::from(ExitCode::Usage as u8), "{line}");
        }
    }
}

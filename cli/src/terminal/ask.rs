//! Questions to a person: asked only on a terminal, and `--yes` answers them beforehand.

use super::{ExitCode, Failure, stderr_is_terminal};
use dialoguer::console::Term;
use std::io::IsTerminal as _;

/// Whether there is somebody to ask.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && stderr_is_terminal()
}

/// Asks whether to go on; the default is no. With `yes` nothing is asked.
///
/// # Errors
/// A usage failure when nobody can be asked; Ctrl-C as an answer is an interruption.
pub fn confirm(question: &str, yes: bool) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    if !can_ask() {
        return Err(Failure::usage(format!("not confirmed: {question}"))
            .why("there is no terminal on which to ask")
            .advice("repeat the command with --yes"));
    }
    dialoguer::Confirm::new().with_prompt(super::plain(question)).default(false).interact().map_err(
        |dialoguer::Error::IO(e)| {
            // The question has hidden the cursor, and stands on a line that is not ended.
            let screen = Term::stderr();
            let _ = screen.show_cursor();
            let _ = screen.write_line("");
            if e.kind() == std::io::ErrorKind::Interrupted {
                Failure::new("interrupted").exit(ExitCode::Interrupted)
            } else {
                Failure::new("cannot ask for confirmation").why(e)
            }
        },
    )
}

//! The terminal kit: how both command lines speak to a person and to a script.
//!
//! Results go to stdout ([`output`]), everything else to stderr ([`note`], [`progress`], [`failure`]).
//! Text that came from elsewhere never reaches the terminal with control characters in it ([`plain`]).

pub mod ask;
pub mod failure;
pub mod output;
pub mod program;
pub mod progress;
pub mod table;

pub use failure::{ExitCode, Failure, finish};
pub use output::{Format, LongOutput, Output, Show, other_than_a_format, print_json};
pub use table::Table;

use knit_api::problem::in_words;
use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

/// True when a person reads stdout.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// True when a person reads stderr.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether stderr may carry colour: a terminal, `NO_COLOR` unset or empty, and not `TERM=dumb`.
pub fn stderr_has_colour() -> bool {
    stderr_is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes a result to stdout and flushes it.
///
/// # Errors
/// A [`Failure`]; a reader that went away (`| head`) gives one that ends the program quietly.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| Failure::stdout(&e))
}

/// Copies a result to stdout and flushes it.
///
/// # Errors
/// A [`Failure`], as [`print`] has it.
pub fn print_from(text: &mut dyn std::io::Read) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    std::io::copy(text, &mut stdout).and_then(|_| stdout.flush()).map_err(|e| Failure::stdout(&e))
}

/// Says one line of talk on stderr. A stderr that is gone is no reason to stop working.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", in_words(&plain(text)));
}

/// The text with every control character but newline and tab replaced, so that names and messages
/// from elsewhere cannot steer the terminal.
pub fn plain(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.chars().any(steers) {
        Cow::Owned(text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_from_elsewhere_lose_their_power() {
        assert_eq!(plain("a\tb\nc"), "a\tb\nc");
        assert_eq!(plain("\u{1b}[2Jx\r\u{9b}"), "\u{fffd}[2Jx\u{fffd}\u{fffd}");
    }
}

//! The terminal kit: how both command lines speak to a person and to a script.
//!
//! Results go to stdout ([`output`], long ones as they come: [`pages`]), everything else to stderr ([`note`], [`progress`], [`failure`]).
//! Text that came from elsewhere never reaches the terminal with control characters in it ([`plain`]).

pub mod ask;
pub mod board;
pub mod failure;
pub mod output;
pub mod pages;
pub mod program;
pub mod progress;
pub mod rows;
pub mod table;
pub mod time;

pub use failure::{ExitCode, Failure, finish};
pub use output::{Format, LongTableOutput, Look, Output, Show, TableOutput, other_than_a_format, print_json};
pub use pages::Pages;
pub use rows::Rows;
pub use table::{Cell, Table, Tone};

use knit_api::problem::in_words;
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};

/// True when a person reads stdout.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// True when a person reads stderr.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether stderr may carry colour.
pub fn stderr_has_colour() -> bool {
    has_colour(stderr_is_terminal(), |name| std::env::var_os(name))
}

/// Whether stdout may carry colour.
pub fn stdout_has_colour() -> bool {
    has_colour(stdout_is_terminal(), |name| std::env::var_os(name))
}

/// A terminal has colour unless `TERM=dumb` or `CLICOLOR=0`; anything has it with `CLICOLOR_FORCE`; nothing has it
/// with `NO_COLOR`.
fn has_colour(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is = |name: &str, text: &str| variable(name).is_some_and(|value| value == text);
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    if set("NO_COLOR") {
        return false;
    }
    if set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0") {
        return true;
    }
    terminal && !is("TERM", "dumb") && !is("CLICOLOR", "0")
}

/// Writes a result to stdout and flushes it. That its reader went away (`| head`) is no reason to leave work undone,
/// or to end as if it had gone well: the result is not read then, and that is all.
///
/// # Errors
/// A [`Failure`] when stdout cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    match write(text) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|e| Failure::stdout(&e)),
    }
}

/// As [`print()`], for commands that do nothing but print, piece by piece: when nobody reads any more, they may stop.
///
/// # Errors
/// A [`Failure`]; a reader that went away gives one that ends the program quietly.
pub fn print_while_read(text: &str) -> Result<(), Failure> {
    write(text).map_err(|e| Failure::stdout(&e))
}

fn write(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Copies a result to stdout and flushes it.
///
/// # Errors
/// A [`Failure`], as [`print_while_read`] has it.
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

    #[test]
    fn colour_is_for_terminals_and_the_environment_has_the_last_word() {
        for (terminal, environment, colour) in [
            (true, &[][..], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (true, &[("TERM", "xterm")], true),
            (true, &[("CLICOLOR", "0")], false),
            (false, &[("CLICOLOR", "1")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (false, &[("CLICOLOR_FORCE", "")], false),
            (true, &[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")], true),
            (true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            let variable = |name: &str| environment.iter().find(|(of, _)| *of == name).map(|(_, value)| value.into());
            assert_eq!(has_colour(terminal, variable), colour, "{terminal} {environment:?}");
        }
    }
}

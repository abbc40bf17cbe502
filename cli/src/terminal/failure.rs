//! Exit codes, and the one form in which a failure reaches a person: what failed, why, what to do.

use super::{note, plain, stderr_has_colour};
use knit_api::problem::in_words;
use std::fmt;

/// Exit codes of both command lines; scripts rely on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All is done.
    Ok = 0,
    /// It failed, for a reason that has no code of its own.
    #[default]
    Failure = 1,
    /// The command line or a file the user wrote is wrong.
    Usage = 2,
    /// Some of what was asked for is done.
    Partial = 3,
    /// The server wants a token, or refuses this one.
    NotAuthorised = 4,
    /// What was named is not there.
    NotFound = 5,
    /// It is there already, or in a state that does not allow this.
    Conflict = 6,
    /// The given time was over first.
    TimedOut = 7,
    /// Bytes are not what they should be.
    Integrity = 8,
    /// Stopped by Ctrl-C or SIGTERM.
    Interrupted = 130,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command ends without having done its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    what: String,
    why: String,
    advice: String,
    exit: ExitCode,
    quiet: bool,
}

impl Failure {
    /// What failed, and on which object: `cannot read plan.yaml`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: String::new(), advice: String::new(), exit: ExitCode::Failure, quiet: false }
    }

    /// The user asked for something that cannot be meant.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(what).exit(ExitCode::Usage)
    }

    /// The reader of stdout went away (quiet, as it is what `| head` does), or stdout cannot be written.
    pub fn stdout(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self { quiet: true, ..Self::new("").exit(ExitCode::Ok) }
        } else {
            Self::new("cannot write to stdout").why(error)
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = why.to_string();
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Sets the code with which the program ends.
    #[must_use]
    pub fn exit(mut self, exit: ExitCode) -> Self {
        self.exit = exit;
        self
    }

    /// The code with which the program ends.
    pub fn exit_code(&self) -> ExitCode {
        self.exit
    }
}

impl fmt::Display for Failure {
    /// `what: why`, then the advice on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(&plain(&self.what)))?;
        if !self.why.is_empty() {
            write!(f, ": {}", in_words(&plain(&self.why)).trim_end())?;
        }
        if !self.advice.is_empty() {
            write!(f, "\n  try: {}", plain(&self.advice).trim_end().replace('\n', "\n       "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Ends a program: prints a failure, and turns both outcomes into the exit status.
pub fn finish(outcome: Result<ExitCode, Failure>) -> std::process::ExitCode {
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => {
            report(&failure);
            failure.exit.into()
        }
    }
}

/// Prints a failure on stderr without ending anything: for one of several objects.
pub fn report(failure: &Failure) {
    if failure.quiet {
        return;
    }
    if stderr_has_colour() {
        raw_note(&format!("\u{1b}[1;31merror:\u{1b}[0m {failure}"));
    } else {
        note(&format!("error: {failure}"));
    }
}

/// [`Failure`] has made its parts plain already; only our own colour is in here.
fn raw_note(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let failure = Failure::new("cannot read x").why("no such file\n").advice("look\nagain");
        assert_eq!(failure.to_string(), "cannot read x: no such file\n  try: look\n       again");
        let failure = Failure::new("cannot read x").why(std::io::Error::from_raw_os_error(13));
        assert_eq!(failure.to_string(), "cannot read x: Permission denied");
    }

    #[test]
    fn exit_codes_are_the_documented_numbers() {
        let codes = [
            ExitCode::Ok,
            ExitCode::Failure,
            ExitCode::Usage,
            ExitCode::Partial,
            ExitCode::NotAuthorised,
            ExitCode::NotFound,
            ExitCode::Conflict,
            ExitCode::TimedOut,
            ExitCode::Integrity,
            ExitCode::Interrupted,
        ];
        assert_eq!(codes.map(|code| code as u8), [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::stdout(&std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(failure.exit_code(), ExitCode::Ok);
        assert!(failure.quiet);
    }
}

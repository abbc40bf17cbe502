//! What can go wrong in either program, in words for the person who reads the log.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a program gives up.
#[derive(Debug)]
pub enum Problem {
    /// The command line asks for something the program does not do.
    Usage(String),
    /// A file or folder cannot be used.
    File {
        /// What was being done, for instance `read`.
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The content of a file is not what it should be.
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A file is well-formed but holds too little.
    TooShort {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// Standard output is gone.
    Output(io::Error),
}

impl Problem {
    /// `read` of `path` failed because of `cause`.
    pub fn reading(path: &Path, cause: io::Error) -> Self {
        Self::File { doing: "read", path: path.to_owned(), cause }
    }

    /// `write` of `path` failed because of `cause`.
    pub fn writing(path: &Path, cause: io::Error) -> Self {
        Self::File { doing: "write", path: path.to_owned(), cause }
    }

    /// Line `line` of `path` is wrong.
    pub fn in_line(path: &Path, line: usize, what: impl Into<String>) -> Self {
        Self::Line { path: path.to_owned(), line, what: what.into() }
    }

    /// 2 for a wrong command line, 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Self::Usage(_)) { 2 } else { 1 })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "{what}\nuse --help to see what can be given"),
            Self::File { doing, path, cause } => write!(f, "cannot {doing} {}: {cause}", path.display()),
            Self::Line { path, line, what } => write!(f, "{}, line {line}: {what}", path.display()),
            Self::TooShort { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Output(cause) => write!(f, "cannot write to standard output: {cause}"),
        }
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { cause, .. } | Self::Output(cause) => Some(cause),
            Self::Usage(_) | Self::Line { .. } | Self::TooShort { .. } => None,
        }
    }
}

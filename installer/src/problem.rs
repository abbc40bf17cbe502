//! What can go wrong with an installation, said so that a person knows what to do next.

use knit_api::problem::in_words;
use std::fmt;
use std::io;
use std::path::Path;

/// Which sort of failure it is; command lines turn it into their exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything that has no sort of its own.
    Failed,
    /// Asked for in a way that makes no sense.
    Usage,
    /// The rights are missing.
    NotAllowed,
    /// Something that is needed is not there.
    NotFound,
    /// Somebody else holds what is needed.
    Conflict,
    /// It took longer than it may.
    TimedOut,
}

/// A failure: what failed and why, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub struct Problem {
    /// Its sort.
    pub kind: Kind,
    /// What failed, on which object, why.
    pub what: String,
    /// What to do next; empty when there is nothing to add.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Problem {
    /// A failure of this sort, without advice.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), advice: String::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// A failed operation on a file or folder.
    pub(crate) fn file(doing: &str, path: &Path, cause: &io::Error) -> Self {
        let kind = match cause.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::NotAllowed,
            _ => Kind::Failed,
        };
        Self::new(kind, format!("cannot {doing} {}: {}", path.display(), in_words(&cause.to_string())))
    }
}

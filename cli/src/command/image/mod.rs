//! `knit image`.

pub mod ls;
pub mod pack;
pub mod push;

use crate::image::{ImageError, Progress as Watch};
use crate::project::Project;
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure};
use clap::Subcommand;
use std::sync::Mutex;

/// The commands about images.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Plans name images. One without a host (train:v1) is looked for in the server's own registry, and these commands \
put it there; no Docker is needed.")]
#[allow(missing_docs, reason = "their own words are their help, long and short")]
pub enum Command {
    Push(push::Push),
    Pack(pack::Pack),
    Ls(ls::Ls),
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Push(command) => command.run(project).await,
            Self::Pack(command) => command.run(project).await,
            Self::Ls(command) => command.run(project).await,
        }
    }
}

/// The failure that an error about images is.
pub(super) fn failed(what: impl Into<String>, error: &ImageError) -> Failure {
    let exit = match error {
        ImageError::Damaged { .. } => ExitCode::Integrity,
        ImageError::NotAuthorised { .. } => ExitCode::NotAuthorised,
        ImageError::Selection { .. } | ImageError::Pack(_) | ImageError::Target { .. } => ExitCode::Usage,
        _ => ExitCode::Failure,
    };
    let failure = Failure::new(what).why(error).exit(exit);
    if matches!(error, ImageError::Unreachable { .. }) {
        return failure.advice("is the server running? See: knitctl status");
    }
    failure
}

/// Shows blob after blob.
#[derive(Default)]
struct Bars {
    current: Mutex<Option<Progress>>,
}

impl Bars {
    fn put(&self, bar: Option<Progress>) {
        if let Ok(mut current) = self.current.lock() {
            *current = bar;
        }
    }
}

impl Watch for Bars {
    fn begin(&self, digest: &str, bytes: u64) {
        let short: String = digest.chars().take(19).collect();
        self.put(Some(Progress::bytes(&format!("pushing {short}"), Some(bytes))));
    }

    fn advance(&self, bytes: u64) {
        if let Ok(current) = self.current.lock()
            && let Some(bar) = &*current
        {
            bar.add(bytes);
        }
    }

    fn end(&self) {
        self.put(None);
    }
}

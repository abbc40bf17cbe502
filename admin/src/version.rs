//! `knitctl version`: which version this is.

use knit_cli::terminal::{ExitCode, Failure, print};

/// Prints the version alone, for scripts.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    print(&format!("{}\n", knit_api::VERSION))?;
    Ok(ExitCode::Ok)
}

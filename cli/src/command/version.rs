//! `knit version`.

use crate::terminal::{ExitCode, Failure, print};

/// Print the version of this program.
#[derive(Debug, clap::Args)]
pub struct Version {}

impl Version {
    /// Prints the version alone.
    pub fn run(self) -> Result<ExitCode, Failure> {
        print(&format!("v{}\n", knit_api::VERSION))?;
        Ok(ExitCode::Ok)
    }
}

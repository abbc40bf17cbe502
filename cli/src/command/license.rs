//! `knit license`.

use crate::terminal::{ExitCode, Failure, print};

const MIT: &str = include_str!("../../../LICENSE-MIT");
const APACHE: &str = include_str!("../../../LICENSE-APACHE");
/// Written by `tests/credits`.
const CREDITS: &str = include_str!("../../CREDITS");

/// Print the licence of this program, and those of its parts.
#[derive(Debug, clap::Args)]
pub struct License {}

impl License {
    /// Prints all of it: who wants less has `| head`.
    pub fn run(self) -> Result<ExitCode, Failure> {
        print(&text())?;
        Ok(ExitCode::Ok)
    }
}

fn text() -> String {
    let version = knit_api::VERSION;
    format!(
        "Knit v{version} is yours under the MIT licence or the Apache licence 2.0, as you like. Both stand below.\n\n\
         It contains these crates, each under the licence behind its name:\n\n\
         {CREDITS}\n\
         ---- MIT ----\n\n{}\n\n---- Apache-2.0 ----\n\n{}\n",
        MIT.trim(),
        APACHE.trim_matches('\n')
    )
}

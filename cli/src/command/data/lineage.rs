//! `knit data lineage`.
use crate::project::Project;
use crate::terminal::{ExitCode, Failure};

/// Draw
#[derive(Debug, clap::Args)]
pub struct Lineage {}
impl Lineage {
    /// x
    pub async fn run(self, _project: &Project) -> Result<ExitCode, Failure> {
        Ok(ExitCode::Ok)
    }
}

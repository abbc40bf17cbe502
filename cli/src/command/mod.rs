//! The commands of `knit`: one file each, by noun.

pub mod data;
pub mod image;
pub mod init;
pub mod license;
pub mod plan;
pub mod run;
pub mod version;

use crate::project::Project;
use crate::terminal::{ExitCode, Failure};
use clap::Subcommand;

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register a server for this folder, from the file that an administrator handed out
    Init(init::Init),
    /// Push, pull, find and tag Data, and show where it comes from
    #[command(subcommand)]
    Data(data::Command),
    /// Describe what is to be done with Data
    #[command(subcommand)]
    Plan(plan::Command),
    /// Look at what was done, stop it, repeat it, wait for it
    #[command(subcommand)]
    Run(run::Command),
    /// Put container images into the server's registry
    #[command(subcommand)]
    Image(image::Command),
    /// Print the version of this program
    Version(version::Version),
    /// Print the licence of this program, and those of its parts
    License(license::License),
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Init(command) => command.run(project),
            Self::Data(command) => command.run(project).await,
            Self::Plan(command) => command.run(project).await,
            Self::Run(command) => command.run(project).await,
            Self::Image(command) => command.run(project).await,
            Self::Version(command) => command.run(),
            Self::License(command) => command.run(),
        }
    }
}

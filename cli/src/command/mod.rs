//! The commands of `knit`: one file each, by noun.

pub mod cluster;
pub mod completion;
pub mod data;
pub mod env;
pub mod image;
pub mod init;
pub mod license;
pub mod plan;
pub mod profile;
pub mod run;
pub mod version;

use crate::project::Project;
use crate::terminal::{ExitCode, Failure};
use clap::Subcommand;

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[allow(missing_docs, reason = "its own words are its help, long and short")]
    Init(init::Init),
    /// Push, pull, find and tag Data, and show where it comes from
    #[command(subcommand)]
    Data(data::Command),
    /// Describe what is to be done with Data, find it, switch it on and off
    #[command(subcommand)]
    Plan(plan::Command),
    /// Look at executions of Plans, wait for them, stop, repeat and delete them
    #[command(subcommand)]
    Run(run::Command),
    /// Put container images into the server's registry
    #[command(subcommand)]
    Image(image::Command),
    /// List, choose and forget the servers that are registered
    #[command(subcommand)]
    Profile(profile::Command),
    #[allow(missing_docs, reason = "its own words are its help, long and short")]
    Env(env::Env),
    #[allow(missing_docs, reason = "its own words are its help, long and short")]
    Cluster(cluster::Cluster),
    #[allow(missing_docs, reason = "its own words are its help, long and short")]
    Completion(completion::Completion),
    /// Print the version of this program
    Version(version::Version),
    /// Print the licence of this program, and those of its parts
    License(license::License),
}

impl Command {
    /// Does it.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Init(command) => command.run(project).await,
            Self::Data(command) => command.run(project).await,
            Self::Plan(command) => command.run(project).await,
            Self::Run(command) => command.run(project).await,
            Self::Image(command) => command.run(project).await,
            Self::Profile(command) => command.run(project),
            Self::Env(command) => command.run(project),
            Self::Cluster(command) => command.run(project).await,
            Self::Completion(command) => command.run(),
            Self::Version(command) => command.run(),
            Self::License(command) => command.run(),
        }
    }
}

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
#[allow(missing_docs, reason = "their own words are their help, long and short")]
pub enum Command {
    Init(init::Init),
    /// Push, pull, find and tag Data, and show where it comes from
    #[command(subcommand)]
    Data(data::Command),
    /// Register, find, change and explain Plans: what is done with Data
    #[command(subcommand)]
    Plan(plan::Command),
    /// Look at executions of Plans; wait for, stop, repeat, delete them
    #[command(subcommand)]
    Run(run::Command),
    /// Put container images into the server's registry
    #[command(subcommand)]
    Image(image::Command),
    /// List, choose and forget the servers that are registered
    #[command(subcommand)]
    Profile(profile::Command),
    Env(env::Env),
    Cluster(cluster::Cluster),
    Completion(completion::Completion),
    Version(version::Version),
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

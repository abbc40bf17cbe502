//! `knit profile`: the servers that are registered, and which one is used where.

pub mod ls;
pub mod rm;
pub mod show;
pub mod r#use;

use crate::project::Project;
use crate::terminal::{ExitCode, Failure};
use clap::Subcommand;
use knit_api::server::Registry;
use serde::Serialize;

/// The commands about profiles.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "their own words are their help, long and short")]
pub enum Command {
    Ls(ls::Ls),
    Use(r#use::Use),
    Show(show::ProfileShow),
    Rm(rm::Rm),
}

impl Command {
    /// Does it.
    pub fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        match self {
            Self::Ls(command) => command.run(project),
            Self::Use(command) => command.run(project),
            Self::Show(command) => command.run(project),
            Self::Rm(command) => command.run(project),
        }
    }
}

/// A profile as it is printed: all but its token.
#[derive(Serialize)]
struct Printed<'a> {
    name: &'a str,
    /// Whether a command in this folder would use it.
    current: bool,
    /// By which rule, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(rename = "apiRoot")]
    api_root: &'a str,
    #[serde(rename = "hasToken")]
    has_token: bool,
    #[serde(rename = "hasCa")]
    has_ca: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<&'a Registry>,
}

impl<'a> Printed<'a> {
    fn new(
        name: &'a str,
        profile: &'a knit_api::profile::Profile,
        chosen: Option<&crate::project::Chosen<String>>,
    ) -> Self {
        let chosen = chosen.filter(|chosen| chosen.what == name);
        Self {
            name,
            current: chosen.is_some(),
            why: chosen.map(|chosen| chosen.rule.to_string()),
            api_root: &profile.api_root,
            has_token: profile.token.is_some(),
            has_ca: profile.cert.ca.as_ref().is_some_and(|ca| !ca.is_empty()),
            registry: profile.registry.as_ref(),
        }
    }

    /// Whom it trusts, for a person.
    fn trust(&self) -> &'static str {
        match (self.api_root.starts_with("https:"), self.has_ca) {
            (true, true) => "its own certificate",
            (true, false) => "the system's certificates",
            (false, _) => "plain HTTP",
        }
    }
}

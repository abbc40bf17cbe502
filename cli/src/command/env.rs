//! `knit env`: which environment file applies, and what stands in it.

use crate::knitenv::KnitEnv;
use crate::project::{Chosen, Project};
use crate::terminal::{ExitCode, Failure, Output, Show, Table};
use knit_api::plan::Resources;
use knit_api::tag::Tag;
use serde::Serialize;
use std::path::PathBuf;

/// Show the environment file (knitenv) that applies here.
///
/// Its tags are added to everything that is pushed; its resources are put into new Plans. It is the one named
/// with --env, by the environment variable KNIT_ENV, or the nearest file named knitenv, here or above.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Of another file
  knit env --env ./other/knitenv")]
pub struct Env {
    #[command(flatten)]
    output: Output,
}

/// The members of the file as it is written, and where it is.
#[derive(Serialize)]
struct Printed<'a> {
    file: Option<String>,
    why: Option<String>,
    tag: &'a [Tag],
    resource: &'a Resources,
}

impl Env {
    /// Reads the file; no server is asked.
    pub fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let file = project.environment_file()?;
        let environment = match &file {
            Some(file) => KnitEnv::load(&file.what)?,
            None => KnitEnv::default(),
        };
        let shown = |file: &Chosen<PathBuf>| file.what.display().to_string();
        let printed = Printed {
            file: file.as_ref().map(shown),
            why: file.as_ref().map(|file| file.rule.to_string()),
            tag: &environment.tags,
            resource: &environment.resources,
        };
        Show { value: &printed, table: &|| table(&printed), names: &|| file.as_ref().map(shown).into_iter().collect() }
            .print(self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

fn table(printed: &Printed) -> Table {
    let mut table = Table::new()
        .whole("KIND")
        .column("VALUE")
        .when_empty("No environment file applies here: there is no knitenv in this folder or above.");
    if let (Some(file), Some(why)) = (&printed.file, &printed.why) {
        table.row(["file", format!("{file} ({why})").as_str()]);
        for tag in printed.tag {
            table.row(["tag", tag.to_string().as_str()]);
        }
        for (kind, amount) in printed.resource {
            table.row(["resource", format!("{kind}={amount}").as_str()]);
        }
    }
    table
}

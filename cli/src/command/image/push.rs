//! `knit image push`.

use super::{Bars, failed};
use crate::image::{self, Pushed, Source};
use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, Format, Output, note, output::yaml, print, print_json};
use knit_api::image::{ImageError, ImageRef};
use serde::Serialize;
use std::ffi::OsString;

/// Put an image into the registry.
///
/// It is read from an archive or a folder; no Docker is needed. The name to write into a Plan is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # What `docker save` or `podman save` has written
  knit image push trainer.tar train:v1

  # Without a file in between
  docker save train:v1 | knit image push - train:v1")]
pub struct Push {
    /// An archive of `docker save` or in OCI form, a folder in OCI layout, or - for an archive on stdin
    #[arg(value_name = "FILE|DIR|-")]
    source: OsString,
    /// The name it gets in the registry
    #[arg(value_name = "NAME:TAG", value_parser = image_name)]
    name: ImageRef,
    /// Which image, when the archive holds several: its name there, or its digest
    #[arg(long, value_name = "IMAGE", allow_hyphen_values = true)]
    select: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Reads the name for an image.
pub(super) fn image_name(text: &str) -> Result<ImageRef, String> {
    text.parse().map_err(|e: ImageError| e.to_string())
}

impl Push {
    /// Sends what the registry does not have.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let source = Source { select: self.select, ..Source::from_argument(&self.source) };
        let pushed = push(&server, source, &self.name).await?;
        print_pushed(&pushed, self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

/// Pushes from any source to the registry of the server.
pub(super) async fn push(server: &Server, source: Source, name: &ImageRef) -> Result<Pushed, Failure> {
    let registry = server.registry().await?;
    let what = format!("cannot push {source} as {name}");
    image::push(source, name, &registry, &server.access(), &Bars::default()).await.map_err(|e| failed(what, &e))
}

/// Prints the name to write into a Plan.
pub(super) fn print_pushed(pushed: &Pushed, format: Option<Format>) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Answer<'a> {
        image: &'a str,
        digest: &'a str,
    }
    let answer = Answer { image: &pushed.reference, digest: &pushed.digest };
    match format {
        Some(Format::Json) => print_json(&answer),
        Some(Format::Yaml) => print(&yaml(&answer)?),
        // The name is the result, for a person and for a script.
        None | Some(Format::Table | Format::Wide | Format::Name) => {
            note(&format!("pushed {}", pushed.digest));
            print(&format!("{}\n", pushed.reference))
        }
    }
}

//! `knit plan template`.

use crate::args;
use crate::command::image::failed;
use crate::image::{self, Place, Source};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, note, print};
use crate::{plan_file, plan_template, yaml};
use std::ffi::OsString;
use std::io::IsTerminal as _;

/// Write a Plan file for an image, to be completed.
///
/// The file is printed; no server is asked. It takes over the program and the arguments of the image. Paths in them
/// with a part named "in" or "out" become inputs and outputs, with tags made of their names; tags and resources of the
/// environment file (knitenv) are added. With --scratch no image is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # From an image that Docker has, or from an archive of several
  docker save train:v1 | knit plan template > train.yaml
  knit plan template -i images.tar train:v1 > train.yaml

  # From nothing
  knit plan template --scratch > train.yaml")]
pub struct Template {
    /// A `docker save` or OCI archive (plain, gzip or zstd), the folder of an OCI layout, or - for an archive
    /// on stdin [default: -]
    #[arg(short, long, value_name = "FILE|DIR|-", allow_hyphen_values = true)]
    input: Option<OsString>,
    /// Make the file from nothing, with placeholders
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set,
          conflicts_with_all = ["input", "image"])]
    scratch: bool,
    /// Which image, when there are several: its name in the archive, or its digest
    #[arg(value_name = "IMAGE:TAG")]
    image: Option<String>,
}

impl Template {
    /// Reads the configuration of the image, and prints a Plan file that `plan apply` can read.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let environment = project.environment()?;
        if self.scratch {
            return finish(&plan_template::scratch(&environment), "a Plan file");
        }
        let mut source = Source::from_argument(&self.input.unwrap_or_else(|| "-".into()));
        source.select = self.image;
        if source.place == Place::Stdin && std::io::stdin().is_terminal() {
            return Err(Failure::usage("no image to make a Plan for").why("nothing comes on stdin").advice(
                "docker save IMAGE:TAG | knit plan template, or name an archive with --input; --scratch needs no image",
            ));
        }
        let what = format!("a Plan file for {source}");
        let described = image::describe(source).await.map_err(|e| failed(format!("cannot make {what}"), &e))?;
        finish(&plan_template::of_image(&described, &environment), &what)
    }
}

/// Prints the file, if it is one.
fn finish(text: &str, what: &str) -> Result<ExitCode, Failure> {
    let read = if text.len() as u64 > yaml::MAX_BYTES {
        Err(format!("it would have more than {} KiB", yaml::MAX_BYTES / 1024))
    } else {
        plan_file::parse(text).map(drop).map_err(|e| e.to_string())
    };
    read.map_err(|why| {
        Failure::new(format!("cannot make {what}"))
            .why(format!("the configuration of the image, or the environment file, does not fit into one: {why}"))
            .advice("start from: knit plan template --scratch")
    })?;
    print(text)?;
    note("complete it, then register it: knit plan apply FILE");
    Ok(ExitCode::Ok)
}

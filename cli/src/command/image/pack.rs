//! `knit image pack`.

use super::failed;
use super::push::{image_name, print_pushed, push};
use crate::args;
use crate::image::{PackOptions, pack};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Output};
use knit_api::image::ImageRef;
use std::path::PathBuf;

/// Make an image of a folder, and put it into the registry.
///
/// The image has one layer; no Docker is needed. The name to write into a Plan is printed. Equal files always make the same image.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # A folder with a program and what it needs
  knit image pack ./rootfs train:v1 --entrypoint /bin/train")]
pub struct Pack {
    /// The folder that becomes the root of the containers
    #[arg(value_name = "ROOTFS_DIR")]
    rootfs: PathBuf,
    /// The name it gets in the registry
    #[arg(value_name = "NAME:TAG", value_parser = image_name)]
    name: ImageRef,
    /// What containers execute; repeat it for further words
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// Arguments when a Plan gives none; repeat it for further words
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// An environment variable in the containers; repeat it for several
    #[arg(short = 'e', long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    set_env: Vec<String>,
    /// The folder in which containers start
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    workdir: Option<String>,
    /// The user as which containers run: NAME or NUMBER, optionally :GROUP [default: root]
    #[arg(long, value_name = "USER", allow_hyphen_values = true)]
    user: Option<String>,
    /// Keep the times of the files; then equal files do not always make the same image
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    keep_times: bool,
    #[command(flatten)]
    output: Output,
}

impl Pack {
    /// Packs into a temporary folder, and pushes from there.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let options = PackOptions {
            entrypoint: self.entrypoint,
            cmd: self.cmd,
            env: self.set_env,
            workdir: self.workdir,
            user: self.user,
            keep_times: self.keep_times,
        };
        let packed = pack(&self.rootfs, options)
            .await
            .map_err(|e| failed(format!("cannot pack {}", self.rootfs.display()), &e))?;
        let pushed = push(&server, packed.source(), &self.name).await?;
        print_pushed(&pushed, self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

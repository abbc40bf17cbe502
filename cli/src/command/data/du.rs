//! `knit data du`: how much the folders of a Data hold.

use crate::contents::{Contents, Trouble, inside, path_text, size_text};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Format, Output, Rows};
use knit_api::bundle::{Content, Entries, is_within};
use knit_api::content::EntryPath;
use knit_api::id::DataId;
use serde::Serialize;
use std::path::PathBuf;

/// Sum up the sizes of files in a Data.
///
/// Folder by folder, each with all that is in it, without fetching the Data. Links count for nothing, hard links as
/// files of their own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # How large is it, and which folders make it so?
  knit data du -s 0b1c2d3e
  knit data du -d 1 0b1c2d3e")]
pub struct Du {
    /// Show folders only this far below PATH
    #[arg(short, long, value_name = "LEVELS")]
    depth: Option<usize>,
    /// Show only the sum of all; the same as --depth 0
    #[arg(short, long, conflicts_with = "depth")]
    summarize: bool,
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
    /// A folder or file in it
    #[arg(value_name = "PATH", default_value = ".", hide_default_value = true)]
    path: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Du {
    /// Prints each folder once all in it is summed up.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let under = inside(&self.path)?;
        let server = project.server()?;
        let what = format!("cannot sum up the Data {}", self.id);
        let contents = Contents::of(&server, &self.id, &under, &what).await?;
        let format = Format::or_fitting(self.output.format);
        let depth = if self.summarize { 0 } else { self.depth.unwrap_or(usize::MAX) };
        let at = under.clone();
        let known = contents.read(&server, move |entries| sum_up(entries, &at, depth, format)).await?;
        if known {
            return Ok(ExitCode::Ok);
        }
        Err(Failure::new(what).why(format!("there is no {} in it", path_text(&under))).exit(ExitCode::NotFound))
    }
}

/// What a folder, or a file that was named, holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Sum {
    #[serde(flatten)]
    path: EntryPath,
    bytes: u64,
    files: u64,
}

/// A folder whose content is not over yet.
struct Open {
    path: Vec<u8>,
    bytes: u64,
    files: u64,
}

/// Sums up in canonical order: a folder is over with the first entry outside.
fn sum_up(entries: &mut dyn Entries, under: &[u8], depth: usize, format: Format) -> Result<bool, Trouble> {
    let mut rows = Rows::begin(format, "      SIZE       FILES  PATH");
    let mut known = under.is_empty();
    let mut open = vec![Open { path: under.to_vec(), bytes: 0, files: 0 }];
    while let Some(entry) = entries.next()? {
        if !is_within(entry.path, under) {
            continue;
        }
        known = true;
        while open.len() > 1 && !is_within(entry.path, &open[open.len() - 1].path) {
            leave(&mut open, depth, &mut rows)?;
        }
        match entry.content {
            Content::Directory if entry.path == under => {}
            Content::Directory => open.push(Open { path: entry.path.to_vec(), bytes: 0, files: 0 }),
            Content::File { size, .. } => {
                if let Some(folder) = open.last_mut() {
                    folder.bytes = folder.bytes.saturating_add(size);
                    folder.files += 1;
                }
            }
            Content::Link { .. } => {}
        }
    }
    if known {
        while !open.is_empty() {
            leave(&mut open, depth, &mut rows)?;
        }
        rows.end()?;
    }
    Ok(known)
}

/// Prints the innermost folder, and adds it to the one above.
fn leave(open: &mut Vec<Open>, depth: usize, rows: &mut Rows) -> Result<(), Failure> {
    let Some(Open { path, bytes, files }) = open.pop() else { return Ok(()) };
    if let Some(above) = open.last_mut() {
        above.bytes = above.bytes.saturating_add(bytes);
        above.files += files;
    }
    if open.len() > depth {
        return Ok(());
    }
    let path = if path.is_empty() { b".".to_vec() } else { path };
    rows.item(
        || Sum { path: EntryPath::of(&path), bytes, files },
        || format!("{:>10}  {files:>10}  {}", size_text(bytes), path_text(&path)),
        || path_text(&path),
    )
}

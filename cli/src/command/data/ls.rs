//! `knit data ls`: what is in a Data, without fetching it.

use crate::contents::{Contents, Item, Trouble, inside, path_text, size_text};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Format, Output, Rows};
use knit_api::bundle::{Content, Entries, Entry, is_within};
use knit_api::id::DataId;
use std::path::PathBuf;

/// List what is in a Data.
///
/// Nothing of it is fetched. Without PATH, its root is listed. Paths are printed as the other commands take them, from
/// the root of the Data on; what could steer a terminal is escaped, and exact in JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # The root, a folder in it, and everything
  knit data ls 0b1c2d3e
  knit data ls 0b1c2d3e images/train
  knit data ls -lR 0b1c2d3e")]
pub struct Ls {
    /// Show modes and digests too; the same as --output wide
    #[arg(short, long)]
    long: bool,
    /// Go into the folders
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
    /// A folder or file in it
    #[arg(value_name = "PATH", default_value = ".", hide_default_value = true)]
    path: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Ls {
    /// Prints each entry as it arrives.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let under = inside(&self.path)?;
        let server = project.server()?;
        let what = format!("cannot list the Data {}", self.id);
        let contents = Contents::of(&server, &self.id, &under, &what).await?;
        let format = match self.output.format {
            None if self.long => Format::Wide,
            chosen => Format::or_fitting(chosen),
        };
        let recursive = self.recursive;
        let at = under.clone();
        let known = contents.read(&server, move |entries| list(entries, &at, recursive, format)).await?;
        if known {
            return Ok(ExitCode::Ok);
        }
        Err(Failure::new(what).why(format!("there is no {} in it", path_text(&under))).exit(ExitCode::NotFound))
    }
}

/// Prints the entries that are asked for; false when there is nothing at that path.
fn list(entries: &mut dyn Entries, under: &[u8], recursive: bool, format: Format) -> Result<bool, Trouble> {
    let mut rows = Rows::begin(format, header(format));
    let mut known = under.is_empty();
    while let Some(entry) = entries.next()? {
        if !is_within(entry.path, under) {
            continue;
        }
        known = true;
        if is_listed(&entry, under, recursive) {
            rows.item(|| Item::of(&entry), || line(&entry, format == Format::Wide), || path_text(entry.path))?;
        }
    }
    if known {
        rows.end()?;
    }
    Ok(known)
}

/// Whether an entry at or below `under` is shown: a folder shows what is in it, anything else itself.
fn is_listed(entry: &Entry<'_>, under: &[u8], recursive: bool) -> bool {
    let below = entry.path.get(under.len()..).unwrap_or_default();
    match below.strip_prefix(b"/").or((under.is_empty()).then_some(below)) {
        None => !matches!(entry.content, Content::Directory),
        Some(below) => recursive || !below.contains(&b'/'),
    }
}

fn header(format: Format) -> &'static str {
    match format {
        Format::Wide => "MODE              SIZE  BLAKE3            PATH",
        _ => "      SIZE  PATH",
    }
}

fn line(entry: &Entry<'_>, wide: bool) -> String {
    let path = path_text(entry.path);
    let (letter, size, digest, tail) = match entry.content {
        Content::Directory => ('d', String::new(), String::new(), "/".to_owned()),
        Content::File { size, hash } => ('-', size_text(size), hash.to_string()[..16].to_owned(), String::new()),
        Content::Link { target } => ('l', String::new(), String::new(), format!(" -> {}", path_text(target))),
    };
    if wide {
        format!("{letter}{} {size:>11}  {digest:16}  {path}{tail}", permissions(entry.mode))
    } else {
        format!("{size:>10}  {path}{tail}")
    }
}

/// `rwxr-xr-x`.
fn permissions(mode: u32) -> String {
    (0..9).map(|at| if mode & (0o400 >> at) == 0 { '-' } else { ['r', 'w', 'x'][at % 3] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_shows_what_is_in_it_and_a_file_itself() {
        let entry = |path: &'static str| {
            let content = if path.ends_with('/') { Content::Directory } else { Content::Link { target: b"t" } };
            Entry { path: path.trim_end_matches('/').as_bytes(), mode: 0o755, content }
        };
        for (path, under, flat, deep) in [
            ("a", "", true, true),
            ("a/", "", true, true),
            ("a/b", "", false, true),
            ("a/", "a", false, false),
            ("a/b", "a", true, true),
            ("a/b/c", "a", false, true),
            ("a", "a", true, true),
        ] {
            assert_eq!(is_listed(&entry(path), under.as_bytes(), false), flat, "{path} in {under}");
            assert_eq!(is_listed(&entry(path), under.as_bytes(), true), deep, "{path} in {under}");
        }
    }

    #[test]
    fn permissions_are_written_as_ls_does() {
        assert_eq!(permissions(0o754), "rwxr-xr--");
        assert_eq!(permissions(0), "---------");
    }
}

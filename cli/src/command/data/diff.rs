//! `knit data diff`: how the content of two Data differs.

use crate::contents::{Contents, Thing, Trouble, path_text, size_text};
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Format, Output, Rows, note};
use knit_api::bundle::{Entries, Kept, canonical_order};
use knit_api::content::EntryPath;
use knit_api::id::DataId;
use serde::Serialize;
use std::cmp::Ordering;

/// Show how two Data differ.
///
/// Neither is fetched. A line begins with + for what only B has, - for what only A has, ~ for what differs in kind,
/// content or mode.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # What changed between two versions of a dataset
  knit data diff 0b1c2d3e dada2d3e")]
pub struct Diff {
    /// End with 1 when they differ
    #[arg(long)]
    exit_code: bool,
    /// Id of a Data, or its beginning
    #[arg(value_name = "A")]
    before: DataId,
    /// Id of the Data to compare it with
    #[arg(value_name = "B")]
    after: DataId,
    #[command(flatten)]
    output: Output,
}

impl Diff {
    /// Walks through both lists side by side. Equal digests need no walk.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let what = |id: &DataId| format!("cannot compare the Data {id}");
        let before = Contents::of(&server, &self.before, b"", &what(&self.before)).await?;
        let after = Contents::of(&server, &self.after, b"", &what(&self.after)).await?;
        let format = Format::or_fitting(self.output.format);
        let equal = before.digest().is_some() && before.digest() == after.digest();
        let differences = if equal {
            Rows::begin(format, "").end()?
        } else {
            let rows = Rows::begin(format, "");
            let rows = if self.exit_code { rows.to_the_end() } else { rows };
            before.read_both(after, &server, move |before, after| compare(before, after, rows)).await?
        };
        if differences == 0 && matches!(format, Format::Table | Format::Wide) {
            note("no differences");
        }
        Ok(if self.exit_code && differences > 0 { ExitCode::Failure } else { ExitCode::Ok })
    }
}

/// One path at which they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    #[serde(flatten)]
    path: EntryPath,
    /// `added`, `removed` or `changed`.
    change: &'static str,
    /// What changed: `kind`, `content`, `mode`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    what: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Thing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Thing>,
}

fn next(entries: &mut dyn Entries) -> Result<Option<Kept>, Trouble> {
    Ok(entries.next()?.map(|entry| Kept::of(&entry)))
}

/// Prints the differences; tells how many there are.
fn compare(before: &mut dyn Entries, after: &mut dyn Entries, mut rows: Rows) -> Result<usize, Trouble> {
    let (mut old, mut new) = (next(before)?, next(after)?);
    loop {
        let order = match (&old, &new) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => canonical_order(&old.path, &new.path),
        };
        let (here_before, here_after) = (
            if order == Ordering::Greater { None } else { old.take() },
            if order == Ordering::Less { None } else { new.take() },
        );
        if order != Ordering::Greater {
            old = next(before)?;
        }
        if order != Ordering::Less {
            new = next(after)?;
        }
        if here_before != here_after {
            print(&mut rows, here_before.as_ref(), here_after.as_ref())?;
        }
    }
    Ok(rows.end()?)
}

/// Prints one path at which there is a difference.
fn print(rows: &mut Rows, before: Option<&Kept>, after: Option<&Kept>) -> Result<(), Failure> {
    let path = before.or(after).map(|kept| kept.path.clone()).unwrap_or_default();
    let thing = |kept: &Kept| Thing::of(&kept.entry());
    let (before, after) = (before.map(thing), after.map(thing));
    let what = match (&before, &after) {
        (Some(before), Some(after)) => changed(before, after),
        _ => Vec::new(),
    };
    let line = line(&path, before.as_ref(), after.as_ref(), &what);
    let change = match (&before, &after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let name = path_text(&path);
    rows.item(|| Row { path: EntryPath::of(&path), change, what, before, after }, || line, || name)
}

fn changed(before: &Thing, after: &Thing) -> Vec<&'static str> {
    if before.kind != after.kind {
        return vec!["kind"];
    }
    let mut what = Vec::new();
    if (before.size, &before.digest, &before.target) != (after.size, &after.digest, &after.target) {
        what.push("content");
    }
    if before.mode != after.mode {
        what.push("mode");
    }
    what
}

/// `+ path  size`, `- path  size`, `~ path  what: before -> after`.
fn line(path: &[u8], before: Option<&Thing>, after: Option<&Thing>, what: &[&str]) -> String {
    let path = path_text(path);
    match (before, after) {
        (Some(before), Some(after)) => {
            let all: Vec<String> = what.iter().map(|what| format!("{what} {}", both(what, before, after))).collect();
            format!("~ {path}  {}", all.join(", "))
        }
        (None, Some(thing)) => format!("+ {path}{}", shape(thing)),
        (Some(thing), None) => format!("- {path}{}", shape(thing)),
        (None, None) => String::new(),
    }
}

fn both(what: &str, before: &Thing, after: &Thing) -> String {
    let one = |thing: &Thing| match (what, thing.size, &thing.target) {
        ("kind", _, _) => thing.kind.to_owned(),
        ("mode", _, _) => thing.mode.clone(),
        (_, Some(size), _) => size_text(size),
        (_, _, Some(target)) => path_text(&target.bytes()),
        _ => String::new(),
    };
    let (before, after) = (one(before), one(after));
    // Other bytes, but as many.
    if before == after { before } else { format!("{before} -> {after}") }
}

/// What follows a path that stands alone.
fn shape(thing: &Thing) -> String {
    match (thing.size, &thing.target) {
        (Some(size), _) => format!("  {}", size_text(size)),
        (_, Some(target)) => format!(" -> {}", path_text(&target.bytes())),
        _ => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, digest: &str, mode: &str) -> Thing {
        Thing { kind: "file", mode: mode.into(), size: Some(size), digest: Some(digest.into()), target: None }
    }

    fn folder(mode: &str) -> Thing {
        Thing { kind: "folder", mode: mode.into(), size: None, digest: None, target: None }
    }

    fn link(target: &[u8]) -> Thing {
        Thing { kind: "link", mode: "0777".into(), size: None, digest: None, target: Some(EntryPath::of(target)) }
    }

    #[test]
    fn a_line_says_what_differs() {
        for (before, after, expected) in [
            (None, Some(file(5, "a", "0644")), "+ p  5"),
            (None, Some(folder("0755")), "+ p/"),
            (Some(link(b"x\n")), None, "- p -> x\\n"),
            (Some(file(5, "a", "0644")), Some(file(6, "b", "0644")), "~ p  content 5 -> 6"),
            (Some(file(5, "a", "0644")), Some(file(5, "b", "0644")), "~ p  content 5"),
            (Some(file(5, "a", "0644")), Some(file(5, "a", "0755")), "~ p  mode 0644 -> 0755"),
            (Some(file(5, "a", "0644")), Some(file(6, "b", "0755")), "~ p  content 5 -> 6, mode 0644 -> 0755"),
            (Some(file(5, "a", "0644")), Some(folder("0755")), "~ p  kind file -> folder"),
            (Some(link(b"x")), Some(link(b"y")), "~ p  content x -> y"),
        ] {
            let what = match (&before, &after) {
                (Some(before), Some(after)) => changed(before, after),
                _ => Vec::new(),
            };
            assert_eq!(line(b"p", before.as_ref(), after.as_ref(), &what), expected);
        }
        assert!(changed(&file(5, "a", "0644"), &file(5, "a", "0644")).is_empty());
    }
}

//! Transcripts: pages that a person reads as documentation and the tests run as claims.
//!
//! A page is Markdown. What stands in a fence marked `sh` is run without a word and must succeed. In a fence
//! marked `console` each line that begins with `$ ` is a command (`> ` continues it), and the lines below it are
//! what a person would see of stdout and stderr, closed by `[exit N]` when it does not end with 0. One shell
//! runs the whole page in an empty folder, so variables live on. What differs from run to run is replaced by
//! names: `<id-1>` is the first id that the page shows, `<time>` a time, and so on. In what is expected, a
//! line `...` stands for any lines and `[..]` for anything within a line.
//!
//! A runner of our own because the pages share one shell and number their ids, which the known ones do not.
//! With `KNIT_TESTS_UPDATE` set, what does not hold is written into the page: to be read before it is kept.

use crate::{Ran, World};
use regex::Regex;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Stands between the outputs of commands.
const MARK: char = '\u{1e}';

/// One page.
#[derive(Debug)]
pub struct Transcript {
    path: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Kept as it is, with its line ends.
    Prose(String),
    /// Run without a word.
    Silent(String),
    /// A command, and what it prints.
    Command { lines: Vec<String>, expected: Vec<String> },
}

impl Transcript {
    /// Reads a page.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path: path.to_owned(), parts: parts(&text) }
    }

    /// All pages of a folder by name.
    pub fn all(folder: &Path) -> Vec<Self> {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Every command that the page shows, as a person would type it.
    pub fn commands(&self) -> Vec<String> {
        let shown = self.parts.iter().filter_map(|part| match part {
            Part::Command { lines, .. } => Some(lines.join("\n")),
            _ => None,
        });
        shown.collect()
    }

    /// Runs the page in a world, and claims that all is as it says.
    pub fn check(&self, world: &World) {
        let outputs = self.run(world);
        let mut names = Names::of(world);
        let mut outputs = outputs.into_iter();
        let mut text = String::new();
        let mut wrong = String::new();
        for part in &self.parts {
            match part {
                Part::Prose(prose) => text.push_str(prose),
                Part::Silent(script) => {
                    text.push_str(script);
                    let (output, code) = outputs.next().unwrap_or_default();
                    assert!(code == "0", "{}: a silent part failed ({code}):\n{script}\n{output}", self.path.display());
                }
                Part::Command { lines, expected } => {
                    let (output, code) = outputs.next().unwrap_or_default();
                    let mut seen: Vec<String> = names.replace(&output).lines().map(str::to_owned).collect();
                    if code != "0" {
                        seen.push(format!("[exit {code}]"));
                    }
                    let holds = matches(expected, &seen);
                    if !holds {
                        let _ = writeln!(
                            wrong,
                            "{}\n-- expected:\n{}\n-- seen:\n{}\n",
                            lines.join("\n"),
                            expected.join("\n"),
                            seen.join("\n")
                        );
                    }
                    for line in lines.iter().chain(if holds { expected } else { &seen }) {
                        text.push_str(line);
                        text.push('\n');
                    }
                }
            }
        }
        if !wrong.is_empty() && std::env::var_os("KNIT_TESTS_UPDATE").is_some() {
            fs::write(&self.path, &text).unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        } else {
            assert!(wrong.is_empty(), "{} does not hold:\n{wrong}{}", self.path.display(), world.log_tail());
        }
    }

    /// The output and exit code of each part that is run.
    fn run(&self, world: &World) -> Vec<(String, String)> {
        let mut script = String::from("exec 2>&1\n");
        for part in &self.parts {
            let command = match part {
                Part::Prose(_) => continue,
                Part::Silent(fence) => {
                    fence.lines().filter(|line| !line.starts_with("```")).collect::<Vec<_>>().join("\n")
                }
                Part::Command { lines, .. } => {
                    lines.iter().map(|line| line.split_at(2).1).collect::<Vec<_>>().join("\n")
                }
            };
            let _ = write!(script, "{command}\nprintf '{MARK}%d{MARK}' $?\n");
        }
        let file = world.base().join("transcript");
        fs::write(&file, script).expect("room for a script");
        let mut command = world.command("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = world.program("knit");
        let programs = programs.parent().expect("programs are in a folder").display();
        command.arg(&file).env("PATH", format!("{}:{programs}:{path}", world.base().join("bin").display()));
        command.env("KNIT_DIR", world.dir());
        let ran = Ran::run(command).text();
        let mut pieces = ran.split(MARK).map(str::to_owned);
        let mut outputs = Vec::new();
        while let (Some(output), Some(code)) = (pieces.next(), pieces.next()) {
            outputs.push((output, code));
        }
        outputs
    }
}

/// Takes a page apart.
fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut fence: Option<&str> = None;
    let mut silent = String::new();
    for line in text.lines() {
        match (fence, line) {
            (None, "```console") => {
                fence = Some("console");
                prose(&mut parts, line);
            }
            (None, "```sh") => {
                fence = Some("sh");
                silent = format!("{line}\n");
            }
            (Some("sh"), "```") => {
                fence = None;
                parts.push(Part::Silent(format!("{silent}{line}\n")));
            }
            (Some("sh"), _) => {
                silent.push_str(line);
                silent.push('\n');
            }
            (Some(_), "```") => {
                fence = None;
                prose(&mut parts, line);
            }
            (Some(_), _) if line.starts_with("$ ") => {
                parts.push(Part::Command { lines: vec![line.to_owned()], expected: Vec::new() });
            }
            (Some(_), _) => match parts.last_mut() {
                Some(Part::Command { lines, expected }) if expected.is_empty() && line.starts_with("> ") => {
                    lines.push(line.to_owned());
                }
                Some(Part::Command { expected, .. }) => expected.push(line.to_owned()),
                _ => prose(&mut parts, line),
            },
            (None, _) => prose(&mut parts, line),
        }
    }
    parts
}

fn prose(parts: &mut Vec<Part>, line: &str) {
    if let Some(Part::Prose(text)) = parts.last_mut() {
        text.push_str(line);
        text.push('\n');
    } else {
        parts.push(Part::Prose(format!("{line}\n")));
    }
}

/// Whether what was seen is what was expected, `...` and `[..]` standing for anything.
fn matches(expected: &[String], seen: &[String]) -> bool {
    match expected.split_first() {
        None => seen.is_empty(),
        Some((first, rest)) if first == "..." => (0..=seen.len()).any(|skipped| matches(rest, &seen[skipped..])),
        Some((first, rest)) => {
            seen.split_first().is_some_and(|(line, others)| line_matches(first, line) && matches(rest, others))
        }
    }
}

fn line_matches(expected: &str, seen: &str) -> bool {
    let mut pieces = expected.trim_end().split("[..]");
    let Some(mut left) = seen.trim_end().strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return left.is_empty() };
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

/// Names for what differs from run to run.
struct Names {
    places: Vec<(String, &'static str)>,
    ids: HashMap<String, usize>,
}

static ID: LazyLock<Regex> = LazyLock::new(|| pattern(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static OTHERS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)", "<time>"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d+)?)?", "<time>"),
        (r"\b(sha256:)?[0-9a-f]{64}\b", "<digest>"),
        // Ports that the system has picked; not those that Knit has by default.
        (r"\b(127\.0\.0\.1|localhost):(3[2-9]|[4-6]\d)\d{3}\b", "<address>"),
        (r"\b\d+(\.\d+)? ?[KMGT]iB\b", "<size>"),
        (r"\b(just now|\d+(ms|s|m|h|d) ago)\b", "<ago>"),
    ]
    .map(|(text, name)| (pattern(text), name))
    .into()
});
static GAP: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\S)  +"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is sound")
}

impl Names {
    fn of(world: &World) -> Self {
        let mut places = vec![
            (world.work().display().to_string(), "<here>"),
            (world.home().display().to_string(), "~"),
            (world.dir().display().to_string(), "<dir>"),
            (world.base().display().to_string(), "<tmp>"),
        ];
        if world.server().is_some() {
            places.push((world.api(), "<api>"));
            places.push((world.registry(), "<registry>"));
            places.extend(world.token().map(|token| (token, "<token>")));
        }
        Self { places, ids: HashMap::new() }
    }

    fn replace(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, name) in &self.places {
            text = text.replace(place.as_str(), name);
        }
        let ids = &mut self.ids;
        text = ID
            .replace_all(&text, |found: &regex::Captures<'_>| {
                // The Plans that are there from the start have the same ids everywhere.
                if found[0].starts_with("00000000-") {
                    return found[0].to_owned();
                }
                let next = ids.len() + 1;
                format!("<id-{}>", ids.entry(found[0].to_owned()).or_insert(next))
            })
            .into_owned();
        for (pattern, name) in OTHERS.iter() {
            text = pattern.replace_all(&text, *name).into_owned();
        }
        // Columns are as wide as what stood there before.
        GAP.replace_all(&text, "$1  ").into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_page_is_prose_silent_parts_and_commands_with_what_they_print() {
        let page = "# A\n```sh\nmkdir a\n```\n```console\n$ ls\na\n$ cat \\\n> b\n[exit 1]\n```\nend\n";
        let command = |text: &str, expected: &str| Part::Command { lines: lines(text), expected: lines(expected) };
        assert_eq!(
            parts(page),
            [
                Part::Prose("# A\n".into()),
                Part::Silent("```sh\nmkdir a\n```\n".into()),
                Part::Prose("```console\n".into()),
                command("$ ls", "a"),
                command("$ cat \\\n> b", "[exit 1]"),
                Part::Prose("```\nend\n".into()),
            ]
        );
    }

    #[test]
    fn dots_stand_for_any_lines_and_bracketed_dots_for_anything_in_a_line() {
        let holds = |expected: &str, seen: &str| matches(&lines(expected), &lines(seen));
        assert!(holds("a\n...\nd", "a\nb\nc\nd"));
        assert!(holds("...", ""));
        assert!(holds("took [..] s", "took 1.5 s"));
        assert!(!holds("took [..] s", "took 1.5 ms "));
        assert!(!holds("a", "a\nb"));
        assert!(!holds("a\nb", "a"));
    }
}

//! Extension commands: a program `knit-NAME` on PATH is `knit NAME`. It is given everything behind its name as
//! it stands, and what the common flags before its name say in its environment.
//!
//! PATH is looked through only when the first word is no command of ours, and to tell what there is.

use crate::args::{Common, Knit};
use crate::project::Project;
use crate::terminal::{Failure, plain};
use clap::{CommandFactory as _, FromArgMatches as _};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the file of an extension begins.
const PREFIX: &str = "knit-";
/// What may stand behind the name of an extension's file without being part of the name.
const SUFFIXES: [&str; 4] = [".exe", ".bat", ".cmd", ".com"];

/// What a command line asks for.
#[derive(Debug)]
pub enum Line {
    /// A command of ours.
    Own(Knit),
    /// An extension.
    Extension(Call),
}

/// The call of an extension.
#[derive(Debug)]
pub struct Call {
    /// Its file.
    pub path: PathBuf,
    /// What stands behind its name.
    pub arguments: Vec<OsString>,
    /// What stands before it.
    pub common: Common,
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// Wrong usage, or help and version, which clap treats the same way.
pub fn parse(mut words: Vec<OsString>) -> Result<Line, clap::Error> {
    let grammar = Knit::command();
    let mut first = first_word(&grammar, &words);
    if let Some(at) = first
        && words[at] == "help"
        && find(&words[at]).is_none()
    {
        // As many other programs have it: the help of what is named behind it.
        words.remove(at);
        words.push("--help".into());
        first = first_word(&grammar, &words);
    }
    if let Some(at) = first
        && is_builtin(&grammar, &words[at])
    {
        let mut matches = grammar.try_get_matches_from(words)?;
        return Knit::from_arg_matches_mut(&mut matches).map(Line::Own);
    }
    if let Some(at) = first
        && let Some(path) = find(&words[at])
    {
        // The flags alone, by the same grammar.
        let flags = grammar.subcommand_required(false).arg_required_else_help(false);
        let matches = flags.try_get_matches_from(&words[..at])?;
        let common = Common::from_arg_matches(&matches)?;
        return Ok(Line::Extension(Call { path, arguments: words[at + 1..].to_vec(), common }));
    }
    // Help, or a word that nobody knows: either way it matters which extensions there are.
    let mut grammar = with_names(Knit::command(), true);
    match grammar.try_get_matches_from_mut(words) {
        Ok(mut matches) => Knit::from_arg_matches_mut(&mut matches).map(Line::Own).map_err(|e| e.format(&mut grammar)),
        Err(e) => Err(e),
    }
}

impl Call {
    /// Becomes the extension: it has this process, with its input, output and signals. Where the system does not
    /// know such a thing, waits for it, and ends as it does.
    pub fn run(self) -> Result<std::process::ExitCode, Failure> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).envs(Project::new(self.common).variables()?);
        let failed = |cause: std::io::Error| {
            Failure::new(format!("cannot run the extension {}", self.path.display()))
                .why(cause)
                .advice("is it a program for this machine, or a script whose first line names one?")
        };
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            Err(failed(command.exec()))
        }
        #[cfg(not(unix))]
        {
            let code = command.status().map_err(failed)?.code().unwrap_or(1);
            Ok(u8::try_from(code).unwrap_or(1).into())
        }
    }
}

/// The place of the first word that is neither a flag nor the value of one. `None` also where a flag is not known:
/// then clap has something to say.
pub(crate) fn first_word(grammar: &clap::Command, words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        let (flag, has_value) = match text.split_once('=') {
            Some((flag, _)) => (flag, true),
            None => (&*text, false),
        };
        let known = if let Some(long) = flag.strip_prefix("--") {
            grammar.get_arguments().find(|arg| arg.get_long() == Some(long))?
        } else if let Some(short) = flag.strip_prefix('-') {
            let mut letters = short.chars();
            let letter = letters.next()?;
            let known = grammar.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
            if letters.next().is_some() {
                // A value, or more flags, in the same word.
                at += 1;
                continue;
            }
            known
        } else {
            return Some(at);
        };
        let takes_next = known.get_action().takes_values() && !known.is_require_equals_set();
        at += if takes_next && !has_value { 2 } else { 1 };
    }
    None
}

fn is_builtin(grammar: &clap::Command, word: &OsStr) -> bool {
    grammar.find_subcommand(word).is_some()
}

/// The extension of that name: the first one on PATH.
fn find(name: &OsStr) -> Option<PathBuf> {
    // A name with a separator would lead elsewhere.
    if name.is_empty() || Path::new(name).components().count() != 1 || Path::new(name).file_name() != Some(name) {
        return None;
    }
    let file = |suffix: &str| {
        let mut file = OsString::from(PREFIX);
        file.push(name);
        file.push(suffix);
        file
    };
    folders()
        .flat_map(|folder| std::iter::once("").chain(SUFFIXES).map(move |suffix| folder.join(file(suffix))))
        .find(|path| is_program(path))
}

/// All extensions by name, with their files; of several with one name the first one on PATH.
pub fn all() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in folders() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut files: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        files.sort();
        for file in files {
            let Some(name) = file.strip_prefix(PREFIX) else { continue };
            let name = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            if name.is_empty() || name.starts_with('-') || found.contains_key(name) {
                continue;
            }
            let path = folder.join(&file);
            if is_program(&path) {
                found.insert(name.to_owned(), path);
            }
        }
    }
    found
}

/// The folders of PATH; an empty one is the current folder.
fn folders() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.into_iter().filter_map(|folder| {
        std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder }).ok()
    })
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    path.is_file() && SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// The grammar with the names of all extensions in it, so that they are proposed for a word that is nearly one,
/// and with words on them at the end of the help. `hidden` keeps them out of the list of our own commands.
pub fn with_names(mut grammar: clap::Command, hidden: bool) -> clap::Command {
    let (shadowed, usable): (Vec<_>, Vec<_>) =
        all().into_iter().partition(|(name, _)| is_builtin(&grammar, OsStr::new(name)));
    let shown = |path: &Path| plain(&path.display().to_string()).replace(['\n', '\t'], "?");
    let width = usable.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let usable_lines = usable.iter().map(|(name, path)| format!("  {:width$}  {}", plain(name), shown(path)));
    let shadowed_lines = shadowed.iter().map(|(_, path)| format!("  {}", shown(path)));
    let mut words = section("Extensions:", usable_lines);
    words.push_str(&section("Never called, because commands of knit have these names:", shadowed_lines));
    if !words.is_empty() {
        let rest = grammar.get_after_help().map(ToString::to_string).unwrap_or_default();
        grammar = grammar.after_help(format!("{words}{rest}").trim_end().to_owned());
    }
    for (name, path) in usable {
        let argument = clap::Arg::new("arguments").num_args(0..).value_hint(clap::ValueHint::AnyPath);
        grammar = grammar.subcommand(clap::Command::new(name).about(shown(&path)).hide(hidden).arg(argument));
    }
    grammar
}

/// Lines under a title, and an empty one; nothing without lines.
fn section(title: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { String::new() } else { format!("{title}\n{}\n\n", lines.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(words: &[&str]) -> Option<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        first_word(&Knit::command(), &words).map(|at| words[at].to_str().unwrap().to_owned())
    }

    #[test]
    fn the_first_word_is_found_behind_flags_and_their_values() {
        for (words, found) in [
            (&["knit"][..], None),
            (&["knit", "hello", "--profile", "x"], Some("hello")),
            (&["knit", "--profile", "p", "hello"], Some("hello")),
            (&["knit", "--profile=p", "--env", "e", "hello", "-h"], Some("hello")),
            (&["knit", "--profile"], None),
            (&["knit", "--help", "hello"], None),
            (&["knit", "-h", "hello"], None),
            (&["knit", "--", "hello"], None),
            (&["knit", ""], Some("")),
        ] {
            assert_eq!(first(words).as_deref(), found, "{words:?}");
        }
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_folders_of_path() {
        for name in ["", ".", "..", "a/b", "/bin/sh", "a/"] {
            assert_eq!(find(OsStr::new(name)), None, "{name:?}");
        }
    }
}

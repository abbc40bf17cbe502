//! Completion of words on the command line of a shell. A script in the shell calls this program at each TAB with
//! the line so far; clap's engine says which command and argument the word belongs to, and [`offer`] what may stand
//! there, also by asking the server.
//!
//! Whatever goes wrong, the shell gets an answer at once: an empty one at worst, and never a word of trouble.

mod bash;
mod cache;
mod offer;
mod pages;
mod script;

pub use pages::{Page, pages, pages_are_fresh};
pub use script::{Shell, script};

use crate::args::{Common, Knit};
use crate::extension;
use crate::project::Project;
use crate::terminal::print;
use clap::CommandFactory as _;
use clap_complete::engine::{self, CompletionCandidate};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// The environment variable that names the shell that asks.
const VARIABLE: &str = "_KNIT_COMPLETE";
/// After this time there is an answer, whatever hangs: a home folder that is far away, for one.
const LAST: Duration = Duration::from_millis(950);

/// True when this program was called by a shell that wants to complete a word.
pub fn is_asked() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|shell| !shell.is_empty())
}

/// Answers a shell, and says nothing else. `grammar` is made for the words so far.
pub fn answer(grammar: fn(&[OsString]) -> clap::Command) -> std::process::ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = done.send(answer_to(grammar).unwrap_or_default());
    });
    if let Ok(text) = waiting.recv_timeout(LAST) {
        // A shell that is gone wants no answer.
        let _ = print(&text);
    }
    std::process::ExitCode::SUCCESS
}

/// The grammar of `knit` with what may stand at each place, extensions too.
pub fn knit(words: &[OsString]) -> clap::Command {
    let project = Project::new(common_flags(words));
    offer::attach(extension::with_names(Knit::command(), false), &project, words)
}

/// The text for the shell; `None` when a shell is not known or asks in an unknown way.
fn answer_to(grammar: fn(&[OsString]) -> clap::Command) -> Option<String> {
    let shell = Shell::named(std::env::var(VARIABLE).ok()?.as_str())?;
    if shell == Shell::Bash {
        return bash::answer(|words| candidates(grammar, words));
    }
    let mut words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let index = match shell {
        Shell::Zsh | Shell::Elvish => std::env::var("_CLAP_COMPLETE_INDEX").ok()?.parse().ok()?,
        _ => words.len().checked_sub(1)?,
    };
    // What stands behind the cursor is of no use.
    words.truncate(index + 1);
    if words.len() == index {
        words.push(OsString::new());
    }
    let lines = candidates(grammar, words).into_iter().map(|one| {
        let (value, hint) = (one.get_value().to_string_lossy().into_owned(), hint(&one));
        match shell {
            Shell::Zsh => {
                let hint = if hint.is_empty() { hint } else { format!(":{}", hint.replace('\\', "\\\\")) };
                format!("{}{hint}\n", value.replace('\\', "\\\\").replace(':', "\\:"))
            }
            Shell::Elvish => format!("{value}\n"),
            _ if hint.is_empty() => format!("{value}\n"),
            _ => format!("{value}\t{hint}\n"),
        }
    });
    let text: String = lines.collect();
    // zsh takes an empty last line for one more word.
    Some(text.trim_end_matches('\n').to_owned())
}

/// What the last word may become.
fn candidates(grammar: fn(&[OsString]) -> clap::Command, mut words: Vec<OsString>) -> Vec<CompletionCandidate> {
    let Some(last) = words.len().checked_sub(1) else { return Vec::new() };
    let begun = !words[last].is_empty();
    let home = from_home(&words[last]);
    if let Some((_, whole)) = &home {
        words[last].clone_from(whole);
    }
    let here = std::env::current_dir().ok();
    let mut found = engine::complete(&mut grammar(&words), words, last, here.as_deref()).unwrap_or_default();
    let is_flag = |one: &CompletionCandidate| one.get_value().as_encoded_bytes().starts_with(b"-");
    // Nobody looks for flags among ids and files without having begun one.
    if !begun && found.iter().any(|one| !is_flag(one)) {
        found.retain(|one| !is_flag(one));
    }
    match home {
        Some((home, _)) => found.into_iter().filter_map(|one| to_home(&one, &home)).collect(),
        None => found,
    }
}

/// The home folder with a slash, and a word that begins with `~/` as the path that it means.
fn from_home(word: &OsStr) -> Option<(String, OsString)> {
    let below = word.to_str()?.strip_prefix("~/")?;
    let home = format!("{}/", dirs::home_dir()?.to_str()?.trim_end_matches('/'));
    let whole = format!("{home}{below}").into();
    Some((home, whole))
}

/// A path below the home folder as it was begun, with `~/`.
fn to_home(candidate: &CompletionCandidate, home: &str) -> Option<CompletionCandidate> {
    let below = candidate.get_value().to_str()?.strip_prefix(home)?;
    Some(CompletionCandidate::new(format!("~/{below}")).help(candidate.get_help().cloned()))
}

/// What a person recognises it by, on one line.
fn hint(candidate: &CompletionCandidate) -> String {
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    help.lines().next().unwrap_or_default().replace('\t', " ").trim().to_owned()
}

/// The common flags of a line that is not finished, wherever they stand.
fn common_flags(words: &[OsString]) -> Common {
    let mut common = Common::default();
    let mut words = words.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else { continue };
        let (flag, value) = match text.split_once('=') {
            Some((flag, value)) => (flag, Some(OsStr::new(value))),
            None => (text, words.peek().map(|next| next.as_os_str())),
        };
        let Some(value) = value else { continue };
        match flag {
            "--profile" => common.profile = Some(value.to_string_lossy().into_owned()),
            "--profile-store" => common.profile_store = Some(value.into()),
            "--env" => common.env = Some(value.into()),
            _ => {}
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &[&str]) -> Vec<String> {
        let words = line.iter().map(OsString::from).collect();
        let found =
            candidates(|words| offer::attach(Knit::command(), &Project::new(common_flags(words)), words), words);
        found.iter().map(|one| one.get_value().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn commands_flags_and_fixed_values_are_offered_without_a_server() {
        assert!(offered(&["knit", ""]).contains(&"data".to_owned()));
        assert_eq!(offered(&["knit", "data", "pus"]), ["push"]);
        assert_eq!(offered(&["knit", "run", "find", "--status", "wai"]), ["waiting"]);
        assert_eq!(offered(&["knit", "run", "find", "-s=do"]), ["-s=done"]);
        assert_eq!(offered(&["knit", "data", "find", "--transient", ""]), ["both", "yes", "no"]);
        assert_eq!(offered(&["knit", "data", "lineage", "-n", "a"]), ["all"]);
        assert!(offered(&["knit", "data", "find", "--outp"]).contains(&"--output".to_owned()));
        assert!(offered(&["knit", "data", "find", "--output", "j"]).contains(&"json".to_owned()));
    }

    #[test]
    fn flags_stay_away_until_one_is_begun() {
        assert!(offered(&["knit", "plan", ""]).iter().all(|word| !word.starts_with('-')));
        assert!(offered(&["knit", "plan", "-"]).contains(&"--profile".to_owned()));
    }

    #[test]
    fn common_flags_are_found_wherever_they_stand() {
        let words = ["knit", "data", "--profile", "p", "find", "--profile-store=/s", "--env"].map(OsString::from);
        let common = common_flags(&words);
        assert_eq!(common.profile.as_deref(), Some("p"));
        assert_eq!(common.profile_store, Some("/s".into()));
        assert_eq!(common.env, None);
    }
}

//! What may stand at a place of the command line. Places are known by the name of their value, as the help shows it
//! (`DATA_ID`, `KEY:VALUE`): whoever adds a command has its words completed by calling things as they are called.

use super::cache::Cache;
use crate::contents::{Contents, Trouble, inside};
use crate::extension::first_word;
use crate::profile_store::ProfileStore;
use crate::project::{Project, Server};
use crate::terminal::plain;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use futures_util::future::join_all;
use knit_api::bundle::{Content, Entries};
use knit_api::candidate::{Candidate, Kind};
use knit_api::id::DataId;
use knit_api::run::RunStatus;
use knit_api::server::capability;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the server may be asked, connecting and all.
const PATIENCE: Duration = Duration::from_millis(700);
/// Most candidates of one kind.
const MOST: usize = 100;
/// Longest candidate, and longest hint, in characters.
const LONGEST: usize = 200;
const LONGEST_HINT: usize = 60;

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Things that the server knows.
    Server(&'static [Kind]),
    /// Keys of tags.
    TagKeys,
    Status,
    Profile,
    /// Paths in the Data that stands before them.
    Content,
}

impl Place {
    /// The place of an argument, by what it is called.
    fn of(argument: &clap::Arg, noun: &str) -> Option<Self> {
        if argument.get_id() == "profile" {
            return Some(Self::Profile);
        }
        Some(match argument.get_value_names()?.first()?.as_str() {
            "DATA_ID" => Self::Server(&[Kind::Data]),
            "PLAN_ID" => Self::Server(&[Kind::PlanNames, Kind::Plans]),
            "RUN_ID" => Self::Server(&[Kind::Runs]),
            "KEY:VALUE" => Self::Server(&[Kind::Tags]),
            "KEY" if noun == "data" => Self::TagKeys,
            "STATUS" => Self::Status,
            "PROFILE" => Self::Profile,
            "PATH" if noun == "data" && argument.is_positional() => Self::Content,
            _ => return None,
        })
    }
}

/// The grammar with what to offer at each place of the line that begins with these words.
pub(super) fn attach(grammar: clap::Command, project: &Project, words: &[OsString]) -> clap::Command {
    let data = operand(grammar.clone(), words).filter(|word| !word.is_empty());
    let from = Source { project: project.clone(), until: Instant::now() + PATIENCE, data };
    attach_below(grammar, "", &from)
}

/// The first word behind a command and what it belongs to that is neither a flag nor the value of one.
fn operand(mut grammar: clap::Command, words: &[OsString]) -> Option<String> {
    // Common flags may stand anywhere.
    grammar.build();
    let (mut command, mut words) = (&grammar, words);
    for _ in 0..2 {
        words = words.get(first_word(command, words)?..)?;
        command = command.find_subcommand(words.first()?)?;
    }
    words.get(first_word(command, words)?)?.to_str().map(str::to_owned)
}

fn attach_below(command: clap::Command, noun: &str, from: &Source) -> clap::Command {
    command.mut_args(|argument| attach_to(argument, noun, from)).mut_subcommands(|below| {
        let name = below.get_name().to_owned();
        attach_below(below, if noun.is_empty() { &name } else { noun }, from)
    })
}

fn attach_to(argument: clap::Arg, noun: &str, from: &Source) -> clap::Arg {
    if let Some(place) = Place::of(&argument, noun) {
        let from = from.clone();
        return argument.add(ArgValueCompleter::new(move |begun: &OsStr| {
            begun.to_str().map(|begun| from.offer(place, begun)).unwrap_or_default()
        }));
    }
    match literals(&argument) {
        words if words.is_empty() => argument,
        words => argument.add(ArgValueCompleter::new(move |begun: &OsStr| {
            words.iter().filter(|word| begins(word, begun)).map(CompletionCandidate::new).collect()
        })),
    }
}

/// The words in a name such as `yes|no` or `N|all` that are meant as they stand.
fn literals(argument: &clap::Arg) -> Vec<String> {
    let Some([name]) = argument.get_value_names() else { return Vec::new() };
    if name == "BOOL" {
        return vec!["true".to_owned(), "false".to_owned()];
    }
    let words = name.split('|').filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()));
    if name.contains('|') { words.map(str::to_owned).collect() } else { Vec::new() }
}

fn begins(word: &str, begun: &OsStr) -> bool {
    begun.to_str().is_some_and(|begun| word.starts_with(begun))
}

/// Where candidates come from.
#[derive(Clone)]
struct Source {
    project: Project,
    until: Instant,
    /// Behind a command on Data, which one.
    data: Option<String>,
}

impl Source {
    fn offer(&self, place: Place, begun: &str) -> Vec<CompletionCandidate> {
        match place {
            Place::Server(kinds) => self.ask(kinds, begun).iter().filter_map(|one| shown(one, begun)).collect(),
            Place::TagKeys => {
                let mut keys: Vec<String> = self
                    .ask(&[Kind::Tags], begun)
                    .into_iter()
                    .filter_map(|tag| tag.value.split_once(':').map(|(key, _)| key.to_owned()))
                    .collect();
                keys.sort();
                keys.dedup();
                keys.into_iter().filter_map(|value| shown(&Candidate { value, hint: String::new() }, begun)).collect()
            }
            Place::Status => {
                let known = RunStatus::ALL.iter().filter(|status| **status != RunStatus::Invalidated);
                known.map(|s| s.as_str()).filter(|s| s.starts_with(begun)).map(Into::into).collect()
            }
            Place::Profile => self.profiles(begun).unwrap_or_default(),
            Place::Content => {
                let known = self.waiting(async |server| self.contents(server, begun).await).flatten();
                known.iter().flatten().filter_map(|one| shown(one, begun)).collect()
            }
        }
    }

    fn profiles(&self, begun: &str) -> Option<Vec<CompletionCandidate>> {
        let store = ProfileStore::load(&self.project.store_path().ok()?).ok()?;
        let offered = |(name, profile): (&str, &knit_api::profile::Profile)| {
            shown(&Candidate { value: name.to_owned(), hint: profile.api_root.clone() }, begun)
        };
        Some(store.iter().filter_map(offered).collect())
    }

    /// What the server knows, or what it has said a moment ago; nothing when it cannot be asked in time.
    fn ask(&self, kinds: &[Kind], begun: &str) -> Vec<Candidate> {
        let all = async |server: &Server| join_all(kinds.iter().map(|kind| self.ask_for(server, *kind, begun))).await;
        self.waiting(all).map(|answers| answers.concat()).unwrap_or_default()
    }

    fn waiting<T>(&self, ask: impl AsyncFnOnce(&Server) -> T) -> Option<T> {
        let server = self.project.server().ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let answer = runtime.block_on(ask(&server));
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        Some(answer)
    }

    /// What is in the folder of the Data in which the begun path ends.
    async fn contents(&self, server: &Server, begun: &str) -> Option<Vec<Candidate>> {
        let given = self.data.as_deref()?;
        let at = begun.rfind('/').map_or(0, |slash| slash + 1);
        let folder = begun.get(..at)?.to_owned();
        let under = inside(Path::new(&folder)).ok()?;
        let cache = Cache::for_user();
        let token = server.token().unwrap_or_default();
        let key = Cache::key(&[server.client.root().as_str(), token, "content", given, begun]);
        if let Some(known) = cache.as_ref().and_then(|cache| cache.read(&key)) {
            return Some(known);
        }
        let asked = async {
            if !server.client.can(capability::CONTENT).await.ok()? {
                return None;
            }
            // What stands for one Data alone is looked up in silence.
            let id = match &self.ask_for(server, Kind::Data, given).await[..] {
                [one] => one.value.clone(),
                _ => given.to_owned(),
            };
            let contents = Contents::of(server, &DataId::from(id), &under, "").await.ok()?;
            let begun = begun.to_owned();
            let names = contents.read(server, move |entries| names(entries, &under, &folder, &begun)).await;
            names.ok()
        };
        let answered = tokio::time::timeout_at(self.until.into(), asked).await.ok().flatten();
        if let Some(cache) = cache {
            cache.write(&key, answered.as_deref());
        }
        answered
    }

    async fn ask_for(&self, server: &Server, kind: Kind, begun: &str) -> Vec<Candidate> {
        let cache = Cache::for_user();
        let key =
            Cache::key(&[server.client.root().as_str(), server.token().unwrap_or_default(), kind.as_str(), begun]);
        if let Some(known) = cache.as_ref().and_then(|cache| cache.read(&key)) {
            return known;
        }
        let answer = tokio::time::timeout_at(self.until.into(), async {
            if !server.client.can(capability::CANDIDATES).await? {
                return Ok(Vec::new());
            }
            server.client.candidates(kind, begun, MOST).await
        });
        let answered = answer.await.ok().and_then(|answer: Result<_, knit_api::client::ClientError>| answer.ok());
        if let Some(cache) = cache {
            cache.write(&key, answered.as_deref());
        }
        answered.unwrap_or_default()
    }
}

/// Of the entries right below a folder those that a path may become; behind a folder among them stands a slash.
fn names(entries: &mut dyn Entries, under: &[u8], folder: &str, begun: &str) -> Result<Vec<Candidate>, Trouble> {
    let mut found = Vec::new();
    while let Some(entry) = entries.next()? {
        let name = match entry.path.strip_prefix(under) {
            Some(below) if under.is_empty() => below,
            Some([b'/', below @ ..]) => below,
            _ => continue,
        };
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if found.len() == MOST || name.is_empty() || name.contains('/') {
            continue;
        }
        let slash = if matches!(entry.content, Content::Directory) { "/" } else { "" };
        let value = format!("{folder}{name}{slash}");
        if value.starts_with(begun) {
            found.push(Candidate { value, hint: String::new() });
        }
    }
    Ok(found)
}

/// A candidate for the shell; `None` for what nobody could have meant, or what would steer a terminal.
fn shown(candidate: &Candidate, begun: &str) -> Option<CompletionCandidate> {
    let Candidate { value, hint } = candidate;
    if !value.starts_with(begun) || value.chars().any(char::is_control) || value.chars().count() > LONGEST {
        return None;
    }
    let hint: String = plain(hint.lines().next().unwrap_or_default()).chars().take(LONGEST_HINT).collect();
    Some(CompletionCandidate::new(value).help((!hint.is_empty()).then(|| hint.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Knit;
    use clap::CommandFactory as _;

    fn place(path: &[&str], name: &str) -> Option<Place> {
        let grammar = Knit::command();
        let command = path.iter().fold(&grammar, |command, name| command.find_subcommand(name).unwrap());
        let argument = command.get_arguments().find(|a| a.get_id() == name || a.get_long() == Some(name)).unwrap();
        Place::of(argument, path[0])
    }

    #[test]
    fn places_are_known_by_what_they_are_called() {
        assert_eq!(place(&["data", "pull"], "id"), Some(Place::Server(&[Kind::Data])));
        assert_eq!(place(&["plan", "show"], "id"), Some(Place::Server(&[Kind::PlanNames, Kind::Plans])));
        assert_eq!(place(&["run", "wait"], "run"), Some(Place::Server(&[Kind::Runs])));
        assert_eq!(place(&["run", "find"], "in-knitid"), Some(Place::Server(&[Kind::Data])));
        assert_eq!(place(&["data", "find"], "tag"), Some(Place::Server(&[Kind::Tags])));
        assert_eq!(place(&["data", "tag"], "remove-key"), Some(Place::TagKeys));
        assert_eq!(place(&["run", "find"], "status"), Some(Place::Status));
        assert_eq!(place(&["profile", "use"], "name"), Some(Place::Profile));
        assert_eq!(place(&["data", "push"], "dereference"), None);
    }

    #[test]
    fn what_would_steer_a_terminal_or_was_not_asked_for_is_not_offered() {
        let one = |value: &str| Candidate { value: value.to_owned(), hint: "a\u{1b}[1m\nb".to_owned() };
        assert!(shown(&one("abc"), "ab").unwrap().get_help().unwrap().to_string().starts_with("a\u{fffd}"));
        assert!(shown(&one("abc"), "x").is_none());
        assert!(shown(&one("a\nb"), "a").is_none());
        assert!(shown(&one(&"a".repeat(300)), "a").is_none());
    }
}

//! What may stand at a place of the command line. Places are known by the name of their value, as the help shows it
//! (`DATA_ID`, `KEY:VALUE`): whoever adds a command has its words completed by calling things as they are called.

use super::cache::Cache;
use crate::profile_store::ProfileStore;
use crate::project::{Project, Server};
use crate::terminal::plain;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use futures_util::future::join_all;
use knit_api::candidate::{Candidate, Kind};
use knit_api::run::RunStatus;
use knit_api::server::capability;
use std::ffi::OsStr;
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
            _ => return None,
        })
    }
}

/// The grammar with what to offer at each place.
pub(super) fn attach(grammar: clap::Command, project: &Project) -> clap::Command {
    let from = Source { project: project.clone(), until: Instant::now() + PATIENCE };
    attach_below(grammar, "", &from)
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
                RunStatus::ALL.iter().map(|s| s.as_str()).filter(|s| s.starts_with(begun)).map(Into::into).collect()
            }
            Place::Profile => self.profiles(begun).unwrap_or_default(),
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
        let Ok(server) = self.project.server() else { return Vec::new() };
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return Vec::new();
        };
        let answers = runtime
            .block_on(async { join_all(kinds.iter().map(|kind| self.ask_for(&server, *kind, begun))).await.concat() });
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        answers
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

//! What is found around a command: the profile by which the server is reached, and the environment file.

use crate::args::Common;
use crate::image::Access;
use crate::knitenv::KnitEnv;
use crate::profile_store::{self, ProfileStore};
use crate::terminal::{ExitCode, Failure, note, stderr_is_terminal};
use knit_api::candidate::{Abbreviated, Candidate, Kind};
use knit_api::client::{Class, Client, ClientError};
use knit_api::profile::Profile;
use knit_api::server::{Registry, capability};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Name of the file in a project that names its profile.
pub const PROJECT_FILE: &str = ".knitprofile";
/// Name of the environment file.
const ENV_FILE: &str = "knitenv";
/// Fewer characters do not stand for an id.
const SHORTEST_BEGINNING: usize = 4;
/// So many are named when several things may be meant.
const MOST_NAMED: usize = 5;
/// What stands before the name of a Plan that is given as one.
const BY_NAME: &str = "name=";
/// What stands before the id of a Data where it is shown as a tag, and is copied from there.
const AS_TAG: &str = "knit#id:";

/// Names of the environment variables that say what the common flags say; extension commands get them.
pub mod variable {
    /// As `--profile`.
    pub const PROFILE: &str = "KNIT_PROFILE";
    /// As `--profile-store`.
    pub const PROFILE_STORE: &str = "KNIT_PROFILE_STORE";
    /// As `--env`, but the file need not be there.
    pub const ENV: &str = "KNIT_ENV";
}

/// Where a command was started, and what the common flags say.
#[derive(Clone, Debug)]
pub struct Project {
    common: Common,
}

/// Why this profile or this file, and no other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A flag of the command line.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A file that names it.
    File(PathBuf),
    /// The profile is named as this folder.
    Folder,
    /// It is the nearest file of its name.
    Nearest,
    /// Where it is looked for when nobody says anything.
    Default,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag} names it"),
            Self::Variable(name) => write!(f, "the environment variable {name} names it"),
            Self::File(path) => write!(f, "{} names it", path.display()),
            Self::Folder => f.write_str("this folder has its name"),
            Self::Nearest => f.write_str("it is the nearest one"),
            Self::Default => f.write_str("it is the usual one"),
        }
    }
}

/// A profile's name or a file, and why this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<T> {
    /// What is chosen.
    pub what: T,
    /// By which rule.
    pub rule: Rule,
}

impl<T> Chosen<T> {
    fn new(what: T, rule: Rule) -> Self {
        Self { what, rule }
    }
}

/// A profile, and how it was come by: what an error about it must say.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name in the store.
    pub name: String,
    /// Why this name.
    pub rule: Rule,
    /// The store.
    pub store: PathBuf,
    /// How to reach the server.
    pub profile: Profile,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "profile \"{}\" in {}; {}", self.name, self.store.display(), self.rule)
    }
}

/// A server that commands talk to.
#[derive(Clone, Debug)]
pub struct Server {
    /// The connection.
    pub client: Client,
    found: Found,
}

impl Project {
    /// Looks at nothing yet.
    pub fn new(common: Common) -> Self {
        Self { common }
    }

    /// The profile store's file: the one of `--profile-store`, of the environment, or the usual one.
    pub fn store(&self) -> Result<Chosen<PathBuf>, Failure> {
        match (&self.common.profile_store, from_environment(variable::PROFILE_STORE)) {
            (Some(path), _) => Ok(Chosen::new(path.clone(), Rule::Flag("--profile-store"))),
            (None, Some(path)) => Ok(Chosen::new(path.into(), Rule::Variable(variable::PROFILE_STORE))),
            (None, None) => Ok(Chosen::new(profile_store::default_path()?, Rule::Default)),
        }
    }

    /// The profile store's file alone.
    pub fn store_path(&self) -> Result<PathBuf, Failure> {
        Ok(self.store()?.what)
    }

    /// The name given with `--profile` or in the environment.
    pub fn named_profile(&self) -> Option<Chosen<String>> {
        match (&self.common.profile, from_environment(variable::PROFILE)) {
            (Some(name), _) => Some(Chosen::new(name.clone(), Rule::Flag("--profile"))),
            (None, Some(name)) => {
                Some(Chosen::new(name.to_string_lossy().into_owned(), Rule::Variable(variable::PROFILE)))
            }
            (None, None) => None,
        }
    }

    /// The name of the profile to use: the one given with `--profile` or in the environment, by the nearest
    /// `.knitprofile`, by this folder's path, or the current one, in this order. `None` when nothing names one.
    pub fn chosen_profile(&self, store: &ProfileStore) -> Result<Option<Chosen<String>>, Failure> {
        if let Some(named) = self.named_profile() {
            return Ok(Some(named));
        }
        let here = current_folder()?;
        if let Some(file) = nearest_file(&here, PROJECT_FILE) {
            return Ok(Some(Chosen::new(name_in(&file)?, Rule::File(file))));
        }
        let folder = here.display().to_string();
        if store.get(&folder).is_some() {
            return Ok(Some(Chosen::new(folder, Rule::Folder)));
        }
        let current = profile_store::current(store.path())?;
        Ok(current.map(|name| Chosen::new(name, Rule::File(profile_store::current_path(store.path())))))
    }

    /// The profile to use; see [`Self::chosen_profile`].
    pub fn profile(&self) -> Result<Found, Failure> {
        let path = self.store_path()?;
        let store = ProfileStore::load(&path)?;
        let Some(Chosen { what: name, rule }) = self.chosen_profile(&store)? else { return Err(none_is_set(&store)) };
        let Some(profile) = store.get(&name) else { return Err(not_in(&store, &name).why(rule)) };
        if let Err(e) = profile.check() {
            return Err(Failure::usage(format!("the profile \"{name}\" in {} cannot be used", path.display()))
                .why(e)
                .advice(format!("register it again: knit init KNITPROFILE ({rule})")));
        }
        Ok(Found { profile: profile.clone(), name, rule, store: path })
    }

    /// The server of the profile. Nothing is sent yet.
    pub fn server(&self) -> Result<Server, Failure> {
        Server::of(self.profile()?)
    }

    /// The environment file that applies: the one named with `--env` or in the environment, else the nearest
    /// `knitenv`. `None` when there is none.
    pub fn environment_file(&self) -> Result<Option<Chosen<PathBuf>>, Failure> {
        if let Some(path) = &self.common.env {
            return Ok(Some(Chosen::new(path.clone(), Rule::Flag("--env"))));
        }
        if let Some(path) = from_environment(variable::ENV) {
            // An extension command is told where the file would be, as v1.6.1 does.
            let path = PathBuf::from(path);
            return Ok(path.exists().then(|| Chosen::new(path, Rule::Variable(variable::ENV))));
        }
        Ok(nearest_file(&current_folder()?, ENV_FILE).map(|path| Chosen::new(path, Rule::Nearest)))
    }

    /// What stands in the environment file; without one, nothing.
    pub fn environment(&self) -> Result<KnitEnv, Failure> {
        self.environment_file()?.map_or_else(|| Ok(KnitEnv::default()), |file| KnitEnv::load(&file.what))
    }

    /// What an extension command finds in its environment. Nothing of it need exist, as in v1.6.1.
    pub fn variables(&self) -> Result<[(&'static str, OsString); 3], Failure> {
        let here = current_folder()?;
        let path = self.store_path()?;
        // A store that cannot be read is for those to refuse who need it.
        let store = ProfileStore::load(&path).unwrap_or_else(|_| ProfileStore::empty(&path));
        let profile = self.chosen_profile(&store)?.map_or_else(|| here.clone().into(), |chosen| chosen.what.into());
        let env = match (self.environment_file()?, from_environment(variable::ENV)) {
            (Some(file), _) => file.what,
            (None, Some(path)) => path.into(),
            (None, None) => here.join(ENV_FILE),
        };
        Ok([(variable::PROFILE, profile), (variable::PROFILE_STORE, path.into()), (variable::ENV, env.into())])
    }
}

/// The value of an environment variable; an empty one counts as none.
fn from_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The name of a profile in a `.knitprofile`.
pub fn name_in(file: &Path) -> Result<String, Failure> {
    let name = first_line(file)?;
    if name.is_empty() {
        return Err(Failure::usage(format!("{} names no profile", file.display()))
            .why("its first line is empty")
            .advice("write the name of a profile into it, or remove it"));
    }
    Ok(name)
}

/// The failure that a name is that no profile of the store has.
pub fn not_in(store: &ProfileStore, name: &str) -> Failure {
    let known: Vec<&str> = store.names().collect();
    let advice = if known.is_empty() {
        "register the file that your administrator handed out: knit init KNITPROFILE".to_owned()
    } else {
        format!("choose one of: {}; or register another one: knit init KNITPROFILE", known.join(", "))
    };
    Failure::usage(format!("there is no profile \"{name}\" in {}", store.path().display())).advice(advice)
}

/// The failure when nothing names a profile.
pub fn none_is_set(store: &ProfileStore) -> Failure {
    let advice = if store.exists() {
        "name one with --profile, choose one with knit profile use NAME, or register one for this folder: \
         knit init KNITPROFILE"
    } else {
        "register the file that your administrator handed out: knit init KNITPROFILE (on one machine: knitctl up)"
    };
    Failure::usage("no profile is set for this folder")
        .why(format!("there is no {PROJECT_FILE} here or above, and no current profile in {}", store.path().display()))
        .advice(advice)
}

impl Server {
    /// The server of a profile. Nothing is sent yet.
    pub fn of(found: Found) -> Result<Self, Failure> {
        let client =
            Client::new(&found.profile).map_err(|e| Failure::usage(format!("the {found}, cannot be used")).why(e))?;
        Ok(Self { client, found })
    }

    /// The profile by which it is reached.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The failure that an error of the server or the network is; `what` says what was tried on which object.
    pub fn failed(&self, what: impl Into<String>, error: &ClientError) -> Failure {
        let failure = Failure::new(what).why(error).exit(exit_code(error));
        match self.advice(error) {
            Some(advice) => failure.advice(advice),
            None => failure,
        }
    }

    fn advice(&self, error: &ClientError) -> Option<String> {
        if let ClientError::Refused { refusal, .. } = error
            && !refusal.advice.is_empty()
        {
            return Some(in_a_line(&refusal.advice));
        }
        if let ClientError::Ambiguous { given, candidates, .. } = error {
            // What was found by its name has no more of it to write.
            let by_id = candidates.iter().all(|one| one.value.starts_with(given.as_str()));
            return Some(if by_id { "write more of the id" } else { "write one of these ids" }.to_owned());
        }
        let profile = &self.found;
        match error.class() {
            Class::NotAuthorised if self.found.profile.token.is_some() => {
                Some(format!("register the profile again, its token is not valid here ({profile})"))
            }
            Class::NotAuthorised => Some(format!("the server asks for a token and there is none in the {profile}")),
            Class::Network if self.client.is_loopback() => {
                Some(format!("is the server running? See: knitctl status ({profile})"))
            }
            Class::Network | Class::Server if matches!(error, ClientError::Refused { .. }) => None,
            Class::Network | Class::Server => Some(format!("is this the right server? It is that of the {profile}")),
            Class::NotNow => Some("try again in a moment".to_owned()),
            _ => None,
        }
    }

    /// Asks about the thing that a person named: by the id as it was given and, where the server knows no such
    /// thing, by the one id that begins so; a Plan also by its name.
    pub async fn by_id<I: Abbreviated, T>(
        &self,
        given: &I,
        mut ask: impl AsyncFnMut(&I) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let error = match ask(given).await {
            Err(error) if error.class() == Class::NotFound => error,
            outcome => return outcome,
        };
        match self.meant(given).await {
            Ok(Some(id)) => ask(&id).await,
            Err(several @ ClientError::Ambiguous { .. }) => Err(several),
            Ok(None) => Err(self.too_short(given, error).await),
            // The first answer says more than a look-up that did not work.
            Err(_) => Err(error),
        }
    }

    /// The error that there is no such thing, with the advice that is needed where too little of an id was given.
    async fn too_short<I: Abbreviated>(&self, given: &I, mut error: ClientError) -> ClientError {
        let is_short = given.as_str().chars().count() < SHORTEST_BEGINNING;
        if let ClientError::Refused { refusal, .. } = &mut error
            && is_short
            && refusal.advice.is_empty()
            && self.client.can(capability::CANDIDATES).await.is_ok_and(|can| can)
        {
            refusal.advice = format!("give at least {SHORTEST_BEGINNING} characters of the id");
        }
        error
    }

    /// The id for a search, where no answer tells that there is no such thing: what does not look whole is looked
    /// up first, and stays as it is when nothing begins so.
    pub async fn whole_id<I: Abbreviated>(&self, given: I) -> Result<I, ClientError> {
        if looks_whole(given.as_str()) {
            return Ok(given);
        }
        Ok(self.meant(&given).await?.unwrap_or(given))
    }

    /// [`Self::whole_id`] of each.
    pub async fn whole_ids<I: Abbreviated>(&self, given: Vec<I>) -> Result<Vec<I>, ClientError> {
        let mut whole = Vec::with_capacity(given.len());
        for id in given {
            whole.push(self.whole_id(id).await?);
        }
        Ok(whole)
    }

    /// The one other id that the given text may stand for, on a server that can tell.
    async fn meant<I: Abbreviated>(&self, given: &I) -> Result<Option<I>, ClientError> {
        let text = given.as_str();
        if text.is_empty() || !self.client.can(capability::CANDIDATES).await? {
            return Ok(None);
        }
        let name = text.strip_prefix(BY_NAME).filter(|_| I::KIND == Kind::Plans);
        let begin = text.strip_prefix(AS_TAG).filter(|_| I::KIND == Kind::Data).unwrap_or(text);
        let mut found: Vec<Candidate> = Vec::new();
        if name.is_none() && begin.chars().count() >= SHORTEST_BEGINNING {
            found = self.client.candidates(I::KIND, begin, MOST_NAMED + 1).await?;
            // What is done to the thing may be final: a server is not believed what anybody can see.
            found.retain(|one| one.value.starts_with(begin));
        }
        if found.iter().any(|one| one.value == begin) {
            if begin == text {
                // It was asked for already.
                return Ok(None);
            }
            found.retain(|one| one.value == begin);
        }
        if I::KIND == Kind::Plans {
            for plan in self.client.plans_named(name.unwrap_or(text)).await? {
                if found.iter().all(|one| one.value != plan.value) {
                    found.push(plan);
                }
            }
        }
        if found.len() > 1 {
            let more = found.len() > MOST_NAMED;
            found.truncate(MOST_NAMED);
            return Err(ClientError::Ambiguous { given: text.to_owned(), kind: I::KIND, candidates: found, more });
        }
        let one = found.pop();
        if let (Some(Candidate { value, hint }), true) = (&one, stderr_is_terminal()) {
            let hint = hint.lines().next().unwrap_or_default();
            note(format!("{text} is the {} {value}  {hint}", I::KIND.singular()).trim_end());
        }
        Ok(one.map(|one| I::from(one.value)))
    }

    /// Refuses what only a server with this capability can do; `what` is what was to be done: `verify the Data x`.
    pub async fn requires(&self, capability: &str, what: &str) -> Result<(), Failure> {
        let failed = |e: ClientError| self.failed(format!("cannot {what}"), &e);
        if self.client.can(capability).await.map_err(failed)? {
            return Ok(());
        }
        Err(Failure::new(format!("cannot {what}"))
            .why(format!("the server at {} does not offer it (one of Knitfab v1.6.1 never does)", self.client.root())))
    }

    /// The image registry beside the API: from the profile, or as the server says.
    pub async fn registry(&self) -> Result<Registry, Failure> {
        if let Some(registry) = &self.found.profile.registry {
            return Ok(registry.clone());
        }
        let server = self.client.server().await.map_err(|e| self.failed("cannot ask for the image registry", &e))?;
        server.and_then(|server| server.registry.clone()).ok_or_else(|| {
            Failure::new(format!("{} does not say where its image registry is", self.client.root()))
                .advice("push with docker or skopeo, as your administrator describes")
                .exit(ExitCode::NotFound)
        })
    }

    /// What the server asks for.
    pub fn token(&self) -> Option<&str> {
        self.found.profile.token.as_deref()
    }

    /// How the registry is talked to: as the server is.
    pub fn access(&self) -> Access {
        // A certificate that cannot be read was refused when the connection was made.
        Access { token: self.found.profile.token.clone(), ca: self.found.profile.ca_pem().ok().flatten() }
    }
}

/// The exit code for an error of the server or the network.
pub fn exit_code(error: &ClientError) -> ExitCode {
    match error.class() {
        Class::NotAuthorised => ExitCode::NotAuthorised,
        Class::NotFound => ExitCode::NotFound,
        Class::Ambiguous => ExitCode::Usage,
        Class::Conflict => ExitCode::Conflict,
        Class::Integrity => ExitCode::Integrity,
        Class::Request | Class::NotNow | Class::Server | Class::Network | Class::Local => ExitCode::Failure,
    }
}

/// Whether a text has the form of the ids that servers make.
fn looks_whole(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The folder in which the command was started.
pub fn current_folder() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|e| Failure::new("cannot tell the current folder").why(e))
}

/// The nearest regular file of that name, here or in a folder above.
pub fn nearest_file(from: &Path, name: &str) -> Option<PathBuf> {
    from.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let text = crate::yaml::read_text(path, false)
        .map_err(|why| Failure::new(format!("cannot read {}", path.display())).why(why))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A server's advice, which is a sentence, as it stands behind `try:`.
fn in_a_line(advice: &str) -> String {
    let advice = advice.trim();
    let mut letters = advice.chars();
    let text = match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => advice.to_owned(),
    };
    match text.strip_suffix('.') {
        Some(one) if !one.contains(". ") && !one.ends_with('.') => one.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_api::client::Refusal;

    #[test]
    fn errors_end_the_program_with_the_documented_codes() {
        let refused =
            |status| ClientError::Refused { url: String::new(), status, refusal: Box::new(Refusal::default()) };
        for (error, code) in [
            (refused(400), ExitCode::Failure),
            (refused(401), ExitCode::NotAuthorised),
            (refused(403), ExitCode::NotAuthorised),
            (refused(404), ExitCode::NotFound),
            (refused(409), ExitCode::Conflict),
            (refused(500), ExitCode::Failure),
            (refused(503), ExitCode::Failure),
            (ClientError::Integrity(String::new()), ExitCode::Integrity),
            (ClientError::Unreachable { url: String::new(), cause: String::new() }, ExitCode::Failure),
        ] {
            assert_eq!(exit_code(&error), code, "{error:?}");
        }
    }

    #[test]
    fn advice_of_a_server_stands_behind_try_as_our_own_does() {
        for (sentence, seen) in [
            ("Remove those Runs first.", "remove those Runs first"),
            ("JSON is asked for.", "JSON is asked for"),
            ("Wait a moment. Then try again.", "wait a moment. Then try again."),
            ("Éteignez-le...", "éteignez-le..."),
            ("it goes on by itself", "it goes on by itself"),
            ("X", "X"),
            ("", ""),
        ] {
            assert_eq!(in_a_line(sentence), seen, "{sentence}");
        }
    }

    #[test]
    fn an_id_looks_whole_when_it_has_the_form_of_those_that_servers_make() {
        for (text, whole) in [
            ("0b1c2d3e-aaaa-4bbb-8ccc-0123456789ab", true),
            ("0B1C2D3E-AAAA-4BBB-8CCC-0123456789AB", true),
            ("0b1c2d3e-aaaa-4bbb-8ccc-0123456789a", false),
            ("0b1c2d3eaaaaa4bbba8ccca0123456789abc", false),
            ("0b1c2d3e-aaaa-4bbb-8ccc-0123456789xy", false),
            ("0b1c", false),
            ("", false),
        ] {
            assert_eq!(looks_whole(text), whole, "{text}");
        }
    }

    #[test]
    fn the_nearest_regular_file_is_found_and_a_folder_of_that_name_is_not() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(deep.join("knitenv")).unwrap();
        std::fs::write(root.path().join("knitenv"), "").unwrap();
        assert_eq!(nearest_file(&deep, "knitenv"), Some(root.path().join("knitenv")));
    }
}

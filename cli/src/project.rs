//! What is found around a command: the profile by which the server is reached, and the environment file.

use crate::args::Common;
use crate::knitenv::KnitEnv;
use crate::profile_store::{self, ProfileStore};
use crate::terminal::{ExitCode, Failure};
use knit_api::candidate::Abbreviated;
use knit_api::client::{Class, Client, ClientError};
use knit_api::profile::Profile;
use knit_api::server::Registry;
use std::path::{Path, PathBuf};

/// Name of the file in a project that names its profile.
pub const PROJECT_FILE: &str = ".knitprofile";
/// Name of the environment file.
const ENV_FILE: &str = "knitenv";

/// Where a command was started, and what the common flags say.
#[derive(Clone, Debug)]
pub struct Project {
    common: Common,
}

/// A profile, and how it was come by: what an error about it must say.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name in the store.
    pub name: String,
    /// The store.
    pub store: PathBuf,
    /// How to reach the server.
    pub profile: Profile,
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

    /// The profile store's file.
    pub fn store_path(&self) -> Result<PathBuf, Failure> {
        match &self.common.profile_store {
            Some(path) => Ok(path.clone()),
            None => profile_store::default_path(),
        }
    }

    /// The name given with `--profile`.
    pub fn named_profile(&self) -> Option<&str> {
        self.common.profile.as_deref()
    }

    /// The profile to use: the one named with `--profile`, by the nearest `.knitprofile`, by this
    /// folder's path, or by the current profile, in this order.
    pub fn profile(&self) -> Result<Found, Failure> {
        let path = self.store_path()?;
        let store = ProfileStore::load(&path)?;
        let (name, origin) = match self.named_profile() {
            Some(name) => (name.to_owned(), "--profile names it".to_owned()),
            None => implied_profile(&store)?,
        };
        let Some(profile) = store.get(&name) else {
            let known: Vec<&str> = store.names().collect();
            let advice = if known.is_empty() {
                "register the file that your administrator handed out: knit init KNITPROFILE".to_owned()
            } else {
                format!("choose one of: {}; or register another one: knit init KNITPROFILE", known.join(", "))
            };
            return Err(Failure::usage(format!("there is no profile \"{name}\" in {}", path.display()))
                .why(origin)
                .advice(advice));
        };
        if let Err(e) = profile.check() {
            return Err(Failure::usage(format!("the profile \"{name}\" in {} cannot be used", path.display()))
                .why(e)
                .advice("register it again: knit init KNITPROFILE"));
        }
        Ok(Found { name, store: path, profile: profile.clone() })
    }

    /// The server of the profile. Nothing is sent yet.
    pub fn server(&self) -> Result<Server, Failure> {
        let found = self.profile()?;
        let client = Client::new(&found.profile).map_err(|e| {
            Failure::usage(format!("the profile \"{}\" in {} cannot be used", found.name, found.store.display())).why(e)
        })?;
        Ok(Server { client, found })
    }

    /// The environment file: the one named with `--env`, else the nearest `knitenv`, else an empty one.
    pub fn environment(&self) -> Result<KnitEnv, Failure> {
        match &self.common.env {
            Some(path) => KnitEnv::load(path),
            None => match nearest_file(&current_folder()?, ENV_FILE) {
                Some(path) => KnitEnv::load(&path),
                None => Ok(KnitEnv::default()),
            },
        }
    }
}

/// Where no profile is named: the nearest `.knitprofile`, this folder, the current profile; with the origin.
fn implied_profile(store: &ProfileStore) -> Result<(String, String), Failure> {
    let here = current_folder()?;
    if let Some(file) = nearest_file(&here, PROJECT_FILE) {
        let name = first_line(&file)?;
        if name.is_empty() {
            return Err(Failure::usage(format!("{} names no profile", file.display()))
                .why("its first line is empty")
                .advice("write the name of a profile into it, or remove it"));
        }
        return Ok((name, format!("{} names it", file.display())));
    }
    let folder = here.display().to_string();
    if store.get(&folder).is_some() {
        return Ok((folder, "this folder has its name".to_owned()));
    }
    if let Some(name) = profile_store::current(store.path())? {
        let origin = format!("{} names it", profile_store::current_path(store.path()).display());
        return Ok((name, origin));
    }
    let advice = if store.exists() {
        "name one with --profile, or register one for this folder: knit init KNITPROFILE"
    } else {
        "register the file that your administrator handed out: knit init KNITPROFILE (on one machine: knitctl up)"
    };
    Err(Failure::usage("no profile is set for this folder")
        .why(format!("there is no {PROJECT_FILE} here or above, and no current profile in {}", store.path().display()))
        .advice(advice))
}

impl Server {
    /// The failure that an error of the server or the network is; `what` says what was tried on which object.
    pub fn failed(&self, what: impl Into<String>, error: &ClientError) -> Failure {
        let failure = Failure::new(what).why(error).exit(exit_code(error));
        match self.advice(error) {
            Some(advice) => failure.advice(advice),
            None => failure,
        }
    }

    /// Refuses, in one sentence, what this server cannot do; `what` is that.
    pub async fn requires(&self, capability: &str, what: &str) -> Result<(), Failure> {
        match self.client.can(capability).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(format!("the server {} cannot {what}", self.client.root()))
                .why("it does not have that ability (a server of Knitfab v1.6.1 has none that Knit adds)")),
            Err(error) => Err(self.failed(format!("cannot {what}"), &error)),
        }
    }

    fn advice(&self, error: &ClientError) -> Option<String> {
        if let ClientError::Refused { refusal, .. } = error
            && !refusal.advice.is_empty()
        {
            return Some(refusal.advice.clone());
        }
        let profile = format!("profile \"{}\" in {}", self.found.name, self.found.store.display());
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
    /// thing, by the one id that begins so.
    pub async fn by_id<I: Abbreviated, T>(
        &self,
        given: &I,
        ask: impl AsyncFn(&I) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        ask(given).await
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

    /// The token for the registry.
    pub fn token(&self) -> Option<&str> {
        self.found.profile.token.as_deref()
    }
}

/// The exit code for an error of the server or the network.
pub fn exit_code(error: &ClientError) -> ExitCode {
    match error.class() {
        Class::NotAuthorised => ExitCode::NotAuthorised,
        Class::NotFound => ExitCode::NotFound,
        Class::Conflict => ExitCode::Conflict,
        Class::Integrity => ExitCode::Integrity,
        Class::Request | Class::NotNow | Class::Server | Class::Network | Class::Local => ExitCode::Failure,
    }
}

/// The folder in which the command was started.
pub fn current_folder() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|e| Failure::new("cannot tell the current folder").why(e))
}

/// The nearest regular file of that name, here or in a folder above.
fn nearest_file(from: &Path, name: &str) -> Option<PathBuf> {
    from.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let text = crate::yaml::read_text(path, false)
        .map_err(|why| Failure::new(format!("cannot read {}", path.display())).why(why))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
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
    fn the_nearest_regular_file_is_found_and_a_folder_of_that_name_is_not() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(deep.join("knitenv")).unwrap();
        std::fs::write(root.path().join("knitenv"), "").unwrap();
        assert_eq!(nearest_file(&deep, "knitenv"), Some(root.path().join("knitenv")));
    }
}

//! What an image executes by itself: main is started through `knitd wrap`, so that its entrypoint must be known
//! where the Plan does not say it.
//!
//! An image that cannot be looked into is no reason for not making its worker: nodes may reach registries that
//! servers do not, and what is wrong with an image is told best by who fetches it. Such a worker's command is
//! [`UNKNOWN`] with the reason. If the node does get the image, `wrap` ends the Run with that reason.

use super::Shared;
use super::door::wrap::UNKNOWN;
use super::objects::worker::{MainCommand, built_in};
use crate::clock::Stopwatch;
use crate::engine::local::images::ImageProblem;
use crate::engine::local::images::fetch::{Executed, Remote};
use crate::engine::{EngineError, Work};
use crate::settings::Cluster;
use knit_api::image::ImageRef;
use knit_api::problem::in_words;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How long one look at an image may take.
const LOOK: Duration = Duration::from_secs(30);
/// How long what was seen is taken to be still so. A tag may be moved, and its next worker is to follow.
const FRESH: Duration = Duration::from_secs(10);
/// Images that are remembered.
const MOST: usize = 256;

/// What images execute, as registries said not long ago.
#[derive(Default)]
pub(super) struct Entrypoints {
    remote: Remote,
    seen: Mutex<HashMap<ImageRef, Seen>>,
}

/// What was seen of an image, and since when.
#[derive(Clone)]
struct Seen {
    at: Stopwatch,
    what: What,
}

#[derive(Clone)]
enum What {
    Executes(Executed),
    /// Its registry has not answered, since this moment.
    Silent(Stopwatch),
}

impl Shared {
    /// What main executes: what the Plan says, completed by what the image says. An error means that the registry
    /// does not answer, which may pass; when it has lasted for as long as a worker may take to start, it is no error
    /// any more.
    pub(super) async fn main_command(&self, work: &Work) -> Result<MainCommand, EngineError> {
        if !work.entrypoint.is_empty() {
            return Ok(MainCommand { entrypoint: work.entrypoint.clone(), args: work.args.clone() });
        }
        match self.entrypoints.look(&work.image, &self.settings).await {
            Ok(executed) => Ok(completed(&work.args, executed)),
            Err(problem @ ImageProblem::Unreachable { .. }) => {
                let silent = self.entrypoints.silent_since(&work.image);
                let reason = advice(&problem);
                if silent.elapsed() < self.settings.start_grace {
                    let what = format!("reading what image {} executes by itself", work.image);
                    return Err(EngineError::Failed { what, cause: reason });
                }
                Ok(unknown(reason))
            }
            Err(problem) => Ok(unknown(advice(&problem))),
        }
    }
}

/// By the rules of Kubernetes, for a Plan without an entrypoint: its arguments replace the image's.
fn completed(args: &[String], image: Executed) -> MainCommand {
    let args = if args.is_empty() { image.cmd } else { args.to_vec() };
    if image.entrypoint.is_empty() && args.is_empty() {
        return unknown(
            "there is nothing to execute: neither the Plan (entrypoint, args) nor the image (ENTRYPOINT, CMD) names a \
             program"
                .to_owned(),
        );
    }
    MainCommand { entrypoint: image.entrypoint, args }
}

fn unknown(reason: String) -> MainCommand {
    MainCommand { entrypoint: vec![UNKNOWN.to_owned()], args: vec![reason] }
}

/// What a person can do about it.
fn advice(problem: &ImageProblem) -> String {
    let problem = problem.to_string();
    let problem = in_words(&problem);
    format!(
        "what the image executes by itself could not be read when this worker was made: {problem}; retry the Run, or \
         set \"entrypoint\" in the Plan if only nodes can reach that registry"
    )
}

impl Entrypoints {
    async fn look(&self, image: &ImageRef, settings: &Cluster) -> Result<Executed, ImageProblem> {
        if let Some(Seen { at, what: What::Executes(known) }) = self.seen().get(image).cloned()
            && at.elapsed() < FRESH
        {
            return Ok(known);
        }
        let looked = timeout(LOOK, self.ask(image, settings)).await.unwrap_or_else(|_| {
            let cause = format!("its registry has not answered for {} seconds", LOOK.as_secs());
            Err(ImageProblem::Unreachable { image: image.to_string(), cause })
        });
        if let Ok(executed) = &looked {
            self.remember(image, What::Executes(executed.clone()));
        }
        looked
    }

    async fn ask(&self, image: &ImageRef, settings: &Cluster) -> Result<Executed, ImageProblem> {
        let (name, tag) = (image.to_string(), image.tag.as_str());
        let (place, plain) = match (built_in(image, settings), image.host_and_path()) {
            (None, (Some(host), path)) => ((host, path, tag), false),
            (Some(path), _) | (None, (None, path)) => ((settings.registry_from_here.as_str(), path, tag), true),
        };
        self.remote.executed(&name, place, plain).await
    }

    /// Since when the registry of this image does not answer.
    fn silent_since(&self, image: &ImageRef) -> Stopwatch {
        let now = Stopwatch::start();
        let since = match self.seen().get(image) {
            Some(Seen { what: What::Silent(since), .. }) => *since,
            _ => now,
        };
        self.remember(image, What::Silent(since));
        since
    }

    fn remember(&self, image: &ImageRef, what: What) {
        let mut seen = self.seen();
        if seen.len() >= MOST && !seen.contains_key(image) {
            let oldest = seen.iter().max_by_key(|(_, seen)| seen.at.elapsed()).map(|(image, _)| image.clone());
            oldest.and_then(|image| seen.remove(&image));
        }
        seen.insert(image.clone(), Seen { at: Stopwatch::start(), what });
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<ImageRef, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn arguments_of_a_plan_replace_those_of_the_image_and_keep_its_entrypoint() {
        let image = |entrypoint: &[&str], cmd: &[&str]| Executed { entrypoint: words(entrypoint), cmd: words(cmd) };
        for (args, image, entrypoint, expected) in [
            (&[][..], image(&["e"], &["c"]), &["e"][..], &["c"][..]),
            (&["a"], image(&["e"], &["c"]), &["e"], &["a"]),
            (&["a"], image(&[], &["c"]), &[], &["a"]),
            (&[], image(&[], &["c"]), &[], &["c"]),
            (&[], image(&["e"], &[]), &["e"], &[]),
        ] {
            let main = completed(&words(args), image);
            assert_eq!(main, MainCommand { entrypoint: words(entrypoint), args: words(expected) });
        }
        let nothing = completed(&[], Executed::default());
        assert!(nothing.entrypoint == [UNKNOWN] && nothing.args[0].contains("nothing to execute"), "{nothing:?}");
    }

    #[test]
    fn an_image_that_cannot_be_looked_into_says_what_to_do() {
        let said = advice(&ImageProblem::Unreachable { image: "x:1".to_owned(), cause: "no route".to_owned() });
        assert!(said.contains("no route") && said.contains("set \"entrypoint\" in the Plan"), "{said}");
    }

    #[test]
    fn only_so_many_images_are_remembered_and_silence_counts_from_its_beginning() {
        let entrypoints = Entrypoints::default();
        let image = |number: usize| ImageRef { repository: format!("i{number}"), tag: "1".to_owned() };
        entrypoints.silent_since(&image(0));
        std::thread::sleep(Duration::from_millis(20));
        assert!(entrypoints.silent_since(&image(0)).elapsed() >= Duration::from_millis(20));
        for number in 1..=MOST {
            entrypoints.remember(&image(number), What::Executes(Executed::default()));
        }
        assert_eq!(entrypoints.seen().len(), MOST);
        assert!(!entrypoints.seen().contains_key(&image(0)), "the oldest one went");
        entrypoints.remember(&image(1), What::Executes(Executed::default()));
        assert!(entrypoints.silent_since(&image(1)).elapsed() < Duration::from_secs(1));
    }
}

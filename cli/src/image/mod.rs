//! Images as the users' command line handles them: read from an archive, a layout or stdin, packed
//! from a folder, pushed to the registry beside the API, listed there, and described for a Plan.
//!
//! Everything streams: a layer is never held in memory, and what the registry has is not sent again.

mod config;
mod digest;
mod list;
mod manifest;
mod pack;
mod push;
mod registry;
mod source;

use knit_api::image::{BUILT_IN_REGISTRY, ImageRef};
use std::path::PathBuf;

pub use config::{Described, describe};
pub use list::{Listed, list};
pub use pack::{PackOptions, Packed, pack};
pub use push::{Pushed, push};

/// How a registry is talked to.
#[derive(Clone, Default)]
pub struct Access {
    /// What it asks for.
    pub token: Option<String>,
    /// Certificates, as PEM, of authorities that may vouch for it beside those of the system.
    pub ca: Option<Vec<u8>>,
}

/// Where an image to push comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The bytes.
    pub place: Place,
    /// Which image, when there are several: its name with tag as the archive writes it, or its digest.
    pub select: Option<String>,
}

/// Where the bytes of an image are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A `docker save` archive, an OCI archive (each plain, gzip or zstd), or the folder of an OCI layout.
    Path(PathBuf),
    /// Such an archive on stdin.
    Stdin,
}

impl Source {
    /// The source that an argument names: `-` is stdin, all else a path.
    pub fn from_argument(argument: &std::ffi::OsStr) -> Self {
        let place = if argument == "-" { Place::Stdin } else { Place::Path(argument.into()) };
        Self { place, select: None }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Path(path) => write!(f, "{}", path.display()),
            Place::Stdin => f.write_str("stdin"),
        }
    }
}

/// Is told how a push goes on. Blobs are sent one after the other.
pub trait Progress: Send + Sync {
    /// A blob of this many bytes is about to be sent.
    fn begin(&self, digest: &str, bytes: u64) {
        let _ = (digest, bytes);
    }
    /// So many more bytes of it were handed to the network.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }
    /// The blob is there.
    fn end(&self) {}
    /// The registry has this blob; it is not sent.
    fn skip(&self, digest: &str, bytes: u64) {
        let _ = (digest, bytes);
    }
}

/// No one is told.
impl Progress for () {}

/// Why an image could not be read, packed, pushed or listed; each is a sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The source cannot be read, or is no image.
    #[error("{origin} cannot be read as an image: {cause}")]
    Source {
        /// The path, or `stdin`.
        origin: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Its bytes are not what its digests say.
    #[error("{origin} is damaged: {cause}")]
    Damaged {
        /// The path, or `stdin`.
        origin: String,
        /// What does not match.
        cause: String,
    },
    /// Several images are in it, or none that was asked for.
    #[error("{origin} holds {found}: {advice}", found = holds(.names))]
    Selection {
        /// The path, or `stdin`.
        origin: String,
        /// The images there are.
        names: Vec<String>,
        /// What to do.
        advice: String,
    },
    /// The folder or the options given to `pack` do not make an image.
    #[error("{0}")]
    Pack(String),
    /// The name to push to is not one of this registry.
    #[error("{image} cannot be pushed to {registry}: {cause}")]
    Target {
        /// The name.
        image: String,
        /// The registry.
        registry: String,
        /// Why, and what to write instead.
        cause: String,
    },
    /// The registry asks for a token, or for another one.
    #[error("the registry {registry} refused the token: fetch the profile again from your administrator")]
    NotAuthorised {
        /// The registry.
        registry: String,
    },
    /// The registry cannot be reached.
    #[error("the registry {registry} cannot be reached: {cause}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What the network said.
        cause: String,
    },
    /// The registry answered something else than expected.
    #[error("the registry {registry} failed at {what}: {cause}")]
    Registry {
        /// The registry.
        registry: String,
        /// What was asked of it.
        what: String,
        /// What it said.
        cause: String,
    },
    /// This machine could not read or write what is needed on the way.
    #[error("{what}: {cause}")]
    Local {
        /// What was being done.
        what: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

fn holds(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = match names.len() {
        0 => "no image".to_owned(),
        1 => "the image ".to_owned(),
        n => format!("{n} images, "),
    };
    text.push_str(&names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", "));
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

/// The path and tag below `registry` that `image` means. A name without a host always means the
/// registry beside the API, and so do `localhost:30503/…` and the registry's own address.
fn target<'a>(image: &'a ImageRef, registry: &knit_api::server::Registry) -> Result<(&'a str, &'a str), ImageError> {
    let refuse =
        |cause: String| ImageError::Target { image: image.to_string(), registry: registry.host.clone(), cause };
    let (host, path) = image.host_and_path();
    if host.is_some_and(|host| host != BUILT_IN_REGISTRY && host != registry.host) {
        return Err(refuse(format!("it names another registry; write {path}:{}", image.tag)));
    }
    if !path.split('/').all(is_part) {
        let cause = "between its slashes, a name takes words of a-z and 0-9, joined by '.', '_', '__' or '-'";
        return Err(refuse(cause.to_owned()));
    }
    Ok((path, &image.tag))
}

/// What registries take as a part of a repository's name; image names in Plans may be laxer.
fn is_part(part: &str) -> bool {
    let joints = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|joint| !joint.is_empty());
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(ends)
        && part.ends_with(ends)
        && joints.into_iter().all(|joint| matches!(joint, "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_api::server::Registry;

    #[test]
    fn only_names_of_this_registry_are_pushed_to() {
        let registry = Registry { host: "127.0.0.1:40000".to_owned(), insecure: true };
        for (image, path) in [
            ("first-train/train:v1", Some("first-train/train")),
            ("localhost:30503/a-b/c_d__e.f", Some("a-b/c_d__e.f")),
            ("127.0.0.1:40000/xy", Some("xy")),
            ("a---b", Some("a---b")),
            ("example.com/xy", None),
            ("localhost:5000/xy", None),
            ("a//b", None),
            ("a/-b", None),
            ("a___b", None),
            ("a/b.", None),
            ("_uploads/x", None),
        ] {
            let image: ImageRef = image.parse().unwrap();
            assert_eq!(target(&image, &registry).ok().map(|(path, _)| path), path, "{image}");
        }
    }
}

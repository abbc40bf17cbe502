//! Names of container images: `[host[:port]/]path[:tag]`, by the rules of go-containerregistry
//! with no default registry, so that both sides accept and normalise the same names.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// The host by which Plans may call the built-in registry, wherever it listens. A name without a host means it too.
pub const BUILT_IN_REGISTRY: &str = "localhost:30503";

/// An image by repository and tag. Digests are refused: the digest that ran stands on the Run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// With its host, if it has one.
    pub repository: String,
    /// `latest` when none was written.
    pub tag: String,
}

/// Why a text is not an image name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Nothing there.
    #[error("the image name is empty")]
    Empty,
    /// Named by digest.
    #[error(
        "\"{0}\" names an image by digest: write NAME:TAG (Knit records the digest that ran on the Run, as imageDigest)"
    )]
    Digest(String),
    /// The repository part breaks the rules.
    #[error(
        "\"{0}\" is not an image name: the repository takes 2 to 255 of a-z, 0-9, '_', '-', '.', '/' in lower case"
    )]
    Repository(String),
    /// The tag part breaks the rules.
    #[error("\"{0}\" is not an image tag: it takes 1 to 128 of A-Z, a-z, 0-9, '_', '-', '.'")]
    Tag(String),
    /// What stands before the first slash is no host.
    #[error("\"{0}\" is not a registry host")]
    Host(String),
}

impl ImageRef {
    /// Splits the repository into its registry host, if it names one, and the path there.
    pub fn host_and_path(&self) -> (Option<&str>, &str) {
        match self.repository.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
            _ => (None, &self.repository),
        }
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        if text.is_empty() {
            return Err(ImageError::Empty);
        }
        if text.contains('@') {
            return Err(ImageError::Digest(text.to_owned()));
        }
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, ""),
        };
        let tag = if tag.is_empty() { "latest" } else { tag };
        if tag.len() > 128 || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
            return Err(ImageError::Tag(tag.to_owned()));
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) => (Some(host), path),
            _ => (None, name),
        };
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-./".contains(&b);
        if !(2..=255).contains(&path.len()) || !path.bytes().all(plain) {
            return Err(ImageError::Repository(name.to_owned()));
        }
        let repository = match host {
            None => path.to_owned(),
            Some(host) => {
                let host = if host == "docker.io" { "index.docker.io" } else { host };
                if !is_authority(host) {
                    return Err(ImageError::Host(host.to_owned()));
                }
                let library = if host == "index.docker.io" && !path.contains('/') { "library/" } else { "" };
                format!("{host}/{library}{path}")
            }
        };
        Ok(Self { repository, tag: tag.to_owned() })
    }
}

fn is_authority(host: &str) -> bool {
    url::Url::parse(&format!("http://{host}/"))
        .is_ok_and(|url| url.username().is_empty() && url.password().is_none() && url.path() == "/")
        && !host.contains(['?', '#', '@', '\\'])
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The laxer form with which Plans are searched by image: the tag may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageQuery {
    /// Exactly the stored repository.
    pub repository: String,
    /// Exactly the stored tag, or any.
    pub tag: Option<String>,
}

impl FromStr for ImageQuery {
    type Err = ImageError;

    /// Splits the part after the last `/` at its first `:`.
    fn from_str(text: &str) -> Result<Self, ImageError> {
        let start = text.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = text[start..].split_once(':').unwrap_or((&text[start..], ""));
        if name.is_empty() {
            return Err(ImageError::Empty);
        }
        Ok(Self { repository: format!("{}{name}", &text[..start]), tag: (!tag.is_empty()).then(|| tag.to_owned()) })
    }
}

impl fmt::Display for ImageQuery {
    /// As a query parameter: the colon always stands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag.as_deref().unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_normalised_like_the_original_does() {
        for (text, repository, tag) in [
            ("foo", "foo", "latest"),
            ("foo:", "foo", "latest"),
            ("localhost:5000/foo", "localhost:5000/foo", "latest"),
            ("docker.io/foo:v1", "index.docker.io/library/foo", "v1"),
            ("docker.io/a/foo", "index.docker.io/a/foo", "latest"),
            ("localhost:30503/first-train/train:v1", "localhost:30503/first-train/train", "v1"),
        ] {
            let image: ImageRef = text.parse().unwrap();
            assert_eq!((image.repository.as_str(), image.tag.as_str()), (repository, tag), "{text}");
        }
        let long = "a".repeat(256);
        for text in ["f:v1", "FOO:v1", "foo@sha256:00", "", &long, "a b", "foo:b/r!", "foo:ta+g", "x.y:99999/ab"] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_search_may_leave_the_tag_out() {
        for (text, repository, tag) in [
            ("foo", "foo", None),
            ("foo:", "foo", None),
            ("localhost:5000/foo:v1", "localhost:5000/foo", Some("v1")),
            ("localhost:5000", "localhost", Some("5000")),
        ] {
            let query: ImageQuery = text.parse().unwrap();
            assert_eq!((query.repository.as_str(), query.tag.as_deref()), (repository, tag), "{text}");
        }
        assert!("a/".parse::<ImageQuery>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_normalised_name_is_stable(text in "[a-z.:/0-9_-]{0,40}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                proptest::prop_assert_eq!(image.to_string().parse::<ImageRef>().unwrap(), image);
            }
            let _ = text.parse::<ImageQuery>();
        }
    }
}

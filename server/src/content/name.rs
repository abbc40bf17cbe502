//! Names in a registry, checked once and strictly: they become paths.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No digest, or not of SHA-256.
    #[error("\"{0}\" is not a digest: write sha256: and 64 hex digits in lower case")]
    Digest(String),
    /// No name of a repository.
    #[error(
        "\"{0}\" is not a repository: its parts take a-z and 0-9, joined by '.', '_', '__' or '-', \
         separated by '/', 255 characters at most"
    )]
    Repository(String),
    /// No tag.
    #[error("\"{0}\" is not a tag: it takes up to 128 of A-Z, a-z, 0-9, '_', '.', '-' and begins with neither '.' nor '-'")]
    Tag(String),
}

/// The start of a hostile text, enough to recognise it in a message.
fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// SHA-256 of some bytes; written `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// The digest of what was hashed.
    pub fn finish(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// 64 hex digits without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// From 64 lower-case hex digits.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.strip_prefix("sha256:").and_then(Self::from_hex).ok_or_else(|| NameError::Digest(excerpt(text)))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Name of a repository, of one part or many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The name, also usable as a relative path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= 255 && text.split('/').all(is_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Repository(excerpt(text)))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
pub(super) fn is_part(part: &str) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = part.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| plain(b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let joint = match rest {
            [] => return true,
            [b'.', ..] => 1,
            [b'_', b'_', ..] => 2,
            [b'_', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|b| **b == b'-').count(),
            _ => return false,
        };
        rest = &rest[joint..];
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName(String);

impl TagName {
    /// The tag, also usable as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if (1..=128).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Tag(excerpt(text)))
        }
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories_follow_the_distribution_specification() {
        for good in ["a", "ab", "a/b/c", "a.b", "a_b", "a__b", "a-b", "a---b", "0", "first-train/train", "a.b-c_d"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a/./b", "_uploads", "a/_uploads", "a/_tags/b",
            "A", "a..b", "a___b", "a.", ".a", "-a", "a-", "a b", "a\0b", "a%2fb", "ü", &long,
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_and_digests_are_strict() {
        for good in ["latest", "v1.0", "_x", "A-b.c_d", &"t".repeat(128)] {
            assert!(good.parse::<TagName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "a\n", "a:b", &"t".repeat(129)] {
            assert!(bad.parse::<TagName>().is_err(), "{bad}");
        }
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(empty.parse::<Digest>(), Ok(Digest::of(b"")));
        assert_eq!(Digest::of(b"").to_string(), empty);
        for bad in [&empty[7..], &empty.to_uppercase(), &empty[..70], "sha256:", "sha512:00", "sha256:../../etc"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_name_never_leaves_its_folder(text in "[a-z0-9._/%-]{0,40}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                let path = std::path::Path::new(name.as_str());
                proptest::prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
                proptest::prop_assert!(!name.as_str().split('/').any(|part| part.starts_with('_')));
            }
            let _ = (text.parse::<TagName>(), text.parse::<Digest>());
        }
    }
}

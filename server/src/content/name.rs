//! Names in a registry, checked once and strictly: they become paths.

pub use knit_api::digest::Digest;
use knit_api::digest::DigestError;
use knit_api::problem::excerpt;
use std::fmt;
use std::str::FromStr;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No digest, or not of SHA-256.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// No name of a repository.
    #[error(
        "\"{0}\" is not a repository: its parts take a-z and 0-9, joined by '.', '_', '__' or '-', \
         separated by '/', 255 characters at most"
    )]
    Repository(String),
    /// No tag.
    #[error(
        "\"{0}\" is not a tag: it takes up to 128 of A-Z, a-z, 0-9, '_', '.', '-' and begins with neither '.' nor '-'"
    )]
    Tag(String),
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
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
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
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/..",
            "../a",
            "a/./b",
            "_uploads",
            "a/_uploads",
            "a/_tags/b",
            "A",
            "a..b",
            "a___b",
            "a.",
            ".a",
            "-a",
            "a-",
            "a b",
            "a\0b",
            "a%2fb",
            "ü",
            &long,
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

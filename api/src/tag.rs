//! Tags: `key:value` pairs on Data and on the inputs and outputs of Plans.
//!
//! The text form splits at the *first* colon and trims both halves. Keys that begin with
//! [`RESERVED`] are the system's; users can neither add nor remove them.

use crate::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What every system tag's key begins with.
pub const RESERVED: &str = "knit#";
/// Key of the system tag that holds the Data's own id.
pub const ID: &str = "knit#id";
/// Key of the system tag that holds the time at which the Data became final.
pub const TIMESTAMP: &str = "knit#timestamp";
/// Key of the system tag that marks Data which cannot be used (yet, or ever).
pub const TRANSIENT: &str = "knit#transient";
/// Value of [`TRANSIENT`] while the producing Run is not over.
pub const PROCESSING: &str = "processing";
/// Value of [`TRANSIENT`] when the producing Run failed.
pub const FAILED: &str = "failed";
/// Longest key, in characters.
pub const MAX_KEY: usize = 1024;
/// Longest value, in characters.
pub const MAX_VALUE: usize = 1_048_576;

/// One tag. Order is by key, then value, comparing bytes: the order in which tags are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// What stands before the first colon.
    pub key: String,
    /// All the rest; may hold colons.
    pub value: String,
}

/// A set of tags in listing order.
pub type TagSet = BTreeSet<Tag>;

/// Why a text is not a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// There is no colon.
    #[error("\"{0}\" is not a tag: write KEY:VALUE")]
    NoColon(String),
    /// The key is the system's.
    #[error("\"{0}\" is reserved: keys starting with knit# belong to the system and cannot be set or removed")]
    Reserved(String),
    /// The value of `knit#timestamp` is not a time.
    #[error("\"{0}\" is not a time: knit#timestamp takes RFC 3339, for example 2025-02-03T04:05:06+00:00")]
    NotATime(String),
    /// The value of `knit#transient` is unknown.
    #[error("\"{0}\" is not a value of knit#transient: use processing or failed")]
    NotTransient(String),
    /// Key or value is longer than the store takes.
    #[error("the {part} of a tag has {len} characters; at most {max} are allowed")]
    TooLong {
        /// `key` or `value`.
        part: &'static str,
        /// Characters found.
        len: usize,
        /// Characters allowed.
        max: usize,
    },
    /// A NUL character, which no store takes.
    #[error("a tag cannot hold a NUL character")]
    Nul,
}

impl Tag {
    /// A tag of these two parts, as they are.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    /// True when the key belongs to the system.
    pub fn is_system(&self) -> bool {
        self.key.starts_with(RESERVED)
    }

    /// Splits `key:value` at the first colon and trims both halves, without looking at what they say.
    /// This is the form of search parameters.
    pub fn split(text: &str) -> Result<Self, TagError> {
        let (key, value) = text.split_once(':').ok_or_else(|| TagError::NoColon(text.to_owned()))?;
        let tag = Self::new(key.trim(), value.trim());
        tag.check_size()?;
        Ok(tag)
    }

    /// A tag that a user may set: [`Tag::split`], then system keys are refused.
    pub fn parse_user(text: &str) -> Result<Self, TagError> {
        Self::split(text)?.require_user()
    }

    /// The tag itself, unless its key is the system's.
    pub fn require_user(self) -> Result<Self, TagError> {
        if self.is_system() { Err(TagError::Reserved(self.key)) } else { Ok(self) }
    }

    fn check_size(&self) -> Result<(), TagError> {
        for (part, text, max) in [("key", &self.key, MAX_KEY), ("value", &self.value, MAX_VALUE)] {
            let len = text.chars().count();
            if len > max {
                return Err(TagError::TooLong { part, len, max });
            }
            if text.contains('\0') {
                return Err(TagError::Nul);
            }
        }
        Ok(())
    }
}

impl FromStr for Tag {
    type Err = TagError;

    /// The strict text form: [`Tag::split`], then the values of system tags are checked.
    fn from_str(text: &str) -> Result<Self, TagError> {
        let tag = Self::split(text)?;
        match tag.key.as_str() {
            TIMESTAMP if Timestamp::parse_strict(&tag.value).is_err() => Err(TagError::NotATime(tag.value)),
            TRANSIENT if tag.value != PROCESSING && tag.value != FAILED => Err(TagError::NotTransient(tag.value)),
            _ => Ok(tag),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, self.value)
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match EitherForm::deserialize(deserializer)? {
            EitherForm::Text(text) => text.parse().map_err(de::Error::custom),
            EitherForm::Pair { key, value } => {
                let tag = Tag { key, value };
                tag.check_size().map_err(de::Error::custom)?;
                Ok(tag)
            }
        }
    }
}

/// A tag as it stands in a tag change: written as `{"key": …, "value": …}`, read in either form,
/// never a system tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserTag(pub Tag);

impl Serialize for UserTag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Pair<'a> {
            key: &'a str,
            value: &'a str,
        }
        Pair { key: &self.0.key, value: &self.0.value }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for UserTag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Tag::deserialize(deserializer)?.require_user().map(UserTag).map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a tag: \"KEY:VALUE\" or {\"key\": KEY, \"value\": VALUE}")]
enum EitherForm {
    Text(String),
    Pair { key: String, value: String },
}

/// Body of the request that changes the tags of a Data: first removals, then additions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagChange {
    /// Tags to add; one that is there already is no error.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub add: Vec<UserTag>,
    /// Exact tags to remove; one that is not there is no error.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub remove: Vec<UserTag>,
    /// Keys whose tags are all removed.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub remove_key: Vec<String>,
}

impl TagChange {
    /// Refuses reserved keys in `remove_key` (the other two cannot hold any).
    pub fn check(&self) -> Result<(), TagError> {
        match self.remove_key.iter().find(|key| key.starts_with(RESERVED)) {
            Some(key) => Err(TagError::Reserved(key.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_splits_at_its_first_colon_and_is_trimmed() {
        for (text, key, value) in [
            ("a:b", "a", "b"),
            (" a : b : c ", "a", "b : c"),
            (":", "", ""),
            ("a:", "a", ""),
            (":b", "", "b"),
            ("url:http://x:1/y", "url", "http://x:1/y"),
            ("knit#foo:bar", "knit#foo", "bar"),
        ] {
            assert_eq!(text.parse::<Tag>().unwrap(), Tag::new(key, value), "{text}");
        }
        assert_eq!("plain".parse::<Tag>(), Err(TagError::NoColon("plain".into())));
    }

    #[test]
    fn system_tags_have_checked_values_in_text_form() {
        assert!("knit#timestamp:2025-02-03T04:05:06Z".parse::<Tag>().is_ok());
        assert!("knit#timestamp:yesterday".parse::<Tag>().is_err());
        assert!("knit#transient:failed".parse::<Tag>().is_ok());
        assert!("knit#transient:purged".parse::<Tag>().is_err());
    }

    #[test]
    fn both_json_forms_are_read_and_each_type_writes_its_own() {
        let text: Tag = serde_json::from_str(r#""a\"b:c""#).unwrap();
        assert_eq!(text, Tag::new("a\"b", "c"));
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""a\"b:c""#);
        let user: UserTag = serde_json::from_str(r#"{"key":" k ","value":"v","more":1}"#).unwrap();
        assert_eq!(user.0, Tag::new(" k ", "v"));
        assert_eq!(serde_json::to_string(&user).unwrap(), r#"{"key":" k ","value":"v"}"#);
        for wrong in ["null", "3", "[]", r#""x""#, r#"{"key":"a"}"#] {
            assert!(serde_json::from_str::<Tag>(wrong).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<UserTag>(r#""knit#id:x""#).is_err());
    }

    #[test]
    fn a_change_takes_null_for_nothing_and_refuses_reserved_keys() {
        let change: TagChange =
            serde_json::from_str(r#"{"add":[{"key":"name","value":"dd"}],"remove":null,"remove_key":["knit#id"]}"#)
                .unwrap();
        assert_eq!(change.add.len(), 1);
        assert!(change.check().is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read_back(key in "[^:\\s\0]([^:\0]*[^:\\s\0])?", value in "([^\\s\0]([^\0]*[^\\s\0])?)?") {
            proptest::prop_assume!(!key.starts_with(RESERVED) && key.trim() == key && value.trim() == value);
            let tag = Tag::new(key, value);
            proptest::prop_assert_eq!(tag.to_string().parse::<Tag>().unwrap(), tag.clone());
            let json = serde_json::to_string(&tag).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Tag>(&json).unwrap(), tag);
        }
    }
}

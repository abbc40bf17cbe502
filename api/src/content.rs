//! What is told of the content of a Data: paths that need not be text, and how files differ from what they
//! should be. Not on an original server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A path inside a Data, in JSON. Names are bytes; those that are no UTF-8 come a second time, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPath {
    /// The path as text; what is no UTF-8 is replaced.
    pub path: String,
    /// The very bytes, where the text is not the whole truth.
    #[serde(rename = "pathBase64", default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl EntryPath {
    /// The path with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { path: text.to_owned(), base64: None },
            Err(_) => Self { path: String::from_utf8_lossy(bytes).into_owned(), base64: Some(STANDARD.encode(bytes)) },
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let exact = self.base64.as_ref().and_then(|text| STANDARD.decode(text).ok());
        exact.unwrap_or_else(|| self.path.as_bytes().to_vec())
    }
}

/// How an entry differs from what the manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// It is not there.
    Missing,
    /// It should not be there.
    Extra,
    /// It is a file where a folder should be, and the like.
    Kind,
    /// It cannot be read.
    Unreadable,
    /// It has another size.
    Size,
    /// It holds something else.
    Content,
    /// It has other permission bits.
    Mode,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Kind => "kind",
            Self::Unreadable => "unreadable",
            Self::Size => "size",
            Self::Content => "content",
            Self::Mode => "mode",
        })
    }
}

/// One line of the answer of `POST /data/{id}/verify`. Only a stream that ends with `done` is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// How far it is.
    Progress(Checked),
    /// An entry that differs.
    Differs(Differing),
    /// All was read.
    Done(Checked),
}

/// What was compared so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Entries below the root.
    pub entries: u64,
    /// Bytes in regular files.
    pub bytes: u64,
    /// Entries that differ; more than are named, where they are many.
    pub differences: u64,
}

/// An entry that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// Where it is.
    #[serde(flatten)]
    pub path: EntryPath,
    /// How it differs.
    pub difference: Difference,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_bytes_in_json() {
        for (bytes, json) in [
            (&b"a/b"[..], r#"{"path":"a/b"}"#),
            ("ü\n".as_bytes(), r#"{"path":"ü\n"}"#),
            (b"a\xff", "{\"path\":\"a\u{fffd}\",\"pathBase64\":\"Yf8=\"}"),
        ] {
            let path = EntryPath::of(bytes);
            assert_eq!(serde_json::to_string(&path).unwrap(), json);
            assert_eq!(serde_json::from_str::<EntryPath>(json).unwrap().bytes(), bytes);
        }
    }

    #[test]
    fn a_check_is_one_object_per_line() {
        let differs = Check::Differs(Differing { path: EntryPath::of(b"a"), difference: Difference::Content });
        let text = serde_json::to_string(&differs).unwrap();
        assert_eq!(text, r#"{"differs":{"path":"a","difference":"content"}}"#);
        assert_eq!(serde_json::from_str::<Check>(&text).unwrap(), differs);
    }

    proptest::proptest! {
        #[test]
        fn any_path_survives_json(bytes in proptest::collection::vec(0_u8.., 0..50)) {
            let text = serde_json::to_string(&EntryPath::of(&bytes)).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<EntryPath>(&text).unwrap().bytes(), bytes);
        }
    }
}

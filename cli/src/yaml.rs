//! Reading YAML that people write: one document, bounded in size and depth, duplicate keys refused,
//! errors with line and column in our own words.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location};
use std::fmt;
use std::io::Read;
use std::path::Path;

/// Largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 1024 * 1024;
/// Deepest nesting that is read.
const MAX_DEPTH: usize = 16;

/// What is wrong with a YAML text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Line and column, from 1, where they are known.
    pub at: Option<(u64, u64)>,
    /// What is wrong there.
    pub message: String,
}

impl YamlError {
    /// An error at a place.
    pub fn at(location: Location, message: impl Into<String>) -> Self {
        let (line, column) = (location.line(), location.column());
        Self { at: (line > 0).then_some((line, column)), message: message.into() }
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for YamlError {}

/// Reads a whole text file, up to the bound; `-` is stdin where `stdin` allows it.
pub fn read_text(path: &Path, stdin: bool) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = if stdin && path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {} KiB", MAX_BYTES / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// Reads one document. An empty text reads as the type's form of "nothing".
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 2,
            max_nodes: 50_000,
            max_events: 200_000,
            max_anchors: 100,
            max_aliases: 1_000,
            max_recorded_anchor_events: 20_000,
            max_total_scalar_bytes: 2 * 1024 * 1024,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| explain(&e))
}

/// The same fact in our words.
fn explain(error: &Error) -> YamlError {
    let error = error.without_snippet();
    let at = error.location().unwrap_or(Location::UNKNOWN);
    let message = match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key \"{key}\" stands here a second time"),
        Error::DuplicateMappingKey { .. } => "a key stands here a second time".to_owned(),
        Error::SerdeMissingField { field, .. } => format!("the key \"{field}\" is missing"),
        Error::MultipleDocuments { .. } => {
            "a second document begins here (after \"---\"): write one document per file".to_owned()
        }
        Error::Budget { .. } => "it is larger or nested deeper than a file of this kind can be".to_owned(),
        Error::Eof { .. } => "there is nothing in it".to_owned(),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("found {unexpected} where {expected} belongs")
        }
        Error::NullIntoString { .. } => "a value is missing: write \"\" for an empty text".to_owned(),
        Error::InvalidScalar { ty, .. } => format!("this value does not read as {ty}"),
        Error::Unexpected { expected, .. } => format!("this is not what belongs here: {expected}"),
        Error::Message { msg, .. } => msg.clone(),
        other => without_position(&other.to_string()),
    };
    YamlError::at(at, message)
}

/// A text as a YAML scalar between double quotes, on one line, whatever is in it.
pub fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            _ if needs_escape(c) => {
                let _ = match u32::from(c) {
                    code @ ..0x100 => write!(out, "\\x{code:02X}"),
                    code @ ..0x1_0000 => write!(out, "\\u{code:04X}"),
                    code => write!(out, "\\U{code:08X}"),
                };
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What YAML does not take as it is, and what could steer a terminal or turn a line around.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// The reader puts positions behind its messages; ours stand in front.
fn without_position(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.rfind(" at line ").map_or(line, |end| &line[..end]).to_owned()
}

/// Names an unknown key and the known one that was probably meant.
pub fn unknown_key(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("unknown key \"{key}\": did you mean \"{near}\"?"),
        None => format!("unknown key \"{key}\": known here are {}", known.join(", ")),
    }
}

/// The known word that `word` is most likely meant to be, if any is close.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    // Beyond a third of the word it is another word rather than a slip.
    let slack = (word.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|&one| (distance(&word, &one.to_lowercase()), one))
        .filter(|(distance, _)| *distance <= slack)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, one)| one)
}

/// Number of letters to insert, delete, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_nearest_known_word_is_found_and_a_strange_one_is_not_guessed() {
        let known = ["annotations", "image", "inputs", "log", "outputs"];
        for (word, near) in [
            ("annotation", Some("annotations")),
            ("annoation", Some("annotations")),
            ("logs", Some("log")),
            ("Image", Some("image")),
            ("imgae", Some("image")),
            ("input", Some("inputs")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), near, "{word}");
        }
    }

    #[test]
    fn a_text_beyond_the_bounds_is_refused_with_a_reason() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(from_str::<serde_json::Value>(&deep).is_err());
        let error = from_str::<BTreeMap<String, String>>("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error.to_string(), "line 3, column 1: the key \"a\" stands here a second time");
        let error = from_str::<BTreeMap<String, String>>("a: 1\n---\nb: 2\n").unwrap_err();
        assert!(error.message.contains("second document"), "{error}");
    }

    #[test]
    fn a_quoted_text_is_one_line_without_anything_that_steers() {
        assert_eq!(quoted("a \"b\" \\ # {\n\u{1b}[1m日本\u{9b}\0"), r#""a \"b\" \\ # {\n\x1B[1m日本\x9B\x00""#);
        assert_eq!(quoted("\u{2028}\u{202e}\u{1ffff}"), r#""\u2028\u202E\U0001FFFF""#);
    }

    proptest::proptest! {
        #[test]
        fn a_quoted_text_reads_back(text: String) {
            let quoted = quoted(&text);
            proptest::prop_assert!(!quoted.contains(char::is_control));
            proptest::prop_assert_eq!(from_str::<String>(&quoted).unwrap(), text);
        }

        #[test]
        fn any_text_gives_a_value_or_an_error(text in "[ \n\ta-c:&*!\\[\\]{}'\"#|>-]{0,80}") {
            let _ = from_str::<serde_json::Value>(&text);
            let _ = from_str::<BTreeMap<String, String>>(&text);
        }
    }
}

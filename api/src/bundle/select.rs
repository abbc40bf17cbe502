//! Which entries of a folder are meant: globs over their paths.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use std::fmt;

/// Most globs in one selection.
const MOST: usize = 64;
/// Longest glob, in bytes.
const LONGEST: usize = 1024;

/// A set of globs over paths. `*` and `?` stand for what is in one name, `**` for any number of folders,
/// `[a-z]` for one of these letters, `{a,b}` for one of these texts; a backslash takes the meaning away.
///
/// A glob without a slash means entries of this name wherever they are; one with a slash is matched from the
/// root on. A folder that is matched is taken with all that is in it.
#[derive(Clone, Debug)]
pub struct Selection {
    globs: GlobSet,
    texts: Vec<String>,
}

/// A glob that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", Quoted(.glob))]
pub struct BadPattern {
    glob: String,
    why: String,
}

/// A glob in a message: bounded, and without control characters.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", crate::problem::excerpt(self.0))
    }
}

impl Selection {
    /// Understands the globs.
    ///
    /// # Errors
    /// For one that is empty, too long or no glob, and for too many of them.
    pub fn new<S: AsRef<str>>(globs: &[S]) -> Result<Self, BadPattern> {
        let texts = globs.iter().map(|glob| glob.as_ref().to_owned()).collect();
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let text = glob.as_ref();
            let bad = |why: &str| BadPattern { glob: text.to_owned(), why: why.to_owned() };
            if globs.len() > MOST {
                return Err(bad(&format!("more than {MOST} globs are too many")));
            }
            if text.len() > LONGEST {
                return Err(bad(&format!("a glob may have {LONGEST} bytes")));
            }
            if text.contains('\0') {
                return Err(bad("no name holds a zero byte"));
            }
            let (anchored, from_root) = anchored(text);
            if from_root.is_empty() {
                return Err(bad("it matches nothing"));
            }
            if from_root.split('/').any(|name| name == "." || name == "..") {
                return Err(bad("nothing in a Data is named . or .."));
            }
            let whole = if anchored { from_root.to_owned() } else { format!("**/{from_root}") };
            let understood = GlobBuilder::new(&whole).literal_separator(true).backslash_escape(true).build();
            let understood = understood.map_err(|error| bad(&error.kind().to_string()))?;
            // One that is too much for the matcher is known only from an attempt, which names none when there are
            // several.
            let alone = GlobSetBuilder::new().add(understood.clone()).build();
            alone.map_err(|_| bad("it is nested too deep, or stands for too much"))?;
            set.add(understood);
        }
        let globs = set.build().map_err(|_| BadPattern {
            glob: globs.first().map(|glob| glob.as_ref().to_owned()).unwrap_or_default(),
            why: "it and the globs beside it stand for too much together".to_owned(),
        })?;
        Ok(Self { globs, texts })
    }

    /// The globs as they were given.
    pub fn globs(&self) -> &[String] {
        &self.texts
    }

    /// Begins to choose among entries in canonical order.
    pub fn start(&self) -> Selector {
        Selector { selection: self.clone(), inside: None }
    }

    fn matches(&self, path: &[u8]) -> bool {
        self.globs.is_match_candidate(&Candidate::from_bytes(path))
    }
}

/// Whether a glob is matched from the root on, and what it says then.
fn anchored(glob: &str) -> (bool, &str) {
    let glob = glob.trim_end_matches('/');
    match glob.strip_prefix("./").or_else(|| glob.strip_prefix('/')) {
        Some(rest) => (true, rest.trim_start_matches('/')),
        None => (glob.contains('/'), glob),
    }
}

/// Chooses among entries that come in canonical order.
#[derive(Clone, Debug)]
pub struct Selector {
    selection: Selection,
    /// The folder that was taken last: all that is in it is taken too.
    inside: Option<Vec<u8>>,
}

impl Selector {
    /// Whether the entry is taken.
    pub fn takes(&mut self, path: &[u8], is_folder: bool) -> bool {
        if self.inside.as_ref().is_some_and(|folder| super::is_within(path, folder)) {
            return true;
        }
        self.inside = None;
        let taken = self.selection.matches(path);
        if taken && is_folder {
            self.inside = Some(path.to_vec());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a glob takes of these entries; a folder ends with a slash.
    fn taken(globs: &[&str], entries: &[&str]) -> Vec<String> {
        let mut selector = Selection::new(globs).unwrap().start();
        let one = |entry: &&&str| selector.takes(entry.trim_end_matches('/').as_bytes(), entry.ends_with('/'));
        entries.iter().filter(one).map(ToString::to_string).collect()
    }

    #[test]
    fn globs_take_what_they_say() {
        let entries = ["a.bin", "a.txt", "d/", "d/a.txt", "d/e/", "d/e/a.txt", "d/e/b.bin", "d.txt", "x y"];
        for (glob, expected) in [
            ("a.txt", &["a.txt", "d/a.txt", "d/e/a.txt"][..]),
            ("/a.txt", &["a.txt"]),
            ("./a.txt", &["a.txt"]),
            ("*.txt", &["a.txt", "d/a.txt", "d/e/a.txt", "d.txt"]),
            ("/*.txt", &["a.txt", "d.txt"]),
            ("d/*.txt", &["d/a.txt"]),
            ("d/*", &["d/a.txt", "d/e/", "d/e/a.txt", "d/e/b.bin"]),
            ("d/**/*.txt", &["d/a.txt", "d/e/a.txt"]),
            ("**/*.bin", &["a.bin", "d/e/b.bin"]),
            ("d", &["d/", "d/a.txt", "d/e/", "d/e/a.txt", "d/e/b.bin"]),
            ("e/", &["d/e/", "d/e/a.txt", "d/e/b.bin"]),
            ("d/e", &["d/e/", "d/e/a.txt", "d/e/b.bin"]),
            ("?.txt", &["a.txt", "d/a.txt", "d/e/a.txt", "d.txt"]),
            ("[ab].bin", &["a.bin", "d/e/b.bin"]),
            ("*.{bin,none}", &["a.bin", "d/e/b.bin"]),
            ("x y", &["x y"]),
            ("**", &entries[..]),
            ("*", &entries[..]),
            ("\\*", &[]),
            ("A.TXT", &[]),
        ] {
            assert_eq!(taken(&[glob], &entries), expected, "{glob}");
        }
        assert_eq!(taken(&["x*", "/a.bin"], &entries), ["a.bin", "x y"]);
    }

    #[test]
    fn names_need_not_be_text() {
        let mut selector = Selection::new(&["d/*.bin"]).unwrap().start();
        assert!(selector.takes(b"d/\xff\n.bin", false));
        assert!(!selector.takes(b"d/\xff\n.txt", false));
    }

    #[test]
    fn a_glob_that_is_too_much_is_named() {
        let deep = format!("{}a{}", "{".repeat(500), "}".repeat(500));
        let refused = Selection::new(&["fine", &deep, "fine too"]).unwrap_err().to_string();
        assert!(refused.starts_with("\"{{{{{{{{") && refused.contains("nested too deep"), "{refused}");
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        for glob in ["", "/", "./", "[a", "{a", "a\\", "../a", "a/../b", "./.", "a\0b", &"a".repeat(1025)] {
            assert!(Selection::new(&[glob]).is_err(), "{glob:?}");
        }
        assert!(Selection::new(&["a"; 65]).is_err());
        assert!(Selection::new(&["a"; 64]).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_understood_or_refused(globs in proptest::collection::vec(r"[a-z*?\[\]{},/.!^\\-]{0,24}", 0..4),
                                             path in proptest::collection::vec(1_u8.., 1..40)) {
            if let Ok(selection) = Selection::new(&globs) {
                selection.start().takes(&path, false);
            }
        }
    }
}

//! The invariants that the README promises, read off the sources: each rule names the words that must not stand
//! in the files it speaks of, and is tried on a file that breaks it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words that are kept to one place.
struct Rule {
    /// As the README says it.
    says: &'static str,
    /// True for the files that must not have these words; paths are those in the repository.
    speaks_of: fn(&str) -> bool,
    /// Identifiers, or paths of them, that must not stand in the code.
    words: &'static [&'static str],
}

fn server(path: &str) -> bool {
    path.starts_with("server/src/")
}

fn server_except(path: &str, places: &[&str]) -> bool {
    server(path) && !places.iter().any(|place| path["server/src/".len()..].starts_with(place))
}

const RULES: &[Rule] = &[
    Rule {
        says: "only store/ speaks to the database",
        speaks_of: |path| server_except(path, &["store/"]),
        words: &["sqlx"],
    },
    Rule {
        says: "only engine/ knows where work runs",
        speaks_of: |path| server_except(path, &["engine/"]),
        words: &["kube", "libcontainer", "Command::new"],
    },
    Rule {
        says: "only http/, registry/ and the doors of Pods serve HTTP",
        speaks_of: |path| {
            server_except(path, &["http/", "registry/", "engine/kubernetes/door/", "engine/kubernetes/dial"])
        },
        words: &["axum", "hyper", "hyper_util", "tower_http"],
    },
    Rule {
        says: "rules/ only computes",
        speaks_of: |path| path.starts_with("server/src/rules/"),
        words: &[
            "tokio",
            "tracing",
            "uuid",
            "SystemTime",
            "Instant",
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
        ],
    },
    Rule {
        says: "rules/ depends on nothing above it",
        speaks_of: |path| path.starts_with("server/src/rules/"),
        words: &[
            "crate::app",
            "crate::clock",
            "crate::content",
            "crate::engine",
            "crate::http",
            "crate::loops",
            "crate::registry",
            "crate::serve",
            "crate::settings",
            "crate::store",
            "crate::wake",
        ],
    },
    Rule {
        says: "http and loops meet only through the store and Wake",
        speaks_of: |path| path.starts_with("server/src/http/"),
        words: &["crate::loops"],
    },
    Rule {
        says: "loops and http meet only through the store and Wake",
        speaks_of: |path| path.starts_with("server/src/loops/"),
        words: &["crate::http"],
    },
    Rule {
        says: "only clock.rs reads the time and makes ids",
        speaks_of: |path| server_except(path, &["clock.rs"]),
        words: &["SystemTime::now", "Instant::now", "Timestamp::now", "Uuid::new_v4", "Uuid::now_v7"],
    },
    Rule {
        says: "clients know the server by its API alone",
        speaks_of: |path| {
            ["cli/src/", "admin/src/", "installer/src/", "api/src/"].iter().any(|of| path.starts_with(of))
        },
        words: &["knit_server"],
    },
];

/// Pairs of words that, in this order and near each other in one text, are a statement.
const STATEMENTS: &[(&str, &str)] = &[
    ("select ", " from "),
    ("insert ", "into "),
    ("delete from ", "where "),
    ("update ", " set "),
    ("create ", "table "),
    ("left join ", " on "),
];

/// Names that say nothing of what a file is for.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "misc"];

impl Rule {
    /// The words of this rule that stand in a file, if it speaks of it.
    fn broken_by(&self, path: &str, source: &Source) -> Vec<&'static str> {
        if !(self.speaks_of)(path) {
            return Vec::new();
        }
        self.words.iter().copied().filter(|word| stands_in(&source.code, word)).collect()
    }
}

/// True when the word stands there as a whole, not as a part of a longer identifier.
fn stands_in(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(part) && !code[at + word.len()..].chars().next().is_some_and(part)
    })
}

/// True when a text of the program is a statement of SQL.
fn says_sql(texts: &[String]) -> bool {
    texts.iter().any(|text| {
        let text = format!("{} ", text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" "));
        STATEMENTS.iter().any(|(first, then)| {
            text.match_indices(first)
                .any(|(at, _)| text[at + first.len() - 1..].contains(then) && starts_word(&text, at))
        })
    })
}

fn starts_word(text: &str, at: usize) -> bool {
    !text[..at].chars().next_back().is_some_and(char::is_alphanumeric)
}

/// A file of Rust, without its tests and comments.
struct Source {
    /// What is left, with every text emptied.
    code: String,
    /// The texts.
    texts: Vec<String>,
}

impl Source {
    fn read(text: &str) -> Self {
        // Tests stand last in a file.
        let text = text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at]);
        let mut source = Self { code: String::new(), texts: Vec::new() };
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            rest = source.take(next, rest);
        }
        source
    }

    /// Takes one piece from the beginning of `rest`; returns what comes after it.
    fn take<'a>(&mut self, next: char, rest: &'a str) -> &'a str {
        if rest.starts_with("//") {
            return rest.find('\n').map_or("", |end| &rest[end..]);
        }
        if rest.starts_with("/*") {
            return rest.find("*/").map_or("", |end| &rest[end + 2..]);
        }
        if let Some((text, after)) = raw_text(rest) {
            self.texts.push(text.to_owned());
            return after;
        }
        if next == '"' {
            return self.take_text(&rest[1..]);
        }
        // A quoted character; anything else after the sign is a lifetime.
        for quoted in ["'\"'", "'\\\"'", "'\\''"] {
            if let Some(after) = rest.strip_prefix(quoted) {
                return after;
            }
        }
        // A name goes as a whole, so that what follows a letter r is not taken for a raw text.
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (piece, after) = rest.split_at(name.max(next.len_utf8()));
        self.code.push_str(piece);
        after
    }

    fn take_text<'a>(&mut self, rest: &'a str) -> &'a str {
        let mut text = String::new();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.texts.push(text);
                    return &rest[at + 1..];
                }
                // What is escaped does not matter here, only that it ends no text.
                '\\' => drop(chars.next()),
                c => text.push(c),
            }
        }
        ""
    }
}

/// `r"…"` with any number of signs around it.
fn raw_text(rest: &str) -> Option<(&str, &str)> {
    let signs = rest.strip_prefix('r')?;
    let text = signs.trim_start_matches('#');
    let closing = format!("\"{}", "#".repeat(signs.len() - text.len()));
    let text = text.strip_prefix('"')?;
    let end = text.find(&closing)?;
    Some((&text[..end], &text[end + closing.len()..]))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests have a folder of their own").to_owned()
}

/// Every file of Rust in the repository, by its path there.
fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let root = root();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the repository can be read") {
            let entry = entry.expect("the repository can be read");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().expect("it is there").is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).expect("it is below").to_string_lossy().into_owned();
                found.push((inside, fs::read_to_string(&path).expect("sources are UTF-8")));
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "the sources are where they are looked for");
    found
}

/// Files that hold nothing but tests.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path == "server/src/store/explained.rs"
}

#[test]
fn words_stand_only_where_they_may() {
    let mut broken = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| !is_test(path)) {
        let source = Source::read(text);
        for rule in RULES {
            broken.extend(rule.broken_by(path, &source).iter().map(|word| format!("{path}: {word}: {}", rule.says)));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_store_says_sql() {
    let files = files();
    let speakers: Vec<&str> = files
        .iter()
        .filter(|(path, text)| server(path) && !is_test(path) && says_sql(&Source::read(text).texts))
        .map(|(path, _)| path.as_str())
        .collect();
    let elsewhere: Vec<&&str> = speakers.iter().filter(|path| !path.starts_with("server/src/store/")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(speakers.len() > 5, "the store's statements are known as such: {speakers:?}");
}

#[test]
fn every_rule_notices_what_breaks_it() {
    for rule in RULES {
        let of = ["server/src/rules/x.rs", "server/src/http/x.rs", "server/src/loops/x.rs", "cli/src/x.rs"];
        let path = of.into_iter().find(|path| (rule.speaks_of)(path)).unwrap_or_else(|| panic!("{}", rule.says));
        for word in rule.words {
            let breaks = format!("fn x() {{ let _ = {word}; }}");
            assert_eq!(rule.broken_by(path, &Source::read(&breaks)), [*word], "{}", rule.says);
            for fine in
                [format!("// {word}\n"), format!("const X: &str = \"{word}\";"), format!("fn my_{word}2() {{}}")]
            {
                assert!(rule.broken_by(path, &Source::read(&fine)).is_empty(), "{fine}");
            }
            let in_a_test = format!("#[cfg(test)]\nmod tests {{\n{breaks}\n}}");
            assert!(rule.broken_by(path, &Source::read(&in_a_test)).is_empty());
            assert!(rule.broken_by("tests/x.rs", &Source::read(&breaks)).is_empty());
        }
    }
}

#[test]
fn statements_are_told_from_sentences() {
    let texts = |text: &str| Source::read(text).texts;
    for sql in [
        r#"const X: &str = "select id from plan where id = $1";"#,
        "const X: &str = \"insert \\\n into run values (1)\";",
        "fn x() { q(r#\"update plan set active = 1\"#); }",
        r#"const Q: char = '"'; const X: &str = "Delete From run Where id = 1";"#,
    ] {
        assert!(says_sql(&texts(sql)), "{sql}");
    }
    for sentence in [
        r#"const X: &str = "selected words from a book";"#,
        r#"const X: &str = "an update sets it anew";"#,
        "// select id from plan\n/* delete from run where */",
    ] {
        assert!(!says_sql(&texts(sentence)), "{sentence}");
    }
}

#[test]
fn every_file_says_what_it_is_for_and_has_a_name_that_does() {
    for (path, text) in files() {
        assert!(text.starts_with("//! "), "{path} does not open with what it is for");
        let names = Path::new(&path).components().map(|part| part.as_os_str().to_string_lossy().replace(".rs", ""));
        let empty: Vec<String> = names.filter(|name| EMPTY_NAMES.contains(&name.as_str())).collect();
        assert!(empty.is_empty(), "{path}: {empty:?} says nothing");
    }
}

/// The first words of the lines of a table, or of a section of a Cargo.toml.
fn listed(text: &str, heading: &str, name: fn(&str) -> Option<&str>) -> BTreeSet<String> {
    let section = text.split_once(heading).unwrap_or_else(|| panic!("there is no {heading}")).1;
    let lines = section.lines().take_while(|line| !line.starts_with('#') && !line.starts_with('['));
    let names = lines.filter_map(name).flat_map(|names| names.split(", "));
    // What stands in brackets is a remark.
    names.map(|name| name.split(" (").next().unwrap_or(name).trim().to_owned()).collect()
}

fn of_cargo(line: &str) -> Option<&str> {
    let name = line.split_once(" =")?.0.trim();
    let name = name.split('.').next().unwrap_or(name);
    (!name.starts_with("knit-")).then_some(name)
}

fn of_table(line: &str) -> Option<&str> {
    let name = line.strip_prefix("| ")?.split_once(" |")?.0;
    (name != "crate" && !name.starts_with("---")).then_some(name)
}

#[test]
fn the_readme_names_every_dependency_and_no_other() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("it is there");
    let workspace = listed(&read("Cargo.toml"), "[workspace.dependencies]\n", of_cargo);
    let told = listed(&read("README.md"), "## Dependencies\n", of_table);
    let lacks: Vec<&String> = workspace.difference(&told).collect();
    let too_many: Vec<&String> = told.difference(&workspace).collect();
    assert!(lacks.is_empty() && too_many.is_empty(), "the README lacks {lacks:?}, and has {too_many:?} too many");

    let mut used = BTreeSet::new();
    for member in ["api", "cli", "admin", "installer", "server", "tests", "tests/bench", "examples/first-train"] {
        let cargo = read(&format!("{member}/Cargo.toml"));
        used.extend(cargo.lines().filter_map(of_cargo).map(str::to_owned));
    }
    let unused: Vec<&String> = workspace.difference(&used).collect();
    assert!(unused.is_empty(), "nothing uses {unused:?}");
}

#[test]
fn the_readme_names_the_kernel_that_the_server_demands() {
    let demanded = fs::read_to_string(root().join("server/src/engine/local/native/requirements.rs")).expect("sources");
    let version = demanded.split_once("\"Linux ").and_then(|(_, rest)| rest.split_once(' ')).expect("it is said").0;
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    assert!(readme.contains(&format!("Linux {version} or newer")), "{version}");
}

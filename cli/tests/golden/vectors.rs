//! The records, one JSON object per line: `id`, `argv`, what the `server` did when it did not answer for the
//! recorded world, the time zone `tz` when it was not UTC, `requests`, `stdout`, `exit`.

use crate::fake::{Ended, Home};
use crate::world;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One command line and what came of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) argv: Vec<String>,
    #[serde(default)]
    pub(crate) server: Option<String>,
    #[serde(default)]
    pub(crate) tz: Option<String>,
    stdout: Value,
    pub(crate) exit: i32,
}

/// A file of records, or of facts that they share.
pub(crate) fn read(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All records of a file.
pub(crate) struct Records(Vec<Record>);

impl Records {
    pub(crate) fn read(name: &str) -> Self {
        Self(read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.0.iter()
    }

    /// What was printed; some records say that it was the same as in another one.
    pub(crate) fn stdout<'a>(&'a self, record: &'a Record) -> &'a str {
        match &record.stdout {
            Value::String(text) => text,
            same => {
                let other = same["same_as"].as_str().unwrap();
                self.stdout(self.0.iter().find(|record| record.id == other).unwrap())
            }
        }
    }

    /// Does it again. Returns how this program differs, if it does.
    pub(crate) fn replay(&self, record: &Record) -> Option<String> {
        let served = world::serve(record.server.as_deref());
        let home = Home::of(&served.api_root, None);
        let arguments: Vec<&str> = record.argv[1..].iter().map(String::as_str).collect();
        let mut command = home.command(&home.project(), &arguments);
        if let Some(zone) = &record.tz {
            command.env("TZ", zone);
        }
        let ended = Ended::from(command.output().unwrap());
        if (ended.code == Some(0)) != (record.exit == 0) {
            return Some(format!("it ended {:?} instead of {}: {}", ended.code, record.exit, ended.stderr));
        }
        (ended.text() != self.stdout(record)).then(|| format!("it printed\n{}", ended.text()))
    }

    /// Does all of it again, and compares with the list of differences.
    pub(crate) fn replay_all(&self) {
        let reasons = differences();
        let mut wrong = Vec::new();
        for record in self.iter() {
            match (self.replay(record), reasons.get(&record.id)) {
                (Some(difference), None) => wrong.push(format!("{}: {difference}", record.id)),
                (None, Some(reason)) => wrong.push(format!("{} does not differ, though \"{reason}\"", record.id)),
                _ => {}
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

/// Records by id that come out differently, with the reason.
fn differences() -> BTreeMap<String, String> {
    let text = read("differences");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (id, reason) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?} has no reason"));
            (id.to_owned(), reason.to_owned())
        })
        .collect()
}

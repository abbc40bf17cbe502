//! The command line of both programs: `--name VALUE` or `--name=VALUE`, nothing else.

use crate::problem::Problem;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// The flags that were given.
#[derive(Debug, Default)]
pub struct Flags {
    values: BTreeMap<String, String>,
}

impl Flags {
    /// Reads the words after the program's name. `known` are the names that may be given; the last
    /// of equal ones counts. `None` when help was asked for.
    pub fn parse(words: impl IntoIterator<Item = String>, known: &[&str]) -> Result<Option<Self>, Problem> {
        let mut flags = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if matches!(word.as_str(), "--help" | "-h") {
                return Ok(None);
            }
            let unknown = || Problem::Usage(format!("unknown argument {word:?}"));
            let flag = word.strip_prefix("--").ok_or_else(unknown)?;
            let (name, attached) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            if !known.contains(&name) {
                return Err(unknown());
            }
            let value = attached.map(str::to_owned).or_else(|| words.next());
            let value = value.ok_or_else(|| Problem::Usage(format!("--{name} needs a value")))?;
            flags.values.insert(name.to_owned(), value);
        }
        Ok(Some(flags))
    }

    /// The path that must be given as `--name`.
    pub fn path(&self, name: &str) -> Result<PathBuf, Problem> {
        let given = self.values.get(name).filter(|value| !value.is_empty());
        given.map(PathBuf::from).ok_or_else(|| Problem::Usage(format!("--{name} PATH is missing")))
    }

    /// The number that may be given as `--name`, or else `default`.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, Problem> {
        let Some(given) = self.values.get(name) else { return Ok(default) };
        given.parse().map_err(|_| Problem::Usage(format!("--{name} is {given:?}: that is not a number it can take")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Flags>, String> {
        let words = line.split_whitespace().map(str::to_owned);
        Flags::parse(words, &["model", "epochs"])
            .map_err(|problem| problem.to_string().lines().next().unwrap().to_owned())
    }

    #[test]
    fn a_value_follows_its_flag_or_is_attached_and_the_last_one_counts() {
        let flags = parse("--model a --epochs=3 --model=b=c").unwrap().unwrap();
        assert_eq!(flags.path("model").unwrap(), PathBuf::from("b=c"));
        assert_eq!(flags.number("epochs", 9).unwrap(), 3);
        assert_eq!(flags.number("seed", 9).unwrap(), 9);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let cases = [
            ("--mdel a", "unknown argument \"--mdel\""),
            ("model", "unknown argument \"model\""),
            ("--model", "--model needs a value"),
        ];
        for (line, what) in cases {
            assert_eq!(parse(line).unwrap_err(), what, "{line}");
        }
    }

    #[test]
    fn a_missing_path_and_a_bad_number_are_named() {
        let flags = parse("--epochs many").unwrap().unwrap();
        assert!(flags.path("model").unwrap_err().to_string().starts_with("--model PATH is missing"));
        assert!(flags.number("epochs", 1).unwrap_err().to_string().starts_with("--epochs is \"many\""));
    }

    #[test]
    fn help_wins_over_everything_before_and_after_it() {
        assert!(parse("--model a --help --nonsense").unwrap().is_none());
    }
}

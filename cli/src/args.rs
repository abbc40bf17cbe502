//! The grammar of `knit`. Flags of a command stand anywhere behind its name, the common ones
//! anywhere; a value may begin with `-`, and stands behind a space or `=`.

use crate::command::Command;
use clap::Parser;
use knit_api::time::{Duration, TimeError};
use std::path::PathBuf;

/// Versioned data, Plans that turn it into more, and the lineage of everything
#[derive(Debug, Parser)]
#[command(
    name = "knit",
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "\
Data are folders with tags, never changed again. A Plan is a container image with the tags of what it reads and \
writes. Knit makes a Run of every new combination of Data that fits a Plan, and remembers what came of it.

Examples:
  # Use the server of this handout in this folder
  knit init ~/handout/knitprofile

  # Register a folder, and a Plan for it; wait, and look
  knit data push -t project:digits ./dataset
  knit plan apply train.yaml
  knit run wait --plan PLAN_ID
  knit run find

Results are tables on a terminal and JSON elsewhere: -o chooses. Ids may be shortened to their beginning. \
`knit COMMAND --help` tells more of each command.

Exit codes: 0 ok, 1 failure, 2 usage, 3 partial, 4 not authorised, 5 not found, 6 conflict, 7 timed out, \
8 integrity, 130 interrupted"
)]
pub struct Knit {
    /// Where this project's profile and environment file are.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// The server's profile [default: KNIT_PROFILE, else this folder's]
    #[arg(long, global = true, value_name = "PROFILE", allow_hyphen_values = true)]
    pub profile: Option<String>,
    /// All profiles [default: KNIT_PROFILE_STORE, else ~/.knit/profile]
    #[arg(long, global = true, value_name = "PATH", allow_hyphen_values = true)]
    pub profile_store: Option<PathBuf>,
    /// Tags and resources [default: KNIT_ENV, else the nearest knitenv]
    #[arg(long, global = true, value_name = "PATH", allow_hyphen_values = true)]
    pub env: Option<PathBuf>,
}

/// Reads the value of a switch: `--flag=yes` and the like.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("write true or false (on, off, yes, no, 1 and 0 are understood too)".to_owned()),
    }
}

/// Reads `both`, `yes` or `no`.
pub fn yes_no_both(text: &str) -> Result<Choice, String> {
    match text {
        "both" => Ok(Choice::Both),
        "yes" | "true" => Ok(Choice::Yes),
        "no" | "false" => Ok(Choice::No),
        _ => Err("write both, yes or no".to_owned()),
    }
}

/// A condition that may be left open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// It does not matter.
    #[default]
    Both,
    /// It must hold.
    Yes,
    /// It must not hold.
    No,
}

impl Choice {
    /// The condition as one that may be missing.
    pub fn wanted(self) -> Option<bool> {
        match self {
            Self::Both => None,
            Self::Yes => Some(true),
            Self::No => Some(false),
        }
    }
}

/// The order in which a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The last one first.
    pub reverse: bool,
}

/// Reads `KEY` or `-KEY`, where KEY is the one thing by which the server orders such a list.
pub fn order(key: &'static str) -> impl Fn(&str) -> Result<Order, String> + Clone + Send + Sync + 'static {
    move |text| match text.strip_prefix('-').unwrap_or(text) {
        given if given == key => Ok(Order { reverse: text.starts_with('-') }),
        _ => Err(format!("this list can be sorted by {key}, or by -{key} for the opposite order")),
    }
}

/// Reads how long a span of time after another is.
pub fn span(text: &str) -> Result<Duration, String> {
    let span: Duration = text.parse().map_err(|e: TimeError| e.to_string())?;
    if span.micros() < 0 { Err("a span of time cannot be negative".to_owned()) } else { Ok(span) }
}

/// Reads a number of things.
pub fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "write a number from 1 on".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        Knit::command().debug_assert();
    }

    #[test]
    fn an_order_is_the_key_with_or_without_a_minus() {
        let order = order("time");
        assert_eq!((order("time"), order("-time")), (Ok(Order { reverse: false }), Ok(Order { reverse: true })));
        for text in ["", "-", "--time", "id", "TIME", "time-"] {
            assert!(order(text).is_err(), "{text}");
        }
        assert_eq!(count("3"), Ok(3));
        for text in ["0", "-1", "", "x", "99999999999999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    /// All commands with the words that lead to them.
    fn commands(command: &clap::Command, path: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
        visit(path, command);
        for one in command.get_subcommands() {
            commands(one, &format!("{path} {}", one.get_name()), visit);
        }
    }

    #[test]
    fn every_example_in_a_help_is_a_command_line_that_is_taken() {
        let mut examples = 0;
        commands(&Knit::command(), "knit", &mut |path, command| {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = text.lines().filter_map(|line| line.split("| ").find(|part| part.trim().starts_with("knit ")));
            for line in lines {
                // What the shell would keep for itself.
                let line = line.split(['>', '|']).next().unwrap_or(line);
                let taken = Knit::try_parse_from(line.split_whitespace());
                assert!(taken.is_ok(), "{path}: {line}: {}", taken.unwrap_err());
                examples += 1;
            }
        });
        assert!(examples > 30, "{examples} examples were found");
    }

    #[test]
    fn every_command_and_every_flag_says_what_it_is_for() {
        commands(&Knit::command(), "knit", &mut |path, command| {
            assert!(command.get_about().is_some(), "{path}");
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "{path} {}", argument.get_id());
                assert!(!help.ends_with('.'), "{path} {}: {help}", argument.get_id());
            }
        });
    }
}

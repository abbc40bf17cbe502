//! The grammar of `knit`. Flags of a command stand anywhere behind its name, the common ones
//! anywhere; a value may begin with `-`, and stands behind a space or `=`.

use crate::command::Command;
use clap::Parser;
use std::path::PathBuf;

/// Versioned data, Plans that turn it into more, and the lineage of everything
#[derive(Debug, Parser)]
#[command(
    name = "knit",
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 3 partial, 4 not authorised, 5 not found, 6 conflict,\n\
                  7 timed out, 8 integrity, 130 interrupted"
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
    /// Name of the profile to use [default: KNIT_PROFILE of the environment, else the nearest .knitprofile, else
    /// the name of this folder in the store, else the current profile]
    #[arg(long, global = true, value_name = "NAME", allow_hyphen_values = true)]
    pub profile: Option<String>,
    /// The file that holds the profiles [default: KNIT_PROFILE_STORE of the environment, else
    /// ~/.knit/profile]
    #[arg(long, global = true, value_name = "PATH", allow_hyphen_values = true)]
    pub profile_store: Option<PathBuf>,
    /// The environment file [default: KNIT_ENV of the environment, else the nearest file named knitenv]
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

/// How far lineage is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// So many steps from Data to Run to Data; at least one.
    Steps(u32),
    /// To the end.
    All,
}

impl std::str::FromStr for Depth {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "all" => Ok(Self::All),
            Ok(0) | Err(_) => Err("write a number from 1 on, or all".to_owned()),
            Ok(steps) => Ok(Self::Steps(steps)),
        }
    }
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
    fn a_depth_is_a_positive_number_or_all() {
        assert_eq!("3".parse(), Ok(Depth::Steps(3)));
        assert_eq!("all".parse(), Ok(Depth::All));
        for text in ["0", "-1", "many", "", "ALL", "4294967296"] {
            assert!(text.parse::<Depth>().is_err(), "{text}");
        }
    }
}

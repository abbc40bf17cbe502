//! What an unfinished word may become: ids by their beginning, Plans by name, tags that are in use. Shell
//! completion and unique prefixes of ids are both answered from here. Not on an original server.

use crate::id::{DataId, PlanId, RunId};
use serde::{Deserialize, Serialize};

/// Kinds of things that can be looked up by how they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Ids of Data; the hint is its user tags.
    Data,
    /// Ids of Plans; the hint is what it executes.
    Plans,
    /// Ids of Runs; the hint is status and Plan.
    Runs,
    /// User tags as `key:value`; the hint is how many Data have it.
    Tags,
    /// Values of the annotation `name` of Plans; the hint is the Plan's id.
    PlanNames,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Data, Self::Plans, Self::Runs, Self::Tags, Self::PlanNames];

    /// The name in the path of its route.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Plans => "plans",
            Self::Runs => "runs",
            Self::Tags => "tags",
            Self::PlanNames => "plan-names",
        }
    }

    /// What one of them is called towards a person.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Data => "Data",
            Self::Plans => "Plan",
            Self::Runs => "Run",
            Self::Tags => "tag",
            Self::PlanNames => "name of a Plan",
        }
    }

    /// What several of them are called towards a person.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Data => "Data",
            Self::Plans => "Plans",
            Self::Runs => "Runs",
            Self::Tags => "tags",
            Self::PlanNames => "names of Plans",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that begins as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The whole word.
    pub value: String,
    /// What a person recognises it by; may be empty, is one short line.
    #[serde(default)]
    pub hint: String,
}

/// An id whose beginning can stand for it.
pub trait Abbreviated: From<String> + PartialEq + std::fmt::Display {
    /// Among what it is looked up.
    const KIND: Kind;

    /// As it was given.
    fn as_str(&self) -> &str;
}

macro_rules! abbreviated {
    ($($id:ident => $kind:ident),*) => {$(
        impl Abbreviated for $id {
            const KIND: Kind = Kind::$kind;
            fn as_str(&self) -> &str {
                $id::as_str(self)
            }
        }
    )*};
}

abbreviated!(DataId => Data, PlanId => Plans, RunId => Runs);

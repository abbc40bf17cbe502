//! Why there are Runs, or none: what fits an input, what nearly does and what it lacks. None of it is known to
//! an original server; nothing here changes anything.

use crate::id::{DataId, PlanId};
use crate::image::ImageRef;
use crate::plan::Mountpoint;
use crate::tag::Tag;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How many there are, counted no further than it is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// At least so many.
    pub count: u64,
    /// True when counting stopped there: it may be more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub capped: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this form")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Count {
    /// Exactly so many.
    pub fn exactly(count: u64) -> Self {
        Self { count, capped: false }
    }

    /// What counting up to `cap`, and one further, has found.
    pub fn up_to(found: u64, cap: u64) -> Self {
        Self { count: found.min(cap), capped: found > cap }
    }

    /// Every one of these with every one of those.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        let none = self.count == 0 && !self.capped || other.count == 0 && !other.capped;
        match self.count.checked_mul(other.count) {
            _ if none => Self::default(),
            Some(count) => Self { count, capped: self.capped || other.capped },
            None => Self { count: u64::MAX, capped: true },
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        match self.count.checked_add(other.count) {
            Some(count) => Self { count, capped: self.capped || other.capped },
            None => Self { count: u64::MAX, capped: true },
        }
    }

    /// These without those, which are among them.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { count: self.count.saturating_sub(other.count), capped: self.capped || other.capped }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.capped {
            f.write_str("at least ")?;
        }
        write!(f, "{}", self.count)
    }
}

/// A Data by its id and the tags that users gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedData {
    /// Its id.
    #[serde(rename = "knitId")]
    pub id: DataId,
    /// Its tags without the system's, in listing order.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// What keeps a Data from fitting an input; at least one of these is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// Wanted tags of whose key the Data has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Tag>,
    /// Wanted tags of whose key the Data has other values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<Differing>,
    /// `processing` or `failed`: the Data cannot be used (yet, or ever).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<String>,
}

impl Lack {
    /// True when nothing is in the way.
    pub fn is_nothing(&self) -> bool {
        self.missing.is_empty() && self.differing.is_empty() && self.transient.is_none()
    }
}

impl fmt::Display for Lack {
    /// As a part of a sentence: `lacks a:b; has type:model, not type:dataset; its Run failed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            let tags: Vec<String> = self.missing.iter().map(ToString::to_string).collect();
            parts.push(format!("lacks {}", tags.join(" and ")));
        }
        for Differing { wanted, has } in &self.differing {
            let has: Vec<String> = has.iter().map(|value| format!("{}:{value}", wanted.key)).collect();
            parts.push(format!("has {}, not {wanted}", has.join(" and ")));
        }
        match self.transient.as_deref() {
            None => {}
            Some(crate::tag::FAILED) => parts.push("its Run failed".to_owned()),
            Some(_) => parts.push("it is still being made".to_owned()),
        }
        f.write_str(&parts.join("; "))
    }
}

/// A wanted tag, and what a Data has under its key instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// The tag that is asked for.
    pub wanted: Tag,
    /// The values that are there.
    pub has: Vec<String>,
}

/// A Data that nearly fits an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearData {
    /// Which one.
    #[serde(flatten)]
    pub data: TaggedData,
    /// What keeps it from fitting.
    #[serde(flatten)]
    pub lack: Lack,
}

/// A tag that an input asks for and no Data has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusedTag {
    /// The tag.
    pub tag: Tag,
    /// Tags of that key that Data have, the most similar ones first.
    #[serde(default)]
    pub similar: Vec<Tag>,
}

/// An input with what fits it and what nearly does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputExplained {
    /// The input.
    #[serde(flatten)]
    pub mountpoint: Mountpoint,
    /// How many Data fit.
    pub fitting: Count,
    /// The first few of them.
    #[serde(default)]
    pub data: Vec<TaggedData>,
    /// The Data that come nearest to fitting, the nearest first.
    #[serde(default)]
    pub nearest: Vec<NearData>,
    /// True when not all Data that share a tag with this input were looked at for that.
    #[serde(rename = "nearestCapped", default, skip_serializing_if = "is_false")]
    pub nearest_capped: bool,
    /// The tags for which nothing can fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<UnusedTag>,
}

/// Answer of `POST <apiRoot>/plans/dry-run`: what registering a Plan would come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanForeseen {
    /// The equal Plan that is there already: nothing would be registered.
    #[serde(rename = "planId", default, skip_serializing_if = "Option::is_none")]
    pub equal: Option<PlanId>,
    /// The Plan would feed itself through these Plans, or directly when there are none: it would be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<Vec<PlanId>>,
    /// Whether its Runs would start.
    pub active: bool,
    /// Its inputs, in their order.
    pub inputs: Vec<InputExplained>,
    /// How many Runs would be made at once.
    pub runs: Count,
    /// The first few of them: for each the Data in the order of the inputs.
    #[serde(default)]
    pub combinations: Vec<Vec<DataId>>,
}

/// Answer of `GET <apiRoot>/plans/{id}/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanExplained {
    /// The Plan.
    #[serde(rename = "planId")]
    pub id: PlanId,
    /// What it executes; missing on built-in Plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// Whether new Runs start.
    pub active: bool,
    /// Its inputs, in their order.
    pub inputs: Vec<InputExplained>,
    /// How many combinations of Data fit by now.
    pub combinations: Count,
    /// Number of its Runs by status; statuses without any are left out.
    #[serde(default)]
    pub runs: BTreeMap<String, u64>,
    /// True when it has more Runs than were counted.
    #[serde(rename = "runsCapped", default, skip_serializing_if = "is_false")]
    pub runs_capped: bool,
    /// True while combinations are left of which Runs are about to be made.
    #[serde(default)]
    pub projecting: bool,
}

/// An input of a Plan, named by both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInputRef {
    /// The Plan.
    #[serde(rename = "planId")]
    pub plan: PlanId,
    /// What it executes; missing on built-in Plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// Whether new Runs of it start.
    pub active: bool,
    /// The input.
    #[serde(flatten)]
    pub mountpoint: Mountpoint,
}

impl PlanInputRef {
    /// The Plan, its image and the path, for a person.
    pub fn title(&self) -> String {
        let image = self.image.as_ref().map_or_else(String::new, |image| format!(" ({image})"));
        format!("{} of Plan {}{image}", self.mountpoint.path, self.plan)
    }
}

/// An input that a Data nearly fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearInput {
    /// Which one.
    #[serde(flatten)]
    pub input: PlanInputRef,
    /// What keeps the Data from fitting.
    #[serde(flatten)]
    pub lack: Lack,
}

/// Answer of `GET <apiRoot>/data/{id}/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataExplained {
    /// The Data.
    #[serde(flatten)]
    pub data: TaggedData,
    /// `processing` or `failed`: it cannot be used (yet, or ever).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<String>,
    /// How many inputs it fits.
    pub fitting: Count,
    /// The first few of them.
    #[serde(default)]
    pub inputs: Vec<PlanInputRef>,
    /// The inputs that it comes nearest to fitting, the nearest first.
    #[serde(default)]
    pub nearest: Vec<NearInput>,
    /// True when not all inputs that share a tag with it were looked at for that.
    #[serde(rename = "nearestCapped", default, skip_serializing_if = "is_false")]
    pub nearest_capped: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_multiply_and_say_when_they_are_not_exact() {
        let (two, many) = (Count::exactly(2), Count::up_to(11, 10));
        assert_eq!(two.times(Count::exactly(3)), Count::exactly(6));
        assert_eq!(two.times(many), Count { count: 20, capped: true });
        assert_eq!(many.times(Count::exactly(0)), Count::exactly(0), "nothing times many is nothing");
        assert_eq!(Count::exactly(u64::MAX).times(two), Count { count: u64::MAX, capped: true });
        assert_eq!(two.times(many).minus(two).to_string(), "at least 18");
        assert_eq!(Count::up_to(10, 10).to_string(), "10");
    }

    #[test]
    fn a_lack_is_said_in_words_that_name_every_tag() {
        let lack = Lack {
            missing: vec![Tag::new("a", "b"), Tag::new("c", "d")],
            differing: vec![Differing { wanted: Tag::new("type", "dataset"), has: vec!["datset".to_owned()] }],
            transient: Some("failed".to_owned()),
        };
        assert_eq!(lack.to_string(), "lacks a:b and c:d; has type:datset, not type:dataset; its Run failed");
        assert!(Lack::default().is_nothing() && !lack.is_nothing());
    }

    #[test]
    fn nothing_that_is_not_so_stands_on_the_wire() {
        let near = NearData {
            data: TaggedData { id: DataId::new("d"), tags: vec![Tag::new("a", "b")] },
            lack: Lack { missing: vec![Tag::new("c", "d")], ..Lack::default() },
        };
        let text = serde_json::to_string(&near).unwrap();
        assert_eq!(text, r#"{"knitId":"d","tags":["a:b"],"missing":["c:d"]}"#);
        assert_eq!(crate::json::from_slice::<NearData>(text.as_bytes()).unwrap(), near);
        assert_eq!(serde_json::to_string(&Count::exactly(3)).unwrap(), r#"{"count":3}"#);
    }
}

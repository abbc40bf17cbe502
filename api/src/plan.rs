//! Plans as they stand on the wire: a container image with tagged inputs and outputs.

use crate::id::PlanId;
use crate::image::ImageRef;
use crate::quantity::Quantity;
use crate::tag::Tag;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Name of the built-in Plan whose Runs are uploads.
pub const UPLOADED: &str = "knit#uploaded";
/// Name of the built-in Plan whose Runs are imports.
pub const IMPORTED: &str = "knit#imported";

/// A `key=value` pair that a Plan carries; a key may stand several times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Annotation {
    /// Before the first `=`, trimmed.
    pub key: String,
    /// After it, trimmed.
    pub value: String,
}

/// A `key=value` label of a node, not trimmed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeLabel {
    /// Before the first `=`.
    pub key: String,
    /// After it.
    pub value: String,
}

/// A text without the `=` that it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" has no \"=\": write KEY=VALUE")]
pub struct PairError(String);

impl FromStr for Annotation {
    type Err = PairError;
    fn from_str(text: &str) -> Result<Self, PairError> {
        let (key, value) = text.split_once('=').ok_or_else(|| PairError(text.to_owned()))?;
        Ok(Self { key: key.trim().to_owned(), value: value.trim().to_owned() })
    }
}

impl FromStr for NodeLabel {
    type Err = PairError;
    fn from_str(text: &str) -> Result<Self, PairError> {
        let (key, value) = text.split_once('=').ok_or_else(|| PairError(text.to_owned()))?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

macro_rules! pair_as_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}={}", self.key, self.value)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}
pair_as_text!(Annotation);
pair_as_text!(NodeLabel);

/// A path in the container and the tags of what is mounted there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mountpoint {
    /// Absolute and clean.
    #[serde(default)]
    pub path: String,
    /// In listing order.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub tags: Vec<Tag>,
}

/// The tags of a Plan's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPoint {
    /// In listing order.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub tags: Vec<Tag>,
}

/// On which nodes of a cluster a Plan's Runs may, should or must execute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnNode {
    /// Tolerated.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub may: Vec<NodeLabel>,
    /// Preferred.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<NodeLabel>,
    /// Required.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub must: Vec<NodeLabel>,
}

impl OnNode {
    /// True when no label is named.
    pub fn is_empty(&self) -> bool {
        self.may.is_empty() && self.prefer.is_empty() && self.must.is_empty()
    }
}

/// Resource type → quantity.
pub type Resources = BTreeMap<String, Quantity>;

/// What a person registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSpec {
    /// Free `key=value` pairs.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
    /// What to run.
    pub image: ImageRef,
    /// Replaces the image's entrypoint when not empty.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Replaces the image's arguments when not empty.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// At least one.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub inputs: Vec<Mountpoint>,
    /// Any number.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub outputs: Vec<Mountpoint>,
    /// None: no log is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogPoint>,
    /// Nodes.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "OnNode::is_empty")]
    pub on_node: OnNode,
    /// `cpu` and `memory` have defaults.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Empty: none.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "String::is_empty")]
    pub service_account: String,
    /// None means true.
    #[serde(default)]
    pub active: Option<bool>,
}

/// What every mention of a Plan says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Its id.
    #[serde(rename = "planId")]
    pub id: PlanId,
    /// Missing on built-in Plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// As registered.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// As registered.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Only on built-in Plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Sorted by key and value.
    #[serde(default, deserialize_with = "sorted", skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

/// Annotations in listing order, whatever the order in which they came.
fn sorted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Annotation>, D::Error> {
    let mut annotations: Vec<Annotation> = crate::json::null_is_default(deserializer)?;
    annotations.sort();
    Ok(annotations)
}

impl PlanSummary {
    /// The image, or the name of a built-in Plan: what to call it towards a person.
    pub fn title(&self) -> String {
        self.image.as_ref().map_or_else(|| self.name.clone().unwrap_or_default(), ToString::to_string)
    }
}

/// A Plan with its neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What every mention says.
    #[serde(flatten)]
    pub summary: PlanSummary,
    /// As registered.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub inputs: Vec<PlanInput>,
    /// As registered.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub outputs: Vec<PlanOutput>,
    /// Missing when no log is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PlanLog>,
    /// Whether new Runs start.
    pub active: bool,
    /// Missing when no label is named.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "OnNode::is_empty")]
    pub on_node: OnNode,
    /// Missing on built-in Plans.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Missing when none is set.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "String::is_empty")]
    pub service_account: String,
}

/// An input and the outputs that can feed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInput {
    /// The input.
    #[serde(flatten)]
    pub mountpoint: Mountpoint,
    /// Outputs and logs whose tags include all of the input's.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub upstreams: Vec<PlanUpstream>,
}

/// An output and the inputs that it can feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOutput {
    /// The output.
    #[serde(flatten)]
    pub mountpoint: Mountpoint,
    /// Inputs whose tags it has.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub downstreams: Vec<PlanDownstream>,
}

/// A log and the inputs that it can feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLog {
    /// The log.
    #[serde(flatten)]
    pub log: LogPoint,
    /// Inputs whose tags it has.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub downstreams: Vec<PlanDownstream>,
}

/// Another Plan's output or log; one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanUpstream {
    /// The other Plan.
    pub plan: PlanSummary,
    /// Its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<Mountpoint>,
    /// Its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogPoint>,
}

/// Another Plan's input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDownstream {
    /// The other Plan.
    pub plan: PlanSummary,
    /// Its input.
    pub mountpoint: Mountpoint,
}

/// Body of the request that changes a Plan's resources: first `set`, then `unset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceChange {
    /// Types to set.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Resources::is_empty")]
    pub set: Resources,
    /// Types to unset.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
}

/// Body of the request that changes a Plan's annotations: first removals, then additions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationChange {
    /// Pairs to add; one that is there already is no error.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Annotation>,
    /// Exact pairs to remove; one that is not there is no error.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Annotation>,
    /// Keys whose pairs are all removed.
    #[serde(default, deserialize_with = "crate::json::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub remove_key: Vec<String>,
}

/// Body of the request that sets a Plan's service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccountChange {
    /// Its name; empty is none.
    #[serde(default, deserialize_with = "crate::json::null_is_default")]
    pub service_account: String,
}

/// Answer of `GET <apiRoot>/plans/{id}/wait`; not on an original server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// True when no Run of the Plan is under way and nothing is left to project for it.
    pub quiet: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_reads_with_defaults_and_numbers_for_quantities() {
        let spec: PlanSpec = crate::json::from_slice(
            br#"{"image":"train:v1","Inputs":[{"path":"/in","tags":["a:b"]}],"outputs":null,
                 "resources":{"cpu":0.5,"memory":"1Gi"},"active":null,"unknown":1}"#,
        )
        .unwrap();
        assert_eq!(spec.inputs[0].tags[0], Tag::new("a", "b"));
        assert_eq!(spec.resources["cpu"].to_string(), "500m");
        assert_eq!(spec.active, None);
        assert!(spec.outputs.is_empty());
    }

    #[test]
    fn a_plan_of_the_original_reads_and_prints_the_same() {
        let text = r#"{"planId":"p","image":"foo:v1","entrypoint":["a"],"annotations":["k=v"],"inputs":[{"path":"/in","tags":["a:b"],"upstreams":[{"plan":{"planId":"q","name":"knit#uploaded"},"mountpoint":{"path":"/upload","tags":[]}}]}],"outputs":[],"log":{"tags":["t:l"],"downstreams":[]},"active":true,"on_node":{"must":["a=b"]},"resources":{"cpu":"1"},"service_account":"s"}"#;
        let plan: Plan = crate::json::from_slice(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&plan).unwrap(), text);
    }

    #[test]
    fn changes_are_written_without_their_empty_parts_and_read_in_any_case() {
        let change: ResourceChange =
            crate::json::from_slice(br#"{"SET":{"cpu":2,"Memory":"1024Mi"},"Unset":["gpu"],"more":1}"#).unwrap();
        let written = serde_json::to_string(&change).unwrap();
        assert_eq!(written, r#"{"set":{"Memory":"1Gi","cpu":"2"},"unset":["gpu"]}"#);
        let change: AnnotationChange =
            crate::json::from_slice(br#"{"Add":[" a = b=c "],"remove":null,"Remove_Key":["k"]}"#).unwrap();
        assert_eq!(serde_json::to_string(&change).unwrap(), r#"{"add":["a=b=c"],"remove_key":["k"]}"#);
        assert_eq!(serde_json::to_string(&AnnotationChange::default()).unwrap(), "{}");
        let change: ServiceAccountChange = crate::json::from_slice(b"{}").unwrap();
        assert_eq!(serde_json::to_string(&change).unwrap(), r#"{"service_account":""}"#);
    }
}

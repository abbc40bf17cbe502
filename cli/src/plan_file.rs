//! Reading the Plan that a person wrote. Strict where the wire is lenient: an unknown key, a second
//! document, a duplicate key or a value that no server would take is refused here, with line and column.

use crate::yaml::{self, YamlError};
use knit_api::image::ImageRef;
use knit_api::plan::{LogPoint, Mountpoint, OnNode, PlanSpec, Resources};
use knit_api::quantity::Quantity;
use knit_api::tag::{self, Tag};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A scalar with its text as it was written, whatever YAML would take it for.
type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    annotations: Option<Vec<Text>>,
    image: Text,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    inputs: Option<Spanned<Vec<Point>>>,
    #[serde(default)]
    outputs: Option<Vec<Point>>,
    #[serde(default)]
    log: Option<Log>,
    #[serde(default)]
    active: Option<Text>,
    #[serde(default)]
    resources: Option<BTreeMap<String, Text>>,
    #[serde(default)]
    on_node: Option<Labels>,
    #[serde(default)]
    service_account: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    path: Text,
    #[serde(default)]
    tags: Option<Vec<Spanned<TagText>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    #[serde(default)]
    tags: Option<Vec<Spanned<TagText>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    #[serde(default)]
    may: Option<Vec<Text>>,
    #[serde(default)]
    prefer: Option<Vec<Text>>,
    #[serde(default)]
    must: Option<Vec<Text>>,
}

/// A tag as it can stand in YAML.
enum TagText {
    /// `key:value`
    Text(String),
    /// `{key: …, value: …}`
    Pair(Tag),
}

impl<'de> Deserialize<'de> for TagText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = TagText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tag (KEY:VALUE)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TagText, E> {
                Ok(TagText::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TagText, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Option<String>>()? {
                    entries.insert(key, value.unwrap_or_default());
                }
                match (entries.remove("key"), entries.remove("value"), entries.pop_first()) {
                    (Some(key), Some(value), None) => Ok(TagText::Pair(Tag::new(key, value))),
                    (None, None, Some((key, value))) if entries.is_empty() => Err(de::Error::custom(format!(
                        "YAML takes this for a map because of the space after the colon: write \"{key}:{value}\""
                    ))),
                    _ => Err(de::Error::custom("this is no tag: write \"KEY:VALUE\"")),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Reads the text of a Plan file.
pub fn parse(text: &str) -> Result<PlanSpec, YamlError> {
    let file: File = yaml::from_str(text)?;
    let no_inputs = match &file.inputs {
        None => Some(YamlError {
            at: None,
            message: "the key \"inputs\" is missing: a Plan needs at least one input".into(),
        }),
        Some(inputs) if inputs.value.is_empty() => {
            Some(YamlError::at(inputs.referenced, "a Plan needs at least one input"))
        }
        Some(_) => None,
    };
    if let Some(error) = no_inputs {
        return Err(error);
    }
    let mut places = Places::default();
    let inputs = points(file.inputs.map(|inputs| inputs.value), &mut places, Side::Input)?;
    let outputs = points(file.outputs, &mut places, Side::Output)?;
    let mut annotations = each(file.annotations)?;
    annotations.sort();
    Ok(PlanSpec {
        annotations,
        image: read::<ImageRef>(&file.image)?,
        entrypoint: file.entrypoint.unwrap_or_default(),
        args: file.args.unwrap_or_default(),
        inputs,
        outputs,
        log: match file.log {
            Some(log) => Some(LogPoint { tags: tags(log.tags, Side::Output)? }),
            None => None,
        },
        on_node: match file.on_node {
            Some(labels) => OnNode { may: each(labels.may)?, prefer: each(labels.prefer)?, must: each(labels.must)? },
            None => OnNode::default(),
        },
        resources: resources(file.resources)?,
        service_account: file.service_account.unwrap_or_default(),
        active: file.active.as_ref().map(switch).transpose()?,
    })
}

/// Reads a scalar as something, or says at its place why it is not.
fn read<T: FromStr<Err: fmt::Display>>(text: &Text) -> Result<T, YamlError> {
    text.value.parse().map_err(|e: T::Err| YamlError::at(text.referenced, e.to_string()))
}

fn each<T: FromStr<Err: fmt::Display>>(texts: Option<Vec<Text>>) -> Result<Vec<T>, YamlError> {
    texts.unwrap_or_default().iter().map(read).collect()
}

fn switch(text: &Text) -> Result<bool, YamlError> {
    crate::args::switch(&text.value).map_err(|e| YamlError::at(text.referenced, e))
}

fn resources(texts: Option<BTreeMap<String, Text>>) -> Result<Resources, YamlError> {
    let quantity = |(kind, text): (String, Text)| {
        let quantity = read::<Quantity>(&text)?;
        if quantity.is_negative() {
            return Err(YamlError::at(text.referenced, format!("{kind} cannot be less than nothing")));
        }
        Ok((kind, quantity))
    };
    texts.unwrap_or_default().into_iter().map(quantity).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

fn points(points: Option<Vec<Point>>, places: &mut Places, side: Side) -> Result<Vec<Mountpoint>, YamlError> {
    let mut mountpoints = Vec::new();
    for point in points.unwrap_or_default() {
        let path = places.take(&point.path)?;
        let tags = tags(point.tags, side)?;
        if side == Side::Input && tags.is_empty() {
            let message = format!("the input {path} has no tags: it would match no Data");
            return Err(YamlError::at(point.path.referenced, message));
        }
        mountpoints.push(Mountpoint { path, tags });
    }
    Ok(mountpoints)
}

fn tags(texts: Option<Vec<Spanned<TagText>>>, side: Side) -> Result<Vec<Tag>, YamlError> {
    let one = |text: Spanned<TagText>| {
        let wrong = |message: String| YamlError::at(text.referenced, message);
        let tag = match &text.value {
            TagText::Text(text) => text.parse::<Tag>().map_err(|e| wrong(e.to_string()))?,
            TagText::Pair(tag) => tag.clone(),
        };
        match (side, tag.is_system()) {
            (Side::Output, true) => Err(wrong(format!(
                "\"{tag}\" cannot stand on an output: keys starting with knit# are set by the system"
            ))),
            (Side::Input, true) if tag.key != tag::ID && tag.key != tag::TIMESTAMP => Err(wrong(format!(
                "\"{tag}\" cannot stand on an input: of the system's tags only knit#id and knit#timestamp can"
            ))),
            _ => Ok(tag),
        }
    };
    texts.unwrap_or_default().into_iter().map(one).collect()
}

/// The paths so far: no two may overlap.
#[derive(Default)]
struct Places {
    taken: Vec<(String, Location)>,
}

impl Places {
    /// The clean form of a path, if it is one and lies apart from those before.
    fn take(&mut self, text: &Text) -> Result<String, YamlError> {
        let wrong = |message: String| Err(YamlError::at(text.referenced, message));
        let path = text.value.strip_suffix('/').unwrap_or(&text.value);
        if !path.starts_with('/') {
            return wrong(format!("\"{}\" is not an absolute path below /", text.value));
        }
        if path[1..].split('/').any(|name| matches!(name, "" | "." | "..")) {
            return wrong(format!("\"{}\" is not a clean path: write it without empty names, . and ..", text.value));
        }
        let below = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        if let Some((other, at)) =
            self.taken.iter().find(|(other, _)| other == path || below(path, other) || below(other, path))
        {
            return wrong(format!("{path} overlaps {other} of line {}", at.line()));
        }
        self.taken.push((path.to_owned(), text.referenced));
        Ok(path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
annotations:
  - "team = vision"
image: "localhost:30503/train:v1.0"
entrypoint: ["python", -u, 1.50, yes]
args: [--dataset, /in/1, "--n=0x10", 1e3]
inputs:
  - path: /in/1
    tags: ["type:dataset", "mode:training"]
  - path: /in/10/
    tags:
      - key: format
        value: png
      - knit#id:abc
outputs:
  - path: "/out"
    tags: [type:model]
log:
  tags: []
active: yes
resources:
  cpu: 0.5
  memory: 1Gi
  nvidia.com/gpu: 1e3
on_node:
  must: ["accelerator=gpu"]
service_account: default
"#;

    #[test]
    fn every_field_is_read_and_scalars_keep_their_text() {
        let spec = parse(GOOD).unwrap();
        assert_eq!(spec.annotations[0].to_string(), "team=vision");
        assert_eq!(spec.image.to_string(), "localhost:30503/train:v1.0");
        assert_eq!(spec.entrypoint, ["python", "-u", "1.50", "yes"]);
        assert_eq!(spec.args, ["--dataset", "/in/1", "--n=0x10", "1e3"]);
        assert_eq!(spec.inputs[1].path, "/in/10");
        assert_eq!(spec.inputs[1].tags, [Tag::new("format", "png"), Tag::new("knit#id", "abc")]);
        assert_eq!(spec.outputs[0].tags, [Tag::new("type", "model")]);
        assert_eq!(spec.log, Some(LogPoint { tags: vec![] }));
        assert_eq!(spec.active, Some(true));
        let quantities: Vec<String> = spec.resources.values().map(ToString::to_string).collect();
        assert_eq!(quantities, ["500m", "1Gi", "1e3"]);
        assert_eq!(spec.on_node.must[0].to_string(), "accelerator=gpu");
        assert_eq!(spec.service_account, "default");
    }

    #[test]
    fn the_word_for_active_is_read_as_people_write_it() {
        for (word, active) in
            [("yes", Some(true)), ("no", Some(false)), ("false", Some(false)), ("True", Some(true)), ("", None)]
        {
            let text = format!("image: ab\ninputs: [{{path: /in, tags: ['a:b']}}]\nactive: {word}\n");
            assert_eq!(parse(&text).unwrap().active, active, "{word}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let input = "inputs:\n  - path: /in\n    tags: [\"a:b\"]\n";
        for (text, message) in [
            ("image: ab\nlogs:\n  - x\n", "line 2, column 1: unknown key \"logs\": did you mean \"log\"?"),
            ("annotation: []\n", "line 1, column 1: unknown key \"annotation\": did you mean \"annotations\"?"),
            ("image: ab\nresource: {}\n", "line 2, column 1: unknown key \"resource\": did you mean \"resources\"?"),
            (
                "image: ab\ninputs:\n  - path: /in\n    tag: []\n",
                "line 4, column 5: unknown key \"tag\": did you mean \"tags\"?",
            ),
            (
                "image: ab\ncolour: red\n",
                "line 2, column 1: unknown key \"colour\": known here are annotations, image, entrypoint, args, inputs, \
                 outputs, log, active, resources, on_node, service_account",
            ),
            ("image: ab\nimage: cd\n", "line 2, column 1: the key \"image\" stands here a second time"),
            (input, "line 1, column 1: the key \"image\" is missing"),
            ("image: ab\n", "the key \"inputs\" is missing: a Plan needs at least one input"),
            ("image: ab\ninputs: []\n", "line 2, column 9: a Plan needs at least one input"),
            ("", "line 1, column 1: there is nothing in it"),
            (
                "image: x\ninputs: [{path: /in, tags: ['a:b']}]\n",
                "line 1, column 8: \"x\" is not an image name: the repository takes 2 to 255 of a-z, 0-9, '_', '-', \
                 '.', '/' in lower case",
            ),
            (
                "image: ab\ninputs:\n  - path: in\n    tags: [\"a:b\"]\n",
                "line 3, column 11: \"in\" is not an absolute path below /",
            ),
            (
                "image: ab\ninputs:\n  - path: /in/../x\n    tags: [\"a:b\"]\n",
                "line 3, column 11: \"/in/../x\" is not a clean path: write it without empty names, . and ..",
            ),
            (
                "image: ab\ninputs:\n  - path: /in\n    tags: [\"a:b\"]\noutputs:\n  - path: /in/x\n",
                "line 6, column 11: /in/x overlaps /in of line 3",
            ),
            (
                "image: ab\ninputs:\n  - path: /in\n",
                "line 3, column 11: the input /in has no tags: it would match no Data",
            ),
            (
                "image: ab\ninputs:\n  - path: /in\n    tags:\n      - type: dataset\n",
                "line 5, column 9: YAML takes this for a map because of the space after the colon: write \"type:dataset\"",
            ),
            (
                "image: ab\ninputs:\n  - path: /in\n    tags: [plain]\n",
                "line 4, column 12: \"plain\" is not a tag: write KEY:VALUE",
            ),
            (
                "image: ab\ninputs: [{path: /in, tags: ['a:b']}]\noutputs: [{path: /out, tags: ['knit#id:x']}]\n",
                "line 3, column 31: \"knit#id:x\" cannot stand on an output: keys starting with knit# are set by the \
                 system",
            ),
            (
                "image: ab\ninputs: [{path: /in, tags: ['a:b']}]\nactive: maybe\n",
                "line 3, column 9: write true or false (on, off, yes, no, 1 and 0 are understood too)",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "for {text:?}");
        }
        let error = parse(&format!("image: ab\n{input}resources:\n  cpu: lots\n")).unwrap_err();
        assert_eq!(error.at, Some((6, 8)), "{error}");
        let error = parse(&format!("image: ab\n{input}---\nimage: cd\n")).unwrap_err();
        assert!(error.message.contains("second document"), "{error}");
    }

    #[test]
    fn sibling_paths_with_a_common_beginning_do_not_overlap() {
        let text = "image: ab\ninputs:\n- {path: /in/1, tags: ['a:b']}\n- {path: /in/10, tags: ['a:b']}\n";
        assert_eq!(parse(text).unwrap().inputs.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_a_plan_or_an_error(
            text in "([ \n]|image|inputs|path|tags|log|active|resources|: |- |[0-9a-z/:]|\\{|\\}|\\[|\\]|\"|&a|\\*a|<<){0,60}"
        ) {
            let _ = parse(&text);
        }

        #[test]
        fn any_bytes_behind_a_good_plan_give_a_plan_or_an_error(text in "\\PC{0,40}") {
            let _ = parse(&format!("{GOOD}{text}"));
        }
    }
}

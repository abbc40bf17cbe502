//! What a Plan must look like: everything that is wrong with one, said at once, and its normal form.

use knit_api::image::ImageRef;
use knit_api::plan::{Annotation, AnnotationChange, Mountpoint, NodeLabel, PlanSpec, ResourceChange, Resources};
use knit_api::quantity::Quantity;
use knit_api::tag::{self, Tag};
use knit_api::time::Timestamp;
use std::collections::BTreeSet;
use std::fmt;

/// The most inputs of a Plan: one statement joins that many tables, and no more.
pub const MAX_INPUTS: usize = 60;
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;
const MAX_REPOSITORY: usize = 512;
const MAX_IMAGE_TAG: usize = 128;
const MAX_ACCOUNT: usize = 63;
const MAX_ANNOTATION_KEY: usize = 253;
const MAX_ANNOTATION_VALUE: usize = 1_048_576;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, for example `inputs[1].path`.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// Everything that is wrong with a Plan; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// One by one, in the order of the Plan.
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for Faults {
    /// One line each: where, what, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Fault { at, what, advice }) in self.0.iter().enumerate() {
            write!(f, "{}{at}: {what}: {advice}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Checks a Plan and brings it into normal form: paths without trailing slash, tags, labels and
/// annotations sorted and each once, times in UTC with milliseconds, `cpu` 1 and `memory` 1Gi where
/// missing, and `active` said.
pub fn check(mut spec: PlanSpec) -> Result<PlanSpec, Faults> {
    let mut faults = Found::default();
    check_image(&spec.image, &mut faults);
    check_words("entrypoint", &spec.entrypoint, &mut faults);
    check_words("args", &spec.args, &mut faults);
    if spec.inputs.is_empty() {
        faults.add("inputs", "a Plan needs an input", "name at least one input with a path and a tag");
    }
    if spec.inputs.len() > MAX_INPUTS {
        faults.add("inputs", format!("there are {}", spec.inputs.len()), format!("use at most {MAX_INPUTS}"));
    }
    for (n, input) in spec.inputs.iter_mut().enumerate() {
        check_path(&mut input.path, &format!("inputs[{n}].path"), &mut faults);
        check_input_tags(&mut input.tags, &format!("inputs[{n}].tags"), &mut faults);
    }
    for (n, output) in spec.outputs.iter_mut().enumerate() {
        check_path(&mut output.path, &format!("outputs[{n}].path"), &mut faults);
        check_output_tags(&mut output.tags, &format!("outputs[{n}].tags"), &mut faults);
    }
    if let Some(log) = &mut spec.log {
        check_output_tags(&mut log.tags, "log.tags", &mut faults);
    }
    check_overlaps(&spec.inputs, &spec.outputs, &mut faults);
    for (kind, labels) in
        [("may", &mut spec.on_node.may), ("prefer", &mut spec.on_node.prefer), ("must", &mut spec.on_node.must)]
    {
        check_labels(labels, &format!("on_node.{kind}"), &mut faults);
    }
    for (name, amount) in DEFAULTS {
        spec.resources.entry(name.to_owned()).or_insert_with(|| amount.parse().expect("it is in the grammar"));
    }
    check_resources(&spec.resources, "resources", &mut faults);
    check_service_account(&spec.service_account, &mut faults);
    check_annotations(&spec.annotations, "annotations", &mut faults);
    spec.annotations.sort();
    spec.annotations.dedup();
    spec.active = Some(spec.active.unwrap_or(true));
    faults.or(spec)
}

/// The resources of a Plan after a change: first all of `set`, then all of `unset`.
pub fn change_resources(mut resources: Resources, change: &ResourceChange) -> Resources {
    resources.extend(change.set.iter().map(|(name, amount)| (name.clone(), *amount)));
    resources.retain(|name, _| !change.unset.contains(name));
    resources
}

/// Checks a change of resources: what is set must be what a new Plan may ask for.
pub fn check_resource_change(change: &ResourceChange) -> Result<(), Faults> {
    let mut faults = Found::default();
    check_resources(&change.set, "set", &mut faults);
    faults.or(())
}

/// The annotations of a Plan after a change, sorted and each once: keys go first, then pairs, then pairs come.
pub fn change_annotations(mut annotations: Vec<Annotation>, change: &AnnotationChange) -> Vec<Annotation> {
    annotations.retain(|pair| !change.remove_key.contains(&pair.key) && !change.remove.contains(pair));
    annotations.extend(change.add.iter().cloned());
    annotations.sort();
    annotations.dedup();
    annotations
}

/// Checks a change of annotations: what is added must be what a new Plan may have.
pub fn check_annotation_change(change: &AnnotationChange) -> Result<(), Faults> {
    let mut faults = Found::default();
    check_annotations(&change.add, "add", &mut faults);
    faults.or(())
}

/// Checks the name of a service account; an empty one is none.
pub fn check_service_account_name(name: &str) -> Result<(), Faults> {
    let mut faults = Found::default();
    check_service_account(name, &mut faults);
    faults.or(())
}

#[derive(Default)]
struct Found(Vec<Fault>);

impl Found {
    /// The value, unless something is wrong with it.
    fn or<T>(self, value: T) -> Result<T, Faults> {
        if self.0.is_empty() { Ok(value) } else { Err(Faults(self.0)) }
    }

    fn add(&mut self, at: impl Into<String>, what: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Fault { at: at.into(), what: what.into(), advice: advice.into() });
    }
}

fn check_image(image: &ImageRef, faults: &mut Found) {
    if image.repository.is_empty() || image.tag.is_empty() {
        faults.add("image", "it is empty", "write NAME:TAG");
    }
    check_text(&image.repository, MAX_REPOSITORY, "the repository", "image", faults);
    check_text(&image.tag, MAX_IMAGE_TAG, "the tag", "image", faults);
}

fn check_words(at: &str, words: &[String], faults: &mut Found) {
    for (n, word) in words.iter().enumerate() {
        if word.contains('\0') {
            faults.add(format!("{at}[{n}]"), "it holds a NUL character", "no program can be given one: remove it");
        }
    }
}

fn check_text(text: &str, most: usize, part: &str, at: &str, faults: &mut Found) {
    let characters = text.chars().count();
    if characters > most {
        faults.add(at, format!("{part} has {characters} characters"), format!("use at most {most}"));
    }
    if text.contains('\0') {
        faults.add(at, format!("{part} holds a NUL character"), "remove it");
    }
}

/// Where the container's own file systems are.
const TAKEN: [&str; 3] = ["/proc", "/sys", "/dev"];

fn check_path(path: &mut String, at: &str, faults: &mut Found) {
    if path.is_empty() {
        return faults.add(at, "the path is empty", "write an absolute path such as /in/data");
    }
    if path == "/" {
        return faults.add(at, "\"/\" is the container's own root", "mount below it, for example at /in/data");
    }
    if path.ends_with('/') {
        path.pop();
    }
    let quoted = format!("\"{}\"", path.escape_debug());
    if path.contains('\0') {
        return faults.add(at, format!("{quoted} holds a NUL character"), "remove it");
    }
    let Some(relative) = path.strip_prefix('/') else {
        return faults.add(at, format!("{quoted} is not absolute"), format!("begin it with a slash: \"/{path}\""));
    };
    let names: Vec<&str> = relative.split('/').collect();
    if names.iter().any(|name| name.is_empty() || *name == "." || *name == "..") {
        let advice = "write it without empty parts, \".\" and \"..\"";
        return faults.add(at, format!("{quoted} is not in plain form"), advice);
    }
    if path.len() > MAX_PATH || names.iter().any(|name| name.len() > MAX_NAME) {
        let advice = format!("use at most {MAX_PATH} bytes, and {MAX_NAME} in each part");
        return faults.add(at, "the path is too long", advice);
    }
    if let Some(taken) = TAKEN.iter().find(|taken| is_at_or_below(path, taken)) {
        faults.add(at, format!("{quoted} lies in the container's own {taken}"), "choose another path");
    }
}

fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Sorted by path, a path comes right before what lies below it once `/` sorts before everything else;
/// so neighbours are all that must be compared.
fn check_overlaps(inputs: &[Mountpoint], outputs: &[Mountpoint], faults: &mut Found) {
    let place = |kind, n: usize, mount: &Mountpoint| (format!("{}/", mount.path).replace('/', "\0"), kind, n);
    let mut places: Vec<(String, &str, usize)> = inputs
        .iter()
        .enumerate()
        .map(|(n, mount)| place("inputs", n, mount))
        .chain(outputs.iter().enumerate().map(|(n, mount)| place("outputs", n, mount)))
        .filter(|(path, ..)| path.len() > 1)
        .collect();
    places.sort();
    let mut above: Option<&(String, &str, usize)> = None;
    for lower in &places {
        match above {
            Some(upper) if lower.0.starts_with(&upper.0) => faults.add(
                format!("{}[{}].path", lower.1, lower.2),
                format!("it overlaps {}[{}].path", upper.1, upper.2),
                "give each a path of its own, none at or below another",
            ),
            _ => above = Some(lower),
        }
    }
}

fn check_input_tags(tags: &mut Vec<Tag>, at: &str, faults: &mut Found) {
    if tags.is_empty() {
        faults.add(at, "an input without a tag fits no Data", "name at least one tag");
    }
    for tag in tags.iter_mut().filter(|tag| tag.is_system()) {
        match tag.key.as_str() {
            tag::ID if tag.value.is_empty() => faults.add(at, "knit#id has no value", "write knit#id:KNIT_ID"),
            tag::ID => {}
            tag::TIMESTAMP => match Timestamp::parse_strict(&tag.value) {
                Ok(time) => tag.value = Timestamp::from_millis(time.millis()).to_string(),
                Err(error) => faults.add(at, error.to_string(), "write the time as `knit data find` shows it"),
            },
            tag::TRANSIENT => {
                faults.add(at, "knit#transient cannot be asked for", "only finished Data become inputs: remove it");
            }
            key => faults.add(
                at,
                format!("\"{}\" is not a system tag", key.escape_debug()),
                "keys that begin with knit# are the system's: use knit#id, knit#timestamp or a key of your own",
            ),
        }
    }
    tags.sort();
    tags.dedup();
    for key in [tag::ID, tag::TIMESTAMP] {
        if tags.iter().filter(|tag| tag.key == key).count() > 1 {
            faults.add(at, format!("{key} stands there with different values"), "no Data has both: keep one");
        }
    }
}

fn check_output_tags(tags: &mut Vec<Tag>, at: &str, faults: &mut Found) {
    for tag in tags.iter().filter(|tag| tag.is_system()) {
        let what = format!("\"{}\" is the system's to set", tag.key.escape_debug());
        faults.add(at, what, "use a key that does not begin with knit#");
    }
    tags.sort();
    tags.dedup();
}

fn check_labels(labels: &mut [NodeLabel], at: &str, faults: &mut Found) {
    let mut seen = BTreeSet::new();
    for (n, label) in labels.iter().enumerate() {
        let at = format!("{at}[{n}]");
        if !is_qualified_name(&label.key) {
            let advice = "write [PREFIX/]NAME: letters, digits, '-', '_', '.', the name at most 63 characters";
            faults.add(&at, format!("\"{}\" is not the key of a node label", label.key.escape_debug()), advice);
        }
        if !is_label_text(&label.value) {
            let advice = "write 1 to 63 letters, digits, '-', '_', '.', with a letter or digit at both ends";
            faults.add(&at, format!("\"{}\" is not the value of a node label", label.value.escape_debug()), advice);
        }
        if !seen.insert(label) {
            faults.add(&at, format!("\"{}\" stands there twice", label.to_string().escape_debug()), "keep one of them");
        }
    }
    labels.sort();
}

/// `[prefix/]name` as Kubernetes wants it of labels and resource types.
fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        None => is_label_text(text),
        Some((prefix, name)) => is_domain(prefix) && is_label_text(name),
    }
}

fn is_label_text(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
}

/// What a Plan asks for without saying so.
pub(crate) const DEFAULTS: [(&str, &str); 2] = [("cpu", "1"), ("memory", DEFAULT_MEMORY)];
/// Of this the memory.
pub(crate) const DEFAULT_MEMORY: &str = "1Gi";
/// The same in thousandths of a cpu.
pub(crate) const DEFAULT_CPU_MILLIS: u64 = 1000;
/// The same in bytes of memory.
pub(crate) const DEFAULT_MEMORY_BYTES: u64 = 1 << 30;
/// With less memory not even a container's first process comes up.
pub(crate) const LEAST_MEMORY_BYTES: u64 = 6 << 20;

fn check_resources(resources: &Resources, at: &str, faults: &mut Found) {
    let zero: Quantity = "0".parse().expect("it is in the grammar");
    for (name, amount) in resources {
        let at = format!("{at}.{}", name.escape_debug());
        if !is_qualified_name(name) {
            let advice = "write cpu, memory, or [PREFIX/]NAME as Kubernetes does";
            faults.add(&at, "it is not the name of a resource type", advice);
        }
        if amount.is_negative() || (*amount == zero && DEFAULTS.iter().any(|(known, _)| known == name)) {
            faults.add(&at, format!("{amount} is not enough to run on"), "write an amount above zero");
        }
    }
}

fn check_annotations(annotations: &[Annotation], at: &str, faults: &mut Found) {
    for (n, annotation) in annotations.iter().enumerate() {
        let at = format!("{at}[{n}]");
        check_text(&annotation.key, MAX_ANNOTATION_KEY, "the key", &at, faults);
        check_text(&annotation.value, MAX_ANNOTATION_VALUE, "the value", &at, faults);
    }
}

/// A cluster takes no other names, and would fail each Run on its own.
fn check_service_account(name: &str, faults: &mut Found) {
    if name.chars().count() > MAX_ACCOUNT {
        check_text(name, MAX_ACCOUNT, "the name", "service_account", faults);
    } else if !name.is_empty() && !is_domain(name) {
        let what = format!("\"{}\" is not the name of a service account", name.escape_debug());
        faults.add("service_account", what, "write a-z, 0-9, '-' and '.', with a letter or digit at both ends");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> PlanSpec {
        knit_api::json::from_slice(json.as_bytes()).unwrap()
    }

    fn with_paths(inputs: &[&str], outputs: &[&str]) -> PlanSpec {
        let mounts = |paths: &[&str]| {
            paths.iter().map(|path| Mountpoint { path: (*path).to_owned(), tags: vec![Tag::new("a", "b")] }).collect()
        };
        PlanSpec { inputs: mounts(inputs), outputs: mounts(outputs), ..parse(r#"{"image":"train:v1"}"#) }
    }

    fn places(result: Result<PlanSpec, Faults>) -> Vec<String> {
        result.err().map(|faults| faults.as_slice().iter().map(|fault| fault.at.clone()).collect()).unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_the_same_as_texts_and_as_numbers() {
        let [cpu, memory] = DEFAULTS.map(|(_, amount)| amount.parse::<Quantity>().unwrap());
        assert_eq!(cpu.millis(), i128::from(DEFAULT_CPU_MILLIS));
        assert_eq!(memory.units(), i128::from(DEFAULT_MEMORY_BYTES));
    }

    #[test]
    fn a_good_plan_comes_back_in_normal_form() {
        let spec = check(parse(
            r#"{"image":"train:v1","inputs":[{"path":"/in/1/","tags":["z:1","a:b","a:b",
                "knit#timestamp:2025-02-03T13:05:06.123456+09:00"]}],"outputs":[{"path":"/out","tags":[]}],
                "log":{"tags":["t:l","a:b"]},"annotations":["b=2","a=1","b=2"],
                "on_node":{"must":["z=1","a=1"]},"resources":{"cpu":"0.5"}}"#,
        ))
        .unwrap();
        assert_eq!(spec.inputs[0].path, "/in/1");
        let tags: Vec<String> = spec.inputs[0].tags.iter().map(ToString::to_string).collect();
        assert_eq!(tags, ["a:b", "knit#timestamp:2025-02-03T04:05:06.123+00:00", "z:1"]);
        assert_eq!(spec.annotations.len(), 2);
        assert_eq!(spec.on_node.must[0].key, "a");
        assert_eq!(spec.resources["cpu"].to_string(), "500m");
        assert_eq!(spec.resources["memory"].to_string(), "1Gi");
        assert_eq!(spec.active, Some(true));
        assert_eq!(check(spec.clone()).unwrap(), spec, "a normal form is its own normal form");
    }

    #[test]
    fn each_fault_is_said_with_its_place() {
        for (json, place) in [
            (r#"{"image":"train:v1"}"#, "inputs"),
            (r#"{"image":"train:v1","inputs":[{"path":"","tags":["a:b"]}]}"#, "inputs[0].path"),
            (r#"{"image":"train:v1","inputs":[{"path":"/in","tags":[]}]}"#, "inputs[0].tags"),
            (r#"{"image":"train:v1","inputs":[{"path":"/in","tags":["knit#transient:failed"]}]}"#, "inputs[0].tags"),
            (r#"{"image":"train:v1","inputs":[{"path":"/in","tags":["knit#foo:bar"]}]}"#, "inputs[0].tags"),
            (r#"{"image":"train:v1","inputs":[{"path":"/in","tags":["knit#id:"]}]}"#, "inputs[0].tags"),
            (r#"{"image":"train:v1","inputs":[{"path":"/in","tags":["knit#id:a","knit#id:b"]}]}"#, "inputs[0].tags"),
            (
                r#"{"image":"train:v1","inputs":[{"path":"/in",
                    "tags":[{"key":"knit#timestamp","value":"yesterday"}]}]}"#,
                "inputs[0].tags",
            ),
            (
                r#"{"image":"train:v1","inputs":[{"path":"/in","tags":["a:b"]}],
                    "outputs":[{"path":"/out","tags":["knit#id:x"]}]}"#,
                "outputs[0].tags",
            ),
            (
                r#"{"image":"train:v1","inputs":[{"path":"/in","tags":["a:b"]}],"log":{"tags":["knit#x:y"]}}"#,
                "log.tags",
            ),
        ] {
            assert_eq!(places(check(parse(json))), [place], "{json}");
        }
    }

    #[test]
    fn parts_besides_the_mountpoints_are_checked_too() {
        let base = r#"{"image":"train:v1","inputs":[{"path":"/in","tags":["a:b"]}],"#;
        let long = "a".repeat(64);
        for (more, place) in [
            (r#""on_node":{"may":["=v"]}"#.to_owned(), "on_node.may[0]"),
            (r#""on_node":{"prefer":["k="]}"#.to_owned(), "on_node.prefer[0]"),
            (r#""on_node":{"must":["a=b","a=b"]}"#.to_owned(), "on_node.must[1]"),
            (r#""on_node":{"must":["Up.per/a=b"]}"#.to_owned(), "on_node.must[0]"),
            (r#""on_node":{"must":["-a=b"]}"#.to_owned(), "on_node.must[0]"),
            (format!(r#""on_node":{{"must":["{long}=b"]}}"#), "on_node.must[0]"),
            (r#""resources":{"cpu":"0"}"#.to_owned(), "resources.cpu"),
            (r#""resources":{"memory":"-1Gi"}"#.to_owned(), "resources.memory"),
            (r#""resources":{"example.com/gpu":-1}"#.to_owned(), "resources.example.com/gpu"),
            (r#""resources":{"a b":1}"#.to_owned(), "resources.a b"),
            (format!(r#""service_account":"{long}""#), "service_account"),
            (r#""service_account":"Train_er""#.to_owned(), "service_account"),
            (r#""service_account":"a\u0000""#.to_owned(), "service_account"),
            (r#""entrypoint":["a","b\u0000"]"#.to_owned(), "entrypoint[1]"),
            (r#""args":["\u0000"]"#.to_owned(), "args[0]"),
            (r#""annotations":["a\u0000=b"]"#.to_owned(), "annotations[0]"),
            (format!(r#""annotations":["{}=b"]"#, "k".repeat(254)), "annotations[0]"),
        ] {
            assert_eq!(places(check(parse(&format!("{base}{more}}}")))), [place], "{more}");
        }
        for more in [
            r#""on_node":{"may":["a=b"],"must":["a=b"],"prefer":["feature.node.kubernetes.io/cpu.AVX_2=true"]}"#,
            r#""resources":{"example.com/gpu":0,"cpu":"1m"}"#,
        ] {
            assert_eq!(places(check(parse(&format!("{base}{more}}}")))), Vec::<String>::new(), "{more}");
        }
    }

    #[test]
    fn a_type_that_is_both_set_and_unset_ends_up_unset() {
        let read = |json: &str| knit_api::json::from_slice::<ResourceChange>(json.as_bytes()).unwrap();
        let before = read(r#"{"set":{"cpu":"1","memory":"1Gi"}}"#).set;
        let change = read(r#"{"set":{"cpu":"2","example.com/gpu":1},"unset":["example.com/gpu","memory","x"]}"#);
        let after = change_resources(before.clone(), &change);
        assert_eq!(serde_json::to_string(&after).unwrap(), r#"{"cpu":"2"}"#);
        assert_eq!(change_resources(before.clone(), &ResourceChange::default()), before);
    }

    #[test]
    fn annotations_are_a_set_of_pairs_and_what_is_added_stays() {
        let pairs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Annotation>>();
        let change = AnnotationChange {
            add: pairs(&["k=3", "a=1", "z=0", "a=1"]),
            remove: pairs(&["a=1", "a=9"]),
            remove_key: vec!["k".to_owned(), "none".to_owned()],
        };
        let after = change_annotations(pairs(&["a=1", "a=2", "k=1", "k=2"]), &change);
        assert_eq!(after, pairs(&["a=1", "a=2", "k=3", "z=0"]));
    }

    #[test]
    fn what_a_change_brings_is_checked_as_in_a_new_plan() {
        let at = |result: Result<(), Faults>| result.map_err(|faults| faults.as_slice()[0].at.clone());
        let resources = |json: &str| at(check_resource_change(&knit_api::json::from_slice(json.as_bytes()).unwrap()));
        for good in [r"{}", r#"{"set":{"example.com/gpu":0}}"#, r#"{"unset":["","a b"]}"#] {
            assert_eq!(resources(good), Ok(()), "{good}");
        }
        for (bad, place) in [
            (r#"{"set":{"cpu":0}}"#, "set.cpu"),
            (r#"{"set":{"memory":null}}"#, "set.memory"),
            (r#"{"set":{"example.com/gpu":-1}}"#, "set.example.com/gpu"),
            (r#"{"set":{"a\nb":1}}"#, "set.a\\nb"),
        ] {
            assert_eq!(resources(bad), Err(place.to_owned()), "{bad}");
        }
        let add = |text: String| {
            at(check_annotation_change(&AnnotationChange { add: vec![text.parse().unwrap()], ..Default::default() }))
        };
        assert_eq!(add(format!("{}={}", "k".repeat(253), "v".repeat(1_048_576))), Ok(()));
        assert_eq!(add(format!("{}=v", "k".repeat(254))), Err("add[0]".to_owned()));
        assert_eq!(add(format!("k={}", "v".repeat(1_048_577))), Err("add[0]".to_owned()));
        for good in ["", "default", "a.b-c.d1"] {
            assert_eq!(at(check_service_account_name(good)), Ok(()), "{good}");
        }
        for bad in ["A", "a_b", "-a", "a-", "a..b", "a b", ".", &"a".repeat(64)] {
            assert_eq!(at(check_service_account_name(bad)), Err("service_account".to_owned()), "{bad}");
        }
    }

    #[test]
    fn only_plain_absolute_paths_outside_the_containers_own_places_are_taken() {
        for path in [
            "in", "./in", "/in//x", "/in/./x", "/in/../x", "/..", "/in//", "//", "/", "", "/proc", "/proc/1", "/sys/",
            "/dev", "/dev/shm", "/a\0b",
        ] {
            assert_eq!(places(check(with_paths(&[path], &[]))), ["inputs[0].path"], "{path:?}");
            assert_eq!(places(check(with_paths(&["/ok"], &[path]))), ["outputs[0].path"], "{path:?}");
        }
        for path in [format!("/{}", "a".repeat(256)), "/a".repeat(2048)] {
            assert_eq!(places(check(with_paths(&[&path], &[]))), ["inputs[0].path"]);
        }
        for path in ["/in", "/in/", "/...", "/process", "/developer/x", "/日本", "/a b", "/log"] {
            assert_eq!(places(check(with_paths(&[path], &[]))), Vec::<String>::new(), "{path:?}");
        }
    }

    #[test]
    fn mountpoints_overlap_by_whole_names() {
        for (inputs, outputs, wrong) in [
            (&["/in/1", "/in/10"][..], &["/in2"][..], &[][..]),
            (&["/in", "/in-x", "/in.y"], &["/inz"], &[]),
            (&["/in/1", "/in/1/x"], &[], &["inputs[1].path"]),
            (&["/in/1/x", "/in/1"], &[], &["inputs[0].path"]),
            (&["/a"], &["/a"], &["outputs[0].path"]),
            (&["/a"], &["/b", "/b/"], &["outputs[1].path"]),
            (&["/a", "/a-b", "/a/c"], &["/a/d"], &["inputs[2].path", "outputs[0].path"]),
        ] {
            assert_eq!(places(check(with_paths(inputs, outputs))), wrong, "{inputs:?} {outputs:?}");
        }
    }

    #[test]
    fn there_may_be_many_inputs_but_not_too_many() {
        let paths: Vec<String> = (0..=MAX_INPUTS).map(|n| format!("/in/{n}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(places(check(with_paths(&paths[..MAX_INPUTS], &[]))), Vec::<String>::new());
        assert_eq!(places(check(with_paths(&paths, &[]))), ["inputs"]);
    }

    #[test]
    fn all_faults_are_told_together_one_line_each() {
        let faults = check(with_paths(&["in", "/x"], &["/x"])).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "inputs[0].path: \"in\" is not absolute: begin it with a slash: \"/in\"\n\
             outputs[0].path: it overlaps inputs[1].path: give each a path of its own, none at or below another"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_the_check_panic_and_what_passes_is_plain(path in "[/a.\0é]{0,12}") {
            if let Ok(spec) = check(with_paths(&[&path], &[])) {
                let path = &spec.inputs[0].path;
                proptest::prop_assert!(path.starts_with('/') && path.len() > 1 && !path.ends_with('/'));
                proptest::prop_assert!(path[1..].split('/').all(|name| !["", ".", ".."].contains(&name)));
            }
        }
    }
}

//! What two Plans differ in, field by field, and which of it makes them two.

use crate::terminal::plain;
use knit_api::plan::{Mountpoint, OnNode, Plan, PlanSpec};
use knit_api::tag::{self, Tag};
use knit_api::time::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Longer lists are not compared element by element: one is replaced by the other.
const COMPARED: usize = 1_000;

/// All differences; none when the Plans are alike in everything.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PlanDiff {
    /// What the first one is called.
    pub before: String,
    /// What the second one is called.
    pub after: String,
    /// True when they count as one Plan: what differs, if anything, can be changed on a registered Plan.
    pub equal: bool,
    /// In the order of a Plan file.
    pub differences: Vec<Difference>,
}

/// A field that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name in a Plan file, with the path of a mountpoint: `image`, `inputs /in`, `resources cpu`.
    pub field: String,
    /// True when it makes two Plans of them.
    pub identity: bool,
    /// The values before and after, line by line.
    pub lines: Vec<Line>,
}

/// A line of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "side", content = "value")]
pub enum Line {
    /// In both.
    Both(String),
    /// In the first one alone.
    Before(String),
    /// In the second one alone.
    After(String),
}

/// A registered Plan as it would stand in a file.
pub fn spec_of(plan: &Plan) -> Option<PlanSpec> {
    Some(PlanSpec {
        annotations: plan.summary.annotations.clone(),
        image: plan.summary.image.clone()?,
        entrypoint: plan.summary.entrypoint.clone(),
        args: plan.summary.args.clone(),
        inputs: plan.inputs.iter().map(|input| input.mountpoint.clone()).collect(),
        outputs: plan.outputs.iter().map(|output| output.mountpoint.clone()).collect(),
        log: plan.log.as_ref().map(|log| log.log.clone()),
        on_node: plan.on_node.clone(),
        resources: plan.resources.clone(),
        service_account: plan.service_account.clone(),
        active: Some(plan.active),
    })
}

/// As a server would keep it: tags in order and once, times in UTC, what is left out by its default.
pub fn normal(mut spec: PlanSpec) -> PlanSpec {
    let log = spec.log.iter_mut().map(|log| &mut log.tags);
    for tags in spec.inputs.iter_mut().chain(&mut spec.outputs).map(|point| &mut point.tags).chain(log) {
        for tag in tags.iter_mut().filter(|tag| tag.key == tag::TIMESTAMP) {
            if let Ok(time) = Timestamp::parse_strict(&tag.value) {
                tag.value = Timestamp::from_millis(time.millis()).to_string();
            }
        }
        tags.sort();
        tags.dedup();
    }
    for point in spec.inputs.iter_mut().chain(&mut spec.outputs) {
        if point.path.len() > 1 && point.path.ends_with('/') {
            point.path.pop();
        }
    }
    for labels in [&mut spec.on_node.may, &mut spec.on_node.prefer, &mut spec.on_node.must] {
        labels.sort();
    }
    for (kind, amount) in [("cpu", "1"), ("memory", "1Gi")] {
        if let (false, Ok(amount)) = (spec.resources.contains_key(kind), amount.parse()) {
            spec.resources.insert(kind.to_owned(), amount);
        }
    }
    spec.annotations.sort();
    spec.annotations.dedup();
    spec.active = Some(spec.active.unwrap_or(true));
    spec
}

/// Compares two Plans in normal form.
pub fn compare(before: (String, &PlanSpec), after: (String, &PlanSpec)) -> PlanDiff {
    let ((before_name, before), (after_name, after)) = (before, after);
    let mut found = Found(Vec::new());
    found.sets("annotations", false, &texts(&before.annotations), &texts(&after.annotations));
    found.lists("image", true, &[before.image.to_string()], &[after.image.to_string()]);
    found.lists("entrypoint", true, &before.entrypoint, &after.entrypoint);
    found.lists("args", true, &before.args, &after.args);
    found.mounts("inputs", &before.inputs, &after.inputs);
    found.mounts("outputs", &before.outputs, &after.outputs);
    let log = |spec: &PlanSpec| spec.log.as_ref().map(|log| texts(&log.tags));
    found.optional("log", log(before).as_ref(), log(after).as_ref());
    found.sets("on_node", true, &labels(&before.on_node), &labels(&after.on_node));
    let amount = |spec: &PlanSpec, kind: &String| spec.resources.get(kind).map(ToString::to_string);
    let kinds: BTreeSet<&String> = before.resources.keys().chain(after.resources.keys()).collect();
    for kind in kinds {
        let (before, after) = (amount(before, kind), amount(after, kind));
        found.lists(&format!("resources {kind}"), false, before.as_slice(), after.as_slice());
    }
    let account = |spec: &PlanSpec| (!spec.service_account.is_empty()).then(|| spec.service_account.clone());
    found.lists("service_account", false, account(before).as_slice(), account(after).as_slice());
    let active = |spec: &PlanSpec| [spec.active.unwrap_or(true).to_string()];
    found.lists("active", false, &active(before), &active(after));
    let differences = found.0;
    let equal = !differences.iter().any(|difference| difference.identity);
    PlanDiff { before: before_name, after: after_name, equal, differences }
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn labels(on_node: &OnNode) -> Vec<String> {
    let OnNode { may, prefer, must } = on_node;
    [("may", may), ("prefer", prefer), ("must", must)]
        .iter()
        .flat_map(|(kind, labels)| labels.iter().map(move |label| format!("{kind} {label}")))
        .collect()
}

struct Found(Vec<Difference>);

impl Found {
    /// A list whose order counts.
    fn lists(&mut self, field: &str, identity: bool, before: &[String], after: &[String]) {
        if before != after {
            self.0.push(Difference { field: field.to_owned(), identity, lines: edits(before, after) });
        }
    }

    /// A list whose order does not count.
    fn sets(&mut self, field: &str, identity: bool, before: &[String], after: &[String]) {
        let sorted = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        self.lists(field, identity, &sorted(before), &sorted(after));
    }

    /// Something that may be missing, which is not the same as being empty.
    fn optional(&mut self, field: &str, before: Option<&Vec<String>>, after: Option<&Vec<String>>) {
        let present = |list: Option<&Vec<String>>| match list {
            None => Vec::new(),
            Some(tags) if tags.is_empty() => vec!["(no tags)".to_owned()],
            Some(tags) => tags.clone(),
        };
        if before != after {
            let lines = edits(&present(before), &present(after));
            self.0.push(Difference { field: field.to_owned(), identity: true, lines });
        }
    }

    /// Mountpoints by their paths: in which order they stand does not count for what a Plan is.
    fn mounts(&mut self, field: &str, before: &[Mountpoint], after: &[Mountpoint]) {
        let by_path = |points: &[Mountpoint]| -> BTreeMap<String, Vec<Tag>> {
            points.iter().map(|point| (point.path.clone(), point.tags.clone())).collect()
        };
        let (before, after) = (by_path(before), by_path(after));
        let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for path in paths {
            let tags = |points: &BTreeMap<String, Vec<Tag>>| points.get(path).map(|tags| texts(tags));
            self.optional(&format!("{field} {path}"), tags(&before).as_ref(), tags(&after).as_ref());
        }
    }
}

/// The shortest way from one list to the other.
fn edits(before: &[String], after: &[String]) -> Vec<Line> {
    if before.len() > COMPARED || after.len() > COMPARED {
        let gone = before.iter().cloned().map(Line::Before);
        return gone.chain(after.iter().cloned().map(Line::After)).collect();
    }
    // How many elements the rests of both lists have in common, in order.
    let mut common = vec![vec![0_u32; after.len() + 1]; before.len() + 1];
    for b in (0..before.len()).rev() {
        for a in (0..after.len()).rev() {
            common[b][a] =
                if before[b] == after[a] { common[b + 1][a + 1] + 1 } else { common[b + 1][a].max(common[b][a + 1]) };
        }
    }
    let (mut b, mut a) = (0, 0);
    let mut lines = Vec::new();
    loop {
        match (before.get(b), after.get(a)) {
            (None, None) => return lines,
            (Some(one), Some(other)) if one == other => {
                lines.push(Line::Both(one.clone()));
                (b, a) = (b + 1, a + 1);
            }
            (Some(gone), None) => {
                lines.push(Line::Before(gone.clone()));
                b += 1;
            }
            (Some(gone), Some(_)) if common[b + 1][a] >= common[b][a + 1] => {
                lines.push(Line::Before(gone.clone()));
                b += 1;
            }
            (_, Some(new)) => {
                lines.push(Line::After(new.clone()));
                a += 1;
            }
        }
    }
}

impl PlanDiff {
    /// In the manner of a unified diff; with `colour`, in that of a terminal.
    pub fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        if self.differences.is_empty() {
            let _ = writeln!(text, "{} and {} do not differ.", plain(&self.before), plain(&self.after));
            return text;
        }
        let mut put = |paint: &str, mark: &str, value: &str| {
            // One line each, whatever it holds.
            let value = plain(value).replace('\n', "\\n");
            let _ = if colour && !paint.is_empty() {
                writeln!(text, "\u{1b}[{paint}m{mark}{value}\u{1b}[0m")
            } else {
                writeln!(text, "{mark}{value}")
            };
        };
        put("1", "--- ", &self.before);
        put("1", "+++ ", &self.after);
        for Difference { field, identity, lines } in &self.differences {
            put("36", "@@ ", &format!("{field} @@{}", if *identity { "" } else { " (can be changed on a Plan)" }));
            for line in lines {
                match line {
                    Line::Both(value) => put("", " ", value),
                    Line::Before(value) => put("31", "-", value),
                    Line::After(value) => put("32", "+", value),
                }
            }
        }
        text.push_str(&self.verdict());
        text
    }

    fn verdict(&self) -> String {
        let of = |identity: bool| {
            let fields = self.differences.iter().filter(|difference| difference.identity == identity);
            fields.map(|difference| plain(&difference.field).into_owned()).collect::<Vec<_>>().join(", ")
        };
        if self.equal {
            format!("They count as one Plan: {} can be changed on it.\n", of(false))
        } else {
            format!("They are two Plans because of: {}.\n", of(true))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "image: train:v1\nargs: [a, b, c]\ninputs:\n  - {path: /in, tags: [\"a:b\", \"c:d\"]}\n\
                        outputs:\n  - {path: /out, tags: []}\nlog: {tags: [\"x:y\"]}\n";

    fn spec(text: &str) -> PlanSpec {
        normal(crate::plan_file::parse(text).unwrap())
    }

    fn diff(from: &str, to: &str) -> PlanDiff {
        assert!(BASE.contains(from), "{from}");
        let (before, after) = (spec(BASE), spec(&BASE.replace(from, to)));
        compare(("A".to_owned(), &before), ("B".to_owned(), &after))
    }

    #[test]
    fn each_field_is_told_and_whether_it_makes_another_plan() {
        for (from, to, field, equal) in [
            ("train:v1", "train:v2", "image", false),
            ("[a, b, c]", "[a, c]", "args", false),
            ("args: [a, b, c]", "entrypoint: [x]\nargs: [a, b, c]", "entrypoint", false),
            ("\"c:d\"", "\"c:e\"", "inputs /in", false),
            ("tags: []", "tags: [\"m:n\"]", "outputs /out", false),
            ("log: {tags: [\"x:y\"]}", "log: {tags: []}", "log", false),
            ("log: {tags: [\"x:y\"]}\n", "", "log", false),
            ("log:", "on_node: {must: [\"a=b\"]}\nlog:", "on_node", false),
            ("log:", "resources: {cpu: 2}\nlog:", "resources cpu", true),
            ("log:", "resources: {example.com/gpu: 1}\nlog:", "resources example.com/gpu", true),
            ("log:", "annotations: [\"a=b\"]\nlog:", "annotations", true),
            ("log:", "service_account: me\nlog:", "service_account", true),
            ("log:", "active: no\nlog:", "active", true),
        ] {
            let found = diff(from, to);
            let fields: Vec<&str> = found.differences.iter().map(|d| d.field.as_str()).collect();
            assert_eq!((&fields[..], found.equal), (&[field][..], equal), "{from} -> {to}");
        }
    }

    #[test]
    fn what_is_only_written_differently_does_not_differ() {
        for (from, to) in [
            ("/in,", "/in/,"),
            ("[\"a:b\", \"c:d\"]", "[\"c:d\", \"a:b\", \"a:b\"]"),
            ("log:", "resources: {cpu: \"1000m\", memory: 1Gi}\nactive: true\nlog:"),
        ] {
            assert_eq!(diff(from, to).differences, [], "{to}");
        }
    }

    #[test]
    fn the_text_is_that_of_a_diff_and_ends_with_what_it_means() {
        let found = diff("[a, b, c]", "[a, c, \"d\\e[1m\\n\"]");
        let wanted = "--- A\n+++ B\n@@ args @@\n a\n-b\n c\n+d\u{fffd}[1m\\n\nThey are two Plans because of: args.\n";
        assert_eq!(found.text(false), wanted);
        assert!(found.text(true).contains("\u{1b}[31m-b\u{1b}[0m\n"));
        let same = compare(("A".to_owned(), &spec(BASE)), ("B".to_owned(), &spec(BASE)));
        assert_eq!(same.text(true), "A and B do not differ.\n");
    }

    proptest::proptest! {
        #[test]
        fn both_lists_can_be_read_off_the_lines(before in "[abc]{0,12}", after in "[abc]{0,12}") {
            let list = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
            let lines = edits(&list(&before), &list(&after));
            let read = |side: fn(&Line) -> Option<&str>| lines.iter().filter_map(side).collect::<String>();
            proptest::prop_assert_eq!(read(|l| match l { Line::Both(v) | Line::Before(v) => Some(v), Line::After(_) => None }), before);
            proptest::prop_assert_eq!(read(|l| match l { Line::Both(v) | Line::After(v) => Some(v), Line::Before(_) => None }), after);
        }
    }
}

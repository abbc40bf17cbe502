//! Writing a Plan file for a person to complete: from what an image says of itself, or from nothing. What is
//! written here is read by [`crate::plan_file`] as it is.

use crate::image::Described;
use crate::knitenv::KnitEnv;
use crate::yaml::quoted;
use knit_api::image::ImageRef;
use knit_api::tag::Tag;
use std::fmt::Write as _;

/// Stands where no name is known.
const IMAGE: &str = "image:version";
/// Stands where no tag is known.
const TAG: &str = "example:tag";
/// Most mountpoints that are proposed on each side; images that mean it name a few.
const MOST_POINTS: usize = 50;
/// Where the container's own file systems are: nothing can be mounted there.
const TAKEN: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Longest path, and longest name in it, in bytes.
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

/// A Plan file of placeholders.
pub fn scratch(environment: &KnitEnv) -> String {
    let placeholder = |path: &str| Point::placeholder(path, &environment.tags, None);
    let draft = Draft {
        image: IMAGE.to_owned(),
        remark: Some("Write the name of your image here.".to_owned()),
        inputs: vec![placeholder("/in")],
        outputs: vec![placeholder("/out")],
        log: log_tags(environment, true),
        ..Draft::default()
    };
    draft.render(environment)
}

/// A Plan file for an image: its name and program as they are, and each path in the arguments that has a part
/// named `in` or `out` proposed as an input or an output.
pub fn of_image(image: &Described, environment: &KnitEnv) -> String {
    let (name, remark) = name(&image.names);
    let (mut inputs, outputs) = mountpoints(image, &environment.tags);
    if !inputs.iter().any(Point::stands) {
        let remark = "Nothing in the image looks like an input (a path with a part named \"in\"): this is an example.";
        let free = |path: &String| !outputs.iter().any(|output| output.stands() && overlap(&output.path, path));
        // No output overlaps more than one of these.
        let paths = (1..=outputs.len() + 1).map(|n| if n == 1 { "/in".to_owned() } else { format!("/in{n}") });
        let path = paths.into_iter().find(free);
        inputs.extend(path.map(|path| Point::placeholder(&path, &environment.tags, Some(remark.to_owned()))));
    }
    let draft = Draft {
        image: name,
        remark,
        entrypoint: image.entrypoint.clone(),
        args: image.command.clone(),
        inputs,
        outputs,
        log: log_tags(environment, false),
    };
    draft.render(environment)
}

/// The first name that a Plan can have, or a placeholder and why.
fn name(names: &[String]) -> (String, Option<String>) {
    let mut why = None;
    for name in names {
        // Some archives have the tag alone.
        if !name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            continue;
        }
        match name.parse::<ImageRef>() {
            Ok(_) => return (name.clone(), None),
            Err(error) => why = why.or_else(|| Some(plain_line(&error.to_string()))),
        }
    }
    let remark = match why {
        Some(why) => format!("The name in the archive cannot stand here: {why}."),
        None => "The archive does not name the image: write the name that you push it by.".to_owned(),
    };
    (IMAGE.to_owned(), Some(remark))
}

/// A text from elsewhere, for a comment.
fn plain_line(text: &str) -> String {
    let text = quoted(text);
    text[1..text.len() - 1].replace("\\\"", "\"")
}

fn log_tags(environment: &KnitEnv, example: bool) -> Vec<Tag> {
    let mut tags = vec![Tag::new("type", "log")];
    add_all(&mut tags, user_tags(&environment.tags));
    if example && tags.len() == 1 {
        tags.extend(TAG.parse::<Tag>());
    }
    tags
}

/// The environment's tags without the system's, which no output can have.
fn user_tags(tags: &[Tag]) -> impl Iterator<Item = &Tag> {
    tags.iter().filter(|tag| !tag.is_system())
}

fn add_all<'a>(tags: &mut Vec<Tag>, more: impl IntoIterator<Item = &'a Tag>) {
    for tag in more {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

impl Side {
    const fn word(self) -> &'static str {
        match self {
            Self::Input => "in",
            Self::Output => "out",
        }
    }
}

/// A mountpoint that is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    path: String,
    tags: Vec<Tag>,
    /// What a person should know of it.
    remark: Option<String>,
    /// The path with which it cannot stand together: then it is written as a comment.
    overlaps: Option<String>,
}

impl Point {
    fn placeholder(path: &str, tags: &[Tag], remark: Option<String>) -> Self {
        let mut own = Vec::new();
        add_all(&mut own, user_tags(tags));
        if own.is_empty() {
            own.extend(TAG.parse::<Tag>());
        }
        Self { path: path.to_owned(), tags: own, remark, overlaps: None }
    }

    fn stands(&self) -> bool {
        self.overlaps.is_none()
    }
}

/// Inputs and outputs, each in the order in which the image names them.
fn mountpoints(image: &Described, tags: &[Tag]) -> (Vec<Point>, Vec<Point>) {
    let (mut inputs, mut outputs): (Vec<Point>, Vec<Point>) = (Vec::new(), Vec::new());
    let words = image.entrypoint.iter().chain(&image.command).flat_map(|word| paths_in(word));
    for (text, is_file) in words.chain(image.volumes.iter().map(|path| (path.as_str(), false))) {
        let Some((side, mut point)) = propose(text, is_file, &image.working_dir, tags) else { continue };
        let same = |other: &Point| other.path == point.path;
        let own = if side == Side::Input { &inputs } else { &outputs };
        if own.len() >= MOST_POINTS || own.iter().any(same) {
            continue;
        }
        let overlapped =
            inputs.iter().chain(&outputs).find(|other| other.stands() && overlap(&other.path, &point.path));
        point.overlaps = overlapped.map(|other| other.path.clone());
        if side == Side::Input { &mut inputs } else { &mut outputs }.push(point);
    }
    (inputs, outputs)
}

fn overlap(one: &str, other: &str) -> bool {
    let below = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    one == other || below(one, other) || below(other, one)
}

/// What in a word may be a path, and whether it must be one of a file: the value of an option, or the words
/// of a script.
fn paths_in(word: &str) -> Vec<(&str, bool)> {
    let separates = |c: char| c.is_whitespace() || ";|&<>()\"'`$".contains(c);
    if !word.contains(separates) {
        return values_in(word).into_iter().map(|value| (value, false)).collect();
    }
    let mut found = Vec::new();
    let mut start = 0;
    for part in word.split(separates) {
        if part.contains('/') {
            let redirected = word[..start].trim_end_matches([' ', '"', '\'']).ends_with(['<', '>']);
            found.extend(values_in(part).into_iter().map(|value| (value, redirected)));
        }
        // Behind the part and the character that ended it.
        start += part.len() + word[start + part.len()..].chars().next().map_or(0, char::len_utf8);
    }
    found
}

/// What stands behind the `=` of an option, each of a list of paths, or the word itself; nothing of a URL.
fn values_in(word: &str) -> Vec<&str> {
    if word.contains("://") {
        return Vec::new();
    }
    let head = word.find('/').unwrap_or(word.len());
    let value = match word[..head].rfind('=') {
        Some(place) => &word[place + 1..],
        // -I/in/x
        None if word.starts_with('-') => &word[head..],
        None => word,
    };
    if value.contains(":/") || value.contains(",/") {
        return value.split([':', ',']).filter(|part| part.starts_with('/')).collect();
    }
    vec![value]
}

/// The mountpoint that a path suggests, if it does.
fn propose(text: &str, is_file: bool, working_dir: &str, tags: &[Tag]) -> Option<(Side, Point)> {
    let named = |side: Side| text.split('/').any(|part| part == side.word());
    let side = [Side::Input, Side::Output].into_iter().find(|side| named(*side))?;
    let whole = absolute(text, working_dir)?;
    let parts: Vec<&str> = whole.split('/').skip(1).collect();
    let (file, folder) = match parts.split_last() {
        Some((last, folder)) if is_file => (Some(stem(last).unwrap_or(last)), folder),
        Some((last, folder)) if stem(last).is_some() => (stem(last), folder),
        _ => (None, &parts[..]),
    };
    if !folder.contains(&side.word()) {
        return None;
    }
    let path = format!("/{}", folder.join("/"));
    if path.len() > MAX_PATH
        || path.contains('\0')
        || folder.iter().any(|name| name.len() > MAX_NAME)
        || TAKEN.iter().any(|taken| overlap(taken, &path) && path.len() >= taken.len())
    {
        return None;
    }
    let mut own = Vec::new();
    add_all(&mut own, user_tags(tags));
    let kind = folder.iter().rev().find(|name| **name != side.word()).copied();
    let kind = kind.or(file).map(str::trim).unwrap_or_default();
    if !kind.is_empty() {
        add_all(&mut own, [&Tag::new("type", kind)]);
    }
    let mut remarks = Vec::new();
    if file.is_some() {
        let text = plain_line(&whole);
        remarks.push(format!("{text} looks like a file. Only folders can be mounted: this is the one around it."));
    }
    if side == Side::Input && own.is_empty() {
        own.extend(TAG.parse::<Tag>());
        remarks.push("Nothing says which Data belong here: write their tags.".to_owned());
    }
    let remark = (!remarks.is_empty()).then(|| remarks.join(" "));
    Some((side, Point { path, tags: own, remark, overlaps: None }))
}

/// What stands before the dot in a name that looks like one of a file.
fn stem(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    let plain = (1..=8).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_alphanumeric());
    // v1.0 is a folder.
    (!stem.is_empty() && plain && extension.contains(|c: char| c.is_ascii_alphabetic())).then_some(stem)
}

/// The path from the root, without empty parts, `.` and `..`; nothing for the root itself.
fn absolute(text: &str, working_dir: &str) -> Option<String> {
    let start = if text.starts_with('/') { "" } else { working_dir };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(text.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| format!("/{}", parts.join("/")))
}

/// All that a Plan file says.
#[derive(Debug, Default)]
struct Draft {
    image: String,
    remark: Option<String>,
    entrypoint: Vec<String>,
    args: Vec<String>,
    inputs: Vec<Point>,
    outputs: Vec<Point>,
    log: Vec<Tag>,
}

impl Draft {
    fn render(&self, environment: &KnitEnv) -> String {
        let mut out = String::new();
        comment(
            &mut out,
            "A Plan: a program, the Data that it reads, and the Data that it makes. Correct what is proposed here, then \
             register it with: knit plan apply FILE. A part that can be changed afterwards names the command for \
             that; to change another one, register a new Plan and switch this one off.",
        );
        out.push('\n');
        comment(&mut out, "Notes for people and scripts, as KEY=VALUE (knit plan annotate).");
        out.push_str("annotations: []\n#  - \"owner=me\"\n#  - \"purpose=try it out\"\n\n");

        comment(
            &mut out,
            "The container image. A name without a host, or with localhost:30503/ before it, is looked up in the \
             registry beside the server: put it there with knit image push.",
        );
        if let Some(remark) = &self.remark {
            comment(&mut out, remark);
        }
        let _ = writeln!(out, "image: {}\n", quoted(&self.image));

        comment(&mut out, "The program in it, word by word. With an empty list, the one that the image names.");
        let _ = writeln!(out, "entrypoint: {}\n", flow(&self.entrypoint));
        comment(&mut out, "What the program is told, word by word. With an empty list, what the image says.");
        let _ = writeln!(out, "args: {}\n", flow(&self.args));

        comment(
            &mut out,
            "Where the program finds Data, each in a folder that it cannot write to. A Data fits when it has all these \
             tags (and perhaps more). Each combination of Data that fits makes one Run.",
        );
        points(&mut out, "inputs", &self.inputs);
        comment(
            &mut out,
            "Where the program leaves results. Each folder is empty at first, and becomes a Data with these tags. One \
             that has all tags of an input would feed the Plan with its own results, and is refused.",
        );
        points(&mut out, "outputs", &self.outputs);

        comment(&mut out, "Tags of the Data that keeps what the program prints. Without this part it is not kept.");
        out.push_str("log:\n  tags:\n");
        tags(&mut out, "", 4, &self.log);
        out.push('\n');

        comment(&mut out, "With false, Runs are prepared but do not start (knit plan active).");
        out.push_str("active: true\n\n");
        comment(&mut out, "What one Run may use at most (knit plan resource).");
        out.push_str("resources:\n");
        for (kind, amount) in resources(environment) {
            let _ = writeln!(out, "  {kind}: {amount}");
        }
        out.push('\n');
        comment(
            &mut out,
            "For clusters: labels of the nodes where Runs are tolerated (may), rather go (prefer), or go or else wait (must).",
        );
        out.push_str(
            "#on_node:\n#  may: [\"reserved-for=training\"]\n#  prefer: [\"disk=fast\"]\n#  must: [\"accelerator=gpu\"]\n\n",
        );
        comment(&mut out, "For clusters: the service account that Runs have (knit plan serviceaccount).");
        out.push_str("#service_account: \"trainer\"\n");
        out
    }
}

/// A comment in lines that fit on a screen.
fn comment(out: &mut String, text: &str) {
    remark(out, "", text);
}

fn remark(out: &mut String, indent: &str, text: &str) {
    const WIDTH: usize = 100;
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            let _ = write!(out, "{indent}#");
            column = indent.len() + 1;
        }
        let _ = write!(out, " {word}");
        column += 1 + length;
    }
    out.push('\n');
}

fn flow(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
}

fn points(out: &mut String, key: &str, points: &[Point]) {
    let _ = writeln!(out, "{key}:{}", if points.iter().any(Point::stands) { "" } else { " []" });
    for point in points {
        if let Some(text) = &point.remark {
            remark(out, "  ", text);
        }
        if let Some(other) = &point.overlaps {
            let text = format!("This would overlap {}: only one of them can stand here.", plain_line(other));
            remark(out, "  ", &text);
        }
        let mark = if point.stands() { "" } else { "#" };
        let _ = writeln!(out, "{mark}  - path: {}", quoted(&point.path));
        let _ = writeln!(out, "{mark}    tags:{}", if point.tags.is_empty() { " []" } else { "" });
        tags(out, mark, 6, &point.tags);
    }
    out.push('\n');
}

/// One tag per line; one that its text form would not give back is written as a pair.
fn tags(out: &mut String, mark: &str, indent: usize, tags: &[Tag]) {
    for tag in tags {
        let text = tag.to_string();
        let written = if text.parse().as_ref() == Ok(tag) {
            quoted(&text)
        } else {
            format!("{{key: {}, value: {}}}", quoted(&tag.key), quoted(&tag.value))
        };
        let _ = writeln!(out, "{mark}{:indent$}- {written}", "");
    }
}

/// The environment's resources over the defaults, all of them.
fn resources(environment: &KnitEnv) -> Vec<(String, String)> {
    let own = |kind: &str| environment.resources.get(kind).map(ToString::to_string);
    let mut all: Vec<(String, String)> = [("cpu", "1"), ("memory", "1Gi")]
        .map(|(kind, default)| (kind.to_owned(), own(kind).unwrap_or_else(|| default.to_owned())))
        .into();
    let others = environment.resources.iter().filter(|(kind, _)| !["cpu", "memory"].contains(&kind.as_str()));
    all.extend(others.map(|(kind, amount)| {
        let plain = kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        let plain = plain && kind.starts_with(|c: char| c.is_ascii_alphabetic());
        (if plain { kind.clone() } else { quoted(kind) }, amount.to_string())
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan_file::parse;
    use knit_api::plan::PlanSpec;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn read(image: &Described) -> PlanSpec {
        let text = of_image(image, &KnitEnv::default());
        parse(&text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
    }

    fn paths(arguments: &[&str], working_dir: &str) -> (Vec<String>, Vec<String>) {
        let image =
            Described { command: words(arguments), working_dir: working_dir.to_owned(), ..Described::default() };
        let (inputs, outputs) = mountpoints(&image, &[]);
        let of = |points: Vec<Point>| points.into_iter().filter(Point::stands).map(|point| point.path).collect();
        (of(inputs), of(outputs))
    }

    #[test]
    fn paths_are_found_where_programs_are_told_them() {
        for (argument, input, output) in [
            ("/in/data", "/in/data", ""),
            ("/in/data/", "/in/data", ""),
            ("in/data", "/app/in/data", ""),
            ("./out//x/.", "", "/app/out/x"),
            ("--data=/in/data", "/in/data", ""),
            ("--set=data.path=/in/data", "/in/data", ""),
            ("data.path=in/data", "/app/in/data", ""),
            ("-I/in/data", "/in/data", ""),
            ("-o=/out", "", "/out"),
            ("/in/a=b", "/in/a=b", ""),
            ("/in/out/z", "/in/out/z", ""),
            ("/in/model/model.pth", "/in/model", ""),
            ("/in/model/v1.0", "/in/model/v1.0", ""),
            ("/out/metrics.json", "", "/out"),
            ("cat /in/a/x.txt '/other' > /out/b", "/in/a", "/out"),
            ("wc<'/in/a/é' >>/out/b/n 2>&1", "/in/a", "/out/b"),
            ("cd /work; P=/in/a ./run --to \"/out/b\"", "/in/a", "/out/b"),
            ("sort < in", "", ""),
            ("/out/a:/out/b", "", "/out/a /out/b"),
            ("/in/../etc", "", ""),
            ("/in/..", "", ""),
            ("../../in/x", "/in/x", ""),
            ("/proc/in", "", ""),
            ("/proc/in/x", "", ""),
            ("/process/in", "/process/in", ""),
            ("https://example.com/in/data", "", ""),
            ("s3://bucket/out", "", ""),
            ("--in", "", ""),
            ("/input/x", "", ""),
            ("/pin/x", "", ""),
            ("/in/a\0b", "", ""),
            ("", "", ""),
            ("/", "", ""),
        ] {
            let (inputs, outputs) = paths(&[argument], "/app");
            assert_eq!((inputs.join(" ").as_str(), outputs.join(" ").as_str()), (input, output), "{argument:?}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_image_and_of_overlapping_paths_the_first_stands() {
        let image = Described {
            entrypoint: words(&["run", "/in/b"]),
            command: words(&["/in/a", "/in", "/in/b", "/in/b/c", "/out/x.json", "/out/y.json"]),
            volumes: words(&["/in/z", "/out"]),
            ..Described::default()
        };
        let spec = read(&image);
        let inputs: Vec<&str> = spec.inputs.iter().map(|input| input.path.as_str()).collect();
        assert_eq!(inputs, ["/in/b", "/in/a", "/in/z"]);
        assert_eq!(spec.outputs.len(), 1);
        let text = of_image(&image, &KnitEnv::default());
        assert!(text.contains("#  - path: \"/in\"\n#    tags:\n#      - \"example:tag\""), "{text}");
        assert!(
            text.contains("  # This would overlap /in/b: only one of them can stand here.\n#  - path: \"/in\""),
            "{text}"
        );
        assert!(text.contains("  # /out/x.json looks like a file."), "{text}");
        assert_eq!(text, of_image(&image, &KnitEnv::default()));
    }

    #[test]
    fn the_kind_of_a_mountpoint_is_the_last_name_that_says_something() {
        for (path, tag) in [
            ("/in/dataset", "type:dataset"),
            ("/in/data/in", "type:data"),
            ("/in/a.csv", "type:a"),
            ("/in/model/a.csv", "type:model"),
            ("/in", "example:tag"),
            ("/in/out", "type:out"),
        ] {
            let spec = read(&Described { command: words(&[path]), ..Described::default() });
            assert_eq!(spec.inputs[0].tags, [tag.parse::<Tag>().unwrap()], "{path}");
        }
    }

    #[test]
    fn a_name_that_no_plan_can_have_is_replaced_and_told() {
        for (names, image, remark) in [
            (&["repo/app:v1", "repo/app:latest"][..], "repo/app:v1", ""),
            (&["localhost:30503/app:v1"], "localhost:30503/app:v1", ""),
            (&["v1", "docker.io/library/app:v1"], "index.docker.io/library/app:v1", ""),
            (&[], "image:version", "does not name the image"),
            (&["v1"], "image:version", "does not name the image"),
            (&["x:v1"], "image:version", "cannot stand here: \"x\" is not an image name"),
            (&["x:v1", "xy:v1"], "xy:v1", ""),
            (&["UP\nPER:v1"], "image:version", "cannot stand here: \"UP\\nPER\""),
        ] {
            let image_of = Described { names: words(names), ..Described::default() };
            assert_eq!(read(&image_of).image.to_string(), image, "{names:?}");
            let text = of_image(&image_of, &KnitEnv::default());
            assert!(text.replace("\n# ", " ").contains(remark), "{remark} in\n{text}");
        }
    }

    #[test]
    fn the_environment_gives_tags_and_all_resources() {
        let environment = KnitEnv {
            tags: vec![Tag::new("project", "x"), Tag::new("a:b", " c "), Tag::new("knit#id", "d")],
            resources: [("cpu", "2"), ("nvidia.com/gpu", "1"), ("odd name", "3")]
                .map(|(kind, amount)| (kind.to_owned(), amount.parse().unwrap()))
                .into(),
        };
        for text in [scratch(&environment), of_image(&Described::default(), &environment)] {
            let spec = parse(&text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
            assert_eq!(spec.inputs[0].tags, environment.tags[..2]);
            assert_eq!(spec.log.unwrap().tags, [&[Tag::new("type", "log")], &environment.tags[..2]].concat());
            let resources: Vec<String> =
                spec.resources.iter().map(|(kind, amount)| format!("{kind}={amount}")).collect();
            assert_eq!(resources, ["cpu=2", "memory=1Gi", "nvidia.com/gpu=1", "odd name=3"]);
            assert_eq!((spec.active, spec.annotations.len()), (Some(true), 0));
        }
    }

    #[test]
    fn an_image_that_names_paths_without_end_gets_some_of_them() {
        let command = (0..200_000).map(|n| format!("/in/{n}")).collect();
        let (inputs, outputs) = mountpoints(&Described { command, ..Described::default() }, &[]);
        assert_eq!((inputs.len(), outputs.len()), (MOST_POINTS, 0));
    }

    #[test]
    fn a_placeholder_input_keeps_clear_of_the_outputs() {
        let image = Described { command: words(&["out/x"]), working_dir: "/in".to_owned(), ..Described::default() };
        let spec = read(&image);
        assert_eq!((spec.inputs[0].path.as_str(), spec.outputs[0].path.as_str()), ("/in2", "/in/out/x"));
    }

    /// Words as hostile images have them: quotes, braces, comments, line ends, paths, anything.
    fn word() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        prop_oneof![
            "[-=:,/.inoutax \\n\t\"'#{}\\[\\]&*!|>%@`$\\\\\u{0}\u{85}\u{2028}\u{feff}]{0,24}",
            "(/|\\./|--x=)?(in|out|a|\\.\\.|b\\.c)(/(in|out|a|\\.|\\.\\.|x y|d\\.txt|[#:{\"\n])){0,4}/?",
            any::<String>(),
        ]
    }

    proptest::proptest! {
        #[test]
        fn whatever_an_image_says_the_file_is_a_plan_that_says_the_same(
            names in proptest::collection::vec(word(), 0..3),
            entrypoint in proptest::collection::vec(word(), 0..4),
            command in proptest::collection::vec(word(), 0..6),
            volumes in proptest::collection::vec(word(), 0..3),
            working_dir in word(),
            tags in proptest::collection::vec((word(), word()), 0..3),
        ) {
            let tags = tags.into_iter().map(|(key, value)| Tag::new(key, value)).collect();
            let environment = KnitEnv { tags, ..KnitEnv::default() };
            let image = Described { names, entrypoint, command, volumes, working_dir };
            let text = of_image(&image, &environment);
            proptest::prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
            let spec = parse(&text).map_err(|error| proptest::test_runner::TestCaseError::fail(format!("{error} in\n{text}")))?;
            proptest::prop_assert_eq!(spec.entrypoint, image.entrypoint);
            proptest::prop_assert_eq!(spec.args, image.command);
            proptest::prop_assert!(!spec.inputs.is_empty());
        }
    }
}

//! Each observed command once more, and what is different.

use crate::fake::{Ended, Home, Request};
use crate::world::{records, world};
use serde_json::{Map, Value, json as value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

const DIFFERENCES: &str = include_str!("../../../tests/golden/differences");

/// Everything that one command did.
struct Seen {
    ended: Ended,
    writes: Vec<Value>,
    after: Vec<Value>,
    host: String,
    home: String,
    here: String,
}

/// Runs one recorded command.
fn replay(record: &'static Value) -> Seen {
    let world = world();
    let fake = world.serve(record["server"].as_str());
    let home = Home::of(&fake.api_root(), None);
    let host = fake.address.to_string();
    // As the original wrote its store: sorted, with empty certificates.
    let stored = |name: &str, root: &str| format!("{name}:\n    apiRoot: {root}\n    cert: {{}}\n");
    let root = fake.api_root();
    let store = [("bad", "no-url"), ("dead", "http://127.0.0.1:9/api"), ("p", &root), ("slash", &format!("{root}/"))];
    let store = store.map(|(name, root)| stored(name, root)).concat();
    std::fs::write(home.store(), store).unwrap();
    home.write("src/a.txt", "hello\n");
    home.write("src/sub/run.sh", "#!/bin/sh\n");
    home.write("src2/b.txt", "b\n");
    let project = home.project();
    std::fs::create_dir(project.join("src/emptydir")).unwrap();
    symlink("a.txt", project.join("src/link")).unwrap();
    std::fs::set_permissions(project.join("src/sub/run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    if let Some(text) = record["knitenv"].as_str() {
        home.write("knitenv", text);
    }
    for (name, content) in record["files"].as_object().into_iter().flatten() {
        match content {
            Value::String(text) => home.write(name, text),
            other => std::fs::write(project.join(name), world.binary(other["binary"].as_str().unwrap())).unwrap(),
        }
        if name.starts_with("bin/") && !name.ends_with("noexec") {
            std::fs::set_permissions(project.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
    let arguments: Vec<&str> =
        record["argv"].as_array().unwrap().iter().skip(1).map(|word| word.as_str().unwrap()).collect();
    let mut command = home.command(&project, &arguments);
    let here = project.display().to_string();
    command.env("PATH", record["PATH"].as_str().unwrap_or("/usr/bin:/bin").replace("<CWD>", &here));
    command.env("TZ", record["tz"].as_str().unwrap_or("UTC")).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin = match &record["stdin"] {
        Value::Object(input) => world.binary(input["binary"].as_str().unwrap()),
        _ if record["id"].as_str().unwrap().starts_with("extension/run") => b"from stdin\n".to_vec(),
        _ => Vec::new(),
    };
    // A command need not read its input.
    let _ = child.stdin.take().unwrap().write_all(&stdin);
    let ended = Ended::from(child.wait_with_output().unwrap());
    let writes = fake.requests().iter().filter(|request| request.method != "GET").map(write_of).collect();
    let mut after = Vec::new();
    tree(&project, &project, &mut after);
    Seen { ended, writes, after, host, home: project.parent().unwrap().join("home").display().to_string(), here }
}

/// A write in the form of the records.
fn write_of(request: &Request) -> Value {
    let mut write = value!({"method": request.method, "target": request.target});
    if request.header("content-type") == Some("application/tar+gzip") {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&request.body[..]));
        let mut entries: Vec<Value> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let link = entry.link_name().unwrap().map(|path| path.display().to_string()).unwrap_or_default();
                value!({
                    "name": entry.path().unwrap().display().to_string(), "type": (header.entry_type().as_byte() as char).to_string(),
                    "mode": format!("{:#o}", header.mode().unwrap() & 0o777), "size": entry.size(), "link": link,
                })
            })
            .collect();
        entries.sort_by_key(|entry| entry["name"].to_string());
        write["tar"] = entries.into();
        write["trailers"] = request.trailers.iter().map(|(name, _)| name.to_lowercase()).collect::<Vec<_>>().into();
    } else if !request.body.is_empty() {
        write["body"] = body_of(&String::from_utf8_lossy(&request.body));
    }
    write
}

/// The recorded writes, in the same form.
fn recorded_writes(record: &Value) -> Vec<Value> {
    let requests = record["requests"].as_array().into_iter().flatten();
    requests
        .filter(|request| request["method"] != "GET")
        .map(|request| {
            let mut write = request.clone();
            if let Some(body) = write["body"].as_str().map(body_of) {
                write["body"] = body;
            }
            write.as_object_mut().unwrap().retain(|_, member| !member.is_null());
            if let Some(entries) = write.get_mut("tar").and_then(Value::as_array_mut) {
                entries.sort_by_key(|entry| entry["name"].to_string());
            }
            if let Some(names) = write.get_mut("trailers").and_then(Value::as_array_mut) {
                for name in names.iter_mut() {
                    *name = name.as_str().unwrap().to_lowercase().into();
                }
            }
            write
        })
        .collect()
}

/// A body as it is; its meaning where v1.6.1 wrote `null` or an empty list for what is not there, or escaped `<>&`:
/// to every server these are the same.
fn body_of(text: &str) -> Value {
    if !["null", "[]", "\\u00", "<", ">", "&"].iter().any(|part| text.contains(part)) {
        return text.into();
    }
    let mut body: Value = serde_json::from_str(text).unwrap();
    if let Some(members) = body.as_object_mut() {
        members.retain(|_, member| !member.is_null() && member.as_array().is_none_or(|list| !list.is_empty()));
    }
    body
}

/// Files and links below a folder, except those that were there from the start.
fn tree(root: &Path, folder: &Path, into: &mut Vec<Value>) {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if ["src", "src2", "knitenv", "bin"].contains(&name.as_str()) {
        } else if meta.is_dir() {
            tree(root, &path, into);
        } else {
            let content = match std::fs::read_link(&path) {
                Ok(target) => target.display().to_string(),
                Err(_) => std::fs::read(&path).unwrap().iter().map(|&byte| char::from(byte)).collect(),
            };
            into.push(value!([name, format!("{:#o}", meta.permissions().mode()), content]));
        }
    }
}

/// What is different between a record and what was seen, by name of what is compared.
fn differences(record: &Value, stdout: &str, instead: Option<&str>, seen: &Seen) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    let succeeded = record["exit"] == 0;
    if succeeded != (seen.ended.code == Some(0)) || seen.ended.code.is_none() {
        found.insert(
            "exit",
            format!("{} was recorded, {:?} was seen: {}", record["exit"], seen.ended.code, seen.ended.stderr),
        );
    }
    for inside in ["panicked at", "RUST_BACKTRACE", "Err(", "Some("] {
        assert!(!seen.ended.stderr.contains(inside), "{}: {}", record["id"], seen.ended.stderr);
    }
    if record["requests"].as_array().is_none_or(|requests| requests.len() < 10) {
        let wanted = recorded_writes(record);
        if wanted != seen.writes {
            found.insert("writes", format!("\n  {}\n  {}", value!(wanted), value!(seen.writes)));
        }
    }
    let printed = String::from_utf8_lossy(&seen.ended.stdout)
        .replace(&seen.host, "<HOST>")
        .replace(&seen.home, "<HOME>")
        .replace(&seen.here, "<CWD>");
    let is_template = record["id"].as_str().unwrap().starts_with("plan template");
    let same = if is_template && !stdout.is_empty() {
        let (recorded, printed) = (yaml(stdout), yaml(&printed));
        if let Some(members) = instead {
            let mut expected = recorded.clone();
            let members: Map<String, Value> = serde_json::from_str(members).unwrap();
            expected.as_object_mut().unwrap().extend(members);
            assert_eq!(expected, printed, "{}", record["id"]);
        }
        recorded == printed
    } else {
        unescaped(stdout).trim_end() == printed.trim_end()
    };
    if !same && !stdout.starts_with("<binary") {
        found.insert("stdout", format!("\n--- recorded\n{stdout}\n--- seen\n{printed}"));
    }
    if let Some(wanted) = record["after"]["tree"].as_array()
        && *wanted != seen.after
    {
        found.insert("after", format!("\n  {}\n  {}", value!(wanted), value!(seen.after)));
    }
    found
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// JSON as Go writes it, without its escapes for HTML and with each value on lines of its own.
fn unescaped(text: &str) -> String {
    text.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&").replace("}{", "}\n{")
}

#[test]
fn what_v1_6_1_was_seen_doing_is_done_or_listed_as_different() {
    let records = records();
    let stdout_of: BTreeMap<&str, &Value> =
        records.iter().map(|record| (record["id"].as_str().unwrap(), &record["stdout"])).collect();
    let stdout = |record: &'static Value| match &record["stdout"] {
        Value::Object(other) => stdout_of[other["same_as"].as_str().unwrap()].as_str().unwrap(),
        text => text.as_str().unwrap_or_default(),
    };
    let mut listed: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut instead: BTreeMap<&str, &str> = BTreeMap::new();
    for line in DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, what, reason, ref members @ ..] = fields[..] else { panic!("three fields: {line}") };
        assert!(!reason.is_empty() && stdout_of.contains_key(id), "{line}");
        instead.extend(members.iter().map(|members| (id, *members)));
        for what in what.split(' ') {
            assert!(listed.insert((id, what)), "{line}");
        }
    }
    let mut wrong = Vec::new();
    for record in records {
        let id = record["id"].as_str().unwrap();
        for (what, how) in differences(record, stdout(record), instead.get(id).copied(), &replay(record)) {
            if !listed.remove(&(id, what)) {
                wrong.push(format!("{id}\t{what}: {how}"));
            }
        }
    }
    let stale: Vec<String> =
        listed.iter().map(|(id, what)| format!("{id}\t{what}: listed, and not different any more")).collect();
    assert!(
        wrong.is_empty() && stale.is_empty(),
        "{} wrong\n{}\n{}",
        wrong.len() + stale.len(),
        wrong.join("\n"),
        stale.join("\n")
    );
}

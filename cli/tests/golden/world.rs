//! The server of the observations: a small world of Data, Runs and Plans, and the ways in which it failed.

use crate::fake::{Answer, Fake, Request, chunked, json};
use base64::Engine as _;
use serde_json::{Map, Value, json as value};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::LazyLock;

const VECTORS: &str = include_str!("../../../tests/golden/vectors.jsonl");

/// What is shared by all observations, and these themselves.
static OBSERVED: LazyLock<(World, Vec<Value>)> = LazyLock::new(|| {
    let mut lines = VECTORS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut head = |name: &str| lines.next().unwrap()[name].take();
    let world = World {
        records: head("world"),
        errors: head("errors").as_object().unwrap().clone(),
        binaries: head("binaries").as_object().unwrap().clone(),
    };
    (world, lines.collect())
});

/// The small world.
pub(crate) fn world() -> &'static World {
    &OBSERVED.0
}

/// One command with what came of it, each.
pub(crate) fn records() -> &'static [Value] {
    &OBSERVED.1
}

/// What the recorded server knew.
pub(crate) struct World {
    records: Value,
    errors: Map<String, Value>,
    binaries: Map<String, Value>,
}

impl World {
    /// A server that does what an observation says in words; none: it answers for the small world.
    pub(crate) fn serve(&'static self, server: Option<&'static str>) -> Fake {
        Fake::start(move |request| match server {
            None => self.answer(request),
            Some(server) => self.odd_answer(server, request),
        })
    }

    pub(crate) fn binary(&self, name: &str) -> Vec<u8> {
        let packed = base64::engine::general_purpose::STANDARD.decode(self.binaries[name].as_str().unwrap()).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn one(&self, kind: &str, id: &str) -> Answer {
        match self.find(kind, id) {
            Some(record) => json(200, record),
            None => json(404, &value!({"message": "not found"})),
        }
    }

    /// One of the records.
    pub(crate) fn find(&self, kind: &str, id: &str) -> Option<&Value> {
        let name = ["knitId", "runId", "planId"];
        self.all(kind).iter().find(|record| name.iter().any(|name| record[name] == id))
    }

    fn all(&self, kind: &str) -> &[Value] {
        self.records[kind].as_array().unwrap()
    }

    /// The answer of the recorded server.
    fn answer(&self, request: &Request) -> Answer {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let path: Vec<&str> = path.trim_start_matches("/api/").split('/').collect();
        match (request.method.as_str(), &path[..]) {
            (_, ["server"]) => json(404, &value!({"message": "Not Found"})),
            ("GET", ["data"]) => {
                let wanted: BTreeSet<String> = url::form_urlencoded::parse(query.as_bytes())
                    .filter(|(name, _)| name == "tag")
                    .map(|(_, tag)| tag.into_owned())
                    .collect();
                let carries = |data: &&Value| {
                    let tags = data["tags"].as_array().unwrap();
                    wanted.iter().all(|tag| tags.iter().any(|one| one == tag.as_str()))
                };
                let found: Vec<&Value> = self.all("data").iter().filter(carries).collect();
                json(200, &value!(found))
            }
            ("POST", ["data"]) => self.one("data", "data-set"),
            ("PUT", ["data", id]) => self.one("data", id),
            ("GET", ["data", _]) => self.pull("x-checksum-md5"),
            ("GET", ["runs"]) => {
                let found = ["run-train", "run-running", "run-failed"].map(|id| self.find("runs", id));
                json(200, &value!(found))
            }
            ("GET", ["runs", id]) => self.one("runs", id),
            ("GET", ["runs", _, "log"]) => {
                chunked("Content-Type: text/plain\r\n", b"line 1\nline 2 <b>\nno newline at end", "")
            }
            ("PUT", ["runs", id, "retry"]) if self.find("runs", id).is_some() => {
                Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
            }
            ("PUT", ["runs", _, how]) => {
                let mut run = self.find("runs", "run-running").unwrap().clone();
                run["status"] = if *how == "abort" { "aborting" } else { "completing" }.into();
                json(200, &run)
            }
            ("DELETE", ["runs", _]) => {
                Answer::Bytes(b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n".to_vec())
            }
            ("GET", ["plans"]) => json(200, &value!(self.all("plans")[..2])),
            ("POST", ["plans"]) => self.one("plans", "plan-train"),
            (_, ["plans", id, ..]) => self.one("plans", id),
            _ => json(404, &value!({"message": "not found"})),
        }
    }

    fn pull(&self, trailer: &str) -> Answer {
        let body = self.binary("PULL");
        let sum = hex::encode(<md5::Md5 as md5::Digest>::digest(&body));
        let trailer = if trailer.is_empty() { String::new() } else { format!("{trailer}: {sum}\r\n") };
        chunked("Content-Type: application/tar+gzip\r\n", &body, &trailer)
    }

    /// The answer of a server that a record describes in words.
    fn odd_answer(&self, server: &str, request: &Request) -> Answer {
        if request.target.ends_with("/server") {
            return self.answer(request);
        }
        let data = |id: &str, tag: &str| {
            let mut data = self.find("data", "data-set").unwrap().clone();
            data["knitId"] = id.into();
            data["tags"] = value!([tag, format!("knit#id:{id}")]);
            data
        };
        match server {
            "connection refused" => unreachable!("nobody is asked"),
            "trailer md5 wrong" => {
                chunked("", &self.binary("PULL"), "x-checksum-md5: 00000000000000000000000000000000\r\n")
            }
            "no trailer" => self.pull(""),
            "connection cut after 100 bytes" => {
                let Answer::Bytes(whole) = self.pull("x-checksum-md5") else { unreachable!() };
                let head = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                Answer::Close(whole[..head + 100].to_vec())
            }
            "POST ok; PUT 500" if request.method == "PUT" => json(500, &value!({"message": "Internal Server Error"})),
            "data ok, runs 404" if request.target.contains("/runs/") => json(404, &value!({"message": "not found"})),
            "body not gzip" => chunked("", b"this is not gzip", "x-checksum-md5: 0\r\n"),
            "tar holds one directory entry d" => packed("d/", tar::EntryType::Directory, b""),
            "tar holds ../../escaped.txt" => packed("../../escaped.txt", tar::EntryType::Regular, b"x\n"),
            "one Data with tag  desc:say \"hi\"" => json(200, &value!([data("q", "desc:say \"hi\"")])),
            "one Data with tag  path:C:\\dir" => json(200, &value!([data("q", "path:C:\\dir")])),
            "Data q with tag  desc:say \"hi\"" if request.target.starts_with("/api/data") => {
                json(200, &value!([data("q", "desc:say \"hi\"")]))
            }
            "POST ok; PUT 500" | "data ok, runs 404" | "Data q with tag  desc:say \"hi\"" => self.answer(request),
            "run-train with an unknown field and updatedAt 2024-05-01T19:30:00+09:00" => {
                let mut run = self.find("runs", "run-train").unwrap().clone();
                run["updatedAt"] = "2024-05-01T19:30:00+09:00".into();
                run["unknown"] = value!({"a": 1});
                json(200, &run)
            }
            other => self.error(other.strip_prefix("every request: ").unwrap_or_else(|| panic!("{other}"))),
        }
    }

    fn error(&self, name: &str) -> Answer {
        let [status, kind, body] = &self.errors[name].as_array().unwrap()[..] else { panic!("{name}") };
        let mut head = format!("HTTP/1.1 {status} Reason\r\n");
        if let Some(kind) = kind.as_str() {
            head.push_str("Content-Type: ");
            head.push_str(kind);
            head.push_str("\r\n");
        }
        let mut body = body.as_str().unwrap();
        if name == "302" {
            head += "Location: /login\r\n";
            body = "";
        }
        Answer::Bytes(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

fn packed(path: &str, kind: tar::EntryType, content: &[u8]) -> Answer {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if content.is_empty() { 0o755 } else { 0o644 });
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content).unwrap();
    let body = tar.into_inner().unwrap().finish().unwrap();
    let sum = hex::encode(<md5::Md5 as md5::Digest>::digest(&body));
    chunked("Content-Type: application/tar+gzip\r\n", &body, &format!("x-checksum-md5: {sum}\r\n"))
}

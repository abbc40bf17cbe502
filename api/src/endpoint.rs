//! The routes of the API, relative to the API's root, and the media types and headers on them:
//! the one place where server and client look them up.

use crate::candidate::Kind;
use crate::id::{DataId, PlanId, RunId};
use std::fmt::Write as _;

/// Prefix of all routes on a server of ours.
pub const API: &str = "/api";
/// `GET`: what the server is ([`crate::server::ServerInfo`]); not on an original server.
pub const SERVER: &str = "/server";
/// `GET`: how the server does ([`crate::server::ServerStatus`]); not on an original server.
pub const SERVER_STATUS: &str = "/server/status";
/// `GET`: what it has to offer to Plans ([`crate::cluster::Cluster`]); not on an original server.
pub const CLUSTER: &str = "/cluster";
/// `GET` searches, `POST` uploads.
pub const DATA: &str = "/data";
/// `GET` searches, `POST` registers.
pub const PLANS: &str = "/plans";
/// `POST` of a Plan tells what registering it would come to; not on an original server.
pub const PLANS_DRY_RUN: &str = "/plans/dry-run";
/// `GET` searches.
pub const RUNS: &str = "/runs";
/// `GET` streams the events of Runs ([`crate::event`]): of those that fit `plan=`, `knitIdInput=`, `knitIdOutput=`
/// and `status=` as in a search, of those named with `run=ID,…`, or of those that [`crate::event::Cause`] brought
/// about (`cause=`). `ended=N` begins with the N ended ones that changed last; where Runs or a cause are named,
/// with all. Not on an original server.
pub const RUN_EVENTS: &str = "/runs/events";

/// The original's archive of a folder: gzipped tar, regular files and symlinks only.
pub const TAR_GZ: &str = "application/tar+gzip";
/// Our own form of a folder: tar with directories, links, modes and a closing root digest.
pub const BUNDLE: &str = "application/vnd.knit.bundle";
/// The same, compressed with zstd.
pub const BUNDLE_ZSTD: &str = "application/vnd.knit.bundle+zstd";
/// One JSON value per line.
pub const NDJSON: &str = "application/x-ndjson";
/// Trailer that carries the MD5 of a `tar.gz` body in lower-case hex.
pub const CHECKSUM_MD5: &str = "x-checksum-md5";

/// The list of what is in a Data, as feature `bundle` describes it: one zstd frame.
pub const MANIFEST: &str = "application/vnd.knit.manifest+zstd";
/// Lines of JSON.
pub const LINES: &str = "application/x-ndjson";
/// Header of a manifest and of a whole Data: the root digest that was registered. In a request for a Data it says
/// that the client compares it with the digest that a bundle closes with, and is to have the bundle in any case; to
/// others one that differs is never sent to its end.
pub const DIGEST: &str = "x-knit-digest";
/// Parameter of a download: a glob; may be repeated.
pub const INCLUDE: &str = "include";
/// Parameter of a manifest: a path, its bytes percent-encoded.
pub const UNDER: &str = "under";
/// Header of a page of a list: what to give as `after` for the page that follows; not on an original server.
pub const NEXT: &str = "knit-next";

/// One path segment, percent-encoded.
fn segment(text: &str) -> String {
    encoded(text.as_bytes())
}

/// One name of any bytes, percent-encoded.
fn encoded(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for &byte in name {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && name != b"." && name != b"..") {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A path inside a Data, each name percent-encoded.
pub fn path(bytes: &[u8]) -> String {
    bytes.split(|byte| *byte == b'/').map(encoded).collect::<Vec<_>>().join("/")
}

/// `GET` lists what is in it; not on an original server.
pub fn data_manifest(id: &DataId) -> String {
    format!("{}/manifest", data(id))
}

/// `GET` reads one file of it; not on an original server.
pub fn data_file(id: &DataId, bytes: &[u8]) -> String {
    format!("{}/files/{}", data(id), path(bytes))
}

/// `POST`: read it again and compare; not on an original server.
pub fn data_verify(id: &DataId) -> String {
    format!("{}/verify", data(id))
}

/// `GET` downloads, `PUT` changes tags; `DELETE` removes, which an original server does not know.
pub fn data(id: &DataId) -> String {
    format!("{DATA}/{}", segment(id.as_str()))
}

/// `GET` streams the lineage ([`crate::graph::LineageLine`]), with `upstream`, `downstream`, `depth=` and `view=`; not
/// on an original server.
pub fn data_lineage(id: &DataId) -> String {
    format!("{}/lineage", data(id))
}

/// `GET` shows.
pub fn plan(id: &PlanId) -> String {
    format!("{PLANS}/{}", segment(id.as_str()))
}

/// `PUT` activates, `DELETE` deactivates.
pub fn plan_active(id: &PlanId) -> String {
    format!("{}/active", plan(id))
}

/// `PUT` sets and unsets.
pub fn plan_resources(id: &PlanId) -> String {
    format!("{}/resources", plan(id))
}

/// `PUT` adds and removes.
pub fn plan_annotations(id: &PlanId) -> String {
    format!("{}/annotations", plan(id))
}

/// `PUT` sets, `DELETE` unsets.
pub fn plan_service_account(id: &PlanId) -> String {
    format!("{}/serviceaccount", plan(id))
}

/// `GET` answers when no Run of the Plan is under way; not on an original server.
pub fn plan_wait(id: &PlanId) -> String {
    format!("{}/wait", plan(id))
}

/// `GET` streams the Plans around it ([`crate::graph::PlanLine`]), with `upstream`, `downstream` and `depth=`; not on
/// an original server.
pub fn plan_graph(id: &PlanId) -> String {
    format!("{}/graph", plan(id))
}

/// `GET` shows, `DELETE` removes.
pub fn run(id: &RunId) -> String {
    format!("{RUNS}/{}", segment(id.as_str()))
}

/// `GET` streams the log; the bare query `follow` keeps streaming until the end.
pub fn run_log(id: &RunId) -> String {
    format!("{}/log", run(id))
}

/// `PUT`: fail it.
pub fn run_abort(id: &RunId) -> String {
    format!("{}/abort", run(id))
}

/// `PUT`: stop it and keep what it has made as its result.
pub fn run_tearoff(id: &RunId) -> String {
    format!("{}/tearoff", run(id))
}

/// `PUT`: execute it again.
pub fn run_retry(id: &RunId) -> String {
    format!("{}/retry", run(id))
}

/// `GET` answers when the Run is over, with `until=started` when its work has begun; not on an original server.
pub fn run_wait(id: &RunId) -> String {
    format!("{}/wait", run(id))
}

/// `GET` tells what is so of the Run, and why; not on an original server.
pub fn run_why(id: &RunId) -> String {
    format!("{}/why", run(id))
}

/// `GET` with `of=rm` or `of=retry` tells what that would come to; not on an original server.
pub fn run_impact(id: &RunId) -> String {
    format!("{}/impact", run(id))
}

/// `GET` tells what fits the Plan's inputs and what nearly does; not on an original server.
pub fn plan_explain(id: &PlanId) -> String {
    format!("{}/explain", plan(id))
}

/// `GET` tells which inputs the Data fits, and which it nearly does; not on an original server.
pub fn data_explain(id: &DataId) -> String {
    format!("{}/explain", data(id))
}

/// `GET` with `of=rm` tells what removing the Data would come to, `POST` of a change of tags what that would; not
/// on an original server.
pub fn data_impact(id: &DataId) -> String {
    format!("{}/impact", data(id))
}

/// `GET` with `prefix=` and `limit=`, for Plans also with `name=`; not on an original server.
pub fn candidates(kind: Kind) -> String {
    format!("/candidates/{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        assert_eq!(data(&DataId::new("a/b")), "/data/a%2Fb");
        assert_eq!(run_log(&RunId::new("..")), "/runs/%2E%2E/log");
    }

    #[test]
    fn a_path_keeps_its_slashes_and_any_byte_of_its_names() {
        assert_eq!(data_file(&DataId::new("d"), b"a b/\xff?#%.txt"), "/data/d/files/a%20b/%FF%3F%23%25.txt");
    }
}

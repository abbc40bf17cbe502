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
/// `GET` searches, `POST` uploads.
pub const DATA: &str = "/data";
/// `GET` searches, `POST` registers.
pub const PLANS: &str = "/plans";
/// `GET` searches.
pub const RUNS: &str = "/runs";

/// The original's archive of a folder: gzipped tar, regular files and symlinks only.
pub const TAR_GZ: &str = "application/tar+gzip";
/// Our own form of a folder: tar with directories, links, modes and a closing root digest.
pub const BUNDLE: &str = "application/vnd.knit.bundle";
/// The same, compressed with zstd.
pub const BUNDLE_ZSTD: &str = "application/vnd.knit.bundle+zstd";
/// Trailer that carries the MD5 of a `tar.gz` body in lower-case hex.
pub const CHECKSUM_MD5: &str = "x-checksum-md5";

/// One path segment, percent-encoded.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && text != "." && text != "..") {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `GET` downloads, `PUT` changes tags.
pub fn data(id: &DataId) -> String {
    format!("{DATA}/{}", segment(id.as_str()))
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
}

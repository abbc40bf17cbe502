//! What this machine can: a test that needs more is skipped with one loud line, which `tests/run` counts. All
//! crates' tests skip this way and no other.

use crate::cluster;
use std::io::Write as _;
use std::path::PathBuf;

/// Needs the rights of root.
pub const ROOT: &str = "root";
/// Needs Debian's static busybox, of which the images of the stories are made.
pub const BUSYBOX: &str = "busybox";
/// Needs to see the disk and the processes of whatever executes Runs.
pub const NODE: &str = "the cluster's node";
/// Needs Runs to execute on a cluster.
pub const CLUSTER: &str = "a cluster";
/// Needs a cluster whose node and API server are the tests' own, to be changed and stopped.
pub const OWN_CLUSTER: &str = "a cluster of the tests' own";

/// True when this machine has everything that is named: one of the constants above, or a program on PATH. Otherwise says
/// on stderr, past the capture of the test's output, which test is skipped and why.
pub fn able(needs: &[&str]) -> bool {
    let missing: Vec<&str> = needs.iter().copied().filter(|need| !has(need)).collect();
    if missing.is_empty() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a_test").to_owned();
    skipped(&test, &format!("this machine lacks {}", missing.join(", ")));
    false
}

/// Says on stderr, past the capture of the test's output, what is not tried and why, in the form that
/// `tests/run` counts. `what` is one word.
pub fn skipped(what: &str, why: &str) {
    // A stderr that is gone is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "\nSKIPPED {what}: {why}");
}

/// Whether this machine has what is named.
pub fn has(need: &str) -> bool {
    match need {
        ROOT => rustix::process::geteuid().is_root(),
        CLUSTER => cluster::chosen(),
        OWN_CLUSTER => cluster::is_own(),
        NODE => !cluster::chosen() || cluster::node_is_here(),
        program => find(program).is_some(),
    }
}

/// A program on PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// True when stories are to run whole (`tests/run --long`), not shortened.
pub fn long() -> bool {
    std::env::var_os("KNIT_TESTS_LONG").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_apart_from_what_is_there() {
        assert!(able(&["sh"]));
        assert!(!has("a-program-that-nobody-has"));
        assert!(find("sh").is_some());
    }
}

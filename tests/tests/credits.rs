//! What `knit license` says of the crates in it.

use std::path::Path;
use std::process::Command;

#[test]
fn the_credits_name_every_crate_in_its_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let checked = Command::new(root.join("tests/credits")).arg("--check").output().expect("tests/credits runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

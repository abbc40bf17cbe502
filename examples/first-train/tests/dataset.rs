//! The dataset as `run` pushes it, and the digest by which `run` finds it again.

use knit_api::bundle::{Form, PackOptions, pack};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

#[test]
fn the_recorded_digest_is_the_one_that_knit_gives_to_the_dataset() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recorded = fs::read_to_string(example.join("dataset.digest")).unwrap();

    // Modes are part of a digest, so `run` pushes a copy with fixed ones.
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(example.join("dataset")).unwrap() {
        let entry = entry.unwrap();
        let target = copy.path().join(entry.file_name());
        fs::copy(entry.path(), &target).unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
    }
    let packed = pack(copy.path(), Form::Bundle, io::sink(), &PackOptions::default(), &mut ()).unwrap();
    assert_eq!(recorded.trim_end(), packed.digest.unwrap().to_string());
}

//! The two programs as a container runs them, on the dataset that is in the repository.

use std::path::Path;
use std::process::{Command, Output};

/// Runs a program with `--NAME VALUE` for each of `flags`.
fn run(program: &str, flags: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(program);
    for (name, value) in flags {
        command.arg(format!("--{name}")).arg(value);
    }
    command.output().expect("the program was built beside this test")
}

fn train(dataset: &Path, model: &Path) -> Output {
    run(env!("CARGO_BIN_EXE_train"), &[("dataset", dataset), ("model", model)])
}

fn validate(dataset: &Path, model: &Path, metrics: &Path) -> Output {
    run(env!("CARGO_BIN_EXE_validate"), &[("dataset", dataset), ("model", model), ("metrics", metrics)])
}

fn dataset() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dataset"))
}

#[test]
fn the_trained_model_recognises_more_than_93_of_100_unseen_digits() {
    let folder = tempfile::tempdir().unwrap();
    let trained = train(dataset(), folder.path());
    assert!(trained.status.success(), "{trained:?}");
    let log = String::from_utf8(trained.stdout).unwrap();
    assert!(log.contains("1352 images in ") && log.contains("\nepoch  30 of 30: loss 0."), "{log}");

    let validated = validate(dataset(), folder.path(), folder.path());
    assert!(validated.status.success(), "{validated:?}");
    let metrics = std::fs::read_to_string(folder.path().join("metrics.json")).unwrap();
    let (_, rest) = metrics.split_once("\"accuracy\": ").unwrap();
    let accuracy: f64 = rest.split_once(',').unwrap().0.parse().unwrap();
    assert!(accuracy > 0.93, "{metrics}");
    assert!(metrics.contains("\"images\": 445"), "{metrics}");
}

#[test]
fn two_trainings_write_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = |folder: &Path| {
        assert!(train(dataset(), folder).status.success());
        std::fs::read(folder.join("model.txt")).unwrap()
    };
    assert_eq!(model(first.path()), model(second.path()));
}

#[test]
fn a_malformed_line_ends_the_training_with_its_number_and_without_a_model() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("train.csv"), "1,2,3\n").unwrap();
    let output = train(folder.path(), folder.path());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("train: ") && said.contains("train.csv, line 1: has 3 fields"), "{said}");
    assert!(!folder.path().join("model.txt").exists());
}

#[test]
fn a_missing_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = validate(dataset(), folder.path(), folder.path());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("validate: cannot read ") && said.contains("model.txt"), "{said}");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let output = run(env!("CARGO_BIN_EXE_train"), &[("datset", dataset())]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("unknown argument \"--datset\""));
}

//! The main line: a dataset is pushed, two Plans are applied, their Runs follow each other by
//! themselves, and what came out can be pulled and traced.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::world::tree;
use knit_tests::{Step, World, able, embedded_only};
use std::fs;

/// Trains: counts the words of the dataset.
fn train(image: &str) -> Step {
    let script =
        "echo training; cat /in/dataset/words.txt | wc -w > /out/model/weights; ls -l /in/dataset; echo trained >&2";
    Step::new(image, script)
        .input("/in/dataset", &["project:digits", "mode:training"])
        .output("/out/model", &["project:digits", "type:model"])
        .log(&["project:digits", "type:log"])
}

/// Validates: says how good the model is.
fn validate(image: &str) -> Step {
    let script = "echo accuracy=$(cat /in/model/weights)/$(cat /in/dataset/expected) > /out/metrics/accuracy.txt";
    Step::new(image, script)
        .input("/in/dataset", &["project:digits", "mode:test"])
        .input("/in/model", &["project:digits", "type:model"])
        .output("/out/metrics", &["project:digits", "type:metrics"])
}

#[test]
fn from_push_to_pull_through_two_runs_in_sequence() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let training =
        world.folder("training", &[("words.txt", b"one two three four\n"), ("deep/er/x", b""), ("empty/", b"")]);
    let test = world.folder("test", &[("expected", b"4\n")]);

    let dataset = world.push(&training, &["project:digits", "mode:training"]);
    let train = world.apply(&train(&image));
    let validate = world.apply(&validate(&image));
    world.all_done(&train);
    let expected = world.push(&test, &["project:digits", "mode:test"]);
    world.all_done(&validate);

    let run = world.run_of(&world.the_run_of(&train));
    assert_eq!(run["inputs"][0]["knitId"], dataset.as_str());
    assert_eq!(run["exit"]["code"], 0);
    assert!(run["imageDigest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{run:#}");
    let log = world.log_of(run["runId"].as_str().expect("an id"));
    assert!(log.contains("training\n") && log.contains("trained\n") && log.contains("words.txt"), "{log}");

    let model = world.the_data(&["project:digits", "type:model"]);
    assert_eq!(fs::read_to_string(world.pull(&model).join("weights")).expect("the model"), "4\n");
    let metrics = world.the_data(&["type:metrics"]);
    assert_eq!(fs::read_to_string(world.pull(&metrics).join("accuracy.txt")).expect("the metrics"), "accuracy=4/4\n");

    let lineage = world.knit(&["data", "lineage", &metrics]).ok().text();
    for node in [&dataset, &expected, &model, &metrics, &world.the_run_of(&train), &world.the_run_of(&validate)] {
        assert!(lineage.contains(node.as_str()), "{node} is missing in the lineage:\n{lineage}");
    }
    assert!(lineage.trim_start().starts_with("digraph"), "{lineage}");
    world.nothing_executes();
    world.no_volume_is_left_over();
}

#[test]
fn what_is_pulled_is_what_was_pushed() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let name = "not ascii \u{e4}\u{1f600}";
    let folder = world.folder(
        "all-sorts",
        &[("a", b"x"), ("sub/b", &vec![0_u8; 70_000]), ("empty/", b""), (name, b"named"), ("sub/deeper/c", b"")],
    );
    std::os::unix::fs::symlink("sub/b", folder.join("link")).expect("a link");
    std::os::unix::fs::symlink("/nowhere/at all", folder.join("dangling")).expect("a link");
    let script = folder.join("script");
    fs::write(&script, "#!/bin/sh\n").expect("a file");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
    let data = world.push(&folder, &["a:b"]);
    assert_eq!(tree(&world.pull(&data)), tree(&folder));
    let again = world.push(&folder, &["a:c"]);
    let digest = |id: &str| world.find_data(&[&format!("knit#id:{id}")])[0]["digest"].clone();
    assert!(digest(&data).is_string());
    assert_eq!(digest(&data), digest(&again), "equal folders have equal digests");
}

#[test]
fn each_new_combination_becomes_one_run_and_only_one() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let step = Step::new(&image, "cat /in/a/n /in/b/n > /out/n")
        .input("/in/a", &["side:a"])
        .input("/in/b", &["side:b"])
        .output("/out", &["side:out"]);
    let plan = world.apply(&step);
    for (number, side) in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "b")] {
        world.push(&world.folder(number, &[("n", number.as_bytes())]), &[&format!("side:{side}")]);
    }
    world.all_done(&plan);
    let results = world.find_data(&["side:out"]);
    let mut contents: Vec<String> = results
        .iter()
        .map(|data| world.pull(data["knitId"].as_str().expect("an id")))
        .map(|folder| fs::read_to_string(folder.join("n")).expect("the output"))
        .collect();
    contents.sort();
    assert_eq!(contents, ["13", "14", "23", "24"]);
}

#[test]
fn what_one_user_wrote_for_itself_alone_the_user_of_the_next_step_can_read() {
    if embedded_only("a cluster has no mounts that map users: files keep their owners") || !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = |user: &str| {
        let name = format!("story/user-{user}:v1");
        world.pack(&name, &["--entrypoint", "/bin/sh", "--user", user]).ok();
        name
    };
    let private = "umask 077; mkdir /out/deep && echo secret > /out/deep/file && chmod 600 /out/deep/file";
    let read = "[ $(id -u) = $UID_WANTED ] && cat /in/deep/file";
    let read_as = |user: &str| read.replace("$UID_WANTED", user);
    let plans = [
        Step::new(&image("1000"), private).input("/in", &["step:0"]).output("/out", &["step:1"]),
        Step::new(&image("2000"), &format!("{} && {private} && cp -r /in/deep /out/copy", read_as("2000")))
            .input("/in", &["step:1"])
            .output("/out", &["step:2"]),
        Step::new(&image("0"), &format!("{} && cat /in/copy/file > /out/file", read_as("0")))
            .input("/in", &["step:2"])
            .output("/out", &["step:3"]),
    ]
    .map(|step| world.apply(&step));
    world.push(&world.folder("x", &[("x", b"x")]), &["step:0"]);
    for plan in plans {
        world.all_done(&plan);
    }
    let pulled = world.pull(&world.the_data(&["step:3"]));
    assert_eq!(fs::read_to_string(pulled.join("file")).expect("the output"), "secret\n");
}

#[test]
fn an_equal_plan_is_not_registered_twice() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let step = Step::new("story/none:v1", "true").input("/in", &["a:b"]).output("/out", &["c:d"]);
    let plan = world.apply(&step);
    let again = world.try_apply(&step.yaml(), &[]).code(6);
    assert_eq!(again.json()["planId"], plan.as_str(), "the Plan that is there is shown: {again}");
    world.try_apply(&step.yaml(), &["--if-absent"]).ok();
    assert_eq!(world.plans().len(), 1);
}

#[test]
fn a_plan_that_is_switched_off_runs_when_it_is_switched_on() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let step = Step::new(&image, "true").input("/in", &["a:b"]).set("active", false.into());
    let plan = world.apply(&step);
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    world.knit(&["plan", "active", "yes", &plan]).ok();
    world.all_done(&plan);
    world.the_run_of(&plan);
}

#[test]
fn a_log_is_followed_while_it_is_written() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    // It never ends by itself, so what is read is read while the Run is under way.
    let step = Step::new(&image, "echo begun; sleep 600; echo over").input("/in", &["a:b"]).log(&["type:log"]);
    let plan = world.apply(&step);
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    let mut log = world.follow_log(&run);
    log.until("begun");
    let status = world.run_of(&run)["status"].clone();
    assert!(status == "starting" || status == "running", "{status}");
    world.knit(&["run", "stop", &run]).ok();
    let (text, code) = log.finish();
    assert_eq!((String::from_utf8_lossy(&text).as_ref(), code), ("begun\n", Some(0)));
    world.all_done(&plan);
    world.nothing_executes();
}

#[test]
fn a_run_is_stopped_retried_and_removed() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let step = Step::new(&image, "echo begun; sleep 600").input("/in", &["a:b"]).output("/out", &["c:d"]).log(&["e:f"]);
    let plan = world.apply(&step);
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    world.follow_log(&run).until("begun");
    world.knit(&["run", "stop", "--fail", &run]).ok();
    let failed = world.failed_run_of(&plan);
    assert_eq!(failed["exit"]["code"], 253, "{failed:#}");
    world.nothing_executes();
    world.knit(&["run", "retry", &run]).ok();
    world.follow_log(&run).until("begun");
    world.knit(&["run", "stop", "--fail", &run]).ok();
    world.failed_run_of(&plan);
    world.knit(&["run", "rm", &run]).ok();
    // Kept only so that the same combination is not run again.
    let removed = world.run_of(&run);
    assert_eq!(
        (&removed["status"], &removed["outputs"][0]["knitId"]),
        (&"invalidated".into(), &"".into()),
        "{removed:#}"
    );
    assert!(world.find_data(&["c:d"]).is_empty());
    world.no_volume_is_left_over();
}

//! What somebody or something does to a cluster while Knit works on it: Pods and Jobs deleted, nodes closed, servers
//! stopped, and Plans that ask for what is not there. Each Run ends or waits in its true state and says why, and
//! nothing is left of what did not come about.

use knit_tests::able::{BUSYBOX, CLUSTER, NODE, OWN_CLUSTER, ROOT};
use knit_tests::cluster::{Cluster, NodeChange, Outage};
use knit_tests::ran::Following;
use knit_tests::{Step, World, able, postgres};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How long what follows by itself may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Long enough that a story can end it while it travels; a hole takes no room at its source.
const ENDLESS: u64 = 16 << 30;
/// More than what waits between a Data's volume and whoever pulls it.
const LONG: u64 = 256 << 20;
/// A key of labels and taints that nobody else has.
const KEY: &str = "knit-tests/kept-for";
/// What a Run that is lost ends with.
const LOST: u8 = 254;
/// What a Run that never started ends with.
const NOT_STARTED: u8 = 255;

/// Held for writing by stories that close the only node or stop the API server: all others would wait for them.
static CLUSTER_IS_AS_USUAL: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    CLUSTER_IS_AS_USUAL.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    CLUSTER_IS_AS_USUAL.write().unwrap_or_else(PoisonError::into_inner)
}

/// Where the Runs of this world execute.
fn cluster(world: &World) -> &Cluster {
    world.cluster().expect("these stories run on a cluster alone")
}

/// A world in which something can be started, and its image.
fn world_with_input(flags: &[&str]) -> (World, String) {
    let mut world = World::new();
    world.serve_with(flags);
    world.up(&[]).ok();
    let image = world.busybox();
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    (world, image)
}

/// A program that ends when it is let go.
const HELD: &str = "echo begun; until [ -e /in/go ]; do sleep 0.1; done; echo x >/out/x; echo ended";

/// Lets programs that are [`HELD`] end, past everything that may be stopped.
fn let_go(input: &Path) {
    fs::write(input.join("go"), "").expect("root writes anywhere");
}

/// A step with everything that a worker can have.
fn step(image: &str, script: &str) -> Step {
    Step::new(image, script).input("/in", &["a:b"]).output("/out", &["c:d"]).log(&["e:f"])
}

/// Waits until this is so, looking again and again: nothing announces it.
#[track_caller]
fn until(world: &World, what: &str, mut so: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < limit, "{what} does not happen\n{}", world.log_tail());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What `knit run why` tells first.
#[track_caller]
fn why(world: &World, run: &str) -> (String, String) {
    let told = world.knit(&["run", "why", run]).ok().json();
    let cause = &told["causes"][0];
    let text = |member: &str| cause[member].as_str().unwrap_or_else(|| panic!("no {member}: {told:#}")).to_owned();
    (text("code"), text("text"))
}

/// Claims what `knit run why` tells first.
#[track_caller]
fn says(world: &World, run: &str, code: &str, words: &[&str]) {
    let (told, text) = why(world, run);
    assert!(told == code && words.iter().all(|word| text.contains(word)), "{code} {words:?} expected: {told}: {text}");
}

/// Waits until `knit run why` tells this first.
#[track_caller]
fn comes_to_say(world: &World, run: &str, code: &str, words: &[&str]) {
    let limit = Instant::now() + PATIENCE;
    loop {
        let (told, text) = why(world, run);
        if told == code && words.iter().all(|word| text.contains(word)) {
            return;
        }
        assert!(Instant::now() < limit, "{code} {words:?} expected: {told}: {text}\n{}", world.log_tail());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Claims that the Plan's only Run fails so, and that `knit run why` tells why.
#[track_caller]
fn fails(world: &World, plan: &str, exit: u8, code: &str, words: &[&str]) {
    let shown = world.failed_run_of(plan);
    assert_eq!(shown["exit"]["code"], exit, "{shown:#}");
    says(world, &world.the_run_of(plan), code, words);
}

/// The Plan's Run once its program has begun.
#[track_caller]
fn begun(world: &World, plan: &str) -> String {
    let run = world.the_run_once_it_is_there(plan);
    world.follow_log(&run).until("begun");
    run
}

/// Names of agents that may write.
fn writers(world: &World) -> Vec<String> {
    cluster(world).names("pods").into_iter().filter(|name| name.contains("-write-")).collect()
}

/// Claims that there is no Pod, no Job and no claim but those of Data, and of agents that are kept for the next reader.
#[track_caller]
fn nothing_is_left_over(world: &World) {
    world.nothing_executes();
    let gone = cluster(world).gone("pods", |name| name.contains("-write-"));
    gone.unwrap_or_else(|stays| panic!("{stays:?} still write\n{}", world.log_tail()));
    world.no_volume_is_left_over();
}

#[test]
fn a_worker_whose_pod_or_job_somebody_deletes_is_lost_and_its_run_can_be_retried() {
    if !able(&[CLUSTER, ROOT, BUSYBOX]) {
        return;
    }
    let _cluster = beside_others();
    let (world, image) = world_with_input(&[]);
    let cluster = cluster(&world);
    let plan = |name: &str| world.apply(&step(&image, &format!("echo begun; sleep 600 # {name}")));
    let [pod, pod_at_once, job, job_alone] = ["pod", "pod at once", "job", "job alone"].map(plan);
    let pod_of = |plan: &str| {
        let worker = format!("worker-run-{}-", begun(&world, plan));
        let names = cluster.names("pods");
        names.into_iter().find(|name| name.starts_with(&worker)).expect("a Run that runs has a Pod")
    };
    cluster.kubectl(&["delete", "--wait=false", "pod", &pod_of(&pod)]);
    cluster.kubectl(&["delete", "--wait=false", "--force", "--grace-period=0", "pod", &pod_of(&pod_at_once)]);
    for (plan, cascade) in [(&job, "--cascade=background"), (&job_alone, "--cascade=orphan")] {
        let worker = format!("worker-run-{}", begun(&world, plan));
        cluster.kubectl(&["delete", "--wait=false", cascade, "job", &worker]);
    }
    fails(&world, &pod, LOST, "worker-lost", &["was deleted", "retry it"]);
    fails(&world, &pod_at_once, LOST, "worker-lost", &["deleted", "retry it"]);
    fails(&world, &job, LOST, "worker-lost", &[]);
    fails(&world, &job_alone, LOST, "worker-lost", &[]);
    nothing_is_left_over(&world);
    for plan in [&pod, &pod_at_once, &job, &job_alone] {
        assert_eq!(world.log_of(&world.the_run_of(plan)), "begun\n", "what it said until then is kept");
    }
    // What is left of a lost worker is in nobody's way.
    for plan in [&pod, &job_alone] {
        let run = world.the_run_of(plan);
        world.knit(&["run", "retry", &run]).ok();
        assert_eq!(begun(&world, plan), run);
        world.knit(&["run", "stop", "--fail", &run]).ok();
        world.failed_run_of(plan);
    }
    nothing_is_left_over(&world);
}

#[test]
fn a_worker_that_lacks_something_names_what_it_lacks() {
    if !able(&[CLUSTER, ROOT, BUSYBOX]) {
        return;
    }
    let _cluster = beside_others();
    let (world, image) = world_with_input(&["--start-grace", "30s"]);
    let missing = world.apply(&step("story/not-there:v1", "true"));
    let unreachable = world.apply(&step("127.0.0.1:9/not-there:v1", "true"));
    let nobody = world.apply(&step(&image, "true # account").set("service_account", json!("nobody")));
    let hungry = step(&image, "echo begun; awk 'BEGIN { s = \"x\"; while (1) s = s s }'");
    let hungry = world.apply(&hungry.set("resources", json!({"memory": "32Mi", "cpu": "100m"})));
    let giant = world.apply(&step(&image, "true # giant").set("resources", json!({"memory": "64Mi", "cpu": "4096"})));
    let special = json!({"memory": "64Mi", "cpu": "100m", "knit-tests/chip": "1"});
    let special = world.apply(&step(&image, "true # special").set("resources", special));

    fails(&world, &missing, NOT_STARTED, "image-not-found", &["story/not-there:v1"]);
    fails(&world, &unreachable, NOT_STARTED, "image-unreachable", &["127.0.0.1:9/not-there:v1", "refused"]);
    fails(&world, &nobody, NOT_STARTED, "not-started", &["service account nobody is not there"]);
    fails(&world, &hungry, 137, "out-of-memory", &["32Mi"]);
    for (plan, lacks) in [(&giant, "cpu"), (&special, "knit-tests/chip")] {
        let run = world.the_run_once_it_is_there(plan);
        comes_to_say(&world, &run, "never-fits", &[lacks]);
        world.knit(&["run", "stop", "--fail", &run]).ok();
        fails(&world, plan, 253, "aborted-by-user", &[]);
    }
    nothing_is_left_over(&world);
}

#[test]
fn a_push_whose_agent_is_killed_says_so_and_leaves_nothing() {
    if !able(&[CLUSTER, NODE, ROOT]) {
        return;
    }
    let _cluster = beside_others();
    let world = World::start();
    let folder = world.folder("long", &[]);
    File::create(folder.join("long")).and_then(|file| file.set_len(ENDLESS)).expect("a hole takes no room");
    let push = world.follow(&["data", "push", "-t", "a:b", folder.to_str().expect("UTF-8")]);
    until(&world, "the push", || world.unfinished().iter().any(|volume| holds_something(volume)));
    kill(&world, &writers(&world));
    let (said, code) = push.finish_with_stderr();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot push"), "{said}");
    assert!(world.find_data(&["a:b"]).is_empty(), "nothing of it is registered");
    nothing_is_left_over(&world);
    // Another one finds everything in order.
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
}

#[test]
fn a_pull_whose_agent_is_killed_says_so_and_leaves_nothing() {
    if !able(&[CLUSTER, ROOT]) {
        return;
    }
    let _cluster = beside_others();
    let world = World::start();
    let folder = world.folder("long", &[]);
    File::create(folder.join("long")).and_then(|file| file.set_len(LONG)).expect("a hole takes no room");
    let data = world.push(&folder, &["a:b"]);
    let into = world.base().join("into");
    let pull = world.follow(&["data", "pull", "-x", &data, into.to_str().expect("UTF-8")]);
    until(&world, "the pull", || holds_something(&into));
    // It takes nothing while its agent is killed, so that it is in the middle.
    pull.signal(Signal::STOP);
    let agents = cluster(&world).names("pods").into_iter().filter(|name| name.contains("-read-")).collect::<Vec<_>>();
    kill(&world, &agents);
    let (said, code) = continued(pull);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot pull"), "{said}");
    assert_eq!(fs::read_dir(&into).map_or(0, Iterator::count), 0, "nothing half stays in the destination");
    assert_eq!(fs::metadata(world.pull(&data).join("long")).expect("it is there").len(), LONG);
    nothing_is_left_over(&world);
}

fn continued(stopped: Following) -> (String, Option<i32>) {
    stopped.signal(Signal::CONT);
    stopped.finish_with_stderr()
}

/// Ends these Pods, and waits until nothing of them is left.
#[track_caller]
fn kill(world: &World, pods: &[String]) {
    assert!(!pods.is_empty(), "an agent is at work\n{}", world.log_tail());
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    cluster(world).kubectl(&[&["delete", "--grace-period=1", "pods"], &pods[..]].concat());
}

fn holds_something(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            fs::read_dir(path).into_iter().flatten().filter_map(Result::ok).any(|entry| holds_something(&entry.path()))
        }
        Ok(found) => found.len() > 0,
        Err(_) => false,
    }
}

#[test]
fn a_run_goes_on_while_its_database_is_away_and_its_end_is_known_afterwards() {
    if !able(&[CLUSTER, NODE, ROOT, BUSYBOX]) {
        return;
    }
    let Some(database) = postgres::own_server() else { return };
    let _cluster = beside_others();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let options = || File::options().write(true).truncate(true).mode(0o600).open(file.path());
    options().and_then(|mut file| writeln!(file, "{}", database.url("postgres"))).expect("room for a line");
    let (world, image) = world_with_input(&["--database-file", file.path().to_str().expect("UTF-8")]);
    let input = world.volume(&world.the_data(&["a:b"]));
    let plan = world.apply(&step(&image, HELD));
    let run = begun(&world, &plan);
    database.tell("stop");
    let asked = world.knit(&["run", "show", &run]);
    assert_ne!(asked.code, Some(0), "{asked}");
    let pushed = world.try_push(&world.folder("y", &[("y", b"y")]), &["y:y"]);
    assert_ne!(pushed.code, Some(0), "{pushed}");
    let_go(&input);
    until(&world, "the end of the program", || cluster(&world).objects("pods").iter().any(main_has_ended));
    database.tell("start");
    world.all_done(&plan);
    assert_eq!(world.the_run_of(&plan), run, "it is the same Run");
    assert_eq!(world.log_of(&run), "begun\nended\n", "the log is complete");
    assert!(world.find_data(&["y:y"]).is_empty(), "what was not acknowledged is not there");
    nothing_is_left_over(&world);
}

fn main_has_ended(pod: &Value) -> bool {
    let containers = pod["status"]["containerStatuses"].as_array();
    containers.into_iter().flatten().any(|one| one["name"] == "main" && !one["state"]["terminated"].is_null())
}

#[test]
fn a_node_that_is_kept_for_some_takes_those_that_may_prefer_or_must_and_no_other() {
    if !able(&[OWN_CLUSTER, ROOT, BUSYBOX]) {
        return;
    }
    let _cluster = alone();
    let (world, image) = world_with_input(&[]);
    let kept_for = |value: &str| format!("{KEY}={value}");
    let plan = |word: &str, value: &str| {
        let script = format!("echo x >/out/x # {word} {value}");
        world.apply(&step(&image, &script).set("on_node", json!({word: [kept_for(value)]})))
    };
    let label = NodeChange::label(KEY, "us");
    let taint = NodeChange::taint(KEY, "us");
    for word in ["may", "prefer", "must"] {
        let plan = plan(word, "us");
        world.the_run_once_it_is_there(&plan);
        world.all_done(&plan);
    }
    let without = world.apply(&step(&image, "echo x >/out/x"));
    let other = plan("may", "others");
    for plan in [&without, &other] {
        let run = world.the_run_once_it_is_there(plan);
        comes_to_say(&world, &run, "no-room", &["kept for Plans that name knit-tests/kept-for=us in on_node"]);
    }
    drop(taint);
    for plan in [&without, &other] {
        world.all_done(plan);
    }
    // Without the taint it is the label alone that counts, and only for those who insist.
    drop(label);
    let preferring = plan("prefer", "others");
    world.the_run_once_it_is_there(&preferring);
    world.all_done(&preferring);
    let insisting = plan("must", "others");
    let run = world.the_run_once_it_is_there(&insisting);
    comes_to_say(
        &world,
        &run,
        "no-room",
        &["labels that on_node.must of the Plan names", "knit-tests/kept-for=others"],
    );
    let label = NodeChange::label(KEY, "others");
    world.all_done(&insisting);
    drop(label);
    nothing_is_left_over(&world);
}

#[test]
fn a_run_waits_for_a_node_that_is_closed_and_goes_on_when_it_is_open() {
    if !able(&[OWN_CLUSTER, ROOT, BUSYBOX]) {
        return;
    }
    let _cluster = alone();
    let (world, image) = world_with_input(&[]);
    let input = world.volume(&world.the_data(&["a:b"]));
    let running = world.apply(&step(&image, HELD));
    begun(&world, &running);
    let closed = NodeChange::cordon();
    let waiting = world.apply(&step(&image, "echo y >/out/y"));
    let run = world.the_run_once_it_is_there(&waiting);
    comes_to_say(&world, &run, "no-room", &["closed to new work (cordoned)"]);
    // What is on it already goes on.
    let_go(&input);
    world.all_done(&running);
    drop(closed);
    world.all_done(&waiting);
    nothing_is_left_over(&world);
}

#[test]
fn what_is_under_way_outlasts_an_api_server_that_is_away() {
    if !able(&[OWN_CLUSTER, ROOT, BUSYBOX]) {
        return;
    }
    let _cluster = alone();
    let (world, image) = world_with_input(&[]);
    let input = world.volume(&world.the_data(&["a:b"]));
    let running = world.apply(&step(&image, HELD));
    let run = begun(&world, &running);
    let outage = Outage::begin(Duration::from_secs(20));
    let_go(&input);
    let later = world.apply(&step(&image, "echo y >/out/y"));
    let waiting = world.the_run_once_it_is_there(&later);
    let push = world.follow(&["data", "push", "-t", "y:y", world.folder("y", &[("y", b"y")]).to_str().expect("UTF-8")]);
    std::thread::sleep(Duration::from_secs(10));
    outage.end();
    let (said, code) = push.finish_with_stderr();
    assert!(code == Some(0) || said.contains("cannot push"), "{said}");
    assert_eq!(world.find_data(&["y:y"]).len(), usize::from(code == Some(0)), "what is said of the push is true");
    world.all_done(&running);
    world.all_done(&later);
    assert_eq!((world.the_run_of(&running), world.the_run_of(&later)), (run.clone(), waiting));
    assert_eq!(world.log_of(&run), "begun\nended\n");
    nothing_is_left_over(&world);
}

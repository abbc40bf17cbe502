//! Any process may be killed at any instruction: what was acknowledged stays, what was not leaves
//! nothing, no Run is lost or made twice.

use knit_tests::able::{BUSYBOX, ROOT, long};
use knit_tests::world::{is_transient, tree};
use knit_tests::{Chance, Step, World, able, processes};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

/// Every place on the way of a push where the server may be killed, in the order in which they are passed.
const PUSH_POINTS: [&str; 8] = [
    "push-begin",
    "receive-begin",
    "receive-unpacked",
    "receive-synced",
    "receive-manifest",
    "receive-renamed",
    "push-received",
    "push-registered",
];

/// Prints its lines slowly enough to be interrupted, then ends with 7.
const SLOW: &str = "echo begun; i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; exit 7";

fn slow_run(world: &World) -> (String, String) {
    let image = world.busybox();
    let plan = world.apply(&Step::new(&image, SLOW).input("/in", &["a:b"]).output("/out", &["c:d"]).log(&["e:f"]));
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    world.follow_log(&run).until("begun");
    (plan, run)
}

fn ended_truly(world: &World, plan: &str, run: &str) {
    let shown = world.failed_run_of(plan);
    assert_eq!(shown["runId"], run, "it is the same Run");
    assert_eq!(shown["exit"]["code"], 7, "{shown:#}\n{}", world.log_tail());
    let expected: String =
        std::iter::once("begun\n".to_owned()).chain((0..30).map(|i| format!("line {i}\n"))).collect();
    assert_eq!(world.log_of(run), expected, "the log is complete");
    world.nothing_executes();
}

#[test]
fn a_container_outlives_its_server_and_is_adopted() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let (plan, run) = slow_run(&world);
    world.crash_and_restart();
    let mut log = world.follow_log(&run);
    log.until("line 29");
    ended_truly(&world, &plan, &run);
}

#[test]
fn a_container_that_ends_while_no_server_runs_is_still_known() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let (plan, run) = slow_run(&world);
    world.kill_server();
    for process in processes::shims(world.dir()).iter().chain(&processes::contained(world.dir())) {
        assert!(process.wait(Duration::from_mins(1)), "process {} does not end by itself", process.pid);
    }
    world.up(&[]).ok();
    ended_truly(&world, &plan, &run);
}

#[test]
fn a_killed_shim_ends_the_run_and_its_container() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let plan = world.apply(&Step::new(&image, "echo begun; sleep 600").input("/in", &["a:b"]).log(&["e:f"]));
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    world.follow_log(&run).until("begun");
    let shims = processes::shims(world.dir());
    assert!(!shims.is_empty(), "a Run has a shim");
    assert!(!processes::contained(world.dir()).is_empty(), "a Run has a container");
    shims.iter().for_each(processes::Process::kill);
    let shown = world.failed_run_of(&plan);
    assert_eq!(shown["exit"]["code"], 254, "{shown:#}");
    assert!(shown["exit"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{shown:#}");
    world.nothing_executes();
    assert_eq!(world.log_of(&run), "begun\n");
}

#[test]
fn a_push_that_the_server_does_not_survive_leaves_nothing_half() {
    if !able(&[ROOT]) {
        return;
    }
    let mut world = World::start();
    let folder = world.folder("kept", &[("a", b"alpha"), ("sub/b", &vec![7; 300_000])]);
    let kept = world.push(&folder, &["kept:yes"]);
    for point in PUSH_POINTS {
        world.down(&[]).ok();
        world.set_fail_points(&format!("{point}=panic"));
        world.up(&[]).ok();
        let server = world.server().expect("the server runs");
        let pushed = world.try_push(&folder, &[&format!("at:{point}")]);
        assert!(pushed.code.is_some_and(|code| code != 0), "{point}: nothing was acknowledged: {pushed}");
        world.wait_for_the_servers_end(&server);

        world.set_fail_points("");
        world.up(&[]).ok();
        for data in world.find_data(&[&format!("at:{point}")]) {
            assert!(!is_transient(&data), "{point}: half a Data is visible: {data:#}");
            let id = data["knitId"].as_str().expect("an id");
            assert_eq!(tree(&world.pull(id)), tree(&folder), "{point}: what is visible is whole");
        }
        assert_eq!(tree(&world.pull(&kept)), tree(&folder), "{point}: what was acknowledged stays");
        world.no_volume_is_left_over();
        world.push(&folder, &[&format!("after:{point}")]);
    }
}

#[test]
fn a_stop_that_the_server_does_not_survive_costs_no_run() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let mut world = World::new();
    world.set_fail_points("stop-put-back=panic");
    world.up(&[]).ok();
    let image = world.busybox();
    // Its first worker never ends by itself; what it leaves in the output would be seen by the second.
    let script = "test -e /in/go && test ! -e /out/mark && exit 0; touch /out/mark; echo begun; sleep 600";
    let plan = world.apply(&Step::new(&image, script).input("/in", &["a:b"]).output("/out", &["c:d"]).log(&["e:f"]));
    let data = world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    world.follow_log(&run).until("begun");
    let server = world.server().expect("the server runs");
    world.knitctl(&["down", "--dir", world.dir().to_str().expect("UTF-8")]);
    world.wait_for_the_servers_end(&server);
    assert!(!processes::contained(world.dir()).is_empty(), "the stop was cut off before its worker ended");

    // The second one is let through.
    let input = world.dir().join("volumes").join(format!("data-knitid-{data}"));
    std::fs::write(input.join("go"), "").expect("root writes anywhere");
    world.set_fail_points("");
    world.up(&[]).ok();
    world.all_done(&plan);
    assert_eq!(world.the_run_of(&plan), run, "it is the same Run");
    world.nothing_executes();
}

#[test]
fn a_push_that_its_client_does_not_survive_leaves_nothing() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let folder = world.folder("endless", &[("a", b"alpha")]);
    // A request whose body breaks off: its connection is closed in the middle.
    let token = world.token().expect("a token is asked for by default");
    for part in [0, 1, 20] {
        let mut stream = TcpStream::connect(world.api()).expect("the server listens");
        let head = format!(
            "POST /api/data HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\
             Content-Type: application/tar+gzip\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("the server reads");
        stream.write_all(format!("{:x}\r\n", part + 100).as_bytes()).expect("the server reads");
        stream.write_all(&vec![0x1f; part]).expect("the server reads");
        drop(stream);
    }
    // Going down ends what the server may still be at.
    let data = world.push(&folder, &["a:b"]);
    world.down(&[]).ok();
    world.up(&[]).ok();
    assert_eq!(world.find_data(&[]).len(), 1);
    assert_eq!(tree(&world.pull(&data)), tree(&folder));
    world.no_volume_is_left_over();
}

#[test]
fn random_kills_lose_no_run_and_make_none_twice() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let (pushes, kills) = if long() { (150, 200) } else { (15, 10) };
    let mut chance = Chance::of("random_kills_lose_no_run_and_make_none_twice", 20_261_120);
    let world = World::start();
    let image = world.busybox();
    let first =
        world.apply(&Step::new(&image, "cp /in/n /out/n").input("/in", &["stage:0"]).output("/out", &["stage:1"]));
    let second =
        world.apply(&Step::new(&image, "cp /in/n /out/n").input("/in", &["stage:1"]).output("/out", &["stage:2"]));

    // Held while the server is down, so that a push that failed is repeated when there is a server again.
    let down = Mutex::new(());
    // Pushes are handed out kill by kill, so that there is work under way up to the last one.
    let (hand_out, pushes_to_do) = std::sync::mpsc::channel::<usize>();
    let acknowledged: BTreeSet<String> = std::thread::scope(|scope| {
        let (world, down) = (&world, &down);
        let pusher = scope.spawn(move || {
            let mut acknowledged = BTreeSet::new();
            for number in pushes_to_do {
                let folder = world.folder(&format!("n{number}"), &[("n", number.to_string().as_bytes())]);
                loop {
                    let pushed = world.try_push(&folder, &["stage:0"]);
                    if pushed.code == Some(0) {
                        let id = pushed.json()["knitId"].as_str().map(str::to_owned);
                        acknowledged.insert(id.expect("a push prints its id"));
                        break;
                    }
                    drop(down.lock());
                }
            }
            acknowledged
        });
        for kill in 0..kills {
            for number in pushes * kill / kills..pushes * (kill + 1) / kills {
                hand_out.send(number).expect("the pusher takes all");
            }
            // A moment that nobody has chosen.
            std::thread::sleep(Duration::from_millis(chance.below(400)));
            let held = down.lock();
            world.crash_and_restart();
            drop(held);
        }
        drop(hand_out);
        pusher.join().expect("the pusher does not panic")
    });

    world.all_done(&first);
    world.all_done(&second);
    let uploaded = ids(&world, "stage:0");
    assert!(acknowledged.is_subset(&uploaded), "what was acknowledged stays");
    // A push that was not acknowledged may be there all the same, but whole.
    assert_one_run_each(&world, &first, &uploaded);
    assert_one_run_each(&world, &second, &ids(&world, "stage:1"));
    assert_eq!(ids(&world, "stage:2").len(), uploaded.len());
    world.nothing_executes();
    world.no_volume_is_left_over();
}

fn ids(world: &World, tag: &str) -> BTreeSet<String> {
    world.find_data(&[tag]).iter().map(|data| data["knitId"].as_str().expect("an id").to_owned()).collect()
}

fn assert_one_run_each(world: &World, plan: &str, inputs: &BTreeSet<String>) {
    let mut used: Vec<String> = Vec::new();
    for run in world.runs_of(plan) {
        used.push(run["inputs"][0]["knitId"].as_str().expect("an input").to_owned());
    }
    used.sort();
    assert_eq!(used, inputs.iter().cloned().collect::<Vec<_>>(), "one Run for each input, and no second one");
}

//! Every role as processes of its own, killed again and again while Runs are made: none is lost, none is made twice,
//! and nothing is left behind on the cluster.

use knit_tests::able::{BUSYBOX, CLUSTER, long};
use knit_tests::replicas::Replicas;
use knit_tests::{Chance, Step, able};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Nothing happens for this long: something is stuck.
const STUCK: Duration = Duration::from_mins(4);
/// Longest pause between two kills, in milliseconds.
const PAUSE: u64 = 5_000;
/// What is given up is taken up soon, and what is left behind goes soon; what starts may take its time, as much does.
const FLAGS: [&str; 12] = [
    "--grace",
    "2s",
    "--lease",
    "10s",
    "--housekeeping",
    "5s",
    "--stray-grace",
    "20s",
    "--agent-idle",
    "5s",
    "--start-grace",
    "90s",
];

#[test]
fn servers_killed_at_random_lose_no_run_make_none_twice_and_leave_nothing_behind() {
    if !able(&[CLUSTER, BUSYBOX]) {
        return;
    }
    // As many Runs of each step as there are pairs.
    let (side, kills) = if long() { (10, 100) } else { (4, 15) };
    let mut chance = Chance::of("servers_killed_at_random", 20_261_120);
    let begun = Instant::now();
    let replicas = Replicas::start(&FLAGS);
    let before = Leftovers::of(&replicas);
    let rootfs = replicas.world().rootfs();
    replicas.knit(&["image", "pack", rootfs.to_str().expect("UTF-8"), "story/busybox:v1", "--entrypoint", "/bin/sh"]);
    let pair = Step::new("story/busybox:v1", "cat /a/n /b/n >/out/n")
        .input("/a", &["side:a"])
        .input("/b", &["side:b"])
        .output("/out", &["pair:yes"]);
    let copy = Step::new("story/busybox:v1", "cp /in/n /out/n; cat /in/n")
        .input("/in", &["pair:yes"])
        .output("/out", &["copy:yes"])
        .log(&["log:yes"]);
    let (pair, copy) = (apply(&replicas, &pair), apply(&replicas, &copy));
    let ready = begun.elapsed();

    let pushes: Vec<(char, usize)> = (0..side).flat_map(|number| [('a', number), ('b', number)]).collect();
    let acknowledged = kill_meanwhile(&replicas, &mut chance, kills, &pushes, [&pair, &copy]);
    let killed = begun.elapsed();
    let sides = ["side:a", "side:b"].map(|tag| replicas.data(tag));
    let pushed: BTreeSet<String> = sides.iter().flatten().cloned().collect();
    assert!(acknowledged.is_subset(&pushed), "what was acknowledged stays: {acknowledged:?} in {pushed:?}");
    let pairs = all_done(&replicas, &pair, sides[0].len() * sides[1].len());
    let copies = all_done(&replicas, &copy, pairs.len());
    let done = begun.elapsed();

    // A push that was not acknowledged may be there all the same, but whole.
    let wanted: Vec<[String; 2]> =
        sides[0].iter().flat_map(|a| sides[1].iter().map(|b| [a.clone(), b.clone()])).collect();
    let mut made: Vec<[String; 2]> =
        pairs.iter().map(|run| [id(&run["inputs"], "/a"), id(&run["inputs"], "/b")]).collect();
    made.sort();
    assert_eq!(made, wanted, "one Run for each pair, and no second one");
    let outputs: BTreeSet<String> = pairs.iter().map(|run| id(&run["outputs"], "/out")).collect();
    let copied: Vec<String> = copies.iter().map(|run| id(&run["inputs"], "/in")).collect();
    assert_eq!(copied.iter().cloned().collect::<BTreeSet<_>>(), outputs, "one Run for each output");
    assert_eq!(copied.len(), outputs.len(), "and no second one");
    assert_eq!(replicas.data("pair:yes"), outputs, "no output but those of the Runs");
    assert_eq!(replicas.data("copy:yes").len(), outputs.len());

    before.all_others_are_gone(&replicas);
    let tidy = begun.elapsed();
    let contents = Contents::of(&replicas);
    for run in &pairs {
        let both = ["/a", "/b"].map(|path| contents.text(&replicas, &id(&run["inputs"], path), "n"));
        assert_eq!(contents.text(&replicas, &id(&run["outputs"], "/out"), "n"), both.concat(), "{run:#}");
    }
    for run in &copies {
        let text = contents.text(&replicas, &id(&run["inputs"], "/in"), "n");
        assert_eq!(contents.text(&replicas, &id(&run["outputs"], "/out"), "n"), text, "{run:#}");
        let log = run["log"]["knitId"].as_str().expect("it has a log");
        assert_eq!(contents.text(&replicas, log, "log"), text, "{run:#}");
    }
    let _ = writeln!(
        std::io::stderr().lock(),
        "{} Runs, {kills} kills: ready after {} s, killed until {} s, done after {} s, tidy after {} s",
        pairs.len() + copies.len(),
        ready.as_secs(),
        killed.as_secs(),
        done.as_secs(),
        tidy.as_secs()
    );
}

/// Pushes while processes are killed, each once before any is killed a second time, and goes on to kill while Runs of
/// these Plans are made; the ids that were acknowledged.
fn kill_meanwhile(
    replicas: &Replicas,
    chance: &mut Chance,
    kills: usize,
    pushes: &[(char, usize)],
    plans: [&str; 2],
) -> BTreeSet<String> {
    let runs = pushes.len() * pushes.len() / 2;
    // One pusher for each side.
    let (hand_out, to_push): (Vec<_>, Vec<_>) = [mpsc::channel(), mpsc::channel()].into_iter().unzip();
    std::thread::scope(|scope| {
        let pusher = |numbers: Receiver<(char, usize)>| {
            let each = move |(side, number)| push(replicas, side, number);
            scope.spawn(move || numbers.into_iter().map(each).collect::<Vec<_>>())
        };
        let pushers: Vec<_> = to_push.into_iter().map(pusher).collect();
        let (mut begun, mut order) = (0, Vec::new());
        for kill in 0..kills {
            // A third of the kills falls on pushes, the others are spread over the Runs, however fast those are.
            let now = (pushes.len() * (kill + 1) / (kills / 3)).min(pushes.len());
            for (place, push) in pushes.iter().enumerate().take(now).skip(begun) {
                hand_out[place % 2].send(*push).expect("a pusher takes all");
            }
            begun = now;
            until_done(replicas, plans, runs * kill.saturating_sub(kills / 3) / kills);
            if order.is_empty() {
                order = (0..replicas.count()).collect();
            }
            let victim = order.swap_remove(chance.below(order.len() as u64) as usize);
            // A moment that nobody has chosen.
            std::thread::sleep(Duration::from_millis(chance.below(PAUSE)));
            replicas.kill(victim);
        }
        drop(hand_out);
        pushers.into_iter().flat_map(|pusher| pusher.join().expect("a pusher does not panic")).collect()
    })
}

fn push(replicas: &Replicas, side: char, number: usize) -> String {
    let name = format!("{side}{number}");
    let folder = replicas.world().folder(&name, &[("n", format!("{name}\n").as_bytes())]);
    let pushed = replicas.knit(&["data", "push", "--tag", &format!("side:{side}"), folder.to_str().expect("UTF-8")]);
    pushed.json()["knitId"].as_str().expect("a push prints its id").to_owned()
}

fn apply(replicas: &Replicas, step: &Step) -> String {
    let file = replicas.world().plan_file(&step.yaml());
    let applied = replicas.knit(&["plan", "apply", file.to_str().expect("UTF-8")]);
    applied.json()["planId"].as_str().expect("an id").to_owned()
}

/// Waits until the Plan has so many Runs and all of them are done; the Runs.
fn all_done(replicas: &Replicas, plan: &str, count: usize) -> Vec<Value> {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        // Where a Run fails or is stuck so does the command, and what is listed then tells more.
        replicas.world().knit(&["--profile", "api-0", "run", "wait", "--plan", plan, "--timeout", "30s"]);
        let runs = replicas.list(&["run", "find", "--planid", plan]);
        let done = runs.iter().filter(|run| run["status"] == "done").count();
        assert!(!runs.iter().any(|run| run["status"] == "failed"), "no Run fails: {runs:#?}");
        assert!(runs.len() <= count, "there are more Runs than combinations: {count} are wanted of {runs:#?}");
        if done == count {
            return runs;
        }
        if done > seen {
            (seen, since) = (done, Instant::now());
        }
        assert!(since.elapsed() < STUCK, "only {done} of {count} Runs are done: {runs:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until so many Runs of these Plans are done.
fn until_done(replicas: &Replicas, plans: [&str; 2], count: usize) {
    let limit = Instant::now() + STUCK;
    let done = |plan| {
        let runs = replicas.list(&["run", "find", "--planid", plan]);
        runs.iter().filter(|run| run["status"] == "done").count()
    };
    while plans.map(done).iter().sum::<usize>() < count {
        assert!(Instant::now() < limit, "there are not {count} Runs that are done");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The Data at a path of a Run.
fn id(mounted: &Value, path: &str) -> String {
    let all = mounted.as_array().expect("a list");
    let here = all.iter().find(|one| one["path"] == path).unwrap_or_else(|| panic!("nothing at {path} in {mounted:#}"));
    here["knitId"].as_str().expect("an id is a string").to_owned()
}

/// What the namespace has that is of no Data.
struct Leftovers {
    objects: BTreeSet<String>,
}

impl Leftovers {
    const KINDS: &str = "jobs,pods,secrets,configmaps";

    fn of(replicas: &Replicas) -> Self {
        assert!(replicas.cluster().names("pvc").is_empty(), "nothing has been pushed yet");
        Self { objects: replicas.cluster().names(Self::KINDS) }
    }

    fn all_others_are_gone(&self, replicas: &Replicas) {
        let known: BTreeSet<String> = replicas.list(&["data", "find"]).iter().filter_map(claim_of).collect();
        // Claims go after the Pods that mount them.
        let objects = replicas.cluster().gone(Self::KINDS, |name| !self.objects.contains(name));
        let claims = replicas.cluster().gone("pvc", |name| !known.contains(name));
        assert_eq!((objects, claims), (Ok(()), Ok(())), "left behind");
        assert_eq!(replicas.cluster().names("pvc"), known, "each Data has its volume");
    }
}

fn claim_of(data: &Value) -> Option<String> {
    Some(format!("data-knitid-{}", data["knitId"].as_str()?))
}

/// Where Data can be read.
struct Contents {
    /// On a node that is this machine; elsewhere they are pulled.
    folders: BTreeMap<String, PathBuf>,
}

impl Contents {
    fn of(replicas: &Replicas) -> Self {
        let here = able::has(able::NODE);
        Self { folders: if here { replicas.cluster().volumes() } else { BTreeMap::new() } }
    }

    fn text(&self, replicas: &Replicas, data: &str, file: &str) -> String {
        let pulled = || {
            let into = replicas.world().base().join("pulled");
            if !into.join(data).exists() {
                replicas.knit(&["data", "pull", "-x", data, into.to_str().expect("UTF-8")]);
            }
            into.join(data)
        };
        let folder = self.folders.get(&format!("data-knitid-{data}")).cloned().unwrap_or_else(pulled);
        let path = folder.join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

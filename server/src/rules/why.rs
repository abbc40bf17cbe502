//! Why a Run stands where it stands: what it tells of itself, and what the server knows besides.

use super::lifecycle::Observation;
use super::plan::{DEFAULT_CPU_MILLIS, DEFAULT_MEMORY, DEFAULT_MEMORY_BYTES, DEFAULTS, LEAST_MEMORY_BYTES};
use knit_api::cluster::Node;
use knit_api::explain::Count;
use knit_api::id::{DataId, RunId};
use knit_api::plan::{OnNode, Resources};
use knit_api::quantity::Quantity;
use knit_api::run::{Run, RunStatus};
use knit_api::why::{Cause, at_a_glance, code};

/// What is known of a Run.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The Run.
    pub run: &'a Run,
    /// Runs in the same status that are longer in it.
    pub before: Count,
    /// How often in a row the work on it failed.
    pub failures: i64,
    /// What its Plan asks for.
    pub resources: &'a Resources,
    /// Where its Plan may execute.
    pub on_node: &'a OnNode,
    /// Inputs that are not what they were when the Run was made.
    pub unusable: &'a [Unusable],
    /// What can be seen of its worker.
    pub seen: Option<&'a Observation>,
    /// Milli-cpus that workers may hold together.
    pub cpu_millis: u64,
    /// Bytes of memory that workers may hold together.
    pub memory_bytes: u64,
    /// Where workers may execute, as far as that is known.
    pub nodes: &'a [Node],
    /// Whether workers have a network.
    pub network: bool,
    /// The end of its log.
    pub log_tail: Option<&'a str>,
}

/// An input whose Data is not (or no longer) usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Where it is mounted.
    pub path: String,
    /// The Data.
    pub data: DataId,
    /// The Run that makes it.
    pub run: RunId,
    /// Where that stands.
    pub status: RunStatus,
}

/// The causes, the one that counts first.
pub fn causes(facts: &Facts<'_>) -> Vec<Cause> {
    let mut causes = at_a_glance(facts.run);
    let id = &facts.run.summary.id;
    let status = facts.run.summary.status;
    let reason = facts.run.reason.as_deref().filter(|reason| !reason.is_empty());
    let active = !status.is_over() && status != RunStatus::Deactivated;
    if let (true, Some(reason)) = (active && facts.failures > 0, reason) {
        let times = if facts.failures == 1 { "once".to_owned() } else { format!("{} times in a row", facts.failures) };
        let text = format!("it is {status}, and going on with it failed {times}: {reason}");
        let advice = "it is tried again by itself; the server's log and knitctl status tell more";
        causes[0] = Cause::new(code::TROUBLE, text).advice(advice);
    } else {
        match status {
            RunStatus::Waiting => {
                let text = format!("its outputs are about to be prepared; {}", before(facts.before, status));
                causes[0] = Cause::new(code::WAITING, text);
            }
            RunStatus::Ready => causes[0] = ready(facts, reason),
            RunStatus::Starting => {
                if let Some(cause) = starting(facts, reason) {
                    causes[0] = cause;
                }
            }
            _ => {}
        }
    }
    for cause in &mut causes {
        if cause.code == code::OUT_OF_MEMORY {
            let granted = memory(facts.resources);
            cause.text = format!("it needed more memory than the {granted} that its Plan grants, and was ended for it");
        }
    }
    causes.extend(facts.unusable.iter().map(|input| {
        let Unusable { path, data, run, status } = input;
        let text = format!("its input {path}, Data {data}, is not usable: the Run {run} that makes it is {status}");
        Cause::new(code::INPUT, text).advice(format!("see: knit run why {run}"))
    }));
    if status == RunStatus::Failed && !facts.network && facts.log_tail.is_some_and(speaks_of_a_network) {
        let text = "workers have no network here, and the last lines of its log read as if it wanted one";
        let advice = format!(
            "make what it fetches an input or a part of the image, or let the administrator start the server with \
             knitctl up --worker-network host; then knit run retry {id}"
        );
        causes.push(Cause::new(code::NO_NETWORK, text).advice(advice));
    }
    causes
}

fn before(count: Count, status: RunStatus) -> String {
    match count {
        Count { count: 0, capped: false } => format!("no {status} Run is before it"),
        Count { count: 1, capped: false } => format!("1 {status} Run is before it"),
        count => format!("{count} {status} Runs are before it"),
    }
}

/// A Run that has not been given a worker.
fn ready(facts: &Facts<'_>, reason: Option<&str>) -> Cause {
    let before = before(facts.before, RunStatus::Ready);
    let Some(reason) = reason else {
        return Cause::new(code::QUEUED, format!("it is about to be started; {before}"));
    };
    let there = format!("this server offers cpu {} and memory {}", millis(facts.cpu_millis), bytes(facts.memory_bytes));
    let told = format!("{reason} (it asks for {}; {there})", demand(facts.resources));
    if can_ever_fit(facts) {
        return Cause::new(code::NO_ROOM, format!("there is no room for it now: {told}; {before}"))
            .advice("it starts by itself when others end; to hurry, stop one of them");
    }
    Cause::new(code::NEVER_FITS, format!("it cannot start on this server as it is: {told}")).advice(format!(
        "let Plan {} or a new one ask for less; to end this Run: knit run stop --fail {}",
        facts.run.summary.plan.id, facts.run.summary.id
    ))
}

fn can_ever_fit(facts: &Facts<'_>) -> bool {
    let asked = |name: &str| facts.resources.get(name);
    let cpu = asked("cpu").map_or(DEFAULT_CPU_MILLIS.into(), |amount| amount.millis());
    let memory = asked("memory").map_or(DEFAULT_MEMORY_BYTES.into(), |amount| amount.units());
    let only_these = |(name, amount): (&String, &Quantity)| matches!(&**name, "cpu" | "memory") || amount.units() <= 0;
    facts.on_node.must.is_empty()
        && facts.resources.iter().all(only_these)
        && cpu <= i128::from(facts.cpu_millis)
        && (i128::from(LEAST_MEMORY_BYTES)..=i128::from(facts.memory_bytes)).contains(&memory)
}

/// Whether none of the nodes that are known has as much as the Plan asks for, even with nothing else on it.
fn exceeds_every_node(facts: &Facts<'_>) -> bool {
    let has = |node: &Node, name: &str, asked: &Quantity| {
        asked.units() <= 0 || node.capacity.get(name).is_some_and(|most| asked.millis() <= most.millis())
    };
    let suffices = |node: &Node| facts.resources.iter().all(|(name, asked)| has(node, name, asked));
    !facts.nodes.is_empty() && !facts.nodes.iter().any(suffices)
}

fn demand(resources: &Resources) -> String {
    if resources.is_empty() {
        let all = DEFAULTS.map(|(name, amount)| format!("{name} {amount}")).join(" and ");
        return format!("{all}, as all do that do not say");
    }
    resources.iter().map(|(name, amount)| format!("{name} {amount}")).collect::<Vec<_>>().join(" and ")
}

fn memory(resources: &Resources) -> String {
    resources.get("memory").map_or_else(|| DEFAULT_MEMORY.to_owned(), ToString::to_string)
}

fn millis(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// Rounded down: nobody should count on more.
fn bytes(bytes: u64) -> String {
    if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) {
        format!("{}Gi", bytes >> 30)
    } else {
        format!("{}Mi", bytes >> 20)
    }
}

/// What the engine is busy with stands in its own words, which begin with what it is.
fn starting(facts: &Facts<'_>, reason: Option<&str>) -> Option<Cause> {
    let seen = match facts.seen {
        Some(Observation::Preparing { reason }) => Some(reason.as_str()),
        _ => None,
    };
    let busy = seen.or(reason)?;
    Some(if busy.starts_with("fetching image") {
        Cause::new(code::FETCHING_IMAGE, format!("its image is being fetched ({busy})"))
    } else if busy.starts_with("image ") {
        Cause::new(code::IMAGE_UNREACHABLE, busy.to_owned())
            .advice("it is tried again by itself; check that the registry can be reached from the server")
    } else if let Some(lacks) = busy.strip_prefix("no node can take it now: ").filter(|_| exceeds_every_node(facts)) {
        let (plan, run) = (&facts.run.summary.plan.id, &facts.run.summary.id);
        Cause::new(code::NEVER_FITS, format!("it asks for more than any node has: {lacks}")).advice(format!(
            "knit cluster shows what nodes offer; let Plan {plan} or a new one ask for less; to end this Run: \
             knit run stop --fail {run}"
        ))
    } else if busy.starts_with("no node can take it") {
        Cause::new(code::NO_ROOM, busy.to_owned())
            .advice("knit cluster shows what nodes offer; ask for less, name other labels, or let others end")
    } else {
        Cause::new(code::STARTING, format!("its worker is being started: {busy}"))
    })
}

fn speaks_of_a_network(log: &str) -> bool {
    const WORDS: &[&str] = &[
        "network is unreachable",
        "name resolution",
        "name or service not known",
        "could not resolve",
        "no route to host",
        "nodename nor servname",
        "dns lookup",
        "bad address",
    ];
    let log = log.to_lowercase();
    WORDS.iter().any(|words| log.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_api::plan::PlanSummary;
    use knit_api::run::{Exit, RunSummary};
    use knit_api::time::Timestamp;
    use std::sync::LazyLock;

    fn run(status: RunStatus, exit: Option<(u8, &str)>, reason: Option<&str>) -> Run {
        let plan = PlanSummary {
            id: "p".into(),
            image: Some("train:v1".parse().unwrap()),
            entrypoint: vec![],
            args: vec![],
            name: None,
            annotations: vec![],
        };
        let exit = exit.map(|(code, message)| Exit { code, message: message.to_owned() });
        let summary = RunSummary { id: "r".into(), status, updated_at: Timestamp::from_micros(0), exit, plan };
        let reason = reason.map(str::to_owned);
        Run { summary, inputs: vec![], outputs: vec![], log: None, image_digest: None, reason }
    }

    static RESOURCES: LazyLock<Resources> =
        LazyLock::new(|| Resources::from([("memory".to_owned(), "64Mi".parse().unwrap())]));
    static ANYWHERE: OnNode = OnNode { may: Vec::new(), prefer: Vec::new(), must: Vec::new() };

    fn facts_of(run: &Run) -> Facts<'_> {
        Facts {
            run,
            before: Count::exactly(2),
            failures: 0,
            resources: &RESOURCES,
            on_node: &ANYWHERE,
            unusable: &[],
            seen: None,
            cpu_millis: 2000,
            memory_bytes: 4 << 30,
            nodes: &[],
            network: false,
            log_tail: None,
        }
    }

    fn told<'a>(run: &'a Run, change: impl FnOnce(&mut Facts<'a>)) -> Vec<Cause> {
        let mut facts = facts_of(run);
        change(&mut facts);
        causes(&facts)
    }

    #[test]
    fn what_the_server_knows_makes_the_cause_more_exact() {
        use RunStatus as S;
        for (status, reason, code, says) in [
            (S::Waiting, None, code::WAITING, "2 waiting Runs are before it"),
            (S::Ready, None, code::QUEUED, "2 ready Runs are before it"),
            (
                S::Ready,
                Some("waits for cpu 1, of 2 other workers leave 0"),
                code::NO_ROOM,
                "offers cpu 2 and memory 4Gi",
            ),
            (S::Starting, Some("fetching image train:v1"), code::FETCHING_IMAGE, "train:v1"),
            (
                S::Starting,
                Some("no node can take it now: 1 node has too little cpu left (it asks for 64)"),
                code::NO_ROOM,
                "too little cpu",
            ),
            (
                S::Starting,
                Some("image train:v1 cannot be fetched: refused; attempt 2 of 5"),
                code::IMAGE_UNREACHABLE,
                "refused",
            ),
            (S::Starting, Some("starting the container"), code::STARTING, "the container"),
            (S::Starting, None, code::STARTING, "being started"),
            (S::Running, None, code::RUNNING, "since"),
        ] {
            let causes = told(&run(status, None, reason), |_| {});
            assert_eq!(causes[0].code, code, "{status} {reason:?}");
            assert!(causes[0].text.contains(says), "{status} {reason:?}: {}", causes[0].text);
        }
    }

    #[test]
    fn a_demand_beyond_the_machine_never_fits_and_any_other_only_has_no_room() {
        let run = run(RunStatus::Ready, None, Some("needs it"));
        for (resources, must, code) in [
            (&[("cpu", "2"), ("memory", "4Gi")][..], None, code::NO_ROOM),
            (&[("cpu", "2001m")], None, code::NEVER_FITS),
            (&[("memory", "5Gi")], None, code::NEVER_FITS),
            (&[("memory", "1Mi")], None, code::NEVER_FITS),
            (&[("example.com/gpu", "1")], None, code::NEVER_FITS),
            (&[("example.com/gpu", "0")], None, code::NO_ROOM),
            (&[], Some("vram=large"), code::NEVER_FITS),
            (&[], None, code::NO_ROOM),
        ] {
            let resources: Resources =
                resources.iter().map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap())).collect();
            let on_node =
                OnNode { must: must.iter().map(|label| label.parse().unwrap()).collect(), ..OnNode::default() };
            let causes = causes(&Facts {
                run: &run,
                before: Count::default(),
                failures: 0,
                resources: &resources,
                on_node: &on_node,
                unusable: &[],
                seen: None,
                cpu_millis: 2000,
                memory_bytes: 4 << 30,
                nodes: &[],
                network: true,
                log_tail: None,
            });
            assert_eq!(causes[0].code, code, "{resources:?} {must:?}");
            assert!(!causes[0].advice.is_empty());
        }
    }

    #[test]
    fn a_demand_beyond_every_node_never_fits_and_one_beyond_what_is_left_has_no_room() {
        let run = run(RunStatus::Starting, None, Some("no node can take it now: 1 node has too little cpu left"));
        let resources = |amounts: &[(&str, &str)]| -> Resources {
            amounts.iter().map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap())).collect()
        };
        let node = |amounts| {
            let capacity = resources(amounts);
            Node { name: "n".to_owned(), labels: vec![], taints: vec![], capacity, in_use: Resources::new() }
        };
        let nodes = [node(&[("cpu", "2"), ("memory", "8Gi")]), node(&[("cpu", "4"), ("memory", "4Gi"), ("gpu", "1")])];
        for (asked, known, code) in [
            (&[("cpu", "4"), ("memory", "4Gi")][..], &nodes[..], code::NO_ROOM),
            (&[("cpu", "4001m")], &nodes, code::NEVER_FITS),
            // No single one has both.
            (&[("cpu", "4"), ("memory", "8Gi")], &nodes, code::NEVER_FITS),
            (&[("gpu", "1")], &nodes, code::NO_ROOM),
            (&[("gpu", "2")], &nodes, code::NEVER_FITS),
            (&[("tpu", "1")], &nodes, code::NEVER_FITS),
            (&[("tpu", "0")], &nodes, code::NO_ROOM),
            (&[("tpu", "1")], &[], code::NO_ROOM),
        ] {
            let asked = resources(asked);
            let causes = causes(&Facts { resources: &asked, nodes: known, ..facts_of(&run) });
            assert_eq!(causes[0].code, code, "{asked:?}");
            assert!(causes[0].text.contains("1 node has too little cpu left"), "{}", causes[0].text);
        }
    }

    #[test]
    fn failing_work_on_a_run_is_told_before_everything_else() {
        let run = run(RunStatus::Completing, Some((0, "")), Some("no space is left"));
        let causes = told(&run, |facts| facts.failures = 3);
        assert_eq!(causes[0].code, code::TROUBLE);
        assert!(causes[0].text.contains("3 times in a row: no space is left"), "{}", causes[0].text);
    }

    #[test]
    fn lack_of_memory_names_what_was_granted() {
        let causes = told(&run(RunStatus::Failed, Some((137, "OOMKilled")), None), |_| {});
        assert!(causes[0].text.contains("64Mi"), "{}", causes[0].text);
    }

    #[test]
    fn inputs_that_are_not_usable_are_named_with_their_run() {
        let unusable =
            [Unusable { path: "/in".to_owned(), data: "d".into(), run: "up".into(), status: RunStatus::Failed }];
        let causes = told(&run(RunStatus::Waiting, None, None), |facts| facts.unusable = &unusable);
        assert_eq!(causes[1].code, code::INPUT);
        assert!(causes[1].text.contains("/in") && causes[1].text.contains("failed"), "{}", causes[1].text);
    }

    #[test]
    fn a_lack_of_network_is_only_supposed_where_there_is_none_and_the_log_speaks_of_one() {
        let failed = run(RunStatus::Failed, Some((1, "")), None);
        for (network, log, told_of) in [
            (false, Some("curl: (6) Could not resolve host: example.com"), true),
            (true, Some("curl: (6) Could not resolve host: example.com"), false),
            (false, Some("Traceback"), false),
            (false, None, false),
        ] {
            let causes = told(&failed, |facts| {
                facts.network = network;
                facts.log_tail = log;
            });
            assert_eq!(causes.iter().any(|cause| cause.code == code::NO_NETWORK), told_of, "{network} {log:?}");
        }
    }
}

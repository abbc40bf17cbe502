//! Many processes on one PostgreSQL database: several servers, each with its API and its loops, over one engine in
//! memory. What one does the others see at once; what one leaves undone the others do; nothing is lost or done twice.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
#[path = "store/wrong.rs"]
mod wrong;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use fake::{FakeEngine, Server};
use http_body_util::BodyExt;
use knit_api::id::{PlanId, RunId};
use knit_api::run::RunStatus as S;
use knit_server::engine::{Engine as _, Observation};
use knit_server::loops::Loops;
use knit_server::relay::Relay;
use knit_server::store::{RunQuery, StoreError};
use knit_server::{clock, http};
use knit_tests::postgres;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How long claims hold when the test is not about their end.
const LEASE: Duration = Duration::from_secs(30);
/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(40);

/// A server of a cluster, at work.
struct Process {
    server: Server,
    loops: Loops,
    relay: Relay,
}

impl Process {
    async fn start(database: &str, engine: &Arc<FakeEngine>, lease: Duration) -> Self {
        let server = fake::one_of_many(database, engine, lease).await;
        let relay = Relay::start(&server.app.store, &server.app.wake);
        let loops = Loops::start(&server.app).await.unwrap();
        Self { server, loops, relay }
    }

    /// Stops in order.
    async fn stop(self) -> Server {
        self.server.app.stopping.cancel();
        self.loops.ended(LONG).await;
        self.relay.end().await;
        self.server
    }
}

async fn call(server: &Server, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost:30803");
    let kind = if path.starts_with("/api/data?") { "application/tar+gzip" } else { "application/json" };
    let request = request.header(header::CONTENT_TYPE, kind).body(Body::from(body.to_owned())).unwrap();
    let response = http::service(server.app.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&text).unwrap_or(Value::Null))
}

async fn done(server: &Server, method: &str, path: &str, body: &str) -> Value {
    let (status, answer) = call(server, method, path, body).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

async fn push(server: &Server, tags: &[&str]) -> String {
    let tags: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let data = done(server, "POST", &format!("/api/data?{}", tags.join("&")), "content").await;
    data["knitId"].as_str().unwrap().to_owned()
}

fn plan_of(image: &str, inputs: &[Vec<String>], output: &str) -> Value {
    let input = |(n, tags): (usize, &Vec<String>)| json!({"path": format!("/in/{n}"), "tags": tags});
    json!({
        "image": image,
        "inputs": inputs.iter().enumerate().map(input).collect::<Vec<_>>(),
        "outputs": [{"path": "/out", "tags": [output]}],
        "log": {"tags": ["type:log"]},
    })
}

async fn apply(server: &Server, input: &str, output: &str) -> PlanId {
    let plan = plan_of("train:v1", &[vec![input.to_owned()]], output);
    let plan = done(server, "POST", "/api/plans", &plan.to_string()).await;
    plan["planId"].as_str().unwrap().into()
}

/// Waits until the only Run of a Plan has this status, looking only when this server was told of a change.
async fn until_status(server: &Server, plan: &PlanId, wanted: S) -> RunId {
    let mut changes = server.app.wake.subscribe();
    let found = async {
        loop {
            let query = RunQuery { plans: vec![plan.clone()], ..RunQuery::default() };
            let runs = server.app.store.find_runs(&query).await.unwrap();
            if let Some(run) = runs.iter().find(|run| run.summary.status == wanted) {
                return run.summary.id.clone();
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, found).await.unwrap_or_else(|_| panic!("no Run became {wanted}"))
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("this did not come: {what}"));
}

async fn number(database: &str, sql: &str) -> i64 {
    let mut db = <sqlx::PgConnection as sqlx::Connection>::connect(database).await.unwrap();
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut db).await.unwrap()
}

async fn execute(database: &str, sql: &str) {
    let mut db = <sqlx::PgConnection as sqlx::Connection>::connect(database).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_in_one_process_wakes_the_others_within_milliseconds() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    let (one, other) =
        (fake::one_of_many(&database, &engine, LEASE).await, fake::one_of_many(&database, &engine, LEASE).await);
    let relays = [Relay::start(&one.app.store, &one.app.wake), Relay::start(&other.app.store, &other.app.wake)];
    // Both listen when each has heard the other.
    heard(&one, &other).await;
    heard(&other, &one).await;
    let mut longest = Duration::ZERO;
    for _ in 0..50 {
        let mut changes = other.app.wake.subscribe();
        let begun = Instant::now();
        one.app.wake.changed();
        tokio::time::timeout(LONG, changes.changed()).await.unwrap().unwrap();
        longest = longest.max(begun.elapsed());
        one.app.wake.finish.notify_one();
        tokio::time::timeout(LONG, other.app.wake.finish.notified()).await.unwrap();
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let [first, second] = relays;
    first.end().await;
    // What was signalled before the end is told.
    let mut changes = one.app.wake.subscribe();
    changes.borrow_and_update();
    other.app.wake.changed();
    second.end().await;
    drop(changes);
}

/// Waits until one hears the other.
async fn heard(one: &Server, other: &Server) {
    until("one process hears the other", async || {
        let mut changes = one.app.wake.subscribe();
        changes.borrow_and_update();
        other.app.wake.changed();
        tokio::time::timeout(Duration::from_millis(200), changes.changed()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_connections_were_cut_wakes_everyone_and_hears_again() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    let (one, other) =
        (fake::one_of_many(&database, &engine, LEASE).await, fake::one_of_many(&database, &engine, LEASE).await);
    let _relays = [Relay::start(&one.app.store, &one.app.wake), Relay::start(&other.app.store, &other.app.wake)];
    heard(&one, &other).await;
    for _ in 0..3 {
        // Drops what is left of signals before.
        let _ = tokio::time::timeout(Duration::from_millis(50), one.app.wake.collect.notified()).await;
        execute(
            &database,
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
        // Nobody has signalled that.
        tokio::time::timeout(LONG, one.app.wake.collect.notified()).await.unwrap();
        heard(&one, &other).await;
        assert!(one.app.store.is_ready().await && one.app.store.count_runs().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_to_one_process_is_executed_and_seen_in_another() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    engine.state().ends_at_once = Some(0);
    let api = fake::one_of_many(&database, &engine, LEASE).await;
    let relay = Relay::start(&api.app.store, &api.app.wake);
    let worker = Process::start(&database, &engine, LEASE).await;
    heard(&api, &worker.server).await;
    heard(&worker.server, &api).await;
    let plan = apply(&api, "a:b", "c:d").await;
    let begun = Instant::now();
    push(&api, &["a:b"]).await;
    let run = until_status(&api, &plan, S::Done).await;
    // The clock by which loops look without a signal takes 5 s each.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // A long poll ends by itself.
    let path = format!("/api/runs/{run}/wait?timeout=30");
    done(&api, "GET", &path, "").await;
    relay.end().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_had_in_hand_is_taken_up_when_its_claim_has_ended() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    engine.state().ends_at_once = Some(0);
    let api = fake::one_of_many(&database, &engine, LEASE).await;
    let plan = apply(&api, "a:b", "c:d").await;
    push(&api, &["a:b"]).await;
    api.app.store.project(&plan, clock::now()).await.unwrap();
    let lease = Duration::from_secs(2);
    let claimed = api.app.store.claim(&[S::Waiting], "dead", clock::now(), clock::after(lease), 1).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let begun = Instant::now();
    let alive = Process::start(&database, &engine, LEASE).await;
    let run = until_status(&alive.server, &plan, S::Done).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(6), "{took:?}");
    // What the dead one would still have to say is not heard.
    assert!(!api.app.store.release_all("dead").await.is_ok_and(|runs| runs > 0));
    assert_eq!(api.app.store.run_status(&run).await.unwrap(), Some(S::Done));
    alive.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_renewed_for_as_long_as_its_step_takes() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    engine.state().ends_at_once = Some(0);
    engine.state().stuck = 1;
    let lease = Duration::from_secs(1);
    let (one, other) =
        (Process::start(&database, &engine, lease).await, Process::start(&database, &engine, lease).await);
    let plan = apply(&one.server, "a:b", "c:d").await;
    push(&one.server, &["a:b"]).await;
    until("a look that is stuck", async || number(&database, "select count(*) from run where attempt = 1").await == 1)
        .await;
    tokio::time::sleep(lease * 4).await;
    assert_eq!(number(&database, "select max(attempt) from run").await, 1, "nobody else has claimed it");
    engine.unstick();
    until_status(&other.server, &plan, S::Done).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_whose_claim_is_lost_is_cut_off_and_changes_nothing() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    engine.state().ends_at_once = Some(0);
    engine.state().stuck = 1;
    let process = Process::start(&database, &engine, Duration::from_secs(1)).await;
    let plan = apply(&process.server, "a:b", "c:d").await;
    push(&process.server, &["a:b"]).await;
    until("a look that is stuck", async || number(&database, "select count(*) from run where attempt = 1").await == 1)
        .await;
    let taken = format!(
        "update run set lease_owner = 'another', attempt = 7, lease_until = {} where signature is not null",
        clock::after(Duration::from_secs(3)).micros()
    );
    execute(&database, &taken).await;
    // Long enough for a beat; then nobody is stuck any more who could go on.
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.unstick();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let untouched = "select count(*) from run where lease_owner = 'another' and attempt = 7 and status = 'waiting'";
    assert_eq!(number(&database, untouched).await, 1);
    assert!(engine.state().volumes.len() == 1, "it went on with what it had lost");
    until_status(&process.server, &plan, S::Done).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_in_order_leaves_its_runs_to_others_at_once() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    engine.state().stuck = 1;
    let one = Process::start(&database, &engine, Duration::from_hours(1)).await;
    let plan = apply(&one.server, "a:b", "c:d").await;
    push(&one.server, &["a:b"]).await;
    until("a look that is stuck", async || number(&database, "select count(*) from run where attempt = 1").await == 1)
        .await;
    let other = Process::start(&database, &engine, Duration::from_hours(1)).await;
    let begun = Instant::now();
    let stopped = one.stop().await;
    until_status(&other.server, &plan, S::Starting).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(engine.state().removed.is_empty(), "workers go on");
    drop(stopped);
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stray_worker_is_removed_and_its_run_is_nobodys_meanwhile() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    let api = fake::one_of_many(&database, &engine, LEASE).await;
    let plan = apply(&api, "a:b", "c:d").await;
    push(&api, &["a:b"]).await;
    api.app.store.project(&plan, clock::now()).await.unwrap();
    let query = RunQuery { plans: vec![plan.clone()], ..RunQuery::default() };
    let run = api.app.store.find_runs(&query).await.unwrap().remove(0).summary.id;
    let hold = |owner: &'static str| {
        let (store, run) = (api.app.store.clone(), run.clone());
        async move { store.hold_idle(&run, owner, clock::now(), clock::after(LEASE)).await.unwrap() }
    };
    let claim = hold("one").await.unwrap();
    assert_eq!(hold("other").await, None);
    let (now, until) = (clock::now(), clock::after(LEASE));
    assert!(api.app.store.claim(&[S::Waiting], "loop", now, until, 9).await.unwrap().is_empty());
    api.app.store.release(&claim).await.unwrap();
    assert_eq!(api.app.store.claim(&[S::Waiting], "loop", clock::now(), until, 9).await.unwrap().len(), 1);
    assert_eq!(hold("one").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_start_at_once_on_a_new_database_both_serve() {
    let Some(database) = postgres::new_database() else { return };
    let engine = FakeEngine::new();
    let (one, other) =
        tokio::join!(fake::one_of_many(&database, &engine, LEASE), fake::one_of_many(&database, &engine, LEASE),);
    let data = push(&one, &["a:b"]).await;
    done(&other, "GET", &format!("/api/data?tag=knit%23id:{data}"), "").await;
}

// --- A server that goes away --------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_restarts_costs_time_and_nothing_else() {
    let Some(postgres) = postgres::own_server() else { return };
    let database = postgres.url("postgres");
    let engine = FakeEngine::new();
    engine.state().ends_at_once = Some(0);
    let processes = [Process::start(&database, &engine, LEASE).await, Process::start(&database, &engine, LEASE).await];
    let processes = Arc::new(processes);
    let plan = apply(&processes[0].server, "a:b", "c:d").await;
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let (processes, over) = (Arc::clone(&processes), Arc::clone(&over));
        clients.spawn(async move {
            let (server, mut pushed, mut refused) = (&processes[client % 2].server, Vec::new(), 0);
            while !over.load(Ordering::SeqCst) {
                let (status, answer) = call(server, "POST", "/api/data?tag=a:b", "content").await;
                match status.as_u16() {
                    200 => pushed.push(answer["knitId"].as_str().unwrap().to_owned()),
                    503 => refused += 1,
                    other => panic!("{other}: {answer}"),
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            (pushed, refused)
        });
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        postgres.tell("stop");
        for process in processes.iter() {
            assert!(!process.server.app.store.is_ready().await);
        }
        let (status, answer) = call(&processes[0].server, "GET", "/readyz", "").await;
        assert_eq!(status, 503, "{answer}");
        postgres.tell("start");
        until("it is ready again", async || processes[0].server.app.store.is_ready().await).await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    over.store(true, Ordering::SeqCst);
    let (mut pushed, mut refused) = (Vec::new(), 0);
    while let Some(ended) = clients.join_next().await {
        let (own, not) = ended.unwrap();
        pushed.extend(own);
        refused += not;
    }
    eprintln!("{} pushes through three restarts, {refused} refused", pushed.len());
    assert!(pushed.len() > 50);
    let store = &processes[0].server.app.store;
    for data in &pushed {
        assert!(store.data(&data.as_str().into()).await.unwrap().is_some(), "{data} is lost");
    }
    let missing = "select count(*) from run where signature is not null and status <> 'done'";
    until("all Runs are done", async || {
        number(&database, "select count(*) from spark").await == 0 && number(&database, missing).await == 0
    })
    .await;
    let runs = store.find_runs(&RunQuery { plans: vec![plan], ..RunQuery::default() }).await.unwrap();
    // A push whose answer was lost may have been registered all the same.
    assert!(runs.len() >= pushed.len() && runs.len() <= pushed.len() + refused, "{} Runs", runs.len());
    for (what, sql) in wrong::WRONG {
        assert_eq!(number(&database, sql).await, 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stays_away_is_named_without_its_password() {
    let Some(postgres) = postgres::own_server() else { return };
    let database = postgres.url("postgres").replace("postgres@", "postgres:secret@");
    let engine = FakeEngine::new();
    let server = fake::one_of_many(&database, &engine, LEASE).await;
    postgres.tell("stop");
    let begun = Instant::now();
    let error = server.app.store.count_runs().await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let (status, answer) = call(&server, "GET", "/api/runs", "").await;
    assert_eq!(status, 503);
    assert!(answer["message"].as_str().unwrap().contains("does not answer"), "{answer}");
    let unopened = knit_server::store::Store::open_postgres("postgres://me:secret@127.0.0.1:1/knit").await;
    let unopened = unopened.unwrap_err().to_string();
    assert!(unopened.starts_with("the database at 127.0.0.1:1 does not answer: "), "{unopened}");
    for error in [error.to_string(), unopened, answer.to_string()] {
        assert!(!error.contains("secret"), "{error}");
    }
}

// --- Everything at once -------------------------------------------------------------------------------

/// SplitMix64: the same steps for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }

    /// So few that everything meets everything, and so many that it comes to an end.
    fn tag(&mut self) -> String {
        let values = if knit_tests::able::long() { 30 } else { 10 };
        format!("k{}:v{}", self.below(6), self.below(values))
    }

    fn one_of(&mut self, all: &Mutex<Vec<String>>) -> Option<String> {
        let all = all.lock().unwrap();
        all.get(usize::try_from(self.below(all.len().max(1) as u64)).unwrap()).cloned()
    }
}

/// What clients know of each other's doing, and what they have seen.
#[derive(Default)]
struct Shared {
    data: Mutex<Vec<String>>,
    runs: Mutex<Vec<String>>,
    /// Tags that the server said a Data has, each added by one client alone.
    own_tags: Mutex<Vec<(String, String)>>,
    /// How often each, and how long it took at most, in milliseconds.
    answers: Mutex<BTreeMap<String, (u64, u128)>>,
}

impl Shared {
    async fn call(&self, server: &Server, what: &str, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let begun = Instant::now();
        let (status, answer) = call(server, method, path, body).await;
        let took = begun.elapsed().as_millis();
        assert!(!status.is_server_error(), "{what}: {method} {path}: {status}: {answer}");
        let mut answers = self.answers.lock().unwrap();
        let (count, longest) = answers.entry(format!("{what} {}", status.as_u16())).or_default();
        (*count, *longest) = (*count + 1, took.max(*longest));
        (status, answer)
    }
}

async fn step(server: &Server, shared: &Shared, own: &str, chance: &mut Chance) {
    match chance.below(100) {
        0..25 => {
            let path = format!("/api/data?tag={}&tag={}&tag={}", chance.tag(), chance.tag(), chance.tag());
            let (_, answer) = shared.call(server, "push", "POST", &path, "content").await;
            shared.data.lock().unwrap().push(answer["knitId"].as_str().unwrap().to_owned());
        }
        25..60 => {
            let Some(data) = chance.one_of(&shared.data) else { return };
            let change = json!({"add": [chance.tag(), own], "remove": [chance.tag(), chance.tag()]}).to_string();
            let (status, answer) = shared.call(server, "tag", "PUT", &format!("/api/data/{data}"), &change).await;
            if status == 200 {
                let tags = answer["tags"].as_array().unwrap();
                assert!(tags.iter().any(|tag| tag == own), "{own} is not in {answer}");
                shared.own_tags.lock().unwrap().push((data, own.to_owned()));
            }
        }
        60..66 => {
            // The same few Plans over and over: most are there already.
            let mut which = Chance(chance.below(80));
            let two = which.below(4) == 0;
            let inputs =
                if two { vec![vec![which.tag(), which.tag()], vec![which.tag()]] } else { vec![vec![which.tag()]] };
            let plan = plan_of(&format!("image{}:v1", which.below(1000)), &inputs, "made:here");
            shared.call(server, "apply", "POST", "/api/plans", &plan.to_string()).await;
        }
        66..74 => {
            let status = ["waiting", "ready", "starting", "running", "done", "failed"][chance.below(6) as usize];
            let (_, answer) = shared.call(server, "find", "GET", &format!("/api/runs?status={status}"), "").await;
            let runs = answer.as_array().unwrap().iter().map(|run| run["runId"].as_str().unwrap().to_owned());
            let runs: Vec<String> = runs.take(20).collect();
            if let Some(run) = runs.first() {
                let what = ["abort", "tearoff"][chance.below(2) as usize];
                shared.call(server, what, "PUT", &format!("/api/runs/{run}/{what}"), "").await;
            }
            shared.runs.lock().unwrap().extend(runs);
        }
        74..94 => {
            let Some(run) = chance.one_of(&shared.runs) else { return };
            let what = ["abort", "tearoff", "retry", "retry"][chance.below(4) as usize];
            shared.call(server, what, "PUT", &format!("/api/runs/{run}/{what}"), "").await;
        }
        94..97 => {
            let Some(run) = chance.one_of(&shared.runs) else { return };
            shared.call(server, "remove", "DELETE", &format!("/api/runs/{run}"), "").await;
        }
        _ => {
            let Some(data) = chance.one_of(&shared.data) else { return };
            shared.call(server, "remove data", "DELETE", &format!("/api/data/{data}"), "").await;
        }
    }
}

/// Takes each worker a step further from time to time, to one end or another.
async fn work(engine: Arc<FakeEngine>) {
    let mut chance = Chance(42);
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let workers: Vec<(RunId, Observation)> =
            engine.state().workers.iter().map(|(run, seen)| (run.clone(), seen.clone())).collect();
        for (run, seen) in workers {
            match seen {
                Observation::Preparing { .. } => engine.begin(&run),
                Observation::Running { .. } if chance.below(3) > 0 => {
                    engine.end(&run, u8::from(chance.below(4) == 0), "the test says so");
                }
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_clients_of_two_servers_lose_and_double_nothing() {
    let Some(database) = postgres::new_database() else { return };
    let (load, pause) =
        if knit_tests::able::long() { (Duration::from_mins(5), 60) } else { (Duration::from_secs(5), 5) };
    let engine = FakeEngine::new();
    let working = tokio::spawn(work(Arc::clone(&engine)));
    let processes =
        Arc::new([Process::start(&database, &engine, LEASE).await, Process::start(&database, &engine, LEASE).await]);
    let shared = Arc::new(Shared::default());
    let mut clients = JoinSet::new();
    for client in 0..16 {
        let (processes, shared) = (Arc::clone(&processes), Arc::clone(&shared));
        clients.spawn(async move {
            let (mut chance, begun) = (Chance(client * 7919), Instant::now());
            let mut steps = 0;
            while begun.elapsed() < load {
                let server = &processes[usize::try_from(chance.below(2)).unwrap()].server;
                step(server, &shared, &format!("own:{client}-{steps}"), &mut chance).await;
                steps += 1;
                tokio::time::sleep(Duration::from_millis(chance.below(pause * 2))).await;
            }
            steps
        });
    }
    let mut steps = 0;
    while let Some(ended) = clients.join_next().await {
        steps += ended.unwrap();
    }
    let live =
        "select count(*) from run where signature is not null and status not in ('done', 'failed', 'invalidated')";
    let begun = Instant::now();
    let mut last = i64::MAX;
    let mut progress = Instant::now();
    loop {
        let left = number(&database, "select count(*) from spark").await + number(&database, live).await;
        if left == 0 {
            break;
        }
        if left < last {
            (last, progress) = (left, Instant::now());
        }
        assert!(progress.elapsed() < LONG, "{left} Runs do not come to their end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let drained = begun.elapsed();
    for (what, sql) in wrong::WRONG {
        assert_eq!(number(&database, sql).await, 0, "{what}");
    }
    let mut lost = 0;
    let store = &processes[0].server.app.store;
    let own_tags = std::mem::take(&mut *shared.own_tags.lock().unwrap());
    for (data, tag) in &own_tags {
        if let Some(found) = store.data(&data.as_str().into()).await.unwrap() {
            lost += usize::from(!found.tags.iter().any(|one| one.to_string() == *tag));
        }
    }
    assert_eq!(lost, 0, "of {} tags that were answered with 200", own_tags.len());
    let claimed = "select count(*) from run where lease_until > 0 or lease_owner is not null";
    until("no claim is left", async || number(&database, claimed).await == 0).await;
    until("no worker is left", async || engine.state().workers.is_empty()).await;
    until("no garbage is left", async || number(&database, "select count(*) from garbage").await == 0).await;
    let known = number(&database, "select count(*) from data").await;
    let volumes = i64::try_from(engine.volumes().await.unwrap().len()).unwrap();
    assert!(volumes <= known, "{volumes} volumes, {known} Data");
    let deadlocks =
        number(&database, "select deadlocks from pg_stat_database where datname = current_database()").await;
    let runs = number(&database, "select count(*) from run where signature is not null").await;
    let started = engine.state().started.len();
    eprintln!(
        "{steps} steps in {} s (answers: how many, the longest in ms): {:?}; {} tags kept; {known} Data, {runs} Runs, {started} \
         starts; drained in {:.1} s; {deadlocks} deadlocks",
        load.as_secs(),
        shared.answers.lock().unwrap(),
        own_tags.len(),
        drained.as_secs_f64()
    );
    assert_eq!(deadlocks, 0);
    assert!(runs > 50, "{runs} Runs are too few to tell anything");
    working.abort();
}

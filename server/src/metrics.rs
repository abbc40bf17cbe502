//! What this process counts of itself, for a monitoring system: OpenMetrics text. Whoever does something that is
//! counted says so in one call; the registry of all figures is here alone.
//!
//! Labels are names out of the program (routes, loops, calls of the engine, statuses) and never come from outside,
//! and never is an id one: the number of series does not grow with what is stored.

use knit_api::run::RunStatus;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds: from what memory answers to what a cluster takes its time for.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Count<const N: usize> = Family<Labels<N>, Counter>;
type Seconds<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Which way bytes of Data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this server.
    In,
    /// From this server.
    Out,
}

/// The figures of one process.
pub struct Metrics {
    registry: Registry,
    requests: Count<3>,
    request_seconds: Seconds<2>,
    bytes: Count<1>,
    rounds: Count<1>,
    claims: Count<1>,
    steps: Count<2>,
    step_seconds: Seconds<1>,
    calls: Count<2>,
    call_seconds: Seconds<1>,
    expansions: Count<1>,
    connections: Family<Labels<1>, Gauge>,
    oldest_due: Family<Labels<1>, Gauge<f64, AtomicU64>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn timed<const N: usize>() -> Seconds<N> {
    Family::new_with_constructor(seconds)
}

fn outcome(is_well: bool) -> Cow<'static, str> {
    Cow::Borrowed(if is_well { "ok" } else { "failed" })
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Self {
            registry: Registry::with_prefix("knitd"),
            requests: Family::default(),
            request_seconds: timed(),
            bytes: Family::default(),
            rounds: Family::default(),
            claims: Family::default(),
            steps: Family::default(),
            step_seconds: timed(),
            calls: Family::default(),
            call_seconds: timed(),
            expansions: Family::default(),
            connections: Family::default(),
            oldest_due: Family::default(),
        };
        all.register();
        all
    }
}

impl Metrics {
    fn register(&mut self) {
        let of = &mut self.registry;
        of.register("build", "The program", Info::new([("version", knit_api::VERSION)]));
        of.register("http_requests", "Requests answered, by the class of the answer's status", self.requests.clone());
        let help = "Time until the head of an answer";
        of.register_with_unit("http_request_duration", help, Unit::Seconds, self.request_seconds.clone());
        of.register("transfer_bytes", "Bytes of Data that were pushed and pulled", self.bytes.clone());
        of.register("loop_rounds", "How often a loop looked for work", self.rounds.clone());
        of.register("loop_claims", "Runs that a loop took in hand", self.claims.clone());
        of.register("loop_steps", "Steps that a loop made for a Run, by how they went", self.steps.clone());
        of.register_with_unit("loop_step_duration", "Time of a step", Unit::Seconds, self.step_seconds.clone());
        of.register("engine_calls", "What the engine was asked for, by how it went", self.calls.clone());
        let help = "Time until the engine answered";
        of.register_with_unit("engine_call_duration", help, Unit::Seconds, self.call_seconds.clone());
        of.register("volume_expansions", "Volumes that were too full, by what became of it", self.expansions.clone());
        of.register("database_connections", "Connections to the database", self.connections.clone());
        let help = "For how long the Run that waits longest for its loop has been due";
        of.register_with_unit("run_oldest_due", help, Unit::Seconds, self.oldest_due.clone());
    }

    /// A request was answered. `route` is a template, never a path.
    pub fn request(&self, route: &str, method: &http::Method, status: http::StatusCode, took: Duration) {
        let (route, method) = (Cow::Owned(route.to_owned()), Cow::Borrowed(known(method)));
        let labels = [("route", Cow::clone(&route)), ("method", Cow::clone(&method))];
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let class = Cow::Borrowed(class(status));
        self.requests.get_or_create(&[("route", route), ("method", method), ("status", class)]).inc();
    }

    /// Bytes of Data on their way; the counter is to be kept for the length of a transfer.
    pub fn transferred(&self, way: Direction) -> Counter {
        let way = match way {
            Direction::In => "in",
            Direction::Out => "out",
        };
        self.bytes.get_or_create_owned(&[("direction", Cow::Borrowed(way))])
    }

    /// A loop looked for work.
    pub fn round(&self, of: &'static str) {
        self.rounds.get_or_create(&[("loop", Cow::Borrowed(of))]).inc();
    }

    /// A loop took so many Runs in hand.
    pub fn claimed(&self, of: &'static str, runs: usize) {
        self.claims.get_or_create(&[("loop", Cow::Borrowed(of))]).inc_by(runs as u64);
    }

    /// A loop made a step.
    pub fn step(&self, of: &'static str, is_well: bool, took: Duration) {
        let of = ("loop", Cow::Borrowed(of));
        self.step_seconds.get_or_create(std::array::from_ref(&of)).observe(took.as_secs_f64());
        self.steps.get_or_create(&[of, ("outcome", outcome(is_well))]).inc();
    }

    /// The engine answered.
    pub fn engine(&self, call: &'static str, is_well: bool, took: Duration) {
        let call = ("call", Cow::Borrowed(call));
        self.call_seconds.get_or_create(std::array::from_ref(&call)).observe(took.as_secs_f64());
        self.calls.get_or_create(&[call, ("outcome", outcome(is_well))]).inc();
    }

    /// A volume was too full and was made larger, or could not be.
    pub fn expansion(&self, is_well: bool) {
        self.expansions.get_or_create(&[("outcome", outcome(is_well))]).inc();
    }

    /// How many connections to the database there are now, and how many of them do nothing.
    pub fn connections(&self, all: u32, idle: u32) {
        let set = |state, count: u32| {
            self.connections.get_or_create(&[("state", Cow::Borrowed(state))]).set(count.into());
        };
        set("idle", idle.min(all));
        set("used", all.saturating_sub(idle));
    }

    /// For how long the Run of this status that waits longest has been due.
    pub fn oldest_due(&self, status: RunStatus, age: Duration) {
        self.oldest_due.get_or_create(&[("status", Cow::Borrowed(status.as_str()))]).set(age.as_secs_f64());
    }

    /// All figures as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into memory does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A method of HTTP; whatever else a client says is one and the same.
fn known(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::PATCH => "PATCH",
        http::Method::DELETE => "DELETE",
        http::Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, StatusCode};

    /// The value of a series.
    fn value(text: &str, series: &str) -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(series))?;
        line.trim().parse().ok()
    }

    #[test]
    fn every_figure_is_told_under_its_name_and_moves() {
        let metrics = Metrics::default();
        let took = Duration::from_millis(20);
        metrics.request("/api/data/{id}", &Method::GET, StatusCode::NOT_FOUND, took);
        metrics.transferred(Direction::In).inc_by(7);
        metrics.round("run");
        metrics.claimed("run", 3);
        metrics.step("run", true, took);
        metrics.step("run", false, took);
        metrics.engine("observe", true, took);
        metrics.expansion(false);
        metrics.connections(5, 2);
        metrics.oldest_due(RunStatus::Ready, Duration::from_millis(1500));
        let text = metrics.text();
        for (series, expected) in [
            (format!("knitd_build_info{{version=\"{}\"}}", knit_api::VERSION).as_str(), 1.0),
            ("knitd_http_requests_total{route=\"/api/data/{id}\",method=\"GET\",status=\"4xx\"}", 1.0),
            ("knitd_http_request_duration_seconds_count{route=\"/api/data/{id}\",method=\"GET\"}", 1.0),
            ("knitd_transfer_bytes_total{direction=\"in\"}", 7.0),
            ("knitd_loop_rounds_total{loop=\"run\"}", 1.0),
            ("knitd_loop_claims_total{loop=\"run\"}", 3.0),
            ("knitd_loop_steps_total{loop=\"run\",outcome=\"failed\"}", 1.0),
            ("knitd_loop_step_duration_seconds_count{loop=\"run\"}", 2.0),
            ("knitd_engine_calls_total{call=\"observe\",outcome=\"ok\"}", 1.0),
            ("knitd_volume_expansions_total{outcome=\"failed\"}", 1.0),
            ("knitd_database_connections{state=\"used\"}", 3.0),
            ("knitd_database_connections{state=\"idle\"}", 2.0),
            ("knitd_run_oldest_due_seconds{status=\"ready\"}", 1.5),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn what_a_client_makes_up_makes_no_series() {
        let metrics = Metrics::default();
        for n in 0..100 {
            let method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
            metrics.request("unknown", &method, StatusCode::from_u16(450 + n).unwrap(), Duration::ZERO);
        }
        let series = metrics.text().lines().filter(|line| line.starts_with("knitd_http_requests_total")).count();
        assert_eq!(series, 2);
    }
}

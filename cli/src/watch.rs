//! Following Runs on the terminal: until all that something caused is over ([`until_over`]), or for as long as
//! somebody looks ([`show_changes`]).

use crate::command::run::{result, wait};
use crate::project::Server;
use crate::terminal::board::Board;
use crate::terminal::{
    ExitCode, Failure, Format, Look, Table, note, output, print_while_read, stderr_is_terminal, stdout_is_terminal,
    table,
};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use knit_api::client::{Class, ClientError, RunEvent, RunWatch};
use knit_api::event::{self, Cause};
use knit_api::id::RunId;
use knit_api::run::{Run, RunStatus};
use knit_api::server::capability;
use knit_api::time::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;

/// How many Runs are named when something went wrong with many.
const MOST_NAMED: usize = 10;
/// The time between two drawings on a terminal.
const PAUSE: Duration = Duration::from_millis(200);
/// How soon a server is asked again that has no room for one more who follows events, and how late at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The flags of a command that can wait for what it causes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WaitFlags {
    /// Wait until all Runs that come of it are over, those that come of their outputs too. Ends with 0 when all
    /// are done, with 1 when one failed, with 7 when the time is over
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = crate::args::switch,
          action = clap::ArgAction::Set)]
    wait: bool,
    /// With --wait: wait no longer than this (90s, 1h30m). The Runs go on
    #[arg(long, value_name = "DURATION", value_parser = wait::patience, requires = "wait", allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

impl WaitFlags {
    /// Fails early when it is to be waited and the server cannot tell when it is over.
    pub async fn check(&self, server: &Server) -> Result<(), Failure> {
        if !self.wait {
            return Ok(());
        }
        let advice = "leave out --wait, and wait for the Runs then: knit run wait --plan PLAN_ID";
        requires_events(server, "wait for what comes of it", advice).await
    }

    /// Waits if that is asked for; `what` names the cause.
    pub async fn wait(&self, server: &Server, cause: Cause, what: &str) -> Result<(), Failure> {
        if self.wait { until_over(server, cause, what, self.timeout).await } else { Ok(()) }
    }
}

/// Refuses what only a server that tells events can do, with what can be done instead.
async fn requires_events(server: &Server, what: &str, advice: &str) -> Result<(), Failure> {
    let required = server.requires(capability::EVENTS, what).await;
    match server.client.can(capability::EVENTS).await {
        Ok(false) => required.map_err(|failure| failure.advice(advice)),
        _ => required,
    }
}

/// Waits until all Runs that come of this are over. Fails when one of them failed, or when the time is over.
pub async fn until_over(server: &Server, cause: Cause, what: &str, timeout: Option<Duration>) -> Result<(), Failure> {
    // Dropped last: what it says stands below everything else.
    let mut interrupted = WhenInterrupted(Some(format!("the Runs that come of {what} go on")));
    let mut progress = Progress::new();
    let followed = follow(server, cause, what, &mut progress);
    let outcome = match timeout {
        None => Ok(followed.await),
        Some(patience) => tokio::time::timeout(patience, followed).await,
    };
    interrupted.0 = None;
    progress.board = None;
    match outcome {
        Ok(Ok(())) => progress.outcome(what),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::new(format!("the Runs that come of {what}: not over yet"))
            .why(format!(
                "it took longer than {} s{}",
                timeout.unwrap_or_default().as_secs_f64(),
                progress.unfinished()
            ))
            .advice("the Runs go on; look at them: knit run top")
            .exit(ExitCode::TimedOut)),
    }
}

async fn follow(server: &Server, cause: Cause, what: &str, progress: &mut Progress) -> Result<(), Failure> {
    let mut events = pin!(events(server, RunWatch::cause(cause)));
    let mut pause = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            event = events.next() => {
                let event = event.transpose().map_err(|e| cannot_follow(server, what, &e))?;
                match event {
                    Some(RunEvent::Quiet) => return Ok(()),
                    Some(event) => progress.take(event),
                    None => return Err(Failure::new(format!("cannot follow the Runs that come of {what}"))),
                }
            }
            // Times go on even when nothing happens, and much may happen at once.
            _ = pause.tick(), if progress.board.is_some() => progress.draw(),
        }
    }
}

/// The events. As long as too many follow events at this server, it is asked again, less and less often.
fn events(server: &Server, watch: RunWatch) -> impl Stream<Item = Result<RunEvent, ClientError>> {
    let begun = async move {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut events = Box::pin(server.client.run_events(&watch));
            match events.next().await {
                Some(Err(error)) if error.class() == Class::NotNow => {
                    if pause == FIRST_PAUSE {
                        note(&format!("{error}: trying again until there is room"));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                first => return stream::iter(first).chain(events),
            }
        }
    };
    begun.flatten_stream()
}

fn cannot_follow(server: &Server, what: &str, error: &ClientError) -> Failure {
    server.failed(format!("cannot follow the Runs that come of {what}"), error)
}

/// Says its sentence when it is dropped before it was emptied: when the program is interrupted.
struct WhenInterrupted(Option<String>);

impl Drop for WhenInterrupted {
    fn drop(&mut self) {
        if let Some(sentence) = &self.0 {
            note(sentence);
        }
    }
}

/// How far the Runs are that are waited for.
struct Progress {
    /// On a terminal; elsewhere each change is a line.
    board: Option<Board>,
    live: BTreeMap<RunId, Run>,
    done: HashSet<RunId>,
    failed: BTreeMap<RunId, Run>,
    /// What was last said of a live Run.
    said: HashMap<RunId, String>,
    /// After a broken connection: what has not been told again yet.
    stale: HashSet<RunId>,
}

impl Progress {
    fn new() -> Self {
        Self {
            board: stderr_is_terminal().then(Board::passing),
            live: BTreeMap::new(),
            done: HashSet::new(),
            failed: BTreeMap::new(),
            said: HashMap::new(),
            stale: HashSet::new(),
        }
    }

    fn take(&mut self, event: RunEvent) {
        match event {
            RunEvent::Run(run) => self.take_run(*run),
            RunEvent::Gone(run) => self.forget(&run),
            RunEvent::Again => self.stale = self.live.keys().chain(self.failed.keys()).cloned().collect(),
            RunEvent::Synced => std::mem::take(&mut self.stale).iter().for_each(|run| self.forget(run)),
            RunEvent::Quiet | RunEvent::Busy => {}
        }
    }

    fn take_run(&mut self, run: Run) {
        let (id, status) = (run.summary.id.clone(), run.summary.status);
        self.stale.remove(&id);
        if status == RunStatus::Done && self.done.contains(&id) {
            return;
        }
        self.say(&run);
        self.forget_fate(&id);
        match status {
            RunStatus::Done => drop(self.done.insert(id)),
            RunStatus::Failed => drop(self.failed.insert(id, run)),
            RunStatus::Invalidated => self.forget(&id),
            _ => drop(self.live.insert(id, run)),
        }
    }

    fn forget_fate(&mut self, id: &RunId) {
        self.live.remove(id);
        self.done.remove(id);
        self.failed.remove(id);
    }

    fn forget(&mut self, id: &RunId) {
        self.forget_fate(id);
        self.said.remove(id);
    }

    /// One line for a change, where there is no board.
    fn say(&mut self, run: &Run) {
        if self.board.is_some() {
            return;
        }
        let id = &run.summary.id;
        let text = told(run);
        if self.said.get(id) != Some(&text) {
            note(&format!("run {id}: {text}"));
        }
        if run.summary.status == RunStatus::Done {
            self.said.remove(id);
        } else {
            self.said.insert(id.clone(), text);
        }
    }

    fn draw(&self) {
        let Some(board) = &self.board else { return };
        let now = now();
        let mut live: Vec<&Run> = self.live.values().collect();
        // What is furthest stands first.
        live.sort_by_key(|run| (std::cmp::Reverse(run.summary.status), run.summary.updated_at));
        let lines = live.iter().take(board.room()).map(|run| {
            let (id, reason) = (run.summary.id.as_str(), run.reason.as_deref().unwrap_or_default());
            let short: String = id.chars().take(8).collect();
            format!(
                "{short:8}  {:<11} {:>7}  {}  {reason}",
                run.summary.status.as_str(),
                how_long(run.summary.updated_at, now),
                run.summary.plan.title(),
            )
        });
        board.show(lines, live.len().saturating_sub(board.room()), &self.summary());
    }

    fn summary(&self) -> String {
        format!("{} under way, {} done, {} failed", self.live.len(), self.done.len(), self.failed.len())
    }

    /// Those that are under way, a few of them, each on a line.
    fn unfinished(&self) -> String {
        let live = self.live.values().filter(|run| run.summary.status != RunStatus::Deactivated);
        named(live.map(wait::standing).collect())
    }

    /// What it comes to once all are over.
    fn outcome(&self, what: &str) -> Result<(), Failure> {
        let Some((id, run)) = self.failed.first_key_value() else {
            match (self.done.len(), self.live.len()) {
                (0, 0) => note(&format!("no Run has come of {what}")),
                (_, 0) => {}
                (_, 1) => note("parked, because its Plan is inactive: one Run"),
                (_, parked) => note(&format!("parked, because their Plans are inactive: {parked} Runs")),
            }
            return Ok(());
        };
        let failure = if self.failed.len() == 1 {
            Failure::new(format!("the Run {id} failed")).why(result(run))
        } else {
            let lines = self.failed.values().map(|run| format!("the Run {} is {}", run.summary.id, told(run)));
            let all = self.failed.len() + self.done.len();
            Failure::new(format!("{} of {all} Runs failed:{}", self.failed.len(), named(lines.collect())))
        };
        let log = if wait::has_log(run) { format!("\nknit run show --log {id}") } else { String::new() };
        Err(failure.advice(format!("knit run why {id}{log}")))
    }
}

/// The first of these, a line each, and how many more there are.
fn named(mut lines: Vec<String>) -> String {
    let more = lines.len().saturating_sub(MOST_NAMED);
    lines.truncate(MOST_NAMED);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.iter().flat_map(|line| ["\n  ", line]).collect()
}

/// The status, and what there is to say of it.
fn told(run: &Run) -> String {
    let status = run.summary.status;
    let more = match status {
        RunStatus::Done => String::new(),
        RunStatus::Failed | RunStatus::Aborting => result(run).replace('\n', "; "),
        _ => run.reason.clone().unwrap_or_default(),
    };
    if more.is_empty() { status.to_string() } else { format!("{status}: {more}") }
}

/// How Runs are shown while somebody looks.
pub(crate) trait View {
    /// Finds out what is needed to show this Run.
    async fn learn(&mut self, run: &Run) -> Result<(), Failure>;
    /// The Runs as a table.
    fn table(&self, runs: &[&Run]) -> Table;
    /// One Run as JSON shows it.
    fn value<'a>(&'a self, run: &'a Run) -> impl Serialize + 'a;
}

/// Shows the Runs and all their changes until the program is interrupted: on a terminal as a table that is
/// replaced in place, elsewhere as one value for each change, JSON on one line unless another form is chosen.
pub(crate) async fn show_changes(
    server: &Server,
    watch: RunWatch,
    look: Look,
    mut view: impl View,
) -> Result<ExitCode, Failure> {
    requires_events(server, "watch Runs", "wait for a Run instead: knit run wait RUN_ID").await?;
    let statuses: BTreeSet<RunStatus> = watch.query.statuses.iter().copied().collect();
    let mut events = pin!(events(server, watch));
    let mut shown = Shown::new(look);
    let mut pause = tokio::time::interval(PAUSE);
    let mut ticks = 0_u32;
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return Ok(ExitCode::Ok) };
                match event.map_err(|e| server.failed("cannot watch Runs", &e))? {
                    RunEvent::Run(run) => {
                        view.learn(&run).await?;
                        let fits = (statuses.is_empty() || statuses.contains(&run.summary.status))
                            && run.summary.status != RunStatus::Invalidated;
                        shown.take(*run, fits, &view)?;
                    }
                    RunEvent::Gone(run) => shown.gone(&run)?,
                    RunEvent::Again => shown.stale = shown.runs.keys().cloned().collect(),
                    RunEvent::Synced => shown.synced(&view),
                    RunEvent::Quiet | RunEvent::Busy => {}
                }
            }
            _ = pause.tick(), if shown.board.is_some() => {
                ticks = ticks.wrapping_add(1);
                if shown.changed || ticks.is_multiple_of(5) {
                    shown.draw(&view);
                }
            }
        }
    }
}

/// What was shown of the watched Runs.
struct Shown {
    look: Look,
    /// On a terminal.
    board: Option<Board>,
    /// For the board: all that live, and the last that ended.
    runs: HashMap<RunId, Run>,
    stale: HashSet<RunId>,
    is_synced: bool,
    changed: bool,
    is_first: bool,
}

impl Shown {
    fn new(look: Look) -> Self {
        let is_table = matches!(look.format(), Format::Table | Format::Wide);
        Self {
            look,
            board: (stdout_is_terminal() && is_table).then(Board::lasting),
            runs: HashMap::new(),
            stale: HashSet::new(),
            is_synced: false,
            changed: false,
            is_first: true,
        }
    }

    fn take(&mut self, run: Run, fits: bool, view: &impl View) -> Result<(), Failure> {
        let id = run.summary.id.clone();
        self.stale.remove(&id);
        if self.board.is_none() {
            return self.print(&run, view);
        }
        self.changed = true;
        if fits {
            self.runs.insert(id, run);
            self.forget();
        } else {
            self.runs.remove(&id);
        }
        Ok(())
    }

    /// Of those that ended only the last are kept.
    fn forget(&mut self) {
        let most = 2 * event::ENDED;
        if self.runs.len() <= most || !self.runs.len().is_multiple_of(event::ENDED) {
            return;
        }
        let over = self.runs.values().filter(|run| run.summary.status.is_over());
        let mut over: Vec<(Timestamp, RunId)> =
            over.map(|run| (run.summary.updated_at, run.summary.id.clone())).collect();
        over.sort_unstable();
        let many = over.len().saturating_sub(event::ENDED);
        over.iter().take(many).for_each(|(_, run)| drop(self.runs.remove(run)));
    }

    fn gone(&mut self, run: &RunId) -> Result<(), Failure> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Gone<'a> {
            run_id: &'a RunId,
            gone: bool,
        }
        if self.board.is_some() {
            self.changed |= self.runs.remove(run).is_some();
            return Ok(());
        }
        match self.look.format() {
            Format::Json => print_line(&Gone { run_id: run, gone: true }),
            _ => Ok(()),
        }
    }

    fn synced(&mut self, view: &impl View) {
        self.is_synced = true;
        for run in std::mem::take(&mut self.stale) {
            self.runs.remove(&run);
        }
        self.draw(view);
    }

    /// The last Runs that there is room for.
    fn draw(&mut self, view: &impl View) {
        let Some(board) = self.board.as_ref().filter(|_| self.is_synced) else { return };
        self.changed = false;
        let mut runs: Vec<&Run> = self.runs.values().collect();
        runs.sort_unstable_by(|a, b| (a.summary.updated_at, &a.summary.id).cmp(&(b.summary.updated_at, &b.summary.id)));
        let first = runs.len().saturating_sub(board.room().saturating_sub(1));
        // A board has lines of its own width, and no colours.
        let fitting = self.look.view();
        let fitting = table::View { width: fitting.width.map(|_| board.width()), colour: false, ..fitting };
        let text = view.table(&runs[first..]).render_as(&fitting);
        let last = if first > 0 { format!("({first} more before these)") } else { String::new() };
        // Rows may have several lines: of all of them the header and the last ones are kept.
        let lines: Vec<&str> = text.lines().collect();
        let kept = lines.len().saturating_sub(board.room()).max(1);
        board.show(lines.iter().take(1).chain(lines.iter().skip(kept)), 0, &last);
    }

    fn print(&mut self, run: &Run, view: &impl View) -> Result<(), Failure> {
        let is_first = std::mem::take(&mut self.is_first);
        match self.look.format() {
            Format::Json => print_line(&view.value(run)),
            Format::Name => print_while_read(&format!("{}\n", run.summary.id)),
            Format::Yaml => {
                let separator = if is_first { "" } else { "---\n" };
                print_while_read(&format!("{separator}{}", output::yaml(&view.value(run))?))
            }
            Format::Table | Format::Wide => {
                let text = view.table(&[run]).render_as(&self.look.view());
                // One header is enough.
                let from = if is_first { 0 } else { text.find('\n').map_or(0, |end| end + 1) };
                print_while_read(&text[from..])
            }
        }
    }
}

/// One value as JSON on one line.
fn print_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|e| Failure::new("cannot print the result as JSON").why(e))?;
    print_while_read(&format!("{text}\n"))
}

/// The present.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// How long something has lasted, for a person: the two largest units.
pub(crate) fn how_long(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.micros().saturating_sub(since.micros()).max(0) / 1_000_000;
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m01s"), (3720, "1h02m"), (90_000, "1d01h"), (-5, "0s")] {
            assert_eq!(how_long(Timestamp::from_micros(0), Timestamp::from_micros(seconds * 1_000_000)), text);
        }
    }

    #[test]
    fn many_are_named_up_to_a_bound() {
        assert_eq!(named(vec!["a".to_owned()]), "\n  a");
        let many = named((0..15).map(|n| n.to_string()).collect());
        assert!(many.ends_with("\n  9\n  and 5 more"), "{many}");
    }
}

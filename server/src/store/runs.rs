//! Runs as users see and change them: reading, search, stop, retry, removal.

use super::engine::{Db, Gate, Row, Tx, Value, args, batch, list, whole};
use super::pages::{self, Between, Key, Page, Search, Window};
use super::plans::{self, Kind};
use super::projection::{Output, make_outputs};
use super::tags::MOST_COUNTED;
use super::{LogPlace, Refusal, Result, RunQuery, Stop, Store};
use crate::engine::Volume;
use crate::rules::lifecycle;
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::plan::PlanSummary;
use knit_api::run::{Assignment, Exit, LogAssignment, Run, RunStatus, RunSummary};
use knit_api::time::Timestamp;
use std::collections::{BTreeSet, HashMap};

/// The columns that [`Found`] reads.
macro_rules! found {
    () => {
        "r.id, r.status, r.updated_at, r.exit_code, r.exit_message, r.plan_id, r.reason, r.image_digest"
    };
}

const DETAILS: &str = concat!("select ", found!(), " from json_each($1) j join run r on r.id = j.value ->> 0");

/// Keys of Runs between (`$1`, `$2`) and (`$3`, `$4`); at most `$5`.
macro_rules! keys {
    ($from:literal, $at:literal, $order:literal) => {
        concat!(
            "select r.id, r.updated_at from ",
            $from,
            " and (",
            $at,
            ", r.id) > ($1, $2) and (",
            $at,
            ", r.id) < ($3, $4) order by ",
            $order,
            " limit $5"
        )
    };
}

macro_rules! both_ways {
    ($from:literal, $at:literal) => {
        [keys!($from, $at, "r.updated_at, r.id"), keys!($from, $at, "r.updated_at desc, r.id desc")]
    };
}

/// The same with conditions: `$6` Plans, `$7` inputs, `$8` outputs, `$9` statuses (an empty list is none). Each is
/// looked up for each Run that has come so far: what could be made a join might be made one with all there are.
macro_rules! fitting {
    ($from:literal, $at:literal, $order:literal) => {
        concat!(
            "select r.id, r.updated_at from ",
            $from,
            " and ($6 = '[]' or r.plan_id in (select j.value ->> 0 from json_each($6) j)) \
             and ($7 = '[]' or (select 1 from json_each($7) j join run_input i \
               on i.data_id = j.value ->> 0 and i.run_id = r.id limit 1) = 1) \
             and ($8 = '[]' or (select 1 from json_each($8) j join data d \
               on d.id = j.value ->> 0 and d.run_id = r.id limit 1) = 1) \
             and ($9 = '[]' or r.status in (select j.value ->> 0 from json_each($9) j)) and (",
            $at,
            ", r.id) > ($1, $2) and (",
            $at,
            ", r.id) < ($3, $4) order by ",
            $order,
            " limit $5"
        )
    };
}

macro_rules! fitting_both_ways {
    ($from:literal, $at:literal) => {
        [fitting!($from, $at, "r.updated_at, r.id"), fitting!($from, $at, "r.updated_at desc, r.id desc")]
    };
}

/// The Runs of one Plan in one status.
pub(super) const BY_PLAN: [&str; 2] = both_ways!("run r where r.plan_id = $6 and r.status = $7", "r.updated_at");
/// The Runs in one status.
pub(super) const BY_STATUS: [&str; 2] = both_ways!("run r where r.status = $6", "r.updated_at");
/// All Runs, on SQLite and on PostgreSQL. SQLite would rather jump from status to status in another index, and sort.
pub(super) const BY_TIME: [[&str; 2]; 2] = [
    both_ways!("run r indexed by run_by_time where true", "r.updated_at"),
    both_ways!("run r where true", "r.updated_at"),
];
// Where something else leads, the time is computed: no database then thinks of walking an index on it.
pub(super) const FROM_OUTPUTS: [&str; 2] = fitting_both_ways!(
    "run r where r.id in (select d.run_id from json_each($8) j join data d on d.id = j.value ->> 0)",
    "r.updated_at + 0"
);
pub(super) const FROM_INPUTS: [&str; 2] = fitting_both_ways!(
    "run r where r.id in (select i.run_id from json_each($7) j join run_input i on i.data_id = j.value ->> 0)",
    "r.updated_at + 0"
);
pub(super) const FROM_PLANS: [&str; 2] =
    fitting_both_ways!("run r where r.plan_id in (select j.value ->> 0 from json_each($6) j)", "r.updated_at + 0");
/// All Runs, looked through, on SQLite and on PostgreSQL.
pub(super) const THROUGH_TIME: [[&str; 2]; 2] = [
    fitting_both_ways!("run r indexed by run_by_time where true", "r.updated_at"),
    fitting_both_ways!("run r where true", "r.updated_at"),
];
/// How many Runs use each of these Data, counted no further than 5000.
pub(super) const INPUT_USES: &str = "select \
    (select count(*) from (select 1 from run_input i where i.data_id = j.value ->> 0 limit 5000) x) \
    from json_each($1) j";
/// How many Runs each of these Plans has, counted no further than 5000.
pub(super) const PLAN_USES: &str = "select \
    (select count(*) from (select 1 from run r where r.plan_id = j.value ->> 0 limit 5000) x) \
    from json_each($1) j";
/// A time that no Run has reached.
const END: &str = "select coalesce(max(updated_at), 0) + 1 from run";
/// Up to so many pairs of Plan and status are read one by one and merged.
const MOST_MERGED: usize = 40;

const INPUTS: &str = "select i.run_id, i.mount_id, i.data_id \
    from json_each($1) j join run_input i on i.run_id = j.value ->> 0";
const OUTPUTS: &str = "select d.run_id, d.mount_id, d.id from json_each($1) j join data d on d.run_id = j.value ->> 0";

const COUNT: &str = "select status, count(*) from run group by status order by status";
const STATUS: &str = "select status from run where id = $1";
const STATE: &str = "select status, reason from run where id = $1";
pub(super) const QUIET: &str = "select case when \
      exists (select 1 from run r where r.plan_id = p.id and r.status <> 'deactivated' \
        and r.status not in ('done', 'failed', 'invalidated')) \
      or exists (select 1 from mount m where m.plan_id = p.id and exists \
        (select 1 from spark s where s.mount_id = m.id)) \
    then 0 else 1 end from plan p where p.id = $1";
const LOG: &str = "select r.status, \
      (select d.volume from data d join mount m on m.id = d.mount_id where d.run_id = r.id and m.kind = 'log') \
    from run r where r.id = $1";

/// The row lock of a Run, and what the rules about its change look at.
const LOCK: &str = "update run set updated_at = updated_at where id = $1 \
    returning status, plan_id, signature";
const STOP: &str = "update run set updated_at = case when status = $2 then updated_at else $3 end, status = $2, \
      due_at = $3, exit_code = $4, exit_message = $5, reason = null, failures = 0 where id = $1";
/// Who holds a claim on it, while a stray worker of it is removed, keeps the claim.
const RETRY: &str = "update run set status = 'waiting', updated_at = $2, due_at = $2, failures = 0, exit_code = null, exit_message = null, reason = null, image_digest = null \
    where id = $1";
const INVALIDATE: &str = "update run set status = 'invalidated', updated_at = $2, due_at = $2, failures = 0, \
      exit_code = null, exit_message = null, reason = null, image_digest = null where id = $1";
const ERASE: &str = "delete from run where id = $1";

const LOCK_OUTPUTS: &str = "update data set rev = rev + 1 where run_id = $1 returning id, volume";
pub(super) const NOMINATING: &str = "select n.mount_id from nomination n where n.data_id = $1";
const NOMINATING_PLANS: &str = "select distinct m.plan_id from json_each($1) j \
    join nomination n on n.data_id = j.value ->> 0 join mount m on m.id = n.mount_id order by 1";
const LOCK_PLAN: &str = "update plan set projected_at = projected_at where id = $1";
const USERS: &str = "select distinct r.id, r.status from json_each($1) j \
    join run_input i on i.data_id = j.value ->> 0 join run r on r.id = i.run_id order by 1";
const DROP_INPUTS: &str = "delete from run_input where run_id in (select j.value ->> 0 from json_each($1) j)";
const DROP_RUNS: &str = "delete from run where id in (select j.value ->> 0 from json_each($1) j)";
const DROP_NOMINATIONS: &str = "delete from nomination where data_id in (select j.value ->> 0 from json_each($1) j)";
const DROP_TAGS: &str = "delete from data_tag where data_id in (select j.value ->> 0 from json_each($1) j)";
const DROP_DATA: &str = "delete from data where id in (select j.value ->> 0 from json_each($1) j)";
const ADD_GARBAGE: &str = "insert into garbage (volume, since) \
    select j.value ->> 0, cast($1 as bigint) from json_each($2) j where true on conflict do nothing";
const OUTPUT_MOUNTS: &str = "select id from mount where plan_id = $1 and kind in ('output', 'log') order by kind, ord";

/// How many of the Runs in the way a refusal names.
const NAMED: usize = 10;

/// What every mention of a Run says, its Plan by id alone.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: RunId,
    pub(super) status: RunStatus,
    pub(super) updated_at: Timestamp,
    pub(super) exit: Option<Exit>,
    pub(super) plan: PlanId,
}

impl Head {
    /// From six columns: id, status, updated_at, exit_code, exit_message, plan_id.
    pub(super) fn read(row: &Row, first: usize) -> Db<Self> {
        let exit = match (row.opt_int(first + 3)?, row.opt_text(first + 4)?) {
            (Some(code), Some(message)) => Some(Exit { code: u8::try_from(code).unwrap_or(u8::MAX), message }),
            _ => None,
        };
        Ok(Self {
            id: row.text(first)?.into(),
            status: row.parsed(first + 1)?,
            updated_at: Timestamp::from_micros(row.int(first + 2)?),
            exit,
            plan: row.text(first + 5)?.into(),
        })
    }

    pub(super) fn summary(self, plan: PlanSummary) -> RunSummary {
        RunSummary { id: self.id, status: self.status, updated_at: self.updated_at, exit: self.exit, plan }
    }
}

struct Found {
    head: Head,
    reason: Option<String>,
    image_digest: Option<String>,
}

impl Found {
    fn read(row: &Row) -> Db<Self> {
        Ok(Self { head: Head::read(row, 0)?, reason: row.opt_text(6)?, image_digest: row.opt_text(7)? })
    }
}

impl Store {
    /// One Run.
    pub async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        whole!("reading a Run", self.try_run(id))
    }

    async fn try_run(&self, id: &RunId) -> Db<Option<Run>> {
        let mut tx = self.db.begin_reading().await?;
        let run = read(&mut tx, &[id.as_str().to_owned()]).await?.pop();
        tx.commit().await?;
        Ok(run)
    }

    /// Those of these Runs that are there, by `updatedAt`, then id.
    pub async fn runs(&self, ids: &[RunId]) -> Result<Vec<Run>> {
        whole!("reading Runs", self.try_runs(ids))
    }

    async fn try_runs(&self, ids: &[RunId]) -> Db<Vec<Run>> {
        let mut tx = self.db.begin_reading().await?;
        let ids: Vec<String> = ids.iter().map(RunId::to_string).collect();
        let mut runs = read(&mut tx, &ids).await?;
        tx.commit().await?;
        runs.sort_by(|a, b| (a.summary.updated_at, &a.summary.id).cmp(&(b.summary.updated_at, &b.summary.id)));
        Ok(runs)
    }

    /// All that match, by `updatedAt`, then id.
    pub async fn find_runs(&self, query: &RunQuery) -> Result<Vec<Run>> {
        whole!("searching Runs", self.found(Some(Wanted::from_query(query))))
    }

    /// A part of what [`Self::find_runs`] finds.
    pub async fn page_of_runs(&self, query: &RunQuery, window: &Window) -> Result<Page<Run>> {
        whole!("searching Runs", self.page(Some(Wanted::from_query(query)), window))
    }

    /// The ids of all that [`Self::find_runs`] finds.
    pub async fn ids_of_runs(&self, query: &RunQuery, reverse: bool) -> Result<Vec<String>> {
        whole!("searching Runs", self.ids(Some(Wanted::from_query(query)), reverse))
    }

    /// The Runs of these ids in this order, as far as they are there.
    pub async fn runs_of(&self, ids: &[String]) -> Result<Vec<Run>> {
        whole!("reading Runs", self.of::<Wanted<'_>>(ids))
    }

    /// Number of Runs in each status that occurs.
    pub async fn count_runs(&self) -> Result<Vec<(RunStatus, u64)>> {
        whole!("counting Runs", self.try_count_runs())
    }

    async fn try_count_runs(&self) -> Db<Vec<(RunStatus, u64)>> {
        let rows = self.db.rows(COUNT, &[]).await?;
        let mut counts: Vec<(RunStatus, u64)> =
            rows.iter().map(|row| Ok((row.parsed(0)?, row.int(1)?.unsigned_abs()))).collect::<Db<_>>()?;
        counts.sort_unstable();
        Ok(counts)
    }

    /// Status alone: the cheap look of those who wait.
    pub async fn run_status(&self, id: &RunId) -> Result<Option<RunStatus>> {
        whole!("reading the status of a Run", self.try_run_status(id))
    }

    async fn try_run_status(&self, id: &RunId) -> Db<Option<RunStatus>> {
        self.db.row(STATUS, args![id.as_str()]).await?.map(|row| row.parsed(0)).transpose()
    }

    /// Status and reason alone, for those who wait for either.
    pub async fn run_state(&self, id: &RunId) -> Result<Option<(RunStatus, Option<String>)>> {
        whole!("reading how a Run stands", self.try_run_state(id))
    }

    async fn try_run_state(&self, id: &RunId) -> Db<Option<(RunStatus, Option<String>)>> {
        let row = self.db.row(STATE, args![id.as_str()]).await?;
        row.map(|row| Ok((row.parsed(0)?, row.opt_text(1)?))).transpose()
    }

    /// True when no Run of the Plan is under way and nothing is left to project for it. Parked Runs of an
    /// inactive Plan are not under way. None for an unknown Plan.
    pub async fn plan_is_quiet(&self, id: &PlanId) -> Result<Option<bool>> {
        whole!("looking whether a Plan is quiet", self.try_plan_is_quiet(id))
    }

    async fn try_plan_is_quiet(&self, id: &PlanId) -> Db<Option<bool>> {
        self.db.row(QUIET, args![id.as_str()]).await?.map(|row| Ok(row.int(0)? != 0)).transpose()
    }

    /// Asks a Run to stop. Who holds a claim on it keeps the claim until it notices.
    pub async fn stop(&self, id: &RunId, how: Stop, now: Timestamp) -> Result<Result<(), Refusal>> {
        whole!("stopping a Run", self.try_stop(id, how, now))
    }

    async fn try_stop(&self, id: &RunId, how: Stop, now: Timestamp) -> Db<Result<(), Refusal>> {
        let mut tx = self.db.begin().await?;
        let Some(run) = Locked::take(&mut tx, id).await? else { return Ok(Err(Refusal::NotFound)) };
        let Some((status, exit)) = lifecycle::stopped(run.status, how) else {
            return Ok(Err(Refusal::Status(run.status)));
        };
        let columns = args![id.as_str(), status.as_str(), now.micros(), i64::from(exit.code), &exit.message];
        tx.exec(STOP, columns).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// Puts an ended Run back to waiting with new outputs; the old ones become garbage.
    pub async fn retry(&self, id: &RunId, now: Timestamp) -> Result<Result<(), Refusal>> {
        whole!("retrying a Run", self.try_retry(id, now))
    }

    async fn try_retry(&self, id: &RunId, now: Timestamp) -> Db<Result<(), Refusal>> {
        let mut tx = self.db.begin().await?;
        tx.gate(Gate::Data).await?;
        let run = match Locked::ended(&mut tx, id).await? {
            Ok(run) => run,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !run.has_inputs {
            return Ok(Err(Refusal::BuiltIn));
        }
        if let Err(refusal) = drop_outputs(&mut tx, id, now).await? {
            return Ok(Err(refusal));
        }
        tx.exec(RETRY, args![id.as_str(), now.micros()]).await?;
        let mounts = tx.rows(OUTPUT_MOUNTS, args![run.plan.as_str()]).await?;
        let outputs = mounts.iter().map(|row| Ok(Output::new(id.as_str(), row.text(0)?))).collect::<Db<Vec<_>>>()?;
        make_outputs(&mut tx, &outputs).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// Removes an ended Run and its outputs; one with inputs stays as `invalidated`.
    pub async fn remove_run(&self, id: &RunId, now: Timestamp) -> Result<Result<(), Refusal>> {
        whole!("removing a Run", self.try_remove_run(id, now))
    }

    async fn try_remove_run(&self, id: &RunId, now: Timestamp) -> Db<Result<(), Refusal>> {
        let mut tx = self.db.begin().await?;
        tx.gate(Gate::Data).await?;
        if let Err(refusal) = remove(&mut tx, id, now).await? {
            return Ok(Err(refusal));
        }
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// Removes a Data with the Run that made it, as [`Self::remove_run`] does; the Run.
    pub async fn remove_data(&self, id: &DataId, now: Timestamp) -> Result<Result<RunId, (RunId, Refusal)>> {
        whole!("removing a Data", self.try_remove_data(id, now))
    }

    async fn try_remove_data(&self, id: &DataId, now: Timestamp) -> Db<Result<RunId, (RunId, Refusal)>> {
        let mut tx = self.db.begin().await?;
        tx.gate(Gate::Data).await?;
        // Which Run made a Data never changes.
        let Some(row) = tx.row(super::data::RUN_OF, args![id.as_str()]).await? else {
            return Ok(Err((RunId::default(), Refusal::NotFound)));
        };
        let run: RunId = row.text(0)?.into();
        if let Err(refusal) = remove(&mut tx, &run, now).await? {
            return Ok(Err((run, refusal)));
        }
        tx.commit().await?;
        Ok(Ok(run))
    }

    /// Where a Run's log is; none for an unknown Run.
    pub async fn log_place(&self, id: &RunId) -> Result<Option<LogPlace>> {
        whole!("locating a log", self.try_log_place(id))
    }

    async fn try_log_place(&self, id: &RunId) -> Db<Option<LogPlace>> {
        let Some(row) = self.db.row(LOG, args![id.as_str()]).await? else { return Ok(None) };
        Ok(Some(LogPlace { status: row.parsed(0)?, volume: row.opt_text(1)?.map(Volume::from_stored) }))
    }
}

/// A search in the store's terms.
struct Wanted<'a> {
    query: &'a RunQuery,
    /// Each once.
    plans: BTreeSet<&'a str>,
    /// Each once.
    statuses: BTreeSet<RunStatus>,
}

impl<'a> Wanted<'a> {
    fn from_query(query: &'a RunQuery) -> Self {
        let plans = query.plans.iter().map(PlanId::as_str).collect();
        Self { query, plans, statuses: query.statuses.iter().copied().collect() }
    }

    /// Where only Plans and statuses are asked for, in few pairs of them: each has its Runs in order.
    async fn merged(&self, tx: &mut Tx, bounds: &[Value<'_>], part: &Window) -> Db<Option<Vec<Key>>> {
        if !self.query.inputs.is_empty() || !self.query.outputs.is_empty() {
            return Ok(None);
        }
        let any: BTreeSet<RunStatus> = RunStatus::ALL.into();
        let none_named = self.plans.is_empty() && self.statuses.is_empty();
        let statuses = if self.statuses.is_empty() { &any } else { &self.statuses };
        let (sql, ends): (_, Vec<Vec<&str>>) = if none_named {
            (tx.choose(BY_TIME[0], BY_TIME[1]), vec![Vec::new()])
        } else if self.plans.is_empty() {
            (BY_STATUS, statuses.iter().map(|status| vec![status.as_str()]).collect())
        } else {
            let of_plan =
                |plan: &&'a str| statuses.iter().map(|status| vec![*plan, status.as_str()]).collect::<Vec<_>>();
            (BY_PLAN, self.plans.iter().flat_map(of_plan).collect())
        };
        if ends.len() > MOST_MERGED {
            return Ok(None);
        }
        let mut keys = Vec::new();
        for end in &ends {
            let args: Vec<Value<'_>> =
                bounds.iter().cloned().chain(end.iter().map(|text| Value::from(*text))).collect();
            let rows = tx.rows(sql[usize::from(part.reverse)], &args).await?;
            keys.push(rows.iter().map(Key::read).collect::<Db<Vec<_>>>()?);
        }
        Ok(Some(pages::merge(tx, keys, part).await?))
    }

    /// Where to begin, when Runs have to be looked at one by one: at what is asked for that the fewest have.
    async fn way(&self, tx: &mut Tx, plans: &str, inputs: &str) -> Db<&'static [&'static str; 2]> {
        if !self.query.outputs.is_empty() {
            return Ok(&FROM_OUTPUTS);
        }
        for (sql, ids, way) in [(INPUT_USES, inputs, &FROM_INPUTS), (PLAN_USES, plans, &FROM_PLANS)] {
            let uses = tx.rows(sql, args![ids]).await?.iter().map(|row| row.int(0)).sum::<Db<i64>>()?;
            if ids != "[]" && uses < MOST_COUNTED {
                return Ok(way);
            }
        }
        Ok(tx.choose(&THROUGH_TIME[0], &THROUGH_TIME[1]))
    }
}

impl Search for Wanted<'_> {
    type Item = Run;

    async fn keys(&self, tx: &mut Tx, part: &Window) -> Db<Vec<Key>> {
        let since = self.query.since.map_or(i64::MIN, Timestamp::micros);
        let until = self.query.until.map_or(i64::MAX, Timestamp::micros);
        let Between { low, high } = Between::ahead(since, until, part);
        let mut args = args![low.0, low.1, high.0, high.1, part.limit as i64].to_vec();
        if let Some(keys) = self.merged(tx, &args, part).await? {
            return Ok(keys);
        }
        let plans = list(&self.plans);
        let inputs = list(self.query.inputs.iter().map(DataId::as_str));
        let way = self.way(tx, &plans, &inputs).await?;
        let outputs = list(self.query.outputs.iter().map(DataId::as_str));
        let statuses = list(self.statuses.iter().map(|status| status.as_str()));
        args.extend([plans, inputs, outputs, statuses].map(Value::from));
        tx.rows(way[usize::from(part.reverse)], &args).await?.iter().map(Key::read).collect()
    }

    async fn read(tx: &mut Tx, ids: &[String]) -> Db<Vec<Run>> {
        read(tx, ids).await
    }

    /// With the last one last, a Run that changes goes to where the reader has not been yet.
    async fn end(&self, tx: &mut Tx, reverse: bool) -> Db<i64> {
        if reverse {
            return Ok(i64::MAX);
        }
        tx.row(END, &[]).await?.map_or(Ok(i64::MAX), |row| row.int(0))
    }
}

/// A Run whose row this transaction holds.
struct Locked {
    status: RunStatus,
    plan: PlanId,
    /// False for Runs of built-in Plans, and only for these.
    has_inputs: bool,
}

impl Locked {
    async fn take(tx: &mut Tx, id: &RunId) -> Db<Option<Self>> {
        let Some(row) = tx.row(LOCK, args![id.as_str()]).await? else { return Ok(None) };
        Ok(Some(Self { status: row.parsed(0)?, plan: row.text(1)?.into(), has_inputs: row.opt_text(2)?.is_some() }))
    }

    /// One that is over and can be taken back.
    async fn ended(tx: &mut Tx, id: &RunId) -> Db<Result<Self, Refusal>> {
        Ok(match Self::take(tx, id).await? {
            None => Err(Refusal::NotFound),
            Some(run) => ended(run.status).map(|()| run),
        })
    }
}

/// Refuses what can only be done with a Run that is over and was not deleted.
pub(super) fn ended(status: RunStatus) -> Result<(), Refusal> {
    match status {
        RunStatus::Invalidated => Err(Refusal::NotFound),
        _ if status.is_over() => Ok(()),
        _ => Err(Refusal::Status(status)),
    }
}

/// Removes an ended Run and its outputs.
async fn remove(tx: &mut Tx, id: &RunId, now: Timestamp) -> Db<Result<(), Refusal>> {
    let run = match Locked::ended(tx, id).await? {
        Ok(run) => run,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(refusal) = drop_outputs(tx, id, now).await? {
        return Ok(Err(refusal));
    }
    if run.has_inputs {
        tx.exec(INVALIDATE, args![id.as_str(), now.micros()]).await?;
    } else {
        tx.exec(ERASE, args![id.as_str()]).await?;
    }
    Ok(Ok(()))
}

/// The Runs that use these Data: first those that are in the way of removing them, then the deleted ones.
pub(super) async fn users(tx: &mut Tx, data: &str) -> Db<(Vec<String>, Vec<String>)> {
    let (mut live, mut invalidated) = (Vec::new(), Vec::new());
    for row in tx.rows(USERS, args![data]).await? {
        let users = if row.parsed::<RunStatus>(1)? == RunStatus::Invalidated { &mut invalidated } else { &mut live };
        users.push(row.text(0)?);
    }
    Ok((live, invalidated))
}

impl Refusal {
    /// These Runs are in the way.
    pub(super) fn downstreams(live: Vec<String>) -> Self {
        Self::HasDownstreams(live.into_iter().take(NAMED).map(RunId::from).collect())
    }
}

/// Drops what an ended Run has made, its volumes becoming garbage, and the invalidated Runs that used it.
/// Refused while other Runs use it.
///
/// Locks: the Data, then the Plans that these are nominated for, so that no projection of theirs is
/// under way. With the gate passed and the Data held, no nomination is added meanwhile.
async fn drop_outputs(tx: &mut Tx, run: &RunId, now: Timestamp) -> Db<Result<(), Refusal>> {
    let outputs = tx.rows(LOCK_OUTPUTS, args![run.as_str()]).await?;
    let ids: Vec<String> = outputs.iter().map(|row| row.text(0)).collect::<Db<_>>()?;
    let volumes: Vec<String> = outputs.iter().map(|row| row.text(1)).collect::<Db<_>>()?;
    let ids = list(&ids);
    for plan in tx.rows(NOMINATING_PLANS, args![&ids]).await? {
        tx.exec(LOCK_PLAN, args![plan.text(0)?]).await?;
    }
    let (live, invalidated) = users(tx, &ids).await?;
    if !live.is_empty() {
        return Ok(Err(Refusal::downstreams(live)));
    }
    let invalidated = list(&invalidated);
    for (sql, rows) in [
        (DROP_INPUTS, &invalidated),
        (DROP_RUNS, &invalidated),
        (DROP_NOMINATIONS, &ids),
        (DROP_TAGS, &ids),
        (DROP_DATA, &ids),
    ] {
        tx.exec(sql, args![rows]).await?;
    }
    tx.exec(ADD_GARBAGE, args![now.micros(), list(&volumes)]).await?;
    Ok(Ok(()))
}

/// The Runs of these ids in their order, as far as they are there, with what went in and came out, in a fixed
/// number of statements.
async fn read(tx: &mut Tx, ids: &[String]) -> Db<Vec<Run>> {
    let rows = tx.rows(DETAILS, args![list(ids)]).await?;
    let mut found: Vec<Found> = rows.iter().map(Found::read).collect::<Db<_>>()?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    found.sort_by_key(|run| places.get(run.head.id.as_str()).copied());
    let ids = batch(found.iter().map(|run| [run.head.id.as_str()]));
    let mut assigned: HashMap<(RunId, String), DataId> = HashMap::new();
    for sql in [INPUTS, OUTPUTS] {
        for row in tx.rows(sql, args![&ids]).await? {
            assigned.insert((row.text(0)?.into(), row.text(1)?), row.text(2)?.into());
        }
    }
    let plan_ids: BTreeSet<&str> = found.iter().map(|run| run.head.plan.as_str()).collect();
    let plans = plans::summaries(tx, plan_ids.iter().copied()).await?;
    let mounts = plans::mounts_of(tx, plan_ids).await?;
    found
        .into_iter()
        .map(|Found { head, reason, image_digest }| {
            let (mut inputs, mut outputs, mut log) = (Vec::new(), Vec::new(), None);
            for mount in mounts.get(&head.plan).into_iter().flatten() {
                let data = assigned.remove(&(head.id.clone(), mount.id.clone())).unwrap_or_default();
                let (path, tags) = (mount.point.path.clone(), mount.point.tags.clone());
                match mount.kind {
                    Kind::Input => inputs.push(Assignment { path, tags, data }),
                    Kind::Output => outputs.push(Assignment { path, tags, data }),
                    Kind::Log => log = Some(LogAssignment { tags, data }),
                }
            }
            let summary = head.clone().summary(plans.of(&head.plan)?);
            Ok(Run { summary, inputs, outputs, log, image_digest, reason })
        })
        .collect()
}

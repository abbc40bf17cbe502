//! Runs as users see and change them: reading, search, stop, retry, removal.

use super::engine::{Db, Gate, Row, Tx, args, batch, list, whole};
use super::plans::{self, Kind};
use super::projection::{Output, make_outputs};
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

/// Conditions on `run r`: `$1` Plans, `$2` inputs, `$3` outputs, `$4` statuses (an empty list is none),
/// `$5` since and `$6` until.
macro_rules! fits {
    ($time:literal) => {
        concat!(
            "($1 = '[]' or r.plan_id in (select j.value ->> 0 from json_each($1) j)) \
             and ($2 = '[]' or exists (select 1 from run_input i where i.run_id = r.id \
               and i.data_id in (select j.value ->> 0 from json_each($2) j))) \
             and ($3 = '[]' or exists (select 1 from data d where d.run_id = r.id \
               and d.id in (select j.value ->> 0 from json_each($3) j))) \
             and ($4 = '[]' or r.status in (select j.value ->> 0 from json_each($4) j)) and ",
            $time,
            " >= $5 and ",
            $time,
            " < $6 order by r.updated_at, r.id"
        )
    };
}

const ONE: &str = concat!("select ", found!(), " from run r where r.id = $1");
const LISTED: &str = concat!("select ", found!(), " from json_each($1) j join run r on r.id = j.value ->> 0");
// Where something else leads, the time is computed: no database then thinks of walking an index on it.
pub(super) const FIND_BY_OUTPUT: &str = concat!(
    "select ",
    found!(),
    " from run r where r.id in (select d.run_id from json_each($3) j join data d on d.id = j.value ->> 0) and ",
    fits!("r.updated_at + 0")
);
pub(super) const FIND_BY_INPUT: &str = concat!(
    "select ",
    found!(),
    " from run r where r.id in (select i.run_id from json_each($2) j \
       join run_input i on i.data_id = j.value ->> 0) and ",
    fits!("r.updated_at + 0")
);
pub(super) const FIND_BY_PLAN: &str = concat!(
    "select ",
    found!(),
    " from run r where r.plan_id in (select j.value ->> 0 from json_each($1) j) and ",
    fits!("r.updated_at + 0")
);
pub(super) const FIND_BY_STATUS: &str = concat!(
    "select ",
    found!(),
    " from run r where r.status in (select j.value ->> 0 from json_each($4) j) and ",
    fits!("r.updated_at")
);
const FIND_BY_TIME: &str = concat!("select ", found!(), " from run r where ", fits!("r.updated_at"));

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
const RETRY: &str = "update run set status = 'waiting', updated_at = $2, due_at = $2, lease_until = 0, \
      lease_owner = null, failures = 0, exit_code = null, exit_message = null, reason = null, image_digest = null \
    where id = $1";
const INVALIDATE: &str = "update run set status = 'invalidated', updated_at = $2, due_at = $2, failures = 0, \
      exit_code = null, exit_message = null, reason = null, image_digest = null where id = $1";
const ERASE: &str = "delete from run where id = $1";

const LOCK_OUTPUTS: &str = "update data set rev = rev + 1 where run_id = $1 returning id, volume";
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
        let rows = tx.rows(ONE, args![id.as_str()]).await?;
        let run = assemble(&mut tx, rows).await?.pop();
        tx.commit().await?;
        Ok(run)
    }

    /// All that match, by `updatedAt`, then id.
    pub async fn find_runs(&self, query: &RunQuery) -> Result<Vec<Run>> {
        whole!("searching Runs", self.try_find_runs(query))
    }

    async fn try_find_runs(&self, query: &RunQuery) -> Db<Vec<Run>> {
        let sql = match query {
            RunQuery { outputs, .. } if !outputs.is_empty() => FIND_BY_OUTPUT,
            RunQuery { inputs, .. } if !inputs.is_empty() => FIND_BY_INPUT,
            RunQuery { plans, .. } if !plans.is_empty() => FIND_BY_PLAN,
            RunQuery { statuses, .. } if !statuses.is_empty() => FIND_BY_STATUS,
            _ => FIND_BY_TIME,
        };
        let conditions = args![
            list(query.plans.iter().map(PlanId::as_str)),
            list(query.inputs.iter().map(DataId::as_str)),
            list(query.outputs.iter().map(DataId::as_str)),
            list(query.statuses.iter().map(|status| status.as_str())),
            query.since.map_or(i64::MIN, Timestamp::micros),
            query.until.map_or(i64::MAX, Timestamp::micros),
        ];
        let mut tx = self.db.begin_reading().await?;
        let rows = tx.rows(sql, conditions).await?;
        let runs = assemble(&mut tx, rows).await?;
        tx.commit().await?;
        Ok(runs)
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
        let run = match Locked::ended(&mut tx, id).await? {
            Ok(run) => run,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Err(refusal) = drop_outputs(&mut tx, id, now).await? {
            return Ok(Err(refusal));
        }
        if run.has_inputs {
            tx.exec(INVALIDATE, args![id.as_str(), now.micros()]).await?;
        } else {
            tx.exec(ERASE, args![id.as_str()]).await?;
        }
        tx.commit().await?;
        Ok(Ok(()))
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
            None | Some(Self { status: RunStatus::Invalidated, .. }) => Err(Refusal::NotFound),
            Some(run) if run.status.is_over() => Ok(run),
            Some(run) => Err(Refusal::Status(run.status)),
        })
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
    let (mut live, mut invalidated) = (Vec::new(), Vec::new());
    for row in tx.rows(USERS, args![&ids]).await? {
        let users = if row.parsed::<RunStatus>(1)? == RunStatus::Invalidated { &mut invalidated } else { &mut live };
        users.push(row.text(0)?);
    }
    if !live.is_empty() {
        return Ok(Err(Refusal::HasDownstreams(live.into_iter().take(NAMED).map(RunId::from).collect())));
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

/// The Runs of these ids, in any order.
pub(super) async fn listed(tx: &mut Tx, ids: &str) -> Db<Vec<Run>> {
    let rows = tx.rows(LISTED, args![ids]).await?;
    assemble(tx, rows).await
}

/// Adds to each Run what went in and came out, in a fixed number of statements.
async fn assemble(tx: &mut Tx, rows: Vec<Row>) -> Db<Vec<Run>> {
    let found: Vec<Found> = rows.iter().map(Found::read).collect::<Db<_>>()?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
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

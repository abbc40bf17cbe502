//! Watching: what those who follow Runs are told. One look reads, as of one moment, how the Runs stand that
//! are not over, that have changed lately and that were told before, and whether more of them are to come.
//!
//! A look goes by indexes over what is live and what changed lately, however many Runs have ended. At what Data
//! or Plans have caused it walks the lineage downstream, in the database.

use super::engine::{Db, Row, Tx, Value, args, list, whole};
use super::{Result, RunQuery, Store};
use knit_api::event::Cause;
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::run::RunStatus;
use knit_api::time::Timestamp;
use std::collections::{HashMap, HashSet};

/// The columns that [`RunState`] reads.
macro_rules! standing {
    () => {
        "r.id, r.status, r.updated_at, r.exit_code, r.reason"
    };
}

/// What the index on live Runs is limited to, word for word.
macro_rules! live {
    () => {
        "r.status not in ('done', 'failed', 'invalidated')"
    };
}

/// Conditions on `run r`: `$1` Plans, `$2` inputs, `$3` outputs, `$4` statuses (an empty list is none).
macro_rules! chosen {
    () => {
        "($1 = '[]' or r.plan_id in (select j.value ->> 0 from json_each($1) j)) \
         and ($2 = '[]' or exists (select 1 from run_input i where i.run_id = r.id \
           and i.data_id in (select j.value ->> 0 from json_each($2) j))) \
         and ($3 = '[]' or exists (select 1 from data d where d.run_id = r.id \
           and d.id in (select j.value ->> 0 from json_each($3) j))) \
         and ($4 = '[]' or r.status in (select j.value ->> 0 from json_each($4) j))"
    };
}

macro_rules! of_outputs {
    () => {
        "r.id in (select d.run_id from json_each($3) j join data d on d.id = j.value ->> 0)"
    };
}
macro_rules! of_inputs {
    () => {
        "r.id in (select i.run_id from json_each($2) j join run_input i on i.data_id = j.value ->> 0)"
    };
}
macro_rules! of_plans {
    () => {
        "r.plan_id in (select j.value ->> 0 from json_each($1) j)"
    };
}

macro_rules! live_runs {
    ($of:expr) => {
        concat!("select ", standing!(), " from run r where ", $of, " and ", chosen!())
    };
}
const LIVE_OF_OUTPUTS: &str = live_runs!(concat!(of_outputs!(), " and ", live!()));
const LIVE_OF_INPUTS: &str = live_runs!(concat!(of_inputs!(), " and ", live!()));
pub(super) const LIVE_OF_PLANS: &str = live_runs!(concat!(of_plans!(), " and ", live!()));
pub(super) const LIVE: &str =
    live_runs!("r.status in ('deactivated', 'waiting', 'ready', 'starting', 'running', 'completing', 'aborting')");

/// `$5`: how many of those that changed last. Where something else leads, the time is computed: no database then
/// thinks of walking an index on it.
macro_rules! ended_runs {
    ($of:expr, $time:literal) => {
        concat!(
            "select ",
            standing!(),
            " from run r where ",
            $of,
            "r.status in ('done', 'failed') and ",
            chosen!(),
            " order by ",
            $time,
            " desc, r.id desc limit $5"
        )
    };
}
const ENDED_OF_OUTPUTS: &str = ended_runs!(concat!(of_outputs!(), " and "), "r.updated_at + 0");
const ENDED_OF_INPUTS: &str = ended_runs!(concat!(of_inputs!(), " and "), "r.updated_at + 0");
const ENDED_OF_PLANS: &str = ended_runs!(concat!(of_plans!(), " and "), "r.updated_at + 0");
pub(super) const ENDED: &str = ended_runs!("", "r.updated_at");

/// `$5`: since when.
pub(super) const CHANGED: &str =
    concat!("select ", standing!(), " from run r where r.updated_at >= $5 and ", chosen!());
/// `$5`: the Runs.
const NAMED: &str =
    concat!("select ", standing!(), " from json_each($5) j join run r on r.id = j.value ->> 0 where ", chosen!());
const TOLD: &str = concat!("select ", standing!(), " from json_each($1) j join run r on r.id = j.value ->> 0");

/// The ids of what was caused: `$data` the Data and `$plans` the Plans it begins with.
macro_rules! caused {
    ($data:literal, $plans:literal) => {
        concat!(
            "with recursive caused (run_id) as (select i.run_id from json_each(",
            $data,
            ") j join run_input i on i.data_id = j.value ->> 0 union select p.id from json_each(",
            $plans,
            ") j join run p on p.plan_id = j.value ->> 0 union \
             select i.run_id from caused c join data d on d.run_id = c.run_id join run_input i on i.data_id = d.id) "
        )
    };
}
/// `$5`: since when those count that are over. A cross join is what SQLite does in the order written.
pub(super) const CAUSED: &str = concat!(
    caused!("$6", "$7"),
    "select ",
    standing!(),
    " from caused c cross join run r where r.id = c.run_id and (",
    live!(),
    " or r.updated_at >= $5) and ",
    chosen!()
);

const LEFT: &str = "select 1 from spark limit 1";
const LEFT_FOR_PLANS: &str = "select 1 from json_each($1) j join mount m on m.plan_id = j.value ->> 0 \
    where exists (select 1 from spark s where s.mount_id = m.id) limit 1";
/// What is fresh on one input is combined with what is on the others: any spark of a Plan counts that one of these
/// Data is nominated for.
const LEFT_WITH_INPUTS: &str = "select 1 from json_each($1) j join nomination n on n.data_id = j.value ->> 0 \
    join mount m on m.id = n.mount_id join mount o on o.plan_id = m.plan_id \
    where exists (select 1 from spark s where s.mount_id = o.id) limit 1";
/// `$1` Data and `$2` Plans: sparks of the Plans themselves, and as before for all that was made.
pub(super) const LEFT_TO_CAUSE: &str = concat!(
    caused!("$1", "$2"),
    "select 1 from (select j.value ->> 0 as data_id from json_each($1) j union all \
       select d.id from caused c cross join data d where d.run_id = c.run_id) x \
     cross join nomination n cross join mount m cross join mount o \
     where n.data_id = x.data_id and m.id = n.mount_id and o.plan_id = m.plan_id \
       and exists (select 1 from spark s where s.mount_id = o.id) limit 1"
);
/// Data that do not fit anything yet, because they are still being made.
const IN_THE_MAKING: &str = concat!(
    "select 1 from json_each($1) j join data d on d.id = j.value ->> 0 join run r on r.id = d.run_id where ",
    live!(),
    " and r.status <> 'deactivated' limit 1"
);

const UNKNOWN_DATA: &str = "select j.value ->> 0 from json_each($1) j \
    where not exists (select 1 from data d where d.id = j.value ->> 0) limit 1";
const UNKNOWN_PLAN: &str = "select j.value ->> 0 from json_each($1) j \
    where not exists (select 1 from plan p where p.id = j.value ->> 0) limit 1";

/// Which Runs are watched: all conditions must hold. The times of the search do not count.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// As in a search.
    pub query: RunQuery,
    /// From among these.
    pub of: Selection,
}

/// From among which Runs.
#[derive(Clone, Debug, Default)]
pub enum Selection {
    /// All.
    #[default]
    Any,
    /// Those named.
    Named(Vec<RunId>),
    /// Those that have come of something.
    Caused(Cause),
}

/// How a Run stands: what changes of it are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunState {
    /// The Run.
    pub id: RunId,
    /// Its status.
    pub status: RunStatus,
    /// Since when.
    pub updated_at: Timestamp,
    /// How its work ended.
    pub exit_code: Option<i64>,
    /// Why it does not go on.
    pub reason: Option<String>,
}

impl RunState {
    fn read(row: &Row) -> Db<Self> {
        Ok(Self {
            id: row.text(0)?.into(),
            status: row.parsed(1)?,
            updated_at: Timestamp::from_micros(row.int(2)?),
            exit_code: row.opt_int(3)?,
            reason: row.opt_text(4)?,
        })
    }
}

/// What one look has found, everything as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Those that are live, have changed lately, or were told before, by their last change. One that was told and
    /// is not here is no more.
    pub states: Vec<RunState>,
    /// True when nothing of the selection is under way and nothing is left to project for it. Parked Runs are not
    /// under way.
    pub quiet: bool,
}

impl Store {
    /// Looks at the watched Runs: those that are live, those that changed since then, up to `ended` of the last
    /// that have ended, and those that were told before. Named and caused ones all count that changed since.
    pub async fn look_at_runs(
        &self,
        watched: &Watched,
        since: Timestamp,
        ended: usize,
        told: &HashSet<RunId>,
    ) -> Result<Look> {
        whole!("looking how Runs stand", self.try_look_at_runs(watched, since, ended, told))
    }

    async fn try_look_at_runs(
        &self,
        watched: &Watched,
        since: Timestamp,
        ended: usize,
        told: &HashSet<RunId>,
    ) -> Db<Look> {
        let mut tx = self.db.begin_reading().await?;
        if let Selection::Caused(_) = &watched.of {
            tx.walk().await?;
        }
        let mut states = HashMap::new();
        for row in selected(&mut tx, watched, since, ended).await? {
            let state = RunState::read(&row)?;
            states.insert(state.id.clone(), state);
        }
        let is_under_way = |state: &RunState| !state.status.is_over() && state.status != RunStatus::Deactivated;
        let quiet = !states.values().any(is_under_way) && !is_left(&mut tx, watched).await?;
        let others = told.iter().filter(|run| !states.contains_key(*run)).map(RunId::as_str);
        let rows = tx.rows(TOLD, args![list(others)]).await?;
        tx.commit().await?;
        let others: Vec<RunState> = rows.iter().map(RunState::read).collect::<Db<_>>()?;
        let mut states: Vec<RunState> = states.into_values().chain(others).collect();
        states.sort_unstable_by(|a, b| (a.updated_at, &a.id).cmp(&(b.updated_at, &b.id)));
        Ok(Look { states, quiet })
    }

    /// The first of these that is not there.
    pub async fn unknown_cause(&self, cause: &Cause) -> Result<Option<String>> {
        whole!("looking for a cause", self.try_unknown_cause(cause))
    }

    async fn try_unknown_cause(&self, cause: &Cause) -> Db<Option<String>> {
        let (data, plans) = roots(cause);
        let row = match cause {
            Cause::Data(_) => self.db.row(UNKNOWN_DATA, args![&data]).await?,
            Cause::Plans(_) => self.db.row(UNKNOWN_PLAN, args![&plans]).await?,
        };
        row.map(|row| row.text(0)).transpose()
    }
}

/// Data and Plans, each as a parameter.
fn roots(cause: &Cause) -> (String, String) {
    match cause {
        Cause::Data(ids) => (list(ids.iter().map(DataId::as_str)), list([""; 0])),
        Cause::Plans(ids) => (list([""; 0]), list(ids.iter().map(PlanId::as_str))),
    }
}

/// The rows of the selection; one may stand there twice.
async fn selected(tx: &mut Tx, watched: &Watched, since: Timestamp, ended: usize) -> Db<Vec<Row>> {
    let query = &watched.query;
    let chosen = args![
        list(query.plans.iter().map(PlanId::as_str)),
        list(query.inputs.iter().map(DataId::as_str)),
        list(query.outputs.iter().map(DataId::as_str)),
        list(query.statuses.iter().map(|status| status.as_str())),
    ];
    let with = |more: &[Value<'static>]| [chosen.as_slice(), more].concat();
    match &watched.of {
        Selection::Named(runs) => tx.rows(NAMED, &with(args![list(runs.iter().map(RunId::as_str))])).await,
        Selection::Caused(cause) => {
            let (data, plans) = roots(cause);
            tx.rows(CAUSED, &with(args![since.micros(), data, plans])).await
        }
        Selection::Any => {
            let (live, last) = match query {
                RunQuery { outputs, .. } if !outputs.is_empty() => (LIVE_OF_OUTPUTS, ENDED_OF_OUTPUTS),
                RunQuery { inputs, .. } if !inputs.is_empty() => (LIVE_OF_INPUTS, ENDED_OF_INPUTS),
                RunQuery { plans, .. } if !plans.is_empty() => (LIVE_OF_PLANS, ENDED_OF_PLANS),
                _ => (LIVE, ENDED),
            };
            let mut rows = tx.rows(live, chosen).await?;
            rows.extend(tx.rows(CHANGED, &with(args![since.micros()])).await?);
            if ended > 0 {
                rows.extend(tx.rows(last, &with(args![i64::try_from(ended).unwrap_or(i64::MAX)])).await?);
            }
            Ok(rows)
        }
    }
}

/// Whether something may still become a Run of the selection by itself.
async fn is_left(tx: &mut Tx, watched: &Watched) -> Db<bool> {
    let query = &watched.query;
    if let Selection::Caused(Cause::Data(ids)) = &watched.of
        && tx.row(IN_THE_MAKING, args![list(ids.iter().map(DataId::as_str))]).await?.is_some()
    {
        return Ok(true);
    }
    // Mostly there is nothing at all.
    if tx.row(LEFT, &[]).await?.is_none() {
        return Ok(false);
    }
    let row = match &watched.of {
        // Those are there already.
        Selection::Named(_) => None,
        Selection::Any if !query.outputs.is_empty() => None,
        Selection::Caused(cause) => {
            let (data, plans) = roots(cause);
            match tx.row(LEFT_FOR_PLANS, args![&plans]).await? {
                Some(row) => Some(row),
                None => tx.row(LEFT_TO_CAUSE, args![data, plans]).await?,
            }
        }
        Selection::Any if !query.plans.is_empty() => {
            tx.row(LEFT_FOR_PLANS, args![list(query.plans.iter().map(PlanId::as_str))]).await?
        }
        Selection::Any if !query.inputs.is_empty() => {
            tx.row(LEFT_WITH_INPUTS, args![list(query.inputs.iter().map(DataId::as_str))]).await?
        }
        Selection::Any => return Ok(true),
    };
    Ok(row.is_some())
}

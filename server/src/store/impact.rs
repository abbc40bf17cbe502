//! What a change would come to. A deed on a Run is only looked at. A change of tags is made in a transaction that is
//! then undone: nothing tells better what follows from it, and it is a few rows of one Data.

use super::engine::{Db, Tx, args, list, whole};
use super::explain::{SHOWN, count, ids, inputs};
use super::plans::{self, Kind};
use super::projection::missing_combinations;
use super::runs::{NOMINATING, ended, users};
use super::{Refusal, Result, Store, data, explain};
use crate::clock::Stopwatch;
use knit_api::explain::Count;
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::impact::{Deed, Fate, GoingData, Inputs, NewRuns, RunImpact, TagImpact};
use knit_api::run::RunStatus;
use knit_api::tag::{Tag, TagChange};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

/// How many Plans are asked for the Runs that they would get.
const MOST_PLANS: usize = 50;
/// New Runs of one Plan are counted no further than this.
const MOST_NEW_RUNS: usize = 1_000;
/// How long new Runs are counted in a change that is to be undone: others wait to write meanwhile.
const PATIENCE: Duration = Duration::from_millis(200);

const RUN: &str = "select status, plan_id, signature from run where id = $1";
const OUTPUTS: &str = "select d.id, m.path, m.kind, d.bytes from data d join mount m on m.id = d.mount_id \
    where d.run_id = $1 order by case when m.kind = 'log' then 1 else 0 end, m.ord";
pub(super) const COUNT_NOMINATIONS: &str = "select count(*) from (select 1 from json_each($1) j \
    join nomination n on n.data_id = j.value ->> 0 limit $2) x";
/// By input: how many of these Data fit it.
pub(super) const NOMINATED: &str = "select n.mount_id, count(*) from json_each($1) j \
    join nomination n on n.data_id = j.value ->> 0 group by n.mount_id order by n.mount_id";
/// By input: how many of the outputs of this Plan, and its log, feed it.
const FEEDS: &str = "select f.input_id, i.plan_id, count(*) from mount o join feeding f on f.output_id = o.id \
    join mount i on i.id = f.input_id where o.plan_id = $1 and o.kind in ('output', 'log') \
    group by f.input_id, i.plan_id order by i.plan_id, f.input_id";
const ACTIVE: &str = "select p.active from plan p where p.id = $1";

impl Store {
    /// What a deed on a Run would come to, and why it would be refused; none for an unknown (or deleted) Run.
    pub async fn run_impact(&self, id: &RunId, of: Deed) -> Result<Option<(RunImpact, Option<Refusal>)>> {
        whole!("foreseeing what becomes of a Run", self.try_run_impact(id, of))
    }

    async fn try_run_impact(&self, id: &RunId, of: Deed) -> Db<Option<(RunImpact, Option<Refusal>)>> {
        let mut tx = self.db.begin_reading().await?;
        let Some(row) = tx.row(RUN, args![id.as_str()]).await? else { return Ok(None) };
        let (status, plan): (RunStatus, PlanId) = (row.parsed(0)?, row.text(1)?.into());
        let has_inputs = row.opt_text(2)?.is_some();
        let mut refusal = match ended(status) {
            Err(Refusal::NotFound) => return Ok(None),
            Err(refusal) => Some(refusal),
            Ok(()) if of == Deed::Retry && !has_inputs => Some(Refusal::BuiltIn),
            Ok(()) => None,
        };
        let mut data = Vec::new();
        for row in tx.rows(OUTPUTS, args![id.as_str()]).await? {
            let path = if row.text(2)?.parse::<Kind>()? == Kind::Log { None } else { Some(row.text(1)?) };
            data.push(GoingData { id: row.text(0)?.into(), path, bytes: row.opt_int(3)?.map(i64::unsigned_abs) });
        }
        let going = list(data.iter().map(|data| data.id.as_str()));
        let (live, invalidated) = users(&mut tx, &going).await?;
        if refusal.is_none() && !live.is_empty() {
            refusal = Some(Refusal::downstreams(live));
        }
        let becomes = match of {
            Deed::Retry => Fate::Waiting,
            Deed::Rm if has_inputs => Fate::Invalidated,
            Deed::Rm => Fate::Erased,
        };
        let found = count(&mut tx, COUNT_NOMINATIONS, &going).await?;
        let rows = tx.rows(NOMINATED, args![&going]).await?;
        let mut lost: BTreeMap<String, u64> = BTreeMap::new();
        for row in &rows {
            lost.insert(row.text(0)?, row.int(1)?.unsigned_abs());
        }
        let first: Vec<String> = lost.keys().take(SHOWN).cloned().collect();
        let withdrawn = Inputs { count: found, inputs: inputs(&mut tx, &first).await? };
        let feeds =
            if of == Deed::Retry && refusal.is_none() { feeds(&mut tx, &plan, &lost).await? } else { Vec::new() };
        tx.commit().await?;
        let forgotten = Count::exactly(invalidated.len() as u64);
        let run = id.clone();
        Ok(Some((RunImpact { run, status, of, refused: None, data, becomes, withdrawn, forgotten, feeds }, refusal)))
    }

    /// The Run that makes a Data.
    pub async fn run_of(&self, id: &DataId) -> Result<Option<RunId>> {
        whole!("looking for the Run of a Data", self.try_run_of(id))
    }

    async fn try_run_of(&self, id: &DataId) -> Db<Option<RunId>> {
        self.db.row(data::RUN_OF, args![id.as_str()]).await?.map(|row| Ok(row.text(0)?.into())).transpose()
    }

    /// What a change of tags would come to; none for an unknown Data.
    pub async fn tag_impact(&self, id: &DataId, change: &TagChange) -> Result<Option<TagImpact>> {
        whole!("foreseeing a change of tags", self.try_tag_impact(id, change, PATIENCE))
    }

    pub(super) async fn try_tag_impact(
        &self,
        id: &DataId,
        change: &TagChange,
        patience: Duration,
    ) -> Db<Option<TagImpact>> {
        let watch = Stopwatch::start();
        let mut tx = self.db.begin().await?;
        let before: BTreeSet<String> =
            ids::<String>(&tx.rows(NOMINATING, args![id.as_str()]).await?)?.into_iter().collect();
        if !data::change_tags_in(&mut tx, id, change).await? {
            return Ok(None);
        }
        let after: BTreeSet<String> =
            ids::<String>(&tx.rows(NOMINATING, args![id.as_str()]).await?)?.into_iter().collect();
        let gained: Vec<String> = after.difference(&before).cloned().collect();
        let lost: Vec<String> = before.difference(&after).cloned().collect();
        let named = list([id.as_str()]);
        let mut tags: Vec<Tag> = Vec::new();
        for row in tx.rows(data::TAGS, args![&named]).await? {
            tags.push(Tag::new(row.text(1)?, row.text(2)?));
        }
        tags.sort();
        let plans: BTreeSet<PlanId> =
            plans::mounts(&mut tx, gained.iter().map(String::as_str)).await?.plans().cloned().collect();
        let mut runs = Vec::new();
        let mut runs_capped = plans.len() > MOST_PLANS;
        for plan in plans.iter().take(MOST_PLANS) {
            if watch.elapsed() >= patience {
                runs_capped = true;
                break;
            }
            let new = new_runs(&mut tx, plan, &gained, &named).await?;
            if new.runs.count > 0 {
                runs.push(new);
            }
        }
        // Dropped, not committed: all of it is undone. What inputs are called is read when nobody waits any more.
        drop(tx);
        let mut tx = self.db.begin_reading().await?;
        let nominated = shown(&mut tx, &gained).await?;
        let withdrawn = shown(&mut tx, &lost).await?;
        tx.commit().await?;
        Ok(Some(TagImpact { data: id.clone(), tags, nominated, withdrawn, runs, runs_capped }))
    }
}

async fn shown(tx: &mut Tx, mounts: &[String]) -> Db<Inputs> {
    let count = Count::exactly(mounts.len() as u64);
    Ok(Inputs { count, inputs: inputs(tx, &mounts[..mounts.len().min(SHOWN)]).await? })
}

async fn is_active(tx: &mut Tx, plan: &PlanId) -> Db<bool> {
    Ok(tx.row(ACTIVE, args![plan.as_str()]).await?.map(|row| row.int(0)).transpose()? == Some(1))
}

/// The inputs of a Plan in their order.
async fn inputs_of(tx: &mut Tx, plan: &PlanId) -> Db<Vec<String>> {
    let mounts = plans::mounts_of(tx, [plan.as_str()]).await?.remove(plan).unwrap_or_default();
    Ok(mounts.into_iter().filter(|mount| mount.kind == Kind::Input).map(|mount| mount.id).collect())
}

/// The Runs that are missing of a Plan with this Data on one of the inputs that it has begun to fit. A combination
/// may have it on several of them, and is one Run.
async fn new_runs(tx: &mut Tx, plan: &PlanId, gained: &[String], data: &str) -> Db<NewRuns> {
    let inputs = inputs_of(tx, plan).await?;
    let mut missing: HashSet<Vec<String>> = HashSet::new();
    for fresh in (0..inputs.len()).filter(|at| gained.contains(&inputs[*at])) {
        let mut args = args![plan.as_str(), MOST_NEW_RUNS as i64 + 1].to_vec();
        args.extend(inputs.iter().map(Into::into));
        args.push(data.into());
        for row in tx.rows(missing_combinations(inputs.len(), fresh), &args).await? {
            missing.insert((0..inputs.len()).map(|input| row.text(input)).collect::<Db<_>>()?);
        }
    }
    let runs = Count::up_to(missing.len() as u64, MOST_NEW_RUNS as u64);
    Ok(NewRuns { plan: plan.clone(), active: is_active(tx, plan).await?, runs })
}

/// The Plans that would get what this one makes once more, and their new Runs: those with one of the new Data on at
/// least one input. `lost` is how many of the old Data each input fits, which go before.
async fn feeds(tx: &mut Tx, plan: &PlanId, lost: &BTreeMap<String, u64>) -> Db<Vec<NewRuns>> {
    let mut fed: BTreeMap<PlanId, BTreeMap<String, u64>> = BTreeMap::new();
    for row in tx.rows(FEEDS, args![plan.as_str()]).await? {
        fed.entry(row.text(1)?.into()).or_default().insert(row.text(0)?, row.int(2)?.unsigned_abs());
    }
    let mut found = Vec::new();
    for (plan, fed) in fed.into_iter().take(MOST_PLANS) {
        let (mut with, mut without) = (Count::exactly(1), Count::exactly(1));
        for input in inputs_of(tx, &plan).await? {
            let there = count(tx, explain::COUNT_FITTING, &input).await?;
            let kept = Count { count: there.count - lost.get(&input).copied().unwrap_or(0).min(there.count), ..there };
            with = with.times(kept.plus(Count::exactly(fed.get(&input).copied().unwrap_or(0))));
            without = without.times(kept);
        }
        let active = is_active(tx, &plan).await?;
        found.push(NewRuns { plan, active, runs: with.minus(without) });
    }
    found.retain(|new| new.runs.count > 0 || new.runs.capped);
    Ok(found)
}

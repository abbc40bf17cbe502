//! Projection: new combinations of nominated Data become Runs.

use super::engine::{Db, Row, Tx, args, batch, list, repeatable, whole};
use super::{Projected, Result, Store};
use crate::clock;
use crate::engine::Volume;
use crate::rules::projection::signature;
use knit_api::id::{DataId, PlanId};
use knit_api::time::Timestamp;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{LazyLock, Mutex, PoisonError};

const TO_PROJECT: &str = "select p.id from plan p where exists (select 1 from mount m where m.plan_id = p.id \
    and exists (select 1 from spark s where s.mount_id = m.id)) order by p.projected_at, p.id";
/// The row lock of the Plan: one projector at a time.
const LOCK: &str = "update plan set projected_at = $2 where id = $1 returning active";
const MOUNTS: &str = "select id, kind from mount where plan_id = $1 order by kind, ord";
const TAKE: &str = "delete from spark where mount_id = $1 \
    and data_id in (select data_id from spark where mount_id = $1 order by data_id limit $2) returning data_id";
const PUT_BACK: &str = "insert into spark (mount_id, data_id, lit) \
    select cast($1 as text), j.value ->> 0, cast($2 as text) from json_each($3) j where true";
const INSERT_RUNS: &str = "insert into run (id, plan_id, signature, status, due_at, updated_at) \
    select j.value ->> 0, cast($1 as text), j.value ->> 1, cast($2 as text), cast($3 as bigint), cast($3 as bigint) \
    from json_each($4) j where true on conflict (plan_id, signature) do nothing returning id";
const INSERT_INPUTS: &str = "insert into run_input (run_id, mount_id, data_id) \
    select j.value ->> 0, j.value ->> 1, j.value ->> 2 from json_each($1) j where true";
const INSERT_OUTPUTS: &str = "insert into data (id, run_id, mount_id, volume, ready) \
    select j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3, 0 from json_each($1) j where true";
const TAG_OUTPUTS: &str = "insert into data_tag (tag_id, data_id) \
    select t.tag_id, j.value ->> 0 from json_each($1) j join mount_tag t on t.mount_id = j.value ->> 2 \
    where true order by 1, 2";

/// Sparks taken, and combinations listed, at a time.
const PAGE: usize = 500;
/// Runs made in one step, give or take a page.
const RUNS_PER_STEP: usize = 4 * PAGE;

/// A Data that a Run will make.
pub(super) struct Output {
    data: DataId,
    run: String,
    mount: String,
    volume: Volume,
}

impl Output {
    pub(super) fn new(run: &str, mount: String) -> Self {
        let data = DataId::new(clock::new_id());
        Self { volume: Volume::of(&data), data, run: run.to_owned(), mount }
    }

    fn columns(&self) -> [&str; 4] {
        [self.data.as_str(), &self.run, &self.mount, self.volume.as_str()]
    }
}

/// Makes the rows of outputs and logs, with the tags of their mountpoints.
pub(super) async fn make_outputs(tx: &mut Tx, outputs: &[Output]) -> Db<()> {
    let rows = batch(outputs.iter().map(Output::columns));
    tx.exec(INSERT_OUTPUTS, args![&rows]).await?;
    tx.exec(TAG_OUTPUTS, args![&rows]).await?;
    Ok(())
}

impl Store {
    /// Plans with something new to project, the one that waited longest first.
    pub async fn plans_to_project(&self) -> Result<Vec<PlanId>> {
        whole!("looking for Plans to project", self.try_plans_to_project())
    }

    async fn try_plans_to_project(&self) -> Db<Vec<PlanId>> {
        self.db.rows(TO_PROJECT, &[]).await?.iter().map(|row| Ok(row.text(0)?.into())).collect()
    }

    /// One bounded, repeatable step of projection for one Plan.
    pub async fn project(&self, plan: &PlanId, now: Timestamp) -> Result<Projected> {
        repeatable!("projecting a Plan", self.try_project(plan, now))
    }

    async fn try_project(&self, plan: &PlanId, now: Timestamp) -> Db<Projected> {
        let mut tx = self.db.begin().await?;
        let Some(active) = tx.row(LOCK, args![plan.as_str(), now.micros()]).await? else {
            return Ok(Projected::default());
        };
        let status = if active.int(0)? != 0 { "waiting" } else { "deactivated" };
        let mounts = tx.rows(MOUNTS, args![plan.as_str()]).await?;
        let mut step = Step { plan, now, status, inputs: Vec::new(), outputs: Vec::new(), made: 0 };
        for row in &mounts {
            let mounts = if row.text(1)? == "input" { &mut step.inputs } else { &mut step.outputs };
            mounts.push(row.text(0)?);
        }
        let mut more = false;
        for fresh in 0..step.inputs.len() {
            more |= step.project_input(&mut tx, fresh).await?;
            if step.made >= RUNS_PER_STEP {
                more = true;
                break;
            }
        }
        tx.commit().await?;
        Ok(Projected { made: step.made, more })
    }
}

/// One step for one Plan, under its lock.
struct Step<'a> {
    plan: &'a PlanId,
    now: Timestamp,
    status: &'static str,
    inputs: Vec<String>,
    /// The log among them.
    outputs: Vec<String>,
    made: usize,
}

impl Step<'_> {
    /// Takes sparks of one input and makes the Runs that are missing with these Data on it. True when
    /// sparks may be left.
    ///
    /// The sparks are taken before nominations are read: one that is lit from then on is a new row, and
    /// stays for the next step.
    async fn project_input(&mut self, tx: &mut Tx, fresh: usize) -> Db<bool> {
        let taken = tx.rows(TAKE, args![&self.inputs[fresh], PAGE as i64]).await?;
        let sparks: BTreeSet<String> = taken.iter().map(|row| row.text(0)).collect::<Db<_>>()?;
        if sparks.is_empty() {
            return Ok(false);
        }
        let all_taken = taken.len() < PAGE;
        let sparks = list(&sparks);
        loop {
            let combinations = self.missing(tx, fresh, &sparks).await?;
            if !combinations.is_empty() {
                self.make_runs(tx, &combinations).await?;
            }
            if combinations.len() < PAGE {
                return Ok(!all_taken);
            }
            if self.made >= RUNS_PER_STEP {
                tx.exec(PUT_BACK, args![&self.inputs[fresh], clock::new_id(), &sparks]).await?;
                return Ok(true);
            }
        }
    }

    /// Some combinations that are no Run yet; for each, the Data ids in the order of the inputs.
    async fn missing(&self, tx: &mut Tx, fresh: usize, sparks: &str) -> Db<Vec<Vec<String>>> {
        let mut args = args![self.plan.as_str(), PAGE as i64].to_vec();
        args.extend(self.inputs.iter().map(Into::into));
        args.push(sparks.into());
        let rows = tx.rows(missing_combinations(self.inputs.len(), fresh), &args).await?;
        let ids = |row: &Row| (0..self.inputs.len()).map(|input| row.text(input)).collect();
        rows.iter().map(ids).collect()
    }

    async fn make_runs(&mut self, tx: &mut Tx, combinations: &[Vec<String>]) -> Db<()> {
        let runs: Vec<(String, String)> = combinations.iter().map(|data| (clock::new_id(), signature(data))).collect();
        let rows = batch(runs.iter().map(|(id, signature)| [id.as_str(), signature.as_str()]));
        let columns = args![self.plan.as_str(), self.status, self.now.micros(), &rows];
        let new: HashSet<String> =
            tx.rows(INSERT_RUNS, columns).await?.iter().map(|row| row.text(0)).collect::<Db<_>>()?;
        let mut inputs = Vec::with_capacity(new.len() * self.inputs.len());
        let mut outputs = Vec::with_capacity(new.len() * self.outputs.len());
        for ((run, _), data) in runs.iter().zip(combinations).filter(|((run, _), _)| new.contains(run)) {
            inputs.extend(self.inputs.iter().zip(data).map(|(mount, data)| [run.as_str(), mount, data]));
            outputs.extend(self.outputs.iter().map(|mount| Output::new(run, mount.clone())));
        }
        tx.exec(INSERT_INPUTS, args![batch(inputs)]).await?;
        make_outputs(tx, &outputs).await?;
        self.made += new.len();
        Ok(())
    }
}

/// The text of [`statement`], made and kept once per shape: there are few shapes, and databases keep a prepared
/// statement by its text.
pub(super) fn missing_combinations(inputs: usize, fresh: usize) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashMap<(usize, usize), &'static str>>> = LazyLock::new(Mutex::default);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    texts.entry((inputs, fresh)).or_insert_with(|| statement(inputs, fresh).leak())
}

/// The statement that lists missing combinations of a Plan with `inputs` inputs, those with fresh Data
/// on input number `fresh`; both databases read it alike.
///
/// Parameters: `$1` the Plan, `$2` the most combinations to list, `$3`… the inputs in their order, and
/// last the fresh Data as a JSON list of one-element lists. Columns: one Data id per input. What is joined by
/// commas is [`signature`]. A cross join is what SQLite does in the order written: the few fresh ones lead.
fn statement(inputs: usize, fresh: usize) -> String {
    let each = |form: &dyn Fn(usize) -> String, between: &str| (0..inputs).map(form).collect::<Vec<_>>().join(between);
    let columns = each(&|i| format!("n{i}.data_id"), ", ");
    let signature = each(&|i| format!("n{i}.data_id"), " || ',' || ");
    let others: Vec<String> = (0..inputs)
        .filter(|i| *i != fresh)
        .map(|i| format!(" join nomination n{i} on n{i}.mount_id = ${}", i + 3))
        .collect();
    format!(
        "select {columns} from json_each(${list}) s \
         cross join nomination n{fresh}{others} \
         where n{fresh}.mount_id = ${input} and n{fresh}.data_id = s.value ->> 0 and not exists (select 1 from run r where r.plan_id || ':' || r.signature = $1 || ':' || {signature}) \
         limit $2",
        others = others.concat(),
        list = inputs + 3,
        input = fresh + 3,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_input_needs_no_join_with_others() {
        assert_eq!(
            statement(1, 0),
            "select n0.data_id from json_each($4) s \
             cross join nomination n0 where n0.mount_id = $3 and n0.data_id = s.value ->> 0 \
             and not exists (select 1 from run r where r.plan_id || ':' || r.signature = $1 || ':' || n0.data_id) \
             limit $2"
        );
    }

    #[test]
    fn fresh_data_drive_and_the_signature_keeps_the_order_of_the_inputs() {
        assert_eq!(
            statement(3, 1),
            "select n0.data_id, n1.data_id, n2.data_id from json_each($6) s \
             cross join nomination n1 join nomination n0 on n0.mount_id = $3 join nomination n2 on n2.mount_id = $5 \
             where n1.mount_id = $4 and n1.data_id = s.value ->> 0 and not exists (select 1 from run r where r.plan_id || ':' || r.signature = $1 || ':' || \
             n0.data_id || ',' || n1.data_id || ',' || n2.data_id) limit $2"
        );
    }
}

//! Claims: how loops take Runs, hold them for a while, and settle what they found out.
//!
//! A claim is a lease on the row (owner, until) and the number of the attempt. Settling compares owner,
//! attempt and status, so that a lost claim, or a user's change in between, wins over the loop. A lease
//! is given back even then, so that whoever acts next need not wait for its end.
//!
//! A settlement whose commit was not heard of is not repeated: had it become true, the repetition would find the
//! claim lost. It is an error like any other: what is given back then is only what was not settled.

use super::data::stored_size;
use super::engine::{Db, Gate, Row, Tx, args, batch, list, repeatable, whole};
use super::nominations::nominate_data;
use super::plans::from_json;
use super::{Claim, Lease, Result, Settle, Store};
use crate::engine::{Mount, Sealed, Volume, Work};
use knit_api::id::{DataId, RunId};
use knit_api::image::ImageRef;
use knit_api::plan::{OnNode, Resources};
use knit_api::run::{Exit, RunStatus};
use knit_api::time::Timestamp;
use std::collections::HashMap;
use std::time::Duration;

/// The statuses in which a loop takes up a Run.
const CLAIMED: [RunStatus; 6] = [
    RunStatus::Waiting,
    RunStatus::Ready,
    RunStatus::Starting,
    RunStatus::Running,
    RunStatus::Completing,
    RunStatus::Aborting,
];

/// What the index on due Runs is limited to, word for word: Runs under way that loops may claim.
macro_rules! claimable {
    () => {
        "signature is not null and status in ('waiting', 'ready', 'starting', 'running', 'completing', 'aborting')"
    };
}

macro_rules! candidates {
    ($skip:literal) => {
        concat!(
            "select id, due_at from run where status = $1 and due_at <= $2 and lease_until <= $2 and ",
            claimable!(),
            " order by due_at, id limit $3",
            $skip
        )
    };
}
pub(super) const CANDIDATES: &str = candidates!("");
/// With many processes each takes what the others have not in their hands.
pub(super) const CANDIDATES_OF_MANY: &str = candidates!(" for no key update skip locked");
const TAKE: &str = "update run set lease_owner = $1, lease_until = $2, attempt = attempt + 1 \
    where id in (select j.value ->> 0 from json_each($4) j) and lease_until <= $3 \
    returning id, status, attempt, failures";

macro_rules! renew {
    ($skip:literal) => {
        concat!(
            "update run set lease_until = $2 where id in (select id from run where lease_owner = $1 \
             and id in (select j.value ->> 0 from json_each($3) j)",
            $skip,
            ")"
        )
    };
}
const RENEW: &str = renew!("");
/// One that somebody is changing right now is renewed the next time: nobody is waited for with locks in hand.
const RENEW_BESIDE_OTHERS: &str = renew!(" for no key update skip locked");
const LEASES: &str = "select id, attempt, lease_until from run where lease_owner = $1 \
    and id in (select j.value ->> 0 from json_each($2) j)";
const RELEASE_ALL: &str =
    "update run set lease_until = 0, lease_owner = null where lease_owner = $1 and lease_until > 0";
const HOLD_IDLE: &str = "update run set lease_owner = $2, lease_until = $3, attempt = attempt + 1 \
    where id = $1 and lease_until <= $4 and status in ('deactivated', 'waiting', 'done', 'failed', 'invalidated') \
    returning status, attempt, failures";

const SETTLE: &str = "update run set updated_at = case when status = $5 then updated_at else $6 end, status = $5, \
      due_at = $7, lease_until = 0, lease_owner = null, failures = 0, \
      exit_code = coalesce($8, exit_code), exit_message = coalesce($9, exit_message), \
      reason = case when $10 is null then reason else nullif($10, '') end, \
      image_digest = coalesce($11, image_digest) \
    where id = $1 and lease_owner = $2 and attempt = $3 and status = $4";
const RELEASE: &str =
    "update run set lease_until = 0, lease_owner = null where id = $1 and lease_owner = $2 and attempt = $3";
const GIVE_BACK: &str = "update run set failures = failures + 1, reason = $5, due_at = $6, lease_until = 0, \
      lease_owner = null \
    where id = $1 and lease_owner = $2 and attempt = $3 and status = $4";

const END: &str = "update run set status = $5, updated_at = $6, due_at = $6, lease_until = 0, lease_owner = null, \
      failures = 0, reason = $7, exit_code = coalesce($8, exit_code), exit_message = coalesce($9, exit_message) \
    where id = $1 and lease_owner = $2 and attempt = $3 and status = $4";
const ENDED: &str = "select 1 from run where id = $1 and attempt = $2 and status = $3 and lease_owner is null";
const END_OUTPUTS: &str = "update data set ready = $2, made_at = $3, rev = rev + 1 where run_id = $1 returning id";
const SEAL: &str = "update data set digest = $3, entries = $4, bytes = $5 where id = $1 and run_id = $2";

const WORK: &str = "select p.id, p.image_repository, p.image_tag, p.entrypoint, p.args, p.resources, p.on_node, \
      p.service_account \
    from run r join plan p on p.id = r.plan_id where r.id = $1 and p.image_repository is not null";
const WORK_INPUTS: &str = "select m.path, d.volume from run_input i join mount m on m.id = i.mount_id \
    join data d on d.id = i.data_id where i.run_id = $1 order by m.ord";
const WORK_OUTPUTS: &str = "select m.path, d.volume, m.kind from data d join mount m on m.id = d.mount_id \
    where d.run_id = $1 order by m.kind, m.ord";
const OUTPUTS: &str = "select d.id, d.volume from data d join mount m on m.id = d.mount_id \
    where d.run_id = $1 order by m.kind, m.ord";

const BACK_TO_WAITING: &str = "update run set status = 'waiting', updated_at = $2, due_at = $2, lease_until = 0, \
      lease_owner = null, failures = 0, exit_code = null, exit_message = null, reason = null, image_digest = null \
    where id = $1 and signature is not null and status in ('ready', 'starting', 'running')";
const HASTEN: &str = "update run set due_at = $2 where id = $1 and due_at > $2";
macro_rules! hasten_ready {
    ($lock:literal) => {
        concat!(
            "update run set due_at = $1 where id in (select id from run where status = 'ready' \
             and due_at > $1 and due_at <= $2 order by updated_at, id limit $3",
            $lock,
            ")"
        )
    };
}
const HASTEN_READY: &str = hasten_ready!("");
/// All who hasten lock in this order, so that they do not wait for each other in a circle.
const HASTEN_READY_IN_ORDER: &str = hasten_ready!(" for no key update");
const TAKE_OVER: &str = concat!(
    "update run set lease_until = 0, lease_owner = null, due_at = $1 where (due_at > $1 or lease_until > 0) and ",
    claimable!()
);
/// A Run that is leased is claimable when both its time has come and its lease is over.
pub(super) const NEXT_DUE: &str = concat!(
    "select min(x.moment) from (select (select due_at from run where status = j.value ->> 0 and lease_until = 0 and ",
    claimable!(),
    " order by due_at, id limit 1) as moment from json_each($1) j union all \
     select case when lease_until > due_at then lease_until else due_at end from run where lease_until > 0 \
     and status in (select j.value ->> 0 from json_each($1) j) and ",
    claimable!(),
    ") x"
);

pub(super) const OLDEST_DUE: &str = concat!(
    "select j.value ->> 0, (select due_at from run where status = j.value ->> 0 and ",
    claimable!(),
    " order by due_at, id limit 1) from json_each($1) j"
);

/// What `due within a minute` means to [`Store::hasten_ready`], in microseconds.
const SOON: i64 = 60_000_000;

impl Store {
    /// Takes up to `limit` due Runs of these statuses, the longest due first, until `until`.
    /// Runs of built-in Plans are never claimed.
    pub async fn claim(
        &self,
        statuses: &[RunStatus],
        owner: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claim>> {
        whole!("claiming Runs", self.try_claim(statuses, owner, now, until, limit))
    }

    async fn try_claim(
        &self,
        statuses: &[RunStatus],
        owner: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Db<Vec<Claim>> {
        let mut tx = self.db.begin().await?;
        let candidates = tx.choose(CANDIDATES, CANDIDATES_OF_MANY);
        let mut due: Vec<(i64, String)> = Vec::new();
        for status in statuses {
            for row in tx.rows(candidates, args![status.as_str(), now.micros(), i64::from(limit)]).await? {
                due.push((row.int(1)?, row.text(0)?));
            }
        }
        due.sort_unstable();
        due.truncate(limit as usize);
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let ids = batch(due.iter().map(|(_, id)| [id.as_str()]));
        let rows = tx.rows(TAKE, args![owner, until.micros(), now.micros(), &ids]).await?;
        tx.commit().await?;
        let mut taken: HashMap<String, Claim> = HashMap::with_capacity(rows.len());
        for row in rows {
            let claim = Claim {
                run: row.text(0)?.into(),
                status: row.parsed(1)?,
                owner: owner.to_owned(),
                attempt: row.int(2)?,
                failures: row.int(3)?,
            };
            taken.insert(row.text(0)?, claim);
        }
        Ok(due.iter().filter_map(|(_, id)| taken.remove(id)).collect())
    }

    /// Prolongs an owner's claims on these Runs; how its claims stand then. One that is not among them is lost.
    pub async fn renew(&self, owner: &str, runs: &[RunId], until: Timestamp) -> Result<Vec<Lease>> {
        repeatable!("renewing claims", self.try_renew(owner, runs, until))
    }

    async fn try_renew(&self, owner: &str, runs: &[RunId], until: Timestamp) -> Db<Vec<Lease>> {
        let mut tx = self.db.begin().await?;
        let runs = list(runs.iter().map(RunId::as_str));
        let renew = tx.choose(RENEW, RENEW_BESIDE_OTHERS);
        tx.exec(renew, args![owner, until.micros(), &runs]).await?;
        let rows = tx.rows(LEASES, args![owner, &runs]).await?;
        tx.commit().await?;
        let lease = |row: &Row| {
            Ok(Lease { run: row.text(0)?.into(), attempt: row.int(1)?, until: Timestamp::from_micros(row.int(2)?) })
        };
        rows.iter().map(lease).collect()
    }

    /// Gives all claims of an owner back, so that others can take the Runs at once; how many there were.
    pub async fn release_all(&self, owner: &str) -> Result<u64> {
        self.change("giving claims back", RELEASE_ALL, args![owner]).await
    }

    /// Claims a Run that has no work under way, so that nobody begins any; none when it has, or somebody else has
    /// claimed it.
    pub async fn hold_idle(&self, run: &RunId, owner: &str, now: Timestamp, until: Timestamp) -> Result<Option<Claim>> {
        whole!("holding a Run", self.try_hold_idle(run, owner, now, until))
    }

    async fn try_hold_idle(&self, run: &RunId, owner: &str, now: Timestamp, until: Timestamp) -> Db<Option<Claim>> {
        let mut tx = self.db.begin().await?;
        let columns = args![run.as_str(), owner, until.micros(), now.micros()];
        let Some(row) = tx.row(HOLD_IDLE, columns).await? else { return Ok(None) };
        let (run, owner) = (run.clone(), owner.to_owned());
        let claim = Claim { run, status: row.parsed(0)?, owner, attempt: row.int(1)?, failures: row.int(2)? };
        tx.commit().await?;
        Ok(Some(claim))
    }

    /// Gives a claim back with nothing changed.
    pub async fn release(&self, claim: &Claim) -> Result<()> {
        let columns = args![claim.run.as_str(), claim.owner.as_str(), claim.attempt];
        self.change("giving a Run back", RELEASE, columns).await.map(drop)
    }

    /// For how long the Run of each status that loops take up has been due, the longest one; zero where none is.
    pub async fn oldest_due(&self, now: Timestamp) -> Result<Vec<(RunStatus, Duration)>> {
        whole!("looking for due Runs", self.try_oldest_due(now))
    }

    async fn try_oldest_due(&self, now: Timestamp) -> Db<Vec<(RunStatus, Duration)>> {
        let statuses = list(CLAIMED.map(RunStatus::as_str));
        let rows = self.db.rows(OLDEST_DUE, args![&statuses]).await?;
        let age = |due: i64| Duration::from_micros(u64::try_from(now.micros().saturating_sub(due)).unwrap_or(0));
        rows.iter().map(|row| Ok((row.parsed(0)?, row.opt_int(1)?.map_or(Duration::ZERO, age)))).collect()
    }

    /// Everything needed to execute a Run; none when it is gone or has no image.
    pub async fn work(&self, run: &RunId) -> Result<Option<Work>> {
        whole!("reading the work of a Run", self.try_work(run))
    }

    async fn try_work(&self, run: &RunId) -> Db<Option<Work>> {
        let mut tx = self.db.begin_reading().await?;
        let Some(plan) = tx.row(WORK, args![run.as_str()]).await? else { return Ok(None) };
        let mut work = Work {
            run: run.clone(),
            plan: plan.text(0)?.into(),
            image: ImageRef { repository: plan.text(1)?, tag: plan.text(2)? },
            entrypoint: from_json(&plan, 3)?,
            args: from_json(&plan, 4)?,
            inputs: Vec::new(),
            outputs: Vec::new(),
            log: None,
            resources: from_json::<Resources>(&plan, 5)?,
            on_node: from_json::<OnNode>(&plan, 6)?,
            service_account: plan.text(7)?,
        };
        for row in tx.rows(WORK_INPUTS, args![run.as_str()]).await? {
            work.inputs.push(Mount { path: row.text(0)?, volume: Volume::from_stored(row.text(1)?) });
        }
        for row in tx.rows(WORK_OUTPUTS, args![run.as_str()]).await? {
            let volume = Volume::from_stored(row.text(1)?);
            if row.text(2)? == "log" {
                work.log = Some(volume);
            } else {
                work.outputs.push(Mount { path: row.text(0)?, volume });
            }
        }
        tx.commit().await?;
        Ok(Some(work))
    }

    /// Settles a claim; false when it was lost meanwhile (taken over, or the status was changed by a user).
    /// If it was the status, the claim is given back and the Run can be claimed anew at once.
    pub async fn settle(&self, claim: &Claim, settle: &Settle, now: Timestamp) -> Result<bool> {
        whole!("settling a Run", self.try_settle(claim, settle, now))
    }

    async fn try_settle(&self, claim: &Claim, settle: &Settle, now: Timestamp) -> Db<bool> {
        let mut tx = self.db.begin().await?;
        let columns = args![
            claim.run.as_str(),
            claim.owner.as_str(),
            claim.attempt,
            claim.status.as_str(),
            settle.status.as_str(),
            now.micros(),
            settle.due.micros(),
            settle.exit.as_ref().map(|exit| i64::from(exit.code)),
            settle.exit.as_ref().map(|exit| exit.message.as_str()),
            settle.reason.as_deref(),
            settle.image_digest.as_deref(),
        ];
        let settled = tx.exec(SETTLE, columns).await? > 0;
        if !settled {
            release(&mut tx, claim).await?;
        }
        tx.commit().await?;
        Ok(settled)
    }

    /// Gives a claim back after an error: counted, shown as the reason, due later. If a user changed the
    /// status meanwhile, only the claim is given back.
    pub async fn give_back(&self, claim: &Claim, due: Timestamp, error: &str) -> Result<()> {
        repeatable!("giving a Run back", self.try_give_back(claim, due, error))
    }

    async fn try_give_back(&self, claim: &Claim, due: Timestamp, error: &str) -> Db<()> {
        let mut tx = self.db.begin().await?;
        let (run, owner, status) = (claim.run.as_str(), claim.owner.as_str(), claim.status.as_str());
        if tx.exec(GIVE_BACK, args![run, owner, claim.attempt, status, error, due.micros()]).await? == 0 {
            release(&mut tx, claim).await?;
        }
        tx.commit().await
    }

    /// Ends a claimed Run (`completing` becomes `done`, `aborting` becomes `failed`) with what its outputs
    /// and log are, stamps and nominates them; false when the claim was lost. With a `failure`, which is
    /// then its exit, also a `completing` Run becomes `failed`.
    pub async fn finish(
        &self,
        claim: &Claim,
        sealed: &[(DataId, Sealed)],
        failure: Option<&Exit>,
        message: Option<&str>,
        now: Timestamp,
    ) -> Result<bool> {
        repeatable!("finishing a Run", self.try_finish(claim, sealed, failure, message, now))
    }

    async fn try_finish(
        &self,
        claim: &Claim,
        sealed: &[(DataId, Sealed)],
        failure: Option<&Exit>,
        message: Option<&str>,
        now: Timestamp,
    ) -> Db<bool> {
        let status = match claim.status {
            RunStatus::Completing if failure.is_none() => RunStatus::Done,
            RunStatus::Completing | RunStatus::Aborting => RunStatus::Failed,
            _ => return Ok(false),
        };
        let done = status == RunStatus::Done;
        let run = claim.run.as_str();
        let mut tx = self.db.begin().await?;
        tx.gate(Gate::Data).await?;
        let (owner, from) = (claim.owner.as_str(), claim.status.as_str());
        let columns = args![
            run,
            owner,
            claim.attempt,
            from,
            status.as_str(),
            now.micros(),
            message,
            failure.map(|exit| i64::from(exit.code)),
            failure.map(|exit| exit.message.as_str()),
        ];
        if tx.exec(END, columns).await? == 0 {
            // Only this claim can have ended the Run under its own attempt: by a try whose end was not heard of.
            let ended = tx.row(ENDED, args![run, claim.attempt, status.as_str()]).await?.is_some();
            release(&mut tx, claim).await?;
            tx.commit().await?;
            return Ok(ended);
        }
        let outputs = tx.rows(END_OUTPUTS, args![run, i64::from(done), now.millis()]).await?;
        for (data, sealed) in sealed {
            let (entries, bytes) = (stored_size(sealed.entries), stored_size(sealed.bytes));
            tx.exec(SEAL, args![data.as_str(), run, &sealed.digest, entries, bytes]).await?;
        }
        if done {
            for row in outputs {
                nominate_data(&mut tx, &row.text(0)?.into()).await?;
            }
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Output Data of a Run, the log included, with their volumes.
    pub async fn outputs(&self, run: &RunId) -> Result<Vec<(DataId, Volume)>> {
        whole!("reading the outputs of a Run", self.try_outputs(run))
    }

    async fn try_outputs(&self, run: &RunId) -> Db<Vec<(DataId, Volume)>> {
        let rows = self.db.rows(OUTPUTS, args![run.as_str()]).await?;
        rows.iter().map(|row| Ok((row.text(0)?.into(), Volume::from_stored(row.text(1)?)))).collect()
    }

    /// Puts a started Run back to `waiting` as if it had never started, when the server stops; false when
    /// it is not `ready`, `starting` or `running`.
    pub async fn put_back(&self, run: &RunId, now: Timestamp) -> Result<bool> {
        Ok(self.change("putting a Run back", BACK_TO_WAITING, args![run.as_str(), now.micros()]).await? > 0)
    }

    /// Makes a Run due now, whatever back-off it had.
    pub async fn hasten(&self, run: &RunId, now: Timestamp) -> Result<()> {
        self.change("hastening a Run", HASTEN, args![run.as_str(), now.micros()]).await.map(drop)
    }

    /// Makes the `limit` longest waiting `ready` Runs due now that would be due within a minute.
    pub async fn hasten_ready(&self, now: Timestamp, limit: u32) -> Result<()> {
        let soon = now.micros().saturating_add(SOON);
        let args = args![now.micros(), soon, i64::from(limit)];
        let sql = self.db.choose(HASTEN_READY, HASTEN_READY_IN_ORDER);
        self.change("hastening waiting Runs", sql, args).await.map(drop)
    }

    /// At the start of the only server process of this database: drops all leases and makes all Runs under
    /// way due now.
    pub async fn take_over(&self, now: Timestamp) -> Result<()> {
        self.change("taking over Runs", TAKE_OVER, args![now.micros()]).await.map(drop)
    }

    /// When the next claimable Run of these statuses is due, if any.
    pub async fn next_due(&self, statuses: &[RunStatus]) -> Result<Option<Timestamp>> {
        whole!("looking when a Run is due", self.try_next_due(statuses))
    }

    async fn try_next_due(&self, statuses: &[RunStatus]) -> Db<Option<Timestamp>> {
        let statuses = list(statuses.iter().map(|status| status.as_str()));
        let row = self.db.row(NEXT_DUE, args![&statuses]).await?;
        Ok(row.map(|row| row.opt_int(0)).transpose()?.flatten().map(Timestamp::from_micros))
    }
}

/// Gives the lease back of a claim that is good for nothing else.
async fn release(tx: &mut Tx, claim: &Claim) -> Db<u64> {
    tx.exec(RELEASE, args![claim.run.as_str(), claim.owner.as_str(), claim.attempt]).await
}

//! Fills a store with very much at once, for measuring: rows as the server makes them, by the thousand, and without
//! the bytes that they speak of.
//!
//! Half of the Data are uploads, the other half came out of Runs. Of the Runs a twentieth failed and a twentieth is
//! parked. Apart from these, a chain of Runs in which each uses what the one before has made, and a fan of Runs
//! that all use one upload (whose signatures are numbered, since there is but one combination).

use super::engine::{Db, Tx, args, batch, whole};
use super::migrations;
use super::plans::{self, Kind};
use super::tags::{self, TagRows};
use super::{Registered, Result, Store, StoreError};
use crate::clock;
use knit_api::id::PlanId;
use knit_api::plan::PlanSpec;
use knit_api::tag::Tag;
use knit_api::time::Timestamp;
use std::collections::HashSet;

const RUNS: &str = "insert into run (id, plan_id, signature, status, updated_at, due_at, exit_code, exit_message) \
    select j.value ->> 0, j.value ->> 1, nullif(j.value ->> 2, ''), j.value ->> 3, cast(j.value ->> 4 as bigint), \
      cast(j.value ->> 4 as bigint), cast(nullif(j.value ->> 5, '') as bigint), \
      case when j.value ->> 5 = '' then null else '' end from json_each($1) j where true";
const DATA: &str = "insert into data (id, run_id, mount_id, volume, ready, made_at, digest, entries, bytes) \
    select j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 0, cast(j.value ->> 3 as bigint), \
      cast(nullif(j.value ->> 4, '') as bigint), nullif(j.value ->> 5, ''), 3, 1000 from json_each($1) j where true";
const TAGS: &str = "insert into data_tag (tag_id, data_id) \
    select j.value ->> 0, j.value ->> 1 from json_each($1) j where true order by 1, 2";
const INPUTS: &str = "insert into run_input (run_id, mount_id, data_id) \
    select j.value ->> 0, j.value ->> 1, j.value ->> 2 from json_each($1) j where true";
const NOMINATIONS: &str = "insert into nomination (mount_id, data_id) \
    select j.value ->> 1, j.value ->> 2 from json_each($1) j where true on conflict do nothing";

/// Rows of one statement.
const AT_ONCE: usize = 5000;
/// The digest of every Data, since none has content.
const DIGEST: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

/// How much there shall be.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Data.
    pub data: usize,
    /// Plans.
    pub plans: usize,
    /// Runs of these Plans, beside those of uploads.
    pub runs: usize,
    /// Runs in a row, each using the output of the one before.
    pub chain: usize,
    /// Runs of one Plan that all use the same Data.
    pub fan: usize,
}

/// What was made, by the ids to begin at.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    /// First and last Data of the chain.
    pub chain: Option<(String, String)>,
    /// The Data that the fan comes from.
    pub fan: Option<String>,
}

impl Store {
    /// Adds so much to the store.
    pub async fn generate(&self, amount: &Amount) -> Result<Generated> {
        let mut plans = Vec::with_capacity(amount.plans);
        for n in 0..amount.plans {
            let name = format!("plan-{n}");
            plans.push(self.generated_plan(&name, &format!("image-{}", n % 40), &format!("stage:{n}"), n + 1).await?);
        }
        for plan in plans.iter().step_by(20) {
            self.set_active(plan, false, clock::now()).await?;
        }
        let chain = self.generated_plan("chain", "chain", "chain:link", 0).await?;
        let fan = self.generated_plan("fan", "fan", "fan:root", 0).await?;
        let generated = whole!("generating", self.try_generate(amount, &plans, &chain, &fan))?;
        migrations::analyze(&self.db, true).await.map_err(|error| error.during("analyzing the database"))?;
        Ok(generated)
    }

    /// A Plan with one input, one output and a log, whose output fits the Plan of the next number.
    async fn generated_plan(&self, name: &str, image: &str, input: &str, next: usize) -> Result<PlanId> {
        let spec = serde_json::json!({
            "image": format!("{image}:v1"), "args": ["--of", name], "annotations": [format!("name={name}")],
            "inputs": [{"path": "/in/data", "tags": [input]}],
            "outputs": [{"path": "/out/model", "tags": [format!("stage:{next}"), "type:model"]}],
            "log": {"tags": ["type:log"]},
        });
        let failed = |cause: String| StoreError::Failed { what: "generating a Plan", cause };
        let spec: PlanSpec = serde_json::from_value(spec).map_err(|error| failed(error.to_string()))?;
        let spec = crate::rules::plan::check(spec).map_err(|error| failed(error.to_string()))?;
        match self.register_plan(&spec).await? {
            Registered::New(id) | Registered::Equal(id) => Ok(id),
            Registered::Cycle(_) => Err(failed("it would feed itself".to_owned())),
        }
    }

    async fn try_generate(&self, amount: &Amount, plans: &[PlanId], chain: &PlanId, fan: &PlanId) -> Db<Generated> {
        let mut tx = self.db.begin().await?;
        let uploads = amount.data.div_ceil(2).max(1);
        let first_day = clock::now().micros() - 365 * 24 * 3_600_000_000;
        let mut rows = Rows { now: first_day, ..Rows::default() };
        let mut data = Vec::with_capacity(uploads);
        for n in 0..uploads {
            data.push(rows.upload(&of_all(n)));
            rows.write_some(&mut tx).await?;
        }
        let mut taken = HashSet::with_capacity(amount.runs);
        let mut mounts = Vec::with_capacity(plans.len());
        for plan in plans {
            mounts.push(Mounts::of(&mut tx, plan).await?);
        }
        for n in 0..if plans.is_empty() { 0 } else { amount.runs } {
            let plan = n % plans.len();
            let used = (0..uploads)
                .map(|more| (n * 7 + n / uploads + more) % uploads)
                .find(|used| taken.insert((plan, *used)));
            let Some(used) = used else { continue };
            let status = if plan.is_multiple_of(20) {
                "deactivated"
            } else if n % 18 == 0 {
                "failed"
            } else {
                "done"
            };
            let run = rows.run(&plans[plan], &data[used], status, &mounts[plan].input, &data[used]);
            if n < amount.data - uploads {
                rows.output(
                    &run,
                    &mounts[plan].output,
                    status,
                    &[Tag::new("type", "model"), Tag::new("batch", (n % 40).to_string())],
                );
            }
            rows.write_some(&mut tx).await?;
        }

        let mut generated = Generated::default();
        if amount.chain > 0 {
            let mounts = Mounts::of(&mut tx, chain).await?;
            let first = rows.upload(&[Tag::new("chain", "first")]);
            let mut last = first.clone();
            for _ in 0..amount.chain {
                let run = rows.run(chain, &last, "done", &mounts.input, &last);
                last = rows.output(&run, &mounts.output, "done", &[]);
                rows.write_some(&mut tx).await?;
            }
            generated.chain = Some((first, last));
        }
        if amount.fan > 0 {
            let mounts = Mounts::of(&mut tx, fan).await?;
            let root = rows.upload(&[Tag::new("fan", "root")]);
            for n in 0..amount.fan {
                let run = rows.run(fan, &format!("{root},{n}"), "done", &mounts.input, &root);
                rows.output(&run, &mounts.output, "done", &[]);
                rows.write_some(&mut tx).await?;
            }
            generated.fan = Some(root);
        }
        rows.write(&mut tx).await?;
        tx.commit().await?;
        Ok(generated)
    }
}

/// The tags of the upload of this number: one that is on half of all, one of its own, and some between.
fn of_all(n: usize) -> Vec<Tag> {
    let counted = [("project", 50), ("batch", 40), ("source", 1000), ("shard", 20)];
    let mut tags: Vec<Tag> = counted.iter().map(|(key, values)| Tag::new(*key, (n % values).to_string())).collect();
    tags.push(Tag::new("type", "dataset"));
    tags.push(Tag::new("name", format!("upload-{n}")));
    tags
}

/// The mountpoints of a Plan of one input and one output.
struct Mounts {
    input: String,
    output: String,
}

impl Mounts {
    async fn of(tx: &mut Tx, plan: &PlanId) -> Db<Self> {
        let mounts = plans::mounts_of(tx, [plan.as_str()]).await?.remove(plan).unwrap_or_default();
        let of =
            |kind| mounts.iter().find(|mount| mount.kind == kind).map(|mount| mount.id.clone()).unwrap_or_default();
        Ok(Self { input: of(Kind::Input), output: of(Kind::Output) })
    }
}

/// Rows that are not written yet.
#[derive(Default)]
struct Rows {
    /// When the next thing happens, in microseconds.
    now: i64,
    runs: Vec<[String; 6]>,
    data: Vec<[String; 6]>,
    tags: Vec<(Tag, String)>,
    inputs: Vec<[String; 3]>,
}

impl Rows {
    /// Four things happen at each time.
    fn tick(&mut self) -> Timestamp {
        self.now += if self.runs.len().is_multiple_of(4) { 60_000_000 } else { 0 };
        Timestamp::from_micros(self.now)
    }

    fn upload(&mut self, with: &[Tag]) -> String {
        let (run, time) = (clock::new_id(), self.tick());
        let columns = [&run, plans::UPLOADED_ID, "", "done", &time.micros().to_string(), ""].map(str::to_owned);
        self.runs.push(columns);
        self.output(&run, plans::UPLOADED_MOUNT, "done", with)
    }

    fn run(&mut self, plan: &PlanId, signature: &str, status: &str, input: &str, used: &str) -> String {
        let (run, time) = (clock::new_id(), self.tick());
        let exit = match status {
            "done" => "0",
            "failed" => "1",
            _ => "",
        };
        let columns = [&run, plan.as_str(), signature, status, &time.micros().to_string(), exit].map(str::to_owned);
        self.runs.push(columns);
        self.inputs.push([&run, input, used].map(str::to_owned));
        run
    }

    fn output(&mut self, run: &str, mount: &str, status: &str, with: &[Tag]) -> String {
        let data = clock::new_id();
        let over = status == "done" || status == "failed";
        let made = if over { Timestamp::from_micros(self.now).millis().to_string() } else { String::new() };
        let ready = if status == "done" { "1" } else { "0" };
        let digest = if over { DIGEST } else { "" };
        self.data.push([&data, run, mount, ready, &made, digest].map(str::to_owned));
        self.tags.extend(with.iter().map(|tag| (tag.clone(), data.clone())));
        data
    }

    async fn write_some(&mut self, tx: &mut Tx) -> Db<()> {
        if self.runs.len() < AT_ONCE {
            return Ok(());
        }
        self.write(tx).await
    }

    async fn write(&mut self, tx: &mut Tx) -> Db<()> {
        self.tags.iter().map(|(tag, _)| tag).collect::<TagRows>().intern(tx).await?;
        tx.exec(RUNS, args![batch(self.runs.iter().map(texts))]).await?;
        tx.exec(DATA, args![batch(self.data.iter().map(texts))]).await?;
        let tags: Vec<[String; 2]> = self.tags.iter().map(|(tag, data)| [tags::id(tag), data.clone()]).collect();
        tx.exec(TAGS, args![batch(tags.iter().map(texts))]).await?;
        tx.exec(INPUTS, args![batch(self.inputs.iter().map(texts))]).await?;
        tx.exec(NOMINATIONS, args![batch(self.inputs.iter().map(texts))]).await?;
        *self = Self { now: self.now, ..Self::default() };
        Ok(())
    }
}

fn texts<const N: usize>(row: &[String; N]) -> [&str; N] {
    row.each_ref().map(String::as_str)
}

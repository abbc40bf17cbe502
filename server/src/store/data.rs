//! Data: uploads, reading with lineage, search, tags.

use super::engine::{Db, DbError, Gate, Row, Tx, args, batch, list, whole};
use super::nominations::{nominate_data, refresh_data};
use super::plans::{self, Mounts, Summaries};
use super::runs;
use super::tags::{self, TagRows};
use super::{DataQuery, Located, Result, Store, Upload};
use crate::clock;
use crate::engine::Volume;
use knit_api::data::{Data, Downstream, Nomination, Upstream};
use knit_api::id::{DataId, PlanId};
use knit_api::plan::LogPoint;
use knit_api::run::{RunStatus, RunSummary};
use knit_api::tag::{self, Tag, TagChange};
use knit_api::time::Timestamp;
use std::collections::{BTreeSet, HashMap};

const INSERT_RUN: &str = "insert into run (id, plan_id, status, due_at, updated_at) values ($1, $2, 'done', $3, $3)";
const INSERT_DATA: &str = "insert into data (id, run_id, mount_id, volume, ready, made_at, digest, entries, bytes) \
    values ($1, $2, $3, $4, 1, $5, $6, $7, $8)";
/// The row lock of a Data.
const LOCK: &str = "update data set rev = rev + 1 where id = $1";
const LOCATE: &str = "select d.volume, r.status, d.digest from data d join run r on r.id = d.run_id where d.id = $1";

/// The columns that [`Found`] reads.
macro_rules! found {
    () => {
        "d.id, d.made_at, d.digest, d.mount_id, r.id as run_id, r.status, r.updated_at, r.exit_code, r.exit_message, \
         r.plan_id"
    };
}

/// Conditions on `data d` and its `run r`: `$1` since and `$2` until in microseconds, `$3` statuses, `$4` tags.
/// The instant is computed, so that no database thinks of walking an index on time for it.
macro_rules! fits {
    () => {
        "coalesce(d.made_at * 1000, r.updated_at) >= $1 and coalesce(d.made_at * 1000, r.updated_at) < $2 \
         and r.status in (select j.value ->> 0 from json_each($3) j) \
         and not exists (select 1 from json_each($4) j where not exists \
           (select 1 from data_tag x where x.tag_id = j.value ->> 0 and x.data_id = d.id))"
    };
}

const ONE: &str = concat!("select ", found!(), " from data d join run r on r.id = d.run_id where d.id = $1");
const LISTED: &str = concat!(
    "select ",
    found!(),
    " from json_each($1) j join data d on d.id = j.value ->> 0 join run r on r.id = d.run_id"
);
const FIND_BY_ID: &str =
    concat!("select ", found!(), " from data d join run r on r.id = d.run_id where d.id = $5 and ", fits!());
/// Starts from the Data that have the tag `$5`.
pub(super) const FIND_BY_TAG: &str = concat!(
    "select ",
    found!(),
    " from data_tag a join data d on d.id = a.data_id join run r on r.id = d.run_id where a.tag_id = $5 and ",
    fits!(),
    " order by d.made_at is null, d.made_at, d.id"
);
/// Walks the Data by time, from `$5` to `$6` (milliseconds, both inclusive), then those without a time.
pub(super) const FIND_BY_TIME: &str = concat!(
    "select x.* from (select ",
    found!(),
    " from data d join run r on r.id = d.run_id where d.made_at >= $5 and d.made_at <= $6 and ",
    fits!(),
    " union all select ",
    found!(),
    " from data d join run r on r.id = d.run_id where d.made_at is null and ",
    fits!(),
    ") x order by x.made_at is null, x.made_at, x.id"
);
/// A tag on fewer Data than this always drives the search.
const RARE: i64 = 500;

const TAGS: &str = "select dt.data_id, t.key, t.value from json_each($1) j \
    join data_tag dt on dt.data_id = j.value ->> 0 join tag t on t.id = dt.tag_id";
pub(super) const DOWNSTREAMS: &str = "select i.data_id, i.mount_id, \
      r.id, r.status, r.updated_at, r.exit_code, r.exit_message, \
      r.plan_id \
    from json_each($1) j join run_input i on i.data_id = j.value ->> 0 join run r on r.id = i.run_id \
    join mount m on m.id = i.mount_id \
    where r.status <> 'invalidated' order by r.updated_at, r.id, m.ord";
pub(super) const NOMINATIONS: &str = "select n.data_id, n.mount_id, m.plan_id from json_each($1) j \
    join nomination n on n.data_id = j.value ->> 0 join mount m on m.id = n.mount_id order by m.plan_id, m.ord";

/// A Data without its surroundings.
struct Found {
    id: DataId,
    made_at: Option<Timestamp>,
    digest: Option<String>,
    mount: String,
    run: runs::Head,
}

impl Found {
    fn read(row: &Row) -> Db<Self> {
        Ok(Self {
            id: row.text(0)?.into(),
            made_at: row.opt_int(1)?.map(Timestamp::from_millis),
            digest: row.opt_text(2)?,
            mount: row.text(3)?,
            run: runs::Head::read(row, 4)?,
        })
    }
}

impl Store {
    /// Registers an upload with its tags, as a done Run of the built-in Plan, and nominates it.
    pub async fn add_upload(&self, upload: &Upload, now: Timestamp) -> Result<()> {
        whole!("registering an upload", self.try_add_upload(upload, now))
    }

    async fn try_add_upload(&self, upload: &Upload, now: Timestamp) -> Db<()> {
        let (run, data) = (clock::new_id(), upload.data.as_str());
        let tags: TagRows = upload.tags.iter().collect();
        let mut tx = self.db.begin().await?;
        tags.intern(&mut tx).await?;
        tx.gate(Gate::Data).await?;
        tx.exec(INSERT_RUN, args![&run, plans::UPLOADED_ID, now.micros()]).await?;
        let sealed = &upload.sealed;
        let (entries, bytes) = (stored_size(sealed.entries), stored_size(sealed.bytes));
        let volume = upload.volume.as_str();
        let made = now.millis();
        let columns = args![data, &run, plans::UPLOADED_MOUNT, volume, made, &sealed.digest, entries, bytes];
        tx.exec(INSERT_DATA, columns).await?;
        tx.exec(tags::ATTACH, args![data, tags.ids()]).await?;
        nominate_data(&mut tx, &upload.data).await?;
        tx.commit().await
    }

    /// One Data.
    pub async fn data(&self, id: &DataId) -> Result<Option<Data>> {
        whole!("reading a Data", self.try_data(id))
    }

    async fn try_data(&self, id: &DataId) -> Db<Option<Data>> {
        let mut tx = self.db.begin_reading().await?;
        let rows = tx.rows(ONE, args![id.as_str()]).await?;
        let found = assemble(&mut tx, rows).await?.pop();
        tx.commit().await?;
        Ok(found)
    }

    /// All that match, by time, those without a time last, then by id.
    pub async fn find_data(&self, query: &DataQuery) -> Result<Vec<Data>> {
        whole!("searching Data", self.try_find_data(query))
    }

    async fn try_find_data(&self, query: &DataQuery) -> Db<Vec<Data>> {
        let Some(wanted) = Wanted::from_query(query) else { return Ok(Vec::new()) };
        let mut tx = self.db.begin_reading().await?;
        let rows = wanted.find(&mut tx).await?;
        let found = assemble(&mut tx, rows).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// Changes tags (remove, remove keys, then add) and matches again; false when there is no such Data.
    pub async fn change_tags(&self, id: &DataId, change: &TagChange) -> Result<bool> {
        whole!("changing tags", self.try_change_tags(id, change))
    }

    async fn try_change_tags(&self, id: &DataId, change: &TagChange) -> Db<bool> {
        let add: TagRows = change.add.iter().map(|tag| &tag.0).collect();
        let remove: TagRows = change.remove.iter().map(|tag| &tag.0).collect();
        let mut tx = self.db.begin().await?;
        add.intern(&mut tx).await?;
        tx.gate(Gate::Data).await?;
        if tx.exec(LOCK, args![id.as_str()]).await? == 0 {
            return Ok(false);
        }
        if !remove.is_empty() {
            tx.exec(tags::DETACH, args![id.as_str(), remove.ids()]).await?;
        }
        if !change.remove_key.is_empty() {
            tx.exec(tags::DETACH_KEYS, args![id.as_str(), list(&change.remove_key)]).await?;
        }
        if !add.is_empty() {
            tx.exec(tags::ATTACH, args![id.as_str(), add.ids()]).await?;
        }
        refresh_data(&mut tx, id).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Where a Data is.
    pub async fn locate(&self, id: &DataId) -> Result<Option<Located>> {
        whole!("locating a Data", self.try_locate(id))
    }

    async fn try_locate(&self, id: &DataId) -> Db<Option<Located>> {
        let Some(row) = self.db.row(LOCATE, args![id.as_str()]).await? else { return Ok(None) };
        let volume = Volume::from_stored(row.text(0)?);
        Ok(Some(Located { volume, status: row.parsed(1)?, digest: row.opt_text(2)? }))
    }
}

/// Sizes are counted in memory as u64 and stored as i64; none comes near the end of either.
pub(super) fn stored_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A search in the store's terms.
struct Wanted<'a> {
    id: Option<&'a str>,
    tags: TagRows<'a>,
    statuses: String,
    since: i64,
    until: i64,
}

impl<'a> Wanted<'a> {
    /// None when no Data can match.
    fn from_query(query: &'a DataQuery) -> Option<Self> {
        let mut id = None;
        let mut transient = None;
        let mut since = query.since.map_or(i64::MIN, Timestamp::micros);
        let mut until = query.until.map_or(i64::MAX, Timestamp::micros);
        for tag in query.tags.iter().filter(|tag| tag.is_system()) {
            match tag.key.as_str() {
                tag::ID if id.is_none_or(|other| other == tag.value) => id = Some(tag.value.as_str()),
                tag::TIMESTAMP => {
                    // The same instant to the millisecond: within that millisecond.
                    let start = Timestamp::from_millis(Timestamp::parse_strict(&tag.value).ok()?.millis()).micros();
                    since = since.max(start);
                    until = until.min(start.saturating_add(1000));
                }
                tag::TRANSIENT if transient.is_none_or(|other| other == tag.value) => {
                    transient = Some(tag.value.as_str());
                }
                _ => return None,
            }
        }
        let fits = |status: &RunStatus| transient.is_none() || status.transient() == transient;
        let statuses: Vec<&str> = RunStatus::ALL.into_iter().filter(fits).map(RunStatus::as_str).collect();
        if statuses.is_empty() || since >= until {
            return None;
        }
        let tags = query.tags.iter().filter(|tag| !tag.is_system()).collect();
        Some(Self { id, tags, statuses: list(statuses), since, until })
    }

    /// Finds by the shortest way: from the one id, from a rare tag, or along the time.
    async fn find(&self, tx: &mut Tx) -> Db<Vec<Row>> {
        let (since, until) = (self.since, self.until);
        let tags = self.tags.ids();
        if let Some(id) = self.id {
            return tx.rows(FIND_BY_ID, args![since, until, &self.statuses, &tags, id]).await;
        }
        let rarest = self.tags.uses(tx).await?.into_iter().min_by_key(|(_, uses)| *uses);
        match rarest {
            // Without a beginning, time leaves more to look at than even a tag on very many Data.
            Some((tag, uses)) if uses < RARE || since <= 0 => {
                tx.rows(FIND_BY_TAG, args![since, until, &self.statuses, &tags, &tag]).await
            }
            _ => {
                let (first, last) = (since.div_euclid(1000), until.div_euclid(1000));
                tx.rows(FIND_BY_TIME, args![since, until, &self.statuses, &tags, first, last]).await
            }
        }
    }
}

/// The Data of these ids, in any order.
pub(super) async fn listed(tx: &mut Tx, ids: &str) -> Db<Vec<Data>> {
    let rows = tx.rows(LISTED, args![ids]).await?;
    assemble(tx, rows).await
}

/// Adds to each Data its tags, where it came from and where it went, in a fixed number of statements.
async fn assemble(tx: &mut Tx, rows: Vec<Row>) -> Db<Vec<Data>> {
    let found: Vec<Found> = rows.iter().map(Found::read).collect::<Db<_>>()?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let ids = batch(found.iter().map(|data| [data.id.as_str()]));
    let mut tags: HashMap<DataId, Vec<Tag>> = HashMap::with_capacity(found.len());
    for row in tx.rows(TAGS, args![&ids]).await? {
        tags.entry(row.text(0)?.into()).or_default().push(Tag::new(row.text(1)?, row.text(2)?));
    }
    let mut uses: HashMap<DataId, Vec<(String, runs::Head)>> = HashMap::new();
    for row in tx.rows(DOWNSTREAMS, args![&ids]).await? {
        uses.entry(row.text(0)?.into()).or_default().push((row.text(1)?, runs::Head::read(&row, 2)?));
    }
    let mut nominated: HashMap<DataId, Vec<(String, PlanId)>> = HashMap::new();
    for row in tx.rows(NOMINATIONS, args![&ids]).await? {
        nominated.entry(row.text(0)?.into()).or_default().push((row.text(1)?, row.text(2)?.into()));
    }

    let used = uses.values().flatten();
    let wanted = nominated.values().flatten();
    let plan_ids: BTreeSet<&str> = (found.iter().map(|data| &data.run.plan))
        .chain(used.clone().map(|(_, run)| &run.plan))
        .chain(wanted.clone().map(|(_, plan)| plan))
        .map(PlanId::as_str)
        .collect();
    let mount_ids: BTreeSet<&str> = (found.iter().map(|data| &data.mount))
        .chain(used.map(|(mount, _)| mount))
        .chain(wanted.map(|(mount, _)| mount))
        .map(String::as_str)
        .collect();
    let around =
        Surroundings { plans: plans::summaries(tx, plan_ids).await?, mounts: plans::mounts(tx, mount_ids).await? };

    let finished = |data: Found| {
        let tags = tags.remove(&data.id).unwrap_or_default();
        let uses = uses.remove(&data.id).unwrap_or_default();
        let nominated = nominated.remove(&data.id).unwrap_or_default();
        around.complete(data, tags, uses, nominated)
    };
    found.into_iter().map(finished).collect()
}

/// The Plans and mountpoints that some Data mention.
struct Surroundings {
    plans: Summaries,
    mounts: Mounts,
}

impl Surroundings {
    fn complete(
        &self,
        data: Found,
        mut tags: Vec<Tag>,
        uses: Vec<(String, runs::Head)>,
        nominated: Vec<(String, PlanId)>,
    ) -> Db<Data> {
        tags.push(Tag::new(tag::ID, data.id.as_str()));
        tags.extend(data.made_at.map(|time| Tag::new(tag::TIMESTAMP, time.to_string())));
        tags.extend(data.run.status.transient().map(|value| Tag::new(tag::TRANSIENT, value)));
        tags.sort();
        let downstreams = uses
            .into_iter()
            .map(|(mount, run)| Ok(Downstream { mountpoint: self.mounts.point(&mount)?, run: self.run(run)? }));
        let nomination = nominated.into_iter().map(|(mount, plan)| {
            Ok(Nomination { mountpoint: self.mounts.point(&mount)?, plan: self.plans.of(&plan)? })
        });
        let source = self.mounts.get(&data.mount)?;
        let is_log = source.kind == plans::Kind::Log;
        let upstream = Upstream {
            mountpoint: (!is_log).then(|| source.point.clone()),
            log: is_log.then(|| LogPoint { tags: source.point.tags.clone() }),
            run: self.run(data.run)?,
        };
        Ok(Data {
            id: data.id,
            tags,
            upstream,
            downstreams: downstreams.collect::<Db<_>>()?,
            nomination: nomination.collect::<Db<_>>()?,
            digest: data.digest,
        })
    }

    fn run(&self, head: runs::Head) -> Result<RunSummary, DbError> {
        let plan = self.plans.of(&head.plan)?;
        Ok(head.summary(plan))
    }
}

//! Data: uploads, reading with lineage, search, tags.

use super::engine::{Db, DbError, Gate, Row, Tx, args, batch, list, repeatable, whole};
use super::nominations::{nominate_data, refresh_data};
use super::pages::{Between, Key, Page, Place, Search, Window};
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
    values ($1, $2, $3, $4, 1, $5, $6, $7, $8) on conflict (id) do nothing";
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

const DETAILS: &str = concat!(
    "select ",
    found!(),
    " from json_each($1) j join data d on d.id = j.value ->> 0 join run r on r.id = d.run_id"
);

/// The Data with the id `$5`, if it fits.
const KEY_BY_ID: &str = "select d.id, d.made_at from data d join run r on r.id = d.run_id where d.id = $5 \
    and coalesce(d.made_at * 1000, r.updated_at) >= $1 and coalesce(d.made_at * 1000, r.updated_at) < $2 \
    and r.status in (select j.value ->> 0 from json_each($3) j) \
    and not exists (select 1 from json_each($4) j where not exists \
      (select 1 from data_tag x where x.tag_id = j.value ->> 0 and x.data_id = d.id))";

/// Keys of Data that have a time, between (`$1`, `$2`) and (`$3`, `$4`), in one of the statuses `$5` (an empty
/// list: any) and with all tags of `$6`; at most `$7`. A status is looked up for each Data that has come so far:
/// what could be made a join might be made one with all Runs there are.
macro_rules! with_time {
    ($from:literal, $at:literal, $order:literal) => {
        concat!(
            "select d.id, d.made_at from ",
            $from,
            " and (",
            $at,
            ", d.id) > ($1, $2) and (",
            $at,
            ", d.id) < ($3, $4) \
             and ($5 = '[]' or (select 1 from run r where r.id = d.run_id \
               and r.status in (select j.value ->> 0 from json_each($5) j)) = 1) \
             and not exists (select 1 from json_each($6) j where not exists \
               (select 1 from data_tag x where x.tag_id = j.value ->> 0 and x.data_id = d.id)) order by ",
            $order,
            " limit $7"
        )
    };
}

/// Keys of Data that have no time, behind the id `$1`, whose Run changed from `$2` until `$3` and is in one of the
/// statuses `$4`, with all tags of `$5`; at most `$6`.
macro_rules! without_time {
    ($from:literal, $at:literal, $ahead:literal, $order:literal) => {
        concat!(
            "select d.id, d.made_at from ",
            $from,
            " and ",
            $at,
            " is null and d.id ",
            $ahead,
            " $1 and (select 1 from run r where r.id = d.run_id and r.updated_at >= $2 and r.updated_at < $3 \
               and ($4 = '[]' or r.status in (select j.value ->> 0 from json_each($4) j))) = 1 \
             and not exists (select 1 from json_each($5) j where not exists \
               (select 1 from data_tag x where x.tag_id = j.value ->> 0 and x.data_id = d.id)) order by ",
            $order,
            " limit $6"
        )
    };
}

/// The four statements of one way through the Data.
pub(super) struct Way {
    with_time: [&'static str; 2],
    without_time: [&'static str; 2],
}

impl Way {
    /// All of them, the first two for Data with a time.
    #[cfg(test)]
    pub(super) const fn statements(&self) -> [&'static str; 4] {
        [self.with_time[0], self.with_time[1], self.without_time[0], self.without_time[1]]
    }
}

/// `$time` is how the time is named where it is compared.
macro_rules! way {
    ($with:literal, $without:literal, $time:literal) => {
        Way {
            with_time: [
                with_time!($with, $time, "d.made_at, d.id"),
                with_time!($with, $time, "d.made_at desc, d.id desc"),
            ],
            without_time: [
                without_time!($without, $time, ">", "d.made_at, d.id"),
                without_time!($without, $time, "<", "d.made_at desc, d.id desc"),
            ],
        }
    };
}

/// From the Data that have one tag, which is the last parameter. The time is computed, so that no database thinks
/// of walking an index on it instead.
pub(super) const BY_TAG: Way = way!(
    "data_tag a join data d on d.id = a.data_id where a.tag_id = $8",
    "data_tag a join data d on d.id = a.data_id where a.tag_id = $7",
    "d.made_at + 0"
);
/// From these Data, the last parameter.
pub(super) const OF_THESE: Way = way!(
    "json_each($8) j join data d on d.id = j.value ->> 0 where true",
    "json_each($7) j join data d on d.id = j.value ->> 0 where true",
    "d.made_at + 0"
);
/// Along the time.
pub(super) const BY_TIME: Way = way!("data d where true", "data d where true", "d.made_at");
/// Along the time, past all that can be used.
pub(super) const UNREADY: Way = way!("data d where d.ready = 0", "data d where d.ready = 0", "d.made_at");

/// A time in milliseconds that no Data has reached.
const END: &str = "select coalesce(max(made_at), 0) + 1 from data";
/// A text behind all ids, whatever the order of texts.
const BEHIND: &str = "select max(id) || 'z' from data";

pub(super) const RUN_OF: &str = "select run_id from data where id = $1";
pub(super) const TAGS: &str = "select dt.data_id, t.key, t.value from json_each($1) j \
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
        repeatable!("registering an upload", self.try_add_upload(upload, now))
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
        if tx.exec(INSERT_DATA, columns).await? == 0 {
            // It was registered by a try whose end was not heard of.
            return Ok(());
        }
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
        let found = read(&mut tx, &[id.as_str().to_owned()]).await?.pop();
        tx.commit().await?;
        Ok(found)
    }

    /// All that match, by time, those without a time last, then by id.
    pub async fn find_data(&self, query: &DataQuery) -> Result<Vec<Data>> {
        whole!("searching Data", self.found(Wanted::from_query(query)))
    }

    /// A part of what [`Self::find_data`] finds.
    pub async fn page_of_data(&self, query: &DataQuery, window: &Window) -> Result<Page<Data>> {
        whole!("searching Data", self.page(Wanted::from_query(query), window))
    }

    /// The ids of all that [`Self::find_data`] finds.
    pub async fn ids_of_data(&self, query: &DataQuery, reverse: bool) -> Result<Vec<String>> {
        whole!("searching Data", self.ids(Wanted::from_query(query), reverse))
    }

    /// The Data of these ids in this order, as far as they are there.
    pub async fn data_of(&self, ids: &[String]) -> Result<Vec<Data>> {
        whole!("reading Data", self.of::<Wanted<'_>>(ids))
    }

    /// Changes tags (remove, remove keys, then add) and matches again; false when there is no such Data.
    pub async fn change_tags(&self, id: &DataId, change: &TagChange) -> Result<bool> {
        repeatable!("changing tags", self.try_change_tags(id, change))
    }

    async fn try_change_tags(&self, id: &DataId, change: &TagChange) -> Db<bool> {
        let mut tx = self.db.begin().await?;
        let found = change_tags_in(&mut tx, id, change).await?;
        if found {
            tx.commit().await?;
        }
        Ok(found)
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

/// A change of tags with all that follows from it, from the first statement of its transaction on; false when
/// there is no such Data.
pub(super) async fn change_tags_in(tx: &mut Tx, id: &DataId, change: &TagChange) -> Db<bool> {
    let add: TagRows = change.add.iter().map(|tag| &tag.0).collect();
    let remove: TagRows = change.remove.iter().map(|tag| &tag.0).collect();
    add.intern(tx).await?;
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
    refresh_data(tx, id).await?;
    Ok(true)
}

/// Sizes are counted in memory as u64 and stored as i64; none comes near the end of either.
pub(super) fn stored_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A search in the store's terms.
struct Wanted<'a> {
    id: Option<&'a str>,
    tags: TagRows<'a>,
    statuses: Vec<RunStatus>,
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
        let fits = |status: &RunStatus| {
            let is = status.transient();
            (transient.is_none() || is == transient) && query.transient.is_none_or(|wanted| wanted == is.is_some())
        };
        let statuses: Vec<RunStatus> = RunStatus::ALL.into_iter().filter(fits).collect();
        if statuses.is_empty() || since >= until {
            return None;
        }
        let tags = query.tags.iter().filter(|tag| !tag.is_system()).collect();
        Some(Self { id, tags, statuses, since, until })
    }

    /// The statuses as a parameter; an empty list when they exclude none.
    fn statuses(&self) -> String {
        let all = self.statuses.len() == RunStatus::ALL.len();
        list(self.statuses.iter().filter(|_| !all).map(|status| status.as_str()))
    }

    /// The shortest way: from the tag that is on the fewest Data, unless even that is on very many, past what is
    /// ready where nothing of it fits, from the Data that have several such tags, unless these are very many, too, or
    /// along the time. With it comes what it begins from.
    async fn way(&self, tx: &mut Tx) -> Db<(&'static Way, Option<String>)> {
        let rarest = self.tags.uses(tx).await?.into_iter().min_by_key(|(_, uses)| *uses);
        Ok(match rarest {
            Some((tag, uses)) if uses < tags::MOST_COUNTED => (&BY_TAG, Some(tag)),
            _ if !self.statuses.contains(&RunStatus::Done) => (&UNREADY, None),
            _ => match self.tags.shared(tx).await? {
                Some(shared) => (&OF_THESE, Some(list(shared))),
                None => (&BY_TIME, None),
            },
        })
    }

    /// Some keys of Data that have a time.
    async fn with_time(&self, tx: &mut Tx, sql: &'static str, from: Option<&str>, part: &Window) -> Db<Vec<Key>> {
        let between = Between::ahead(millis_from(self.since), millis_from(self.until), part);
        let ((low, low_id), (high, high_id)) = (between.low, between.high);
        let limit = part.limit as i64;
        let mut args = args![low, low_id, high, high_id, self.statuses(), self.tags.ids(), limit].to_vec();
        args.extend(from.map(Into::into));
        tx.rows(sql, &args).await?.iter().map(Key::read).collect()
    }

    /// Some keys of Data that have no time.
    async fn without_time(&self, tx: &mut Tx, sql: &'static str, from: Option<&str>, part: &Window) -> Db<Vec<Key>> {
        let behind = match &part.after {
            Some(Place { at: None, id, .. }) => id.clone(),
            _ if part.reverse => {
                tx.row(BEHIND, &[]).await?.map_or(Ok(None), |row| row.opt_text(0))?.unwrap_or_default()
            }
            _ => String::new(),
        };
        let limit = part.limit as i64;
        let mut args = args![behind, self.since, self.until, self.statuses(), self.tags.ids(), limit].to_vec();
        args.extend(from.map(Into::into));
        tx.rows(sql, &args).await?.iter().map(Key::read).collect()
    }
}

impl Search for Wanted<'_> {
    type Item = Data;

    /// A Data has a time exactly when its Run is over: what cannot fit is not looked through.
    async fn keys(&self, tx: &mut Tx, part: &Window) -> Db<Vec<Key>> {
        if let Some(id) = self.id {
            if part.after.is_some() {
                return Ok(Vec::new());
            }
            let statuses = list(self.statuses.iter().map(|status| status.as_str()));
            let rows = tx.rows(KEY_BY_ID, args![self.since, self.until, statuses, self.tags.ids(), id]).await?;
            return rows.iter().map(Key::read).collect();
        }
        let (way, from) = self.way(tx).await?;
        let direction = usize::from(part.reverse);
        let mut keys = Vec::new();
        for timed in [!part.reverse, part.reverse] {
            let fitting = self.statuses.iter().any(|status| status.is_over() == timed);
            let was_passed =
                part.after.as_ref().is_some_and(|place| place.at.is_some() != timed && timed != part.reverse);
            if !fitting || was_passed || keys.len() >= part.limit {
                continue;
            }
            let rest = Window { limit: part.limit - keys.len(), ..part.clone() };
            keys.append(&mut if timed {
                self.with_time(tx, way.with_time[direction], from.as_deref(), &rest).await?
            } else {
                self.without_time(tx, way.without_time[direction], from.as_deref(), &rest).await?
            });
        }
        Ok(keys)
    }

    async fn read(tx: &mut Tx, ids: &[String]) -> Db<Vec<Data>> {
        read(tx, ids).await
    }

    /// With the last one first, Data without a time come before those that have just got one.
    async fn end(&self, tx: &mut Tx, reverse: bool) -> Db<i64> {
        if !reverse {
            return Ok(i64::MAX);
        }
        tx.row(END, &[]).await?.map_or(Ok(i64::MAX), |row| row.int(0))
    }
}

/// The first millisecond that is not before this microsecond.
fn millis_from(micros: i64) -> i64 {
    micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) != 0)
}

/// Ids of Data, those in the making first, then the newest first.
pub(super) async fn newest(tx: &mut Tx, limit: usize) -> Db<Vec<String>> {
    let query = DataQuery::default();
    let Some(all) = Wanted::from_query(&query) else { return Ok(Vec::new()) };
    let keys = all.keys(tx, &Window { after: None, reverse: true, limit }).await?;
    Ok(keys.into_iter().map(|key| key.id).collect())
}

/// The Data of these ids in their order, as far as they are there, with their tags, where they came from and where
/// they went, in a fixed number of statements.
async fn read(tx: &mut Tx, ids: &[String]) -> Db<Vec<Data>> {
    let rows = tx.rows(DETAILS, args![list(ids)]).await?;
    let mut found: Vec<Found> = rows.iter().map(Found::read).collect::<Db<_>>()?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    found.sort_by_key(|data| places.get(data.id.as_str()).copied());
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

//! What fits, what nearly does, and what registering a Plan would come to. Everything here only reads, starts from
//! the links between tags and what has them, and stops counting and looking where an answer gets no better.

use super::engine::{Db, Row, Tx, args, batch, list, whole};
use super::plans::{self, Mount, WantedOfInput, wanted_of_input};
use super::tags::{self, TagRows};
use super::{Result, Store, data};
use crate::rules::nearness::{self, MOST_LACKING};
use crate::rules::why::Unusable;
use crate::rules::{identity, projection};
use knit_api::explain::{
    Count, DataExplained, InputExplained, NearData, NearInput, PlanExplained, PlanForeseen, PlanInputRef, TaggedData,
    UnusedTag,
};
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::image::ImageRef;
use knit_api::plan::{Mountpoint, OnNode, PlanSpec, Resources};
use knit_api::run::RunStatus;
use knit_api::tag::{self, Tag};
use knit_api::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Nothing is counted further than this.
pub(super) const MOST_COUNTED: u64 = 10_000;
/// Runs of a Plan are counted a little further, because they are rows of one index.
const MOST_RUNS: u64 = 100_000;
/// How many of the things that share a tag are looked at for near misses.
const MOST_LOOKED_AT: i64 = 5_000;
/// How many of these are compared tag by tag.
const COMPARED: i64 = 50;
/// How many of a kind are shown.
pub(super) const SHOWN: usize = 5;
/// How many values of a key are compared with one that nobody has.
const SIMILAR_OF: i64 = 1_000;
/// How many similar tags are shown.
const SIMILAR: usize = 3;
/// How many keys of a Data are looked at for inputs that ask for another value.
const KEYS: usize = 20;
/// Runs before another one are counted no further than this.
const MOST_BEFORE: u64 = 1_000;

pub(super) const COUNT_FITTING: &str =
    "select count(*) from (select 1 from nomination n where n.mount_id = $1 limit $2) x";
pub(super) const FITTING: &str = "select n.data_id from nomination n where n.mount_id = $1 order by n.data_id limit $2";

/// What the view `matching` says of an input, of one that is not registered: `$1` the tag, id or time to start from,
/// `$2` id, `$3` time (null: any), `$4` all user tags and `$5` their number, `$6` the most to find.
macro_rules! fitting {
    ($from:literal) => {
        concat!(
            "select d.id from ",
            $from,
            " and d.ready = 1 and ($2 is null or d.id = $2) and ($3 is null or d.made_at = $3) \
               and (select count(*) from json_each($4) j join data_tag x on x.tag_id = j.value ->> 0 \
                 and x.data_id = d.id) = $5 limit $6"
        )
    };
}
pub(super) const FITTING_BY_TAG: &str = fitting!("data_tag a join data d on d.id = a.data_id where a.tag_id = $1");
pub(super) const FITTING_BY_ID: &str = fitting!("data d where d.id = $1");
pub(super) const FITTING_BY_TIME: &str = fitting!("data d where d.made_at = $1");

/// Data that have the tag `$1`, at least `$3` of the tags `$2`, and do not fit: `$6` all tags that are wanted, `$7`
/// id and `$8` time. `$4` are looked at, `$5` are found, those with the most tags and the youngest first.
pub(super) const SHARING: &str = "select x.data_id, r.status from ( \
      select c.data_id, (select count(*) from json_each($2) j join data_tag h on h.tag_id = j.value ->> 0 \
        and h.data_id = c.data_id) as has \
      from (select a.data_id from data_tag a where a.tag_id = $1 limit $4) c) x \
    join data d on d.id = x.data_id join run r on r.id = d.run_id \
    where x.has >= $3 and r.status <> 'invalidated' \
      and not (x.has = $6 and d.ready = 1 and ($7 is null or d.id = $7) and ($8 is null or d.made_at = $8)) \
    order by x.has desc, d.made_at is null, d.made_at desc, x.data_id limit $5";
/// A Data that is asked for by its id, when it does not fit.
const NAMED: &str = "select d.id, r.status from data d join run r on r.id = d.run_id where d.id = $1";
pub(super) const VALUES: &str = "select t.value from tag t where t.key = $1 \
    and exists (select 1 from data_tag dt where dt.tag_id = t.id) limit $2";

const HEADS: &str = "select d.id, d.made_at, r.status from json_each($1) j \
    join data d on d.id = j.value ->> 0 join run r on r.id = d.run_id";

const PLAN: &str = "select p.active, p.image_repository, p.image_tag from plan p where p.id = $1";
pub(super) const RUNS_BY_STATUS: &str =
    "select x.status, count(*) from (select r.status from run r where r.plan_id = $1 limit $2) x group by x.status";
const PROJECTING: &str = "select case when exists (select 1 from mount m where m.plan_id = $1 and exists \
      (select 1 from spark s where s.mount_id = m.id)) then 1 else 0 end from plan p where p.id = $1";

pub(super) const COUNT_INPUTS: &str =
    "select count(*) from (select 1 from nomination n where n.data_id = $1 limit $2) x";
pub(super) const INPUTS: &str = "select n.mount_id from nomination n where n.data_id = $1 order by n.mount_id limit $2";
/// Inputs that share tags with the Data `$1` and lack at most `$2`; `$3` links are looked at, `$4` inputs found.
pub(super) const NEAR_INPUTS: &str = "select m.id from ( \
      select c.mount_id, count(*) as has from ( \
        select mt.mount_id from data_tag dt join mount_tag mt on mt.tag_id = dt.tag_id \
        where dt.data_id = $1 limit $3) c group by c.mount_id) x \
    join mount m on m.id = x.mount_id \
    where m.kind = 'input' and x.has >= m.want_tags - $2 \
      and not exists (select 1 from nomination n where n.mount_id = m.id and n.data_id = $1) \
    order by m.want_tags - x.has, m.id limit $4";
pub(super) const COUNT_LINKS: &str = "select count(*) from (select 1 from data_tag dt \
    join mount_tag mt on mt.tag_id = dt.tag_id where dt.data_id = $1 limit $2) x";
/// Inputs that ask for one tag alone, of the key `$1`, that no Data has.
pub(super) const INPUTS_OF_KEY: &str = "select m.id from (select t.id from tag t where t.key = $1 limit $2) c \
    join mount_tag mt on mt.tag_id = c.id join mount m on m.id = mt.mount_id \
    where not exists (select 1 from data_tag u where u.tag_id = c.id) and m.kind = 'input' and m.want_tags = 1 and m.want_data_id is null and m.want_time is null limit $3";
const PLANS: &str = "select p.id, p.active, p.image_repository, p.image_tag from json_each($1) j \
    join plan p on p.id = j.value ->> 0";

/// Plans with an input that asks for no tag besides these and for no Data in particular.
pub(super) const FED_BY_TAGS: &str = "select distinct i.plan_id from json_each($1) j \
    join mount i on i.anchor_tag = j.value ->> 0 \
    where i.kind = 'input' and i.want_data_id is null and i.want_time is null \
      and (select count(*) from mount_tag it where it.mount_id = i.id \
        and it.tag_id in (select s.value ->> 0 from json_each($1) s)) = i.want_tags";
/// Plans with an output or a log that has the tag `$1` and all `$3` of the tags `$2`.
pub(super) const FEEDING_TAGS: &str = "select distinct o.plan_id from mount_tag a join mount o on o.id = a.mount_id \
    where a.tag_id = $1 and o.kind in ('output', 'log') \
      and (select count(*) from json_each($2) j join mount_tag ot on ot.tag_id = j.value ->> 0 \
        and ot.mount_id = o.id) = $3";

const AROUND: &str = "select r.status, r.updated_at, r.failures, p.resources, p.on_node from run r \
    join plan p on p.id = r.plan_id where r.id = $1";
pub(super) const BEFORE: &str = "select count(*) from (select 1 from run r where r.status = $1 \
    and (r.updated_at, r.id) < ($2, $3) order by r.updated_at, r.id limit $4) x";
const UNUSABLE: &str = "select m.path, d.id, r.id, r.status from run_input i join mount m on m.id = i.mount_id \
    join data d on d.id = i.data_id join run r on r.id = d.run_id \
    where i.run_id = $1 and d.ready = 0 order by m.ord";

/// What the store knows of a Run besides the Run itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Runs in the same status that are longer in it.
    pub before: Count,
    /// How often in a row the work on it failed.
    pub failures: i64,
    /// What its Plan asks for.
    pub resources: Resources,
    /// Where its Plan may execute.
    pub on_node: OnNode,
    /// Inputs that are not usable (any more).
    pub unusable: Vec<Unusable>,
}

impl Store {
    /// What registering a Plan (already checked and normalised) would come to by now.
    pub async fn foresee_plan(&self, spec: &PlanSpec) -> Result<PlanForeseen> {
        whole!("foreseeing a Plan", self.try_foresee_plan(spec))
    }

    async fn try_foresee_plan(&self, spec: &PlanSpec) -> Db<PlanForeseen> {
        let mut tx = self.db.begin_reading().await?;
        let equal = tx.row(plans::BY_DIGEST, args![&identity::digest(spec)]).await?;
        let equal = equal.map(|row| row.text(0)).transpose()?.map(PlanId::from);
        let cycle = if equal.is_some() { None } else { cycle_through(&mut tx, spec).await? };
        let mut inputs = Vec::with_capacity(spec.inputs.len());
        let mut lists = Vec::with_capacity(spec.inputs.len());
        for input in &spec.inputs {
            let wanted = Wanted::of(&mut tx, input).await?;
            let found = wanted.fitting(&mut tx).await?;
            let fitting = Count::up_to(found.len() as u64, MOST_COUNTED);
            let first: Vec<DataId> = found.into_iter().take(SHOWN).collect();
            inputs.push(wanted.explained(&mut tx, fitting, &first).await?);
            lists.push(first);
        }
        tx.commit().await?;
        let refused = equal.is_some() || cycle.is_some();
        let all = inputs.iter().map(|input| input.fitting).fold(Count::exactly(1), Count::times);
        Ok(PlanForeseen {
            equal,
            cycle,
            active: spec.active.unwrap_or(true),
            inputs,
            runs: if refused { Count::default() } else { all },
            combinations: if refused { Vec::new() } else { projection::combinations(&lists, SHOWN) },
        })
    }

    /// What fits the inputs of a Plan by now, and what nearly does.
    pub async fn explain_plan(&self, id: &PlanId) -> Result<Option<PlanExplained>> {
        whole!("explaining a Plan", self.try_explain_plan(id))
    }

    async fn try_explain_plan(&self, id: &PlanId) -> Db<Option<PlanExplained>> {
        let mut tx = self.db.begin_reading().await?;
        let Some(plan) = tx.row(PLAN, args![id.as_str()]).await? else { return Ok(None) };
        let mounts = plans::mounts_of(&mut tx, [id.as_str()]).await?.remove(id).unwrap_or_default();
        let mut inputs = Vec::new();
        for Mount { id, point, .. } in mounts.iter().filter(|mount| mount.kind == plans::Kind::Input) {
            let fitting = count(&mut tx, COUNT_FITTING, id).await?;
            let rows = tx.rows(FITTING, args![id, SHOWN as i64]).await?;
            let first = ids::<DataId>(&rows)?;
            inputs.push(Wanted::of(&mut tx, point).await?.explained(&mut tx, fitting, &first).await?);
        }
        let mut runs = BTreeMap::new();
        for row in tx.rows(RUNS_BY_STATUS, args![id.as_str(), MOST_RUNS as i64 + 1]).await? {
            runs.insert(row.text(0)?, row.int(1)?.unsigned_abs());
        }
        let projecting = tx.row(PROJECTING, args![id.as_str()]).await?.map(|row| row.int(0)).transpose()?;
        tx.commit().await?;
        let combinations = inputs.iter().map(|input: &InputExplained| input.fitting);
        Ok(Some(PlanExplained {
            id: id.clone(),
            image: image(&plan, 1)?,
            active: plan.int(0)? != 0,
            combinations: if inputs.is_empty() {
                Count::default()
            } else {
                combinations.fold(Count::exactly(1), Count::times)
            },
            inputs,
            runs_capped: runs.values().sum::<u64>() > MOST_RUNS,
            runs,
            projecting: projecting == Some(1),
        }))
    }

    /// Which inputs a Data fits by now, and which it nearly does.
    pub async fn explain_data(&self, id: &DataId) -> Result<Option<DataExplained>> {
        whole!("explaining a Data", self.try_explain_data(id))
    }

    async fn try_explain_data(&self, id: &DataId) -> Db<Option<DataExplained>> {
        let mut tx = self.db.begin_reading().await?;
        let Some(this) = described(&mut tx, std::iter::once(id)).await?.remove(id) else { return Ok(None) };
        let fitting = count(&mut tx, COUNT_INPUTS, id.as_str()).await?;
        let rows = tx.rows(INPUTS, args![id.as_str(), SHOWN as i64]).await?;
        let inputs = inputs(&mut tx, &ids::<String>(&rows)?).await?;

        let conditions = args![id.as_str(), MOST_LACKING as i64, MOST_LOOKED_AT, COMPARED];
        let mut near = ids::<String>(&tx.rows(NEAR_INPUTS, conditions).await?)?;
        let links = tx.row(COUNT_LINKS, args![id.as_str(), MOST_LOOKED_AT + 1]).await?;
        let links = links.map(|row| row.int(0)).transpose()?.unwrap_or(0);
        let keys: BTreeSet<&str> = this.user_tags().map(|tag| tag.key.as_str()).take(KEYS).collect();
        for key in keys {
            near.extend(ids::<String>(&tx.rows(INPUTS_OF_KEY, args![key, SIMILAR_OF, COMPARED]).await?)?);
        }
        near.sort();
        near.dedup();
        let mut nearest: Vec<NearInput> = self::inputs(&mut tx, &near)
            .await?
            .into_iter()
            .filter_map(|input| {
                let lack = nearness::lack(&input.mountpoint.tags, &this.tags, this.status.transient());
                nearness::is_near(input.mountpoint.tags.len(), &lack).then_some(NearInput { input, lack })
            })
            .collect();
        nearest.sort_by_cached_key(|near| (nearness::distance(&near.lack), !near.input.active));
        nearest.truncate(SHOWN);
        tx.commit().await?;
        Ok(Some(DataExplained {
            transient: this.status.transient().map(str::to_owned),
            data: this.tagged(id.clone()),
            fitting,
            inputs,
            nearest,
            nearest_capped: links > MOST_LOOKED_AT,
        }))
    }

    /// What is known around a Run; none for an unknown one.
    pub async fn circumstances(&self, id: &RunId) -> Result<Option<Circumstances>> {
        whole!("looking around a Run", self.try_circumstances(id))
    }

    async fn try_circumstances(&self, id: &RunId) -> Db<Option<Circumstances>> {
        let mut tx = self.db.begin_reading().await?;
        let Some(row) = tx.row(AROUND, args![id.as_str()]).await? else { return Ok(None) };
        let status: RunStatus = row.parsed(0)?;
        let before = match status {
            // Only those whose turn is still to come stand in a line.
            RunStatus::Waiting | RunStatus::Ready => {
                let conditions = args![status.as_str(), row.int(1)?, id.as_str(), MOST_BEFORE as i64 + 1];
                tx.row(BEFORE, conditions).await?
            }
            _ => None,
        };
        let before = before.map(|row| row.int(0)).transpose()?.unwrap_or(0).unsigned_abs();
        let unusable = tx.rows(UNUSABLE, args![id.as_str()]).await?;
        tx.commit().await?;
        let read = |row: &Row| {
            Ok(Unusable {
                path: row.text(0)?,
                data: row.text(1)?.into(),
                run: row.text(2)?.into(),
                status: row.parsed(3)?,
            })
        };
        Ok(Some(Circumstances {
            before: Count::up_to(before, MOST_BEFORE),
            failures: row.int(2)?,
            resources: plans::from_json(&row, 3)?,
            on_node: plans::from_json(&row, 4)?,
            unusable: unusable.iter().map(read).collect::<Db<_>>()?,
        }))
    }
}

/// A bounded count by one id.
pub(super) async fn count(tx: &mut Tx, sql: &'static str, id: &str) -> Db<Count> {
    let row = tx.row(sql, args![id, MOST_COUNTED as i64 + 1]).await?;
    let found = row.map(|row| row.int(0)).transpose()?.unwrap_or(0);
    Ok(Count::up_to(found.unsigned_abs(), MOST_COUNTED))
}

/// The first column as ids.
pub(super) fn ids<T: From<String>>(rows: &[Row]) -> Db<Vec<T>> {
    rows.iter().map(|row| Ok(row.text(0)?.into())).collect()
}

fn image(row: &Row, first: usize) -> Db<Option<ImageRef>> {
    Ok(match (row.opt_text(first)?, row.opt_text(first + 1)?) {
        (Some(repository), Some(tag)) => Some(ImageRef { repository, tag }),
        _ => None,
    })
}

/// These inputs, in the order of their ids, with their Plans.
pub(super) async fn inputs(tx: &mut Tx, mounts: &[String]) -> Db<Vec<PlanInputRef>> {
    let found = plans::mounts(tx, mounts.iter().map(String::as_str)).await?;
    let mounts: Vec<&Mount> = mounts.iter().map(|id| found.get(id)).collect::<Db<_>>()?;
    let plan_ids: BTreeSet<&str> = mounts.iter().map(|mount| mount.plan.as_str()).collect();
    let mut plans: HashMap<PlanId, (bool, Option<ImageRef>)> = HashMap::new();
    for row in tx.rows(PLANS, args![list(plan_ids)]).await? {
        plans.insert(row.text(0)?.into(), (row.int(1)? != 0, image(&row, 2)?));
    }
    let named = |mount: &&Mount| {
        let (active, image) = plans.get(&mount.plan)?.clone();
        Some(PlanInputRef { plan: mount.plan.clone(), image, active, mountpoint: mount.point.clone() })
    };
    Ok(mounts.iter().filter_map(named).collect())
}

/// A Data with all its tags, the system's among them.
struct Described {
    tags: Vec<Tag>,
    status: RunStatus,
}

impl Described {
    fn user_tags(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|tag| !tag.is_system())
    }

    fn tagged(&self, id: DataId) -> TaggedData {
        TaggedData { id, tags: self.user_tags().cloned().collect() }
    }
}

async fn described<'a>(tx: &mut Tx, ids: impl IntoIterator<Item = &'a DataId>) -> Db<HashMap<DataId, Described>> {
    let ids = batch(ids.into_iter().map(|id| [id.as_str()]));
    let mut found = HashMap::new();
    for row in tx.rows(HEADS, args![&ids]).await? {
        let id: DataId = row.text(0)?.into();
        let time = row.opt_int(1)?.map(Timestamp::from_millis);
        let mut tags = vec![Tag::new(tag::ID, id.as_str())];
        tags.extend(time.map(|time| Tag::new(tag::TIMESTAMP, time.to_string())));
        found.insert(id, Described { tags, status: row.parsed(2)? });
    }
    for row in tx.rows(data::TAGS, args![&ids]).await? {
        if let Some(described) = found.get_mut(&DataId::from(row.text(0)?)) {
            described.tags.push(Tag::new(row.text(1)?, row.text(2)?));
        }
    }
    for described in found.values_mut() {
        described.tags.sort();
    }
    Ok(found)
}

/// An input, registered or not, in the store's terms.
struct Wanted<'a> {
    point: &'a Mountpoint,
    asked: WantedOfInput<'a>,
    /// The ids of its user tags and how many Data have each, the rarest first.
    by_use: Vec<(String, i64)>,
}

impl<'a> Wanted<'a> {
    async fn of(tx: &mut Tx, point: &'a Mountpoint) -> Db<Self> {
        let wanted =
            wanted_of_input(&point.tags).ok_or_else(|| super::engine::DbError::other("the Plan was not checked"))?;
        let mut by_use: Vec<(String, i64)> = wanted.tags.uses(tx).await?.into_iter().collect();
        by_use.sort_by_key(|(_, uses)| *uses);
        Ok(Self { point, asked: wanted, by_use })
    }

    /// The Data that fit, one more than are counted at most.
    async fn fitting(&self, tx: &mut Tx) -> Db<Vec<DataId>> {
        let WantedOfInput { id, time, tags } = &self.asked;
        let (all, number, most) = (tags.ids(), tags.len() as i64, MOST_COUNTED as i64 + 1);
        let rows = match (id, self.by_use.first(), time) {
            (Some(start), ..) => tx.rows(FITTING_BY_ID, args![*start, *id, *time, &all, number, most]).await?,
            (None, Some((start, _)), _) => {
                tx.rows(FITTING_BY_TAG, args![start, *id, *time, &all, number, most]).await?
            }
            (None, None, Some(start)) => {
                tx.rows(FITTING_BY_TIME, args![*start, *id, *time, &all, number, most]).await?
            }
            (None, None, None) => Vec::new(),
        };
        ids(&rows)
    }

    /// The input with the Data that fit it, and those that nearly do.
    async fn explained(self, tx: &mut Tx, fitting: Count, first: &[DataId]) -> Db<InputExplained> {
        let unused = self.unused(tx).await?;
        let mut near: HashSet<DataId> = self.sharing(tx).await?.into_iter().collect();
        if let (1, Some(unused)) = (self.point.tags.len(), unused.first()) {
            for tag in &unused.similar {
                near.extend(self.sharing_tag(tx, &tags::id(tag), 0).await?.into_iter().take(SHOWN));
            }
        }
        if let Some(id) = self.asked.id {
            near.extend(ids::<DataId>(&tx.rows(NAMED, args![id]).await?)?);
        }
        let mut described = described(tx, near.iter().chain(first)).await?;
        let data = first.iter().filter_map(|id| Some(described.get(id)?.tagged(id.clone()))).collect();
        let mut nearest: Vec<NearData> = near
            .into_iter()
            .filter_map(|id| {
                let found = described.remove(&id)?;
                let lack = nearness::lack(&self.point.tags, &found.tags, found.status.transient());
                let named = self.asked.id == Some(id.as_str()) && !lack.is_nothing();
                let is_near = named || nearness::is_near(self.point.tags.len(), &lack);
                is_near.then(|| NearData { data: found.tagged(id), lack })
            })
            .collect();
        nearest.sort_by_cached_key(|near| (nearness::distance(&near.lack), near.data.id.to_string()));
        nearest.truncate(SHOWN);
        let nearest_capped = self.drivers().iter().any(|(_, uses)| *uses >= MOST_LOOKED_AT);
        Ok(InputExplained { mountpoint: self.point.clone(), fitting, data, nearest, nearest_capped, unused })
    }

    /// Whatever lacks at most so many of the tags has at least one of so many and one more: the rarest ones do.
    fn drivers(&self) -> &[(String, i64)] {
        &self.by_use[..self.by_use.len().min(MOST_LACKING + 1)]
    }

    async fn sharing(&self, tx: &mut Tx) -> Db<Vec<DataId>> {
        let least = (self.by_use.len() as i64 - MOST_LACKING as i64).max(1);
        let mut found = Vec::new();
        for (tag, _) in self.drivers() {
            found.extend(self.sharing_tag(tx, tag, least).await?);
        }
        Ok(found)
    }

    async fn sharing_tag(&self, tx: &mut Tx, tag: &str, least: i64) -> Db<Vec<DataId>> {
        let WantedOfInput { id, time, tags } = &self.asked;
        let number = tags.len() as i64;
        let columns = args![tag, tags.ids(), least, MOST_LOOKED_AT, COMPARED, number, *id, *time];
        ids(&tx.rows(SHARING, columns).await?)
    }

    /// The tags that no Data has.
    async fn unused(&self, tx: &mut Tx) -> Db<Vec<UnusedTag>> {
        let mut unused = Vec::new();
        for tag in self.point.tags.iter().filter(|tag| !tag.is_system()) {
            let id = tags::id(tag);
            if self.by_use.iter().any(|(other, uses)| *other == id && *uses == 0) {
                let values = ids::<String>(&tx.rows(VALUES, args![&tag.key, SIMILAR_OF]).await?)?;
                let similar = nearness::similar(&tag.value, values, SIMILAR);
                let similar = similar.into_iter().map(|value| Tag::new(tag.key.clone(), value)).collect();
                unused.push(UnusedTag { tag: tag.clone(), similar });
            }
        }
        Ok(unused)
    }
}

/// The registered Plans through which a new one would feed itself: none in between when it would do so directly.
/// The same as what registering finds, without registering.
async fn cycle_through(tx: &mut Tx, spec: &PlanSpec) -> Db<Option<Vec<PlanId>>> {
    let made: Vec<&Vec<Tag>> =
        spec.outputs.iter().map(|output| &output.tags).chain(spec.log.iter().map(|log| &log.tags)).collect();
    let taken: Vec<&Vec<Tag>> = spec
        .inputs
        .iter()
        .map(|input| &input.tags)
        .filter(|tags| !tags.is_empty() && !tags.iter().any(Tag::is_system))
        .collect();
    if taken.iter().any(|wanted| made.iter().any(|has| wanted.iter().all(|tag| has.contains(tag)))) {
        return Ok(Some(Vec::new()));
    }
    let mut feeding: HashSet<PlanId> = HashSet::new();
    for wanted in taken {
        let rows: TagRows = wanted.iter().collect();
        let Some(anchor) = rows.iter().next() else { continue };
        let number = rows.len() as i64;
        feeding.extend(ids::<PlanId>(&tx.rows(FEEDING_TAGS, args![anchor, rows.ids(), number]).await?)?);
    }
    let mut edge: Vec<PlanId> = Vec::new();
    for has in made {
        let rows: TagRows = has.iter().collect();
        edge.extend(ids::<PlanId>(&tx.rows(FED_BY_TAGS, args![&rows.ids()]).await?)?);
    }
    edge.sort();
    edge.dedup();
    let mut fed_by: BTreeMap<PlanId, Option<PlanId>> = edge.iter().map(|plan| (plan.clone(), None)).collect();
    while !edge.is_empty() {
        if let Some(last) = edge.iter().find(|plan| feeding.contains(*plan)) {
            let mut path = vec![last.clone()];
            while let Some(Some(before)) = fed_by.get(&path[path.len() - 1]) {
                path.push(before.clone());
            }
            path.reverse();
            return Ok(Some(path));
        }
        let mut next = Vec::new();
        for row in tx.rows(plans::FED, args![list(edge.iter().map(PlanId::as_str))]).await? {
            let (from, to): (PlanId, PlanId) = (row.text(0)?.into(), row.text(1)?.into());
            if !fed_by.contains_key(&to) {
                fed_by.insert(to.clone(), Some(from));
                next.push(to);
            }
        }
        edge = next;
    }
    Ok(None)
}

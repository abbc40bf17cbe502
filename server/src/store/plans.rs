//! Plans: registration, reading with neighbours, search, activity.

use super::engine::{Db, DbError, Gate, Row, Tx, Value, args, batch, list, repeatable, whole};
use super::nominations::nominate_input;
use super::pages::{Key, Page, Search, Window};
use super::tags::{MOST_COUNTED, TagRows};
use super::{PlanQuery, Registered, Result, Store};
use crate::clock;
use crate::rules::{identity, plan as rules};
use knit_api::id::PlanId;
use knit_api::image::ImageRef;
use knit_api::plan::{
    Annotation, AnnotationChange, LogPoint, Mountpoint, Plan, PlanDownstream, PlanInput, PlanLog, PlanOutput, PlanSpec,
    PlanSummary, PlanUpstream, ResourceChange, Resources,
};
use knit_api::tag::{self, Tag};
use knit_api::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The built-in Plan of uploads and its output, as the first migration makes them.
pub(super) const UPLOADED_ID: &str = "00000000-0000-4000-8000-000000000001";
pub(super) const UPLOADED_MOUNT: &str = "00000000-0000-4000-8000-000000000011";

pub(super) const BY_DIGEST: &str = "select id from plan where digest = $1";
const INSERT: &str = "insert into plan (id, digest, active, image_repository, image_tag, entrypoint, args, on_node, \
      resources, service_account, annotations) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const INSERT_MOUNTS: &str = "insert into mount (id, plan_id, kind, ord, path, want_tags) \
    select j.value ->> 0, cast($1 as text), j.value ->> 1, cast(j.value ->> 2 as bigint), j.value ->> 3, \
      cast(j.value ->> 4 as bigint) from json_each($2) j where true";
const SET_WANTED: &str = "update mount set anchor_tag = $2, want_data_id = $3, want_time = $4 where id = $1";
const INSERT_MOUNT_TAGS: &str = "insert into mount_tag (mount_id, tag_id) \
    select j.value ->> 0, j.value ->> 1 from json_each($1) j where true";
/// Which of these Plans feed which Plans.
pub(super) const FED: &str = "select distinct o.plan_id, i.plan_id from json_each($1) j \
    join mount o on o.plan_id = j.value ->> 0 join feeding f on f.output_id = o.id \
    join mount i on i.id = f.input_id order by 1, 2";

const SUMMARIES: &str = "select p.id, p.name, p.image_repository, p.image_tag, p.entrypoint, p.args, p.annotations \
    from json_each($1) j join plan p on p.id = j.value ->> 0";
const DETAILS: &str = "select p.id, p.name, p.image_repository, p.image_tag, p.entrypoint, p.args, p.annotations, \
      p.active, p.on_node, p.resources, p.service_account \
    from json_each($1) j join plan p on p.id = j.value ->> 0";
/// In the order of [`Kind`], then as registered.
const MOUNTS: &str = "select m.id, m.plan_id, m.kind, m.path, m.want_data_id, m.want_time \
    from json_each($1) j join mount m on m.id = j.value ->> 0";
const MOUNTS_OF_PLANS: &str = "select m.id, m.plan_id, m.kind, m.path, m.want_data_id, m.want_time \
    from json_each($1) j join mount m on m.plan_id = j.value ->> 0 order by m.plan_id, m.kind, m.ord";
const MOUNT_TAGS: &str = "select mt.mount_id, t.key, t.value from json_each($1) j \
    join mount_tag mt on mt.mount_id = j.value ->> 0 join tag t on t.id = mt.tag_id";
const UPSTREAMS: &str = "select f.input_id, f.output_id from json_each($1) j \
    join feeding f on f.input_id = j.value ->> 0 join mount o on o.id = f.output_id order by o.plan_id, o.kind, o.ord";
const DOWNSTREAMS: &str = "select f.output_id, f.input_id from json_each($1) j \
    join feeding f on f.output_id = j.value ->> 0 join mount i on i.id = f.input_id order by i.plan_id, i.ord";

/// Keys of Plans behind the id `$1`: `$2` active (null: any), `$3` and `$4` image, `$5` to `$8` an input, `$9` and
/// `$10` an output or log: first whether one is asked for at all, then system tags, then user tags; at most `$11`. Mountpoints are looked up for
/// each Plan that has come so far: what could be made a join might be made one with all there are.
macro_rules! keys {
    ($lead:literal, $ahead:literal, $order:literal) => {
        concat!(
            "select p.id, cast(null as bigint) from plan p where ",
            $lead,
            " and p.id ",
            $ahead,
            " $1 and ($2 is null or p.active = $2) \
             and ($3 is null or p.image_repository = $3) and ($4 is null or p.image_tag = $4) \
             and ($5 = 0 or (select 1 from mount m where m.plan_id = p.id and m.kind = 'input' \
               and ($6 is null or m.want_data_id = $6) and ($7 is null or m.want_time = $7) \
               and not exists (select 1 from json_each($8) j where not exists \
                 (select 1 from mount_tag x where x.mount_id = m.id and x.tag_id = j.value ->> 0)) limit 1) = 1) \
             and ($9 = 0 or (select 1 from mount m where m.plan_id = p.id and m.kind in ('output', 'log') \
               and not exists (select 1 from json_each($10) j where not exists \
                 (select 1 from mount_tag x where x.mount_id = m.id and x.tag_id = j.value ->> 0)) limit 1) = 1) \
             order by ",
            $order,
            " limit $11"
        )
    };
}

macro_rules! both_ways {
    ($lead:literal) => {
        [keys!($lead, ">", "p.id"), keys!($lead, "<", "p.id desc")]
    };
}

/// From the mountpoints with the tag `$12`.
pub(super) const BY_TAG: [&str; 2] =
    both_ways!("p.id in (select m.plan_id from mount_tag mt join mount m on m.id = mt.mount_id where mt.tag_id = $12)");
pub(super) const BY_IMAGE: [&str; 2] = both_ways!("p.image_repository = $3");
pub(super) const BY_ID: [&str; 2] = both_ways!("true");
/// On how many mountpoints each of these tags is.
pub(super) const MOUNT_USES: &str = "select j.value ->> 0, \
    (select count(*) from (select 1 from mount_tag mt where mt.tag_id = j.value ->> 0 limit 5000) x) \
    from json_each($1) j";
/// A text behind all ids, whatever the order of texts.
const BEHIND: &str = "select max(id) || 'z' from plan";

const ANNOTATE: &str = "insert into plan_annotation (plan_id, head, pair) \
    select cast($1 as text), j.value ->> 0, j.value ->> 1 from json_each($2) j where true";

/// The row lock of a Plan comes with the change.
const SET_ACTIVE: &str = "update plan set active = $2 where id = $1 and name is null";
const MOVE_RUNS: &str = "update run set status = $2, due_at = $4 \
    where plan_id = $1 and status = $3 and status not in ('done', 'failed', 'invalidated')";

/// The row lock is an update that changes nothing: what is read with it stays true until the end.
const HOLD_RESOURCES: &str = "update plan set resources = resources where id = $1 returning resources";
const SET_RESOURCES: &str = "update plan set resources = $2 where id = $1";
/// Runs that were refused their worker, perhaps for an hour, ask again with what the Plan says now.
pub(super) const HASTEN_RUNS: &str = "update run set due_at = $2 where plan_id = $1 and status = 'ready' and due_at > $2 \
    and status not in ('done', 'failed', 'invalidated')";
const HOLD_ANNOTATIONS: &str = "update plan set annotations = annotations where id = $1 returning annotations";
const SET_ANNOTATIONS: &str = "update plan set annotations = $2 where id = $1";
pub(super) const FORGET_ANNOTATIONS: &str = "delete from plan_annotation where plan_id = $1";
const SET_SERVICE_ACCOUNT: &str = "update plan set service_account = $2 where id = $1";

/// What a mountpoint is to its Plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Input,
    Log,
    Output,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Log => "log",
            Self::Output => "output",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = DbError;
    fn from_str(text: &str) -> Db<Self> {
        [Self::Input, Self::Log, Self::Output]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| DbError::other(format!("\"{text}\" is no kind of mountpoint")))
    }
}

/// One input, output or log of a Plan.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    pub(super) id: String,
    pub(super) plan: PlanId,
    pub(super) kind: Kind,
    /// With user and system tags.
    pub(super) point: Mountpoint,
}

impl Mount {
    fn read(row: &Row) -> Db<Self> {
        let mut tags = Vec::new();
        tags.extend(row.opt_text(4)?.map(|id| Tag::new(tag::ID, id)));
        let time = row.opt_int(5)?.map(Timestamp::from_millis);
        tags.extend(time.map(|time| Tag::new(tag::TIMESTAMP, time.to_string())));
        let point = Mountpoint { path: row.text(3)?, tags };
        Ok(Self { id: row.text(0)?, plan: row.text(1)?.into(), kind: row.text(2)?.parse()?, point })
    }
}

/// Mountpoints by id.
#[derive(Debug, Default)]
pub(super) struct Mounts(HashMap<String, Mount>);

impl Mounts {
    pub(super) fn get(&self, id: &str) -> Db<&Mount> {
        self.0.get(id).ok_or_else(|| DbError::other(format!("mountpoint {id} is missing")))
    }

    /// The Plans that they belong to; one may come several times.
    pub(super) fn plans(&self) -> impl Iterator<Item = &PlanId> {
        self.0.values().map(|mount| &mount.plan)
    }

    pub(super) fn point(&self, id: &str) -> Db<Mountpoint> {
        Ok(self.get(id)?.point.clone())
    }
}

/// Summaries of Plans by id.
#[derive(Debug, Default)]
pub(super) struct Summaries(HashMap<PlanId, PlanSummary>);

impl Summaries {
    pub(super) fn of(&self, id: &PlanId) -> Db<PlanSummary> {
        self.0.get(id).cloned().ok_or_else(|| DbError::other(format!("Plan {id} is missing")))
    }

    /// What the Plan executes, or the name of a built-in one.
    pub(super) fn title(&self, id: &PlanId) -> Db<String> {
        let plan = self.of(id)?;
        Ok(plan.image.map(|image| image.to_string()).or(plan.name).unwrap_or_default())
    }
}

/// What every mention of these Plans says.
pub(super) async fn summaries<'a>(tx: &mut Tx, ids: impl IntoIterator<Item = &'a str>) -> Db<Summaries> {
    let rows = tx.rows(SUMMARIES, args![list(ids)]).await?;
    let read = |row| summary(row).map(|summary| (summary.id.clone(), summary));
    Ok(Summaries(rows.iter().map(read).collect::<Db<_>>()?))
}

fn summary(row: &Row) -> Db<PlanSummary> {
    let image = match (row.opt_text(2)?, row.opt_text(3)?) {
        (Some(repository), Some(tag)) => Some(ImageRef { repository, tag }),
        _ => None,
    };
    Ok(PlanSummary {
        id: row.text(0)?.into(),
        name: row.opt_text(1)?,
        image,
        entrypoint: from_json(row, 4)?,
        args: from_json(row, 5)?,
        annotations: from_json(row, 6)?,
    })
}

pub(super) fn from_json<T: DeserializeOwned>(row: &Row, column: usize) -> Db<T> {
    serde_json::from_str(&row.text(column)?).map_err(|error| DbError::other(format!("a Plan is unreadable: {error}")))
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts, lists and maps by text always have a JSON form")
}

/// These mountpoints with their tags.
pub(super) async fn mounts<'a>(tx: &mut Tx, ids: impl IntoIterator<Item = &'a str>) -> Db<Mounts> {
    let rows = tx.rows(MOUNTS, args![list(ids)]).await?;
    let found = with_tags(tx, rows).await?;
    Ok(Mounts(found.into_iter().map(|mount| (mount.id.clone(), mount)).collect()))
}

/// All mountpoints of these Plans with their tags: inputs, then log, then outputs, each as registered.
pub(super) async fn mounts_of<'a>(
    tx: &mut Tx,
    plans: impl IntoIterator<Item = &'a str>,
) -> Db<HashMap<PlanId, Vec<Mount>>> {
    let rows = tx.rows(MOUNTS_OF_PLANS, args![list(plans)]).await?;
    let mut by_plan: HashMap<PlanId, Vec<Mount>> = HashMap::new();
    for mount in with_tags(tx, rows).await? {
        by_plan.entry(mount.plan.clone()).or_default().push(mount);
    }
    Ok(by_plan)
}

async fn with_tags(tx: &mut Tx, rows: Vec<Row>) -> Db<Vec<Mount>> {
    let mut mounts: Vec<Mount> = rows.iter().map(Mount::read).collect::<Db<_>>()?;
    let ids = batch(mounts.iter().map(|mount| [mount.id.as_str()]));
    let mut tags: HashMap<String, Vec<Tag>> = HashMap::with_capacity(mounts.len());
    for row in tx.rows(MOUNT_TAGS, args![&ids]).await? {
        tags.entry(row.text(0)?).or_default().push(Tag::new(row.text(1)?, row.text(2)?));
    }
    for mount in &mut mounts {
        mount.point.tags.extend(tags.remove(&mount.id).unwrap_or_default());
        mount.point.tags.sort();
    }
    Ok(mounts)
}

impl Store {
    /// Registers a Plan (already checked and normalised by [`crate::rules`]) and nominates for it.
    pub async fn register_plan(&self, spec: &PlanSpec) -> Result<Registered> {
        // The id is made once: a Plan that is found to be there already may be this one.
        let id = PlanId::new(clock::new_id());
        repeatable!("registering a Plan", self.try_register_plan(spec, &id))
    }

    async fn try_register_plan(&self, spec: &PlanSpec, id: &PlanId) -> Db<Registered> {
        let new = NewPlan { id: id.clone(), ..NewPlan::from_spec(spec)? };
        let mut tx = self.db.begin().await?;
        new.tags().intern(&mut tx).await?;
        tx.gate(Gate::Plans).await?;
        let digest = identity::digest(spec);
        if let Some(row) = tx.row(BY_DIGEST, args![&digest]).await? {
            let equal: PlanId = row.text(0)?.into();
            return Ok(if equal == new.id { Registered::New(equal) } else { Registered::Equal(equal) });
        }
        new.insert(&mut tx, spec, &digest).await?;
        if let Some(through) = cycle_through(&mut tx, &new.id).await? {
            return Ok(Registered::Cycle(through));
        }
        for mount in new.mounts.iter().filter(|mount| mount.kind == Kind::Input) {
            nominate_input(&mut tx, &mount.id).await?;
        }
        tx.commit().await?;
        Ok(Registered::New(new.id))
    }

    /// One Plan with its neighbours.
    pub async fn plan(&self, id: &PlanId) -> Result<Option<Plan>> {
        whole!("reading a Plan", self.try_plan(id))
    }

    async fn try_plan(&self, id: &PlanId) -> Db<Option<Plan>> {
        let mut tx = self.db.begin_reading().await?;
        let plan = read(&mut tx, &[id.as_str().to_owned()]).await?.pop();
        tx.commit().await?;
        Ok(plan)
    }

    /// All that match, by id, built-in ones included.
    pub async fn find_plans(&self, query: &PlanQuery) -> Result<Vec<Plan>> {
        whole!("searching Plans", self.found(Wanted::from_query(query)))
    }

    /// A part of what [`Self::find_plans`] finds.
    pub async fn page_of_plans(&self, query: &PlanQuery, window: &Window) -> Result<Page<Plan>> {
        whole!("searching Plans", self.page(Wanted::from_query(query), window))
    }

    /// The ids of all that [`Self::find_plans`] finds.
    pub async fn ids_of_plans(&self, query: &PlanQuery, reverse: bool) -> Result<Vec<String>> {
        whole!("searching Plans", self.ids(Wanted::from_query(query), reverse))
    }

    /// The Plans of these ids in this order, as far as they are there.
    pub async fn plans_of(&self, ids: &[String]) -> Result<Vec<Plan>> {
        whole!("reading Plans", self.of::<Wanted<'_>>(ids))
    }

    /// Activates or deactivates, with its waiting or parked Runs; false for unknown and built-in Plans.
    pub async fn set_active(&self, id: &PlanId, active: bool, now: Timestamp) -> Result<bool> {
        repeatable!("changing the activity of a Plan", self.try_set_active(id, active, now))
    }

    async fn try_set_active(&self, id: &PlanId, active: bool, now: Timestamp) -> Db<bool> {
        let mut tx = self.db.begin().await?;
        if tx.exec(SET_ACTIVE, args![id.as_str(), i64::from(active)]).await? == 0 {
            return Ok(false);
        }
        let (to, from) = if active { ("waiting", "deactivated") } else { ("deactivated", "waiting") };
        tx.exec(MOVE_RUNS, args![id.as_str(), to, from, now.micros()]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Sets and unsets resources (already checked by [`crate::rules`]) for all Runs that start from now on;
    /// false for an unknown Plan.
    pub async fn change_resources(&self, id: &PlanId, change: &ResourceChange, now: Timestamp) -> Result<bool> {
        repeatable!("changing the resources of a Plan", self.try_change_resources(id, change, now))
    }

    async fn try_change_resources(&self, id: &PlanId, change: &ResourceChange, now: Timestamp) -> Db<bool> {
        let mut tx = self.db.begin().await?;
        let Some(row) = tx.row(HOLD_RESOURCES, args![id.as_str()]).await? else { return Ok(false) };
        let before: Resources = from_json(&row, 0)?;
        let after = rules::change_resources(before.clone(), change);
        if after != before {
            tx.exec(SET_RESOURCES, args![id.as_str(), to_json(&after)]).await?;
            tx.exec(HASTEN_RUNS, args![id.as_str(), now.micros()]).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Removes and adds annotations (already checked by [`crate::rules`]); false for an unknown Plan.
    pub async fn annotate(&self, id: &PlanId, change: &AnnotationChange) -> Result<bool> {
        repeatable!("changing the annotations of a Plan", self.try_annotate(id, change))
    }

    async fn try_annotate(&self, id: &PlanId, change: &AnnotationChange) -> Db<bool> {
        let mut tx = self.db.begin().await?;
        let Some(row) = tx.row(HOLD_ANNOTATIONS, args![id.as_str()]).await? else { return Ok(false) };
        let after = rules::change_annotations(from_json(&row, 0)?, change);
        tx.exec(SET_ANNOTATIONS, args![id.as_str(), to_json(&after)]).await?;
        tx.exec(FORGET_ANNOTATIONS, args![id.as_str()]).await?;
        annotate(&mut tx, id.as_str(), &after).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Sets the service account (already checked by [`crate::rules`]), empty for none; false for an unknown Plan.
    pub async fn set_service_account(&self, id: &PlanId, name: &str) -> Result<bool> {
        let columns = args![id.as_str(), name];
        Ok(self.change("setting the service account of a Plan", SET_SERVICE_ACCOUNT, columns).await? > 0)
    }
}

/// A search in the store's terms.
struct Wanted<'a> {
    query: &'a PlanQuery,
    input: WantedOfInput<'a>,
    output: TagRows<'a>,
}

impl<'a> Wanted<'a> {
    /// None when no Plan can match.
    fn from_query(query: &'a PlanQuery) -> Option<Self> {
        let input = wanted_of_input(&query.in_tags)?;
        let output = !query.out_tags.iter().any(Tag::is_system);
        output.then(|| Self { query, input, output: query.out_tags.iter().collect() })
    }

    /// The shortest way: from the tag that is on the fewest mountpoints, from the image, or along the ids.
    async fn way(&self, tx: &mut Tx) -> Db<(&'static [&'static str; 2], Option<String>)> {
        let tags = TagRows::merged([&self.input.tags, &self.output]);
        let rows = if tags.is_empty() { Vec::new() } else { tx.rows(MOUNT_USES, args![tags.ids()]).await? };
        let uses = rows.iter().map(|row| Ok((row.int(1)?, row.text(0)?))).collect::<Db<Vec<_>>>()?;
        Ok(match uses.into_iter().min() {
            Some((uses, tag)) if uses < MOST_COUNTED => (&BY_TAG, Some(tag)),
            _ if self.query.image.is_some() => (&BY_IMAGE, None),
            _ => (&BY_ID, None),
        })
    }
}

impl Search for Wanted<'_> {
    type Item = Plan;

    async fn keys(&self, tx: &mut Tx, part: &Window) -> Db<Vec<Key>> {
        let (way, tag) = self.way(tx).await?;
        let behind = match &part.after {
            Some(place) => place.id.clone(),
            None if part.reverse => {
                tx.row(BEHIND, &[]).await?.map_or(Ok(None), |row| row.opt_text(0))?.unwrap_or_default()
            }
            None => String::new(),
        };
        let image = self.query.image.as_ref();
        let mut args = args![
            behind,
            self.query.active.map(i64::from),
            image.map(|image| image.repository.as_str()),
            image.and_then(|image| image.tag.as_deref()),
            i64::from(!self.query.in_tags.is_empty()),
            self.input.id,
            self.input.time,
            self.input.tags.ids(),
            i64::from(!self.query.out_tags.is_empty()),
            self.output.ids(),
            part.limit as i64,
        ]
        .to_vec();
        args.extend(tag.map(Into::into));
        tx.rows(way[usize::from(part.reverse)], &args).await?.iter().map(Key::read).collect()
    }

    async fn read(tx: &mut Tx, ids: &[String]) -> Db<Vec<Plan>> {
        read(tx, ids).await
    }

    /// A Plan never changes its place.
    async fn end(&self, _: &mut Tx, _: bool) -> Db<i64> {
        Ok(i64::MAX)
    }
}

/// The tags of an input, system tags apart.
pub(super) struct WantedOfInput<'a> {
    pub(super) id: Option<&'a str>,
    /// In milliseconds.
    pub(super) time: Option<i64>,
    pub(super) tags: TagRows<'a>,
}

/// None when no input can have these tags.
pub(super) fn wanted_of_input<'a>(tags: impl IntoIterator<Item = &'a Tag> + Copy) -> Option<WantedOfInput<'a>> {
    let (mut id, mut time) = (None, None);
    for tag in tags.into_iter().filter(|tag| tag.is_system()) {
        match tag.key.as_str() {
            tag::ID if id.is_none_or(|other| other == tag.value) => id = Some(tag.value.as_str()),
            tag::TIMESTAMP => {
                let millis = Timestamp::parse_strict(&tag.value).ok()?.millis();
                if time.is_some_and(|other| other != millis) {
                    return None;
                }
                time = Some(millis);
            }
            _ => return None,
        }
    }
    Some(WantedOfInput { id, time, tags: tags.into_iter().filter(|tag| !tag.is_system()).collect() })
}

/// A Plan on its way into the store.
struct NewPlan<'a> {
    id: PlanId,
    mounts: Vec<NewMount<'a>>,
}

struct NewMount<'a> {
    id: String,
    kind: Kind,
    ord: String,
    path: &'a str,
    wanted: WantedOfInput<'a>,
}

/// The path under which logs were known; nothing is mounted there.
const LOG_PATH: &str = "/log";

impl<'a> NewPlan<'a> {
    fn from_spec(spec: &'a PlanSpec) -> Db<Self> {
        let inputs = spec.inputs.iter().map(|mount| (Kind::Input, mount.path.as_str(), &mount.tags));
        let outputs = spec.outputs.iter().map(|mount| (Kind::Output, mount.path.as_str(), &mount.tags));
        let log = spec.log.iter().map(|log| (Kind::Log, LOG_PATH, &log.tags));
        let mounts = inputs.enumerate().chain(outputs.enumerate()).chain(log.enumerate());
        let mounts = mounts.map(|(n, (kind, path, tags))| {
            let wanted = wanted_of_input(tags).ok_or_else(|| DbError::other("the Plan was not checked"))?;
            Ok(NewMount { id: clock::new_id(), kind, ord: n.to_string(), path, wanted })
        });
        Ok(Self { id: PlanId::new(clock::new_id()), mounts: mounts.collect::<Db<_>>()? })
    }

    fn tags(&self) -> TagRows<'a> {
        TagRows::merged(self.mounts.iter().map(|mount| &mount.wanted.tags))
    }

    async fn insert(&self, tx: &mut Tx, spec: &PlanSpec, digest: &str) -> Db<()> {
        let id = self.id.as_str();
        let uses = self.tags().uses(tx).await?;
        let columns = args![
            id,
            digest,
            i64::from(spec.active.unwrap_or(true)),
            &spec.image.repository,
            &spec.image.tag,
            to_json(&spec.entrypoint),
            to_json(&spec.args),
            to_json(&spec.on_node),
            to_json(&spec.resources),
            &spec.service_account,
            to_json(&spec.annotations),
        ];
        tx.exec(INSERT, columns).await?;
        annotate(tx, id, &spec.annotations).await?;
        let counts: Vec<String> = self.mounts.iter().map(|mount| mount.wanted.tags.len().to_string()).collect();
        let rows = self.mounts.iter().zip(&counts);
        let rows = batch(rows.map(|(m, count)| [m.id.as_str(), m.kind.as_str(), m.ord.as_str(), m.path, count]));
        tx.exec(INSERT_MOUNTS, args![id, &rows]).await?;
        let tags = self.mounts.iter().flat_map(|mount| mount.wanted.tags.iter().map(|tag| [mount.id.as_str(), tag]));
        tx.exec(INSERT_MOUNT_TAGS, args![batch(tags)]).await?;
        for mount in self.mounts.iter().filter(|mount| mount.kind == Kind::Input) {
            let wanted = &mount.wanted;
            let anchor = wanted.tags.iter().min_by_key(|tag| uses.get(*tag).copied().unwrap_or(0));
            tx.exec(SET_WANTED, args![&mount.id, anchor, wanted.id, wanted.time]).await?;
        }
        Ok(())
    }
}

/// How much of an annotation is searched by an index, in characters; the migration says the same.
pub(super) const HEAD: usize = 200;

/// Makes the annotations of a Plan that has none yet in the table of annotations ones that are found. They stand
/// in the Plan's row as well, in which they are shown.
async fn annotate(tx: &mut Tx, plan: &str, annotations: &[Annotation]) -> Db<()> {
    let pairs: Vec<String> = annotations.iter().map(Annotation::to_string).collect();
    let rows = batch(pairs.iter().map(|pair| [head(pair), pair]));
    tx.exec(ANNOTATE, args![plan, &rows]).await.map(drop)
}

/// The part of a text that is searched by an index.
pub(super) fn head(text: &str) -> &str {
    text.char_indices().nth(HEAD).map_or(text, |(end, _)| &text[..end])
}

/// The Plans through which this one feeds itself, itself first; none when it does not. One statement for
/// each step away from it; no Plan is looked at twice.
async fn cycle_through(tx: &mut Tx, plan: &PlanId) -> Db<Option<Vec<PlanId>>> {
    let mut fed_by: BTreeMap<String, String> = BTreeMap::new();
    let mut edge = vec![plan.as_str().to_owned()];
    while !edge.is_empty() {
        let mut next = Vec::new();
        for row in tx.rows(FED, args![list(&edge)]).await? {
            let (from, to) = (row.text(0)?, row.text(1)?);
            if to == plan.as_str() {
                return Ok(Some(path_back(&fed_by, plan, from)));
            }
            if !fed_by.contains_key(&to) {
                fed_by.insert(to.clone(), from);
                next.push(to);
            }
        }
        edge = next;
    }
    Ok(None)
}

fn path_back(fed_by: &BTreeMap<String, String>, plan: &PlanId, last: String) -> Vec<PlanId> {
    let mut path = Vec::new();
    let mut at = last;
    while at != plan.as_str() {
        let before = fed_by[&at].clone();
        path.push(PlanId::new(std::mem::replace(&mut at, before)));
    }
    path.push(plan.clone());
    path.reverse();
    path
}

/// The Plans of these ids in their order, as far as they are there, with their neighbours, in a fixed number of
/// statements.
async fn read(tx: &mut Tx, ids: &[String]) -> Db<Vec<Plan>> {
    let mut rows = tx.rows(DETAILS, args![list(ids)]).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    rows.sort_by_cached_key(|row| row.text(0).ok().and_then(|id| places.get(id.as_str()).copied()));
    let mut own = mounts_of(tx, ids.iter().map(String::as_str)).await?;
    let ids_of = |kinds: &[Kind]| {
        let mounts = own.values().flatten().filter(|mount| kinds.contains(&mount.kind));
        list(mounts.map(|mount| mount.id.as_str()))
    };
    let upstreams = pairs(tx, UPSTREAMS, args![&ids_of(&[Kind::Input])]).await?;
    let downstreams = pairs(tx, DOWNSTREAMS, args![&ids_of(&[Kind::Output, Kind::Log])]).await?;
    let others: BTreeSet<&str> = upstreams.values().chain(downstreams.values()).flatten().map(String::as_str).collect();
    let others = mounts(tx, others).await?;
    let other_plans: BTreeSet<&str> = others.0.values().map(|mount| mount.plan.as_str()).collect();
    let neighbours = Neighbours { plans: summaries(tx, other_plans).await?, mounts: others, upstreams, downstreams };
    rows.iter()
        .map(|row| {
            let summary = summary(row)?;
            let mounts = own.remove(&summary.id).unwrap_or_default();
            let (inputs, log, outputs) = neighbours.around(mounts)?;
            Ok(Plan {
                summary,
                inputs,
                outputs,
                log,
                active: row.int(7)? != 0,
                on_node: from_json(row, 8)?,
                resources: from_json(row, 9)?,
                service_account: row.text(10)?,
            })
        })
        .collect()
}

async fn pairs(tx: &mut Tx, sql: &'static str, args: &[Value<'_>]) -> Db<HashMap<String, Vec<String>>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for row in tx.rows(sql, args).await? {
        found.entry(row.text(0)?).or_default().push(row.text(1)?);
    }
    Ok(found)
}

/// What feeds, and is fed by, the mountpoints of some Plans.
struct Neighbours {
    plans: Summaries,
    mounts: Mounts,
    upstreams: HashMap<String, Vec<String>>,
    downstreams: HashMap<String, Vec<String>>,
}

impl Neighbours {
    fn around(&self, mounts: Vec<Mount>) -> Db<(Vec<PlanInput>, Option<PlanLog>, Vec<PlanOutput>)> {
        let (mut inputs, mut log, mut outputs) = (Vec::new(), None, Vec::new());
        for Mount { id, kind, point, .. } in mounts {
            match kind {
                Kind::Input => inputs.push(PlanInput { mountpoint: point, upstreams: self.upstreams(&id)? }),
                Kind::Output => outputs.push(PlanOutput { mountpoint: point, downstreams: self.downstreams(&id)? }),
                Kind::Log => {
                    let downstreams = self.downstreams(&id)?;
                    log = Some(PlanLog { log: LogPoint { tags: point.tags }, downstreams });
                }
            }
        }
        Ok((inputs, log, outputs))
    }

    fn upstreams(&self, input: &str) -> Db<Vec<PlanUpstream>> {
        let feeding = self.upstreams.get(input).into_iter().flatten();
        feeding
            .map(|output| {
                let Mount { plan, kind, point, .. } = self.mounts.get(output)?.clone();
                let plan = self.plans.of(&plan)?;
                Ok(match kind {
                    Kind::Log => PlanUpstream { plan, mountpoint: None, log: Some(LogPoint { tags: point.tags }) },
                    _ => PlanUpstream { plan, mountpoint: Some(point), log: None },
                })
            })
            .collect()
    }

    fn downstreams(&self, output: &str) -> Db<Vec<PlanDownstream>> {
        let fed = self.downstreams.get(output).into_iter().flatten();
        fed.map(|input| {
            let Mount { plan, point, .. } = self.mounts.get(input)?.clone();
            Ok(PlanDownstream { plan: self.plans.of(&plan)?, mountpoint: point })
        })
        .collect()
    }
}

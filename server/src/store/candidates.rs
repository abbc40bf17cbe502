//! What begins as asked: ids, tags, names of Plans, each with a hint by which a person recognises it.

use super::engine::{Db, Row, Tx, args, list, whole};
use super::{Result, Store, data, plans};
use knit_api::candidate::{Candidate, Kind};
use knit_api::run::RunStatus;
use knit_api::tag::Tag;
use std::collections::HashMap;

/// Longest hint, in characters.
const HINT: usize = 60;
/// The key of the annotation that is a Plan's name.
const NAME: &str = "name=";

/// A statement for each database, SQLite first, that gives the first `$2` rows from the text `$1` on: those that begin
/// with it, and then others. (What is said of an end as well, PostgreSQL may take for so few rows that it reads all of
/// them and sorts.) PostgreSQL has to be told to compare byte by byte, as its indexes for this do.
macro_rules! bytewise {
    ($before:expr, $text:literal, $after:expr, $then:literal) => {
        [bytewise!($before, $text, "", $after, $then), bytewise!($before, $text, " collate \"C\"", $after, $then)]
    };
    ($before:expr, $text:literal, $bytes:literal, $after:expr, $then:literal) => {
        concat!($before, $text, $bytes, " >= $1", $after, " order by ", $text, $bytes, $then, " limit $2")
    };
}

pub(super) const DATA: [&str; 2] = bytewise!("select d.id from data d where ", "d.id", "", "");
pub(super) const PLANS: [&str; 2] = bytewise!("select p.id from plan p where ", "p.id", "", "");
pub(super) const RUNS: [&str; 2] =
    bytewise!("select r.id, r.status, r.plan_id from run r where ", "r.id", " and r.status <> 'invalidated'", "");
/// The last changed first.
pub(super) const LATEST_RUNS: &str = "select r.id, r.status, r.plan_id from run r where r.status <> 'invalidated' \
    order by r.updated_at desc, r.id desc limit $1";
/// Those in use, on how many Data, counted no further than 1000. Longer ones nobody types.
pub(super) const TAGS: [&str; 2] = bytewise!(
    "select t.key || ':' || t.value, \
       (select count(*) from (select 1 from data_tag dt where dt.tag_id = t.id limit 1000) x) from tag t where ",
    "substr(t.key || ':' || t.value, 1, 200)",
    " and length(t.key) + length(t.value) <= 1000 \
     and coalesce((select 1 from data_tag dt where dt.tag_id = t.id limit 1), \
       (select 1 from mount_tag mt where mt.tag_id = t.id limit 1)) = 1",
    ""
);
const COUNTED: i64 = 1000;
pub(super) const PLAN_NAMES: [&str; 2] =
    bytewise!("select a.pair, a.plan_id from plan_annotation a where ", "a.head", "", ", a.plan_id");

macro_rules! named {
    ($bytes:literal) => {
        concat!(
            "select a.plan_id from plan_annotation a where a.head",
            $bytes,
            " = $1 and a.pair = $2 order by a.plan_id limit $3"
        )
    };
}
/// The Plans with the annotation `$2` that begins with `$1`.
pub(super) const NAMED: [&str; 2] = [named!(""), named!(" collate \"C\"")];

/// The beginnings of the user tags of some Data.
pub(super) const TAGS_OF: &str = "select dt.data_id, t.key, substr(t.value, 1, 60) from json_each($1) j \
    join data_tag dt on dt.data_id = j.value ->> 0 join tag t on t.id = dt.tag_id";

impl Store {
    /// Things of a kind that begin so, at most `limit`: by id or text or, where nothing is said of the beginning,
    /// the newest Data and Runs first.
    pub async fn candidates(&self, kind: Kind, prefix: &str, limit: usize) -> Result<Vec<Candidate>> {
        whole!("looking for what begins as asked", self.try_candidates(kind, prefix, limit))
    }

    async fn try_candidates(&self, kind: Kind, prefix: &str, limit: usize) -> Db<Vec<Candidate>> {
        let mut tx = self.db.begin_reading().await?;
        let found = match kind {
            Kind::Data => of_data(&mut tx, prefix, limit).await?,
            Kind::Plans => {
                let ids = ids(&mut tx, PLANS, prefix, limit).await?;
                of_plans(&mut tx, ids).await?
            }
            Kind::Runs => of_runs(&mut tx, prefix, limit).await?,
            Kind::Tags => of_tags(&mut tx, prefix, limit).await?,
            Kind::PlanNames => of_plan_names(&mut tx, prefix, limit).await?,
        };
        tx.commit().await?;
        Ok(found)
    }

    /// The Plans that have exactly the annotation `name=NAME`, by id, at most `limit`.
    pub async fn plans_named(&self, name: &str, limit: usize) -> Result<Vec<Candidate>> {
        whole!("looking for a Plan by its name", self.try_plans_named(name, limit))
    }

    async fn try_plans_named(&self, name: &str, limit: usize) -> Db<Vec<Candidate>> {
        let mut tx = self.db.begin_reading().await?;
        let pair = format!("{NAME}{name}");
        let sql = tx.choose(NAMED[0], NAMED[1]);
        let rows = tx.rows(sql, args![plans::head(&pair), &pair, limit as i64]).await?;
        let ids = rows.iter().map(|row| row.text(0)).collect::<Db<_>>()?;
        let found = of_plans(&mut tx, ids).await?;
        tx.commit().await?;
        Ok(found)
    }
}

/// The rows of a statement of `bytewise!` whose first column begins with `prefix`, each with that column.
async fn beginning(
    tx: &mut Tx,
    sql: [&'static str; 2],
    prefix: &str,
    limit: usize,
) -> Db<impl Iterator<Item = Db<(String, Row)>>> {
    let sql = tx.choose(sql[0], sql[1]);
    let rows = tx.rows(sql, args![prefix, limit as i64]).await?;
    let read = |row: Row| Ok((row.text(0)?, row));
    let begins = move |found: &Db<(String, Row)>| found.as_ref().map_or(true, |(text, _)| text.starts_with(prefix));
    Ok(rows.into_iter().map(read).take_while(begins))
}

async fn ids(tx: &mut Tx, sql: [&'static str; 2], prefix: &str, limit: usize) -> Db<Vec<String>> {
    beginning(tx, sql, prefix, limit).await?.map(|found| found.map(|(id, _)| id)).collect()
}

async fn of_data(tx: &mut Tx, prefix: &str, limit: usize) -> Db<Vec<Candidate>> {
    let ids = if prefix.is_empty() { data::newest(tx, limit).await? } else { ids(tx, DATA, prefix, limit).await? };
    let mut tags: HashMap<String, Vec<Tag>> = HashMap::with_capacity(ids.len());
    for row in tx.rows(TAGS_OF, args![list(&ids)]).await? {
        tags.entry(row.text(0)?).or_default().push(Tag::new(row.text(1)?, row.text(2)?));
    }
    let candidate = |id: String| {
        let mut tags = tags.remove(&id).unwrap_or_default();
        tags.sort();
        let tags: Vec<String> = tags.iter().map(Tag::to_string).collect();
        Candidate { value: id, hint: one_line(&tags.join(" ")) }
    };
    Ok(ids.into_iter().map(candidate).collect())
}

async fn of_plans(tx: &mut Tx, ids: Vec<String>) -> Db<Vec<Candidate>> {
    let plans = plans::summaries(tx, ids.iter().map(String::as_str)).await?;
    let candidate = |id: String| Ok(Candidate { hint: one_line(&plans.title(&id.as_str().into())?), value: id });
    ids.into_iter().map(candidate).collect()
}

async fn of_runs(tx: &mut Tx, prefix: &str, limit: usize) -> Db<Vec<Candidate>> {
    let rows: Vec<Row> = if prefix.is_empty() {
        tx.rows(LATEST_RUNS, args![limit as i64]).await?
    } else {
        beginning(tx, RUNS, prefix, limit).await?.map(|found| found.map(|(_, row)| row)).collect::<Db<_>>()?
    };
    let plan_ids = rows.iter().map(|row| row.text(2)).collect::<Db<Vec<_>>>()?;
    let plans = plans::summaries(tx, plan_ids.iter().map(String::as_str)).await?;
    let candidates = rows.iter().zip(&plan_ids).map(|(row, plan)| {
        let status: RunStatus = row.parsed(1)?;
        let hint = format!("{status} {}", plans.title(&plan.as_str().into())?);
        Ok(Candidate { value: row.text(0)?, hint: one_line(&hint) })
    });
    candidates.collect()
}

async fn of_tags(tx: &mut Tx, prefix: &str, limit: usize) -> Db<Vec<Candidate>> {
    let candidates = beginning(tx, TAGS, prefix, limit).await?.map(|found| {
        let (value, row) = found?;
        let uses = row.int(1)?;
        let more = if uses == COUNTED { "+" } else { "" };
        Ok(Candidate { value, hint: format!("{uses}{more} Data") })
    });
    candidates.collect()
}

async fn of_plan_names(tx: &mut Tx, prefix: &str, limit: usize) -> Db<Vec<Candidate>> {
    let pair = format!("{NAME}{prefix}");
    let candidates = beginning(tx, PLAN_NAMES, &pair, limit).await?.map(|found| {
        let (pair, row) = found?;
        Ok(Candidate { value: pair.strip_prefix(NAME).unwrap_or(&pair).to_owned(), hint: row.text(1)? })
    });
    candidates.collect()
}

/// The beginning of a text, without line feeds and other characters that move a cursor.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    match text.char_indices().nth(HINT) {
        None => text.chars().map(plain).collect(),
        Some(_) => text.chars().take(HINT - 1).map(plain).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_one_short_line() {
        assert_eq!(one_line("a:b c:d"), "a:b c:d");
        assert_eq!(one_line("a:b\n\u{1b}[31m"), "a:b  [31m");
        assert_eq!(one_line(&"日".repeat(60)).chars().count(), 60);
        let cut = one_line(&"日".repeat(61));
        assert!(cut.ends_with("日…") && cut.chars().count() == 60);
    }
}

//! What graphs are made of: the Runs around a Data with what they use and make, and things listed by id.

use super::engine::{Db, Row, Tx, args, list, whole};
use super::{Result, Store};
use crate::rules::lineage::Facts;
use knit_api::graph::{Depth, Reach};
use knit_api::id::DataId;
use std::collections::{HashMap, HashSet};

/// Up to so many steps are taken one by one: each is a statement or two. A walk that may go further asks for
/// everything there is at once, and what lies beyond its depth is left out afterwards.
const STEPS: u32 = 500;
/// Ids that one statement is given.
const PAGE: usize = 5000;

const EXISTS: &str = "select 1 from data where id = $1";
/// All Runs upstream of a Data. Since when a Run stands as it does is carried along: joined afterwards, it would be
/// read for all Runs there are.
pub(super) const ABOVE: &str = "with recursive above(run_id, updated_at) as ( \
      select r.id, r.updated_at from data d join run r on r.id = d.run_id where d.id = $1 \
      union \
      select r.id, r.updated_at from above c join run_input i on i.run_id = c.run_id \
      join data d on d.id = i.data_id join run r on r.id = d.run_id) \
    select c.run_id, c.updated_at from above c";
/// All Runs downstream of a Data but invalidated ones, as a Data does not name these either.
pub(super) const BELOW: &str = "with recursive below(run_id, updated_at) as ( \
      select r.id, r.updated_at from run_input i join run r on r.id = i.run_id \
      where i.data_id = $1 and r.status <> 'invalidated' \
      union \
      select r.id, r.updated_at from below c join data d on d.run_id = c.run_id \
      join run_input i on i.data_id = d.id join run r on r.id = i.run_id where r.status <> 'invalidated') \
    select c.run_id, c.updated_at from below c";
/// The Runs that made these Data.
pub(super) const MAKERS: &str = "select r.id, r.updated_at from json_each($1) j \
    join data d on d.id = j.value ->> 0 join run r on r.id = d.run_id";
/// The Runs that use these Data.
pub(super) const USERS: &str = "select r.id, r.updated_at from json_each($1) j \
    join run_input i on i.data_id = j.value ->> 0 join run r on r.id = i.run_id where r.status <> 'invalidated'";
const USED: &str = "select i.data_id from json_each($1) j join run_input i on i.run_id = j.value ->> 0";
const MADE: &str = "select d.id from json_each($1) j join data d on d.run_id = j.value ->> 0";
/// In the order of the inputs.
const INPUTS: &str = "select i.run_id, i.data_id, m.path from json_each($1) j \
    join run_input i on i.run_id = j.value ->> 0 join mount m on m.id = i.mount_id order by i.run_id, m.ord";
/// In the order of the outputs, the log last.
const OUTPUTS: &str = "select d.run_id, d.id, case m.kind when 'log' then null else m.path end from json_each($1) j \
    join data d on d.run_id = j.value ->> 0 join mount m on m.id = d.mount_id order by d.run_id, m.kind desc, m.ord";

/// A Run by id, and since when it stands as it does.
type Dated = HashMap<String, i64>;

impl Store {
    /// What the lineage of a Data is made of, at least as far as `reach` goes; none for an unknown Data.
    pub async fn lineage(&self, id: &DataId, reach: Reach) -> Result<Option<Facts>> {
        whole!("following lineage", self.try_lineage(id, reach))
    }

    async fn try_lineage(&self, id: &DataId, reach: Reach) -> Db<Option<Facts>> {
        let mut tx = self.db.begin_reading().await?;
        if tx.row(EXISTS, args![id.as_str()]).await?.is_none() {
            return Ok(None);
        }
        let mut found = Dated::new();
        for (wanted, direction) in [(reach.upstream, &UPWARDS), (reach.downstream, &DOWNWARDS)] {
            match reach.depth {
                _ if !wanted => {}
                Depth::Steps(steps) if steps <= STEPS => direction.step_by_step(&mut tx, id, steps, &mut found).await?,
                _ => found.extend(dated(&tx.rows(direction.all, args![id.as_str()]).await?)?),
            }
        }
        let facts = facts(&mut tx, found).await?;
        tx.commit().await?;
        Ok(Some(facts))
    }
}

/// One way to go.
struct Direction {
    /// Everything that way from the Data `$1`.
    all: &'static str,
    /// From Data to the next Runs.
    runs: &'static str,
    /// From Runs to the next Data.
    data: &'static str,
}

const UPWARDS: Direction = Direction { all: ABOVE, runs: MAKERS, data: USED };
const DOWNWARDS: Direction = Direction { all: BELOW, runs: USERS, data: MADE };

impl Direction {
    /// Finds the Runs within so many steps of a Data.
    async fn step_by_step(&self, tx: &mut Tx, start: &DataId, steps: u32, found: &mut Dated) -> Db<()> {
        let mut seen: HashSet<String> = HashSet::new();
        let mut edge = vec![start.to_string()];
        for step in 0..steps {
            let mut new = Vec::new();
            for page in edge.chunks(PAGE) {
                for (run, updated) in dated(&tx.rows(self.runs, args![list(page)]).await?)? {
                    if seen.insert(run.clone()) {
                        new.push(run.clone());
                        found.insert(run, updated);
                    }
                }
            }
            if new.is_empty() || step + 1 == steps {
                break;
            }
            let mut next = HashSet::new();
            for page in new.chunks(PAGE) {
                for row in tx.rows(self.data, args![list(page)]).await? {
                    next.insert(row.text(0)?);
                }
            }
            edge = next.into_iter().collect();
        }
        Ok(())
    }
}

fn dated(rows: &[Row]) -> Db<Vec<(String, i64)>> {
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// What these Runs use and make. They are in the order in which a Data names the Runs that use it.
async fn facts(tx: &mut Tx, found: Dated) -> Db<Facts> {
    let mut runs: Vec<(i64, String)> = found.into_iter().map(|(run, updated)| (updated, run)).collect();
    runs.sort_unstable();
    let mut facts = Facts::new();
    for (_, run) in &runs {
        facts.add_run(run);
    }
    for page in runs.chunks(PAGE) {
        let ids = list(page.iter().map(|(_, run)| run));
        for row in tx.rows(INPUTS, args![&ids]).await? {
            facts.add_input(&row.text(0)?, &row.text(2)?, &row.text(1)?);
        }
        for row in tx.rows(OUTPUTS, args![&ids]).await? {
            let (run, data) = (row.text(0)?, row.text(1)?);
            match row.opt_text(2)? {
                None => facts.add_log(&run, &data),
                Some(path) => facts.add_output(&run, &path, &data),
            }
        }
    }
    Ok(facts)
}

//! Volumes that nothing refers to any more.

use super::engine::{Db, Value, args, batch, whole};
use super::{Result, Store};
use crate::engine::Volume;

const GARBAGE: &str = "select volume from garbage order by since, volume limit $1";
const FORGET: &str = "delete from garbage where volume = $1";
const UNKNOWN: &str = "select j.value ->> 0 from json_each($1) j \
    where not exists (select 1 from data d where d.volume = j.value ->> 0) \
    and not exists (select 1 from garbage g where g.volume = j.value ->> 0)";

impl Store {
    /// Volumes that nothing refers to any more, at most `limit`, the oldest first.
    pub async fn garbage(&self, limit: u32) -> Result<Vec<Volume>> {
        whole!("looking for garbage", self.try_volumes(GARBAGE, args![i64::from(limit)]))
    }

    /// Forgets garbage whose volume was removed.
    pub async fn forget_garbage(&self, volume: &Volume) -> Result<()> {
        self.change("forgetting garbage", FORGET, args![volume.as_str()]).await.map(drop)
    }

    /// Of these volumes, those that no row knows.
    pub async fn unknown_volumes(&self, volumes: &[Volume]) -> Result<Vec<Volume>> {
        let names = batch(volumes.iter().map(|volume| [volume.as_str()]));
        whole!("looking for unknown volumes", self.try_volumes(UNKNOWN, args![&names]))
    }

    async fn try_volumes(&self, sql: &'static str, args: &[Value<'_>]) -> Db<Vec<Volume>> {
        let rows = self.db.rows(sql, args).await?;
        rows.iter().map(|row| Ok(Volume::from_stored(row.text(0)?))).collect()
    }
}

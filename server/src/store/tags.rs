//! Tags as rows: known by the digest of their key and value.

use super::engine::{Db, Tx, args, batch, list};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knit_api::tag::Tag;
use std::collections::BTreeMap;

/// Sorted, so that two transactions that bring the same new tags cannot wait for each other.
const INTERN: &str = "insert into tag (id, key, value) \
    select j.value ->> 0, j.value ->> 1, j.value ->> 2 from json_each($1) j where true order by 1 \
    on conflict do nothing";
/// What is on more than this is counted no further: it is on very many.
pub(super) const MOST_COUNTED: i64 = 5000;
/// How often each of these tags is on Data, counted no further than [`MOST_COUNTED`].
pub(super) const USES: &str = "select j.value ->> 0, \
    (select count(*) from (select 1 from data_tag dt where dt.tag_id = j.value ->> 0 limit 5000) x) \
    from json_each($1) j";
/// Data that have all of four tags, which need not differ; of more than [`MOST_COUNTED`] some. Ids stand in one order
/// under each tag, so that looking one up beside another costs little.
pub(super) const SHARED: &str = "select a.data_id from data_tag a where a.tag_id = $1 \
    and exists (select 1 from data_tag x where x.tag_id = $2 and x.data_id = a.data_id) \
    and exists (select 1 from data_tag x where x.tag_id = $3 and x.data_id = a.data_id) \
    and exists (select 1 from data_tag x where x.tag_id = $4 and x.data_id = a.data_id) limit 5000";
pub(super) const ATTACH: &str = "insert into data_tag (tag_id, data_id) \
    select j.value ->> 0, cast($1 as text) from json_each($2) j where true order by 1 on conflict do nothing";
pub(super) const DETACH: &str =
    "delete from data_tag where data_id = $1 and tag_id in (select j.value ->> 0 from json_each($2) j)";
pub(super) const DETACH_KEYS: &str = "delete from data_tag where data_id = $1 and exists \
    (select 1 from tag t where t.id = data_tag.tag_id and t.key in (select j.value ->> 0 from json_each($2) j))";

/// A set of tags, each under the id of its row, in the order of these ids.
#[derive(Debug, Default)]
pub(super) struct TagRows<'a>(BTreeMap<String, &'a Tag>);

impl<'a> FromIterator<&'a Tag> for TagRows<'a> {
    fn from_iter<I: IntoIterator<Item = &'a Tag>>(tags: I) -> Self {
        Self(tags.into_iter().map(|tag| (id(tag), tag)).collect())
    }
}

impl<'a> TagRows<'a> {
    /// All tags of several sets.
    pub(super) fn merged<'b>(sets: impl IntoIterator<Item = &'b Self>) -> Self
    where
        'a: 'b,
    {
        Self(sets.into_iter().flat_map(|set| set.0.iter().map(|(id, tag)| (id.clone(), *tag))).collect())
    }

    /// The ids, as a parameter.
    pub(super) fn ids(&self) -> String {
        list(self.0.keys())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Makes sure that all these tags have rows. The first statement of its transaction.
    pub(super) async fn intern(&self, tx: &mut Tx) -> Db<()> {
        if !self.is_empty() {
            let rows = batch(self.0.iter().map(|(id, tag)| [id.as_str(), tag.key.as_str(), tag.value.as_str()]));
            tx.exec(INTERN, args![&rows]).await?;
        }
        Ok(())
    }

    /// How often each is on Data; counting stops at [`MOST_COUNTED`].
    pub(super) async fn uses(&self, tx: &mut Tx) -> Db<BTreeMap<String, i64>> {
        if self.is_empty() {
            return Ok(BTreeMap::new());
        }
        tx.rows(USES, args![&self.ids()]).await?.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
    }

    /// The Data that may have all of these tags, though each is on very many; none when these are very many, too, or
    /// there are no two tags.
    pub(super) async fn shared(&self, tx: &mut Tx) -> Db<Option<Vec<String>>> {
        let first: Vec<&str> = self.iter().take(4).collect();
        let [one, two, ..] = first[..] else { return Ok(None) };
        let more = |at: usize| first.get(at).copied().unwrap_or(two);
        let rows = tx.rows(SHARED, args![one, two, more(2), more(3)]).await?;
        let is_few = (rows.len() as i64) < MOST_COUNTED;
        is_few.then(|| rows.iter().map(|row| row.text(0)).collect()).transpose()
    }
}

/// The id of a tag's row: 128 bits of BLAKE3 over key, NUL and value, as 22 characters. No tag holds a
/// NUL, so no two tags share that text.
pub(super) fn id(tag: &Tag) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tag.key.as_bytes()).update(&[0]).update(tag.value.as_bytes());
    URL_SAFE_NO_PAD.encode(&hasher.finalize().as_bytes()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_tag_tells_where_its_key_ends() {
        assert_eq!(id(&Tag::new("a", "b")).len(), 22);
        assert_ne!(id(&Tag::new("a", "bc")), id(&Tag::new("ab", "c")));
        assert_eq!(id(&Tag::new("a", "b")), id(&Tag::new("a", "b")));
    }
}

//! Lists, page by page. A page begins behind a place in the order of its list, not behind a number of rows,
//! so it costs the same wherever it is.
//!
//! What happens to rows between two pages: one that goes is not shown; one that comes or changes is shown if its
//! place is still ahead; and none is shown twice, as long as the clock goes forward. For rows change their place
//! only by getting the present as their time, and where that would bring one before the reader again, the list
//! ends where time stood when its first page was read ([`Place::end`]).
//!
//! A page is bounded in what it weighs as well as in rows: a single Data may have been used many thousand times.
//!
//! A whole list is another thing: its ids are taken as of one moment, and nothing that was there then and still
//! is goes missing.

use super::Store;
use super::engine::{Db, Row, Tx, args, batch};
use serde::Serialize;
use std::io::{self, Write};

/// Keys in order. Of ids at one time only the database knows the order.
const IN_ORDER: &str = "select j.value ->> 0, cast(j.value ->> 1 as bigint) from json_each($1) j order by 2, 1";

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub struct Window {
    /// Begins behind this place, else at the beginning.
    pub after: Option<Place>,
    /// The last one first.
    pub reverse: bool,
    /// The most rows, at least one. There may be less, and still more to follow, when they are large.
    pub limit: usize,
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The time by which the list is ordered, in the unit in which it is stored; none for rows without one.
    pub at: Option<i64>,
    /// The id of the row.
    pub id: String,
    /// Times from here on came up after the list was begun.
    pub end: i64,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// Its end, when more follows.
    pub next: Option<Place>,
}

/// A row's place in its list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) at: Option<i64>,
    pub(super) id: String,
}

impl Key {
    /// From two columns: id, time.
    pub(super) fn read(row: &Row) -> Db<Self> {
        Ok(Self { id: row.text(0)?, at: row.opt_int(1)? })
    }
}

/// A search whose matches have an order.
pub(super) trait Search {
    /// What is found.
    type Item: Serialize;

    /// The first keys of this part, in order.
    async fn keys(&self, tx: &mut Tx, part: &Window) -> Db<Vec<Key>>;

    /// What has these ids, in their order, as far as it is there.
    async fn read(tx: &mut Tx, ids: &[String]) -> Db<Vec<Self::Item>>;

    /// Where a list that begins now must end for no row to be shown twice; `i64::MAX` where that cannot happen.
    async fn end(&self, tx: &mut Tx, reverse: bool) -> Db<i64>;
}

/// Keys that are read at once where all are wanted.
const AT_ONCE: usize = 2000;

/// Rows that are read at once for a page, until it is known what they weigh.
const FIRST_ROWS: usize = 50;
/// From this size on a page ends, in bytes of JSON.
const HEAVIEST: usize = 4 << 20;

/// Lists of what matches; nothing does where there is no search.
impl Store {
    /// All that match, in order.
    pub(super) async fn found<S: Search>(&self, search: Option<S>) -> Db<Vec<S::Item>> {
        let Some(search) = search else { return Ok(Vec::new()) };
        let mut tx = self.db.begin_reading().await?;
        let ids = all(&mut tx, &search, false).await?;
        let items = S::read(&mut tx, &ids).await?;
        tx.commit().await?;
        Ok(items)
    }

    /// One page.
    pub(super) async fn page<S: Search>(&self, search: Option<S>, window: &Window) -> Db<Page<S::Item>> {
        let Some(search) = search else { return Ok(Page { items: Vec::new(), next: None }) };
        let mut tx = self.db.begin_reading().await?;
        let page = page(&mut tx, &search, window).await?;
        tx.commit().await?;
        Ok(page)
    }

    /// The ids of all that match.
    pub(super) async fn ids<S: Search>(&self, search: Option<S>, reverse: bool) -> Db<Vec<String>> {
        let Some(search) = search else { return Ok(Vec::new()) };
        let mut tx = self.db.begin_reading().await?;
        let ids = all(&mut tx, &search, reverse).await?;
        tx.commit().await?;
        Ok(ids)
    }

    /// What has these ids, in their order.
    pub(super) async fn of<S: Search>(&self, ids: &[String]) -> Db<Vec<S::Item>> {
        let mut tx = self.db.begin_reading().await?;
        let items = S::read(&mut tx, ids).await?;
        tx.commit().await?;
        Ok(items)
    }
}

/// One page, and where the next one begins.
async fn page<S: Search>(tx: &mut Tx, search: &S, window: &Window) -> Db<Page<S::Item>> {
    let one_more = Window { limit: window.limit + 1, ..window.clone() };
    let mut keys = search.keys(tx, &one_more).await?;
    let mut follows = keys.len() > window.limit;
    keys.truncate(window.limit);
    let (mut items, mut weight, mut read) = (Vec::new(), 0, 0);
    while read < keys.len() && weight < HEAVIEST {
        // As many as will find room, if they weigh what those before them do.
        let some = if read == 0 { FIRST_ROWS } else { ((HEAVIEST - weight) * read / weight.max(1)).max(1) };
        let ids: Vec<String> = keys[read..].iter().take(some).map(|key| key.id.clone()).collect();
        for item in S::read(tx, &ids).await? {
            if weight >= HEAVIEST {
                break;
            }
            weight += weight_of(&item);
            items.push(item);
        }
        // All is read as of one moment: each key has its item.
        read = if weight < HEAVIEST { read + ids.len() } else { items.len() };
    }
    if read < keys.len() {
        keys.truncate(read);
        follows = true;
    }
    let mut next = None;
    if let Some(last) = keys.pop().filter(|_| follows) {
        let end = match &window.after {
            Some(place) => place.end,
            None => search.end(tx, window.reverse).await?,
        };
        next = Some(Place { at: last.at, id: last.id, end });
    }
    Ok(Page { items, next })
}

/// How long the JSON of something is.
fn weight_of<T: Serialize>(item: &T) -> usize {
    struct Weight(usize);
    impl Write for Weight {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0 += text.len();
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut weight = Weight(0);
    serde_json::to_writer(&mut weight, item).expect("wire types have string keys and no failing parts");
    weight.0
}

/// All ids, as of the moment of this transaction.
async fn all<S: Search>(tx: &mut Tx, search: &S, reverse: bool) -> Db<Vec<String>> {
    let mut ids = Vec::new();
    let mut part = Window { after: None, reverse, limit: AT_ONCE };
    loop {
        let keys = search.keys(tx, &part).await?;
        let is_last = keys.len() < AT_ONCE;
        if let Some(last) = keys.last() {
            part.after = Some(Place { at: last.at, id: last.id.clone(), end: i64::MAX });
        }
        ids.extend(keys.into_iter().map(|key| key.id));
        if is_last {
            return Ok(ids);
        }
    }
}

/// The first keys of several parts of a list, each of which is in order.
pub(super) async fn merge(tx: &mut Tx, parts: Vec<Vec<Key>>, window: &Window) -> Db<Vec<Key>> {
    let mut parts: Vec<Vec<Key>> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.len() <= 1 {
        return Ok(parts.pop().unwrap_or_default());
    }
    let mut keys: Vec<Key> = parts.into_iter().flatten().collect();
    keys.sort_unstable();
    if window.reverse {
        keys.reverse();
    }
    // All at the last one's time are needed to tell which of them come first.
    if let Some(last) = keys.get(window.limit - 1).map(|key| key.at) {
        let end = keys.iter().rposition(|key| key.at == last).map_or(keys.len(), |place| place + 1);
        keys.truncate(end);
    }
    let times: Vec<String> = keys.iter().map(|key| key.at.unwrap_or_default().to_string()).collect();
    let rows = batch(keys.iter().zip(&times).map(|(key, at)| [key.id.as_str(), at]));
    let mut keys = tx.rows(IN_ORDER, args![&rows]).await?.iter().map(Key::read).collect::<Db<Vec<_>>>()?;
    if window.reverse {
        keys.reverse();
    }
    keys.truncate(window.limit);
    Ok(keys)
}

/// How a list is walked along its times: the pairs of time and id that lie between two others.
pub(super) struct Between<'a> {
    pub(super) low: (i64, &'a str),
    pub(super) high: (i64, &'a str),
}

impl<'a> Between<'a> {
    /// From `since` (inclusive) until `until` (exclusive), as far as it lies ahead of the reader.
    pub(super) fn ahead(since: i64, until: i64, part: &'a Window) -> Self {
        let (mut low, mut high) = ((since, ""), (until, ""));
        if let Some(place) = &part.after {
            high = high.min((place.end, ""));
            let here = (place.at.unwrap_or(if part.reverse { i64::MAX } else { i64::MIN }), place.id.as_str());
            if part.reverse && here.0 < high.0 {
                high = here;
            } else if !part.reverse && here.0 >= low.0 {
                low = here;
            }
        }
        Self { low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(at: Option<i64>, end: i64, reverse: bool) -> Window {
        Window { after: Some(Place { at, id: "m".to_owned(), end }), reverse, limit: 1 }
    }

    #[test]
    fn what_lies_ahead_is_what_was_asked_for_without_what_was_read() {
        let whole = Window { after: None, reverse: true, limit: 1 };
        let between = Between::ahead(10, 20, &whole);
        assert_eq!((between.low, between.high), ((10, ""), (20, "")));
        for (part, low, high) in [
            (part(Some(15), i64::MAX, false), (15, "m"), (20, "")),
            (part(Some(10), i64::MAX, false), (10, "m"), (20, "")),
            (part(Some(5), i64::MAX, false), (10, ""), (20, "")),
            (part(Some(15), 18, false), (15, "m"), (18, "")),
            (part(Some(15), i64::MAX, true), (10, ""), (15, "m")),
            (part(Some(25), i64::MAX, true), (10, ""), (20, "")),
            (part(None, 18, true), (10, ""), (18, "")),
            (part(None, i64::MAX, true), (10, ""), (20, "")),
        ] {
            let between = Between::ahead(10, 20, &part);
            assert_eq!((between.low, between.high), (low, high), "{part:?}");
        }
    }
}

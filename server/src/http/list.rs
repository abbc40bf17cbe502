//! Lists: whole ones in v1.6.1's order, leaving as they are read, or one page of a list.
//!
//! With `limit=` a page is asked for, behind a cursor (`after=`), and `reverse` turns any list around. A whole list is
//! what matched at the moment of the request: the ids are taken then, and everything else is read while the list
//! leaves. What is removed meanwhile is left out. When reading fails in mid-list the connection is cut, since an
//! orderly end would make half a list look whole.

use super::answer;
use super::query::Query;
use super::refused::{Answer, Refused};
use crate::app::App;
use crate::store::{DataQuery, Page, Place, PlanQuery, RunQuery, Store, StoreError, Window};
use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream;
use knit_api::data::Data;
use knit_api::endpoint::NEXT;
use knit_api::plan::Plan;
use knit_api::run::Run;
use serde::Serialize;
use std::collections::VecDeque;
use std::io;

/// The most that a page holds.
pub(super) const LARGEST_PAGE: usize = 1000;
/// How much of a whole list is in memory at once, in rows.
const AT_ONCE: usize = 250;
/// Longest cursor that is read, in bytes; none that is given out is longer.
const LONGEST_CURSOR: usize = 1024;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A search whose matches are listed.
pub(super) trait Listed: Send + Sync + 'static {
    /// What is listed.
    type Item: Serialize + Send;
    /// What the list is called in a cursor, so that none leads into a list of another kind.
    const NAME: char;

    /// One page.
    fn page(&self, store: &Store, window: &Window) -> impl Future<Output = Result<Page<Self::Item>>> + Send;
    /// The ids of all.
    fn ids(&self, store: &Store, reverse: bool) -> impl Future<Output = Result<Vec<String>>> + Send;
    /// What has these ids, in their order.
    fn read(store: &Store, ids: &[String]) -> impl Future<Output = Result<Vec<Self::Item>>> + Send;
}

macro_rules! listed {
    ($query:ty => $item:ty, $name:literal, $page:ident, $ids:ident, $read:ident) => {
        impl Listed for $query {
            type Item = $item;
            const NAME: char = $name;

            async fn page(&self, store: &Store, window: &Window) -> Result<Page<$item>> {
                store.$page(self, window).await
            }

            async fn ids(&self, store: &Store, reverse: bool) -> Result<Vec<String>> {
                store.$ids(self, reverse).await
            }

            async fn read(store: &Store, ids: &[String]) -> Result<Vec<$item>> {
                store.$read(ids).await
            }
        }
    };
}

listed!(DataQuery => Data, 'd', page_of_data, ids_of_data, data_of);
listed!(PlanQuery => Plan, 'p', page_of_plans, ids_of_plans, plans_of);
listed!(RunQuery => Run, 'r', page_of_runs, ids_of_runs, runs_of);

/// Answers with what matches: a page if one is asked for, else all.
pub(super) async fn find<L: Listed>(app: &App, query: &Query, search: L) -> Answer {
    let reverse = query.has("reverse");
    let after = query.first("after");
    let Some(limit) = query.limit(LARGEST_PAGE)? else {
        if after.is_some() {
            return Err(Refused::bad_request("parameter after needs parameter limit")
                .advice("Give limit=N: what follows a cursor is a page."));
        }
        return whole(app, &search, reverse).await;
    };
    let after = after.map(read_cursor::<L>).transpose()?;
    let page = search.page(&app.store, &Window { after, reverse, limit }).await?;
    let mut answer = answer::list(page.items);
    if let Some(place) = &page.next {
        let cursor = HeaderValue::from_str(&cursor::<L>(place)).expect("base64 fits a header");
        answer.headers_mut().insert(NEXT, cursor);
    }
    Ok(answer)
}

/// A whole list. What goes wrong at its beginning is still told as an error.
async fn whole<L: Listed>(app: &App, search: &L, reverse: bool) -> Answer {
    let mut ids: VecDeque<String> = search.ids(&app.store, reverse).await?.into();
    let first = next_items::<L>(&app.store, &mut ids).await?;
    if ids.is_empty() {
        return Ok(answer::list(first));
    }
    let rest = stream::try_unfold((app.store.clone(), ids), |(store, mut ids)| async move {
        if ids.is_empty() {
            return Ok(None);
        }
        let items = next_items::<L>(&store, &mut ids).await.map_err(|error| {
            tracing::error!(%error, "sending a list broke off");
            io::Error::other(error)
        })?;
        Ok::<_, io::Error>(Some((items, (store, ids))))
    });
    Ok(answer::list_in_parts(first, rest))
}

/// What has the next ids.
async fn next_items<L: Listed>(store: &Store, ids: &mut VecDeque<String>) -> Result<Vec<L::Item>> {
    let some: Vec<String> = ids.drain(..ids.len().min(AT_ONCE)).collect();
    L::read(store, &some).await
}

/// A place as clients keep it: nothing that they should read, and nothing that a URL or a header would change.
fn cursor<L: Listed>(place: &Place) -> String {
    let at = place.at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    URL_SAFE_NO_PAD.encode(format!("{} {at} {} {}", L::NAME, place.end, place.id))
}

fn read_cursor<L: Listed>(text: &str) -> Answer<Place> {
    let place = || {
        if text.len() > LONGEST_CURSOR {
            return None;
        }
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let mut words = text.splitn(4, ' ');
        let (name, at, end, id) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let at = if at == "-" { None } else { Some(at.parse().ok()?) };
        let place = Place { at, end: end.parse().ok()?, id: id.to_owned() };
        (name.chars().eq([L::NAME]) && !id.is_empty()).then_some(place)
    };
    place().ok_or_else(|| {
        Refused::bad_request(format!(
            "parameter after: this is not where a page of this list has ended: {}",
            shown(text)
        ))
        .advice(&format!("Give the value of the header {NEXT} as it came with the page before."))
    })
}

/// The beginning of what somebody sent.
fn shown(text: &str) -> String {
    let plain: String = text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(40).is_some() { format!("\"{plain}…\"") } else { format!("\"{plain}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: Option<i64>, id: &str) -> Place {
        Place { at, id: id.to_owned(), end: i64::MAX }
    }

    #[test]
    fn a_cursor_leads_back_to_its_place_and_into_no_other_list() {
        for at in [Some(0), Some(-5), Some(i64::MAX), None] {
            for id in ["d1", "with space", "日本"] {
                let text = cursor::<DataQuery>(&place(at, id));
                assert_eq!(read_cursor::<DataQuery>(&text).unwrap(), place(at, id));
                assert!(read_cursor::<RunQuery>(&text).is_err());
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_read_as_a_cursor_that_is_none(text in ".{0,60}") {
            proptest::prop_assert!(read_cursor::<PlanQuery>(&text).is_err());
            let encoded = URL_SAFE_NO_PAD.encode(&text);
            proptest::prop_assert!(read_cursor::<PlanQuery>(&encoded).is_err());
        }
    }

    #[test]
    fn a_wrong_cursor_is_named_without_repeating_all_of_it() {
        let refused = format!("{:?}", read_cursor::<DataQuery>(&"x\u{1b}".repeat(1000)).unwrap_err());
        assert!(refused.len() < 400 && !refused.contains('\u{1b}'), "{refused}");
    }
}

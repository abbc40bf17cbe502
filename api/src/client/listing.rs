//! Long lists, page by page: what keeps the memory of a search constant however much it finds.
//!
//! A server that knows no pages answers with the whole list, which is then ordered, filtered and cut here.

use super::{Client, ClientError, DataQuery, PlanQuery, RunQuery, SILENCE};
use crate::data::Data;
use crate::endpoint;
use crate::plan::Plan;
use crate::run::Run;
use crate::server::capability;
use futures_util::{Stream, stream};
use reqwest::Method;
use serde::de::DeserializeOwned;

/// How many things a page has when there are that many.
const PAGE: usize = 500;

/// The order of a list, and where it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The last one first.
    pub reverse: bool,
    /// No more than this many.
    pub limit: Option<usize>,
}

impl Client {
    /// The Data that fit, by time, in pages.
    pub fn list_data(
        &self,
        query: DataQuery,
        listing: Listing,
    ) -> impl Stream<Item = Result<Vec<Data>, ClientError>> + use<> {
        let mut paged = query.pairs();
        paged.extend(query.transient.map(|transient| ("transient", transient.to_string())));
        let list = List { route: endpoint::DATA, paged, whole: query.pairs(), listing };
        pages(self.clone(), list, move |data: &Data| query.fits(data))
    }

    /// The Plans that fit, by id, in pages.
    pub fn list_plans(
        &self,
        query: PlanQuery,
        listing: Listing,
    ) -> impl Stream<Item = Result<Vec<Plan>, ClientError>> + use<> {
        let list = List { route: endpoint::PLANS, paged: query.pairs(), whole: query.pairs(), listing };
        pages(self.clone(), list, |_: &Plan| true)
    }

    /// The Runs that fit, by their last change, in pages. One that changes meanwhile may be missing.
    pub fn list_runs(
        &self,
        query: RunQuery,
        listing: Listing,
    ) -> impl Stream<Item = Result<Vec<Run>, ClientError>> + use<> {
        let list = List { route: endpoint::RUNS, paged: query.pairs(), whole: query.pairs(), listing };
        pages(self.clone(), list, |_: &Run| true)
    }

    /// One page, and what leads to the next.
    async fn page<T: DeserializeOwned>(
        &self,
        list: &List,
        next: &Next,
    ) -> Result<(Vec<T>, Option<String>), ClientError> {
        let mut query = list.paged.clone();
        query.push(("limit", next.left.min(PAGE).to_string()));
        query.extend(next.after.clone().map(|after| ("after", after)));
        if list.listing.reverse {
            query.push(("reverse", String::new()));
        }
        let request = self.request(Method::GET, self.url(list.route, &query));
        let answer = self.send(request, Some(SILENCE)).await?;
        let after = answer.headers().get(endpoint::NEXT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut items: Vec<T> = self.read_json(answer).await?;
        items.truncate(next.left);
        Ok((items, after))
    }
}

/// Pages until the server says that none follows, or as many as were asked for are there.
fn pages<T: DeserializeOwned>(
    client: Client,
    list: List,
    fits: impl Fn(&T) -> bool,
) -> impl Stream<Item = Result<Vec<T>, ClientError>> {
    let begin = Next { after: None, left: list.listing.limit.unwrap_or(usize::MAX) };
    let state = (begin.left > 0).then_some((client, list, fits, begin));
    stream::try_unfold(state, async |state| {
        let Some((client, list, fits, next)) = state else { return Ok(None) };
        if !client.can(capability::PAGES).await? {
            let mut all: Vec<T> = client.json(Method::GET, list.route, &list.whole).await?;
            all.retain(&fits);
            return Ok(Some((cut(all, list.listing), None)));
        }
        let (items, after) = client.page(&list, &next).await?;
        let left = next.left.saturating_sub(items.len());
        // A page behind which another one lies is never empty.
        let more = after.filter(|_| left > 0 && !items.is_empty());
        let rest = more.map(|after| (client, list, fits, Next { after: Some(after), left }));
        Ok(Some((items, rest)))
    })
}

/// What to ask for.
struct List {
    route: &'static str,
    /// The filters for a server that knows pages.
    paged: Vec<(&'static str, String)>,
    /// The filters for one that does not.
    whole: Vec<(&'static str, String)>,
    listing: Listing,
}

/// Where a list goes on.
struct Next {
    after: Option<String>,
    left: usize,
}

/// What a server that knows no pages has answered, ordered and cut here.
fn cut<T>(mut all: Vec<T>, listing: Listing) -> Vec<T> {
    if listing.reverse {
        all.reverse();
    }
    all.truncate(listing.limit.unwrap_or(usize::MAX));
    all
}

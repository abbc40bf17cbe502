//! Long lists, part by part: what keeps the memory of a search constant however much it finds.
//!
//! A whole list is what the server found at one moment, read element by element while it arrives: no page that is
//! asked for later can miss what has moved meanwhile. A few are asked for in pages. A server that knows none answers
//! with the whole list, which is then ordered, filtered and cut here.

use super::elements::Elements;
use super::{Client, ClientError, DataQuery, PlanQuery, RunQuery, SILENCE, answer_body, next_part};
use crate::data::Data;
use crate::endpoint;
use crate::plan::Plan;
use crate::run::Run;
use crate::server::capability;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde::de::DeserializeOwned;

/// How many things a page has when there are that many.
const PAGE: usize = 500;
/// Of how many at most pages are asked for; more than that is the beginning of the whole list.
const IN_PAGES: usize = 5000;

/// The order of a list, and where it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The last one first.
    pub reverse: bool,
    /// No more than this many.
    pub limit: Option<usize>,
}

impl Client {
    /// The Data that fit, by time, part by part.
    pub fn list_data(
        &self,
        query: DataQuery,
        listing: Listing,
    ) -> impl Stream<Item = Result<Vec<Data>, ClientError>> + use<> {
        let mut paged = query.pairs();
        paged.extend(query.transient.map(|transient| ("transient", transient.to_string())));
        let list = List { route: endpoint::DATA, paged, whole: query.pairs(), listing };
        parts(self.clone(), list, move |data: &Data| query.fits(data))
    }

    /// The Plans that fit, by id, part by part.
    pub fn list_plans(
        &self,
        query: PlanQuery,
        listing: Listing,
    ) -> impl Stream<Item = Result<Vec<Plan>, ClientError>> + use<> {
        let list = List { route: endpoint::PLANS, paged: query.pairs(), whole: query.pairs(), listing };
        parts(self.clone(), list, |_: &Plan| true)
    }

    /// The Runs that fit, by their last change, part by part. With a limit, one that changes meanwhile may be missing.
    pub fn list_runs(
        &self,
        query: RunQuery,
        listing: Listing,
    ) -> impl Stream<Item = Result<Vec<Run>, ClientError>> + use<> {
        let list = List { route: endpoint::RUNS, paged: query.pairs(), whole: query.pairs(), listing };
        parts(self.clone(), list, |_: &Run| true)
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

/// What a list brings, part by part.
type Parts<T> = BoxStream<'static, Result<Vec<T>, ClientError>>;

/// Pages where not much is wanted and the server knows them, else the whole list as it arrives.
fn parts<T: DeserializeOwned + Send + 'static>(
    client: Client,
    list: List,
    fits: impl Fn(&T) -> bool + Send + Sync + 'static,
) -> impl Stream<Item = Result<Vec<T>, ClientError>> {
    let begin = async move {
        let limit = list.listing.limit;
        if limit == Some(0) {
            return Ok(stream::empty().boxed());
        }
        let paged = client.can(capability::PAGES).await?;
        Ok::<Parts<T>, ClientError>(match limit {
            Some(left) if paged && left <= IN_PAGES => pages(client, list, left),
            _ => whole(client, list, paged, fits).await?,
        })
    };
    // Boxed, so that whoever reads it need not pin it.
    Box::pin(stream::once(begin).try_flatten())
}

/// Pages until the server says that none follows, or as many as were asked for are there.
fn pages<T: DeserializeOwned + Send + 'static>(client: Client, list: List, left: usize) -> Parts<T> {
    let state = Some((client, list, Next { after: None, left }));
    let pages = stream::try_unfold(state, async |state| {
        let Some((client, list, next)) = state else { return Ok(None) };
        let (items, after) = client.page(&list, &next).await?;
        let left = next.left.saturating_sub(items.len());
        // A page behind which another one lies is never empty.
        let more = after.filter(|_| left > 0 && !items.is_empty());
        let rest = more.map(|after| (client, list, Next { after: Some(after), left }));
        Ok(Some((items, rest)))
    });
    pages.boxed()
}

/// The whole list, as of one moment, while it arrives; `ours` is a server that orders and filters it.
async fn whole<T: DeserializeOwned + Send + 'static>(
    client: Client,
    list: List,
    ours: bool,
    fits: impl Fn(&T) -> bool + Send + Sync + 'static,
) -> Result<Parts<T>, ClientError> {
    let mut query = if ours { list.paged.clone() } else { list.whole.clone() };
    if ours && list.listing.reverse {
        query.push(("reverse", String::new()));
    }
    let answer = client.send(client.request(Method::GET, client.url(list.route, &query)), Some(SILENCE)).await?;
    let url = answer.url().to_string();
    let left = list.listing.limit.unwrap_or(usize::MAX);
    let arriving = Arriving { client, url, body: answer_body(answer), elements: Elements::default(), left };
    if ours || !list.listing.reverse {
        let parts = stream::try_unfold((arriving, fits), async |(mut arriving, fits)| {
            let items = arriving.next(&fits, true).await?;
            Ok(items.map(|items| (items, (arriving, fits))))
        });
        return Ok(parts.boxed());
    }
    // Its end is wanted first, so all of it is.
    let all = async move {
        let (mut arriving, mut all) = (arriving, Vec::new());
        while let Some(mut items) = arriving.next(&fits, false).await? {
            all.append(&mut items);
        }
        all.reverse();
        all.truncate(left);
        Ok(all)
    };
    Ok(stream::once(all).boxed())
}

/// A whole list on its way.
struct Arriving {
    client: Client,
    url: String,
    body: reqwest::Body,
    elements: Elements,
    left: usize,
}

impl Arriving {
    /// Some of what comes next; none at the end, or once as many were given out as are wanted, should they be
    /// `counted`.
    async fn next<T: DeserializeOwned>(
        &mut self,
        fits: &impl Fn(&T) -> bool,
        counted: bool,
    ) -> Result<Option<Vec<T>>, ClientError> {
        let mut items = Vec::new();
        while items.is_empty() && self.left > 0 {
            let part = tokio::time::timeout(SILENCE, next_part(&mut self.body)).await;
            let part = part
                .map_err(|_| ClientError::Silent { url: self.client.root.to_string(), seconds: SILENCE.as_secs() })?
                .map_err(|error| ClientError::from_network(&self.client.root, &error))?;
            let url = &self.url;
            let unlike = |cause: String| ClientError::NotUnderstood { url: url.clone(), cause };
            let Some(part) = part else {
                if self.elements.is_complete() {
                    return Ok(None);
                }
                return Err(unlike("the list ends in the middle".to_owned()));
            };
            let read = self.elements.feed(&part, |element| {
                let item: T = crate::json::from_slice(element).map_err(|error| error.to_string())?;
                if fits(&item) {
                    items.push(item);
                }
                Ok::<_, String>(())
            });
            read.map_err(unlike)?;
        }
        if counted {
            items.truncate(self.left);
            self.left -= items.len();
        }
        Ok((!items.is_empty()).then_some(items))
    }
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

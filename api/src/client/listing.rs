//! Long lists, page by page: what keeps the memory of a search constant however much it finds.

use super::{Client, ClientError, DataQuery, PlanQuery, RunQuery};
use crate::data::Data;
use crate::plan::Plan;
use crate::run::Run;
use futures_util::{Stream, stream};

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
        let client = self.clone();
        stream::once(async move { client.find_data(&query).await.map(|all| cut(all, listing)) })
    }

    /// The Plans that fit, by id, in pages.
    pub fn list_plans(
        &self,
        query: PlanQuery,
        listing: Listing,
    ) -> impl Stream<Item = Result<Vec<Plan>, ClientError>> + use<> {
        let client = self.clone();
        stream::once(async move { client.find_plans(&query).await.map(|all| cut(all, listing)) })
    }

    /// The Runs that fit, by their last change, in pages.
    pub fn list_runs(
        &self,
        query: RunQuery,
        listing: Listing,
    ) -> impl Stream<Item = Result<Vec<Run>, ClientError>> + use<> {
        let client = self.clone();
        stream::once(async move { client.find_runs(&query).await.map(|all| cut(all, listing)) })
    }
}

/// What a server that knows no pages has answered, ordered and cut here.
fn cut<T>(mut all: Vec<T>, listing: Listing) -> Vec<T> {
    if listing.reverse {
        all.reverse();
    }
    all.truncate(listing.limit.unwrap_or(usize::MAX));
    all
}

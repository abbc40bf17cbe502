//! Requests about Data: searching and tagging. Bytes travel in [`super::upload`] and [`super::download`].

use super::{Client, ClientError};
use crate::data::Data;
use crate::endpoint;
use crate::id::DataId;
use crate::tag::{self, Tag, TagChange};
use crate::time::{Duration, Timestamp};
use reqwest::Method;

/// Which Data to find; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct DataQuery {
    /// Tags that it carries.
    pub tags: Vec<Tag>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// And younger than `since` plus this.
    pub duration: Option<Duration>,
    /// Only what is in the making or has failed, or only what can be used.
    pub transient: Option<bool>,
}

impl DataQuery {
    /// The condition that an original server is not asked.
    pub(super) fn fits(&self, data: &Data) -> bool {
        self.transient.is_none_or(|transient| data.transient().is_some() == transient)
    }

    /// The conditions that any server is asked.
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        pairs.extend(self.duration.map(|duration| ("duration", duration.to_string())));
        pairs.extend(self.since.map(|since| ("since", since.to_string())));
        pairs.extend(self.tags.iter().map(|tag| ("tag", tag.to_string())));
        pairs
    }
}

impl Client {
    /// All Data that fit, oldest first.
    pub async fn find_data(&self, query: &DataQuery) -> Result<Vec<Data>, ClientError> {
        let mut found: Vec<Data> = self.json(Method::GET, endpoint::DATA, &query.pairs()).await?;
        found.retain(|data| query.fits(data));
        Ok(found)
    }

    /// The Data of that id, or `None`.
    pub async fn data(&self, id: &DataId) -> Result<Option<Data>, ClientError> {
        let query = DataQuery { tags: vec![Tag::new(tag::ID, id.as_str())], ..DataQuery::default() };
        let found = self.find_data(&query).await?;
        Ok(found.into_iter().find(|data| data.id == *id))
    }

    /// Changes tags; the answer is the Data after the change.
    pub async fn change_tags(&self, id: &DataId, change: &TagChange) -> Result<Data, ClientError> {
        self.json_with(Method::PUT, &endpoint::data(id), change).await
    }
}

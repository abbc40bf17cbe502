//! Looking things up by how they begin.

use super::{Client, ClientError};
use crate::candidate::{Candidate, Kind};
use crate::endpoint;
use reqwest::Method;

impl Client {
    /// Things of a kind that begin with `prefix`, at most `limit`. Only for a server that announces
    /// [`crate::server::capability::CANDIDATES`].
    pub async fn candidates(&self, kind: Kind, prefix: &str, limit: usize) -> Result<Vec<Candidate>, ClientError> {
        let query = [("prefix", prefix.to_owned()), ("limit", limit.to_string())];
        self.json(Method::GET, &endpoint::candidates(kind), &query).await
    }

    /// The Plans that have exactly the annotation `name=NAME`, as candidates whose value is the Plan's id.
    pub async fn plans_named(&self, name: &str) -> Result<Vec<Candidate>, ClientError> {
        self.json(Method::GET, &endpoint::candidates(Kind::Plans), &[("name", name.to_owned())]).await
    }
}

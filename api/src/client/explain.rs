//! Questions about what is so and why, and about what would be. Each is only for a server that announces it.

use super::{Client, ClientError};
use crate::endpoint;
use crate::explain::{DataExplained, PlanExplained, PlanForeseen};
use crate::id::{DataId, PlanId, RunId};
use crate::impact::{Deed, RunImpact, TagImpact};
use crate::plan::PlanSpec;
use crate::tag::TagChange;
use crate::why::Why;
use reqwest::Method;

impl Client {
    /// What registering this Plan would come to ([`crate::server::capability::EXPLAIN`]).
    pub async fn foresee_plan(&self, spec: &PlanSpec) -> Result<PlanForeseen, ClientError> {
        self.json_with(Method::POST, endpoint::PLANS_DRY_RUN, spec).await
    }

    /// What fits the inputs of a Plan, and what nearly does ([`crate::server::capability::EXPLAIN`]).
    pub async fn explain_plan(&self, id: &PlanId) -> Result<PlanExplained, ClientError> {
        self.json(Method::GET, &endpoint::plan_explain(id), &[]).await
    }

    /// Which inputs a Data fits, and which it nearly does ([`crate::server::capability::EXPLAIN`]).
    pub async fn explain_data(&self, id: &DataId) -> Result<DataExplained, ClientError> {
        self.json(Method::GET, &endpoint::data_explain(id), &[]).await
    }

    /// Why a Run stands where it stands ([`crate::server::capability::EXPLAIN`]).
    pub async fn why_run(&self, id: &RunId) -> Result<Why, ClientError> {
        self.json(Method::GET, &endpoint::run_why(id), &[]).await
    }

    /// What a deed on a Run would come to ([`crate::server::capability::IMPACT`]).
    pub async fn run_impact(&self, id: &RunId, of: Deed) -> Result<RunImpact, ClientError> {
        self.json(Method::GET, &endpoint::run_impact(id), &[("of", of.to_string())]).await
    }

    /// What removing a Data would come to ([`crate::server::capability::IMPACT`]).
    pub async fn removal_impact(&self, id: &DataId) -> Result<RunImpact, ClientError> {
        self.json(Method::GET, &endpoint::data_impact(id), &[("of", Deed::Rm.to_string())]).await
    }

    /// What a change of tags would come to ([`crate::server::capability::IMPACT`]).
    pub async fn tag_impact(&self, id: &DataId, change: &TagChange) -> Result<TagImpact, ClientError> {
        self.json_with(Method::POST, &endpoint::data_impact(id), change).await
    }

    /// Removes a Data, with the Run that made it and everything else that it made
    /// ([`crate::server::capability::REMOVE_DATA`]).
    pub async fn remove_data(&self, id: &DataId) -> Result<(), ClientError> {
        self.order(Method::DELETE, &endpoint::data(id)).await
    }
}

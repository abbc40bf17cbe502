//! Requests about Plans.

use super::{Client, ClientError, runs::RunQuery};
use crate::endpoint;
use crate::id::PlanId;
use crate::image::ImageQuery;
use crate::plan::{AnnotationChange, Plan, PlanSpec, Quiet, ResourceChange, ServiceAccountChange};
use crate::run::{Run, RunStatus};
use crate::server::capability;
use crate::tag::Tag;
use reqwest::Method;
use std::time::Duration;

/// Which Plans to find; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct PlanQuery {
    /// Active ones or inactive ones alone.
    pub active: Option<bool>,
    /// With this image.
    pub image: Option<ImageQuery>,
    /// With one input that has all these tags.
    pub in_tags: Vec<Tag>,
    /// With one output or log that has all these tags.
    pub out_tags: Vec<Tag>,
}

impl PlanQuery {
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        pairs.extend(self.active.map(|active| ("active", active.to_string())));
        pairs.extend(self.image.as_ref().map(|image| ("image", image.to_string())));
        pairs.extend(self.in_tags.iter().map(|tag| ("in_tag", tag.to_string())));
        pairs.extend(self.out_tags.iter().map(|tag| ("out_tag", tag.to_string())));
        pairs
    }
}

impl Client {
    /// All Plans that fit, by id.
    pub async fn find_plans(&self, query: &PlanQuery) -> Result<Vec<Plan>, ClientError> {
        self.json(Method::GET, endpoint::PLANS, &query.pairs()).await
    }

    /// The Plan of that id.
    pub async fn plan(&self, id: &PlanId) -> Result<Plan, ClientError> {
        self.json(Method::GET, &endpoint::plan(id), &[]).await
    }

    /// Registers a Plan. An equal one that is there already is a conflict that names it
    /// ([`ClientError::equal_plan`]), as far as the server says.
    pub async fn register_plan(&self, spec: &PlanSpec) -> Result<Plan, ClientError> {
        self.json_with(Method::POST, endpoint::PLANS, spec).await
    }

    /// Activates or deactivates a Plan; the answer is the Plan after the change.
    pub async fn set_plan_active(&self, id: &PlanId, active: bool) -> Result<Plan, ClientError> {
        let method = if active { Method::PUT } else { Method::DELETE };
        self.json(method, &endpoint::plan_active(id), &[]).await
    }

    /// Sets and unsets resources of a Plan; the answer is the Plan after the change.
    pub async fn change_plan_resources(&self, id: &PlanId, change: &ResourceChange) -> Result<Plan, ClientError> {
        self.json_with(Method::PUT, &endpoint::plan_resources(id), change).await
    }

    /// Removes and adds annotations of a Plan; the answer is the Plan after the change.
    pub async fn annotate_plan(&self, id: &PlanId, change: &AnnotationChange) -> Result<Plan, ClientError> {
        self.json_with(Method::PUT, &endpoint::plan_annotations(id), change).await
    }

    /// Sets the service account of a Plan, or takes it away; the answer is the Plan after the change.
    pub async fn set_plan_service_account(&self, id: &PlanId, name: Option<&str>) -> Result<Plan, ClientError> {
        let route = endpoint::plan_service_account(id);
        match name {
            Some(name) => {
                let change = ServiceAccountChange { service_account: name.to_owned() };
                self.json_with(Method::PUT, &route, &change).await
            }
            None => self.json(Method::DELETE, &route, &[]).await,
        }
    }

    /// Completes when no Run of the Plan is under way and none is about to be made; until then `look` is
    /// shown, now and then, the Runs whose work has not begun or does not end. Outages shorter than a minute
    /// are waited out.
    pub async fn wait_for_plan(&self, id: &PlanId, mut look: impl FnMut(&[Run])) -> Result<(), ClientError> {
        // An unknown Plan, or a server that is not there, is told at once.
        self.plan(id).await?;
        if self.can(capability::EVENTS).await? {
            match self.follow_plan(id, &mut look).await {
                // Too many follow already; the server still answers once it is quiet.
                Err(error) if error.class() == super::Class::NotNow => {}
                followed => return followed,
            }
        }
        if !self.can(capability::WAIT).await? {
            return self.watch_plan(id, look).await;
        }
        let statuses = vec![RunStatus::Waiting, RunStatus::Ready, RunStatus::Completing, RunStatus::Aborting];
        let idle = RunQuery { plans: vec![id.clone()], statuses, ..RunQuery::default() };
        let mut outage = super::runs::Outage::default();
        // What keeps Runs from starting shows in the beginning.
        let mut seconds: u64 = 1;
        loop {
            let query = [("timeout", seconds.to_string())];
            let request = self.request(Method::GET, self.url(&endpoint::plan_wait(id), &query));
            let answer = async { self.read_json::<Quiet>(self.send(request, None).await?).await };
            match answer.await {
                Ok(Quiet { quiet: true }) => return Ok(()),
                Ok(Quiet { quiet: false }) => {
                    outage.over();
                    if let Ok(runs) = self.find_runs(&idle).await {
                        look(&runs);
                    }
                    seconds = (seconds * 2).min(30);
                    // A server may end a wait early; one that does so at once must not be pressed.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => outage.bear(error).await?,
            }
        }
    }

    /// An original server gives no signal: its Runs are looked at until twice in a row all are over.
    async fn watch_plan(&self, id: &PlanId, mut look: impl FnMut(&[Run])) -> Result<(), ClientError> {
        let query = RunQuery { plans: vec![id.clone()], ..RunQuery::default() };
        let mut quiet_before = false;
        loop {
            let runs = self.find_runs(&query).await?;
            let parked = |status| status == RunStatus::Deactivated;
            let quiet = runs.iter().all(|run| run.summary.status.is_over() || parked(run.summary.status));
            if quiet && quiet_before {
                return Ok(());
            }
            look(&runs);
            quiet_before = quiet;
            // Its loops look around every five seconds.
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
    }
}

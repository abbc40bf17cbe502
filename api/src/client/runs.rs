//! Requests about Runs, their logs, and waiting for their end.

use super::{Class, Client, ClientError, answer_body, next_part};
use crate::endpoint;
use crate::id::{DataId, PlanId, RunId};
use crate::run::{Run, RunStatus};
use crate::server::capability;
use crate::time::{Duration as Span, Timestamp};
use bytes::Bytes;
use reqwest::Method;
use std::time::{Duration, Instant};

/// Which Runs to find: within one list any may fit, all lists must.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// Of these Plans.
    pub plans: Vec<PlanId>,
    /// With one of these as an input.
    pub inputs: Vec<DataId>,
    /// With one of these as an output or log.
    pub outputs: Vec<DataId>,
    /// In one of these statuses.
    pub statuses: Vec<RunStatus>,
    /// Changed not before this.
    pub since: Option<Timestamp>,
    /// And before `since` plus this.
    pub duration: Option<Span>,
}

impl RunQuery {
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        fn joined<T: ToString>(items: &[T]) -> Option<String> {
            (!items.is_empty()).then(|| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        }
        let mut pairs = Vec::new();
        pairs.extend(self.duration.map(|duration| ("duration", duration.to_string())));
        pairs.extend(joined(&self.inputs).map(|ids| ("knitIdInput", ids)));
        pairs.extend(joined(&self.outputs).map(|ids| ("knitIdOutput", ids)));
        pairs.extend(joined(&self.plans).map(|ids| ("plan", ids)));
        pairs.extend(self.since.map(|since| ("since", since.to_string())));
        pairs.extend(joined(&self.statuses).map(|statuses| ("status", statuses)));
        pairs
    }
}

/// The bytes of a log as they come.
#[derive(Debug)]
pub struct RunLog {
    body: reqwest::Body,
    client: Client,
}

impl RunLog {
    /// The next bytes; `None` at the end of the log.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        next_part(&mut self.body).await.map_err(|e| ClientError::from_network(self.client.root(), &e))
    }
}

impl Client {
    /// All Runs that fit, in the order of their last change.
    pub async fn find_runs(&self, query: &RunQuery) -> Result<Vec<Run>, ClientError> {
        self.json(Method::GET, endpoint::RUNS, &query.pairs()).await
    }

    /// The Run of that id.
    pub async fn run(&self, id: &RunId) -> Result<Run, ClientError> {
        self.json(Method::GET, &endpoint::run(id), &[]).await
    }

    /// The log of a Run as it stands, or with `follow` until its end. Before the Run has started
    /// the server answers 503 ([`super::Class::NotNow`]).
    pub async fn run_log(&self, id: &RunId, follow: bool) -> Result<RunLog, ClientError> {
        let mut url = self.url(&endpoint::run_log(id), &[]);
        if follow {
            url.set_query(Some("follow"));
        }
        let answer = self.send(self.request(Method::GET, url), None).await?;
        Ok(RunLog { body: answer_body(answer), client: self.clone() })
    }

    /// Stops a Run and keeps what it has made, or with `fail` lets it fail.
    pub async fn stop_run(&self, id: &RunId, fail: bool) -> Result<Run, ClientError> {
        let route = if fail { endpoint::run_abort(id) } else { endpoint::run_tearoff(id) };
        self.json(Method::PUT, &route, &[]).await
    }

    /// Executes a Run again that is over.
    pub async fn retry_run(&self, id: &RunId) -> Result<(), ClientError> {
        self.order(Method::PUT, &endpoint::run_retry(id)).await
    }

    /// Deletes a Run and what it made.
    pub async fn remove_run(&self, id: &RunId) -> Result<(), ClientError> {
        self.order(Method::DELETE, &endpoint::run(id)).await
    }

    /// A request whose answer says nothing.
    pub(super) async fn order(&self, method: Method, route: &str) -> Result<(), ClientError> {
        let answer = self.send(self.request(method, self.url(route, &[])), Some(super::SILENCE)).await?;
        self.collect(answer).await.map(drop)
    }

    /// Completes when the Run is over, with the Run; until then `look` is shown how it stands, as far as
    /// the server tells when that has changed. Once the Run was found, outages shorter than a minute are
    /// waited out. Where too many follow events already, the server is asked to answer once it is over.
    pub async fn wait_for_run(&self, id: &RunId, mut look: impl FnMut(&Run)) -> Result<Run, ClientError> {
        let mut run = self.run(id).await?;
        if run.summary.status.is_over() {
            return Ok(run);
        }
        if self.can(capability::EVENTS).await? {
            match self.follow_run(id, RunStatus::is_over, &mut look).await {
                Err(error) if error.class() == Class::NotNow => {}
                followed => return followed,
            }
        }
        let signalled = self.can(capability::WAIT).await?;
        let with_reason = self.can(capability::WAIT_UNTIL).await?;
        let mut outage = Outage::default();
        let mut pause = Duration::from_millis(250);
        while !run.summary.status.is_over() {
            look(&run);
            let pace = Pace::start();
            let now = if signalled {
                let reason = with_reason.then(|| ("reason", run.reason.clone().unwrap_or_default()));
                self.wait_once(id, reason.as_slice()).await
            } else {
                // An original server gives no signal: it is asked again, less and less often.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
                self.run(id).await
            };
            match now {
                Ok(now) => {
                    outage.over();
                    run = now;
                    pace.keep().await;
                }
                Err(error) => outage.bear(error).await?,
            }
        }
        Ok(run)
    }

    /// Completes with true when the work of the Run has begun, or will never begin; outages shorter than
    /// a minute are waited out. Completes with false at once when the server gives no such signal.
    pub async fn wait_for_start(&self, id: &RunId) -> Result<bool, ClientError> {
        if self.can(capability::EVENTS).await? {
            match self.follow_run(id, RunStatus::has_started, |_| {}).await {
                Err(error) if error.class() == Class::NotNow => {}
                followed => return followed.map(|_| true),
            }
        }
        if !self.can(capability::WAIT_UNTIL).await? {
            return Ok(false);
        }
        let mut outage = Outage::default();
        loop {
            let pace = Pace::start();
            match self.wait_once(id, &[("until", "started".to_owned())]).await {
                Ok(run) if run.summary.status.has_started() => return Ok(true),
                Ok(_) => {
                    outage.over();
                    pace.keep().await;
                }
                Err(error) => outage.bear(error).await?,
            }
        }
    }

    /// Completes with the Run once it is not at work any more: it is ending, or was put back to start anew. None
    /// at once when the server gives no such signal, or to too many already.
    pub async fn wait_while_at_work(&self, id: &RunId) -> Result<Option<Run>, ClientError> {
        if !self.can(capability::EVENTS).await? {
            return Ok(None);
        }
        let rests = |status| !matches!(status, RunStatus::Starting | RunStatus::Running);
        match self.follow_run(id, rests, |_| {}).await {
            Err(error) if error.class() == Class::NotNow => Ok(None),
            followed => followed.map(Some),
        }
    }

    /// One wait, which the server may end before what was waited for.
    async fn wait_once(&self, id: &RunId, query: &[(&str, String)]) -> Result<Run, ClientError> {
        let request = self.request(Method::GET, self.url(&endpoint::run_wait(id), query));
        self.read_json(self.send(request, None).await?).await
    }
}

/// A server may end a wait early; one that does so at once must not be pressed.
struct Pace(Instant);

impl Pace {
    const SHORTEST: Duration = Duration::from_millis(200);

    fn start() -> Self {
        Self(Instant::now())
    }

    async fn keep(self) {
        tokio::time::sleep(Self::SHORTEST.saturating_sub(self.0.elapsed())).await;
    }
}

/// A time in which the server cannot be reached, while something is waited for.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    pauses: u32,
}

impl Outage {
    /// The longest that is borne: a server that restarts is back much sooner.
    const LONGEST: Duration = Duration::from_mins(1);

    /// The first pause; each further one is twice as long.
    const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
    /// The longest pause.
    const LONGEST_PAUSE: Duration = Duration::from_secs(4);

    /// The server has answered.
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }

    /// Waits a little, longer each time, after an error that may pass: of the network, or for want of room at the
    /// server. Any other error, or too many of these, is passed on.
    pub(super) async fn bear(&mut self, error: ClientError) -> Result<(), ClientError> {
        let passing =
            matches!(error, ClientError::Lost { .. } | ClientError::Unreachable { .. } | ClientError::Silent { .. })
                || error.class() == super::Class::NotNow;
        if !passing || self.since.is_some_and(|since| since.elapsed() > Self::LONGEST) {
            return Err(error);
        }
        self.since.get_or_insert_with(Instant::now);
        let pause = Self::SHORTEST_PAUSE.saturating_mul(1 << self.pauses.min(8));
        self.pauses += 1;
        tokio::time::sleep(pause.min(Self::LONGEST_PAUSE)).await;
        Ok(())
    }
}

//! Following Runs: the events of `GET /runs/events` as one stream that outlives connections.

use super::events_text::{Message, Parser};
use super::runs::Outage;
use super::{Client, ClientError, RunQuery, answer_body, next_part};
use crate::endpoint;
use crate::event::{Cause, EVENT_STREAM, Gone, name};
use crate::id::{PlanId, RunId};
use crate::run::{Run, RunStatus};
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

/// A server of ours gives a sign of life every quarter of a minute.
const SILENCE: Duration = Duration::from_mins(1);

/// Which Runs to follow; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct RunWatch {
    /// As in a search; its times do not count.
    pub query: RunQuery,
    /// These Runs alone.
    pub runs: Vec<RunId>,
    /// What has come of this; not together with `runs`.
    pub cause: Option<Cause>,
    /// With how many Runs to begin that have ended, the last ones; none for the server's usual number.
    pub ended: Option<usize>,
}

impl RunWatch {
    /// One Run.
    pub fn run(id: &RunId) -> Self {
        Self { runs: vec![id.clone()], ..Self::default() }
    }

    /// What has come of this.
    pub fn cause(cause: Cause) -> Self {
        Self { cause: Some(cause), ..Self::default() }
    }

    fn pairs(&self) -> Vec<(&'static str, String)> {
        let query = RunQuery { since: None, duration: None, ..self.query.clone() };
        let mut pairs = query.pairs();
        let runs: Vec<&str> = self.runs.iter().map(RunId::as_str).collect();
        pairs.extend((!runs.is_empty()).then(|| ("run", runs.join(","))));
        pairs.extend(self.cause.as_ref().map(|cause| ("cause", cause.to_string())));
        pairs.extend(self.ended.map(|ended| ("ended", ended.to_string())));
        pairs
    }
}

/// What is told of Runs; see [`crate::event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// A Run as it stands.
    Run(Box<Run>),
    /// A Run is no more.
    Gone(RunId),
    /// All that is there has been told.
    Synced,
    /// Nothing is under way, and nothing is left to project.
    Quiet,
    /// That is over.
    Busy,
    /// The connection had broken, and everything is told again: what is not by the next `Synced` is no more.
    Again,
}

impl Client {
    /// The events of these Runs, without end. Where the connection breaks it is made anew; outages shorter than
    /// a minute are waited out. After an error the stream ends. Only for servers with
    /// [`crate::server::capability::EVENTS`].
    pub fn run_events(&self, watch: &RunWatch) -> impl Stream<Item = Result<RunEvent, ClientError>> + Send + use<> {
        let following = Following {
            client: self.clone(),
            query: watch.pairs(),
            connection: None,
            was_connected: false,
            outage: Outage::default(),
        };
        stream::unfold(Some(following), |following| async {
            let mut following = following?;
            match following.next().await {
                Ok(event) => Some((Ok(event), Some(following))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Completes with the Run as soon as its status is one of these; until then `look` is shown every change.
    pub(super) async fn follow_run(
        &self,
        id: &RunId,
        is_reached: impl Fn(RunStatus) -> bool,
        mut look: impl FnMut(&Run),
    ) -> Result<Run, ClientError> {
        let mut events = pin!(self.run_events(&RunWatch::run(id)));
        while let Some(event) = events.next().await {
            match event? {
                RunEvent::Run(run) if is_reached(run.summary.status) => return Ok(*run),
                RunEvent::Run(run) => look(&run),
                // The server says it best.
                RunEvent::Gone(_) => return self.run(id).await,
                _ => {}
            }
        }
        Err(self.ended())
    }

    /// Completes when the Plan is quiet; until then `look` is shown every change of its Runs.
    pub(super) async fn follow_plan(&self, id: &PlanId, mut look: impl FnMut(&[Run])) -> Result<(), ClientError> {
        let query = RunQuery { plans: vec![id.clone()], ..RunQuery::default() };
        let watch = RunWatch { query, ended: Some(0), ..RunWatch::default() };
        let mut events = pin!(self.run_events(&watch));
        while let Some(event) = events.next().await {
            match event? {
                RunEvent::Quiet => return Ok(()),
                RunEvent::Run(run) => look(std::slice::from_ref(&*run)),
                _ => {}
            }
        }
        Err(self.ended())
    }

    fn ended(&self) -> ClientError {
        ClientError::Lost { url: self.root.to_string(), cause: "the server ended it".to_owned() }
    }
}

/// A stream of events across connections.
struct Following {
    client: Client,
    query: Vec<(&'static str, String)>,
    connection: Option<Connection>,
    was_connected: bool,
    outage: Outage,
}

/// One connection.
struct Connection {
    url: String,
    body: reqwest::Body,
    parser: Parser,
    messages: VecDeque<Message>,
}

impl Following {
    async fn next(&mut self) -> Result<RunEvent, ClientError> {
        loop {
            let Some(connection) = &mut self.connection else {
                match self.connect().await {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        if std::mem::replace(&mut self.was_connected, true) {
                            return Ok(RunEvent::Again);
                        }
                    }
                    // What does not work from the beginning is told at once.
                    Err(error) if !self.was_connected => return Err(error),
                    Err(error) => self.outage.bear(error).await?,
                }
                continue;
            };
            if let Some(message) = connection.messages.pop_front() {
                self.outage.over();
                match read(&connection.url, &message)? {
                    Some(event) => return Ok(event),
                    None => continue,
                }
            }
            if let Err(error) = connection.receive(&self.client).await {
                self.connection = None;
                self.outage.bear(error).await?;
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let client = &self.client;
        let url = client.url(endpoint::RUN_EVENTS, &self.query);
        let request = client.request(Method::GET, url).header(ACCEPT, EVENT_STREAM);
        let answer = client.send(request, Some(SILENCE)).await?;
        let url = answer.url().to_string();
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM)) {
            let cause = format!("events were asked for, the answer is \"{kind}\"");
            return Err(ClientError::NotUnderstood { url, cause });
        }
        Ok(Connection { url, body: answer_body(answer), parser: Parser::default(), messages: VecDeque::new() })
    }
}

impl Connection {
    /// Takes what comes next. Silence means that the connection is dead.
    async fn receive(&mut self, client: &Client) -> Result<(), ClientError> {
        let part = tokio::time::timeout(SILENCE, next_part(&mut self.body))
            .await
            .map_err(|_| ClientError::Silent { url: client.root.to_string(), seconds: SILENCE.as_secs() })?
            .map_err(|e| ClientError::from_network(&client.root, &e))?
            .ok_or_else(|| client.ended())?;
        self.parser.feed(&part, &mut self.messages).map_err(|_| ClientError::NotUnderstood {
            url: self.url.clone(),
            cause: "an event is longer than any of ours".to_owned(),
        })
    }
}

/// The event that a message is; none for one of a newer server.
fn read(url: &str, message: &Message) -> Result<Option<RunEvent>, ClientError> {
    let wrong = |e: serde_json::Error| ClientError::NotUnderstood { url: url.to_owned(), cause: e.to_string() };
    Ok(Some(match message.name.as_str() {
        name::RUN => RunEvent::Run(Box::new(crate::json::from_slice(&message.data).map_err(wrong)?)),
        name::GONE => RunEvent::Gone(crate::json::from_slice::<Gone>(&message.data).map_err(wrong)?.run),
        name::SYNCED => RunEvent::Synced,
        name::QUIET => RunEvent::Quiet,
        name::BUSY => RunEvent::Busy,
        _ => return Ok(None),
    }))
}

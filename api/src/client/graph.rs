//! Requests about graphs: lineage and the neighbourhood of a Plan, line by line as the server finds them.
//! Only for a server that announces [`crate::server::capability::LINEAGE`].

use super::{Client, ClientError, answer_body, next_part};
use crate::endpoint;
use crate::graph::{LineageLine, LineageSize, PlanCount, PlanLine, Reach, View};
use crate::id::{DataId, PlanId};
use crate::plan::Plan;
use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::time::Duration;

/// Longest line that is read, in bytes: a Data names every Run that uses it.
const LONGEST: usize = 1 << 28;
/// How long a server may look for the first line: it walks the whole graph before it says anything.
const PATIENCE: Duration = Duration::from_mins(10);

/// The lines of an answer, as they come.
#[derive(Debug)]
struct Lines<T> {
    body: reqwest::Body,
    client: Client,
    /// What came and was not given yet begins at `given`.
    read: Vec<u8>,
    given: usize,
    /// Up to here there is no line feed.
    looked: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    fn new(answer: Response, client: &Client) -> Self {
        let body = answer_body(answer);
        Self { body, client: client.clone(), read: Vec::new(), given: 0, looked: 0, kind: PhantomData }
    }

    /// The next line; an answer that ends without one is an error, because the last line says that it is the last.
    async fn next(&mut self) -> Result<T, ClientError> {
        loop {
            if let Some(at) = self.read[self.looked..].iter().position(|byte| *byte == b'\n') {
                let end = self.looked + at;
                let line = serde_json::from_slice(&self.read[self.given..end]);
                self.given = end + 1;
                self.looked = self.given;
                return line.map_err(|error| self.wrong(error.to_string()));
            }
            self.read.drain(..self.given);
            self.given = 0;
            self.looked = self.read.len();
            if self.read.len() > LONGEST {
                return Err(self.wrong(format!("a line of the answer has more than {} MiB", LONGEST >> 20)));
            }
            let part = tokio::time::timeout(super::SILENCE, next_part(&mut self.body)).await;
            let part = part
                .map_err(|_| ClientError::Silent {
                    url: self.client.root().to_string(),
                    seconds: super::SILENCE.as_secs(),
                })?
                .map_err(|error| ClientError::from_network(self.client.root(), &error))?;
            match part {
                Some(part) => self.read.extend_from_slice(&part),
                None => return Err(self.wrong("the answer ended before the graph was whole".to_owned())),
            }
        }
    }

    fn wrong(&self, cause: String) -> ClientError {
        ClientError::NotUnderstood { url: self.client.root().to_string(), cause }
    }
}

/// The lineage of a Data as it comes.
#[derive(Debug)]
pub struct Lineage<D, R> {
    lines: Lines<LineageLine<D, R>>,
    seen: LineageSize,
    over: bool,
}

impl<D: DeserializeOwned, R: DeserializeOwned> Lineage<D, R> {
    /// The next line but the last; `None` when all were there.
    pub async fn next(&mut self) -> Result<Option<LineageLine<D, R>>, ClientError> {
        if self.over {
            return Ok(None);
        }
        let line = self.lines.next().await?;
        match &line {
            LineageLine::Data(_) => self.seen.data += 1,
            LineageLine::Run(_) => self.seen.runs += 1,
            LineageLine::Edge(_) => self.seen.edges += 1,
            LineageLine::End(size) if *size == self.seen => {
                self.over = true;
                return Ok(None);
            }
            LineageLine::End(_) => return Err(self.lines.wrong("lines of the graph are missing".to_owned())),
        }
        Ok(Some(line))
    }
}

/// The neighbourhood of a Plan as it comes.
#[derive(Debug)]
pub struct PlanGraph {
    lines: Lines<PlanLine<Plan>>,
    seen: PlanCount,
    over: bool,
}

impl PlanGraph {
    /// The next Plan; `None` when all were there.
    pub async fn next(&mut self) -> Result<Option<Plan>, ClientError> {
        if self.over {
            return Ok(None);
        }
        match self.lines.next().await? {
            PlanLine::Plan(plan) => {
                self.seen.plans += 1;
                Ok(Some(plan))
            }
            PlanLine::End(count) if count == self.seen => {
                self.over = true;
                Ok(None)
            }
            PlanLine::End(_) => Err(self.lines.wrong("lines of the graph are missing".to_owned())),
        }
    }
}

impl Client {
    /// The lineage of a Data. `D` and `R` say how much of a Data and a Run is read: ids for [`View::Ids`], else
    /// any of their members.
    pub async fn lineage<D: DeserializeOwned, R: DeserializeOwned>(
        &self,
        id: &DataId,
        reach: Reach,
        view: View,
    ) -> Result<Lineage<D, R>, ClientError> {
        let mut query = reach.pairs().to_vec();
        query.push(("view", view.as_str().to_owned()));
        let request = self.request(Method::GET, self.url(&endpoint::data_lineage(id), &query));
        let answer = self.send(request, Some(PATIENCE)).await?;
        Ok(Lineage { lines: Lines::new(answer, self), seen: LineageSize::default(), over: false })
    }

    /// The Plans around a Plan.
    pub async fn plan_graph(&self, id: &PlanId, reach: Reach) -> Result<PlanGraph, ClientError> {
        let request = self.request(Method::GET, self.url(&endpoint::plan_graph(id), &reach.pairs()));
        let answer = self.send(request, Some(PATIENCE)).await?;
        Ok(PlanGraph { lines: Lines::new(answer, self), seen: PlanCount::default(), over: false })
    }
}

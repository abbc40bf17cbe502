//! Collecting lineage from a server that does not walk it itself: upstream along the Run that made a Data,
//! downstream along the Runs that use it. A Run is followed once. What a step needs is asked for at once, not one by one.

use super::Graph;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use knit_api::client::{Client, ClientError};
use knit_api::data::Data;
use knit_api::graph::Depth;
use knit_api::id::{DataId, RunId};
use knit_api::run::Run;
use std::collections::{HashMap, HashSet};

/// Questions that are under way at once.
const AT_ONCE: usize = 16;

/// Walks through lineage on a server.
#[derive(Debug)]
pub struct Walk<'a> {
    client: &'a Client,
    graph: Graph,
    known_data: HashMap<DataId, Data>,
    known_runs: HashMap<RunId, Run>,
    /// Data and Runs that are named but not there any more.
    missing: Vec<String>,
}

impl<'a> Walk<'a> {
    /// Begins at one Data.
    pub fn new(client: &'a Client, start: Data) -> Self {
        Self {
            client,
            known_data: HashMap::from([(start.id.clone(), start.clone())]),
            known_runs: HashMap::new(),
            graph: Graph::new(start),
            missing: Vec::new(),
        }
    }

    /// The graph, and the ids of what was named but is not there any more.
    pub fn finish(self) -> (Graph, Vec<String>) {
        (self.graph, self.missing)
    }

    /// Adds what the start was made from: the Runs, all they made, and what they used.
    pub async fn upstream(&mut self, depth: Depth) -> Result<(), ClientError> {
        let mut frontier = vec![self.graph.start().clone()];
        let mut steps = 0;
        while !frontier.is_empty() && depth.reaches_beyond(steps) {
            let makers: Vec<RunId> = self.data_of(&frontier).map(|data| data.upstream.run.id.clone()).collect();
            let runs = self.new_runs(makers).await?;
            let ends = |run: &Run| -> Vec<DataId> {
                run.outputs.iter().map(|o| &o.data).chain(run.log.iter().map(|l| &l.data)).cloned().collect()
            };
            let inputs = |run: &Run| -> Vec<DataId> { run.inputs.iter().map(|i| i.data.clone()).collect() };
            self.fetch_data(runs.iter().flat_map(|run| [ends(run), inputs(run)]).flatten()).await?;
            frontier.clear();
            for run in runs {
                let (ends, inputs) = (ends(&run), inputs(&run));
                self.graph.add_run(run);
                self.add(ends.iter().chain(&inputs));
                frontier.extend(inputs);
            }
            steps += 1;
        }
        Ok(())
    }

    /// Adds what was made from the start: the Runs that use it, what else they use, and what they made.
    pub async fn downstream(&mut self, depth: Depth) -> Result<(), ClientError> {
        let mut frontier = vec![self.graph.start().clone()];
        let mut steps = 0;
        while !frontier.is_empty() && depth.reaches_beyond(steps) {
            let users: Vec<RunId> =
                self.data_of(&frontier).flat_map(|data| data.downstreams.iter().map(|d| d.run.id.clone())).collect();
            let runs = self.new_runs(users).await?;
            let inputs = |run: &Run| -> Vec<DataId> { run.inputs.iter().map(|i| i.data.clone()).collect() };
            let ends = |run: &Run| -> Vec<DataId> {
                run.outputs.iter().map(|o| &o.data).chain(run.log.iter().map(|l| &l.data)).cloned().collect()
            };
            self.fetch_data(runs.iter().flat_map(|run| [inputs(run), ends(run)]).flatten()).await?;
            frontier.clear();
            for run in runs {
                let (inputs, ends) = (inputs(&run), ends(&run));
                self.graph.add_run(run);
                self.add(inputs.iter().chain(&ends));
                frontier.extend(ends);
            }
            steps += 1;
        }
        Ok(())
    }

    /// The Data behind ids, those that are there.
    fn data_of<'s>(&'s self, ids: &'s [DataId]) -> impl Iterator<Item = &'s Data> {
        ids.iter().filter_map(|id| self.known_data.get(id))
    }

    /// Puts Data that was fetched into the graph.
    fn add<'s>(&mut self, ids: impl Iterator<Item = &'s DataId>) {
        for id in ids {
            if let Some(data) = self.known_data.get(id) {
                self.graph.add_data(data.clone());
            }
        }
    }

    /// The Runs of these ids that are not in the graph, each once.
    async fn new_runs(&mut self, ids: Vec<RunId>) -> Result<Vec<Run>, ClientError> {
        let mut seen = HashSet::new();
        let new: Vec<RunId> = ids.into_iter().filter(|id| !self.graph.has_run(id) && seen.insert(id.clone())).collect();
        let client = self.client;
        let unknown: Vec<RunId> = new.iter().filter(|id| !self.known_runs.contains_key(*id)).cloned().collect();
        let found: Vec<(RunId, Option<Run>)> = stream::iter(unknown)
            .map(|id| async move {
                match client.run(&id).await {
                    Ok(run) => Ok((id, Some(run))),
                    Err(error) if error.status() == Some(404) => Ok((id, None)),
                    Err(error) => Err(error),
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (id, run) in found {
            match run {
                Some(run) => drop(self.known_runs.insert(id, run)),
                None => self.missing.push(format!("Run {id}")),
            }
        }
        Ok(new.iter().filter_map(|id| self.known_runs.get(id).cloned()).collect())
    }

    /// Fetches Data that is not known yet.
    async fn fetch_data(&mut self, ids: impl Iterator<Item = DataId>) -> Result<(), ClientError> {
        let mut seen = HashSet::new();
        let unknown: Vec<DataId> =
            ids.filter(|id| !id.is_empty() && !self.known_data.contains_key(id) && seen.insert(id.clone())).collect();
        let client = self.client;
        let found: Vec<(DataId, Option<Data>)> = stream::iter(unknown)
            .map(|id| async move { client.data(&id).await.map(|data| (id, data)) })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (id, data) in found {
            match data {
                Some(data) => drop(self.known_data.insert(id, data)),
                None => self.missing.push(format!("Data {id}")),
            }
        }
        Ok(())
    }
}

//! `knit data rm`: Data go with the Run that made them, so whoever deletes one is told what else goes.

use crate::args;
use crate::command::run::impact::going;
use crate::explained::{self, show};
use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, Output, ask, failure, note};
use knit_api::client::ClientError;
use knit_api::id::{DataId, RunId};
use knit_api::impact::{GoingData, RunImpact};
use knit_api::server::capability;
use std::collections::HashSet;

/// Delete Data, with the Runs that made them.
///
/// Data go with the Run that made them and with everything else that this Run made. An upload is erased. A Run of a
/// Plan is kept as deleted, so that its combination of Data is not run again (to make its outputs anew: knit run
/// retry). Data that another Run uses cannot be deleted before that Run.
///
/// On a terminal this asks first, and --yes answers. Without a terminal it does what was asked for; but where Data
/// would go that were not named, other than the log of the same Run, it does so only with --yes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # What would go along?
  knit data rm --impact 0b1c2d3e

  # Delete it, and in a script do not mind what else its Run made
  knit data rm --yes 0b1c2d3e")]
pub struct Rm {
    /// Do not ask
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    yes: bool,
    /// Only tell what would go and who would be in the way, and end as deleting would
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    impact: bool,
    /// Ids of Data, or their beginnings; several may be of one Run
    #[arg(value_name = "DATA_ID", required = true)]
    ids: Vec<DataId>,
    #[command(flatten)]
    output: Output,
}

/// What is deleted in one go.
struct Removal {
    /// The Data that were named.
    named: Vec<DataId>,
    run: RunId,
    data: Vec<GoingData>,
    refused: Option<String>,
}

impl Removal {
    /// What goes besides what was named, the log left out.
    fn others(&self) -> Vec<&GoingData> {
        self.data.iter().filter(|data| data.path.is_some() && !self.named.contains(&data.id)).collect()
    }

    fn is_named(&self) -> String {
        self.named.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// What goes, for a person.
    fn told(&self) -> String {
        let also = self.data.iter().filter(|data| !self.named.contains(&data.id));
        let also: Vec<String> = also.map(explained::going).collect();
        let with = if also.is_empty() { String::new() } else { format!(", and with it {}", also.join(", ")) };
        format!("{}, with the Run {}{with}", self.is_named(), self.run)
    }
}

impl Rm {
    /// Looks at all first, asks once, and then deletes one after the other.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        if self.impact {
            return self.foresee(&server).await;
        }
        let mut outcome = Outcome::default();
        let mut removals: Vec<Removal> = Vec::new();
        let mut seen = HashSet::new();
        for id in self.ids.iter().filter(|id| seen.insert((*id).clone())) {
            match look(&server, id).await {
                Err(error) => outcome.failures.push(error),
                Ok(found) => match removals.iter_mut().find(|one| one.run == found.run) {
                    Some(one) => one.named.extend(found.named),
                    None => removals.push(found),
                },
            }
        }
        removals.retain(|removal| match &removal.refused {
            None => true,
            Some(why) => {
                outcome.failures.push(refused(&removal.is_named(), why));
                false
            }
        });
        if !removals.is_empty() && !self.confirmed(&removals)? {
            return Err(Failure::new("nothing is deleted").why("you did not confirm it"));
        }
        for removal in &removals {
            match remove(&server, removal).await {
                Ok(()) => {
                    outcome.done += removal.named.len();
                    note(&format!("deleted {}", removal.told()));
                }
                Err(error) => {
                    let failed = server.failed(format!("cannot delete the Data {}", removal.is_named()), &error);
                    outcome.failures.push(failed);
                }
            }
        }
        outcome.end(self.ids.len(), "are deleted")
    }

    fn confirmed(&self, removals: &[Removal]) -> Result<bool, Failure> {
        let more = removals.iter().any(|removal| !removal.others().is_empty());
        if self.yes || (!more && !ask::can_ask()) {
            return Ok(true);
        }
        for removal in removals {
            note(&format!("to be deleted: {}", removal.told()));
        }
        let count: usize = removals.iter().map(|removal| removal.data.len()).sum();
        let these = if count == 1 { "this Data".to_owned() } else { format!("these {count} Data") };
        ask::confirm(&format!("delete {these} for good?"), false)
    }

    async fn foresee(&self, server: &Server) -> Result<ExitCode, Failure> {
        server.requires(capability::IMPACT, "tell beforehand what a change would come to").await?;
        let mut impacts: Vec<RunImpact> = Vec::new();
        let mut outcome = Outcome::default();
        for id in &self.ids {
            match server.by_id(id, async |id| server.client.removal_impact(id).await).await {
                Err(error) => outcome.failures.push(server.failed(format!("cannot delete the Data {id}"), &error)),
                Ok(impact) => {
                    match &impact.refused {
                        Some(why) => outcome.failures.push(refused(id.as_str(), &why.reason)),
                        None => outcome.done += 1,
                    }
                    if !impacts.iter().any(|one| one.run == impact.run) {
                        impacts.push(impact);
                    }
                }
            }
        }
        let text = || impacts.iter().map(explained::run_impact).collect();
        show(&impacts, text, &impacts.iter().flat_map(going).collect::<Vec<_>>(), self.output.format)?;
        outcome.end(self.ids.len(), "would be deleted")
    }
}

fn refused(id: &str, why: &str) -> Failure {
    let failure = Failure::new(format!("cannot delete the Data {id}")).why(why).exit(ExitCode::Conflict);
    failure.advice("delete the Runs that use it first (knit run rm), or wait for the end of its own; see --impact")
}

/// What goes with a Data.
async fn look(server: &Server, id: &DataId) -> Result<Removal, Failure> {
    let what = format!("cannot delete the Data {id}");
    let failed = |e: &ClientError| server.failed(&what, e);
    if server.client.can(capability::REMOVE_DATA).await.map_err(|e| failed(&e))? {
        // With the id: a person may have shortened it.
        let ask = async |id: &DataId| server.client.removal_impact(id).await.map(|impact| (id.clone(), impact));
        let (whole, impact) = server.by_id(id, ask).await.map_err(|e| failed(&e))?;
        let refused = impact.refused.map(|refused| refused.reason);
        return Ok(Removal { named: vec![whole], run: impact.run, data: impact.data, refused });
    }
    let data = server.client.data(id).await.map_err(|e| failed(&e))?.ok_or_else(|| {
        Failure::new(&what)
            .why("there is no such Data")
            .advice("find it by its tags: knit data find -t KEY:VALUE")
            .exit(ExitCode::NotFound)
    })?;
    let run = server.client.run(&data.upstream.run.id).await.map_err(|e| failed(&e))?;
    let outputs = run.outputs.into_iter().map(|output| (Some(output.path), output.data));
    let made = outputs.chain(run.log.map(|log| (None, log.data)));
    let data = made.filter(|(_, id)| !id.is_empty()).map(|(path, id)| GoingData { id, path, bytes: None }).collect();
    Ok(Removal { named: vec![id.clone()], run: run.summary.id, data, refused: None })
}

/// An original server knows only how to delete the Run, which comes to the same.
async fn remove(server: &Server, removal: &Removal) -> Result<(), ClientError> {
    match removal.named.first() {
        Some(id) if server.client.can(capability::REMOVE_DATA).await? => server.client.remove_data(id).await,
        _ => server.client.remove_run(&removal.run).await,
    }
}

/// What came of several Data.
#[derive(Default)]
struct Outcome {
    done: usize,
    failures: Vec<Failure>,
}

impl Outcome {
    fn end(mut self, all: usize, what: &str) -> Result<ExitCode, Failure> {
        match (self.failures.len(), self.done) {
            (0, _) => Ok(ExitCode::Ok),
            (1, 0) => Err(self.failures.remove(0)),
            (_, done) => {
                self.failures.iter().for_each(failure::report);
                let exit = if done > 0 { ExitCode::Partial } else { self.failures[0].exit_code() };
                Err(Failure::new(format!("{done} of {all} Data {what}")).exit(exit))
            }
        }
    }
}

//! `knit data lineage`.

use crate::drawing::{self, Flags};
use crate::lineage::Form;
use crate::lineage::dot::Dot;
use crate::lineage::json::Json;
use crate::lineage::picture::Picture;
use crate::lineage::walk::Walk;
use crate::project::{Project, Server};
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, note};
use knit_api::candidate::Kind;
use knit_api::client::ClientError;
use knit_api::graph::{LineageLine, View};
use knit_api::id::DataId;
use knit_api::run::Run;
use knit_api::server::capability;

/// Draw what a Data was made from, and what was made from it.
///
/// A step leads from a Data to the Run that made it, or to each Run that uses it, and on to the other Data of that Run.
/// Without -u and -d both directions are drawn. The svg needs no Graphviz; dot and json may be of any size, a tree
/// stops after 1000 lines and a picture is drawn of up to 5000 nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Where does this model come from?
  knit data lineage -u 0b1c2d3e

  # Everything that was made from this dataset, as a picture
  knit data lineage -d -n all -o svg 0b1c2d3e > lineage.svg")]
pub struct Lineage {
    #[command(flatten)]
    flags: Flags,
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
}

/// Things that are named but not there any more.
type Missing = Vec<String>;

impl Lineage {
    /// Follows lineage on the server, and prints the drawing.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let missing = match self.flags.form() {
            drawing::Form::Dot => {
                let mut dot = Dot::default();
                let missing = self.draw(&server, &mut dot).await?;
                dot.print()?;
                missing
            }
            drawing::Form::Json => {
                let mut json = Json::default();
                let missing = self.draw(&server, &mut json).await?;
                json.print()?;
                missing
            }
            form => {
                let mut picture = Picture::new(form, &self.what());
                let missing = self.draw(&server, &mut picture).await?;
                picture.print()?;
                missing
            }
        };
        if missing.is_empty() {
            return Ok(ExitCode::Ok);
        }
        note(&format!("left out, because it is not there any more: {}", missing.join(", ")));
        Ok(ExitCode::Partial)
    }

    fn what(&self) -> String {
        format!("cannot draw the lineage of {}", self.id)
    }

    async fn draw<F: Form>(&self, server: &Server, form: &mut F) -> Result<Missing, Failure> {
        let failed = |error: &ClientError| {
            let failure = server.failed(self.what(), error);
            if failure.exit_code() == ExitCode::NotFound { failure.advice(ADVICE) } else { failure }
        };
        let _progress = Progress::waiting(&format!("following {}", self.id));
        if !server.client.can(capability::LINEAGE).await.map_err(|e| failed(&e))? {
            return self.walk(server, form).await;
        }
        let ask = async |id: &DataId| server.client.lineage::<F::Data, Run>(id, self.flags.reach(), View::Full).await;
        let mut lines = server.by_id(&self.id, ask).await.map_err(|e| failed(&e))?;
        while let Some(line) = lines.next().await.map_err(|e| failed(&e))? {
            match line {
                LineageLine::Data(data) => form.data(data)?,
                LineageLine::Run(run) => form.run(run)?,
                LineageLine::Edge(edge) => form.edge(edge)?,
                LineageLine::End(_) => {}
            }
        }
        Ok(Missing::new())
    }

    /// On an original server, everything is asked for by itself.
    async fn walk<F: Form>(&self, server: &Server, form: &mut F) -> Result<Missing, Failure> {
        let failed = |error: &ClientError| server.failed(self.what(), error);
        let ask = async |id: &DataId| server.client.data(id).await?.ok_or(ClientError::Missing(Kind::Data));
        let start = server.by_id(&self.id, ask).await.map_err(|error| match error {
            ClientError::Missing(_) => failed(&error).advice(ADVICE),
            _ => failed(&error),
        })?;
        let reach = self.flags.reach();
        let mut walk = Walk::new(&server.client, start);
        if reach.upstream {
            walk.upstream(reach.depth).await.map_err(|e| failed(&e))?;
        }
        if reach.downstream {
            walk.downstream(reach.depth).await.map_err(|e| failed(&e))?;
        }
        let (graph, missing) = walk.finish();
        graph.draw(form)?;
        Ok(missing)
    }
}

const ADVICE: &str = "find it by its tags: knit data find -t KEY:VALUE";

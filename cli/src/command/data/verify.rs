//! `knit data verify`: whether a Data, or a folder, still is what was registered.

use crate::contents::{Contents, Trouble, path_text};
use crate::project::{Project, Server};
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, Format, Output, Rows, note};
use knit_api::bundle::{self, Compared, Limits, Totals};
use knit_api::client::ClientError;
use knit_api::content::{Check, Checked, Difference, Differing, EntryPath};
use knit_api::id::DataId;
use knit_api::server::capability;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Compare a Data, or a folder, with what was registered.
///
/// The server reads the Data again, every byte of it; with FOLDER, that folder on this machine is read instead. What
/// differs is named with the way in which it does: missing, extra, kind, unreadable, size, content or mode. The command
/// ends with 8 when anything differs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Is what the server keeps still what was registered?
  knit data verify 0b1c2d3e

  # Is this copy of it?
  knit data verify 0b1c2d3e ./result/0b1c2d3e")]
pub struct Verify {
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
    /// A folder on this machine, for instance one that was pulled
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Verify {
    /// Prints each difference as it is found.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        server.requires(capability::CONTENT, &format!("verify the Data {}", self.id)).await?;
        let format = Format::or_fitting(self.output.format);
        let (of, checked) = match &self.folder {
            None => (format!("the Data {}", self.id), self.at_server(&server, format).await?),
            Some(folder) => (folder.display().to_string(), self.here(&server, folder, format).await?),
        };
        let Checked { entries, bytes, differences } = checked;
        if differences == 0 {
            note(&format!("{of} is as registered: {entries} entries, {bytes} bytes"));
            return Ok(ExitCode::Ok);
        }
        let registered = if self.folder.is_some() { format!(" as {}", self.id) } else { String::new() };
        Err(Failure::new(format!("{of} is not what was registered{registered}"))
            .why(if differences == 1 { "one entry differs".into() } else { format!("{differences} entries differ") })
            .exit(ExitCode::Integrity))
    }

    fn what(&self) -> String {
        format!("cannot verify the Data {}", self.id)
    }

    async fn at_server(&self, server: &Server, format: Format) -> Result<Checked, Failure> {
        let failed = |e: ClientError| server.failed(self.what(), &e);
        let asked = server.by_id(&self.id, async |id| server.client.verify(id).await).await;
        let mut verification = asked.map_err(failed)?;
        let progress = Progress::bytes(&format!("verifying {}", self.id), None);
        let mut rows = Rows::begin(format, "").to_the_end();
        let mut named = 0;
        loop {
            match verification.next().await.map_err(failed)? {
                Check::Progress(checked) => progress.set(checked.bytes),
                Check::Differs(Differing { path, difference }) => {
                    named += 1;
                    print(&mut rows, &path.bytes(), difference)?;
                }
                Check::Done(checked) => {
                    progress.clear();
                    rows.end()?;
                    if checked.differences > named {
                        note(&format!("the first {named} of {} are named", checked.differences));
                    }
                    return Ok(checked);
                }
            }
        }
    }

    async fn here(&self, server: &Server, folder: &Path, format: Format) -> Result<Checked, Failure> {
        let what = format!("cannot compare {} with the Data {}", folder.display(), self.id);
        std::fs::metadata(folder)
            .and_then(|found| if found.is_dir() { Ok(()) } else { Err(std::io::ErrorKind::NotADirectory.into()) })
            .map_err(|e| Failure::new(&what).why(e))?;
        let contents = Contents::of(server, &self.id, b"", &what).await?;
        let (folder, told) = (folder.to_owned(), what.clone());
        let totals = contents.read_at_leisure(server, move |entries| {
            let mut rows = Rows::begin(format, "").to_the_end();
            let mut unprinted = None;
            let mut watch = |compared: Compared<'_>| match compared {
                Compared::Differs { path, how } => match print(&mut rows, path, how) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(failure) => {
                        unprinted = Some(failure);
                        ControlFlow::Break(())
                    }
                },
                Compared::Bytes(_) | Compared::Entry => ControlFlow::Continue(()),
            };
            let totals = match bundle::compare(&folder, entries, &Limits::default(), &mut watch) {
                Err(error @ (bundle::Error::Source { .. } | bundle::Error::TooLarge { .. })) => {
                    return Err(Trouble::Use(Failure::new(told).why(error)));
                }
                compared => compared?,
            };
            if let Some(failure) = unprinted {
                return Err(Trouble::Use(failure));
            }
            rows.end()?;
            Ok(totals)
        });
        let Totals { entries, bytes, differences } = totals.await?;
        Ok(Checked { entries, bytes, differences })
    }
}

/// Prints one difference.
fn print(rows: &mut Rows, path: &[u8], difference: Difference) -> Result<(), Failure> {
    rows.item(
        || Differing { path: EntryPath::of(path), difference },
        || format!("{:<10}  {}", difference.to_string(), path_text(path)),
        || path_text(path),
    )
}

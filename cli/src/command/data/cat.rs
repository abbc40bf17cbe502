//! `knit data cat`: one file of a Data on stdout.

use crate::contents::{inside, path_text};
use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, plain, stdout_is_terminal};
use knit_api::bundle::{Form, InArchive, copy_from_archive};
use knit_api::client::{ClientError, DownloadError};
use knit_api::id::DataId;
use knit_api::server::capability;
use std::io::{self, Write};
use std::path::PathBuf;

/// Print one file of a Data.
///
/// The others are not fetched. The whole file is compared with what was registered: the command ends with 8 when it
/// differs. On a terminal, what could steer it is replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # One file, or the end of it
  knit data cat 0b1c2d3e metrics.json
  knit data cat --range=-1024 0b1c2d3e train.log")]
pub struct Cat {
    /// Print only these bytes: FIRST-LAST counted from 0, FIRST- to the end, or -COUNT for the last ones
    #[arg(long, value_name = "FIRST-LAST", value_parser = range, allow_hyphen_values = true)]
    range: Option<String>,
    /// Print only so many bytes from the beginning
    #[arg(long, value_name = "BYTES", conflicts_with = "range", value_parser = clap::value_parser!(u64).range(1..))]
    head: Option<u64>,
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
    /// The file in it
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// Reads the value of `--range`.
fn range(text: &str) -> Result<String, String> {
    let number = |part: &str| part.is_empty() || part.parse::<u64>().is_ok();
    match text.split_once('-') {
        Some((first, last)) if number(first) && number(last) && text != "-" => {
            match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), Ok(last)) if last < first => Err("the last byte stands before the first".to_owned()),
                _ => Ok(text.to_owned()),
            }
        }
        _ => Err("write FIRST-LAST, FIRST- or -COUNT".to_owned()),
    }
}

impl Cat {
    /// Prints the file as it arrives.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let path = inside(&self.path)?;
        if path.is_empty() {
            return Err(Failure::usage(format!("{} is a folder", self.path.display()))
                .advice(format!("list it: knit data ls {}", self.id)));
        }
        let server = project.server()?;
        let what = format!("cannot print {} of the Data {}", path_text(&path), self.id);
        let can = server.client.can(capability::CONTENT).await.map_err(|e| server.failed(&what, &e))?;
        match self.range.clone().or_else(|| self.head.map(|count| format!("0-{}", count - 1))) {
            range if can => self.print(&server, &path, range.as_deref(), &what).await,
            None => self.print_from_archive(&server, path, what).await,
            Some(_) => {
                let part = format!("print a part of {} of the Data {}", path_text(&path), self.id);
                server.requires(capability::CONTENT, &part).await.map(|()| ExitCode::Ok)
            }
        }
    }

    async fn print(&self, server: &Server, path: &[u8], range: Option<&str>, what: &str) -> Result<ExitCode, Failure> {
        let failed = |e: &ClientError| server.failed(what, e);
        let asked = server.by_id(&self.id, async |id| server.client.file(id, path, range).await).await;
        let mut file = match asked {
            // An empty file has no first bytes.
            Err(error) if error.status() == Some(416) && self.head.is_some() => return Ok(ExitCode::Ok),
            asked => asked.map_err(|e| failed(&e))?,
        };
        let mut out = Printed::default();
        loop {
            let part = file.next().await.map_err(|e| failed(&e))?;
            let is_last = part.is_none();
            // On a thread that may wait: whoever reads stdout may take their time.
            let writing = tokio::task::spawn_blocking(move || {
                match part {
                    Some(part) => out.write_all(&part)?,
                    None => out.end()?,
                }
                Ok(out)
            });
            let written = writing.await.unwrap_or_else(|_| Err(io::Error::other("writing ended without a result")));
            out = written.map_err(|e| Failure::stdout(&e))?;
            if is_last {
                return Ok(ExitCode::Ok);
            }
        }
    }

    /// From the archive that an original server sends; it passes by to its end, where its checksum is.
    async fn print_from_archive(&self, server: &Server, path: Vec<u8>, what: String) -> Result<ExitCode, Failure> {
        let asked = server.by_id(&self.id, async |id| server.client.download(id, Form::TarGz).await).await;
        let archive = asked.map_err(|e| server.failed(&what, &e))?;
        let copy = move |stream: &mut dyn io::Read| {
            let mut out = Printed::default();
            let found = copy_from_archive(stream, &path, &mut out)?;
            // An error of writing came before.
            let _ = out.end();
            Ok(found)
        };
        let refused = |why: String| Failure::new(&what).why(why);
        match archive.read_with(|_| {}, copy).await {
            Ok((InArchive::File, _)) => Ok(ExitCode::Ok),
            Ok((InArchive::Nothing, _)) => Err(refused("there is no such file in it".into()).exit(ExitCode::NotFound)),
            Ok((InArchive::Directory, _)) => Err(refused("it is a folder".into())),
            Ok((InArchive::Link(target), _)) => {
                Err(refused(format!("it is a link to {}; links are not followed", path_text(&target))))
            }
            Err(DownloadError::Receive(error)) => Err(server.failed(&what, &error)),
            Err(DownloadError::Read(knit_api::bundle::Error::Target { cause, .. })) => Err(Failure::stdout(&cause)),
            Err(DownloadError::Read(error)) => Err(Failure::new(&what).why(error).exit(ExitCode::Integrity)),
        }
    }
}

/// Stdout, for content from elsewhere: as it is, but on a terminal made plain.
struct Printed {
    out: io::Stdout,
    is_terminal: bool,
    /// The beginning of a letter whose end has not come yet.
    begun: Vec<u8>,
}

impl Default for Printed {
    fn default() -> Self {
        Self { out: io::stdout(), is_terminal: stdout_is_terminal(), begun: Vec::new() }
    }
}

impl Printed {
    fn end(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.begun);
        self.out.write_all(plain(&String::from_utf8_lossy(&rest)).as_bytes())?;
        self.out.flush()
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return self.out.write(bytes);
        }
        self.begun.extend_from_slice(bytes);
        let whole = whole_letters(&self.begun);
        let text: Vec<u8> = self.begun.drain(..whole).collect();
        self.out.write_all(plain(&String::from_utf8_lossy(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// How many of the bytes are not the beginning of a letter that goes on.
fn whole_letters(bytes: &[u8]) -> usize {
    if std::str::from_utf8(bytes).is_ok() {
        return bytes.len();
    }
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let begun = (1..=tail.len()).find(|back| {
        let end = &tail[tail.len() - back..];
        std::str::from_utf8(end).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    });
    bytes.len() - begun.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        for good in ["0-0", "0-", "-5", "10-20"] {
            assert_eq!(range(good).as_deref(), Ok(good));
        }
        for bad in ["", "-", "5", "5-3", "a-b", "1-2-3", "0-99999999999999999999999"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_letter_that_is_cut_waits_for_its_end() {
        let text = "aü😀".as_bytes();
        for (bytes, whole) in
            [(&text[..1], 1), (&text[..2], 1), (&text[..3], 3), (&text[..4], 3), (&text[..6], 3), (text, 7)]
        {
            assert_eq!(whole_letters(bytes), whole, "{bytes:?}");
        }
        assert_eq!(whole_letters(b"\xff\xff\xff"), 3);
        assert_eq!(whole_letters(b"\xffa\xc3"), 2);
    }
}

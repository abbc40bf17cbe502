//! What is in a Data, as it passes by: from its manifest where the server keeps one, else from the archive that
//! every server sends. Nothing of it is written down.

use crate::project::Server;
use crate::terminal::{ExitCode, Failure, stdout_is_terminal};
use knit_api::bundle::{self, ArchiveReader, Content, Digest, Entries, Entry, Form, ManifestReader, is_plain_path};
use knit_api::client::{Arriving, ClientError, Download, ManifestStream};
use knit_api::content::EntryPath;
use knit_api::id::DataId;
use knit_api::server::capability;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

/// The entries of a Data, still to come.
pub struct Contents {
    source: Source,
    what: String,
}

enum Source {
    Manifest(ManifestStream),
    Archive(Download),
}

/// Why looking at entries ended early.
pub enum Trouble {
    /// In the list.
    List(bundle::Error),
    /// In what was done with it.
    Use(Failure),
}

impl From<bundle::Error> for Trouble {
    fn from(error: bundle::Error) -> Self {
        Self::List(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Use(failure)
    }
}

impl Contents {
    /// Asks for the entries; with `under` for those at this path and below it, as far as the server can leave
    /// out the others. `what` says what is tried, on which Data.
    pub async fn of(server: &Server, id: &DataId, under: &[u8], what: &str) -> Result<Self, Failure> {
        let failed = |e: ClientError| server.failed(what, &e);
        let client = &server.client;
        let source = if client.can(capability::CONTENT).await.map_err(failed)? {
            let under = (!under.is_empty()).then_some(under);
            let manifest = server.by_id(id, async |id| client.manifest(id, under).await).await;
            Source::Manifest(manifest.map_err(failed)?)
        } else {
            let archive = server.by_id(id, async |id| client.download(id, Form::TarGz).await).await;
            Source::Archive(archive.map_err(failed)?)
        };
        Ok(Self { source, what: what.to_owned() })
    }

    /// Root digest of the Data, where the server keeps one.
    pub fn digest(&self) -> Option<Digest> {
        match &self.source {
            Source::Manifest(manifest) => Some(manifest.digest()),
            Source::Archive(_) => None,
        }
    }

    /// Shows the entries to `look` on a thread that may wait.
    pub async fn read<T, W>(self, server: &Server, look: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&mut dyn Entries) -> Result<T, Trouble> + Send + 'static,
    {
        let (one, arriving) = self.source.open();
        let outcome = looking(move || look(&mut *one.entries()?)).await;
        settled(server, &self.what, [arriving], outcome).await
    }

    /// The same for one who takes long over each entry, which no server waits for: the list is fetched first.
    pub async fn read_at_leisure<T, W>(self, server: &Server, look: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&mut dyn Entries) -> Result<T, Trouble> + Send + 'static,
    {
        let (one, arriving) = self.source.open();
        let outcome = looking(move || look(&mut *one.fetched()?.entries()?)).await;
        settled(server, &self.what, [arriving], outcome).await
    }

    /// Shows the entries of two Data to `look` side by side.
    pub async fn read_both<T, W>(self, other: Self, server: &Server, look: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&mut dyn Entries, &mut dyn Entries) -> Result<T, Trouble> + Send + 'static,
    {
        let ((one, first), (two, second)) = (self.source.open(), other.source.open());
        let outcome = looking(move || look(&mut *one.entries()?, &mut *two.entries()?)).await;
        settled(server, &self.what, [first, second], outcome).await
    }
}

impl Source {
    fn open(self) -> (Opened, Arriving) {
        match self {
            Self::Manifest(manifest) => {
                let digest = (!manifest.is_part()).then_some(manifest.digest());
                let (reader, arriving) = manifest.open();
                (Opened::Manifest(Box::new(reader), digest), arriving)
            }
            Self::Archive(archive) => {
                let (reader, arriving) = archive.open();
                (Opened::Archive(Box::new(reader)), arriving)
            }
        }
    }
}

/// A list that is read on a thread that may wait.
enum Opened {
    /// With the digest that covers it, if it is whole.
    Manifest(Box<dyn Read + Send>, Option<Digest>),
    Archive(Box<dyn Read + Send>),
}

impl Opened {
    /// With all of it in a temporary file.
    fn fetched(self) -> Result<Self, Trouble> {
        let fetch = |mut stream: Box<dyn Read + Send>| -> Result<Box<dyn Read + Send>, Trouble> {
            let copied = tempfile::tempfile().and_then(|mut file| {
                io::copy(&mut stream, &mut file)?;
                file.seek(SeekFrom::Start(0))?;
                Ok(file)
            });
            Ok(Box::new(copied.map_err(|e| bundle::Error::Stream { cause: e })?))
        };
        Ok(match self {
            Self::Manifest(stream, digest) => Self::Manifest(fetch(stream)?, digest),
            Self::Archive(stream) => Self::Archive(fetch(stream)?),
        })
    }

    fn entries(self) -> Result<Box<dyn Entries>, bundle::Error> {
        Ok(match self {
            Self::Manifest(reader, Some(digest)) => Box::new(ManifestReader::new(reader, digest)?),
            Self::Manifest(reader, None) => Box::new(ManifestReader::part(reader)?),
            Self::Archive(reader) => Box::new(ArchiveReader::new(reader)?),
        })
    }
}

async fn looking<T: Send + 'static>(look: impl FnOnce() -> Result<T, Trouble> + Send + 'static) -> Result<T, Trouble> {
    let outcome = tokio::task::spawn_blocking(look).await;
    outcome.unwrap_or_else(|_| Err(Trouble::Use(Failure::new("reading ended without a result"))))
}

/// The outcome, once it is known whether the streams were what they should be.
async fn settled<T, const N: usize>(
    server: &Server,
    what: &str,
    arriving: [Arriving; N],
    outcome: Result<T, Trouble>,
) -> Result<T, Failure> {
    if let Err(Trouble::Use(failure)) = outcome {
        return Err(failure);
    }
    for stream in arriving {
        // A list that cannot be read because the network failed is no damaged list.
        if let Some(fault) = stream.fault().await {
            return Err(server.failed(what, &fault));
        }
    }
    outcome.map_err(|trouble| match trouble {
        // Nothing is wrong with the network by now, so this is of this machine.
        Trouble::List(error @ bundle::Error::Stream { .. }) => Failure::new(what).why(error),
        Trouble::List(error) => Failure::new(what).why(error).exit(ExitCode::Integrity),
        Trouble::Use(failure) => failure,
    })
}

/// A path as a person gives it for something inside a Data: relative to its root. The root is empty.
pub fn inside(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let names = bytes.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let plain = names.collect::<Vec<_>>().join(&b'/');
    if plain.is_empty() || is_plain_path(&plain) {
        return Ok(plain);
    }
    Err(Failure::usage(format!("{} is no path inside a Data", path.display()))
        .advice("write it from the root of the Data on, without .."))
}

/// A path on a line of its own: what could steer a terminal or end the line is escaped, and so is the backslash.
pub fn path_text(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                letter if letter.is_control() => text.extend(letter.escape_default()),
                letter => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A number of bytes: for people in units, else exactly.
pub fn size_text(bytes: u64) -> String {
    if stdout_is_terminal() { indicatif::BinaryBytes(bytes).to_string() } else { bytes.to_string() }
}

/// An entry as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Relative to the root.
    #[serde(flatten)]
    pub path: EntryPath,
    /// What it is and holds.
    #[serde(flatten)]
    pub thing: Thing,
}

/// What an entry is and holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Thing {
    /// `file`, `folder` or `link`.
    pub kind: &'static str,
    /// Permission bits, in octal.
    pub mode: String,
    /// Bytes in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// BLAKE3 of a file's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Where a link points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<EntryPath>,
}

impl Item {
    /// Of this entry.
    pub fn of(entry: &Entry<'_>) -> Self {
        Self { path: EntryPath::of(entry.path), thing: Thing::of(entry) }
    }
}

impl Thing {
    /// Of this entry.
    pub fn of(entry: &Entry<'_>) -> Self {
        let mode = format!("{:04o}", entry.mode);
        let none = Self { kind: "folder", mode, size: None, digest: None, target: None };
        match entry.content {
            Content::Directory => none,
            Content::File { size, hash } => {
                Self { kind: "file", size: Some(size), digest: Some(hash.to_string()), ..none }
            }
            Content::Link { target } => Self { kind: "link", target: Some(EntryPath::of(target)), ..none },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_a_data_may_be_written_in_several_ways() {
        for (given, path) in [
            ("a/b", "a/b"),
            ("./a/b", "a/b"),
            ("/a//b/", "a/b"),
            ("a/./b", "a/b"),
            (".", ""),
            ("", ""),
            ("/", ""),
            ("...", "..."),
        ] {
            assert_eq!(inside(Path::new(given)).unwrap(), path.as_bytes(), "{given}");
        }
        for given in ["..", "a/..", "../a"] {
            assert_eq!(inside(Path::new(given)).unwrap_err().exit_code(), ExitCode::Usage, "{given}");
        }
    }

    #[test]
    fn no_path_can_steer_a_terminal_or_end_its_line() {
        for (path, text) in [
            (&b"a b"[..], "a b"),
            ("ü".as_bytes(), "ü"),
            (b"a\nb", "a\\nb"),
            (b"a\\b", "a\\\\b"),
            (b"\x1b[2J\xff\t", "\\u{1b}[2J\\xff\\t"),
            ("\u{9b}1m".as_bytes(), "\\u{9b}1m"),
        ] {
            assert_eq!(path_text(path), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_one_plain_line(path in proptest::collection::vec(0_u8.., 0..60)) {
            let text = path_text(&path);
            proptest::prop_assert!(!text.chars().any(char::is_control), "{:?}", text);
        }
    }
}

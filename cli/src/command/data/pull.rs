//! `knit data pull`: a Data becomes a file or a folder. It is written beside its place and verified;
//! only then it gets its name.

use crate::contents::{Contents, path_text};
use crate::project::{Project, Server};
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, note, stdout_is_terminal};
use crate::{args, replace};
use flate2::read::MultiGzDecoder;
use knit_api::bundle::{self, Content, Digest, Entries, Form, Kept, Limits, ManifestReader, Selection};
use knit_api::client::{Checked, ClientError, Download, DownloadError};
use knit_api::id::DataId;
use knit_api::server::capability;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Forms of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Archive {
    /// Files alone, compressed with gzip
    #[value(name = "tar.gz")]
    TarGz,
    /// The whole folder
    #[value(name = "tar")]
    Tar,
    /// The whole folder, compressed with zstd
    #[value(name = "tar.zst")]
    TarZstd,
}

impl Archive {
    fn form(self) -> Form {
        match self {
            Self::TarGz => Form::TarGz,
            Self::Tar => Form::Bundle,
            Self::TarZstd => Form::BundleZstd,
        }
    }

    /// Of the file that it becomes.
    fn suffix(self) -> &'static str {
        match self {
            Self::TarGz => ".tar.gz",
            Self::Tar => ".tar",
            Self::TarZstd => ".tar.zst",
        }
    }
}

/// Fetch a Data.
///
/// As the archive DEST/DATA_ID.tar.gz, or with --extract as the folder DEST/DATA_ID. What arrives is verified;
/// nothing stays behind of what arrives damaged.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Fetch the files into ./result/DATA_ID
  knit data pull -x 0b1c2d3e ./result

  # Fetch an archive that can be pushed elsewhere without loss
  knit data pull --format tar.zst 0b1c2d3e

  # Look at what is in it without keeping it
  knit data pull 0b1c2d3e - | tar tz")]
pub struct Pull {
    /// Fetch the files themselves instead of an archive
    #[arg(short = 'x', long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    extract: bool,
    /// With --extract: replace the folder if it is there already
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    force: bool,
    /// With --extract: fetch only what this glob takes, and the folders above; repeat it for several.
    ///
    /// `*` and `?` stand for what is in one name, `**` for any number of folders, `[a-z]` for one of these letters,
    /// `{a,b}` for one of these texts. A glob without a slash takes files and folders of this name wherever they are,
    /// one with a slash is matched from the root of the Data on; a folder is taken with all that is in it.
    #[arg(long, value_name = "GLOB", allow_hyphen_values = true)]
    include: Vec<String>,
    /// The form of the archive: tar.gz as v1.6.1 makes it, or the whole folder with its modes, links and digest
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Archive::TarGz, conflicts_with = "extract")]
    format: Archive,
    /// Id of the Data, or its beginning
    #[arg(value_name = "DATA_ID")]
    id: DataId,
    /// The folder to put it in, made if need be; - writes the archive to stdout
    #[arg(value_name = "DEST", default_value = ".")]
    destination: PathBuf,
}

/// What went wrong while the bytes were used.
enum Trouble {
    /// In the archive, or on this disk.
    Unpack(bundle::Error),
    /// Writing.
    Write(io::Error),
    /// The archive is broken.
    Archive(String),
}

impl From<bundle::Error> for Trouble {
    fn from(error: bundle::Error) -> Self {
        Self::Unpack(error)
    }
}

impl Pull {
    /// Checks where it goes before anything is fetched.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let to_stdout = self.destination.as_os_str() == "-";
        if to_stdout && self.extract {
            return Err(Failure::usage("--extract cannot write to stdout").advice("give a folder instead of -"));
        }
        if to_stdout && stdout_is_terminal() {
            return Err(
                Failure::usage("an archive is nothing for a terminal").advice("send stdout to a file or a program")
            );
        }
        check_name(&self.id)?;
        let only = (!self.include.is_empty()).then(|| Selection::new(&self.include)).transpose();
        let only = only.map_err(|e| Failure::usage("--include cannot be understood").why(e))?;
        if only.is_some() && !self.extract {
            return Err(Failure::usage("--include chooses among files, and an archive is pulled as a whole")
                .advice("add --extract"));
        }
        let destination = expanded(&self.destination);
        let server = project.server()?;
        match (to_stdout, self.extract) {
            (true, _) => self.to_stdout(&server).await,
            (false, true) => self.to_folder(&server, &destination, only).await,
            (false, false) => self.to_file(&server, &destination).await,
        }
    }

    fn what(&self) -> String {
        format!("cannot pull {}", self.id)
    }

    /// The content, and the whole id of what it is the content of.
    async fn open(&self, server: &Server, wanted: Form) -> Result<(DataId, Download), Failure> {
        let open = async |id: &DataId| Ok((id.clone(), server.client.download_part(id, wanted, &self.include).await?));
        let (id, download) = server.by_id(&self.id, open).await.map_err(|e| server.failed(self.what(), &e))?;
        check_name(&id)?;
        Ok((id, download))
    }

    /// The archive in the form that was asked for, and no other.
    async fn open_archive(&self, server: &Server) -> Result<(DataId, Download), Failure> {
        let (id, download) = self.open(server, self.format.form()).await?;
        if download.form() == self.format.form() {
            return Ok((id, download));
        }
        Err(Failure::new(self.what())
            .why(format!("the server does not send {} archives", &self.format.suffix()[1..]))
            .advice("leave --format out: every server sends tar.gz"))
    }

    /// Feeds the bytes to `read`, with progress, and turns what goes wrong into a failure.
    async fn fetch<T, R>(&self, server: &Server, download: Download, read: R) -> Result<(T, Checked), Failure>
    where
        R: FnOnce(&mut dyn Read) -> Result<T, Trouble> + Send + 'static,
        T: Send + 'static,
    {
        // What is known of the Data and differs ends a transfer early.
        let may_differ = download.registered().is_some();
        let progress = Progress::bytes(&format!("pulling {}", self.id), None);
        let outcome = download.read_with(|bytes| progress.add(bytes), read).await;
        progress.clear();
        outcome.map_err(|error| match error {
            DownloadError::Receive(error @ ClientError::Lost { .. }) if may_differ => server
                .failed(self.what(), &error)
                .advice(format!("pull it again; if it breaks off again, {}", self.verify_advice())),
            DownloadError::Receive(error) => server.failed(self.what(), &error),
            DownloadError::Read(Trouble::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Failure::stdout(&error)
            }
            DownloadError::Read(Trouble::Write(error)) => Failure::new(self.what()).why(error),
            DownloadError::Read(Trouble::Archive(why)) => {
                Failure::new(self.what()).why(why).advice("pull it again").exit(ExitCode::Integrity)
            }
            DownloadError::Read(Trouble::Unpack(error)) => {
                let exit = match &error {
                    bundle::Error::BadContent { .. } | bundle::Error::TooLarge { .. } => ExitCode::Integrity,
                    _ => ExitCode::Failure,
                };
                Failure::new(self.what()).why(error).exit(exit)
            }
        })
    }

    async fn to_stdout(&self, server: &Server) -> Result<ExitCode, Failure> {
        let (_, download) = self.open_archive(server).await?;
        let form = download.form();
        let copy = move |stream: &mut dyn Read| {
            let mut stdout = io::stdout().lock();
            save(stream, form, &mut stdout)
        };
        let registered = download.registered();
        let (digest, checked) = self.fetch(server, download, copy).await?;
        self.check_registered(digest, registered)?;
        self.warn_unchecked(checked);
        Ok(ExitCode::Ok)
    }

    async fn to_file(&self, server: &Server, destination: &Path) -> Result<ExitCode, Failure> {
        let failed =
            |e: io::Error| Failure::new(self.what()).why(format!("cannot write to {}: {e}", destination.display()));
        let (id, download) = self.open_archive(server).await?;
        let form = download.form();
        std::fs::create_dir_all(destination).map_err(failed)?;
        let path = destination.join(format!("{id}{}", self.format.suffix()));
        let beside = beside(self.format.suffix()).tempfile_in(destination).map_err(failed)?;
        let keep = move |stream: &mut dyn Read| {
            let mut beside = beside;
            let digest = save(stream, form, beside.as_file_mut())?;
            Ok((beside, digest))
        };
        let registered = download.registered();
        let ((beside, digest), checked) = self.fetch(server, download, keep).await?;
        self.check_registered(digest, registered)?;
        if checked == Checked::NoChecksum {
            // A stream that was cut at a chunk's end shows only in its structure.
            check_gzip(beside.path())
                .map_err(|why| Failure::new(self.what()).why(why).advice("pull it again").exit(ExitCode::Integrity))?;
        }
        beside.as_file().sync_all().map_err(failed)?;
        beside.persist(&path).map_err(|e| failed(e.error))?;
        replace::sync_folder(destination).map_err(failed)?;
        self.warn_unchecked(checked);
        note(&format!("saved: {}", path.display()));
        Ok(ExitCode::Ok)
    }

    async fn to_folder(
        &self,
        server: &Server,
        destination: &Path,
        only: Option<Selection>,
    ) -> Result<ExitCode, Failure> {
        let failed =
            |e: io::Error| Failure::new(self.what()).why(format!("cannot write to {}: {e}", destination.display()));
        // Before anything is fetched, and again should the id have been a part of another one.
        self.place(destination, &self.id)?;
        if only.is_some() {
            server.requires(capability::CONTENT, &format!("pull a part of the Data {}", self.id)).await?;
        }
        let (id, download) = self.open(server, server.client.whole_folder()).await?;
        let folder = self.place(destination, &id)?;
        std::fs::create_dir_all(destination).map_err(failed)?;
        let beside = beside("").tempdir_in(destination).map_err(failed)?;
        let (form, registered) = (download.form(), download.registered());
        let mut manifest = only.as_ref().map(|_| tempfile::tempfile()).transpose().map_err(failed)?;
        let fill = move |stream: &mut dyn Read| {
            let list = manifest.as_mut().map(|file| file as &mut dyn Write);
            let summary = bundle::unpack(stream, form, beside.path(), &Limits::default(), list, &mut ())?;
            Ok((beside, summary, manifest))
        };
        let ((beside, summary, manifest), checked) = self.fetch(server, download, fill).await?;
        if only.is_none() {
            self.check_registered(summary.digest, registered)?;
        }
        if let Some(((only, manifest), digest)) = only.zip(manifest).zip(summary.digest) {
            if summary.entries == 0 {
                return Err(Failure::new(self.what())
                    .why("nothing in it is taken by --include")
                    .advice(format!("see what there is: knit data ls -R {}", self.id))
                    .exit(ExitCode::NotFound));
            }
            self.compare(server, &id, only, manifest, digest).await?;
        }
        put_in_place(beside, &folder, self.force).map_err(failed)?;
        replace::sync_folder(destination).map_err(failed)?;
        if form == Form::TarGz {
            self.warn_unchecked(checked);
        }
        note(&format!("saved: {}", folder.display()));
        Ok(ExitCode::Ok)
    }

    /// Makes sure that a bundle, which is what the server has, is what was registered. A tar.gz has no digest: the
    /// server itself ends it early.
    fn check_registered(&self, digest: Option<Digest>, registered: Option<Digest>) -> Result<(), Failure> {
        match digest.zip(registered) {
            Some((digest, registered)) if digest != registered => Err(Failure::new(self.what())
                .why(format!("the Data {} at the server is not what was registered", self.id))
                .advice(self.verify_advice())
                .exit(ExitCode::Integrity)),
            _ => Ok(()),
        }
    }

    fn verify_advice(&self) -> String {
        format!("see what differs: knit data verify {}", self.id)
    }

    /// The folder that it becomes, unless something is there that must stay.
    fn place(&self, destination: &Path, id: &DataId) -> Result<PathBuf, Failure> {
        let folder = destination.join(id.as_str());
        if !self.force && folder.symlink_metadata().is_ok() {
            return Err(Failure::new(self.what())
                .why(format!("{} is there already", folder.display()))
                .advice("remove it, give another DEST, or replace it with --force")
                .exit(ExitCode::Conflict));
        }
        Ok(folder)
    }

    /// Makes sure that what was received is all that is asked for of the Data, as it was registered: the digest of a
    /// part says only that it came as it was sent.
    async fn compare(
        &self,
        server: &Server,
        id: &DataId,
        only: Selection,
        mut list: File,
        digest: Digest,
    ) -> Result<(), Failure> {
        let what = self.what();
        let unread = |e: io::Error| Failure::new(&what).why(e);
        list.seek(SeekFrom::Start(0)).map_err(unread)?;
        let contents = Contents::of(server, id, b"", &what).await?;
        contents.read(server, move |whole| Ok(agree(&mut ManifestReader::new(list, digest)?, whole, &only)?)).await
    }

    fn warn_unchecked(&self, checked: Checked) {
        if checked == Checked::NoChecksum {
            note(&format!("{}: the server sent no checksum, so only the archive's own checks were made", self.id));
        }
    }
}

/// An id becomes the name of a file or a folder, and must not lead elsewhere.
fn check_name(id: &DataId) -> Result<(), Failure> {
    if id.is_empty() || id.as_str().contains(['/', '\\', '\0']) || id.as_str().starts_with('.') {
        return Err(Failure::usage(format!("\"{id}\" is not the id of a Data")));
    }
    Ok(())
}

/// Compares what was received of a Data with the list of the whole.
fn agree(received: &mut dyn Entries, whole: &mut dyn Entries, only: &Selection) -> Result<(), bundle::Error> {
    let differs = |path: &[u8]| bundle::Error::BadContent {
        why: format!("{} came other than it was registered, or did not come", path_text(path)),
    };
    let mut selector = only.start();
    let mut next = received.next()?.map(|entry| Kept::of(&entry));
    while let Some(entry) = whole.next()? {
        let is_wanted = selector.takes(entry.path, matches!(entry.content, Content::Directory));
        let is_next = next.as_ref().is_some_and(|next| next.path == entry.path);
        if (is_wanted && !is_next) || (is_next && next != Some(Kept::of(&entry))) {
            return Err(differs(entry.path));
        }
        if is_next {
            next = received.next()?.map(|entry| Kept::of(&entry));
        }
    }
    match next {
        Some(extra) => Err(differs(&extra.path)),
        None => Ok(()),
    }
}

/// Names and modes of what stands beside a place until it is complete; the umask applies.
fn beside(suffix: &'static str) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".knit-").suffix(suffix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if suffix.is_empty() { 0o777 } else { 0o666 };
        builder.permissions(std::fs::Permissions::from_mode(mode));
    }
    builder
}

/// Gives a complete folder its name. One that is replaced is removed afterwards.
fn put_in_place(beside: tempfile::TempDir, folder: &Path, force: bool) -> io::Result<()> {
    let old = if force && folder.symlink_metadata().is_ok() {
        let parent = folder.parent().unwrap_or(Path::new("."));
        let old = tempfile::Builder::new().prefix(".knit-old-").tempdir_in(parent)?;
        std::fs::rename(folder, old.path().join("old"))?;
        Some(old)
    } else {
        None
    };
    let complete = beside.keep();
    if let Err(e) = std::fs::rename(&complete, folder) {
        if let Some(old) = &old {
            // What was there comes back; if even that fails, the first error says why.
            let _ = std::fs::rename(old.path().join("old"), folder);
        }
        let _ = std::fs::remove_dir_all(&complete);
        return Err(e);
    }
    match old {
        Some(old) => old.close(),
        None => Ok(()),
    }
}

/// Saves an archive as it comes. One of ours is verified at the same time, by its own digest, which is returned.
fn save(stream: &mut dyn Read, form: Form, out: &mut dyn Write) -> Result<Option<Digest>, Trouble> {
    if form == Form::TarGz {
        return copy(stream, out).map(|()| None);
    }
    let mut saved = Saved { stream, out, trouble: None };
    let verified = bundle::verify(&mut saved, form, &Limits::default());
    if let Some(error) = saved.trouble {
        return Err(Trouble::Write(error));
    }
    let digest = verified?.digest;
    saved.out.flush().map_err(Trouble::Write)?;
    Ok(digest)
}

/// A stream that is written down while it is read.
struct Saved<'a> {
    stream: &'a mut dyn Read,
    out: &'a mut dyn Write,
    /// Why it could not be written down: to its reader that is only the end.
    trouble: Option<io::Error>,
}

impl Read for Saved<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if let Err(error) = self.out.write_all(&buffer[..count]) {
            self.trouble = Some(error);
            return Err(io::Error::other("it could not be written down"));
        }
        Ok(count)
    }
}

/// Copies a stream; an error of reading it is told by whoever feeds it.
fn copy(stream: &mut dyn Read, out: &mut dyn Write) -> Result<(), Trouble> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return out.flush().map_err(Trouble::Write),
            Ok(count) => count,
            Err(e) => return Err(Trouble::Archive(e.to_string())),
        };
        out.write_all(&buffer[..count]).map_err(Trouble::Write)?;
    }
}

/// Reads a gzip file to its end, where its own checksum stands, and the archive in it to its end.
fn check_gzip(path: &Path) -> Result<(), String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut archive = MultiGzDecoder::new(io::BufReader::new(file));
    let mut last = [1_u8; 1024];
    let mut filled = 0;
    loop {
        match archive.read(&mut last[filled..]) {
            Ok(0) => break,
            Ok(count) => filled = (filled + count) % last.len(),
            Err(e) => return Err(format!("the archive is incomplete or damaged: {e}")),
        }
    }
    if filled == 0 && last.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err("the archive is incomplete: it has no end".to_owned())
    }
}

/// The path with `~/` at its beginning replaced by the home folder, for those who quote it.
fn expanded(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), dirs::home_dir()) {
        (Ok(rest), Some(home)) if rest != Path::new("") => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn an_archive_counts_as_complete_only_with_both_its_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut content = vec![b'x'; 2048];
        content.extend([0; 1024]);
        for (bytes, good) in [
            (gzip(&content), true),
            (gzip(&[0; 1024]), true),
            (gzip(&content[..2048]), false),
            (gzip(&content)[..20].to_vec(), false),
            (b"not gzip".to_vec(), false),
            (Vec::new(), false),
        ] {
            std::fs::write(file.path(), &bytes).unwrap();
            assert_eq!(check_gzip(file.path()).is_ok(), good, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn an_archive_of_ours_is_saved_as_it_is_and_verified_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![b'x'; 300_000]).unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b/a")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("l")).unwrap();
        for form in [Form::Bundle, Form::BundleZstd] {
            let mut sent = Vec::new();
            bundle::pack(folder.path(), form, &mut sent, &bundle::PackOptions::default(), &mut ()).unwrap();
            let mut saved = Vec::new();
            assert!(save(&mut sent.as_slice(), form, &mut saved).is_ok());
            assert!(saved == sent, "{form:?}");
            let cut = &sent[..sent.len() - 600.min(sent.len() / 2)];
            assert!(matches!(save(&mut &cut[..], form, &mut Vec::new()), Err(Trouble::Unpack(_))), "{form:?}");
            if form == Form::Bundle {
                let mut damaged = sent.clone();
                damaged[100_000] ^= 1;
                assert!(matches!(save(&mut damaged.as_slice(), form, &mut Vec::new()), Err(Trouble::Unpack(_))));
            }
        }
    }

    #[test]
    fn a_part_that_came_is_all_that_was_asked_for_and_as_it_was_registered() {
        let write = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (path, content) in files {
                let path = folder.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            let mut list = Vec::new();
            let sealed = bundle::seal(folder.path(), Some(&mut list), &bundle::SealOptions::default()).unwrap();
            (list, sealed.digest)
        };
        let (whole, digest) = write(&[("a", "1"), ("d/a", "2"), ("d/b", "3"), ("e/c", "4")]);
        for (globs, part, good) in [
            (&["a"][..], &[("a", "1"), ("d/a", "2")][..], true),
            (&["b"], &[("d/b", "3")], true),
            (&["a"], &[("a", "1")], false),
            (&["a"], &[("a", "1"), ("d/a", "9")], false),
            (&["b"], &[("d/b", "3"), ("x", "")], false),
            (&["b"], &[("d/b", "3"), ("d/c", "")], false),
            (&["b"], &[], false),
            (&["none"], &[], true),
        ] {
            let (part, of_part) = write(part);
            let mut received = ManifestReader::new(&part[..], of_part).unwrap();
            let mut expected = ManifestReader::new(&whole[..], digest).unwrap();
            let agreed = agree(&mut received, &mut expected, &Selection::new(globs).unwrap());
            assert_eq!(agreed.is_ok(), good, "{globs:?}: {agreed:?}");
        }
    }

    #[test]
    fn a_folder_that_is_replaced_is_gone_and_nothing_is_left_beside() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("d1");
        std::fs::create_dir_all(place.join("old")).unwrap();
        let new = beside("").tempdir_in(root.path()).unwrap();
        std::fs::write(new.path().join("new"), "").unwrap();
        put_in_place(new, &place, true).unwrap();
        assert!(place.join("new").exists() && !place.join("old").exists());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
